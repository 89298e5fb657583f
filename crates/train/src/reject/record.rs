//! A line of `rollouts/`: what rl's lines have, and what became of the completion. These lines are the run's journal: the data
//! that a run makes are written from them.

use std::path::Path;

use koan_files::{
    FilesError,
    jsonl::{self, Lines},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::choose::Rejection;
use crate::rl::RolloutLine;

/// A line as it is written.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    #[serde(flatten)]
    pub(super) rollout: RolloutLine<'a>,
    pub(super) rejection: &'a Rejection,
}

/// A line as it is read again.
#[derive(Deserialize)]
pub(super) struct Recorded {
    pub(super) step: u64,
    pub(super) id: String,
    pub(super) sample: usize,
    pub(super) completion: String,
    pub(super) completion_tokens: usize,
    pub(super) rewards: Value,
    pub(super) reward: Option<f64>,
    pub(super) rejection: Rejection,
}

/// Hands the lines of the steps 1 to `steps` of the run in directory `run` to `each`, in their order.
///
/// # Errors
/// If one can't be read, or `each` fails.
pub(super) fn read(
    run: &Path,
    steps: u64,
    mut each: impl FnMut(Recorded) -> Result<(), FilesError>,
) -> Result<(), FilesError> {
    for step in 1..=steps {
        let path = run.join(format!("rollouts/step-{step:06}.jsonl"));
        let file = koan_files::open(&path).map_err(FilesError::io("read", &path))?;
        for line in Lines::new(std::io::BufReader::new(file)) {
            let (number, line) = line.map_err(FilesError::io("read", &path))?;
            let line = line.and_then(|line| jsonl::parse(&line));
            let damaged = |e| FilesError::Damaged { path: path.clone(), what: format!("line {number}: {e}") };
            each(line.map_err(damaged)?)?;
        }
    }
    Ok(())
}
