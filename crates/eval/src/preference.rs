//! How well the scores of a reward model agree with preferences, and with labels.

use std::{cmp::Ordering, collections::BTreeMap};

use serde::Serialize;

use crate::Interval;

/// Bins of [`PreferenceReport::calibration`], of equal width from 1/2 to 1.
const CALIBRATION_BINS: usize = 10;
/// Bins of [`PreferenceReport::by_margin`], each with as many pairs.
const MARGIN_BINS: usize = 4;

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
    /// By how much the chosen reply is better, if the data say so.
    pub margin: Option<f64>,
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
    /// How many pairs were scored.
    pub pairs: usize,
    /// Pairs whose replies have the same score: they count as wrong.
    pub ties: usize,
    /// Share of pairs whose chosen reply has the higher score, with its 95% interval (Wilson's).
    pub pairwise_accuracy: Interval,
    /// The same of each category that the data name.
    pub by_category: BTreeMap<String, Share>,
    /// The same of pairs by the `margin` that the data give, in as many parts of equal size as there are different margins, 4 at most.
    pub by_margin: Vec<MarginBin>,
    /// The same of pairs whose chosen reply is the shorter one: a model that prefers what is longer is wrong here.
    pub where_chosen_is_shorter: Share,
    /// What always preferring the longer reply would reach; pairs of equal length count half. None of no pairs.
    pub longer_is_chosen: Option<f64>,
    /// Correlation (Pearson's) between how much longer a pair's chosen reply is and how much higher its score: how far the scores of replies to one
    /// prompt follow mere length. None where all differences of length, or of scores, are the same.
    pub length_correlation: Option<f64>,
    /// Whether σ of the difference of scores is the share of pairs that are right: pairs by that probability of the reply that the model
    /// prefers, without ties.
    pub calibration: Vec<Bin>,
    /// Mean over those pairs of |predicted − observed| of their bin: 0 is perfect. None where all pairs are ties.
    pub expected_calibration_error: Option<f64>,
    /// Mean score of all replies.
    pub score_mean: f64,
    /// Their standard deviation.
    pub score_std: f64,
}

/// Some of the pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// How many.
    pub pairs: usize,
    /// Share that is right, with its 95% interval.
    pub pairwise_accuracy: Interval,
}

/// Pairs of about the same margin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MarginBin {
    /// The least margin.
    pub from: f64,
    /// The largest.
    pub to: f64,
    /// How many, and how many are right.
    #[serde(flatten)]
    pub share: Share,
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
            Ordering::Greater => 1.0,
            Ordering::Equal => 0.5,
            Ordering::Less => 0.0,
        });
        let longer: f64 = longer.sum();
        let scores: Vec<f64> = pairs.iter().flat_map(|p| [p.chosen, p.rejected]).collect();
        let (score_mean, score_std) = moments(&scores);
        let calibration = calibration(pairs);
        let untied: usize = calibration.iter().map(|bin| bin.pairs).sum();
        let error = |bin: &Bin| bin.pairs as f64 * (bin.predicted - bin.observed).abs();
        Self {
            pairs: pairs.len(),
            ties: pairs.len() - untied,
            pairwise_accuracy: Share::of(&all).pairwise_accuracy,
            by_category: by_category.into_iter().map(|(name, p)| (name, Share::of(&p))).collect(),
            by_margin: by_margin(pairs),
            where_chosen_is_shorter: Share::of(&shorter),
            longer_is_chosen: (!pairs.is_empty()).then(|| longer / pairs.len() as f64),
            length_correlation: length_correlation(pairs),
            expected_calibration_error: (untied > 0)
                .then(|| calibration.iter().map(error).sum::<f64>() / untied as f64),
            calibration,
            score_mean,
            score_std,
        }
    }
}

impl Share {
    fn of(pairs: &[&ScoredPair]) -> Self {
        let right: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.is_right())).collect();
        Self { pairs: pairs.len(), pairwise_accuracy: Interval::of(&right, 1) }
    }
}

/// Pairs by their margins, in parts of about equal size; pairs of one margin stay together.
fn by_margin(pairs: &[ScoredPair]) -> Vec<MarginBin> {
    let mut with: Vec<(f64, &ScoredPair)> = pairs.iter().filter_map(|p| Some((p.margin?, p))).collect();
    with.sort_by(|a, b| a.0.total_cmp(&b.0));
    let size = with.len().div_ceil(MARGIN_BINS).max(1);
    let mut bins: Vec<Vec<(f64, &ScoredPair)>> = Vec::new();
    for (margin, pair) in with {
        match bins.last_mut() {
            Some(bin) if bin.len() < size || bin.last().is_some_and(|&(last, _)| last == margin) => {
                bin.push((margin, pair));
            }
            _ => bins.push(vec![(margin, pair)]),
        }
    }
    let bin = |bin: Vec<(f64, &ScoredPair)>| {
        let pairs: Vec<&ScoredPair> = bin.iter().map(|(_, pair)| *pair).collect();
        MarginBin { from: bin[0].0, to: bin[bin.len() - 1].0, share: Share::of(&pairs) }
    };
    bins.into_iter().map(bin).collect()
}

