//! Group-relative policy optimisation (DeepSeekMath, arXiv:2402.03300, Eq. 3), without a critic:
//!
//! ```text
//! J = 1/(P·G) Σᵢ 1/|oᵢ| Σₜ { min(ρᵢₜ Aᵢ, clip(ρᵢₜ, 1 − ε, 1 + ε) Aᵢ) − β KLᵢₜ }
//! ρᵢₜ = π(oᵢₜ) / π_old(oᵢₜ)      Aᵢ = (rᵢ − mean(r)) / std(r) over the completions of a problem
//! KLᵢₜ = x − ln x − 1 with x = π_ref(oᵢₜ) / π(oᵢₜ)     (the k3 estimator, added to the loss)
//! ```
//!
//! The loss is −J. Where we differ: `std` is of a sample (n − 1), with [`STD_EPS`] added, since the papers state
//! neither; completions whose reward is undecided take no part in mean, std or P·G.

/// Added to the standard deviation of a group, so that a spread of nothing but rounding is not blown up.
pub const STD_EPS: f32 = 1e-6;

/// The numbers of the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// ε: how far the ratio may go before its gradient stops.
    pub clip: f32,
    /// β: weight of the divergence from the reference policy.
    pub kl: f32,
}

/// One token's share of the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenLoss {
    /// Loss, before the weight 1/(P·G·|oᵢ|).
    pub loss: f32,
    /// Its derivative by the token's log-probability, likewise.
    pub d_log_prob: f32,
    /// The k3 estimate of the divergence from the reference.
    pub kl: f32,
    /// Whether the clip stopped the gradient.
    pub clipped: bool,
}

/// Advantages of one problem's completions from their rewards; `None` where a reward was not decided. All zero where the
/// rewards have no spread.
pub fn advantages(rewards: &[Option<f32>]) -> Vec<Option<f32>> {
    let decided: Vec<f64> = rewards.iter().flatten().map(|&r| f64::from(r)).collect();
    let n = decided.len() as f64;
    let mean = decided.iter().sum::<f64>() / n;
    let std = (decided.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt();
    let advantage = |r: f32| ((f64::from(r) - mean) / (std + f64::from(STD_EPS))) as f32;
    let spread = decided.windows(2).any(|w| w[0] != w[1]);
    rewards.iter().map(|r| r.map(|r| if spread { advantage(r) } else { 0.0 })).collect()
}

impl Loss {
    /// The loss of a token drawn with `old_log_prob`, now of `log_prob`, and of `reference_log_prob` under the reference
    /// policy (read only if β is not 0).
    pub fn token(
        &self,
        log_prob: f32,
        old_log_prob: f32,
        reference_log_prob: Option<f32>,
        advantage: f32,
    ) -> TokenLoss {
        let ratio = (log_prob - old_log_prob).exp();
        let free = ratio * advantage;
        let bounded = ratio.clamp(1.0 - self.clip, 1.0 + self.clip) * advantage;
        let clipped = bounded < free;
        let (kl, d_kl) = match reference_log_prob {
            Some(reference) if self.kl != 0.0 => {
                let log_x = reference - log_prob;
                (log_x.exp() - log_x - 1.0, 1.0 - log_x.exp())
            }
            _ => (0.0, 0.0),
        };
        TokenLoss {
            loss: self.kl * kl - free.min(bounded),
            d_log_prob: self.kl * d_kl - if clipped { 0.0 } else { free },
            kl,
            clipped,
        }
    }

    /// The formula in force, in words that a reader can hold against the paper.
    pub fn explain(&self) -> String {
        let kl = if self.kl == 0.0 {
            String::new()
        } else {
            format!(" - {} KL, KL = x - ln x - 1, x = pi_ref/pi", self.kl)
        };
        format!(
            "maximise 1/(P G) sum_i 1/|o_i| sum_t [ min(rho A, clip(rho, {}, {}) A){kl} ], A = (r - mean)/std",
            1.0 - self.clip,
            1.0 + self.clip
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn advantages_are_standardised_within_the_group() {
        let a = advantages(&[Some(1.0), Some(0.0), Some(0.0), Some(1.0)]);
        // mean 1/2, sample std √(4 · 1/4 / 3) = √(1/3)
        let want = 0.5 / (1.0f32 / 3.0).sqrt();
        for (a, want) in a.iter().zip([want, -want, -want, want]) {
            assert!((a.expect("decided") - want).abs() < 1e-5);
        }
    }

    #[test]
    fn the_formula_in_force_is_explained() {
        let [with, without] = [0.04, 0.0].map(|kl| Loss { clip: 0.2, kl }.explain());
        assert!(
            with.contains("clip(rho, 0.8, 1.2) A) - 0.04 KL") && with.contains("x = pi_ref/pi"),
            "{with}"
        );
        assert!(!without.contains("KL"), "{without}");
    }

    #[test]
    fn no_spread_no_advantage_and_undecided_is_masked() {
        assert_eq!(advantages(&[Some(1.0), None, Some(1.0)]), [Some(0.0), None, Some(0.0)]);
        assert_eq!(advantages(&[None]), [None]);
        assert_eq!(advantages(&[Some(0.7)]), [Some(0.0)]);
        let (with, without) =
            (advantages(&[Some(1.0), None, Some(0.0)]), advantages(&[Some(1.0), Some(0.0)]));
        assert_eq!([with[0], with[2]], without[..]);
    }

    /// The objective of a token as the paper prints it, in f64.
    fn paper(log_prob: f64, old: f64, reference: f64, a: f64, clip: f64, beta: f64) -> f64 {
        let rho = (log_prob - old).exp();
        let x = (reference - log_prob).exp();
        (rho * a).min(rho.clamp(1.0 - clip, 1.0 + clip) * a) - beta * (x - x.ln() - 1.0)
    }

    proptest! {
        #[test]
        fn loss_and_derivative_are_the_papers(
            log_prob in -5f32..-0.01, old in -5f32..-0.01, reference in -5f32..-0.01,
            a in -2f32..2.0, clip in 0.05f32..0.4, beta in 0f32..0.2,
        ) {
            let got = Loss { clip, kl: beta }.token(log_prob, old, Some(reference), a);
            let objective = |lp: f64| paper(lp, old.into(), reference.into(), a.into(), clip.into(), beta.into());
            let want = -objective(log_prob.into());
            let scale = 1.0 + want.abs();
            prop_assert!((f64::from(got.loss) - want).abs() < 2e-5 * scale, "{} {want}", got.loss);
            let h = 1e-6;
            let ratio = (f64::from(log_prob) - f64::from(old)).exp();
            let kink = [1.0 - f64::from(clip), 1.0 + f64::from(clip)].iter().any(|k| (ratio - k).abs() < 1e-4);
            prop_assume!(!kink);
            let d = -(objective(f64::from(log_prob) + h) - objective(f64::from(log_prob) - h)) / (2.0 * h);
            prop_assert!((f64::from(got.d_log_prob) - d).abs() < 1e-4 * (1.0 + d.abs()), "{} {d}", got.d_log_prob);
        }
    }
}
