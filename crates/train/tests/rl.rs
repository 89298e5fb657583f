//! A run in small: it learns, it repeats itself to the bit, and whatever interrupts it changes nothing.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use koan_cpu::{Cpu, Isa};
use koan_data::{Arithmetic, Split, write_problems};
use koan_model::testkit;
use koan_train::{
    RlConfig, TrainError,
    rl::{self, Event, RunSummary},
};

/// A folder with a tiny model, problems, and a config.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        testkit::write_model(&folder.path().join("model"), 4).expect("a model");
        let problems =
            |split, n| Arithmetic { n, levels: vec![1], split, ..Arithmetic::default() }.generate();
        for (name, split, n) in [("train", Split::Train, 20), ("test", Split::Test, 4)] {
            let problems = problems(split, n).expect("problems");
            write_problems(&folder.path().join(format!("{name}.jsonl")), &problems).expect("written");
        }
        Self { folder }
    }

    fn config(&self, run: &str, set: &[&str]) -> RlConfig {
        self.load(run, set).expect("a config")
    }

    fn load(&self, run: &str, set: &[&str]) -> Result<RlConfig, TrainError> {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let text = format!(
            "run_dir = '{}'\nmodel = '{}'\ndata = '{}'\nsteps = 4\ncheckpoint_every = 2\nseed = 7\n\
             [rollout]\nproblems = 3\ngroup_size = 32\nmax_new_tokens = 3\nsequences = 7\n\
             [algorithm]\nkl = 0.02\nmini_batches = 2\n[optim]\nlr = 1e-3\nmicro_batch_tokens = 64\n\
             [eval]\ndata = '{}'\nevery = 2\n",
            at(run),
            at("model"),
            at("train.jsonl"),
            at("test.jsonl")
        );
        let file = self.folder.path().join(format!("{run}.toml"));
        fs::write(&file, text).expect("written");
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        RlConfig::load(&file, &set)
    }
}

fn run(config: &RlConfig, threads: usize, resume: bool) -> Result<RunSummary, TrainError> {
    let cpu = Cpu::new(Isa::best(), threads).expect("a processor");
    rl::run(&cpu, config, resume, &AtomicBool::new(false), |_| {})
}

/// metrics.jsonl without what differs between two runs: seconds.
fn metrics(dir: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(dir.join("metrics.jsonl")).expect("metrics");
    text.lines()
        .map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).expect("a line");
            let line_map = line.as_object_mut().expect("an object");
            line_map.retain(|key, _| !key.ends_with("_s"));
            line
        })
        .collect()
}

#[test]
fn a_run_repeats_itself_whatever_the_threads() {
    let bench = Bench::new();
    let (a, b) = (bench.config("a", &[]), bench.config("b", &[]));
    let (one, two) = (run(&a, 1, false).expect("runs"), run(&b, 2, false).expect("runs"));
    assert_eq!(one.digest, two.digest);
    assert_eq!(metrics(&a.run_dir), metrics(&b.run_dir));
    let lines = metrics(&a.run_dir);
    assert_eq!((&lines[0]["step"], lines.len()), (&0.into(), 5), "where it starts from, and four steps");
    assert!(lines[0]["eval"]["accuracy"].is_number());
    for line in &lines[1..] {
        assert_eq!(line["log_prob_gap"], 0.0, "{line}");
    }
    assert!(lines[1..].iter().any(|line| line["grad_norm"] != 0.0), "something was learned from");
    for file in ["config.toml", "lineage.json", "rollouts/step-000004.jsonl", "model/model.safetensors"] {
        assert!(a.run_dir.join(file).exists(), "{file}");
    }
    let other = bench.config("c", &["seed=8"]);
    assert_ne!(run(&other, 2, false).expect("runs").digest, one.digest, "another seed, another run");
}