fn calibration(pairs: &[ScoredPair]) -> Vec<Bin> {
    let width = 0.5 / CALIBRATION_BINS as f64;
    let mut bins: Vec<Bin> = (0..CALIBRATION_BINS)
        .map(|i| 0.5 + width * i as f64)
        .map(|from| Bin { from, to: from + width, pairs: 0, predicted: 0.0, observed: 0.0 })
        .collect();
    for pair in pairs.iter().filter(|pair| pair.chosen != pair.rejected) {
        let sure = 1.0 / (1.0 + (-(pair.chosen - pair.rejected).abs()).exp());
        let bin = &mut bins[(((sure - 0.5) / width) as usize).min(CALIBRATION_BINS - 1)];
        bin.pairs += 1;
        bin.predicted += sure;
        bin.observed += f64::from(pair.is_right());
    }
    bins.retain(|bin| bin.pairs > 0);
    for bin in &mut bins {
        bin.predicted /= bin.pairs as f64;
        bin.observed /= bin.pairs as f64;
    }
    bins
}

/// Pairs are of no order but chosen and rejected, so a difference and its negative count the same: means are 0.
fn length_correlation(pairs: &[ScoredPair]) -> Option<f64> {
    let differences = pairs
        .iter()
        .map(|p| [p.chosen_tokens as f64 - p.rejected_tokens as f64, p.chosen - p.rejected])
        .collect::<Vec<_>>();
    let sum = |f: fn(&[f64; 2]) -> f64| differences.iter().map(f).sum::<f64>();
    let scale = (sum(|d| d[0] * d[0]) * sum(|d| d[1] * d[1])).sqrt();
    (scale > 0.0).then(|| sum(|d| d[0] * d[1]) / scale)
}

/// A reply with a label, and what a reward model says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredLabel {
    /// Its score.
    pub score: f64,
    /// Whether it is good.
    pub good: bool,
    /// Its tokens.
    pub tokens: usize,
    /// What kind of row it is, if the data say so.
    pub category: Option<String>,
}

/// What a reward model's scores are worth, measured on labelled replies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelReport {
    /// How many were scored.
    pub rows: usize,
    /// How many are good.
    pub good: usize,
    /// Share of rows whose score is above 0 if they are good, and not if they are bad, with its 95% interval.
    pub accuracy: Interval,
    /// The chance that a good reply scores above a bad one; equal scores count half. None where all labels are the same.
    pub auc: Option<f64>,
    /// Accuracy of each category that the data name.
    pub by_category: BTreeMap<String, LabelShare>,
    /// Correlation (Pearson's) between a reply's tokens and its score. None where all lengths or all scores are the same.
    pub length_correlation: Option<f64>,
    /// Mean score of all replies.
    pub score_mean: f64,
    /// Their standard deviation.
    pub score_std: f64,
}

/// Some of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LabelShare {
    /// How many.
    pub rows: usize,
    /// Share that is right, with its 95% interval.
    pub accuracy: Interval,
}

impl LabelReport {
    /// The report of `rows`.
    pub fn of(rows: &[ScoredLabel]) -> Self {
        let mut by_category: BTreeMap<String, Vec<&ScoredLabel>> = BTreeMap::new();
        for row in rows {
            if let Some(category) = &row.category {
                by_category.entry(category.clone()).or_default().push(row);
            }
        }
        let share = |rows: &[&ScoredLabel]| {
            let right: Vec<f64> = rows.iter().map(|row| f64::from((row.score > 0.0) == row.good)).collect();
            LabelShare { rows: rows.len(), accuracy: Interval::of(&right, 1) }
        };
        let scores: Vec<f64> = rows.iter().map(|row| row.score).collect();
        let lengths: Vec<f64> = rows.iter().map(|row| row.tokens as f64).collect();
        let (score_mean, score_std) = moments(&scores);
        Self {
            rows: rows.len(),
            good: rows.iter().filter(|row| row.good).count(),
            accuracy: share(&rows.iter().collect::<Vec<_>>()).accuracy,
            auc: auc(rows),
            by_category: by_category.into_iter().map(|(name, rows)| (name, share(&rows))).collect(),
            length_correlation: correlation(&lengths, &scores),
            score_mean,
            score_std,
        }
    }
}

/// The area under the receiver's curve, by ranks (Mann and Whitney's U).
fn auc(rows: &[ScoredLabel]) -> Option<f64> {
    let mut sorted: Vec<&ScoredLabel> = rows.iter().collect();
    sorted.sort_by(|a, b| a.score.total_cmp(&b.score));
    let good = rows.iter().filter(|row| row.good).count();
    let bad = rows.len() - good;
    let (mut wins, mut bad_below) = (0.0, 0);
    for tied in sorted.chunk_by(|a, b| a.score == b.score) {
        let good_here = tied.iter().filter(|row| row.good).count();
        let bad_here = tied.len() - good_here;
        wins += good_here as f64 * (bad_below as f64 + bad_here as f64 / 2.0);
        bad_below += bad_here;
    }
    (good > 0 && bad > 0).then(|| wins / (good as f64 * bad as f64))
}

