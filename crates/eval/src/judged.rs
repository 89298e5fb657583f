//! A completion and its verdict.

use koan_reward::{Judgement, Outcome};
use serde::{Deserialize, Serialize};

/// Why a completion ended, as files say it.
const STOP: &str = "stop";
const LENGTH: &str = "length";

/// A completion and its verdict, as files hold them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// What the model wrote, without special tokens.
    pub completion: String,
    /// Whether it is right, by the first reward.
    pub outcome: Outcome,
    /// The answer as it was found, shortened where long.
    pub parsed: Option<String>,
    /// Why, in a sentence.
    pub reason: String,
    /// Its length in tokens.
    pub completion_tokens: usize,
    /// `stop` or `length`.
    pub finish_reason: String,
    /// What a reviewer said of it, beside the judge: whether it should reach people; none: there is none, or it did not decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<String>,
}

/// The name of the reward that reviews.
pub const REVIEWER: &str = "reviewer";

impl Judged {
    /// From a text and what the rewards say of it; `truncated`: it was cut at its longest length.
    pub fn of(completion: &str, judgement: &Judgement, tokens: usize, truncated: bool) -> Self {
        let term = &judgement.terms[0];
        Self {
            completion: completion.to_owned(),
            outcome: term.outcome,
            parsed: term.parsed.clone(),
            reason: term.reason.clone(),
            completion_tokens: tokens,
            finish_reason: if truncated { LENGTH } else { STOP }.to_owned(),
            review: judgement
                .terms
                .iter()
                .skip(1)
                .find(|term| term.name == REVIEWER)
                .and_then(|term| term.parsed.clone()),
        }
    }

    /// Whether it was cut at its longest length.
    pub fn truncated(&self) -> bool {
        self.finish_reason == LENGTH
    }
}
