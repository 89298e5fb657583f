//! A line of a rollout file: a problem, what the model wrote, what it earned and why. `koan verify` replays it.

use std::borrow::Cow;

use koan_data::{Message, Problem};
use koan_generate::{Completion, FinishReason};
use koan_reward::{Judgement, Term};
use koan_text::{TextError, Tokenizer};
use serde::Serialize;
use serde_json::{Map, Value};

use super::rollout::Sample;

/// A completion, as a line says it.
pub(crate) struct Said<'a> {
    /// Its text, without special tokens.
    pub(crate) text: &'a str,
    /// How many tokens it has.
    pub(crate) tokens: usize,
    pub(crate) finish_reason: FinishReason,
    /// Its tokens, if it was sampled here.
    pub(crate) sampled: Option<&'a Completion>,
    pub(crate) judgement: &'a Judgement,
    pub(crate) advantage: Option<f32>,
}

impl<'a> From<&'a Sample> for Said<'a> {
    fn from(sample: &'a Sample) -> Self {
        let Sample { completion, text, judgement, advantage } = sample;
        Self {
            text,
            tokens: completion.token_ids.len(),
            finish_reason: completion.finish_reason,
            sampled: Some(completion),
            judgement,
            advantage: *advantage,
        }
    }
}

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
    /// Of what was sampled here.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_prob_sum: Option<f64>,
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
        said: impl Into<Said<'a>>,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Self, TextError> {
        let Said { text, tokens, finish_reason, sampled, judgement, advantage } = said.into();
        let token_texts = tokenizer.zip(sampled).map(|(tokenizer, sampled)| {
            sampled.token_ids.iter().map(|&id| tokenizer.decode(&[id], false)).collect::<Result<_, _>>()
        });
        let mut other = problem.other.clone();
        other.retain(|name, _| !RESERVED_FIELDS.contains(&name.as_str()));
        Ok(Self {
            step,
            id: &problem.id,
            sample: number,
            prompt: problem.messages(),
            completion: text,
            answer: &problem.answer,
            verifier: problem.reward.as_deref(),
            meta: problem.meta.as_ref(),
            finish_reason: finish_reason.name(),
            completion_tokens: tokens,
            log_prob_sum: sampled.map(|sampled| sampled.log_probs.iter().map(|&p| f64::from(p)).sum()),
            rewards: &judgement.terms,
            reward: judgement.reward,
            advantage,
            token_texts: token_texts.transpose()?,
            logprobs: sampled.filter(|_| tokenizer.is_some()).map(|sampled| &sampled.log_probs[..]),
            other,
        })
    }
}