/// Mean and standard deviation; 0 of no values.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt())
}

/// Pearson's correlation.
fn correlation(x: &[f64], y: &[f64]) -> Option<f64> {
    let ((mean_x, std_x), (mean_y, std_y)) = (moments(x), moments(y));
    let covariance = x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>();
    let scale = x.len() as f64 * std_x * std_y;
    (scale > 0.0).then(|| covariance / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(chosen: f64, rejected: f64, tokens: [usize; 2], category: &str) -> ScoredPair {
        let category = Some(category.to_owned()).filter(|name| !name.is_empty());
        ScoredPair {
            chosen,
            rejected,
            chosen_tokens: tokens[0],
            rejected_tokens: tokens[1],
            margin: None,
            category,
        }
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
        assert_eq!((report.by_category["b"].pairs, report.by_category.len()), (1, 2));
        assert_eq!((report.where_chosen_is_shorter.pairs, report.longer_is_chosen), (2, Some(0.375)));
        assert_eq!(report.where_chosen_is_shorter.pairwise_accuracy.accuracy, 0.5);
        assert_eq!(
            report.calibration.iter().map(|bin| bin.pairs).collect::<Vec<_>>(),
            [2, 1],
            "ties are in none"
        );
        assert_eq!(report.calibration[0].observed, 0.5);
        let sure = 1.0 / (1.0 + (-1.0f64).exp());
        assert!((report.calibration[0].predicted - sure).abs() < 1e-12);
        let error = (2.0 * (sure - 0.5) + (1.0 - 1.0 / (1.0 + (-10.0f64).exp()))) / 3.0;
        assert!((report.expected_calibration_error.expect("pairs") - error).abs() < 1e-12);
        assert_eq!(report.score_mean, 0.75);
        assert!(report.by_margin.is_empty());
    }

    #[test]
    fn a_score_that_is_the_length_is_found_out() {
        let by_length = |n: usize| pair(n as f64, 2.0, [n, 2], "");
        let report = PreferenceReport::of(&[by_length(5), by_length(7), by_length(3)]);
        assert!((report.length_correlation.expect("it varies") - 1.0).abs() < 1e-12);
        assert_eq!(report.longer_is_chosen, Some(1.0));
        let shorter = PreferenceReport::of(&[pair(1.0, 0.0, [1, 2], ""), pair(0.0, 1.0, [2, 1], "")]);
        assert_eq!(shorter.length_correlation, Some(-1.0));
    }

    #[test]
    fn of_nothing_and_of_equal_replies_nothing_is_claimed() {
        let flat = PreferenceReport::of(&[pair(0.0, 0.0, [1, 1], "")]);
        assert_eq!((flat.length_correlation, flat.expected_calibration_error, flat.ties), (None, None, 1));
        assert_eq!(flat.pairwise_accuracy.accuracy, 0.0);
        let none = PreferenceReport::of(&[]);
        assert_eq!((none.pairwise_accuracy.low, none.pairwise_accuracy.high), (0.0, 1.0));
        assert_eq!((none.pairs, none.longer_is_chosen, none.length_correlation), (0, None, None));
        assert!(none.calibration.is_empty() && none.score_mean == 0.0 && none.score_std == 0.0);
    }

    #[test]
    fn margins_are_cut_into_equal_parts_that_keep_equal_ones_together() {
        let of = |margins: &[f64]| {
            let pairs: Vec<_> =
                margins.iter().map(|&m| ScoredPair { margin: Some(m), ..pair(m, 1.5, [1, 1], "") }).collect();
            let bins = PreferenceReport::of(&pairs).by_margin;
            bins.iter().map(|bin| (bin.from, bin.to, bin.share.pairs)).collect::<Vec<_>>()
        };
        let eight: Vec<f64> = (0..8).map(f64::from).collect();
        assert_eq!(of(&eight), [(0.0, 1.0, 2), (2.0, 3.0, 2), (4.0, 5.0, 2), (6.0, 7.0, 2)]);
        assert_eq!(of(&[1.0, 2.0, 1.0, 2.0, 1.0, 1.0]), [(1.0, 1.0, 4), (2.0, 2.0, 2)]);
        assert_eq!(of(&[3.0]), [(3.0, 3.0, 1)]);
    }

    #[test]
    fn labels_are_told_apart_by_sign_and_by_rank() {
        let row =
            |score: f64, good: bool| ScoredLabel { score, good, tokens: score as usize, category: None };
        let report = LabelReport::of(&[row(3.0, true), row(1.0, false), row(2.0, true), row(-1.0, false)]);
        assert_eq!((report.rows, report.good, report.accuracy.accuracy, report.auc), (4, 2, 0.75, Some(1.0)));
        let tied = LabelReport::of(&[row(1.0, true), row(1.0, false), row(0.0, true)]);
        assert_eq!(tied.auc, Some(0.25), "equal scores count half");
        let one_class = LabelReport::of(&[row(1.0, true), row(2.0, true)]);
        assert_eq!((one_class.auc, one_class.accuracy.accuracy), (None, 1.0));
        assert_eq!(LabelReport::of(&[]).auc, None);
    }
}
