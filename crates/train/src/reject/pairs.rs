//! Which completions of a problem make pairs, and which of all pairs are kept.

use koan_generate::{Stream, uniform};

use super::{
    choose::tokens,
    config::RejectConfig,
    sample::{Answer, Group},
};

/// A pair of completions, by their numbers.
pub(super) struct Pair {
    /// The better one.
    pub(super) chosen: usize,
    pub(super) rejected: usize,
    /// By how much.
    pub(super) margin: f64,
}

/// The best completions beside the worst, at most `at_most` pairs in which none comes twice: the largest difference of rewards
/// first, and among equal ones that of the most equal lengths. Says whether there was something to compare, and no pair.
pub(super) fn best_and_worst(
    config: &RejectConfig,
    samples: &[Answer],
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
        if best - worst <= config.min_margin() || fair.is_empty() {
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
fn nearest(samples: &[Answer], a: &[usize], b: &[usize]) -> (usize, usize) {
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

/// Pairs of the completions `left` of `group` for a judge: each with the one next to it in length, so that neither is preferred for
/// its length; at most `at_most` of them, which ones by the seed.
pub(super) fn neighbours(
    config: &RejectConfig,
    group: &Group,
    left: &[usize],
    at_most: usize,
) -> Vec<[usize; 2]> {
    let mut by_length = left.to_vec();
    by_length.sort_by_key(|&i| (tokens(&group.samples[i]), i));
    let mut pairs: Vec<[usize; 2]> = by_length.as_chunks::<2>().0.to_vec();
    let key = |pair: &[usize; 2]| {
        uniform(config.stage.seed, Stream::Kept, group.problem as u64, pair[0] as u64, pair[1] as u64)
    };
    pairs.sort_by(|a, b| key(a).total_cmp(&key(b)));
    pairs.truncate(at_most);
    pairs
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
