//! Log-probabilities of given completions, by the forward pass of training.

use std::ops::ControlFlow;

use koan_backend::{Backend, Layout};
use koan_data::{
    DataFiles,
    rows::{self, Place},
};
use koan_model::{Activations, Head, Purpose};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Codec, InferError, plan::plan_passes};

/// A completion to score: text or tokens. A line of `koan generate`'s output holds several.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScoreLine {
    /// The prompt's text: put through the chat template unless `raw`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Or the conversation up to the completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<koan_data::Message>>,
    /// The completion's text, without the token that ends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion: Option<String>,
    /// The prompt's tokens; they win over its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_ids: Option<Vec<u32>>,
    /// The completion's tokens; they win over its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_ids: Option<Vec<u32>>,
    /// The log-probability of each completion token: of the output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<f32>>,
    /// Their sum: of the output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprob_sum: Option<f64>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What scoring a file found.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ScoreSummary {
    /// Completions scored.
    pub completions: usize,
    /// Completion tokens scored.
    pub tokens: usize,
    /// Completions that came with log-probabilities from when they were sampled.
    pub compared: usize,
    /// Of those, the largest |given − computed|.
    pub log_prob_gap: f32,
}

/// A line of `koan generate`'s output, as far as it matters here.
#[derive(Deserialize)]
struct Generated {
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    /// Under the whole distribution, where the other may be under a truncated one.
    full_logprobs: Option<Vec<f32>>,
}

/// Reads a file of completions to score; a line with `completions`, as `koan generate` writes, becomes one for each.
/// Afterwards every line has `prompt_ids` and `completion_ids`.
///
/// # Errors
/// A file that can't be read, or a line that lacks a prompt or a completion, names tokens outside of the vocabulary, is longer
/// than the model reaches, or has text for a model without a tokenizer.
pub fn read_score_lines(files: &DataFiles, codec: &Codec) -> Result<Vec<ScoreLine>, InferError> {
    let mut read: Vec<(Place, ScoreLine)> = Vec::new();
    rows::read(files, |place, line: ScoreLine| {
        read.push((place.clone(), line));
        Ok(())
    })?;
    let mut lines = Vec::new();
    for (place, line) in read {
        let wrong = |what: String| InferError::line(&place, what);
        for line in completions_of(line, codec, wrong)? {
            check(&line, codec).map_err(wrong)?;
            lines.push(line);
        }
    }
    Ok(lines)
}

/// The completions of a line, each with the tokens of its prompt and its own.
fn completions_of(
    mut line: ScoreLine,
    codec: &Codec,
    wrong: impl Fn(String) -> InferError,
) -> Result<Vec<ScoreLine>, InferError> {
    if line.prompt_ids.is_none() {
        let prompt = line.prompt.clone().map(|prompt| vec![koan_data::Message::user(prompt)]);
        let messages = line.messages.clone().or(prompt);
        let messages = messages.ok_or_else(|| wrong("has no `prompt`, `messages` or `prompt_ids`".into()))?;
        line.prompt_ids = Some(codec.encode(&messages, &line.other).map_err(|e| placed(e, &wrong))?);
    }
    if let Some(sampled) = line.other.remove("completions") {
        let sampled: Vec<Generated> = serde_json::from_value(sampled)
            .map_err(|e| wrong(format!("`completions` is not what `koan generate` writes: {e}")))?;
        let each = |(sample, d): (usize, Generated)| {
            let mut one = line.clone();
            one.completion_ids = Some(d.token_ids);
            one.logprobs = Some(d.full_logprobs.unwrap_or(d.logprobs));
            one.other.insert("sample".into(), sample.into());
            one
        };
        return Ok(sampled.into_iter().enumerate().map(each).collect());
    }
    if line.completion_ids.is_none() {
        let completion = line.completion.as_deref();
        let completion = completion.ok_or_else(|| wrong("has no `completion` or `completion_ids`".into()))?;
        line.completion_ids = Some(codec.encode_completion(completion).map_err(|e| placed(e, &wrong))?);
    }
    Ok(vec![line])
}

