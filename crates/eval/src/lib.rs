//! How good a model is, honestly: accuracy with a confidence interval, pass@k, majority vote, tokens. Statistics of judged
//! completions: what drew them is not its concern.
//!
//! - [`Judged`]: a completion and its verdict,
//! - [`Report`], [`Score`]: what completions come to; [`pass_at_k()`], [`majority()`] and [`Interval`] say how,
//! - [`Comparison`]: two measurements, paired over their problems; [`Difference`], [`sign_flip_p`]: how sure the difference is,
//! - [`Suite`], [`SuiteRow`]: several data sets as one measurement of several models; [`chart()`]: accuracy against cost,
//! - [`SafetyReport`]: how a model meets requests that may be harmful,
//! - [`PreferenceReport`], [`LabelReport`]: what a reward model's scores come to,
//! - [`Journal`]: completions kept as they come, so that a killed run goes on.
#![forbid(unsafe_code)]

mod bootstrap;
mod chart;
mod compare;
mod interval;
mod journal;
mod judged;
mod majority;
mod pass_at_k;
mod preference;
mod report;
pub mod safety;
mod suite;

pub use bootstrap::{Difference, RESAMPLES, sign_flip_p};
pub use chart::chart;
pub use compare::{
    Better, Changed, CompareError, Comparison, Differs, MAX_REPORT_BYTES, Measurement, OneEach, Side,
};
pub use interval::Interval;
pub use journal::{Completions, Journal, JournalError, differences};
pub use judged::{Judged, REVIEWER};
pub use majority::majority;
pub use pass_at_k::pass_at_k;
pub use preference::{
    Bin, LabelReport, LabelShare, MarginBin, PreferenceReport, ScoredLabel, ScoredPair, Share,
};
pub use report::{Estimate, GROUPED_BY, Group, MAX_GROUPS, PassAtK, ProblemScore, Report, Score, Undecided};
pub use safety::{Reviewed, SafetyGroup, SafetyReport, SafetyShares};
pub use suite::{Figures, MAX_SUITE_BYTES, Set, SetKind, Suite, SuiteError, SuiteRow, SuiteTable};
