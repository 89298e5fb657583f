//! A model with latent attention and experts in every stage, in small: its loads are written down, its bias balances them, and
//! whatever interrupts a run changes nothing.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use koan_backend::Reference;
use koan_cpu::{Cpu, Isa};
use koan_model::{CacheForm, Config, Model, Role, checkpoint, testkit};
use koan_train::{
    TrainError,
    comm::Ranks,
    distill::{self, DistillConfig},
    prefer::{self, PreferConfig},
    reject::{self, RejectConfig},
    rl::{self, RlConfig},
    stage::{Event, Launch, Settings},
    supervised::{self, Stage, SupervisedConfig},
};
use serde_json::{Value, json};

/// A folder with a tiny model, and data of every kind.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().expect("a folder"));
        let kind = testkit::deepseek(json!({"model_type": "deepseek_v3", "first_k_dense_replace": 1}));
        testkit::write_model_with(&bench.at("model"), 4, kind).expect("a model");
        let lines = |line: &dyn Fn(u32) -> String| (0..30).map(line).collect::<String>();
        for (name, content) in [
            ("texts.jsonl", lines(&|i| format!("{{\"text\": \"{i} + {i} 0{}\"}}\n", i % 7))),
            (
                "replies.jsonl",
                lines(&|i| format!("{{\"prompt\": \"{i} + 1\", \"completion\": \"{}.\"}}\n", i + 1)),
            ),
            (
                "pairs.jsonl",
                lines(&|i| {
                    format!("{{\"prompt\": \"{i} + 1\", \"chosen\": \"{i}.\", \"rejected\": \"{i} \"}}\n")
                }),
            ),
            (
                "problems.jsonl",
                lines(&|i| {
                    format!(
                        "{{\"id\": \"{i}\", \"prompt\": \"{} + 1\", \"answer\": \"{}\"}}\n",
                        i % 8,
                        i % 8 + 1
                    )
                }),
            ),
        ] {
            fs::write(bench.at(name), content).expect("written");
        }
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The file of a run of `data`, with what else it says.
    fn file(&self, run: &str, data: &str, more: &str) -> PathBuf {
        let at = |name: &str| self.at(name).display().to_string();
        let text = format!(
            "run_dir = '{}'\nmodel = '{}'\ndata = '{}'\nseed = 7\n{more}\n",
            at(run),
            at("model"),
            at(data)
        );
        let file = self.at(&format!("{run}.toml"));
        fs::write(&file, text).expect("written");
        file
    }

    fn supervised(&self, stage: Stage, run: &str, more: &str) -> SupervisedConfig {
        let data = if stage == Stage::Pretrain { "texts.jsonl" } else { "replies.jsonl" };
        let more = format!(
            "steps = 6\nbatch_tokens = 64\nmax_tokens = 16\ncheckpoint_every = 2\n[optim]\nlr = 1e-2\nmicro_batch_tokens = 20\n{more}"
        );
        SupervisedConfig::load(stage, &self.file(run, data, &more), &[]).expect("a config")
    }

    /// The lines of a run's metrics that are steps'.
    fn metrics(&self, run: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.at(run).join("metrics.jsonl")).expect("metrics");
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line"));
        lines.filter(|line| line.get("grad_norm").is_some()).collect()
    }

    /// Requires that a run's metrics say how even the loads of experts were.
    fn check_metrics(&self, run: &str) {
        let lines = self.metrics(run);
        assert!(!lines.is_empty(), "{run}");
        for line in lines {
            let of = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{run}: {key} in {line}"));
            assert!((1.0..=6.0).contains(&of("expert_load_max")), "{run}: {line}");
            assert!((0.0..=1.0 + 1e-9).contains(&of("expert_load_entropy")), "{run}: {line}");
            assert!(of("expert_bias_range") > 0.0, "{run}: {line}");
        }
    }

    /// The values of each router's bias of a model.
    fn biases(&self, model: &str) -> Vec<Vec<f32>> {
        let dir = self.at(model);
        let config = Config::load(&dir).expect("a config");
        let weights = checkpoint::Weights::open(&dir, &config).expect("weights");
        let biases = config.tensors().into_iter().filter(|info| info.role == Role::RouterBias);
        biases.map(|info| weights.read(&info).expect("read").into_owned()).collect()
    }
}

fn cpu(threads: usize) -> Cpu {
    Cpu::new(Isa::best(), threads).expect("a processor")
}

static GO: AtomicBool = AtomicBool::new(false);

fn train(stage: Stage, config: &SupervisedConfig, threads: usize) -> Result<String, TrainError> {
    let launch = Launch { resume: false, threads, stop: &GO, ranks: &Ranks::alone() };
    Ok(supervised::run(&cpu(threads), stage, config, launch, |_| {})?.digest)
}

