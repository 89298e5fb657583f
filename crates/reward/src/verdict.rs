//! What a verifier says of a completion, and its score.

use serde::{Deserialize, Serialize};

/// The outcome of judging a completion: not only right or wrong, since only an answer that was read can be either.
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What became of the completion; [`Scores`] says what it is worth, unless `score` does.
    pub outcome: Outcome,
    /// A score of the verifier's own, where there are degrees between right and wrong. Finite.
    pub score: Option<f32>,
    /// The answer as it was found in the completion, shortened where long; absent where none could be read.
    pub parsed: Option<String>,
    /// Why, in a sentence for people.
    pub reason: String,
}

impl Verdict {
    /// A verdict on the answer `parsed`.
    pub fn new(outcome: Outcome, parsed: &str, reason: impl Into<String>) -> Self {
        Self { outcome, score: None, parsed: Some(shorten(parsed)), reason: reason.into() }
    }

    /// A verdict where no answer was read.
    pub fn without_answer(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self { outcome, score: None, parsed: None, reason: reason.into() }
    }

    /// A verdict of degree: correct where `score` reaches `best`, else wrong.
    pub fn graded(score: f32, best: f32, reason: impl Into<String>) -> Self {
        let outcome = if score >= best { Outcome::Correct } else { Outcome::Wrong };
        Self { outcome, score: Some(score), parsed: None, reason: reason.into() }
    }
}

/// The score of each outcome. Undecided completions and bad references have none unless one is set: a caller
/// masks what has no score, so that what was not decided is not punished.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scores {
    /// The score of a correct answer.
    pub correct: f32,
    /// The score of a wrong answer.
    pub wrong: f32,
    /// The score of a completion without a readable answer.
    pub unparsable: f32,
    /// The score of a completion that was not decided; none: masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undecided: Option<f32>,
    /// The score if the reference is bad; none: masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad_reference: Option<f32>,
}

impl Default for Scores {
    fn default() -> Self {
        Self { correct: 1.0, wrong: 0.0, unparsable: 0.0, undecided: None, bad_reference: None }
    }
}

impl Scores {
    /// The score of `verdict`: its own, or that of its outcome; `None` means masked.
    pub fn of(&self, verdict: &Verdict) -> Option<f32> {
        match verdict.outcome {
            Outcome::Undecided => self.undecided,
            Outcome::BadReference => self.bad_reference,
            _ if verdict.score.is_some() => verdict.score,
            Outcome::Correct => Some(self.correct),
            Outcome::Wrong => Some(self.wrong),
            Outcome::Unparsable => Some(self.unparsable),
        }
    }

    /// The name of the first score that is not a finite number.
    pub(crate) fn not_finite(&self) -> Option<&'static str> {
        let scores =
            [Some(self.correct), Some(self.wrong), Some(self.unparsable), self.undecided, self.bad_reference];
        let mut named = Outcome::ALL.iter().zip(scores);
        named
            .find(|(_, score)| score.is_some_and(|score| !score.is_finite()))
            .map(|(outcome, _)| outcome.name())
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

/// Whether `shown` is what [`shorten`] made of a longer text.
pub(crate) fn is_cut(shown: &str) -> bool {
    shown.ends_with('…')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_decided_is_masked() {
        let of_all = |scores: Scores| {
            Outcome::ALL.map(|outcome| scores.of(&Verdict::without_answer(outcome, "for a test")))
        };
        let scores = Scores { wrong: -0.5, ..Scores::default() };
        assert_eq!(of_all(scores), [Some(1.0), Some(-0.5), Some(0.0), None, None]);
        let strict = Scores { undecided: Some(-1.0), bad_reference: Some(0.5), ..scores };
        assert_eq!(of_all(strict), [Some(1.0), Some(-0.5), Some(0.0), Some(-1.0), Some(0.5)]);
        assert_eq!(Scores { undecided: Some(f32::NAN), ..scores }.not_finite(), Some("undecided"));
    }

    #[test]
    fn a_degree_is_its_own_score() {
        let half = Verdict::graded(0.5, 1.0, "half");
        assert_eq!((half.outcome, Scores::default().of(&half)), (Outcome::Wrong, Some(0.5)));
        assert_eq!(Verdict::graded(1.0, 1.0, "all").outcome, Outcome::Correct);
        let undecided = Verdict { outcome: Outcome::Undecided, ..half };
        assert_eq!(Scores::default().of(&undecided), None);
    }

    #[test]
    fn names_are_those_in_files() {
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_string(&outcome).expect("an enum"), format!("\"{}\"", outcome.name()));
        }
    }
}
