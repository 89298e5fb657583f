//! How well the scores of a reward model agree with preferences.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Interval;

/// Bins of [`PreferenceReport::calibration`], of equal width from 1/2 to 1.
const BINS: usize = 5;

/// A pair with what a reward model says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredPair {
    /// Score of the chosen reply.
    pub chosen: f64,
    /// Score of the rejected reply.
    pub rejected: f64,
    /// Tokens of the chosen reply.
    pub chosen_tokens: usize,
    /// Tokens of the rejected reply.
    pub rejected_tokens: usize,
    /// What kind of pair it is, if the data say so.
    pub category: Option<String>,
}

impl ScoredPair {
    /// Whether the chosen reply has the higher score; a tie is none.
    fn is_right(&self) -> bool {
        self.chosen > self.rejected
    }
}

/// What a reward model's scores are worth, measured on pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PreferenceReport {
    /// How many pairs.
    pub pairs: usize,
    /// Pairs whose replies have the same score: they count as wrong.
    pub ties: usize,
    /// Share of pairs whose chosen reply has the higher score, with its 95% interval.
    pub pairwise_accuracy: Interval,
    /// The same of each category that the data name.
    pub by_category: BTreeMap<String, Category>,
    /// The same of pairs whose chosen reply is the shorter one: a model that prefers what is longer is wrong here.
    pub where_chosen_is_shorter: Category,
    /// What always preferring the longer reply would reach; pairs of equal length count half.
    pub longer_is_chosen: f64,
    /// Correlation (Pearson's) between a reply's tokens and its score, over all replies: how far the score follows mere length.
    /// None where all lengths or all scores are the same.
    pub length_correlation: Option<f64>,
    /// Whether σ of the difference of scores is the share of pairs that are right: pairs by that probability of the reply
    /// that the model prefers.
    pub calibration: Vec<Bin>,
    /// Mean score of all replies.
    pub score_mean: f64,
    /// Their standard deviation.
    pub score_std: f64,
}

/// Some of the pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Category {
    /// How many.
    pub pairs: usize,
    /// Share that is right, with its 95% interval.
    pub pairwise_accuracy: Interval,
}

/// Pairs of which the model is about equally sure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// The least probability in the bin.
    pub from: f64,
    /// The largest.
    pub to: f64,
    /// How many pairs.
    pub pairs: usize,
    /// Mean probability that the model gives the reply it prefers.
    pub predicted: f64,
    /// Share of pairs in which that is the chosen one.
    pub observed: f64,
}

impl PreferenceReport {
    /// The report of `pairs`.
    pub fn of(pairs: &[ScoredPair]) -> Self {
        let mut by_category: BTreeMap<String, Vec<&ScoredPair>> = BTreeMap::new();
        for pair in pairs {
            if let Some(category) = &pair.category {
                by_category.entry(category.clone()).or_default().push(pair);
            }
        }
        let all: Vec<&ScoredPair> = pairs.iter().collect();
        let shorter: Vec<&ScoredPair> =
            pairs.iter().filter(|p| p.chosen_tokens < p.rejected_tokens).collect();
        let longer = pairs.iter().map(|p| match p.chosen_tokens.cmp(&p.rejected_tokens) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        });
        let replies: Vec<[f64; 2]> = pairs
            .iter()
            .flat_map(|p| [[p.chosen_tokens as f64, p.chosen], [p.rejected_tokens as f64, p.rejected]])
            .collect();
        let [_, [score_mean, score_std]] = moments(&replies);
        Self {
            pairs: pairs.len(),
            ties: pairs.iter().filter(|p| p.chosen == p.rejected).count(),
            pairwise_accuracy: Category::of(&all).pairwise_accuracy,
            by_category: by_category.into_iter().map(|(name, p)| (name, Category::of(&p))).collect(),
            where_chosen_is_shorter: Category::of(&shorter),
            longer_is_chosen: longer.sum::<f64>() / pairs.len().max(1) as f64,
            length_correlation: correlation(&replies),
            calibration: calibration(pairs),
            score_mean,
            score_std,
        }
    }
}