/// A text that is too long, with its line; other errors are the same for every line.
fn placed(error: InferError, wrong: &impl Fn(String) -> InferError) -> InferError {
    if let InferError::TextLength { .. } = error { wrong(error.to_string()) } else { error }
}

/// Says what keeps a line from being scored.
fn check(line: &ScoreLine, codec: &Codec) -> Result<(), String> {
    let (prompt, completion) = ids(line);
    codec.check("prompt", prompt)?;
    codec.check("completion", completion)?;
    let positions = codec.config().longest_sequence();
    if prompt.len() + completion.len() > positions {
        return Err(format!("longer than the {positions} tokens that the model reaches"));
    }
    if line.logprobs.as_ref().is_some_and(|given| given.len() != completion.len()) {
        return Err("`logprobs` are not one for each completion token".into());
    }
    Ok(())
}

fn ids(line: &ScoreLine) -> (&[u32], &[u32]) {
    (line.prompt_ids.as_deref().unwrap_or_default(), line.completion_ids.as_deref().unwrap_or_default())
}

/// Tokens of one pass, unless a single completion is longer.
const PASS_TOKENS: usize = 2048;

/// Loads the model of `codec` and computes the log-probabilities of all lines, in passes of neighbours that share prompts where they are equal; hands
/// each line over with them; after a `Break` the rest is given up. Log-probabilities that a line came with are compared, then
/// replaced.
///
/// # Errors
/// If there is no room for the model and a pass, before its weights are read; weights that are refused.
pub fn score<B: Backend>(
    b: &B,
    codec: &Codec,
    lines: Vec<ScoreLine>,
    temperature: f32,
    mut each: impl FnMut(ScoreLine) -> ControlFlow<()>,
) -> Result<ScoreSummary, InferError> {
    let longest = lines.iter().map(|l| ids(l).0.len() + ids(l).1.len()).max().unwrap_or(0);
    let rows = longest.max(PASS_TOKENS);
    plan_passes(b, codec, longest, rows)?;
    let model = codec.load(b, Some(longest))?;
    let mut activations = Activations::new(b, model.config(), rows, Purpose::Inference)?;
    let mut head = Head::new(b, model.config(), rows)?;
    let mut summary = ScoreSummary::default();
    let mut rest = lines.into_iter().peekable();
    while rest.peek().is_some() {
        let (mut layout, mut pass) = (Layout::default(), Vec::new());
        while let Some(line) = rest.next_if(|l| layout.len() + ids(l).0.len() + ids(l).1.len() <= rows) {
            let mut group = vec![line];
            let mut room = rows - layout.len() - ids(&group[0]).0.len() - ids(&group[0]).1.len();
            while let Some(line) = rest.next_if(|l| ids(l).0 == ids(&group[0]).0 && ids(l).1.len() <= room) {
                room -= ids(&line).1.len();
                group.push(line);
            }
            layout.push_group(ids(&group[0]).0, group.iter().map(|l| ids(l).1));
            pass.extend(group);
        }
        let layout = model.upload(b, layout)?;
        model.forward(b, &layout, &mut activations, None);
        let [log_probs, _] = model.log_probs(b, &activations, &layout, temperature, &mut head);
        let mut rest = &log_probs[..];
        for mut line in pass {
            let (own, others) = rest.split_at(ids(&line).1.len());
            rest = others;
            if let Some(given) = &line.logprobs {
                summary.compared += 1;
                let gaps = given.iter().zip(own).map(|(a, &b)| (a - b as f32).abs());
                summary.log_prob_gap = gaps.fold(summary.log_prob_gap, f32::max);
            }
            summary.completions += 1;
            summary.tokens += own.len();
            line.logprob_sum = Some(own.iter().sum());
            line.logprobs = Some(own.iter().map(|&p| p as f32).collect());
            if each(line).is_break() {
                return Ok(summary);
            }
        }
    }
    Ok(summary)
}
