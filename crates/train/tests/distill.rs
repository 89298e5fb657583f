//! Distillation in small: the student comes nearer to its teacher by each method, a run repeats itself to the bit, and whatever
//! interrupts it changes nothing.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use koan_cpu::{Cpu, Isa};
use koan_model::testkit;
use koan_train::{
    TrainError,
    comm::Ranks,
    distill::{self, DistillConfig, Event},
    stage::{Launch, RunSummary},
};
use serde_json::Value;

/// A folder with a tiny student and a tiny teacher, demonstrations, and problems.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().expect("a folder") };
        testkit::write_model(&bench.at("student"), 4).expect("a model");
        testkit::write_model(&bench.at("teacher"), 9).expect("a model");
        let text = |i: u32| format!("{{\"prompt\": \"{i} + 1\", \"completion\": \"{}.\"}}\n", 7 * i + 1);
        let problem =
            |i: u32| format!("{{\"id\": \"{i}\", \"prompt\": \"{i} + 1\", \"answer\": \"{}\"}}\n", i + 1);
        for (name, rows) in [
            ("train.jsonl", (0..40).map(text).collect::<String>()),
            ("held-out.jsonl", (40..60).map(text).collect()),
            ("problems.jsonl", (0..40).map(problem).collect()),
        ] {
            fs::write(bench.at(name), rows).expect("written");
        }
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A teacher one of whose tokens is another text.
    fn write_other_tokenizer(&self, name: &str) {
        testkit::write_model(&self.at(name), 9).expect("a model");
        let file = self.at(name).join("tokenizer.json");
        let text = fs::read_to_string(&file).expect("a tokenizer");
        fs::write(&file, text.replace("\"7\":", "\"x\":")).expect("written");
    }

    /// The mean reverse divergence of the model in folder `name` from the teacher on held-out texts.
    fn divergence(&self, name: &str) -> f64 {
        let run_dir = tempfile::tempdir_in(self.folder.path()).expect("a folder");
        let (run_dir, model) = (run_dir.path().join("run"), self.at(name));
        let set = [
            format!("run_dir={}", run_dir.display()),
            format!("model={}", model.display()),
            "algorithm.divergence=reverse".to_owned(),
            "optim.lr=0.0".to_owned(),
            "steps=1".to_owned(),
        ];
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let config = self.load("probe", "logits", &set).expect("a config");
        run(&config, 1);
        metrics(&config)[0]["eval_loss"].as_f64().expect("measured")
    }

    fn load(&self, run: &str, method: &str, set: &[&str]) -> Result<DistillConfig, TrainError> {
        let at = |name: &str| self.at(name).display().to_string();
        let (data, own) = match method {
            "logits" => ("train.jsonl", "batch_tokens = 40\nmax_tokens = 16\n"),
            "samples" => (
                "problems.jsonl",
                "batch_tokens = 40\nmax_tokens = 16\nrollout = {problems = 15, group_size = 8, max_new_tokens = 6}\n\
                 filter = {cut = false, wrong = false, language = 'off', duplicates = false}\n",
            ),
            _ => ("problems.jsonl", "rollout = {problems = 6, group_size = 2, max_new_tokens = 6}\n"),
        };
        let text = format!(
            "run_dir = '{}'\nmodel = '{}'\nteacher = '{}'\ndata = '{}'\nsteps = 6\ncheckpoint_every = 2\nseed = 7\n{own}\
             [algorithm]\nmethod = '{method}'\n[optim]\nlr = 3e-3\nmicro_batch_tokens = 24\n[eval]\ndata = '{}'\nevery = 1\n",
            at(run),
            at("student"),
            at("teacher"),
            at(data),
            at("held-out.jsonl"),
        );
        let file = self.at(&format!("{run}.toml"));
        fs::write(&file, text).expect("written");
        DistillConfig::load(&file, &set.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }
}

/// As a step to stop at: the first step of sampling.
const WHILE_SAMPLING: u64 = u64::MAX;

fn run_until(
    config: &DistillConfig,
    threads: usize,
    resume: bool,
    stop_at: u64,
) -> Result<RunSummary, TrainError> {
    let cpu = Cpu::new(Isa::best(), threads).expect("a processor");
    let stop = AtomicBool::new(false);
    let launch = Launch { resume, threads, stop: &stop, ranks: &Ranks::alone() };
    distill::run(&cpu, config, launch, |event| {
        let due = match event {
            Event::Step { step, .. } => step == stop_at,
            Event::Completed { .. } => stop_at == WHILE_SAMPLING,
            _ => false,
        };
        if due {
            stop.store(true, Ordering::Relaxed);
        }
    })
}

