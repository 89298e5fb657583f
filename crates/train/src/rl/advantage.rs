//! How much better a completion was than the others of its group: what takes the place of a critic.

use serde::{Deserialize, Serialize};

/// Added to the standard deviation of a group, so that a spread of nothing but rounding is not blown up.
pub const STD_EPS: f64 = 1e-6;

/// What a reward is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Advantage {
    /// `(r − mean) / (std + ε)` (DeepSeekMath, arXiv:2402.03300). `std` is of a sample (n − 1), which the paper leaves open.
    Standardised,
    /// `r − mean` (Dr. GRPO, arXiv:2503.20783): hard and easy problems weigh the same.
    Centred,
    /// `r −` the mean of the others (RLOO, arXiv:2402.14740): a baseline that does not depend on the completion itself.
    LeaveOneOut,
}

impl Advantage {
    /// Advantages of one problem's completions from their rewards. A reward that was not decided is `None`: it has no
    /// advantage, and takes no part in mean or std. All are zero where the rewards have no spread.
    pub fn of(self, rewards: &[Option<f32>]) -> Vec<Option<f32>> {
        let decided: Vec<f64> = rewards.iter().flatten().map(|&r| f64::from(r)).collect();
        let n = decided.len() as f64;
        let mean = decided.iter().sum::<f64>() / n;
        let std = (decided.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt();
        let spread = decided.windows(2).any(|w| w[0] != w[1]);
        let advantage = |r: f64| match self {
            _ if !spread => 0.0,
            Self::Standardised => (r - mean) / (std + STD_EPS),
            Self::Centred => r - mean,
            // r − (n · mean − r) / (n − 1)
            Self::LeaveOneOut => (r - mean) * n / (n - 1.0),
        };
        rewards.iter().map(|r| r.map(|r| advantage(f64::from(r)) as f32)).collect()
    }

    /// The formula, for `--explain`.
    pub(crate) fn explain(self) -> &'static str {
        match self {
            Self::Standardised => "A_i = (r_i - mean(r)) / (std(r) + 1e-6)",
            Self::Centred => "A_i = r_i - mean(r)",
            Self::LeaveOneOut => "A_i = r_i - mean of the others' r",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: &[Option<f32>], want: &[Option<f32>]) {
        assert_eq!(got.len(), want.len());
        for pair in got.iter().zip(want) {
            match pair {
                (Some(got), Some(want)) => assert!((got - want).abs() < 1e-5, "{got} {want}"),
                (None, None) => {}
                _ => panic!("{pair:?}"),
            }
        }
    }

    #[test]
    fn rewards_are_compared_within_the_group() {
        let rewards = [Some(1.0), Some(0.0), Some(0.0), Some(1.0)];
        // mean 1/2, sample std √(4 · 1/4 / 3) = √(1/3)
        let a = 0.5 * 3.0f32.sqrt();
        close(&Advantage::Standardised.of(&rewards), &[Some(a), Some(-a), Some(-a), Some(a)]);
        close(&Advantage::Centred.of(&rewards), &[Some(0.5), Some(-0.5), Some(-0.5), Some(0.5)]);
        // 1 − (0 + 0 + 1)/3 = 2/3
        let b = 2.0 / 3.0;
        close(&Advantage::LeaveOneOut.of(&rewards), &[Some(b), Some(-b), Some(-b), Some(b)]);
        // 3 − (0 + 1)/2, 0 − (3 + 1)/2, 1 − (3 + 0)/2
        let uneven = [Some(3.0), Some(0.0), Some(1.0)];
        close(&Advantage::LeaveOneOut.of(&uneven), &[Some(2.5), Some(-2.0), Some(-0.5)]);
    }

    #[test]
    fn no_spread_no_advantage_and_undecided_is_masked() {
        for kind in [Advantage::Standardised, Advantage::Centred, Advantage::LeaveOneOut] {
            assert_eq!(kind.of(&[Some(1.0), None, Some(1.0)]), [Some(0.0), None, Some(0.0)]);
            assert_eq!(kind.of(&[None]), [None]);
            assert_eq!(kind.of(&[Some(0.7)]), [Some(0.0)]);
            let (with, without) = (kind.of(&[Some(1.0), None, Some(0.0)]), kind.of(&[Some(1.0), Some(0.0)]));
            assert_eq!([with[0], with[2]], without[..]);
        }
    }
}