#[test]
fn pretraining_moves_the_bias_and_an_interrupted_run_ends_with_the_same_bits() {
    let (bench, stage) = (Bench::new(), Stage::Pretrain);
    let want = train(stage, &bench.supervised(stage, "whole", ""), 2).expect("runs");
    bench.check_metrics("whole");
    // Six updates of 0.001, each up, down, or not where the load is the mean.
    let moved = bench.biases("whole/model");
    for (before, after) in bench.biases("model").iter().zip(&moved) {
        let steps: Vec<f32> = before.iter().zip(after).map(|(b, a)| (a - b) / 1e-3).collect();
        assert!(steps.iter().all(|s| s.abs() < 6.01), "{steps:?}");
        assert!(steps.iter().any(|s| s.abs() > 0.5), "{steps:?}");
    }
    let (config, stop) = (bench.supervised(stage, "stopped", ""), AtomicBool::new(false));
    let launch = Launch { resume: false, threads: 1, stop: &stop, ranks: &Ranks::alone() };
    let stopped = supervised::run(&cpu(1), stage, &config, launch, |event| {
        if matches!(event, Event::Step { step: 3, .. }) {
            stop.store(true, Ordering::Relaxed);
        }
    });
    assert!(stopped.expect("stops").stopped);
    let launch = Launch { resume: true, threads: 2, stop: &GO, ranks: &Ranks::alone() };
    let went_on = supervised::run(&cpu(2), stage, &config, launch, |_| {}).expect("goes on");
    assert_eq!(went_on.digest, want);

    let early = bench.supervised(stage, "early", "[experts]\nbias_until = 0.5");
    train(stage, &early, 1).expect("runs");
    let steps = bench.biases("early/model").concat().into_iter().zip(bench.biases("model").concat());
    assert!(steps.map(|(after, before)| (after - before).abs() / 1e-3).all(|s| s < 3.01), "three updates");
    let off = bench.supervised(stage, "off", "[experts]\nbias_speed = 0.0\nbalance_loss = 0.0");
    assert_ne!(train(stage, &off, 1).expect("runs"), want);
    assert_eq!(bench.biases("off/model"), bench.biases("model"));
}

#[test]
fn fine_tuning_leaves_the_bias_and_an_adapter_is_trained_on_attention_and_shared_experts() {
    let bench = Bench::new();
    let adapter = "[adapter]\nrank = 2";
    for (run, cache, more) in [
        ("whole", CacheForm::Expanded, ""),
        ("adapter", CacheForm::Expanded, adapter),
        ("latent", CacheForm::Latent, ""),
        ("adapter-latent", CacheForm::Latent, adapter),
    ] {
        let digest = |run: &str, threads| {
            let mut config = bench.supervised(Stage::Sft, run, more);
            config.stage.cache = cache;
            train(Stage::Sft, &config, threads).expect("runs")
        };
        let once = digest(run, 1);
        bench.check_metrics(run);
        assert_eq!(digest(&format!("{run} again"), 2), once, "{run}");
    }
    assert_eq!(bench.biases("whole/model"), bench.biases("model"));
    let adapted = bench.at("adapter/model").join("adapter_model.safetensors");
    let header = String::from_utf8_lossy(&fs::read(adapted).expect("an adapter")).into_owned();
    assert!(header.contains("shared_experts.up_proj.lora_A") && !header.contains("mlp.experts."), "{header}");
    let refused = Config::load(&bench.at("model")).expect("a config");
    assert!(refused.experts.is_some());
}

#[test]
fn grpo_samples_by_the_experts_that_it_learns_with() {
    let bench = Bench::new();
    let adapter = "[adapter]\nrank = 2\n";
    for (run, top, more) in [
        ("grpo", "", ""),
        ("grpo-adapter", "", adapter),
        ("grpo-latent", "cache = 'latent'", ""),
        ("grpo-latent-adapter", "cache = 'latent'", adapter),
    ] {
        let more = format!(
            "{top}\nsteps = 2\ncheckpoint_every = 2\n[rollout]\nproblems = 3\ngroup_size = 32\nmax_new_tokens = 3\nsequences = 7\n\
             [algorithm]\nkl = 0.02\nmini_batches = 2\n[optim]\nlr = 1e-3\nmicro_batch_tokens = 64\n{more}"
        );
        let config = RlConfig::load(&bench.file(run, "problems.jsonl", &more), &[]).expect("a config");
        let launch = Launch { resume: false, threads: 2, stop: &GO, ranks: &Ranks::alone() };
        rl::run(&cpu(2), &config, launch, |_| {}).expect("runs");
        bench.check_metrics(run);
        let written = fs::read_to_string(bench.at(run).join("config.toml")).expect("a config");
        assert_eq!(written.contains("cache = \"latent\""), !top.is_empty(), "{written}");
        for line in bench.metrics(run) {
            assert_eq!(line["log_prob_gap"], 0.0, "{line}");
        }
    }
}