impl Category {
    fn of(pairs: &[&ScoredPair]) -> Self {
        let right: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.is_right())).collect();
        Self { pairs: pairs.len(), pairwise_accuracy: Interval::of(&right, 1) }
    }
}

fn calibration(pairs: &[ScoredPair]) -> Vec<Bin> {
    let width = 0.5 / BINS as f64;
    let mut bins: Vec<Bin> = (0..BINS)
        .map(|i| 0.5 + width * i as f64)
        .map(|from| Bin { from, to: from + width, pairs: 0, predicted: 0.0, observed: 0.0 })
        .collect();
    for pair in pairs {
        let sure = 1.0 / (1.0 + (-(pair.chosen - pair.rejected).abs()).exp());
        let bin = &mut bins[(((sure - 0.5) / width) as usize).min(BINS - 1)];
        bin.pairs += 1;
        bin.predicted += sure;
        bin.observed += f64::from(pair.is_right());
    }
    for bin in &mut bins {
        bin.predicted /= bin.pairs.max(1) as f64;
        bin.observed /= bin.pairs.max(1) as f64;
    }
    bins.retain(|bin| bin.pairs > 0);
    bins
}

/// Mean and standard deviation of both coordinates.
fn moments(points: &[[f64; 2]]) -> [[f64; 2]; 2] {
    let n = points.len().max(1) as f64;
    [0, 1].map(|i| {
        let mean = points.iter().map(|p| p[i]).sum::<f64>() / n;
        let variance = points.iter().map(|p| (p[i] - mean).powi(2)).sum::<f64>() / n;
        [mean, variance.sqrt()]
    })
}

/// Pearson's correlation of the two coordinates.
fn correlation(points: &[[f64; 2]]) -> Option<f64> {
    let [[mean_x, std_x], [mean_y, std_y]] = moments(points);
    let covariance = points.iter().map(|[x, y]| (x - mean_x) * (y - mean_y)).sum::<f64>();
    let scale = points.len() as f64 * std_x * std_y;
    (scale > 0.0).then(|| covariance / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(chosen: f64, rejected: f64, tokens: [usize; 2], category: &str) -> ScoredPair {
        let category = Some(category.to_owned()).filter(|name| !name.is_empty());
        ScoredPair { chosen, rejected, chosen_tokens: tokens[0], rejected_tokens: tokens[1], category }
    }

    #[test]
    fn what_is_reported_is_what_is_there() {
        let report = PreferenceReport::of(&[
            pair(1.0, 0.0, [3, 2], "a"),
            pair(0.0, 1.0, [1, 2], "a"),
            pair(2.0, 2.0, [4, 4], "b"),
            pair(5.0, -5.0, [1, 9], ""),
        ]);
        assert_eq!((report.pairs, report.ties), (4, 1));
        assert_eq!(report.pairwise_accuracy.accuracy, 0.5, "a tie is not right");
        assert_eq!(report.by_category["a"].pairwise_accuracy.accuracy, 0.5);
        assert_eq!(report.by_category["b"].pairs, 1);
        assert_eq!((report.where_chosen_is_shorter.pairs, report.longer_is_chosen), (2, 0.375));
        assert_eq!(report.where_chosen_is_shorter.pairwise_accuracy.accuracy, 0.5);
        assert_eq!(report.calibration.iter().map(|bin| bin.pairs).collect::<Vec<_>>(), [1, 2, 1]);
        assert_eq!(report.calibration[1].observed, 0.5);
        assert!(report.calibration[2].predicted > 0.99);
        assert_eq!(report.score_mean, 0.75);
    }

    #[test]
    fn a_score_that_is_the_length_is_found_out() {
        let by_length = |n: usize| pair(n as f64, 2.0, [n, 2], "");
        let report = PreferenceReport::of(&[by_length(5), by_length(7), by_length(3)]);
        assert!((report.length_correlation.expect("it varies") - 1.0).abs() < 1e-12);
        assert_eq!(report.longer_is_chosen, 1.0);
        let flat = PreferenceReport::of(&[pair(0.0, 0.0, [1, 1], "")]);
        assert_eq!(flat.length_correlation, None);
        assert_eq!(PreferenceReport::of(&[]).pairwise_accuracy.high, 1.0, "of nothing nothing is known");
    }
}
