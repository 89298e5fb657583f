//! Verifiers: what a completion earned, and why.
//!
//! A [`Verifier`] looks at a [`Sample`], a completion and the problem it answers, and returns a [`Verdict`]. It
//! is total: any text gets one of five [`Outcome`]s, never an error and never a panic, and model text is parsed,
//! never evaluated. [`Scores`] turns a verdict into a score; what was not decided has none and is masked.
//! [`Rewards`] is the weighted sum that a run's `[[reward]]` tables ask for.
//!
//! | module | holds |
//! |---|---|
//! | [`verdict`] | outcomes, verdicts and scores |
//! | [`verifier`] | what a verifier is, and the table of their kinds |
//! | [`reward`] | the weighted sum of verifiers |
//! | [`mod@number`] | the verifier `number`: the final answer is a number, compared exactly |
//! | [`mod@code`] | the verifier `code`: a Python program is judged by tests, in a sandbox |
//! | [`ifeval`] | the verifier `ifeval`: a reply keeps a constraint that its prompt states |
//! | [`puzzle`] | the verifiers `countdown`, `assignment` and `words` |
//! | [`external`] | the verifier `external`: a program or a server of the user's own |
//! | [`judge`] | the reward `judge`: a language model grades, compares, or finds agreement |
//! | [`mod@server`] | a client of servers with OpenAI's API, for judges and for who asks for completions |
//! | [`scorer`] | the reward `model`: a reward model scores |
//! | [`models`] | what models that judge are asked: a trait, implemented where there is an engine |
//! | [`settle`] | terms that models decide, filled in for many completions at once |
//! | [`form`] | the terms of form: `format`, `language`, `length`, `repetition` |
//! | [`math`] | the verifier `math`: the final answer is mathematics, compared by its meaning |
//! | `background` | completions judged while others are still being sampled |
//! | [`mod@replay`] | verdicts over a JSON Lines file of completions |
//! | [`error`] | what can go wrong outside model text: names and files |
//!
//! # Adding a verifier
//!
//! 1. Write `src/<name>.rs`. Its header says what it accepts; it must return for every text, in time linear in
//!    it or within a named budget.
//! 2. Add `pub mod <name>;` here and a row to [`KINDS`]: `Kind::plain` for a function of the sample that looks at
//!    the reference first, or `Kind::configured` for a type that implements [`Verifier`] and is built from options
//!    (TOML) of its own. The problem's own fields (`sample.problem.other`) override options that can differ
//!    between problems.
//! 3. Test what it must accept, what it must refuse, and by property test that it is total.
#![forbid(unsafe_code)]

mod background;
pub mod code;
pub mod error;
pub mod external;
mod extract;
pub mod form;
pub mod ifeval;
pub mod judge;
pub mod math;
pub mod models;
pub mod number;
mod part;
pub mod puzzle;
mod rational;
pub mod replay;
pub mod reward;
pub mod scorer;
mod separators;
pub mod server;
pub mod settle;
mod standard;
pub mod verdict;
pub mod verifier;

pub use background::Job;
pub use error::RewardError;
pub use koan_data::Problem;
pub use models::{Models, ModelsError, NoModels};
pub use part::Part;
pub use replay::{Replay, Report, Summary};
pub use reward::{BadReference, Judgement, Replaced, RewardConfig, Rewards, Term};
pub use settle::Unsettled;
pub use standard::Standard;
pub use verdict::{Outcome, Scores, Verdict};
pub use verifier::{Context, KINDS, Kind, Options, Sample, Verifier};
