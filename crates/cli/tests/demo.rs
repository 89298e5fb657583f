//! The demo as a user runs it. It takes minutes, so it is run by itself: `cargo test -p koan --test demo -- --ignored`.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

fn demo(dir: &Path) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_koan"));
    command.args(["demo", "--quick", "--run-dir"]).arg(dir).output().expect("the program runs")
}

#[test]
#[ignore = "takes minutes"]
fn a_model_learns_to_reason_from_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("demo");
    let output = demo(&dir);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}\n{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(dir.join("result.json")).expect("a result");
    let result: Value = serde_json::from_str(&text).expect("JSON");
    let number = |of: &str, what: &str| result["stages"][of][what]["value"].as_f64().expect("a number");
    let (before, after) = (number("base", "accuracy"), number("zero", "accuracy"));
    assert!(after > before + 0.3, "accuracy {before} before, {after} after");
    let (before, after) = (number("base", "completion_tokens"), number("zero", "completion_tokens"));
    assert!(after > 1.5 * before, "{before} tokens before, {after} after");
    assert!(result["seconds"].as_f64().is_some_and(|s| s > 0.0) && shown.contains("report.html"), "{shown}");
    let report = fs::read_to_string(dir.join("report.html")).expect("a report");
    assert!(report.contains("<polyline") && report.contains("Answer: "));
    for part in ["base/model/model.safetensors", "zero/model/model.safetensors", "zero/lineage.json"] {
        assert!(dir.join(part).exists(), "{part}");
    }
    let again = demo(&dir);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.success() && said.contains("zero: made already"), "{said}");
    assert_eq!(fs::read_to_string(dir.join("result.json")).expect("a result"), text, "nothing is made again");
}
