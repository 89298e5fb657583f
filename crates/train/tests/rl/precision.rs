//! Runs whose products are computed in FP8, emulated: what they promise holds, and what they leave is in f32.

use std::fs;

use koan_model::Config;

use crate::tiny_run::{TinyRun, metrics, run};

const FP8: &str = "precision=fp8-emulated";
const ADAPTER: [&str; 3] = ["adapter.rank=3", "adapter.alpha=6", "optim.lr=1e-2"];

#[test]
fn a_run_in_fp8_repeats_itself_and_samples_what_it_trains() {
    let tiny = TinyRun::new();
    for (name, set) in [("whole", vec![FP8]), ("adapter", [&[FP8][..], &ADAPTER].concat())] {
        let set = [&set[..], &["algorithm.mini_batches=1"]].concat();
        let config =
            |part: &str, more: &[&str]| tiny.config(&format!("{name} {part}"), &[&set, more].concat());
        let whole = config("run", &[]);
        let summary = run(&whole, 2, false).expect("runs");
        let lines = metrics(&whole.stage.run_dir);
        for line in lines.iter().filter(|line| line["loss"].is_number()) {
            assert_eq!(line["log_prob_gap"], 0.0, "{name}: {line}");
        }
        assert_eq!(lines[1]["kl"], 0.0, "{name}: its reference is computed as it is: {}", lines[1]);
        let stopped = config("stopped", &["steps=2"]);
        run(&stopped, 1, false).expect("runs");
        let resumed = config("stopped", &[]);
        assert_eq!(run(&resumed, 2, true).expect("goes on").digest, summary.digest, "{name}");

        let native: Vec<&str> = set.iter().copied().filter(|set| *set != FP8).collect();
        let other = tiny.config(&format!("{name} native"), &native);
        assert_ne!(
            run(&other, 2, false).expect("runs").digest,
            summary.digest,
            "{name}: FP8 changes nothing"
        );
        let error = run(&tiny.config(&format!("{name} stopped"), &native), 2, true).expect_err("refused");
        assert!(error.to_string().contains("precision (\"fp8-emulated\", now not given)"), "{error}");
    }
}

#[test]
fn the_precision_is_recorded_and_what_is_saved_is_in_f32() {
    let tiny = TinyRun::new();
    let config = tiny.config("run", &[FP8, "steps=1"]);
    assert!(config.explain().contains("E4M3"), "{}", config.explain());
    let model = run(&config, 2, false).expect("runs").model.expect("a model");
    let toml = fs::read_to_string(config.stage.run_dir.join("config.toml")).expect("there");
    assert!(toml.contains("precision = \"fp8-emulated\""), "{toml}");
    let saved = Config::load(&model).expect("a config");
    assert!(saved.fp8.is_none() && saved.raw["dtype"] == "float32", "{:?}", saved.raw);
    let native = tiny.config("native", &[]);
    assert!(!native.explain().contains("E4M3"), "{}", native.explain());
    let error = tiny.load("wrong", &["precision=fp8"]).expect_err("no such precision").to_string();
    assert!(error.contains("`native` or `fp8-emulated`"), "{error}");
    let error = tiny.load("wrong", &["precison=native"]).expect_err("no such key").to_string();
    assert!(error.contains("did you mean `precision`"), "{error}");
}
