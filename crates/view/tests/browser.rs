//! The page in a real browser: headless Chromium, driven through its debugging pipe. Skipped where there is none.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use koan_view::{Server, Viewer};
use serde_json::{Value, json};

/// How long the page may take to become what a test waits for.
const TIMEOUT: Duration = Duration::from_secs(90);

/// A page of a headless browser. Messages are JSON, each ended by a zero byte (the DevTools protocol over a pipe).
struct Browser {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: Option<String>,
    messages: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn start() -> Option<Self> {
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

    fn call(&mut self, method: &str, params: Value) -> Value {
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

    fn size(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// The value of a script in the page.
    fn eval(&mut self, script: &str) -> Value {
        let params = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let result = self.call("Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{script}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// Waits until a script's value is `expected`.
    fn wait(&mut self, script: &str, expected: &Value) {
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

    /// Keeps a picture, if `KOAN_SCREENSHOTS` says where.
    fn picture(&mut self, name: &str) {
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

/// A run as it looks after `steps` steps.
struct Run(tempfile::TempDir);

impl Run {
    fn new(steps: u64) -> Self {
        let run = Self(tempfile::tempdir().expect("a folder"));
        fs::create_dir(run.0.path().join("rollouts")).expect("a folder");
        run.write("config.toml", "run_dir = \"r\"\nsteps = 9\n# <b>bold</b>\n");
        run.append("{\"step\":0,\"eval\":{\"accuracy\":0.1,\"low\":0.05,\"high\":0.2}}");
        for step in 1..=steps {
            run.step(step);
        }
        run
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("written");
    }

    fn append(&self, line: &str) {
        let path = self.0.path().join("metrics.jsonl");
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("opened");
        writeln!(file, "{line}").expect("written");
    }

    fn step(&self, step: u64) {
        let lines: Vec<String> = (0..30).map(|i| rollout(step, i).to_string()).collect();
        self.write(&format!("rollouts/step-{step:06}.jsonl"), &(lines.join("\n") + "\n"));
        let x = step as f64;
        let metrics = json!({
            "step": step, "loss": 0.1 / x, "reward": 0.1 * x, "accuracy": 0.1 * x, "completion_tokens": 20.0 + x,
            "reflection_words": 0.5 * x, "entropy": 2.0 / x, "kl": 0.001 * x, "grad_norm": 1.5, "lr": 1e-5,
            "generate_s": 2.0, "reward_s": 0.1, "train_s": 3.0, "step_s": 5.5, "something_new": x,
        });
        self.append(&metrics.to_string());
    }
}

/// What a hostile model may write.
const HOSTILE: &str =
    "<img src=x onerror=\"window.owned = 1\"><script>window.owned = 1</script></pre></script>{{script}}";

fn rollout(step: u64, i: usize) -> Value {
    let (outcome, reward) = [("correct", 1.0), ("wrong", 0.0), ("unparsable", 0.0)][i % 3];
    let thought = ["<think>", "Let", " me", " see", ".", "</think>", " The answer is", " 42", "<eos>"];
    let mut line = json!({
        "step": step, "id": format!("p-{}", i / 10), "sample": i % 10, "answer": "42",
        "prompt": [{"role": "user", "content": format!("Question {}, <b>bold</b>?", i / 10)}],
        "completion": thought[..8].concat(), "finish_reason": "stop", "completion_tokens": 9 + i,
        "log_prob_sum": -4.5, "reward": reward, "advantage": 2.0 * reward - 0.6,
        "rewards": [{"kind": "number", "outcome": outcome, "score": 1.0, "weight": 1.0, "parsed": "<i>42</i>", "reason": HOSTILE}],
        "token_texts": thought, "logprobs": [-0.01, -0.3, -0.7, -1.3, -2.0, -0.1, -4.0, -0.5, -0.001],
    });
    if i == 1 {
        line["completion"] = json!(HOSTILE);
        line["token_texts"] = json!([HOSTILE]);
        line["logprobs"] = json!([-3.0]);
    }
    if i == 2 {
        // A character of three tokens, a first space that its token does not say, and special tokens.
        line["completion"] = json!("A 🙂! smile");
        line["token_texts"] = json!(["<s>", "A", " \u{fffd}", "\u{fffd}", "\u{fffd}", "!", "smile", "</s>"]);
        line["logprobs"] = json!([0.0, 0.0, -1.0, -0.5, -0.5, 0.0, -1.0, 0.0]);
    }
    line
}

/// Serves a run, and opens it in `browser`.
fn open(browser: &mut Browser, run: &Run) {
    let viewer = Viewer::open(run.0.path()).expect("a run");
    let server = Server::bind("127.0.0.1", 0).expect("a port");
    let url = server.url();
    thread::spawn(move || server.run(move |request| viewer.answer(request)));
    browser.call("Page.navigate", json!({"url": url}));
}

const TITLES: &str = "[...document.querySelectorAll('.chart .name')].map(n => n.textContent).join('|')";
const SHOWN: &str = "document.querySelectorAll('.rollout').length";

#[test]
fn curves_and_rollouts_are_drawn_live_and_hostile_text_stays_text() {
    let Some(mut browser) = Browser::start() else { return };
    let run = Run::new(3);
    browser.size(1280, 1000);
    open(&mut browser, &run);

    // Curves: those that the run has, in good order, then what the page does not know.
    let titles = "Reward|Accuracy|Completion length|Reflection words|Entropy|KL divergence|Time of a step|Loss|\
                  Gradient norm|Learning rate|something_new";
    browser.wait(TITLES, &json!(titles));
    let drawn = "[...document.querySelectorAll('.chart')].every(c => c.querySelector('path.line, path.area') && \
                 c.querySelectorAll('.axes text').length > 4)";
    browser.wait(drawn, &json!(true));
    let says = |i: usize| format!("document.querySelectorAll('.chart .legend')[{i}].textContent");
    browser.wait(&says(0), &json!("0.3"));
    browser.wait(&says(1), &json!("training samples 30 %held out 10 %"));
    browser.wait("document.querySelector('#progress').textContent.includes('Step 3 of 9')", &json!(true));

    // A key moves the cursor of every chart.
    browser.eval("document.querySelector('.chart svg').focus()");
    for (kind, key) in [("keyDown", "ArrowLeft"), ("keyUp", "ArrowLeft")] {
        browser.call("Input.dispatchKeyEvent", json!({"type": kind, "key": key, "code": key}));
    }
    browser.wait(&says(4), &json!("1"));
    browser.wait("document.querySelector('.chart svg').ariaValueText", &json!("step 2: 0.2"));
    browser.picture("wide");

    // A step that is made while the page is open.
    run.step(4);
    browser.wait("document.querySelector('#progress').textContent.includes('Step 4 of 9')", &json!(true));
    browser.wait("document.querySelector('#found').textContent", &json!("Step 4: 30 of 30 completions."));
    browser.wait(SHOWN, &json!(20));

    // Filters.
    let choose = |id: &str, value: &str| {
        format!("{id}.value = '{value}'; {id}.dispatchEvent(new Event('change')); {id}.value")
    };
    browser.eval(&choose("problem", "p-1"));
    browser.wait(SHOWN, &json!(10));
    browser.eval(&choose("outcome", "correct"));
    browser.wait(SHOWN, &json!(3));
    browser.eval(&choose("outcome", ""));
    browser.eval(&choose("problem", ""));
    browser.wait(SHOWN, &json!(20));
    browser.eval("document.querySelector('#more').click()");
    browser.wait(SHOWN, &json!(30));

    // All there is to know of a completion, in its place.
    browser.eval("document.querySelector('.rollout > summary').click()");
    let part = |selector: &str| format!("document.querySelector('.body {selector}')?.textContent");
    browser.wait(&part(".prompt pre"), &json!("Question 0, <b>bold</b>?"));
    browser.wait(&part(".thinking pre"), &json!("Let me see."));
    browser.wait(&part(".answer pre"), &json!(" The answer is 42<eos>"));
    browser.wait(&part(".reference pre"), &json!("42"));
    browser.wait(&part("td:nth-child(5)"), &json!("<i>42</i>"));
    let shades = "[...document.querySelectorAll('.body .token')].map(t => t.className.slice(-1)).join('')";
    browser.wait(shades, &json!("1134710"));
    browser.picture("rollout");

    // A hostile completion is text, and nothing that it says is run.
    browser.eval("[...document.querySelectorAll('.rollout > summary')][1].click()");
    browser.wait(
        "[...document.querySelectorAll('.rollout')][1].querySelector('.answer pre')?.textContent",
        &json!(HOSTILE),
    );
    browser
        .wait("[window.owned ?? 0, document.querySelectorAll('img, script').length].join()", &json!("0,1"));

    // Tokens that are not quite their part of the completion.
    browser.eval("[...document.querySelectorAll('.rollout > summary')][2].click()");
    browser.wait(
        "[...[...document.querySelectorAll('.rollout')][2].querySelectorAll('.token')]\
         .map(t => t.textContent + t.className.slice(-1)).join('|')",
        &json!("<s>0|A0| 🙂4|!0| smile2|</s>0"),
    );

    // A resumed run forgets steps: the page starts over, and new ones come.
    run.write("metrics.jsonl", "");
    run.append("{\"step\":1,\"reward\":0.05,\"step_s\":1.0}");
    browser.wait(TITLES, &json!("Reward|Time of a step"));
    browser.wait(&says(0), &json!("0.05"));

    for (name, width) in [("narrow", 400), ("wide", 1280)] {
        browser.size(width, 900);
        let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        browser.wait(overflow, &json!(0));
        let fits = "[...document.querySelectorAll('.chart')].every(c => c.querySelector('svg').clientWidth <= c.clientWidth)";
        browser.wait(fits, &json!(true));
        browser.picture(&format!("resumed-{name}"));
    }
}

#[test]
fn a_run_of_losses_has_curves_and_no_rollouts() {
    let Some(mut browser) = Browser::start() else { return };
    let run = Run(tempfile::tempdir().expect("a folder"));
    run.write("config.toml", "steps = 300\n");
    for step in 1..=300 {
        let eval = if step % 100 == 0 { ",\"eval_loss\":2.5" } else { "" };
        let line = format!(
            "{{\"step\":{step},\"loss\":{},\"lr\":1e-3,\"grad_norm\":0.5,\"tokens\":4096,\"step_s\":0.2,\"tokens_per_s\":20480{eval}}}",
            2.0 + 4.0 / f64::from(step)
        );
        run.append(&line);
    }
    run.write("lineage.json", "{\"stage\":\"pretrain\",\"steps\":300}");
    browser.size(1280, 900);
    open(&mut browser, &run);
    browser.wait(TITLES, &json!("Loss|Gradient norm|Learning rate|Time of a step|Speed|Tokens of a step"));
    browser.wait("document.querySelector('#state').textContent", &json!("finished"));
    browser.wait("getComputedStyle(document.querySelector('#rollouts')).display", &json!("none"));
    browser.wait("document.querySelector('.legend').textContent", &json!("training 2.01held out 2.5"));
}
