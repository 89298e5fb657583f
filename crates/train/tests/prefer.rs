//! Learning from preferences in small: it learns what is preferred, it repeats itself to the bit, whatever interrupts it
//! changes nothing, and how an update is cut into passes changes nothing but rounding.

use std::{fs, path::PathBuf, sync::atomic::AtomicBool};

use koan_backend::{Backend, MomentType, Reference};
use koan_cpu::{Cpu, Isa};
use koan_model::testkit;
use koan_train::{
    TrainError,
    comm::{Ranks, threads},
    optim::{OptimConfig, Optimizer},
    prefer::{self, Algorithm, Compared, Event, Example, Learner, PreferConfig},
    stage::{Launch, RunSummary},
};
use proptest::prelude::*;

/// A folder with a tiny model, and preferences for answers that end in a full stop.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().expect("a folder") };
        testkit::write_model(&bench.at("model"), 4).expect("a model");
        let pair = |i: u32| {
            format!("{{\"prompt\": \"{i} + 1\", \"chosen\": \"{}.\", \"rejected\": \"{} \"}}\n", i + 1, i + 1)
        };
        let row = |i: u32| {
            let (end, good) = if i.is_multiple_of(2) { (".", true) } else { (" ", false) };
            format!("{{\"prompt\": \"{i} + 1\", \"completion\": \"{}{end}\", \"label\": {good}}}\n", i + 1)
        };
        for (name, rows) in [
            ("pairs.jsonl", (0..30).map(pair).collect::<String>()),
            ("held-out.jsonl", (30..40).map(pair).collect()),
            ("rows.jsonl", (0..30).map(row).collect()),
        ] {
            fs::write(bench.at(name), rows).expect("written");
        }
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn load(&self, run: &str, set: &[&str]) -> Result<PreferConfig, TrainError> {
        let at = |name: &str| self.at(name).display().to_string();
        let text = format!(
            "run_dir = '{}'\nmodel = '{}'\ndata = '{}'\nsteps = 6\nbatch = 8\nmax_tokens = 16\ncheckpoint_every = 2\n\
             seed = 7\n[optim]\nlr = 1e-3\nmicro_batch_tokens = 20\n[eval]\ndata = '{}'\nevery = 3\n",
            at(run),
            at("model"),
            at("pairs.jsonl"),
            at("held-out.jsonl"),
        );
        let file = self.at(&format!("{run}.toml"));
        fs::write(&file, text).expect("written");
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        PreferConfig::load(&file, &set)
    }

    fn kto(&self, run: &str) -> Result<PreferConfig, TrainError> {
        let data = self.at("rows.jsonl").display().to_string();
        let (data, held_out) = (format!("data={data}"), format!("eval.data={data}"));
        self.load(run, &["algorithm.loss=kto", &data, &held_out])
    }
}

fn run(config: &PreferConfig, threads: usize, resume: bool) -> Result<RunSummary, TrainError> {
    let cpu = Cpu::new(Isa::best(), threads).expect("a processor");
    let launch = Launch { resume, threads, stop: &AtomicBool::new(false), ranks: &Ranks::alone() };
    prefer::run(&cpu, config, launch, |_| {})
}

fn metrics(config: &PreferConfig) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(config.stage.run_dir.join("metrics.jsonl")).expect("metrics");
    text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect()
}

