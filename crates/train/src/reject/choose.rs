//! Which completions of a problem are kept, among those that no filter refused.

use koan_generate::{Stream, uniform};
use koan_reward::Outcome;
use serde::{Deserialize, Serialize};

use super::{
    config::{RejectConfig, Which},
    filter::{Fate, outcome},
    pairs::{Pair, best_and_worst},
    sample::{Answer, Group},
};

/// Whether a completion is kept, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rejection {
    /// Whether it is kept, or else why not.
    pub fate: Fate,
    /// The share of correct completions of its problem among those that were decided; none if none was.
    pub pass_rate: Option<f64>,
    /// Its place in a pair, if it is one of preferences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<Paired>,
}

/// A completion's place in a pair.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Which pair of the problem, from 0.
    pub number: usize,
    /// Whether it is the better one.
    pub chosen: bool,
    /// By how much.
    pub margin: f64,
}

/// Which completions of a problem are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Of each completion.
    pub rejections: Vec<Rejection>,
    /// The problem's pass rate.
    pub pass_rate: Option<f64>,
    /// Whether rewards were asked, and decided nothing.
    pub undecided: bool,
    /// Rows that come of it.
    pub rows: usize,
    /// Whether two completions could have been compared, and all earned the same or nearly so.
    pub tied: bool,
    /// How a judge compared its pairs, if one did.
    pub comparisons: Comparisons,
    /// Why a judge said nothing of a pair, if it did not.
    pub silent: Option<String>,
}

/// How a judge compared pairs of a problem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparisons {
    /// Pairs that the judge was asked about.
    pub judged: u64,
    /// Of these, pairs of which it preferred another answer when their order changed: its own error.
    pub flipped: u64,
    /// Pairs whose difference was not clear: by no more than `keep.min_margin`.
    pub unclear: u64,
    /// Pairs of which it said nothing that could be read.
    pub undecided: u64,
}

impl Comparisons {
    /// Adds those of others.
    pub(super) fn add(&mut self, other: Self) {
        self.judged += other.judged;
        self.flipped += other.flipped;
        self.unclear += other.unclear;
        self.undecided += other.undecided;
    }
}

/// Chooses among the completions of `group`, which is of the problem at place `group.problem`. Pairs are compared by their
/// rewards; for those that a judge compares see `judge.rs`.
pub fn choose(config: &RejectConfig, group: &Group) -> Choice {
    let mut open = Open::of(config, group);
    if config.keep.which == Which::Preference {
        let (pairs, tied) = best_and_worst(config, &group.samples, &open.left, open.at_most);
        return Choice { tied, ..open.paired(&pairs) };
    }
    let order = in_order(config, group, std::mem::take(&mut open.left));
    let rows = order.len().min(open.at_most);
    order.into_iter().take(rows).for_each(|i| open.fates[i] = Some(Fate::Kept));
    Choice { rows, ..open.paired(&[]) }
}

/// The completions of a problem, some of them refused, the others to be chosen from.
pub(super) struct Open {
    fates: Vec<Option<Fate>>,
    pass_rate: Option<f64>,
    undecided: bool,
    /// Those that nothing refused.
    pub(super) left: Vec<usize>,
    /// Most rows.
    pub(super) at_most: usize,
}

impl Open {
    /// Asks all filters.
    pub(super) fn of(config: &RejectConfig, group: &Group) -> Self {
        let pass_rate = pass_rate(&group.samples);
        let undecided = pass_rate.is_none() && group.samples.iter().all(|s| !s.judgement.terms.is_empty());
        let mut fates = config.filter.refusals(group, config.compares_rewards());
        let [low, high] = config.keep.pass_rate;
        let is_outside = pass_rate.is_some_and(|rate| !(low..=high).contains(&rate));
        for fate in fates.iter_mut().filter(|fate| fate.is_none() && is_outside) {
            *fate = Some(Fate::PassRate);
        }
        let left = (0..fates.len()).filter(|&i| fates[i].is_none()).collect();
        Self { fates, pass_rate, undecided, left, at_most: config.keep.at_most(pass_rate) }
    }

    /// The choice of these pairs.
    pub(super) fn paired(self, pairs: &[Pair]) -> Choice {
        let Self { mut fates, pass_rate, undecided, .. } = self;
        let mut places = vec![None; fates.len()];
        for (number, pair) in pairs.iter().enumerate() {
            for (i, chosen) in [(pair.chosen, true), (pair.rejected, false)] {
                places[i] = Some(Paired { number, chosen, margin: pair.margin });
                fates[i] = Some(Fate::Kept);
            }
        }
        let rejection = |(fate, pair): (Option<Fate>, _)| Rejection {
            fate: fate.unwrap_or(Fate::Surplus),
            pass_rate,
            pair,
        };
        let rejections = fates.into_iter().zip(places).map(rejection).collect();
        Choice {
            rejections,
            pass_rate,
            undecided,
            rows: pairs.len(),
            tied: false,
            comparisons: Comparisons::default(),
            silent: None,
        }
    }
}

/// The share of correct completions among those that were decided.
fn pass_rate(samples: &[Answer]) -> Option<f64> {
    let decided = samples.iter().filter_map(outcome);
    let decided: Vec<Outcome> =
        decided.filter(|outcome| !matches!(outcome, Outcome::Undecided | Outcome::BadReference)).collect();
    let right = decided.iter().filter(|outcome| **outcome == Outcome::Correct).count();
    (!decided.is_empty()).then(|| right as f64 / decided.len() as f64)
}

/// The completions `left` in the order in which they are kept.
fn in_order(config: &RejectConfig, group: &Group, mut left: Vec<usize>) -> Vec<usize> {
    match config.keep.which {
        Which::First | Which::All | Which::Preference => {}
        Which::Shortest => left.sort_by_key(|&i| (tokens(&group.samples[i]), i)),
        Which::Random => {
            let key = |i: usize| uniform(config.stage.seed, Stream::Kept, group.problem as u64, i as u64, 0);
            left.sort_by(|&i, &j| key(i).total_cmp(&key(j)));
        }
    }
    left
}

pub(super) fn tokens(sample: &Answer) -> usize {
    sample.tokens
}
