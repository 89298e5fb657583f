//! A line of a rollout file: a problem, what the model wrote, what it earned and why. `koan verify` replays it.

use std::borrow::Cow;

use koan_data::{Message, Problem};
use koan_reward::Term;
use koan_text::{TextError, Tokenizer};
use serde::Serialize;
use serde_json::{Map, Value};

use super::rollout::Sample;

/// The line, in the order of its fields.
#[derive(Serialize)]
pub(crate) struct RolloutLine<'a> {
    step: u64,
    id: &'a str,
    sample: usize,
    prompt: Cow<'a, [Message]>,
    completion: &'a str,
    answer: &'a str,
    /// The problem's own `reward`; under that name stands what the completion earned.
    #[serde(skip_serializing_if = "Option::is_none")]
    verifier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a Map<String, Value>>,
    finish_reason: &'static str,
    completion_tokens: usize,
    log_prob_sum: f64,
    rewards: &'a [Term],
    reward: Option<f32>,
    advantage: Option<f32>,
    /// The text of each token, special ones too; U+FFFD where a token is a part of a character.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_texts: Option<Vec<String>>,
    /// The log-probability of each token, under the distribution it was sampled from.
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'a [f32]>,
    /// All other fields of the problem: its `tests`, limits, …
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// Names that stand for something else in a line than in a problem.
const RESERVED_FIELDS: [&str; 13] = [
    "step",
    "sample",
    "completion",
    "verifier",
    "finish_reason",
    "completion_tokens",
    "log_prob_sum",
    "rewards",
    "reward",
    "advantage",
    "token_texts",
    "logprobs",
    "rejection",
];

impl<'a> RolloutLine<'a> {
    /// The line of sample number `number` of `problem`. With a `tokenizer`, every token is shown with its probability.
    pub(crate) fn new(
        step: u64,
        problem: &'a Problem,
        number: usize,
        sample: &'a Sample,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Self, TextError> {
        let completion = &sample.completion;
        let token_texts = tokenizer.map(|tokenizer| {
            completion.token_ids.iter().map(|&id| tokenizer.decode(&[id], false)).collect::<Result<_, _>>()
        });
        let mut other = problem.other.clone();
        other.retain(|name, _| !RESERVED_FIELDS.contains(&name.as_str()));
        Ok(Self {
            step,
            id: &problem.id,
            sample: number,
            prompt: problem.messages(),
            completion: &sample.text,
            answer: &problem.answer,
            verifier: problem.reward.as_deref(),
            meta: problem.meta.as_ref(),
            finish_reason: completion.finish_reason.name(),
            completion_tokens: completion.token_ids.len(),
            log_prob_sum: completion.log_probs.iter().map(|&p| f64::from(p)).sum(),
            rewards: &sample.judgement.terms,
            reward: sample.judgement.reward,
            advantage: sample.advantage,
            token_texts: token_texts.transpose()?,
            logprobs: tokenizer.map(|_| &completion.log_probs[..]),
            other,
        })
    }
}
