//! The term `repetition`: a penalty for n-grams of words that were written before (as in Open-R1; one of the penalties of
//! arXiv:2502.03373):
//!
//! ```text
//! −(1 − different n-grams / n-grams)
//! ```
//!
//! from 0, where every n-gram (`ngram`, 3 by default) occurs once, down to −1. Its weight is the largest
//! penalty. Words are separated by white space and taken in lower case; each Han or kana character is a word. A text
//! of fewer than n words repeats nothing.

use super::is_word_alone;
use crate::Verdict;
use crate::verifier::{Configured, Context, Sample, Verifier};
use koan_data::Problem;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// The options of `repetition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How many words an n-gram has.
    pub ngram: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { ngram: 3 }
    }
}

/// Judges how much a completion repeats itself.
#[derive(Clone, Copy, Debug)]
pub struct Repetition(Options);

/// The most words of an n-gram: longer ones hardly ever repeat, and take time.
pub const MAX_NGRAM: usize = 100;

impl Configured for Repetition {
    type Options = Options;

    fn build(options: Options, _: &Context) -> Result<Self, String> {
        if !(1..=MAX_NGRAM).contains(&options.ngram) {
            return Err(format!("`ngram` is {}; write a number from 1 to {MAX_NGRAM}", options.ngram));
        }
        Ok(Self(options))
    }
}

impl Verifier for Repetition {
    fn judge(&self, sample: &Sample) -> Verdict {
        judge(sample.completion, &self.0)
    }

    fn check(&self, _: &Problem) -> Result<(), String> {
        Ok(())
    }
}

/// Judges how much `completion` repeats itself.
pub fn judge(completion: &str, options: &Options) -> Verdict {
    let text = completion.to_lowercase();
    let words: Vec<&str> = words(&text).collect();
    let all = words.windows(options.ngram).len();
    let different = words.windows(options.ngram).collect::<HashSet<_>>().len();
    let score = 0.0 - (all - different) as f32 / all.max(1) as f32;
    Verdict::graded(score, 0.0, format!("{different} of {all} {}-grams are different", options.ngram))
}

/// The words of `text`: between white space, and each Han or kana character by itself.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().flat_map(|word| {
        let ends = word.char_indices().flat_map(|(at, c)| {
            let alone = is_word_alone(c);
            [alone.then_some(at), alone.then_some(at + c.len_utf8())].into_iter().flatten()
        });
        let mut from = 0;
        let pieces = ends.chain([word.len()]).map(move |end| &word[std::mem::replace(&mut from, end)..end]);
        pieces.filter(|piece| !piece.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;
    use proptest::prelude::*;

    #[test]
    fn words_are_between_spaces_and_han_stand_alone() {
        assert_eq!(
            words(" wait, 答案是x2 。\n").collect::<Vec<_>>(),
            ["wait,", "答", "案", "是", "x2", "。"]
        );
        assert_eq!(words("").count(), 0);
    }

    #[test]
    fn the_penalty_is_the_share_that_was_written_before() {
        for (text, ngram, score) in [
            ("", 3, 0.0),
            ("a b", 3, 0.0),
            ("a b c d", 3, 0.0),
            ("a b c a b c", 3, -0.25),       // abc bca cab abc: 3 of 4 differ
            ("So so SO so so so", 3, -0.75), // 1 of 4
            ("a b a b a", 2, -0.5),          // ab ba ab ba: 2 of 4
            ("是是是是", 1, -0.75),
        ] {
            let verdict = judge(text, &Options { ngram });
            assert_eq!(verdict.score, Some(score), "{text}");
            assert_eq!(verdict.outcome == Outcome::Correct, score == 0.0, "{text}");
        }
    }

    #[test]
    fn options_are_checked() {
        for ngram in [0, MAX_NGRAM + 1] {
            let error = Repetition::build(Options { ngram }, &Context::default()).expect_err("refused");
            assert!(error.contains("1 to 100"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn is_total(text in "(?s).{0,60}|([ab是] ?){0,60}", ngram in 1..=5_usize) {
            let score = judge(&text, &Options { ngram }).score.expect("always");
            prop_assert!((-1.0..=0.0).contains(&score), "{score}");
        }
    }
}
