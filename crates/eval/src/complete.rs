//! Completions for a file of prompts, with token ids and log-probabilities.

use std::path::Path;

use koan_backend::Backend;
use koan_data::{DataError, Message, error::LineError, jsonl};
use koan_generate::{Completion, Generator, Prompt, Sampling};
use koan_model::Model;
use koan_text::{TextError, Tokenizer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A line of a file of prompts: a problem, or anything else that has a prompt. All of it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PromptLine {
    /// The question, if it is one message from the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The conversation up to the reply wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<Message>>,
    /// The tokens of the prompt, where they are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_ids: Option<Vec<u32>>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A prompt with its completions: a line of output.
#[derive(Clone, Debug, Serialize)]
pub struct Completed {
    /// The line it came from, with its `prompt_ids`.
    #[serde(flatten)]
    pub line: PromptLine,
    /// The completions, sample after sample.
    pub completions: Vec<CompletionLine>,
}

/// A completion as files show it.
#[derive(Clone, Debug, Serialize)]
pub struct CompletionLine {
    /// Its text, without special tokens.
    pub text: String,
    /// Its tokens.
    pub token_ids: Vec<u32>,
    /// Log-probability of each under the distribution it was drawn from.
    pub logprobs: Vec<f32>,
    /// `stop` or `length`.
    pub finish_reason: &'static str,
}

/// Reads a file of prompts. Each line has exactly one of `prompt`, `messages`, `prompt_ids`.
///
/// # Errors
/// A file that can't be read or is empty, or a line without a prompt.
pub fn read_prompts(path: &Path) -> Result<Vec<PromptLine>, DataError> {
    let mut lines = Vec::new();
    jsonl::read(path, |_, line: PromptLine| {
        let has = [line.prompt.is_some(), line.messages.is_some(), line.prompt_ids.is_some()];
        match has.iter().filter(|has| **has).count() {
            0 => Err(LineError::NoPrompt),
            1 => {
                lines.push(line);
                Ok(())
            }
            _ => Err(LineError::TwoPrompts),
        }
    })?;
    if lines.is_empty() { Err(DataError::Empty { path: path.to_owned() }) } else { Ok(lines) }
}

/// Draws `samples` completions of every prompt; line `i` of `lines` keys its random numbers by `i`. `ids` are the prompts'
/// tokens. A line is handed to `each` when all its completions are there, with its number.
///
/// # Errors
/// If a completion can't be decoded.
pub fn complete<B: Backend>(
    b: &B,
    model: &Model<B>,
    generator: &mut Generator<B>,
    tokenizer: Option<&Tokenizer>,
    lines: Vec<PromptLine>,
    ids: Vec<Vec<u32>>,
    samples: usize,
    sampling: &Sampling,
    mut each: impl FnMut(usize, Completed),
) -> Result<(), TextError> {
    let prompt = |(i, ids): (usize, &Vec<u32>)| Prompt { ids: ids.clone(), problem: i as u64, samples };
    let prompts: Vec<Prompt> = ids.iter().enumerate().map(prompt).collect();
    let mut open: Vec<Option<PromptLine>> = lines.into_iter().map(Some).collect();
    let mut drawn: Vec<Vec<Option<Completion>>> = vec![vec![None; samples]; open.len()];
    let mut failed = None;
    generator.run(b, model, &prompts, sampling, |i, sample, completion| {
        drawn[i][sample] = Some(completion);
        if drawn[i].iter().any(Option::is_none) {
            return;
        }
        let completions = drawn[i].iter_mut().filter_map(Option::take);
        let text = |ids: &[u32]| tokenizer.map_or(Ok(String::new()), |t| t.decode(ids, true));
        let completions = completions
            .map(|c| {
                Ok(CompletionLine {
                    text: text(&c.token_ids)?,
                    token_ids: c.token_ids,
                    logprobs: c.log_probs,
                    finish_reason: c.finish_reason.name(),
                })
            })
            .collect::<Result<Vec<_>, TextError>>();
        match (completions, open[i].take()) {
            (Ok(completions), Some(line)) => {
                let line = PromptLine { prompt_ids: Some(ids[i].clone()), ..line };
                each(i, Completed { line, completions });
            }
            (Err(e), _) => failed = Some(e),
            (Ok(_), None) => {}
        }
    });
    failed.map_or(Ok(()), Err)
}
