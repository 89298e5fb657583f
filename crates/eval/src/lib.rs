//! How good a model is, honestly: accuracy with a confidence interval, pass@k, majority vote, tokens.
//!
//! - [`PromptStyle`]: how a problem becomes the tokens a model is asked with, the same in training and measurement,
//! - [`Evaluation`]: draws completions for every problem and judges them,
//! - [`Report`], [`Score`]: what they come to; [`pass_at_k()`], [`majority()`] and [`Interval`] say how,
//! - [`Journal`]: completions kept as they come, so that a killed run goes on,
//! - [`complete`]: completions for a file of prompts; [`score`]: log-probabilities of given completions.
#![forbid(unsafe_code)]

mod complete;
mod evaluate;
mod interval;
mod journal;
mod majority;
mod pass_at_k;
mod prompt;
mod report;
mod score;

pub use complete::{CompleteError, Completed, CompletionLine, PromptLine, Work, complete, read_prompts};
pub use evaluate::{EvalError, Evaluation, Judged};
pub use interval::Interval;
pub use journal::{Completions, Journal, JournalError};
pub use majority::majority;
pub use pass_at_k::pass_at_k;
pub use prompt::PromptStyle;
pub use report::{Estimate, GROUPED_BY, Group, MAX_GROUPS, PassAtK, ProblemScore, Report, Score};
pub use score::{ScoreError, ScoreLine, ScoreSummary, read_score_lines, score};
