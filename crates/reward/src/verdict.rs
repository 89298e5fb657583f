//! What a verifier says of a completion, and what that is worth.

use serde::{Deserialize, Serialize};

/// What became of a completion. Never just right or wrong: only an answer that was read can be either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The answer was read and equals the reference.
    Correct,
    /// The answer was read and differs from the reference.
    Wrong,
    /// The completion has no answer that could be read.
    Unparsable,
    /// The answer was read, but the comparison exceeds the verifier's budget.
    Undecided,
    /// The reference is not something that this verifier can compare with: the data is at fault.
    BadReference,
}

impl Outcome {
    /// Every outcome, in the order in which they are reported.
    pub const ALL: [Self; 5] =
        [Self::Correct, Self::Wrong, Self::Unparsable, Self::Undecided, Self::BadReference];

    /// The name used in files: `correct`, `wrong`, `unparsable`, `undecided`, `bad_reference`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Correct => "correct",
            Self::Wrong => "wrong",
            Self::Unparsable => "unparsable",
            Self::Undecided => "undecided",
            Self::BadReference => "bad_reference",
        }
    }
}

/// A verifier's judgement of one completion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What became of the completion; [`Scores`] says what it is worth.
    pub outcome: Outcome,
    /// The answer as it was found in the completion, shortened where long; absent where none could be read.
    pub parsed: Option<String>,
    /// Why, in a sentence for people.
    pub reason: String,
}

impl Verdict {
    /// A verdict on the answer `parsed`.
    pub(crate) fn new(outcome: Outcome, parsed: &str, reason: impl Into<String>) -> Self {
        Self { outcome, parsed: Some(shorten(parsed)), reason: reason.into() }
    }

    /// A verdict where no answer was read.
    pub(crate) fn without_answer(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self { outcome, parsed: None, reason: reason.into() }
    }
}

/// The reward of each outcome that has one. Undecided completions and bad references have none: a caller
/// masks them, so that nobody is punished for what was not decided.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scores {
    /// The reward of a correct answer.
    pub correct: f32,
    /// The reward of a wrong answer.
    pub wrong: f32,
    /// The reward of a completion without a readable answer.
    pub unparsable: f32,
}

impl Default for Scores {
    fn default() -> Self {
        Self { correct: 1.0, wrong: 0.0, unparsable: 0.0 }
    }
}

impl Scores {
    /// The reward of `outcome`; `None` means masked.
    pub fn of(&self, outcome: Outcome) -> Option<f32> {
        match outcome {
            Outcome::Correct => Some(self.correct),
            Outcome::Wrong => Some(self.wrong),
            Outcome::Unparsable => Some(self.unparsable),
            Outcome::Undecided | Outcome::BadReference => None,
        }
    }
}

/// `text` for a report: at most 80 characters, a cut marked by `…`.
pub(crate) fn shorten(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_decided_is_masked() {
        let scores = Scores { wrong: -0.5, ..Scores::default() };
        let of_all = Outcome::ALL.map(|outcome| scores.of(outcome));
        assert_eq!(of_all, [Some(1.0), Some(-0.5), Some(0.0), None, None]);
    }

    #[test]
    fn names_are_those_in_files() {
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_string(&outcome).expect("an enum"), format!("\"{}\"", outcome.name()));
        }
    }
}
