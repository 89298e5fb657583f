//! What a run that learned from text shows: its losses, and how evenly it used its experts.

use std::path::Path;

use koan_files::read_bounded;
use serde::{Deserialize, Serialize};

use crate::own::OwnError;
use koan_files::FilesError;

/// Largest file of metrics that is read, bytes.
const MAX_BYTES: u64 = 1 << 28;
/// Points of a curve that are shown, at most.
const POINTS: usize = 200;
/// Steps at the end that a figure is the mean of.
const LAST: usize = 20;

/// A step.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) step: u64,
    pub(super) loss: f64,
    pub(super) tokens_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) eval_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) multi_token_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expert_load_max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expert_load_entropy: Option<f64>,
}

/// A column of the table: its title, and a step's value.
pub(super) type Column = (&'static str, fn(&Line) -> Option<f64>);

/// What is shown of a step.
pub(super) const COLUMNS: [Column; 6] = [
    ("loss on held-out text", |line| line.eval_loss),
    ("loss", |line| Some(line.loss)),
    ("loss of the token after the next", |line| line.multi_token_loss),
    ("busiest expert’s load, times the mean", |line| line.expert_load_max),
    ("evenness of loads (entropy, 1: even)", |line| line.expert_load_entropy),
    ("tokens per second", |line| Some(line.tokens_per_s)),
];

/// The steps of the run in directory `run`; none if it did not learn from text.
pub(super) fn steps(run: &Path) -> Result<Vec<Line>, OwnError> {
    let path = run.join("metrics.jsonl");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = read_bounded(&path, MAX_BYTES).map_err(FilesError::io("read", &path))?;
    let text = String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
    // Lines of other stages have other fields.
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The mean of a column over the last steps that have it; of what is measured seldom, the last.
pub(super) fn at_the_end(steps: &[Line], (_, value): Column) -> Option<f64> {
    let last = &steps[steps.len().saturating_sub(LAST)..];
    let values: Vec<f64> = last.iter().filter_map(value).collect();
    let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    mean.or_else(|| steps.iter().rev().find_map(value))
}

/// A column's curve, thinned.
pub(super) fn curve(steps: &[Line], (_, value): Column) -> Vec<(u64, f64)> {
    let all: Vec<(u64, f64)> = steps.iter().filter_map(|line| Some((line.step, value(line)?))).collect();
    let every = all.len().div_ceil(POINTS).max(1);
    let last = all.len().saturating_sub(1);
    all.into_iter()
        .enumerate()
        .filter(|(i, _)| i % every == 0 || *i == last)
        .map(|(_, point)| point)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64, loss: f64, eval_loss: Option<f64>) -> Line {
        let tokens_per_s = 100.0;
        let (multi_token_loss, expert_load_max, expert_load_entropy) = (None, Some(2.0), None);
        Line { step, loss, tokens_per_s, eval_loss, multi_token_loss, expert_load_max, expert_load_entropy }
    }

    #[test]
    fn figures_are_of_the_end_and_curves_of_all_steps() {
        let mut steps: Vec<Line> =
            (1..=1000).map(|step| line(step, if step > 980 { 1.0 } else { 9.0 }, None)).collect();
        steps[499].eval_loss = Some(3.0);
        assert_eq!(at_the_end(&steps, COLUMNS[0]), Some(3.0));
        assert_eq!(at_the_end(&steps, COLUMNS[1]), Some(1.0));
        assert_eq!(at_the_end(&steps, COLUMNS[2]), None);
        let curve = curve(&steps, COLUMNS[1]);
        assert!(curve.len() <= POINTS + 1 && curve[0] == (1, 9.0) && curve[curve.len() - 1] == (1000, 1.0));
    }

    #[test]
    fn lines_of_other_stages_are_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(steps(folder.path()).expect("no file").is_empty());
        let text = "{\"step\": 1, \"reward\": 0.5}\n{\"step\": 2, \"loss\": 0.5, \"tokens_per_s\": 9}\ncut";
        std::fs::write(folder.path().join("metrics.jsonl"), text).expect("written");
        let lines = steps(folder.path()).expect("read");
        assert_eq!((lines.len(), lines[0].step), (1, 2));
    }
}