#[test]
fn preferences_samples_and_teachers_are_learned_from() {
    for cache in ["", "cache = 'latent'\n"] {
        learn_from_preferences_samples_and_teachers(cache);
    }
}

fn learn_from_preferences_samples_and_teachers(cache: &str) {
    let bench = Bench::new();
    let alone = Ranks::alone();
    let launch = || Launch { resume: false, threads: 2, stop: &GO, ranks: &alone };
    let optim = "[optim]\nlr = 1e-3\nmicro_batch_tokens = 24";
    let more = format!("{cache}steps = 2\nbatch = 8\nmax_tokens = 16\n{optim}");
    let config = PreferConfig::load(&bench.file("prefer", "pairs.jsonl", &more), &[]).expect("a config");
    prefer::run(&cpu(2), &config, launch(), |_| {}).expect("runs");
    bench.check_metrics("prefer");

    let teacher = format!("teacher = '{}'", bench.at("model").display());
    let more = format!(
        "{cache}{teacher}\nsteps = 2\nbatch_tokens = 40\nmax_tokens = 16\n[algorithm]\nmethod = 'logits'\n{optim}"
    );
    let config = DistillConfig::load(&bench.file("distill", "replies.jsonl", &more), &[]).expect("a config");
    distill::run(&cpu(2), &config, launch(), |_| {}).expect("runs");
    bench.check_metrics("distill");

    let more = format!(
        "{cache}[rollout]\nproblems = 3\ngroup_size = 32\nmax_new_tokens = 3\nsequences = 17\n[filter]\ncut = false\n\
         language = 'off'\n[[reward]]\nkind = 'number'"
    );
    let config = RejectConfig::load(&bench.file("reject", "problems.jsonl", &more), &[]).expect("a config");
    let made = reject::run(&cpu(2), &config, launch(), |_| {}).expect("runs");
    assert!(made.summary.completions.all() > 0);
}

#[test]
fn latents_of_a_model_without_any_are_refused_before_any_work() {
    let bench = Bench::new();
    testkit::write_model(&bench.at("dense"), 4).expect("a model");
    let mut config = bench.supervised(Stage::Sft, "run", "");
    (config.stage.model, config.stage.cache) = (bench.at("dense"), CacheForm::Latent);
    let error = train(Stage::Sft, &config, 1).expect_err("refused").to_string();
    assert!(error.contains("no latent attention") && error.contains("dense"), "{error}");
    assert!(!bench.at("run").exists());
}

#[test]
fn balancing_what_has_no_experts_is_refused_before_any_work() {
    let bench = Bench::new();
    testkit::write_model(&bench.at("dense"), 4).expect("a model");
    let mut config = bench.supervised(Stage::Sft, "run", "[experts]\nbalance_loss = 0.1");
    config.stage.model = bench.at("dense");
    let error = train(Stage::Sft, &config, 1).expect_err("refused").to_string();
    assert!(error.contains("[experts] is given"), "{error}");
    assert!(!bench.at("run").exists());
    assert!(config.to_toml().contains("balance_loss"));
}

/// A router that prefers one expert whatever the token: its bias falls, and the loads become even.
#[test]
fn the_bias_evens_the_loads_of_a_router_that_prefers_one_expert() {
    let bench = Bench::new();
    let dir = bench.at("model");
    let config = Config::load(&dir).expect("a config");
    let model: Model<Reference> = checkpoint::load(&Reference, &dir, None).expect("a model");
    let weights = model.weights;
    let mut values: Vec<Vec<f32>> = weights
        .tensors()
        .map(|param| {
            let values = param.value().iter().map(|&x| x as f32);
            match param.info().role {
                Role::RouterBias => values.enumerate().map(|(e, _)| if e == 2 { 0.3 } else { 0.0 }).collect(),
                _ => values.collect(),
            }
        })
        .collect();
    let mut next = values.drain(..);
    let skewed = Model::new(&Reference, config, 64, |_| {
        Ok::<_, koan_backend::OutOfMemory>(next.next().expect("a tensor"))
    });
    checkpoint::save(&Reference, &skewed.expect("memory"), &bench.at("skewed"), &dir).expect("saved");
    let mut config =
        bench.supervised(Stage::Pretrain, "run", "[experts]\nbias_speed = 0.02\nbalance_loss = 0.0");
    config.stage.model = bench.at("skewed");
    (config.steps, config.stage.optim.lr) = (Some(40), 0.0);
    train(Stage::Pretrain, &config, 2).expect("runs");
    let lines = bench.metrics("run");
    let of = |i: usize, key: &str| lines[i][key].as_f64().expect("a number");
    let last = lines.len() - 1;
    assert!(of(0, "expert_load_max") > 2.5, "nearly every row chooses it: {}", lines[0]);
    assert!(of(last, "expert_load_max") < 1.7, "{}", lines[last]);
    assert!(of(last, "expert_load_entropy") > of(0, "expert_load_entropy") + 0.1, "{}", lines[last]);
}
