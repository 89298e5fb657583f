//! A measured figure with its 95% interval.

use koan_eval::Interval;
use serde::Serialize;

/// The 97.5% point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A mean over completions. Those of one problem hang together, so the standard error is taken over problems
/// (arXiv:2411.00640, §2.2: clustered).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// What it is a mean over: completions, lines, checks.
    pub(crate) n: usize,
}

impl Figure {
    /// Of shares from 0 to 1: of each problem the sum over what is counted, and how much that is. None if nothing is.
    pub(crate) fn share(problems: &[(f64, usize)]) -> Option<Self> {
        let (value, error, n) = ratio(problems)?;
        // Near 0 and 1 the normal interval collapses; that of as many independent draws as would have this error does not.
        let counted = problems.iter().filter(|(_, n)| *n > 0).count() as f64;
        let independent = if error > 0.0 { value * (1.0 - value) / (error * error) } else { counted };
        let independent = independent.clamp(counted, n as f64);
        let z2 = Z * Z / independent;
        let centre = (value + z2 / 2.0) / (1.0 + z2);
        let half = (value * (1.0 - value) * z2 + z2 * z2 / 4.0).max(0.0).sqrt() / (1.0 + z2);
        Some(Self { value, low: (centre - half).max(0.0), high: (centre + half).min(1.0), n })
    }

    /// Of any numbers.
    pub(crate) fn mean(problems: &[(f64, usize)]) -> Option<Self> {
        let (value, error, n) = ratio(problems)?;
        Some(Self { value, low: value - Z * error, high: value + Z * error, n })
    }

    /// Of each problem's share of right completions.
    pub(crate) fn accuracy(shares: &[f64], samples: usize) -> Self {
        let Interval { accuracy, low, high } = Interval::of(shares, samples);
        Self { value: accuracy, low, high, n: shares.len() * samples }
    }
}

/// Sum over sum, the standard error of that ratio over problems, and the second sum.
fn ratio(problems: &[(f64, usize)]) -> Option<(f64, f64, usize)> {
    let n: usize = problems.iter().map(|(_, n)| n).sum();
    if n == 0 {
        return None;
    }
    let value = problems.iter().map(|(sum, _)| sum).sum::<f64>() / n as f64;
    let of = problems.len() as f64;
    let residuals: f64 = problems.iter().map(|(sum, n)| (sum - value * *n as f64).powi(2)).sum();
    Some((value, (residuals * of / (of - 1.0).max(1.0)).sqrt() / n as f64, n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_all_completions_is_an_accuracy() {
        let rights = [4, 0, 3, 2, 4, 1, 4, 4];
        let shares: Vec<f64> = rights.iter().map(|n| f64::from(*n) / 4.0).collect();
        let sums: Vec<(f64, usize)> = rights.iter().map(|n| (f64::from(*n), 4)).collect();
        let (accuracy, share) = (Figure::accuracy(&shares, 4), Figure::share(&sums).expect("some"));
        assert_eq!(accuracy.n, share.n);
        for (a, b) in [(accuracy.value, share.value), (accuracy.low, share.low), (accuracy.high, share.high)]
        {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
    }

    #[test]
    fn nothing_counted_is_no_figure_and_certainty_keeps_an_interval() {
        assert_eq!(Figure::share(&[(0.0, 0), (0.0, 0)]), None);
        let all = Figure::share(&[(4.0, 4); 50]).expect("some");
        assert!(all.value == 1.0 && all.low > 0.9 && all.low < 0.95 && all.high == 1.0, "{all:?}");
        let mean = Figure::mean(&[(20.0, 2), (40.0, 2)]).expect("some");
        assert!(mean.value == 15.0 && mean.low < 10.0 && mean.high > 20.0);
    }
}
