//! Where rows come from: the model, the files, and how it was asked.

use std::{collections::HashMap, path::Path, sync::Arc};

use koan_data::Problem;
use serde_json::{Map, Value, json};

use super::record::Recorded;

/// What all rows of a run have in common.
pub(super) struct Source<'a> {
    /// Who wrote the completions.
    pub(super) writer: Written<'a>,
    pub(super) seed: u64,
    /// The system message that was put before problems, if one was.
    pub(super) system: Option<&'a str>,
    /// The file of each problem, by its id.
    pub(super) files: &'a HashMap<String, Arc<Path>>,
    /// What opened the thinking at the end of prompts, by the problem's id, where something did.
    pub(super) opened: &'a HashMap<String, String>,
}

/// Who wrote the completions.
pub(super) enum Written<'a> {
    /// A model in this process: its directory, as the config names it, and the SHA-256 of its weights.
    Here { model: &'a Path, model_sha256: &'a str },
    /// A server, at this address: the model's name there.
    There { url: &'a str, model: &'a str },
}

impl Source<'_> {
    /// A completion with what its prompt opened: a row's own prompt ends before that.
    pub(super) fn completion(&self, problem: &Problem, completion: &str) -> String {
        let messages = problem.messages();
        let is_in_prompt = messages.last().is_some_and(|last| last.content.trim_end().ends_with("<think>"));
        match self.opened.get(&problem.id).filter(|_| !is_in_prompt) {
            Some(opened) => format!("{opened}{completion}"),
            None => completion.to_owned(),
        }
    }

    /// The model, the problem, and how it was sampled.
    pub(super) fn origin(&self, problem: &Problem, line: &Recorded) -> Map<String, Value> {
        let (whose, sha256) = match self.writer {
            Written::Here { model, model_sha256 } => (json!(model), ("model_sha256", json!(model_sha256))),
            Written::There { url, model } => (json!(model), ("server", json!(url))),
        };
        let all = [
            ("model", whose),
            sha256,
            ("problem", json!(problem.id)),
            ("data", json!(self.files.get(&problem.id).map(|path| &**path))),
            ("seed", json!(self.seed)),
            ("step", json!(line.step)),
            ("pass_rate", json!(line.rejection.pass_rate)),
        ];
        all.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
    }
}