#[test]
fn what_is_preferred_is_learned_whatever_the_loss_and_the_threads() {
    let bench = Bench::new();
    let losses = [
        ("dpo", vec!["algorithm.label_smoothing=0.1", "algorithm.nll_weight=0.1"]),
        ("robust", vec!["algorithm.label_smoothing=0.1"]),
        ("dpo-norm", vec![]),
        ("ipo", vec![]),
        ("ipo-sum", vec![]),
        ("hinge", vec![]),
        ("cpo", vec![]),
        ("simpo", vec![]),
        ("orpo", vec![]),
    ];
    for (loss, mut set) in losses {
        let name = format!("algorithm.loss={loss}");
        set.push(&name);
        let config = |run: &str| bench.load(&format!("{loss}-{run}"), &set).expect("a config");
        let (a, b) = (config("1"), config("2"));
        let digest = run(&a, 1, false).expect("runs").digest;
        assert_eq!(digest, run(&b, 2, false).expect("runs").digest, "{loss}");
        let lines = metrics(&a);
        let value = |i: usize, key: &str| lines[i][key].as_f64().expect(key);
        assert!(value(5, "rewards/margins") > value(0, "rewards/margins"), "{loss}: {lines:?}");
        assert!(value(5, "eval_rewards/margins") > value(2, "eval_rewards/margins"), "{loss}: {lines:?}");
        assert!(lines[0]["eval_loss"].is_null(), "measured as asked");
    }
    let [a, b] = ["1", "2"].map(|n| bench.kto(&format!("kto-{n}")).expect("a config"));
    assert_eq!(run(&a, 1, false).expect("runs").digest, run(&b, 2, false).expect("runs").digest);
    let lines = metrics(&a);
    assert!(lines[5]["rewards/margins"].as_f64() > Some(0.0) && lines[5]["kl"].is_number(), "{lines:?}");
}

#[test]
fn a_reward_model_is_made_from_a_language_model_and_goes_on_from_one() {
    let bench = Bench::new();
    let rows = bench.at("rows.jsonl").display().to_string();
    let (rows, held_out) = (format!("data={rows}"), format!("eval.data={rows}"));
    for (loss, set) in [
        ("reward-model", vec!["algorithm.centering=0.01"]),
        ("reward-model-pointwise", vec![&*rows, &*held_out]),
    ] {
        let name = format!("algorithm.loss={loss}");
        let config = |run: &str, more: &[&str]| {
            let set = [&[&*name, "optim.lr=1e-2", "steps=12"], &set[..], more].concat();
            bench.load(&format!("{loss}-{run}"), &set).expect("a config")
        };
        let (a, b) = (config("1", &[]), config("2", &[]));
        let summary = run(&a, 1, false).expect("runs");
        assert_eq!(summary.digest, run(&b, 2, false).expect("runs").digest, "{loss}");
        let lines = metrics(&a);
        let accuracy = |i: usize| lines[i]["eval_rewards/accuracies"].as_f64().expect("measured");
        assert_eq!(accuracy(11), 1.0, "{loss}: {lines:?}");
        assert!(lines[0]["logps/chosen"].is_null(), "a reward model has no log-probabilities");

        let model = summary.model.expect("a model");
        let json = fs::read_to_string(model.join("config.json")).expect("there");
        let json: serde_json::Value = serde_json::from_str(&json).expect("an object");
        assert_eq!(json["architectures"][0], "LlamaForSequenceClassification");
        let of_rows = json["problem_type"] == "multi_label_classification";
        assert_eq!(of_rows, loss == "reward-model-pointwise");
        // It goes on from one, and says so where one is none of the kind.
        let start = format!("model={}", model.display());
        run(&config("3", &[&start]), 1, false).expect("goes on");
        let refused = bench.load("policy", &[&start]).and_then(|c| run(&c, 1, false)).expect_err("refused");
        assert!(refused.to_string().contains("is a reward model"), "{refused}");
        assert!(!bench.at("policy").exists(), "nothing was begun");
    }
}

#[test]
fn a_policy_begins_as_its_reference() {
    let bench = Bench::new();
    let config = bench.load("a", &[]).expect("a config");
    run(&config, 2, false).expect("runs");
    let first = &metrics(&config)[0];
    let value = |key: &str| first[key].as_f64().expect(key);
    assert!((value("loss") - std::f64::consts::LN_2).abs() < 1e-12, "{first}");
    assert_eq!((value("rewards/margins"), value("rewards/accuracies")), (0.0, 0.0), "the same bits");
}

#[test]
fn another_reference_is_compared_with() {
    let bench = Bench::new();
    testkit::write_model(&bench.at("other"), 5).expect("a model");
    let other = format!("reference={}", bench.at("other").display());
    let config = bench.load("a", &[&other]).expect("a config");
    run(&config, 2, false).expect("runs");
    assert_ne!(metrics(&config)[0]["rewards/margins"], 0.0);
    let lineage = fs::read_to_string(config.stage.run_dir.join("lineage.json")).expect("lineage");
    assert!(lineage.contains("\"reference\""), "{lineage}");
}

