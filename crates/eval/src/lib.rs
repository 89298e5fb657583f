//! How good a model is, honestly: accuracy with a confidence interval, tokens and seconds.
//!
//! - [`PromptStyle`]: how a problem becomes the tokens a model is asked with, the same in training and measurement,
//! - [`evaluate`]: draws completions for every problem, judges them, and sums up as a [`Report`],
//! - [`complete`]: completions for a file of prompts; [`score`]: log-probabilities of given completions,
//! - [`Interval`]: the confidence interval of an accuracy measured on problems with several samples each.
#![forbid(unsafe_code)]

mod complete;
mod evaluate;
mod interval;
mod prompt;
mod score;

pub use complete::{Completed, CompletionLine, PromptLine, Work, complete, read_prompts};
pub use evaluate::{EvalError, Judged, Report, evaluate};
pub use interval::Interval;
pub use prompt::PromptStyle;
pub use score::{ScoreError, ScoreLine, ScoreSummary, read_score_lines, score};
