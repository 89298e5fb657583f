//! The scale of a reward model's scores: the mean and deviation of a fixed set.

use serde::{Deserialize, Serialize};

/// Deviations below it are taken as 1: scores that hardly differ say nothing of their scale.
const MIN_DEVIATION: f64 = 1e-6;

/// Mean and standard deviation of the scores of a reference set. Kept as 32-bit floats, which files hold exactly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standard {
    /// Mean score.
    pub mean: f32,
    /// Standard deviation, not 0.
    pub deviation: f32,
}

impl Standard {
    /// Scores as they are.
    pub const NONE: Self = Self { mean: 0.0, deviation: 1.0 };

    /// Of `scores`; none if there are fewer than two.
    pub fn of(scores: &[f64]) -> Option<Self> {
        if scores.len() < 2 {
            return None;
        }
        let n = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / n;
        let deviation = (scores.iter().map(|&s| (s - mean).powi(2)).sum::<f64>() / n).sqrt();
        let deviation = if deviation < MIN_DEVIATION { 1.0 } else { deviation };
        Some(Self { mean: mean as f32, deviation: deviation as f32 })
    }

    /// How many deviations `score` lies above the mean, at most `clip` either way.
    pub fn standardise(self, score: f64, clip: f64) -> f32 {
        ((score - f64::from(self.mean)) / f64::from(self.deviation)).clamp(-clip, clip) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_counted_in_deviations_from_the_mean() {
        let standard = Standard::of(&[1.0, 3.0]).expect("two scores");
        assert_eq!(standard, Standard { mean: 2.0, deviation: 1.0 });
        assert_eq!([2.0, 4.0, 100.0, -100.0].map(|s| standard.standardise(s, 5.0)), [0.0, 2.0, 5.0, -5.0]);
        assert_eq!(Standard::of(&[3.0; 4]), Some(Standard { mean: 3.0, deviation: 1.0 }));
        assert_eq!((Standard::of(&[3.0]), Standard::of(&[])), (None, None));
    }

    #[test]
    fn a_file_holds_it_exactly() {
        for scores in [[0.1, 0.7], [1e-3, -3.3], [1e6, 1e6 + 1.0]] {
            let standard = Standard::of(&scores).expect("two scores");
            let read: Standard =
                serde_json::from_str(&serde_json::to_string(&standard).expect("written")).expect("read");
            assert_eq!(standard, read);
        }
    }
}
