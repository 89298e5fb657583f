//! Which part of a completion a model is shown.

use crate::extract::after_thinking;
use serde::{Deserialize, Serialize};

/// A part of a completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// What follows the thinking: all of it where there is none, nothing where the thinking does not end.
    #[default]
    Answer,
    /// Thinking and answer.
    Completion,
}

impl Part {
    /// This part of `completion`. `opened`: the prompt ended in `<think>`, so that text without `</think>` is thinking.
    pub fn of(self, completion: &str, opened: bool) -> &str {
        match self {
            Self::Completion => completion,
            Self::Answer if opened && !completion.contains("</think>") => "",
            Self::Answer => after_thinking(completion),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_what_follows_the_thinking() {
        for (completion, opened, answer) in [
            ("<think>a</think> b", false, " b"),
            ("a</think> b", true, " b"),
            ("b", false, "b"),
            ("a", true, ""),
            ("<think>a", false, ""),
            ("", false, ""),
        ] {
            assert_eq!(Part::Answer.of(completion, opened), answer, "{completion}");
            assert_eq!(Part::Completion.of(completion, opened), completion);
        }
    }
}