#[test]
fn an_interrupted_run_ends_as_if_it_never_was() {
    let bench = Bench::new();
    let whole = bench.config("whole", &[]);
    let want = run(&whole, 2, false).expect("runs");

    // Stopped after its third step, between checkpoints.
    let stopped = bench.config("stopped", &[]);
    let (cpu, stop) = (Cpu::best(Some(2)).expect("a processor"), AtomicBool::new(false));
    let summary = rl::run(&cpu, &stopped, false, &stop, |event| {
        if matches!(event, Event::Step(m) if m.step == 3) {
            stop.store(true, Ordering::Relaxed);
        }
    });
    assert!(summary.expect("stops").stopped);
    assert_eq!(run(&stopped, 1, true).expect("goes on").digest, want.digest);
    assert_eq!(metrics(&whole.run_dir), metrics(&stopped.run_dir));

    // Killed in the middle of writing its second checkpoint: what a kill leaves is a hidden directory, later metrics and
    // later rollouts.
    let killed = bench.config("killed", &["steps=2"]);
    run(&killed, 2, false).expect("runs");
    let dir = &killed.run_dir;
    fs::create_dir(dir.join("checkpoints/.step-000004.part")).expect("made");
    fs::write(dir.join("checkpoints/.step-000004.part/model.safetensors"), "half").expect("written");
    fs::write(dir.join("rollouts/step-000003.jsonl"), "{\"half\"").expect("written");
    let metrics_path = dir.join("metrics.jsonl");
    let mut text = fs::read_to_string(&metrics_path).expect("metrics");
    text.push_str("{\"step\": 3, \"step_s\": 1}\n{\"step\": 4, \"st");
    fs::write(&metrics_path, text).expect("written");
    let killed = bench.config("killed", &[]);
    assert_eq!(run(&killed, 2, true).expect("goes on").digest, want.digest);
    assert_eq!(metrics(&whole.run_dir), metrics(&killed.run_dir));
}

#[test]
fn a_run_refuses_what_would_change_its_course() {
    let bench = Bench::new();
    let config = bench.config("run", &["steps=2"]);
    run(&config, 2, false).expect("runs");
    let error = |config: &RlConfig, resume| run(config, 2, resume).expect_err("refused").to_string();
    assert!(error(&config, false).contains("--resume"), "an existing run is not overwritten");
    let changed = bench.config("run", &["optim.lr=1e-2"]);
    assert!(error(&changed, true).contains("optim.lr"));
    let longer = bench.config("run", &["steps=3", "checkpoint_every=1"]);
    assert_eq!(run(&longer, 2, true).expect("a longer run goes on").step, 3);
    fs::write(bench.folder.path().join("train.jsonl"), "{\"prompt\": \"1 + 1?\", \"answer\": 2}\n")
        .expect("written");
    assert!(error(&bench.config("run", &["steps=4"]), true).contains("the data changed"));
    let nothing = bench.config("nothing", &[]);
    assert!(error(&nothing, true).contains("nothing to resume"));
}

#[test]
fn what_is_wrong_is_said_before_any_work() {
    let bench = Bench::new();
    let at = |name: &str| bench.folder.path().join(name);
    fs::write(at("empty.jsonl"), "").expect("written");
    fs::write(at("file"), "").expect("written");
    let missing = at("missing").display().to_string();
    for (set, expected) in [
        (format!("data={missing}"), "cannot read"),
        (format!("data={}", at("empty.jsonl").display()), "has no problems"),
        (format!("model={missing}"), "cannot read"),
        (format!("run_dir={}", at("file").join("run").display()), "cannot create"),
        ("reward=[{kind='maths'}]".to_owned(), "there is no verifier `maths`"),
        ("rollout.max_prompt_tokens=3".to_owned(), "rollout.max_prompt_tokens is 3"),
        ("rollout.max_new_tokens=300".to_owned(), "max_position_embeddings"),
        ("optim.micro_batch_tokens=1048576000".to_owned(), "1 to 1048576"),
    ] {
        let error = match bench.load("wrong", &[&set]) {
            Ok(config) => run(&config, 2, false).expect_err(&set).to_string(),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(expected), "{set}: {error}");
        assert!(!at("wrong").join("metrics.jsonl").exists(), "{set}: nothing was begun");
    }
    let weights = at("model").join("model.safetensors");
    let bytes = fs::read(&weights).expect("there");
    fs::write(&weights, &bytes[..bytes.len() / 2]).expect("written");
    let error = run(&bench.config("wrong", &[]), 2, false).expect_err("truncated").to_string();
    assert!(error.contains("truncated"), "{error}");
    assert!(!at("wrong").exists(), "nothing was begun");
}

