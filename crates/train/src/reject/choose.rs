//! Which completions of a problem are kept, among those that no filter refused; and which make pairs.

use koan_generate::{Stream, uniform};
use koan_reward::Outcome;
use serde::{Deserialize, Serialize};

use super::{
    config::{RejectConfig, Which},
    filter::{Fate, outcome},
    sample::Group,
};
use crate::rl::Sample;

/// What became of a completion.
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

/// What became of the completions of a problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Of each completion.
    pub rejections: Vec<Rejection>,
    /// The problem's pass rate.
    pub pass_rate: Option<f64>,
    /// Rows that come of it.
    pub rows: usize,
    /// Whether two completions could have been compared, and all earned the same or nearly so.
    pub tied: bool,
}

/// Chooses among the completions of `group`, which is of the problem at place `group.problem`.
pub fn choose(config: &RejectConfig, group: &Group) -> Choice {
    let (filter, keep) = (&config.filter, &config.keep);
    let pass_rate = pass_rate(&group.samples);
    let mut fates = filter.refusals(group, keep.which);
    let [low, high] = keep.pass_rate;
    let is_outside = pass_rate.is_some_and(|rate| !(low..=high).contains(&rate));
    for fate in fates.iter_mut().filter(|fate| fate.is_none() && is_outside) {
        *fate = Some(Fate::PassRate);
    }
    let left: Vec<usize> = (0..fates.len()).filter(|&i| fates[i].is_none()).collect();
    let at_most = keep.at_most(pass_rate);
    let (mut pairs, mut tied) = (vec![None; fates.len()], false);
    let rows;
    if keep.which == Which::Preference {
        let (found, are_equal) = best_and_worst(config, &group.samples, &left, at_most);
        (rows, tied) = (found.len(), are_equal);
        for (number, pair) in found.into_iter().enumerate() {
            for (i, chosen) in [(pair.chosen, true), (pair.rejected, false)] {
                pairs[i] = Some(Paired { number, chosen, margin: pair.margin });
                fates[i] = Some(Fate::Kept);
            }
        }
    } else {
        let order = in_order(config, group, left);
        rows = order.len().min(at_most);
        order.into_iter().take(at_most).for_each(|i| fates[i] = Some(Fate::Kept));
    }
    let rejection =
        |(fate, pair): (Option<Fate>, _)| Rejection { fate: fate.unwrap_or(Fate::Surplus), pass_rate, pair };
    let rejections = fates.into_iter().zip(pairs).map(rejection).collect();
    Choice { rejections, pass_rate, rows, tied }
}

/// The share of correct completions among those that were decided.
fn pass_rate(samples: &[Sample]) -> Option<f64> {
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

/// A pair of completions, by their numbers.
struct Pair {
    chosen: usize,
    rejected: usize,
    margin: f64,
}

/// The best completions beside the worst, at most `at_most` pairs in which none comes twice: the largest difference of rewards
/// first, and among equal ones that of the most equal lengths. Says whether there was something to compare, and no pair.
fn best_and_worst(
    config: &RejectConfig,
    samples: &[Sample],
    left: &[usize],
    at_most: usize,
) -> (Vec<Pair>, bool) {
    let reward = |i: usize| f64::from(samples[i].judgement.reward.unwrap_or(0.0));
    let mut free = left.to_vec();
    let mut pairs = Vec::new();
    while pairs.len() < at_most && free.len() >= 2 {
        let fair: Vec<usize> =
            free.iter().copied().filter(|&i| config.filter.by_outcome(&samples[i]).is_none()).collect();
        let best = fair.iter().map(|&i| reward(i)).fold(f64::NEG_INFINITY, f64::max);
        let worst = free.iter().map(|&i| reward(i)).fold(f64::INFINITY, f64::min);
        if best - worst <= config.keep.min_margin || fair.is_empty() {
            break;
        }
        let of = |value: f64, all: &[usize]| {
            let mut those: Vec<usize> = all.iter().copied().filter(|&i| reward(i) == value).collect();
            those.sort_by_key(|&i| (tokens(&samples[i]), i));
            those
        };
        let (chosen, rejected) = nearest(samples, &of(best, &fair), &of(worst, &free));
        free.retain(|&i| i != chosen && i != rejected);
        pairs.push(Pair { chosen, rejected, margin: best - worst });
    }
    let tied = pairs.is_empty() && left.len() >= 2;
    (pairs, tied)
}

/// Of two lists of completions in the order of their lengths, neither empty: one of each, of the most equal lengths.
fn nearest(samples: &[Sample], a: &[usize], b: &[usize]) -> (usize, usize) {
    let length = |i: usize| tokens(&samples[i]);
    let (mut i, mut j) = (0, 0);
    let mut found = (usize::MAX, a[0], b[0]);
    while i < a.len() && j < b.len() {
        let (x, y) = (length(a[i]), length(b[j]));
        if x.abs_diff(y) < found.0 {
            found = (x.abs_diff(y), a[i], b[j]);
        }
        if x < y { i += 1 } else { j += 1 }
    }
    (found.1, found.2)
}

fn tokens(sample: &Sample) -> usize {
    sample.completion.token_ids.len()
}

/// Which of pairs, given by the lengths of chosen and rejected, are kept so that the mean lengths of both differ by no more
/// than the share `balance` of their mean: those in which the side that is longer in all is longer by the most go first.
pub(super) fn balanced(lengths: &[(usize, usize)], balance: f64) -> Vec<bool> {
    let mut kept = vec![true; lengths.len()];
    let difference = |&(chosen, rejected): &(usize, usize)| chosen as i64 - rejected as i64;
    let mut sum: i64 = lengths.iter().map(difference).sum();
    let mut all: usize = lengths.iter().map(|(chosen, rejected)| chosen + rejected).sum();
    let sign = sum.signum();
    let mut order: Vec<usize> =
        (0..lengths.len()).filter(|&i| difference(&lengths[i]).signum() == sign).collect();
    order.sort_by_key(|&i| (difference(&lengths[i]).abs(), std::cmp::Reverse(i)));
    // |Σc − Σr| / n  against  balance · (Σc + Σr) / 2n
    while sum.signum() == sign && sum.abs() as f64 > balance * all as f64 / 2.0 {
        let Some(i) = order.pop() else { break };
        kept[i] = false;
        sum -= difference(&lengths[i]);
        all -= lengths[i].0 + lengths[i].1;
    }
    kept
}
