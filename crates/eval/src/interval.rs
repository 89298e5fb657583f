//! The confidence interval of an accuracy.
//!
//! Samples of one problem are not independent: a hard problem is failed again and again. So the standard error is taken
//! over problems (arXiv:2411.00640, §2.2: clustered), not over samples. Near 0 and 1 the normal interval collapses;
//! Wilson's (1927) does not, so it is used with the number of independent samples that would have that standard error.

use serde::{Deserialize, Serialize};

/// The 97.5% point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// An accuracy with its 95% confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Mean over problems of their share of correct samples.
    pub accuracy: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// From each problem's estimate of its chance, such as the share of its correct samples, or pass@k; `samples` are the
    /// independent draws that one rests on: of pass@k, those of its samples divided by k. Of no problems nothing is known:
    /// 0, from 0 to 1.
    pub fn of(shares: &[f64], samples: usize) -> Self {
        if shares.is_empty() {
            return Self { accuracy: 0.0, low: 0.0, high: 1.0 };
        }
        let n = shares.len() as f64;
        let p = shares.iter().sum::<f64>() / n;
        let variance = shares.iter().map(|s| (s - p).powi(2)).sum::<f64>() / (n - 1.0).max(1.0) / n;
        // Between the problems (all samples of one agree) and all samples (none has to do with another).
        let independent =
            if variance > 0.0 { (p * (1.0 - p) / variance).clamp(n, n * samples.max(1) as f64) } else { n };
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
    fn the_interval_holds_the_truth_as_often_as_it_says() {
        // 30 problems, half of them hard; 8 samples each, all of which agree four times in five: far from independent.
        let mut state = 1_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let (mut held, runs) = (0, 2000);
        for _ in 0..runs {
            let shares: Vec<f64> = (0..30)
                .map(|_| {
                    let chance = if uniform() < 0.5 { 0.2 } else { 0.7 };
                    let first = f64::from(u8::from(uniform() < chance));
                    let agree = uniform() < 0.8;
                    let rest =
                        (1..8).map(|_| if agree { first } else { f64::from(u8::from(uniform() < chance)) });
                    (first + rest.sum::<f64>()) / 8.0
                })
                .collect();
            let got = Interval::of(&shares, 8);
            held += usize::from((got.low..=got.high).contains(&0.45));
        }
        let share = held as f64 / f64::from(runs);
        assert!((0.93..0.985).contains(&share), "{share}");
    }

    #[test]
    fn perfect_scores_are_not_certain() {
        let got = Interval::of(&[1.0; 50], 4);
        assert!(got.low > 0.9 && got.low < 0.95 && got.high == 1.0, "{got:?}");
    }
}