fn rollouts(dir: &Path) -> Vec<serde_json::Value> {
    let files = fs::read_dir(dir.join("rollouts")).expect("rollouts");
    let texts = files.map(|file| fs::read_to_string(file.expect("a file").path()).expect("read"));
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.map(|line| serde_json::from_str(&line).expect("a line")).collect()
}

#[test]
fn bad_references_are_left_out_and_a_problem_chooses_its_reward() {
    let bench = Bench::new();
    let problems = "{\"id\": \"good\", \"prompt\": \"1 + 1?\", \"answer\": 2, \"meta\": {\"level\": 1}}\n\
                    {\"id\": \"bad\", \"prompt\": \"1 + 2?\", \"answer\": \"three\"}\n\
                    {\"id\": \"form\", \"prompt\": \"1 + 3?\", \"answer\": \"four\", \"reward\": \"format\"}\n";
    fs::write(bench.folder.path().join("train.jsonl"), problems).expect("written");
    let config = bench.config("run", &["reward=[{kind='number'}, {kind='repetition', ngram=1, weight=0.5}]"]);
    let mut left_out = Vec::new();
    let cpu = Cpu::new(Isa::best(), 2).expect("a processor");
    rl::run(&cpu, &config, false, &AtomicBool::new(false), |event| {
        if let Event::BadReferences { bad, .. } = event {
            left_out.extend(bad.iter().map(|bad| bad.id.clone()));
        }
    })
    .expect("runs");
    assert_eq!(left_out, ["bad"]);
    let resolved = fs::read_to_string(config.run_dir.join("config.toml")).expect("written");
    assert!(resolved.contains("ngram = 1"), "every option with its value: {resolved}");
    let lines = rollouts(&config.run_dir);
    for line in &lines {
        let kinds: Vec<_> =
            line["rewards"].as_array().expect("terms").iter().map(|term| term["kind"].as_str()).collect();
        match line["id"].as_str() {
            Some("good") => {
                assert_eq!(kinds, [Some("number"), Some("repetition")]);
                assert_eq!(line["meta"]["level"], 1);
            }
            Some("form") => assert_eq!(kinds, [Some("format"), Some("repetition")]),
            other => panic!("{other:?} was drawn"),
        }
    }
    fs::write(bench.folder.path().join("train.jsonl"), problems.lines().nth(1).expect("bad"))
        .expect("written");
    let error = run(&bench.config("none", &["reward=[{kind='number'}]"]), 2, false)
        .expect_err("all are bad")
        .to_string();
    assert!(error.contains("all 1 problems") && error.contains("`three`"), "{error}");
}

#[test]
fn a_run_whose_rewards_never_decide_ends_and_says_why() {
    let bench = Bench::new();
    let failing = "reward=[{kind='external', command=['sh', '-c', 'echo out of order >&2; exit 7']}]";
    let config = bench.config("failing", &[failing, "steps=9"]);
    let error = run(&config, 2, false).expect_err("nothing to learn from").to_string();
    assert!(error.contains("last 3 steps") && error.contains("exit status: 7"), "{error}");
    let log = fs::read_to_string(config.run_dir.join("reward-sh.log")).expect("kept");
    assert!(log.contains("out of order"));
    let lines = metrics(&config.run_dir);
    assert_eq!((lines.len(), &lines[1]["undecided"]), (3, &96.into()), "two steps, all of them masked");
}
