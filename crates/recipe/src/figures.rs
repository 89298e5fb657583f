//! What a step is measured by, from the files that it made.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use koan_files::read_text;
use serde_json::Value;

use crate::{Job, Kind, StepState};

/// Metrics of a stage's last step that are shown, where it has them; of rejection sampling, whose steps are parts of one whole, means
/// over all problems.
const METRICS: [&str; 8] =
    ["loss", "eval_loss", "reward", "accuracy", "format", "margin", "completion_tokens", "kl"];

/// Adds to `state` what `job` is measured by.
pub(crate) fn add(state: &mut StepState, job: &Job) {
    if job.kind.is_stage() {
        of_stage(state, &job.dir);
    } else if job.kind == Kind::Eval {
        of_report(state, &job.dir.join("report.json"));
    }
    for output in &state.outputs {
        let Some(name) = output.path.file_stem().and_then(|name| name.to_str()) else { continue };
        if output.path.extension().is_some_and(|e| e == "jsonl") && job.kind != Kind::Eval {
            let key = if matches!(job.kind, Kind::Split | Kind::World) {
                format!("rows_{name}")
            } else {
                "rows".to_owned()
            };
            if let Some(rows) = lines(&output.path) {
                state.figures.insert(key, rows.into());
            }
        }
    }
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_str(&read_text(path).ok()?).ok()
}

/// Adds what the run in `dir` is measured by.
pub(crate) fn of_stage(state: &mut StepState, dir: &Path) {
    if let Some(lineage) = json(&dir.join("lineage.json")) {
        state.tokens = lineage["tokens"].as_u64();
        if let Some(steps) = lineage["steps"].as_u64() {
            state.figures.insert("steps".to_owned(), steps.into());
        }
    }
    let metrics = read_text(&dir.join("metrics.jsonl")).unwrap_or_default();
    let steps = metrics.lines().filter_map(|line| serde_json::from_str(line).ok());
    let steps: Vec<Value> = steps.collect();
    if state.kind == Kind::Reject.name() {
        let means = METRICS.into_iter().filter_map(|key| Some((key.to_owned(), mean(&steps, key)?.into())));
        state.figures.extend(means);
        return;
    }
    let last = steps.last();
    for key in METRICS {
        if let Some(value) = last.and_then(|last| last.get(key)).filter(|value| value.is_number()) {
            state.figures.insert(key.to_owned(), value.clone());
        }
    }
}

/// The mean of metric `key` over the problems of `steps`.
fn mean(steps: &[Value], key: &str) -> Option<f64> {
    let of_step = |step: &Value| Some((step["problems"].as_f64()?, step[key].as_f64()?));
    let (problems, sum) = steps
        .iter()
        .filter_map(of_step)
        .fold((0.0, 0.0), |(problems, sum), (n, value)| (problems + n, sum + n * value));
    (problems > 0.0).then(|| sum / problems)
}

fn of_report(state: &mut StepState, path: &Path) {
    let Some(report) = json(path) else { return };
    let all = &report["report"];
    state.tokens = all["tokens"].as_u64();
    for key in ["pass_at_1", "completion_tokens", "problems"] {
        if !all[key].is_null() {
            state.figures.insert(key.to_owned(), all[key].clone());
        }
    }
    // Of a reward model.
    if all.is_null()
        && let Value::Object(report) = report
    {
        state.figures.extend(report.into_iter().filter(|(_, value)| value.is_number()));
    }
}

/// The lines of a file.
fn lines(path: &Path) -> Option<u64> {
    let mut lines = BufReader::new(File::open(path).ok()?).split(b'\n');
    lines.try_fold(0, |n, line| line.ok().map(|_| n + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_rejection_sampling_are_of_all_its_problems_and_of_other_stages_of_the_last_step() {
        let dir = tempfile::tempdir().expect("a folder");
        let metrics = "{\"step\":1,\"problems\":64,\"accuracy\":0.75}\n{\"step\":2,\"problems\":16,\"accuracy\":0.25}\n{\"cut";
        std::fs::write(dir.path().join("metrics.jsonl"), metrics).expect("written");
        for (kind, want) in [("reject", 0.65), ("rl", 0.25)] {
            let state =
                r#"{"name": "s", "state": "done", "settings": {}, "inputs": [], "code": "", "seconds": 1}"#;
            let mut state: Value = serde_json::from_str(state).expect("an object");
            state["kind"] = kind.into();
            let mut state: StepState = serde_json::from_value(state).expect("a step");
            of_stage(&mut state, dir.path());
            assert_eq!(state.figures["accuracy"].as_f64(), Some(want), "{kind}");
        }
    }
}
