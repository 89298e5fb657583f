//! Distillation in small: the student comes nearer to its teacher by each method, a run repeats itself to the bit, and whatever
//! interrupts it changes nothing.

use std::{fs, path::PathBuf, sync::atomic::AtomicBool};

use koan_cpu::{Cpu, Isa};
use koan_model::testkit;
use koan_train::{
    TrainError,
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
        let problem = |i: u32| {
            format!(
                "{{\"id\": \"{i}\", \"prompt\": \"{i} + 1\", \"answer\": \"{}\", \"completion\": \"\"}}\n",
                i + 1
            )
        };
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

    fn load(&self, run: &str, method: &str, set: &[&str]) -> Result<DistillConfig, TrainError> {
        let at = |name: &str| self.at(name).display().to_string();
        let (data, own) = match method {
            "logits" => ("train.jsonl", "batch_tokens = 40\nmax_tokens = 16\n"),
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

fn run_until(
    config: &DistillConfig,
    threads: usize,
    resume: bool,
    stop_at: u64,
) -> Result<RunSummary, TrainError> {
    let cpu = Cpu::new(Isa::best(), threads).expect("a processor");
    let stop = AtomicBool::new(false);
    let launch = Launch { resume, threads, stop: &stop };
    distill::run(&cpu, config, launch, |event| {
        if let Event::Step { step, .. } = event
            && step == stop_at
        {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
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
const WAYS: [(&str, &[&str]); 6] = [
    ("logits", &[]),
    ("logits", &["algorithm.divergence=reverse", "algorithm.temperature=2.0"]),
    ("logits", &["algorithm.divergence=jsd"]),
    ("logits", &["algorithm.top_k=4"]),
    ("logits", &["algorithm.top_k=4", "algorithm.top_k_form=renormalised", "optim.recompute=true"]),
    ("on-policy", &[]),
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
        let steps = if method == "on-policy" { "steps=60" } else { "steps=30" };
        let sizes = ["rollout={problems=40, group_size=4, max_new_tokens=6}", "optim.lr=1e-2"];
        let more = if method == "on-policy" { &sizes[..] } else { &[] };
        let set: Vec<&str> = set.iter().chain(more).copied().chain([steps]).collect();
        let config = bench.load(&i.to_string(), method, &set).expect("a config");
        run(&config, 2);
        let lines = metrics(&config);
        let value = |i: usize, key: &str| lines[i][key].as_f64().expect(key);
        let (first, last) = (value(0, "eval_loss"), value(lines.len() - 1, "eval_loss"));
        assert!(last < 0.7 * first, "{method} {set:?}: {first} {last}");
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
    // A token of another text.
    testkit::write_model(&bench.at("other"), 9).expect("a model");
    let file = bench.at("other/tokenizer.json");
    let text = fs::read_to_string(&file).expect("a tokenizer");
    fs::write(&file, text.replace("\"7\":", "\"seven\":")).expect("written");
    let other = format!("teacher={}", bench.at("other").display());
    for method in ["logits", "on-policy"] {
        let error = refused(&[&other], method);
        for part in ["another tokenizer", "\"7\"", "\"seven\"", "samples"] {
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
