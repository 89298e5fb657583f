//! A server of tiny models in this process, and a client that says exactly what a test wants.
#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use koan_backend::Reference;
use koan_cpu::Cpu;
use koan_generate::Drafts;
use koan_infer::{Codec, PromptStyle, Together};
use koan_model::{
    Config, Targets,
    checkpoint::{self, Place},
    testkit,
};
use koan_serve::{Named, Settings, listen};
use serde_json::{Value, json};

/// ChatML, with thinking and calls as Qwen3 has them.
pub(crate) const TEMPLATE: &str = "{%- if tools %}<tools>{{ tools | tojson }}</tools> calls are <tool_call>{}</tool_call>\n{% endif %}\
     {%- for message in messages %}<|{{ message.role }}|>{{ message.content }}\
     {%- for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}\n{% endfor %}\
     {%- if add_generation_prompt %}<|assistant|>{% endif %}";

/// A server that runs until it is dropped.
pub(crate) struct Served {
    pub(crate) address: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    folder: tempfile::TempDir,
}

/// How tests serve.
pub(crate) struct Options {
    pub(crate) template: Option<&'static str>,
    pub(crate) key: Option<&'static str>,
    pub(crate) sequences: usize,
    pub(crate) queue: usize,
    pub(crate) timeout: Duration,
    pub(crate) context: usize,
    pub(crate) models: usize,
    /// Whether an adapter on the first model is served too, as `adapter`.
    pub(crate) adapter: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            template: Some(TEMPLATE),
            key: None,
            sequences: 8,
            queue: 64,
            timeout: Duration::from_secs(120),
            context: 256,
            models: 1,
            adapter: false,
        }
    }
}

/// Writes a tiny model.
pub(crate) fn write_model(dir: &Path, seed: u64, template: Option<&str>) {
    koan_model::init_tiny(seed, dir).expect("a model");
    if let Some(template) = template {
        fs::write(dir.join("chat_template.jinja"), template).expect("written");
    }
}

/// Writes an adapter with random values on the model in `base`.
fn write_adapter(base: &Path, dir: &Path) {
    let config = Config::load(base).expect("a config");
    let config = config.with_adapter(testkit::adapter(Targets::AllLinear)).expect("an adapter");
    let mut model = checkpoint::load_as(&Reference, base, config, 64, 7).expect("loads");
    for (i, param) in model.weights.tensors_mut().enumerate().filter(|(_, param)| param.info().trained) {
        let random = |j: usize| f64::from(testkit::random(i as u64, j as u64));
        param.value_mut().iter_mut().enumerate().for_each(|(j, value)| *value = random(j));
    }
    checkpoint::save(&Reference, &model, dir, base).expect("saved");
}

impl Served {
    pub(crate) fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server = listen("127.0.0.1", 0).expect("a port");
        let address = server.url().trim_start_matches("http://").trim_end_matches('/').to_owned();
        let mut models = Vec::new();
        for i in 0..options.models {
            let name = if i == 0 { "koan-tiny".to_owned() } else { format!("koan-tiny-{}", i + 1) };
            let dir = folder.path().join(&name);
            write_model(&dir, i as u64, options.template);
            let codec = Codec::open(&dir, PromptStyle::default()).expect("a codec");
            models.push(Named { name, codec, system: None });
        }
        if options.adapter {
            let (base, dir) = (folder.path().join("koan-tiny"), folder.path().join("adapter"));
            write_adapter(&base, &dir);
            let place = Place::find(&base, Some(&dir)).expect("both are there");
            let codec = Codec::open_at(&place, PromptStyle::default()).expect("a codec");
            models.push(Named { name: "adapter".into(), codec, system: None });
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let Options { key, sequences, queue, timeout, context, .. } = options;
        let thread = thread::spawn(move || {
            let cpu = Cpu::best(Some(2)).expect("a CPU");
            let settings = Settings {
                together: Together { context, sequences, drafts: Drafts::Text, memory: Some(64 << 20) },
                key: key.map(Into::into),
                queue,
                timeout,
                drain: Duration::from_secs(20),
                device: "cpu".into(),
                log: None,
            };
            koan_serve::serve(&cpu, server, models, settings, &stopping, |_| {}).expect("served");
        });
        Self { address, stop, thread: Some(thread), folder }
    }

    /// Where a model lies that is served.
    pub(crate) fn model(&self, name: &str) -> Place {
        let dir = |name: &str| self.folder.path().join(name);
        if name == "adapter" {
            Place::find(&dir("koan-tiny"), Some(&dir(name))).expect("both are there")
        } else {
            Place::find(&dir(name), None).expect("it is there")
        }
    }

    /// Tells the server to end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Sends a request with `headers` besides the usual ones.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("set");
        let host = &self.address;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let _ = stream.write_all(body); // who is refused early need not be read
        stream
    }

    /// Asks, and gives the status and the body.
    pub(crate) fn ask(&self, path: &str, body: &Value) -> (u16, Value) {
        let Response { status, body, .. } =
            response(self.send("POST", path, "", body.to_string().as_bytes()));
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("JSON: {body}")))
    }

    /// The same, of what must go well.
    pub(crate) fn answer(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(path, body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let Response { status, body, .. } = response(self.send("GET", path, "", b""));
        (status, body)
    }

    /// The chunks of a stream.
    pub(crate) fn stream(&self, path: &str, body: &Value) -> Vec<Value> {
        let Response { status, body, head } =
            response(self.send("POST", path, "", body.to_string().as_bytes()));
        assert_eq!(status, 200, "{body}");
        assert!(head.to_lowercase().contains("content-type: text/event-stream"), "{head}");
        let mut events: Vec<&str> = body.split("\n\n").collect();
        assert_eq!(events.pop(), Some(""), "an event ends with an empty line");
        assert_eq!(events.pop(), Some("data: [DONE]"));
        let chunk =
            |event: &&str| serde_json::from_str(event.strip_prefix("data: ").expect("data")).expect("JSON");
        events.iter().map(chunk).collect()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
        let ended = self.thread.take().expect("a thread").join();
        assert!(ended.is_ok() || thread::panicking(), "the server failed");
    }
}

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Reads the response, whose connection the server closes.
pub(crate) fn response(stream: TcpStream) -> Response {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        head += &line;
    }
    let mut body = Vec::new();
    let _ = reader.read_to_end(&mut body);
    let _ = reader.into_inner().shutdown(Shutdown::Both);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body =
        if head.to_lowercase().contains("transfer-encoding: chunked") { unchunked(&body) } else { body };
    Response { status, head, body: String::from_utf8(body).expect("UTF-8") }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let length =
            std::str::from_utf8(&rest[..at]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        let Some(length) = length.filter(|&length| length > 0 && rest.len() >= at + 4 + length) else {
            break;
        };
        body.extend(&rest[at + 2..at + 2 + length]);
        rest = &rest[at + 4 + length..];
    }
    body
}

pub(crate) fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

/// The text of a chat's choice.
pub(crate) fn content(answer: &Value, choice: usize) -> String {
    answer["choices"][choice]["message"]["content"].as_str().expect("content").to_owned()
}
