//! Completions that a server writes: of one that is well, and of one that is down, refuses, or answers nonsense.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use koan_cpu::{Cpu, Isa};
use koan_model::testkit;
use koan_train::{
    TrainError,
    comm::Ranks,
    distill::{self, DistillConfig},
    reject::{self, Forecast, Made, RejectConfig},
    stage::Launch,
};
use serde_json::{Value, json};

/// A server that answers each request with what a function makes of its head and its body: a status line's end, and a body. It notes what
/// it was asked.
struct Fake {
    url: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Fake {
    fn new(answer: impl Fn(&str, &Value) -> (String, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let (noted, answer) = (Arc::clone(&asked), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
                thread::spawn(move || {
                    let mut stream = BufReader::new(stream);
                    let (head, body) = request(&mut stream);
                    noted.lock().expect("whole").push((head.clone(), body.clone()));
                    let (status, said) = answer(&head, &body);
                    let response = format!(
                        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nretry-after: 0\r\nconnection: close\r\n\r\n{said}",
                        said.len()
                    );
                    let mut stream = stream.into_inner();
                    let _ = stream.write_all(response.as_bytes());
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { url, asked }
    }

    fn n(&self) -> usize {
        self.asked.lock().expect("whole").len()
    }

    fn seeds(&self) -> Vec<u64> {
        let asked = self.asked.lock().expect("whole");
        asked.iter().map(|(_, body)| body["seed"].as_u64().expect("a seed")).collect()
    }
}

fn request(stream: &mut BufReader<TcpStream>) -> (String, Value) {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        head += &line;
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    (head, serde_json::from_slice(&body).expect("JSON"))
}

fn said(message: Value, finish_reason: &str, tokens: Option<u64>) -> (String, String) {
    let mut body =
        json!({"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]});
    if let Some(tokens) = tokens {
        body["usage"] = json!({"prompt_tokens": 3, "completion_tokens": tokens});
    }
    ("200 OK".into(), body.to_string())
}

/// Thinks, and answers `a + b`: wrongly where the seed is odd.
fn answer(_: &str, body: &Value) -> (String, String) {
    let asked = body["messages"].as_array().and_then(|all| all.last()).expect("a message");
    let sum: u64 =
        asked["content"].as_str().expect("text").split(" + ").filter_map(|n| n.parse::<u64>().ok()).sum();
    let seed = body["seed"].as_u64().expect("a seed");
    let message = json!({
        "role": "assistant", "content": format!("\n\n{}", sum + seed % 2), "reasoning_content": format!("I try {seed}.\n"),
    });
    said(message, "stop", Some(7))
}

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().expect("a folder"));
        let problem =
            |i: u32| format!("{{\"id\": \"p{i}\", \"prompt\": \"{i} + 1\", \"answer\": \"{}\"}}\n", i + 1);
        fs::write(bench.at("problems.jsonl"), (0..10).map(problem).collect::<String>()).expect("written");
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn config(&self, run: &str, url: &str, set: &[&str]) -> RejectConfig {
        let text = format!(
            "run_dir = '{}'\ndata = '{}'\nseed = 7\n[rollout]\nproblems = 4\ngroup_size = 6\nmax_new_tokens = 50\ntop_p = 0.9\n\
             system = 'Be brief.'\n[filter]\nlanguage = 'off'\n[keep]\nwhich = 'all'\n[[reward]]\nkind = 'number'\n\
             [server]\nurl = '{url}'\nmodel = 'teacher'\nworkers = 3\nretries = 2\nstop = ['END']\nfields = {{top_k = 0}}\n",
            self.at(run).display(),
            self.at("problems.jsonl").display(),
        );
        let file = self.at(&format!("{run}.toml"));
        fs::write(&file, text).expect("written");
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        RejectConfig::load(&file, &set).expect("a config")
    }
}

fn run(config: &RejectConfig, resume: bool) -> Result<Made, TrainError> {
    let cpu = Cpu::new(Isa::best(), 1).expect("a processor");
    reject::run(
        &cpu,
        config,
        Launch { resume, threads: 2, stop: &AtomicBool::new(false), ranks: &Ranks::alone() },
        |_| {},
    )
}

fn in_words(error: &TrainError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn rows(made: &Made) -> Vec<Value> {
    let text = fs::read_to_string(made.data.as_ref().expect("data")).expect("rows");
    text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
}

#[test]
fn a_server_writes_what_is_judged_and_kept() {
    let bench = Bench::new();
    let server = Fake::new(answer);
    // The variable that every process has holds a path, which is no secret; its value stands for a key.
    let config = bench.config("run", &server.url, &["server.api_key_env=CARGO_MANIFEST_DIR"]);
    let made = run(&config, false).expect("runs");
    let key = std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo");

    let asked = server.asked.lock().expect("whole");
    assert_eq!(asked.len(), 60);
    for (head, body) in &*asked {
        assert!(
            head.starts_with("POST /v1/chat/completions ") && head.contains(&format!("Bearer {key}")),
            "{head}"
        );
        assert!(head.contains("x-koan-sample: 7 "), "{head}");
        let system = json!({"role": "system", "content": "Be brief."});
        assert_eq!((&body["messages"][0], &body["model"]), (&system, &json!("teacher")));
        assert_eq!(
            (&body["temperature"], &body["top_p"], &body["top_k"]),
            (&json!(1.0), &json!(0.9), &json!(0))
        );
        assert_eq!((&body["max_tokens"], &body["stop"]), (&json!(50), &json!(["END"])));
    }
    drop(asked);
    let mut seeds = server.seeds();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 60, "each has a seed of its own");
    let right = seeds.iter().filter(|seed| *seed % 2 == 0).count();
    assert_eq!(
        (made.summary.completions.kept, made.summary.completions.wrong),
        (right as u64, 60 - right as u64)
    );

    let rows = rows(&made);
    assert_eq!(rows.len(), right);
    for row in &rows {
        let completion = row["messages"][2]["content"].as_str().expect("a text");
        let answer = row["answer"].as_str().expect("a text");
        assert!(
            completion.starts_with("<think>\nI try ")
                && completion.ends_with(&format!(".\n</think>\n\n{answer}"))
        );
        let origin = &row["origin"];
        assert_eq!((&origin["server"], &origin["model"]), (&json!(server.url), &json!("teacher")));
        assert_eq!((&origin["completion_tokens"], &origin["model_sha256"]), (&json!(7), &Value::Null));
    }
    let lineage = fs::read_to_string(bench.at("run/lineage.json")).expect("lineage");
    let lineage: Value = serde_json::from_str(&lineage).expect("an object");
    let input = &lineage["inputs"][0];
    assert_eq!((&input["role"], &input["path"]), (&json!("server"), &json!(server.url)));
    assert_eq!(
        (&input["model"], &lineage["tokens"], &lineage["tokens_drawn"]),
        (&json!("teacher"), &json!(420), &json!(0))
    );
    let mut files = vec![bench.at("run")];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(&path).expect("a folder").flatten().map(|entry| entry.path()));
        } else {
            let bytes = fs::read(&path).expect("read");
            assert!(!String::from_utf8_lossy(&bytes).contains(&key), "{} holds the key", path.display());
        }
    }
    assert!(!bench.at("run/answers.jsonl").exists());
}

#[test]
fn what_was_answered_is_not_asked_again() {
    let bench = Bench::new();
    let whole = Fake::new(answer);
    let made = run(&bench.config("whole", &whole.url, &[]), false).expect("runs");

    let left = Arc::new(Mutex::new(31));
    let more = Arc::clone(&left);
    let server = Fake::new(move |head, body| {
        let mut left = left.lock().expect("whole");
        if *left == 0 {
            return (
                "401 Unauthorized".into(),
                json!({"error": {"message": "your credit is spent"}}).to_string(),
            );
        }
        *left -= 1;
        answer(head, body)
    });
    let config = bench.config("run", &server.url, &[]);
    let error = in_words(&run(&config, false).expect_err("it is refused"));
    assert!(error.contains("401") && error.contains("credit") && error.contains("--resume"), "{error}");
    *more.lock().expect("whole") = 1000;
    let resumed = run(&config, true).expect("goes on");
    let mut seeds = whole.seeds();
    seeds.sort_unstable();
    let (answered, again) = (&server.seeds()[..], server.n());
    let mut all = answered.to_vec();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, seeds, "each was asked for");
    assert!(
        again <= 60 + 8,
        "{again}: beyond the 60, what was refused: five in a row of three workers at most"
    );
    let (a, b) = (rows(&made), rows(&resumed));
    let without = |rows: Vec<Value>| -> Vec<Value> {
        rows.into_iter()
            .map(|mut row| (row["origin"].as_object_mut().expect("one").remove("server"), row).1)
            .collect()
    };
    assert_eq!(without(a), without(b));
    assert!(!bench.at("run/answers.jsonl").exists());

    let other = in_words(&run(&bench.config("run", &whole.url, &[]), true).expect_err("another server"));
    assert!(other.contains("server.url"), "{other}");
}

#[test]
fn what_a_server_does_wrong_is_said() {
    let bench = Bench::new();
    let busy =
        |_: &str, _: &Value| ("429 Too Many Requests".to_owned(), "{\"message\": \"slow down\"}".to_owned());
    let usual = json!({"role": "assistant", "content": "7"});
    for (name, server, expected) in [
        ("busy", Fake::new(busy), &["429", "slow down", "attempt 3"][..]),
        (
            "html",
            Fake::new(|_, _| ("200 OK".into(), "<html>hello</html>".into())),
            &["no completion", "<html>"],
        ),
        (
            "uncounted",
            Fake::new(move |_, _| said(usual.clone(), "stop", None)),
            &["`usage`", "server.tokenizer"],
        ),
        ("gone", Fake::new(|_, _| ("404 Not Found".into(), String::new())), &["404"]),
    ] {
        let error = in_words(&run(&bench.config(name, &server.url, &[]), false).expect_err(name));
        let all = expected.iter().chain(&["completion", "problem `p", "--resume"]);
        all.for_each(|part| assert!(error.contains(part), "{name}: {part}: {error}"));
    }
    let down = bench.config("down", "http://127.0.0.1:1/v1", &["server.retries=0"]);
    assert!(in_words(&run(&down, false).expect_err("down")).contains("127.0.0.1:1"));
    let no_key = bench.config("key", "http://127.0.0.1:1/v1", &["server.api_key_env=KOAN_NO_SUCH_KEY"]);
    assert!(in_words(&run(&no_key, false).expect_err("no key")).contains("KOAN_NO_SUCH_KEY"));
    assert!(!bench.at("key").exists(), "before any work");
}

#[test]
fn what_is_empty_or_cut_is_refused_and_counted() {
    let bench = Bench::new();
    let server = Fake::new(|_, body| match body["seed"].as_u64().expect("a seed") % 4 {
        0 => said(json!({"role": "assistant", "content": null, "refusal": "No."}), "stop", Some(0)),
        1 => {
            said(json!({"role": "assistant", "content": null, "reasoning_content": "I"}), "length", Some(50))
        }
        2 => said(json!({"role": "assistant", "content": "hm"}), "content_filter", Some(1)),
        _ => said(json!({"role": "assistant", "content": "hm"}), "stop", Some(1)),
    });
    let made =
        run(&bench.config("run", &server.url, &["filter.wrong=false", "filter.duplicates=false"]), false);
    let counts = made.expect("runs").summary.completions;
    let of = |remainders: &[u64]| {
        server.seeds().iter().filter(|seed| remainders.contains(&(*seed % 4))).count() as u64
    };
    assert_eq!((counts.empty, counts.cut, counts.kept), (of(&[0]), of(&[1, 2]), of(&[3])));
    let lines = fs::read_to_string(bench.at("run/rollouts/step-000001.jsonl")).expect("lines");
    let cut = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line"));
    let cut: Vec<Value> = cut.filter(|line| line["completion"] == "<think>\nI").collect();
    assert!(!cut.is_empty());
    assert!(cut.iter().all(|line| line["finish_reason"] == "length" && line["log_prob_sum"].is_null()));
}

#[test]
fn a_tokenizer_counts_where_the_server_does_not_and_a_forecast_asks_nothing() {
    let bench = Bench::new();
    testkit::write_model(&bench.at("tokenizer"), 4).expect("a model");
    let server = Fake::new(|_, _| said(json!({"role": "assistant", "content": "123"}), "stop", None));
    let tokenizer = format!("server.tokenizer={}", bench.at("tokenizer").display());
    let set = ["filter.wrong=false", "filter.min_tokens=3", "filter.max_tokens=3", &tokenizer];
    let config = bench.config("run", &server.url, &set);
    let cpu = Cpu::new(Isa::best(), 1).expect("a processor");
    let forecast = Forecast::of(&cpu, &config).expect("a forecast");
    assert_eq!((forecast.steps, forecast.problems, forecast.sequences, forecast.memory), (3, 10, 3, [0; 3]));
    assert_eq!((server.n(), bench.at("run").exists()), (0, false));
    let counts = run(&config, false).expect("runs").summary.completions;
    assert_eq!((counts.kept, counts.duplicate), (10, 50), "of three tokens, one for each digit");
}

#[test]
fn a_raw_prompt_is_a_text_that_goes_on() {
    let bench = Bench::new();
    let server = Fake::new(|head, body| {
        assert!(head.starts_with("POST /v1/completions "), "{head}");
        let prompt = body["prompt"].as_str().expect("a text").to_owned();
        let answer = json!({"choices": [{"text": format!("{prompt} it is"), "finish_reason": "stop"}], "usage": {"completion_tokens": 4}});
        ("200 OK".into(), answer.to_string())
    });
    let made = run(&bench.config("run", &server.url, &["rollout.raw=true", "filter.wrong=false"]), false);
    let rows = rows(&made.expect("runs"));
    assert_eq!(rows[0]["completion"], "0 + 1 it is");
}

#[test]
fn a_student_learns_from_a_teacher_on_a_server() {
    let bench = Bench::new();
    testkit::write_model(&bench.at("student"), 4).expect("a model");
    let server = Fake::new(|_, body| {
        said(json!({"role": "assistant", "content": format!("{}", body["seed"])}), "stop", None)
    });
    let text = format!(
        "run_dir = '{}'\nmodel = '{}'\ndata = '{}'\nsteps = 2\nbatch_tokens = 40\nmax_tokens = 32\nrollout = {{problems = 4, group_size = 2, \
         max_new_tokens = 16}}\nfilter = {{wrong = false, language = 'off'}}\n[algorithm]\nmethod = 'samples'\n[server]\nurl = '{}'\nmodel = 'big'\n",
        bench.at("run").display(),
        bench.at("student").display(),
        bench.at("problems.jsonl").display(),
        server.url,
    );
    let file = bench.at("distill.toml");
    fs::write(&file, text).expect("written");
    let config = DistillConfig::load(&file, &[]).expect("a config");
    assert!(config.explain().contains(&format!("`big` at {}", server.url)), "{}", config.explain());
    let cpu = Cpu::new(Isa::best(), 1).expect("a processor");
    let stop = AtomicBool::new(false);
    let summary = distill::run(
        &cpu,
        &config,
        Launch { resume: false, threads: 1, stop: &stop, ranks: &Ranks::alone() },
        |_| {},
    );
    assert_eq!(summary.expect("learns").step, 2);
    assert_eq!(server.n(), 20);
    stop.store(true, Ordering::Relaxed);
    let lineage = fs::read_to_string(bench.at("run/lineage.json")).expect("lineage");
    let lineage: Value = serde_json::from_str(&lineage).expect("an object");
    let inputs = lineage["inputs"].as_array().expect("a list");
    assert!(inputs.iter().any(|input| input["role"] == "server" && input["model"] == "big"), "{lineage}");
}
