//! KTO (arXiv:2402.01306): replies that are each labelled good or bad, without a partner.
//!
//! ```text
//! good   w₊ (1 − σ(β(l − z)))        bad   w₋ (1 − σ(β(z − l)))
//! ```
//!
//! with `l` the log-ratio of a reply to the reference policy, and `z` the mean log-ratio, over the rows of an update and never
//! below 0, of replies that belong to another prompt: each row's prompt with the reply of the row before it in the file. No
//! gradient flows through z.

use super::pair::sigmoid;

/// The loss with its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KtoLoss {
    /// β
    pub beta: f64,
    /// w₊: the weight of good replies.
    pub good_weight: f64,
    /// w₋: that of bad ones.
    pub bad_weight: f64,
}

impl KtoLoss {
    /// The loss of a reply of log-ratio `ratio` that is `good` or not, against `z`; and its derivative by the log-probability
    /// of each of its tokens.
    pub fn of(&self, good: bool, ratio: f64, z: f64) -> [f64; 2] {
        let (weight, sign) = if good { (self.good_weight, 1.0) } else { (self.bad_weight, -1.0) };
        let s = sigmoid(sign * self.beta * (ratio - z));
        [weight * (1.0 - s), -sign * weight * self.beta * s * (1.0 - s)]
    }

    /// The formula, with its constants.
    pub fn explain(&self) -> String {
        let Self { beta, good_weight, bad_weight } = self;
        format!(
            "good: {good_weight} (1 - s({beta} (l - z))), bad: {bad_weight} (1 - s({beta} (z - l))), z = max(0, mean \
             log-ratio of each row's prompt with the reply of the row before)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        let loss = KtoLoss { beta: 0.2, good_weight: 1.0, bad_weight: 1.33 };
        let h = 1e-5;
        for good in [true, false] {
            for ratio in [-12.0, -0.5, 0.0, 3.0] {
                let [value, slope] = loss.of(good, ratio, 0.7);
                let found = (loss.of(good, ratio + h, 0.7)[0] - loss.of(good, ratio - h, 0.7)[0]) / (2.0 * h);
                assert!((slope - found).abs() < 1e-8, "{good} {ratio}: {slope} {found}");
                assert!(value >= 0.0 && (slope < 0.0) == good);
            }
        }
    }
}