fn run(config: &DistillConfig, threads: usize) -> RunSummary {
    run_until(config, threads, false, 0).expect("runs")
}

fn metrics(config: &DistillConfig) -> Vec<Value> {
    let text = fs::read_to_string(config.stage.run_dir.join("metrics.jsonl")).expect("metrics");
    text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect()
}

/// Ways to learn that a test tries.
const WAYS: [(&str, &[&str]); 7] = [
    ("logits", &[]),
    ("logits", &["algorithm.divergence=reverse", "algorithm.temperature=2.0"]),
    ("logits", &["algorithm.divergence=jsd"]),
    ("logits", &["algorithm.top_k=4"]),
    ("logits", &["algorithm.top_k=4", "algorithm.top_k_form=renormalised", "optim.recompute=true"]),
    ("on-policy", &[]),
    ("samples", &[]),
];

#[test]
fn a_run_repeats_itself_whatever_the_threads_and_whatever_interrupts_it() {
    let bench = Bench::new();
    for (i, (method, set)) in WAYS.into_iter().enumerate() {
        let config = |run: &str| bench.load(&format!("{i}-{run}"), method, set).expect("a config");
        let (a, b, c) = (config("a"), config("b"), config("c"));
        let whole = run(&a, 1);
        assert_eq!(whole.digest, run(&b, 2).digest, "{method} {set:?}");
        let stopped = run_until(&c, 1, false, 3).expect("runs");
        assert!(stopped.stopped && stopped.step == 3, "{stopped:?}");
        assert_eq!(run_until(&c, 2, true, 0).expect("goes on").digest, whole.digest, "{method} {set:?}");

        let lineage = fs::read_to_string(a.stage.run_dir.join("lineage.json")).expect("a lineage");
        let lineage: Value = serde_json::from_str(&lineage).expect("JSON");
        let teacher = lineage["inputs"].as_array().expect("a list").iter().find(|i| i["role"] == "teacher");
        assert_eq!(teacher.expect("named")["sha256"].as_str().map(str::len), Some(64));
        assert_eq!(lineage["stage"], "distill");
    }
}

#[test]
fn the_student_comes_nearer_to_its_teacher_on_held_out_texts() {
    let bench = Bench::new();
    for (i, (method, set)) in WAYS.into_iter().enumerate() {
        let steps = if method == "logits" { "steps=30" } else { "steps=60" };
        let sizes = ["rollout={problems=40, group_size=4, max_new_tokens=6}", "optim.lr=1e-2"];
        let more = match method {
            "on-policy" => &sizes[..],
            "samples" => &sizes[1..],
            _ => &[],
        };
        let set: Vec<&str> = set.iter().chain(more).copied().chain([steps]).collect();
        let config = bench.load(&i.to_string(), method, &set).expect("a config");
        let first = bench.divergence("student");
        let trained = run(&config, 2).model.expect("a model");
        let last = bench.divergence(&trained.display().to_string());
        eprintln!("{method} {set:?}: {first:.4} nats from the teacher, {last:.4} after learning");
        // What only knows the teacher's likeliest tokens, scaled to 1, comes no nearer where these are few.
        let biased = set.contains(&"algorithm.top_k_form=renormalised");
        assert!(biased || last < 0.8 * first, "{method} {set:?}: {first} {last}");
        let lines = metrics(&config);
        let value = |i: usize, key: &str| lines[i][key].as_f64().expect(key);
        if method == "logits" {
            assert!(value(lines.len() - 1, "eval_loss") < 0.7 * value(0, "eval_loss"), "{set:?}: {lines:?}");
        }
        if method == "on-policy" {
            let (first, last) = (value(0, "teacher_kl"), value(lines.len() - 1, "teacher_kl"));
            assert!(last < 0.7 * first, "{first} {last}");
            assert!(lines.iter().all(|line| line["log_prob_gap"] == 0.0), "one forward");
            let n = lines[0]["completion_tokens"].as_f64().expect("a length");
            assert!((1.0..=6.0).contains(&n) && lines[0]["truncated"].is_number());
        }
    }
}

