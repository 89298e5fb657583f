//! How good a model is, honestly: accuracy with a confidence interval, pass@k, majority vote, tokens. Statistics of judged
//! completions: what drew them is not its concern.
//!
//! - [`Judged`]: a completion and its verdict,
//! - [`Report`], [`Score`]: what completions come to; [`pass_at_k()`], [`majority()`] and [`Interval`] say how,
//! - [`PreferenceReport`], [`LabelReport`]: what a reward model's scores come to,
//! - [`Journal`]: completions kept as they come, so that a killed run goes on.
#![forbid(unsafe_code)]

mod interval;
mod journal;
mod judged;
mod majority;
mod pass_at_k;
mod preference;
mod report;

pub use interval::Interval;
pub use journal::{Completions, Journal, JournalError};
pub use judged::Judged;
pub use majority::majority;
pub use pass_at_k::pass_at_k;
pub use preference::{
    Bin, LabelReport, LabelShare, MarginBin, PreferenceReport, ScoredLabel, ScoredPair, Share,
};
pub use report::{Estimate, GROUPED_BY, Group, MAX_GROUPS, PassAtK, ProblemScore, Report, Score, Undecided};
