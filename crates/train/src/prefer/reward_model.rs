//! Losses of a reward model, whose head gives a text a score.
//!
//! ```text
//! pairs     −ln σ(c − r − m) + λ (c + r)²                    Bradley and Terry's
//! labels    −(y ln σ(s) + (1 − y) ln σ(−s))                  for safety: y = 1 of a good text
//! ```
//!
//! with `c`, `r` the scores of the chosen and of the rejected reply, `m` a row's margin (0 where it has none), and λ what
//! holds the scores around 0, which else is free (arXiv:2312.09244).

use super::pair::{log_sigmoid, sigmoid};

/// The loss of pairs with its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankLoss {
    /// Whether a row's margin is asked of the scores.
    pub margin: bool,
    /// λ
    pub centering: f64,
}

impl RankLoss {
    /// The loss of a pair with these scores and this margin, and its derivative by each score.
    pub fn of(&self, chosen: f64, rejected: f64, margin: f64) -> [f64; 3] {
        let x = chosen - rejected - if self.margin { margin } else { 0.0 };
        let sum = chosen + rejected;
        let center = 2.0 * self.centering * sum;
        [-log_sigmoid(x) + self.centering * sum * sum, -sigmoid(-x) + center, sigmoid(-x) + center]
    }

    /// The formula, with its constants.
    pub fn explain(&self) -> String {
        let margin = if self.margin { " - m" } else { "" };
        let center = match self.centering {
            0.0 => String::new(),
            weight => format!(" + {weight} (c + r)^2"),
        };
        format!("-ln s(c - r{margin}){center}")
    }
}

/// The loss of a text of score `score` that is `good` or not, and its derivative by the score.
pub fn label_loss(good: bool, score: f64) -> [f64; 2] {
    let sign = if good { 1.0 } else { -1.0 };
    [-log_sigmoid(sign * score), -sign * sigmoid(-sign * score)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        let loss = RankLoss { margin: true, centering: 0.01 };
        let h = 1e-5;
        for (c, r, m) in [(0.5, -1.0, 0.0), (-2.0, 3.0, 1.0), (7.0, 7.0, 0.3)] {
            let [_, by_chosen, by_rejected] = loss.of(c, r, m);
            let chosen = (loss.of(c + h, r, m)[0] - loss.of(c - h, r, m)[0]) / (2.0 * h);
            let rejected = (loss.of(c, r + h, m)[0] - loss.of(c, r - h, m)[0]) / (2.0 * h);
            assert!((by_chosen - chosen).abs() < 1e-8 && (by_rejected - rejected).abs() < 1e-8);
        }
        for good in [true, false] {
            for score in [-30.0, -1.0, 0.0, 2.0] {
                let [_, slope] = label_loss(good, score);
                let found = (label_loss(good, score + h)[0] - label_loss(good, score - h)[0]) / (2.0 * h);
                assert!((slope - found).abs() < 1e-8, "{good} {score}");
            }
        }
    }

    #[test]
    fn the_formulas_by_hand() {
        let ln_2 = std::f64::consts::LN_2;
        assert!(
            (RankLoss { margin: true, centering: 0.1 }.of(2.0, 1.0, 1.0)[0] - (ln_2 + 0.9)).abs() < 1e-12
        );
        assert!((RankLoss { margin: false, centering: 0.0 }.of(3.0, 3.0, 9.0)[0] - ln_2).abs() < 1e-12);
        assert!((label_loss(false, 2.0)[0] - 2.126_928_011_042_972).abs() < 1e-12, "ln(1 + e^2)");
    }
}
