//! The confidence interval of an accuracy.
//!
//! Samples of one problem are not independent: a hard problem is failed again and again. So the standard error is taken
//! over problems (arXiv:2411.00640, §2.2: clustered), not over samples. Near 0 and 1 the normal interval collapses;
//! Wilson's (1927) does not, so it is used with the number of independent samples that would have that standard error.

use serde::Serialize;

/// The 97.5% point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// An accuracy with its 95% confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Mean over problems of their share of correct samples.
    pub accuracy: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// From the share of correct samples of each problem, with `samples` each.
    ///
    /// # Panics
    /// If there are no problems.
    pub fn of(shares: &[f64], samples: usize) -> Self {
        let n = shares.len() as f64;
        assert!(!shares.is_empty(), "an accuracy of no problems");
        let p = shares.iter().sum::<f64>() / n;
        let variance = shares.iter().map(|s| (s - p).powi(2)).sum::<f64>() / (n - 1.0).max(1.0) / n;
        // Between the problems (all samples of one agree) and all samples (none has to do with another).
        let independent =
            if variance > 0.0 { (p * (1.0 - p) / variance).clamp(n, n * samples as f64) } else { n };
        let z2 = Z * Z / independent;
        let centre = (p + z2 / 2.0) / (1.0 + z2);
        let half = (p * (1.0 - p) * z2 + z2 * z2 / 4.0).sqrt() / (1.0 + z2);
        Self { accuracy: p, low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sample_a_problem_is_wilsons_interval() {
        let shares: Vec<f64> = (0..10).map(|i| f64::from(i < 7)).collect();
        let got = Interval::of(&shares, 1);
        // Wilson, 7 of 10: 0.3968 to 0.8922. The sample variance has n − 1, so n is clamped from below.
        assert!((got.accuracy - 0.7).abs() < 1e-12);
        assert!((got.low - 0.3968).abs() < 1e-3 && (got.high - 0.8922).abs() < 1e-3, "{got:?}");
    }

    #[test]
    fn samples_that_agree_add_no_confidence() {
        let agree: Vec<f64> = (0..100).map(|i| f64::from(i % 2)).collect();
        let spread = vec![0.5; 100];
        let width = |shares: &[f64]| {
            let i = Interval::of(shares, 8);
            i.high - i.low
        };
        assert!((width(&agree) - 2.0 * Z * 0.05).abs() < 0.01);
        assert!(width(&spread) <= width(&agree));
    }

    #[test]
    fn perfect_scores_are_not_certain() {
        let got = Interval::of(&[1.0; 50], 4);
        assert!(got.low > 0.9 && got.low < 0.95 && got.high == 1.0, "{got:?}");
    }
}
