//! Runs that train an adapter: what they promise holds, and what they leave is an adapter.

use std::{fs, path::Path};

use koan_backend::Reference;
use koan_model::checkpoint::{self, Place};

use crate::tiny_run::{TinyRun, metrics, run};

const ADAPTER: [&str; 4] = ["adapter.rank=3", "adapter.alpha=6", "optim.lr=1e-2", "algorithm.mini_batches=1"];

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("read").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// With a fresh adapter, and with one that a run before it left; the reference policy fixed, and renewed on the way.
#[test]
fn a_run_repeats_itself_and_samples_what_it_trains() {
    let tiny = TinyRun::new();
    let first = tiny.config("first", &ADAPTER);
    let digest = run(&first, 1, false).expect("runs").digest;
    let from = format!("adapter.from={}", first.stage.run_dir.join("model").display());
    for (name, set) in [
        ("fresh", ADAPTER.to_vec()),
        ("renewed", [&ADAPTER[..], &["algorithm.reference_every=2"]].concat()),
        ("going on", vec![&*from, "optim.lr=1e-2", "algorithm.mini_batches=1"]),
    ] {
        let config =
            |part: &str, more: &[&str]| tiny.config(&format!("{name} {part}"), &[&set[..], more].concat());
        let whole = config("whole", &[]);
        let summary = run(&whole, 2, false).expect("runs");
        if name == "fresh" {
            assert_eq!(summary.digest, digest, "on 1 and 2 threads");
        }
        let lines = metrics(&whole.stage.run_dir);
        for line in lines.iter().filter(|line| line["loss"].is_number()) {
            assert_eq!(line["log_prob_gap"], 0.0, "{name}: {line}");
        }
        assert_eq!(lines[1]["kl"], 0.0, "{name}: a policy begins as its reference: {}", lines[1]);
        assert!(lines.last().expect("a line")["kl"].as_f64() > Some(0.0), "{name}: {lines:?}");
        // Stopped after two steps, then resumed.
        let stopped = config("stopped", &["steps=2"]);
        run(&stopped, 1, false).expect("runs");
        let reference = stopped.stage.run_dir.join("checkpoints/step-000002/reference");
        assert_eq!(reference.join("adapter_model.safetensors").exists(), name == "renewed", "{name}");
        let resumed = config("stopped", &[]);
        assert_eq!(run(&resumed, 2, true).expect("goes on").digest, summary.digest, "{name}");
    }
}

#[test]
fn what_a_run_leaves_is_an_adapter() {
    let tiny = TinyRun::new();
    let config = tiny.config("run", &ADAPTER);
    let summary = run(&config, 2, false).expect("runs");
    let model = summary.model.expect("a model");
    let left = names(&model);
    for file in ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"] {
        assert!(left.contains(&file.to_owned()), "{left:?}");
    }
    assert!(!left.contains(&"config.json".to_owned()) && !left.contains(&"model.safetensors".to_owned()));
    let checkpoint = config.stage.run_dir.join("checkpoints/step-000004");
    let size = |name: &str| fs::metadata(checkpoint.join(name)).expect("there").len();
    let base = fs::metadata(config.stage.model.join("model.safetensors")).expect("there").len();
    assert!(size("adapter_model.safetensors") < base && size("optimizer.safetensors") < 2 * base);
    let place = Place::find(&model, None).expect("its base model is where it says");
    assert_eq!(place.model(), config.stage.model);
    checkpoint::load(&Reference, &place, Some(32)).expect("loads");
    let lineage = fs::read_to_string(config.stage.run_dir.join("lineage.json")).expect("there");
    assert!(lineage.contains("\"rl\""), "{lineage}");
    let toml = fs::read_to_string(config.stage.run_dir.join("config.toml")).expect("there");
    for line in ["[adapter]", "rank = 3", "alpha = 6.0", "targets = \"all-linear\"", "rslora = false"] {
        assert!(toml.contains(line), "{toml}");
    }
    assert!(config.explain().contains("s = alpha / rank = 2"), "{}", config.explain());
}

#[test]
fn what_is_wrong_is_said_before_any_work() {
    let tiny = TinyRun::new();
    let first = tiny.config("first", &[&ADAPTER[..], &["steps=1"]].concat());
    run(&first, 2, false).expect("runs");
    let adapter = first.stage.run_dir.join("model").display().to_string();
    let (from, model) = (format!("adapter.from={adapter}"), format!("model={adapter}"));
    for (set, said) in [
        (vec!["adapter.rank=0"], "rank 0"),
        (vec!["adapter.alpha=0"], "alpha 0"),
        (vec!["adapter.targets=[]"], "no targets"),
        (vec!["adapter.targets=[\"q_proj\", \"qkv\"]"], "`qkv`"),
        (vec!["adapter.targets=\"attention\""], "all-linear"),
        (vec!["adapter.ranks=3"], "did you mean"),
        (vec!["adapter.rank=\"three\""], "adapter.rank"),
        (vec![&*from, "adapter.rank=3"], "`adapter.from` has its own"),
        (vec!["adapter.from=nowhere"], "no adapter_config.json"),
        (vec![&*model], "adapter.from"),
    ] {
        let run_dir = tiny.folder.path().join("refused");
        let error = match tiny.load("refused", &set) {
            Ok(config) => run(&config, 1, false).expect_err(said),
            Err(error) => error,
        };
        let error = anyhow_like(&error);
        assert!(error.contains(said), "{set:?}: {error}");
        assert!(!run_dir.exists(), "{set:?}");
    }
    // Another adapter is another run.
    let config = tiny.config("first", &["adapter.rank=4", "steps=1"]);
    let error = run(&config, 1, true).expect_err("another rank").to_string();
    assert!(error.contains("adapter.rank"), "{error}");
}

/// An error with its causes.
fn anyhow_like(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
