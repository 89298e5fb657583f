//! What steps drew, as a report reads it: completions of `eval`, replies of `generate`, rollouts of `rl`.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use koan_data::Problem;
use koan_eval::Judged;
use koan_files::FilesError;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::own::OwnError;

/// Longest line that is read, bytes.
const MAX_LINE: usize = 64 << 20;

/// The completions of each of `problems` that a step `eval` wrote to `path`.
pub(super) fn completions(path: &Path, problems: &[Problem]) -> Result<Vec<Vec<Judged>>, OwnError> {
    #[derive(Deserialize)]
    struct Line {
        id: String,
        sample: usize,
        #[serde(flatten)]
        judged: Judged,
    }
    let places: HashMap<&str, usize> =
        problems.iter().enumerate().map(|(i, problem)| (&*problem.id, i)).collect();
    let mut all: Vec<Vec<(usize, Judged)>> = vec![Vec::new(); problems.len()];
    for line in lines::<Line>(path)? {
        let place = places.get(&*line.id);
        let place = place.ok_or_else(|| wrong(path, &format!("`{}` is none of `problems`", line.id)))?;
        all[*place].push((line.sample, line.judged));
    }
    if let Some(lacks) = all.iter().position(Vec::is_empty) {
        return Err(wrong(path, &format!("it has no completion of the problem `{}`", problems[lacks].id)));
    }
    let in_order = |mut of: Vec<(usize, Judged)>| {
        of.sort_by_key(|(sample, _)| *sample);
        of.into_iter().map(|(_, judged)| judged).collect()
    };
    Ok(all.into_iter().map(in_order).collect())
}

/// Requests with their replies, which a step `generate` wrote to `path`.
pub(super) fn replies(path: &Path) -> Result<Vec<(Problem, Vec<String>)>, OwnError> {
    #[derive(Deserialize)]
    struct Text {
        text: String,
    }
    let row = |mut row: Map<String, Value>| {
        let texts = row.remove("completions").unwrap_or_default();
        let texts: Vec<Text> =
            serde_json::from_value(texts).map_err(|e| wrong(path, &format!("`completions`: {e}")))?;
        let problem = serde_json::from_value(Value::Object(row)).map_err(|e| wrong(path, &e.to_string()))?;
        Ok((problem, texts.into_iter().map(|text| text.text).collect()))
    };
    lines(path)?.into_iter().map(row).collect()
}

/// A completion that was sampled while a policy learned.
pub(super) struct Sampled {
    pub(super) problem: Problem,
    pub(super) completion: String,
    pub(super) tokens: usize,
    pub(super) is_right: bool,
}

/// The completions of each step of the run in directory `run`, with the step's number; empty if it has no rollouts.
pub(super) fn rollouts(run: &Path) -> Result<Vec<(u64, Vec<Sampled>)>, OwnError> {
    #[derive(Deserialize)]
    struct Line {
        step: u64,
        id: String,
        #[serde(default)]
        answer: String,
        meta: Option<Map<String, Value>>,
        completion: String,
        completion_tokens: usize,
        #[serde(default)]
        rewards: Vec<Outcome>,
    }
    #[derive(Deserialize)]
    struct Outcome {
        outcome: String,
    }
    let mut all = Vec::new();
    for path in files(&run.join("rollouts"))? {
        let mut of_step = Vec::new();
        let mut step = 0;
        for line in lines::<Line>(&path)? {
            step = line.step;
            let problem = Problem { id: line.id, answer: line.answer, meta: line.meta, ..Problem::default() };
            let is_right = line.rewards.first().is_some_and(|first| first.outcome == "correct");
            of_step.push(Sampled {
                problem,
                completion: line.completion,
                tokens: line.completion_tokens,
                is_right,
            });
        }
        if !of_step.is_empty() {
            all.push((step, of_step));
        }
    }
    Ok(all)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, FilesError> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(dir).map_err(FilesError::io("read", dir))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("step-")) && path.extension().is_some_and(|e| e == "jsonl")
    });
    paths.sort();
    Ok(paths)
}

/// The rows of a file.
fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, OwnError> {
    let file = File::open(path).map_err(FilesError::io("read", path))?;
    let mut all = Vec::new();
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let line = line.map_err(FilesError::io("read", path))?;
        if line.len() > MAX_LINE {
            return Err(wrong(path, &format!("line {number} is too long")));
        }
        all.push(serde_json::from_str(&line).map_err(|e| wrong(path, &format!("line {number}: {e}")))?);
    }
    Ok(all)
}

fn wrong(path: &Path, what: &str) -> OwnError {
    OwnError::Inputs(format!("{}: {what}", path.display()))
}