#[test]
fn an_interrupted_run_ends_as_if_it_never_was() {
    let bench = Bench::new();
    for loss in ["dpo", "orpo", "kto", "reward-model"] {
        let config = |run: &str| match loss {
            "kto" => bench.kto(run).expect("a config"),
            _ => bench.load(run, &[&format!("algorithm.loss={loss}")]).expect("a config"),
        };
        let want = run(&config(&format!("{loss}-whole")), 2, false).expect("runs").digest;
        let stopped = config(&format!("{loss}-stopped"));
        let (cpu, stop) = (Cpu::best(Some(2)).expect("a processor"), AtomicBool::new(false));
        let launch = Launch { resume: false, threads: 2, stop: &stop, ranks: &Ranks::alone() };
        let summary = prefer::run(&cpu, &stopped, launch, |event| {
            if matches!(event, Event::Step { step: 3, .. }) {
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        });
        assert!(summary.expect("stops").stopped);
        // What the reference policy says is computed anew where it is not whole.
        let kept = stopped.stage.run_dir.join("reference.json");
        if kept.exists() {
            fs::write(kept, "{\"examples").expect("written");
        }
        assert_eq!(run(&stopped, 1, true).expect("goes on").digest, want, "{loss}");
    }
}

#[test]
fn rows_that_can_t_be_learned_from_are_left_out_and_counted() {
    let bench = Bench::new();
    let rows = concat!(
        "{\"prompt\": \"1\", \"chosen\": \"2\", \"rejected\": \"3\"}\n",
        "{\"prompt\": \"1\", \"chosen\": \"2\", \"rejected\": \"2\"}\n",
        "{\"prompt\": \"1\", \"chosen\": \"2\", \"rejected\": \"\"}\n",
        "{\"prompt\": \"1\", \"chosen\": \"2\", \"rejected\": \"3333333333333333333333\"}\n",
    );
    fs::write(bench.at("odd.jsonl"), rows).expect("written");
    let data = format!("data={}", bench.at("odd.jsonl").display());
    let said = |run_name: &str, set: &[&str]| {
        let config = bench.load(run_name, &[&[&*data], set].concat()).expect("a config");
        let cpu = Cpu::best(Some(1)).expect("a processor");
        let launch =
            Launch { resume: false, threads: 1, stop: &AtomicBool::new(false), ranks: &Ranks::alone() };
        let mut said = String::new();
        let on = |event: Event| {
            if let Event::Start { task, .. } = event {
                task.clone_into(&mut said);
            }
        };
        prefer::run(&cpu, &config, launch, on).expect("runs");
        said
    };
    assert_eq!(
        said("a", &[]),
        "2 rows (1 too long, left out, 1 with two equal replies, left out), 10 held out"
    );
    assert!(said("b", &["too_long=truncate"]).starts_with("3 rows (1 cut at max_tokens"));
}

#[test]
fn what_is_wrong_is_said_before_any_work() {
    let bench = Bench::new();
    let refused = |set: &[&str]| {
        let error = bench.load("bad", set).and_then(|c| run(&c, 1, false)).expect_err("refused");
        assert!(!bench.at("bad").exists(), "{error}: nothing was begun");
        error.to_string()
    };
    assert!(refused(&["algorithm.gamma=1"]).contains("algorithm.gamma"));
    assert!(refused(&["algorithm.beta=0"]).contains("above 0"));
    assert!(refused(&["algorithm.loss=dppo"]).contains("dpo"));
    assert!(refused(&["algorithm.loss=robust"]).contains("label_smoothing"));
    assert!(refused(&["algorithm.loss=simpo", "reference=x"]).contains("reference"));
    assert!(refused(&["reference=absent"]).contains("absent"));
    assert!(refused(&["max_tokens=2"]).contains("nothing to learn from: 30 too long"));
    let data = format!("data={}", bench.at("rows.jsonl").display());
    assert!(refused(&[&data]).contains("rows.jsonl:1: expected an object with `prompt`, `chosen`"));
    assert!(refused(&["algorithm.loss=kto"]).contains("`label`"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Promise 4: loss and update depend neither on how examples are packed and cut, nor on their order.
    #[test]
    fn cut_and_order_change_nothing(
        lengths in prop::collection::vec((1usize..6, 1usize..6, 1usize..6), 1..6),
        loss in prop::sample::select(vec!["dpo", "ipo", "simpo", "orpo", "cpo", "kto", "reward-model", "reward-model-pointwise"]),
        rows in 18usize..40, seed in 0u64..1000,
    ) {
        let mut n = 0..;
        let mut tokens = |len: usize| -> Vec<u32> {
            n.by_ref().take(len).map(|i| ((testkit::random(seed, i) + 0.5) * 11.0) as u32).collect()
        };
        let examples: Vec<Example> = lengths.iter().enumerate().map(|(i, &(prompt, a, b))| Example {
            prompt: tokens(prompt), replies: [tokens(a), tokens(b)], good: i % 2 == 0, margin: 0.5 * i as f64,
        }).collect();
        let objective = toml::from_str::<Algorithm>(&format!("loss = '{loss}'")).expect("a loss").objective();
        let optim = OptimConfig { lr: 1e-2, ..OptimConfig::default() };
        let update = |rows: usize, reverse: bool| {
            let mut config = testkit::config(11, true);
            if objective.makes_scorer() {
                config = config.with_scalar_head(10, false);
            }
            let policy = testkit::model(&Reference, config, 1);
            let optimizer = Optimizer::new(&Reference, policy.config(), MomentType::F32).expect("memory");
            let mut learner = Learner::new(&Reference, policy, optimizer, objective, rows, &optim).expect("memory");
            let compare = |(i, example)| Compared { example, reference: [-2.0 - i as f64, -1.5 * i as f64] };
            let mut all: Vec<Compared> = examples.iter().enumerate().map(compare).collect();
            if reverse {
                all.reverse();
            }
            let (found, norm) = learner.update(&Reference, &all, &optim, 1e-2).expect("finite");
            let first_moments = learner.optimizer.m.tensors().flat_map(|m| Reference.read_moment(m)).collect::<Vec<f32>>();
            (found, norm, first_moments)
        };
        let (found, norm, moments) = update(200, false);
        for (rows, reverse) in [(rows, false), (rows, true), (200, true)] {
            let (other, other_norm, other_moments) = update(rows, reverse);
            for (x, y) in moments.iter().zip(&other_moments) {
                prop_assert!(f64::from((x - y).abs()) < 1e-6 * (1.0 + norm), "{x} {y}");
            }
            prop_assert!((found.loss - other.loss).abs() < 1e-6 * (1.0 + found.loss.abs()), "{} {}", found.loss, other.loss);
            prop_assert!((norm - other_norm).abs() < 1e-6 * (1.0 + norm), "{norm} {other_norm}");
            prop_assert_eq!(found.accuracy, other.accuracy);
            prop_assert_eq!(found.tokens, other.tokens);
        }
    }
}

/// The reference policy of a fresh adapter is the model without it; of one that goes on, what it goes on from.
#[test]
fn an_adapter_learns_what_is_preferred() {
    let bench = Bench::new();
    let adapter = ["adapter.rank=4", "optim.lr=1e-2"];
    let config = |run: &str, set: &[&str]| bench.load(run, &[&adapter[..], set].concat()).expect("a config");
    let (a, b) = (config("1", &[]), config("2", &[]));
    let summary = run(&a, 1, false).expect("runs");
    assert_eq!(summary.digest, run(&b, 2, false).expect("runs").digest);
    let lines = metrics(&a);
    let margin =
        |lines: &[serde_json::Value], i: usize| lines[i]["rewards/margins"].as_f64().expect("a margin");
    assert_eq!(margin(&lines, 0), 0.0, "a policy begins as its reference: {lines:?}");
    assert!(margin(&lines, 5) > 0.0, "{lines:?}");
    let part = config("part", &["steps=2"]);
    run(&part, 2, false).expect("runs");
    assert_eq!(run(&config("part", &[]), 1, true).expect("goes on").digest, summary.digest);

    let from = format!("adapter.from={}", summary.model.expect("a model").display());
    let on = bench.load("on", &[&*from, "optim.lr=1e-2"]).expect("a config");
    run(&on, 2, false).expect("runs");
    assert_eq!(margin(&metrics(&on), 0), 0.0, "it is compared with what it goes on from");
}

#[test]
fn a_reward_model_may_be_an_adapter_with_a_head() {
    let bench = Bench::new();
    let set = ["algorithm.loss=reward-model", "adapter.rank=4", "optim.lr=1e-2", "steps=12"];
    let config = |run: &str, more: &[&str]| bench.load(run, &[&set[..], more].concat()).expect("a config");
    let whole = config("whole", &[]);
    let summary = run(&whole, 1, false).expect("runs");
    let lines = metrics(&whole);
    assert_eq!(lines[11]["eval_rewards/accuracies"], 1.0, "{lines:?}");
    let part = config("part", &["steps=4"]);
    run(&part, 2, false).expect("runs");
    assert_eq!(run(&config("part", &[]), 2, true).expect("goes on").digest, summary.digest);
    let model = summary.model.expect("a model");
    let json = fs::read_to_string(model.join("adapter_config.json")).expect("there");
    let json: serde_json::Value = serde_json::from_str(&json).expect("an object");
    assert_eq!(
        (&json["task_type"], &json["modules_to_save"]),
        (&"SEQ_CLS".into(), &serde_json::json!(["score"]))
    );
    let weights = fs::read(model.join("adapter_model.safetensors")).expect("there");
    assert!(String::from_utf8_lossy(&weights).contains("base_model.model.score.weight"));
    // It goes on as a reward model.
    let from = format!("adapter.from={}", model.display());
    let set = ["algorithm.loss=reward-model", &*from, "optim.lr=1e-3", "steps=1", "eval.every=1"];
    let on = bench.load("on", &set).expect("a config");
    run(&on, 1, false).expect("runs");
    assert_eq!(metrics(&on)[0]["eval_rewards/accuracies"], 1.0);
}

/// Several ranks make the run of one, to the bit, whatever the loss.
#[test]
fn ranks_make_the_run_of_one() {
    let bench = Bench::new();
    let on_ranks = |config: &PreferConfig, ranks: usize| {
        std::thread::scope(|scope| {
            let start = |ranks: Ranks| {
                scope.spawn(move || {
                    let cpu = Cpu::new(Isa::best(), 1).expect("a processor");
                    let launch =
                        Launch { resume: false, threads: 1, stop: &AtomicBool::new(false), ranks: &ranks };
                    prefer::run(&cpu, config, launch, |_| {}).expect("runs").digest
                })
            };
            let all: Vec<_> = threads(ranks).into_iter().map(start).collect();
            let digests: Vec<_> = all.into_iter().map(|rank| rank.join().expect("no panic")).collect();
            assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
            digests[0].clone()
        })
    };
    let numbers = |config: &PreferConfig| {
        let mut lines = metrics(config);
        for line in lines.iter_mut().filter_map(serde_json::Value::as_object_mut) {
            line.retain(|key, _| !key.ends_with("_s") && key != "slowest_rank");
        }
        lines
    };
    for loss in ["dpo", "kto"] {
        let config = |run: usize| {
            let mut config = if loss == "kto" {
                bench.kto(&format!("kto-{run}"))
            } else {
                bench.load(&format!("dpo-{run}"), &[])
            }
            .expect("a config");
            config.stage.shards = 4;
            config
        };
        let want = on_ranks(&config(1), 1);
        for ranks in [2, 4] {
            assert_eq!(on_ranks(&config(ranks), ranks), want, "{loss} on {ranks} ranks");
            assert_eq!(numbers(&config(ranks)), numbers(&config(1)), "{loss} on {ranks} ranks");
        }
    }
}