#[test]
fn a_run_that_is_stopped_while_the_teacher_samples_goes_on_there() {
    let bench = Bench::new();
    let config = |run: &str| bench.load(run, "samples", &[]).expect("a config");
    let (a, b) = (config("a"), config("b"));
    let whole = run(&a, 2);
    let stopped = run_until(&b, 1, false, WHILE_SAMPLING).expect("runs");
    assert!(stopped.stopped && stopped.model.is_none(), "{stopped:?}");
    assert!(!b.stage.run_dir.join("config.toml").exists());
    let again = run_until(&b, 1, false, 0).expect_err("not as a new run").to_string();
    assert!(again.contains("--resume"), "{again}");
    let ended = run_until(&b, 1, true, 0).expect("goes on");
    assert_eq!(ended.digest, whole.digest);

    let samples =
        |config: &DistillConfig| fs::read(config.stage.run_dir.join("samples/data/sft.jsonl")).expect("rows");
    assert_eq!(samples(&a), samples(&b));
    let text = String::from_utf8(samples(&a)).expect("text");
    let row: Value = serde_json::from_str(text.lines().next().expect("a row")).expect("JSON");
    assert_eq!(row["origin"]["model"].as_str().map(PathBuf::from), Some(bench.at("teacher")));
    let n = text.lines().count();
    assert!((250..=320).contains(&n), "{n} of 8 completions of each of 40 problems, without the empty ones");
    let none = run_until(&config("none"), 1, true, 0).expect_err("nothing to go on with").to_string();
    assert!(none.contains("none"), "{none}");
}

#[test]
fn samples_work_across_tokenizers() {
    let bench = Bench::new();
    bench.write_other_tokenizer("other");
    let other = format!("teacher={}", bench.at("other").display());
    let config = bench.load("run", "samples", &[&other, "steps=2"]).expect("a config");
    run(&config, 1);
}

#[test]
fn rollouts_say_what_the_teacher_said() {
    let bench = Bench::new();
    let config = bench.load("run", "on-policy", &["steps=1", "rollout.log_probs=true"]).expect("a config");
    run(&config, 1);
    let text = fs::read_to_string(config.stage.run_dir.join("rollouts/step-000001.jsonl")).expect("rollouts");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    assert_eq!(lines.len(), 12);
    for line in &lines {
        let ratios = line["teacher_log_ratios"].as_array().expect("a list");
        let mean = ratios.iter().filter_map(Value::as_f64).sum::<f64>() / ratios.len() as f64;
        assert_eq!(ratios.len() as u64, line["completion_tokens"].as_u64().expect("a count"));
        assert!((line["reward"].as_f64().expect("a reward") - mean).abs() < 1e-5, "{line}");
    }
    let kl = metrics(&config)[0]["teacher_kl"].as_f64().expect("a number");
    let all: Vec<f64> = lines
        .iter()
        .flat_map(|line| line["teacher_log_ratios"].as_array().expect("a list"))
        .filter_map(Value::as_f64)
        .collect();
    assert!((kl + all.iter().sum::<f64>() / all.len() as f64).abs() < 1e-9);
}

#[test]
fn what_is_wrong_is_said_before_any_work() {
    let bench = Bench::new();
    let refused = |set: &[&str], method: &str| {
        let config = bench.load("refused", method, set).expect("a config");
        let error = run_until(&config, 1, false, 0).expect_err("refused").to_string();
        assert!(!config.stage.run_dir.join("config.toml").exists(), "{error}");
        error
    };
    bench.write_other_tokenizer("other");
    let other = format!("teacher={}", bench.at("other").display());
    for method in ["logits", "on-policy"] {
        let error = refused(&[&other], method);
        for part in ["another tokenizer", "\"7\"", "\"x\"", "samples"] {
            assert!(error.contains(part), "{error}");
        }
    }
    let none = format!("teacher={}", bench.at("none").display());
    assert!(refused(&[&none], "logits").contains("none"));
    let error = refused(&["max_tokens=3"], "logits");
    assert!(error.contains("max_tokens is 3"), "{error}");
}

#[test]
fn a_teacher_with_more_embeddings_is_compared_where_both_have_tokens() {
    // The last rows of embeddings are often for no token, as many as a family's sizes please.
    let bench = Bench::new();
    let dir = bench.at("padded");
    testkit::write_padded_model(&dir, 9, 5).expect("a model");
    let teacher = format!("teacher={}", dir.display());
    for method in ["logits", "on-policy"] {
        let config = bench.load(&format!("{method}-padded"), method, &[&teacher]).expect("a config");
        run(&config, 1);
    }
    // The other way round: the student may sample a token that the teacher does not know.
    let student = format!("model={}", dir.display());
    for method in ["logits", "on-policy"] {
        let set = [&*student, "rollout.problems=20"];
        let set = if method == "logits" { &set[..1] } else { &set[..] };
        let config = bench.load(&format!("{method}-padding"), method, set).expect("a config");
        run(&config, 1);
        assert!(metrics(&config).iter().all(|line| line["loss"].as_f64().is_some_and(f64::is_finite)));
    }
}
