//! Headless Chromium, driven through its debugging pipe. Tests that need it are skipped where there is none.
#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// How long the page may take to become what a test waits for.
const TIMEOUT: Duration = Duration::from_secs(90);

/// A page of a headless browser. Messages are JSON, each ended by a zero byte (the DevTools protocol over a pipe).
pub(crate) struct Browser {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: Option<String>,
    messages: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub(crate) fn start() -> Option<Self> {
        let found = |name: &&&str| {
            let version = Command::new(name).arg("--version").stderr(Stdio::null()).output();
            version.is_ok_and(|output| output.status.success())
        };
        let Some(name) = ["chromium", "chromium-browser", "google-chrome"].iter().find(found) else {
            eprintln!("skipped: no Chromium here");
            return None;
        };
        let profile = tempfile::tempdir().expect("a folder");
        // The protocol's pipe is descriptors 3 and 4: the shell makes them of this program's ends.
        let script = "exec \"$0\" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
                      --user-data-dir=\"$1\" --remote-debugging-pipe about:blank 3<&0 4>&1 0</dev/null 1>/dev/null 2>&1";
        let mut process = Command::new("sh")
            .args(["-c", script, name])
            .arg(profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let input = process.stdin.take().expect("piped");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let mut browser = Self { process, input, output, session: None, messages: 0, _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(Into::into);
        Some(browser)
    }

    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.messages += 1;
        let mut message = json!({"id": self.messages, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        write!(self.input, "{message}\0").expect("sent");
        loop {
            let mut reply = Vec::new();
            self.output.read_until(0, &mut reply).expect("received");
            assert_eq!(reply.pop(), Some(0), "the browser ended");
            let mut reply: Value = serde_json::from_slice(&reply).expect("JSON");
            if reply["id"] == self.messages {
                assert!(reply["error"].is_null(), "{method}: {}", reply["error"]);
                return reply["result"].take();
            }
        }
    }

    pub(crate) fn size(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// The value of a script in the page.
    pub(crate) fn eval(&mut self, script: &str) -> Value {
        let params = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let result = self.call("Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{script}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// Waits until a script's value is `expected`.
    pub(crate) fn wait(&mut self, script: &str, expected: &Value) {
        let start = Instant::now();
        loop {
            let value = self.eval(script);
            if value == *expected {
                return;
            }
            assert!(start.elapsed() < TIMEOUT, "{script}: {value}, not {expected}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses a key, as a person does.
    pub(crate) fn press(&mut self, key: &str) {
        let text = if key == "Enter" {
            "\r"
        } else if key.chars().count() == 1 {
            key
        } else {
            ""
        };
        let code = match key {
            "Backspace" => 8,
            "Enter" => 13,
            "Escape" => 27,
            "ArrowLeft" => 37,
            "ArrowRight" => 39,
            _ => 0,
        };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let key =
                json!({"type": kind, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", key);
        }
    }

    /// Types a text into what has the focus.
    pub(crate) fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Clicks in the middle of an element, with the mouse.
    pub(crate) fn click(&mut self, selector: &str) {
        let place = format!(
            "(() => {{ const node = document.querySelector({}); node.scrollIntoView({{ block: 'center' }}); \
             const box = node.getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + box.height / 2]; }})()",
            json!(selector)
        );
        let place = self.eval(&place);
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Shows pages as in the light, or in the dark.
    pub(crate) fn theme(&mut self, theme: &str) {
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
        self.call("Emulation.setEmulatedMedia", media);
    }

    /// Keeps a picture, if `KOAN_SCREENSHOTS` says where.
    pub(crate) fn picture(&mut self, name: &str) {
        let Ok(folder) = std::env::var("KOAN_SCREENSHOTS") else { return };
        let params = json!({"format": "png", "captureBeyondViewport": true});
        let data =
            self.call("Page.captureScreenshot", params)["data"].as_str().expect("a picture").to_owned();
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data).expect("base64");
        fs::write(Path::new(&folder).join(format!("{name}.png")), bytes).expect("written");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How far the page is wider than its window, pixels.
pub(crate) const OVERFLOW: &str =
    "document.documentElement.scrollWidth - document.documentElement.clientWidth";
