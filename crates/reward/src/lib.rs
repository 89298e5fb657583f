//! Verifiers: what a completion earned, and why.
//!
//! A [`Verifier`] compares a completion with a reference answer and returns a [`Verdict`]. It is total: any
//! text gets one of five [`Outcome`]s, never an error and never a panic, and model text is parsed, never
//! evaluated. [`Scores`] turns an outcome into a reward; what was not decided has none and is masked.
//!
//! | module | holds |
//! |---|---|
//! | [`verdict`] | outcomes, verdicts and scores |
//! | `verifier` | the table of verifiers, and finding one by its name |
//! | [`mod@number`] | the verifier `number`: the final answer is a number, compared exactly |
//! | [`mod@format`] | the verifier `format`: one `<think>` block, then one `<answer>` block |
//! | [`mod@replay`] | verdicts over a JSON Lines file of completions |
//! | [`error`] | what can go wrong outside model text: names and files |
//!
//! # Adding a verifier
//!
//! 1. Write `src/<name>.rs` with `pub fn judge(completion: &str, answer: &str) -> Verdict`. Its header says
//!    what it accepts; it must return for every pair of strings, in time linear in them or within a named
//!    budget.
//! 2. Add `mod <name>;` here and one line to [`VERIFIERS`].
//! 3. Test what it must accept, what it must refuse, and by property test that it is total.
#![forbid(unsafe_code)]

pub mod error;
mod extract;
pub mod format;
pub mod number;
mod rational;
pub mod replay;
pub mod verdict;
mod verifier;

pub use error::RewardError;
pub use replay::{Summary, replay};
pub use verdict::{Outcome, Scores, Verdict};
pub use verifier::{VERIFIERS, Verifier};
