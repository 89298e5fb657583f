//! Losses of a pair: a chosen and a rejected reply to one prompt.
//!
//! With `c`, `r` the sums of log-probabilities over the tokens of the chosen and of the rejected reply, end of sequence
//! included; `|c|`, `|r|` their tokens; `lc`, `lr` the sums less those of the reference policy; σ the logistic function:
//!
//! | loss | of a pair | source |
//! |---|---|---|
//! | `dpo` | −(1−ε) ln σ(β(lc−lr)) − ε ln σ(−β(lc−lr)) | arXiv:2305.18290, with ε > 0 cDPO |
//! | `robust` | (−(1−ε) ln σ(β(lc−lr)) + ε ln σ(−β(lc−lr))) / (1−2ε) | arXiv:2403.00409 |
//! | `dpo-norm` | `dpo` of lc/\|c\| − lr/\|r\| | Tulu 3, arXiv:2411.15124 |
//! | `ipo` | (lc/\|c\| − lr/\|r\| − 1/(2β))² | arXiv:2310.12036, length-normalised as its authors ran it |
//! | `ipo-sum` | (lc − lr − 1/(2β))² | the same paper as printed |
//! | `hinge` | max(0, 1 − β(lc−lr)) | SLiC, arXiv:2305.10425 |
//! | `cpo` | −ln σ(β(c−r)) | arXiv:2401.08417 |
//! | `simpo` | −ln σ(β(c/\|c\| − r/\|r\|) − γ) | arXiv:2405.14734; γ is the margin itself, not γ/β |
//! | `orpo` | −β ln σ(odds(c/\|c\|) − odds(r/\|r\|)), odds(x) = x − ln(1−eˣ) | arXiv:2403.07691 |
//!
//! Each is a number per pair and one weight for all tokens of a reply, so no more is needed for its gradient than the
//! derivative by `c` and by `r`.

/// The largest mean log-probability whose odds are computed: those of a reply of probability 1 are infinite.
const MAX_MEAN_LOG_PROB: f64 = -1e-7;

/// Which loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairForm {
    /// Direct preference optimization.
    Dpo,
    /// The same, unbiased where a share ε of the labels is wrong.
    Robust,
    /// The same, of log-ratios per token.
    DpoNorm,
    /// Identity preference optimization, of log-ratios per token.
    Ipo,
    /// The same, of sums.
    IpoSum,
    /// SLiC's.
    Hinge,
    /// Contrastive preference optimization.
    Cpo,
    /// Simple preference optimization.
    Simpo,
    /// Odds ratio preference optimization.
    Orpo,
}

/// A loss with its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairLoss {
    /// Which.
    pub form: PairForm,
    /// β
    pub beta: f64,
    /// ε: the share of labels that are taken to be wrong.
    pub label_smoothing: f64,
    /// γ: SimPO's target margin.
    pub gamma: f64,
}

/// What the policy, and the reference policy, say of a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reply {
    /// Σ of its tokens' log-probabilities under the policy.
    pub log_prob: f64,
    /// The same under the reference policy; 0 where there is none.
    pub reference: f64,
    /// Its tokens.
    pub tokens: usize,
}

/// A pair's loss, and its derivative by the log-probability of each token of the chosen and of the rejected reply.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slope {
    /// The loss.
    pub loss: f64,
    /// By each token of the chosen reply.
    pub chosen: f64,
    /// By each token of the rejected reply.
    pub rejected: f64,
}

impl Reply {
    /// The log-ratio to the reference policy.
    pub fn ratio(&self) -> f64 {
        self.log_prob - self.reference
    }

    fn per_token(&self, sum: f64) -> f64 {
        sum / self.tokens.max(1) as f64
    }
}

impl PairForm {
    /// Whether it compares with a reference policy.
    pub fn needs_reference(self) -> bool {
        !matches!(self, Self::Cpo | Self::Simpo | Self::Orpo)
    }
}

impl PairLoss {
    /// The loss of a pair.
    pub fn of(&self, chosen: &Reply, rejected: &Reply) -> Slope {
        let (beta, eps) = (self.beta, self.label_smoothing);
        let normed = |by: fn(&Reply) -> f64| chosen.per_token(by(chosen)) - rejected.per_token(by(rejected));
        let log_prob = |reply: &Reply| reply.log_prob;
        let sums = chosen.ratio() - rejected.ratio();
        let means = normed(Reply::ratio);
        // Each arm: the loss, and its derivative by the difference that it is of.
        let (loss, slope) = match self.form {
            PairForm::Dpo => smoothed(beta * sums, eps, beta),
            PairForm::DpoNorm => smoothed(beta * means, eps, beta),
            PairForm::Robust => {
                let x = beta * sums;
                let loss = (-(1.0 - eps) * log_sigmoid(x) + eps * log_sigmoid(-x)) / (1.0 - 2.0 * eps);
                (loss, -beta * ((1.0 - eps) * sigmoid(-x) + eps * sigmoid(x)) / (1.0 - 2.0 * eps))
            }
            PairForm::Ipo => squared(means - 0.5 / beta),
            PairForm::IpoSum => squared(sums - 0.5 / beta),
            PairForm::Hinge => {
                let short = 1.0 - beta * sums;
                (short.max(0.0), if short > 0.0 { -beta } else { 0.0 })
            }
            PairForm::Cpo => smoothed(beta * (chosen.log_prob - rejected.log_prob), eps, beta),
            PairForm::Simpo => smoothed(beta * normed(log_prob) - self.gamma, eps, beta),
            PairForm::Orpo => return self.odds_ratio(chosen, rejected),
        };
        let per_token = |reply: &Reply| match self.form {
            PairForm::DpoNorm | PairForm::Ipo | PairForm::Simpo => reply.per_token(1.0),
            _ => 1.0,
        };
        Slope { loss, chosen: slope * per_token(chosen), rejected: -slope * per_token(rejected) }
    }

    fn odds_ratio(&self, chosen: &Reply, rejected: &Reply) -> Slope {
        let mean = |reply: &Reply| reply.per_token(reply.log_prob).min(MAX_MEAN_LOG_PROB);
        let odds = |x: f64| x - log_one_minus_exp(x);
        let (x, y) = (mean(chosen), mean(rejected));
        let o = odds(x) - odds(y);
        // d odds / dx = 1 / (1 − eˣ)
        let slope = |x: f64, reply: &Reply| self.beta * sigmoid(-o) * reply.per_token(1.0) / -x.exp_m1();
        Slope { loss: -self.beta * log_sigmoid(o), chosen: -slope(x, chosen), rejected: slope(y, rejected) }
    }

    /// The formula, with its constants.
    pub fn explain(&self) -> String {
        let Self { form, beta, label_smoothing: eps, gamma } = self;
        let smoothed = |x: &str| match *eps {
            0.0 => format!("-ln s({x})"),
            eps => format!("-{} ln s({x}) - {eps} ln s(-({x}))", 1.0 - eps),
        };
        let per_token = "(lc/|c| - lr/|r|)";
        match form {
            PairForm::Dpo => smoothed(&format!("{beta} (lc - lr)")),
            PairForm::DpoNorm => smoothed(&format!("{beta} {per_token}")),
            PairForm::Robust => format!(
                "(-{} ln s(x) + {eps} ln s(-x)) / {}, x = {beta} (lc - lr)",
                1.0 - eps,
                1.0 - 2.0 * eps
            ),
            PairForm::Ipo => format!("({per_token} - 1/(2*{beta}))^2"),
            PairForm::IpoSum => format!("(lc - lr - 1/(2*{beta}))^2"),
            PairForm::Hinge => format!("max(0, 1 - {beta} (lc - lr))"),
            PairForm::Cpo => smoothed(&format!("{beta} (c - r)")),
            PairForm::Simpo => smoothed(&format!("{beta} (c/|c| - r/|r|) - {gamma}")),
            PairForm::Orpo => format!("-{beta} ln s(odds(c/|c|) - odds(r/|r|)), odds(x) = x - ln(1 - e^x)"),
        }
    }
}

/// −(1−ε) ln σ(x) − ε ln σ(−x), and its derivative by x/β.
fn smoothed(x: f64, eps: f64, beta: f64) -> (f64, f64) {
    (-(1.0 - eps) * log_sigmoid(x) - eps * log_sigmoid(-x), -beta * (sigmoid(-x) - eps))
}

fn squared(x: f64) -> (f64, f64) {
    (x * x, 2.0 * x)
}

/// σ(x) = 1/(1 + e⁻ˣ)
pub(super) fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// ln σ(x)
pub(super) fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// ln(1 − eˣ) for x < 0.
fn log_one_minus_exp(x: f64) -> f64 {
    if x > -std::f64::consts::LN_2 { (-x.exp_m1()).ln() } else { (-x.exp()).ln_1p() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORMS: [PairForm; 9] = [
        PairForm::Dpo,
        PairForm::Robust,
        PairForm::DpoNorm,
        PairForm::Ipo,
        PairForm::IpoSum,
        PairForm::Hinge,
        PairForm::Cpo,
        PairForm::Simpo,
        PairForm::Orpo,
    ];

    fn loss(form: PairForm) -> PairLoss {
        PairLoss { form, beta: 0.3, label_smoothing: 0.1, gamma: 0.5 }
    }

    #[test]
    fn a_policy_that_is_its_reference_has_the_loss_ln_2() {
        let reply = |log_prob| Reply { log_prob, reference: log_prob, tokens: 4 };
        for form in [PairForm::Dpo, PairForm::DpoNorm] {
            let slope = loss(form).of(&reply(-3.0), &reply(-9.0));
            assert!((slope.loss - std::f64::consts::LN_2).abs() < 1e-15, "{form:?}");
            assert!(slope.chosen < 0.0 && slope.rejected > 0.0, "{form:?}");
        }
        let hinge = loss(PairForm::Hinge).of(&reply(-3.0), &reply(-9.0));
        assert_eq!(hinge, Slope { loss: 1.0, chosen: -0.3, rejected: 0.3 });
    }

    /// Each formula once more, in Python.
    #[test]
    fn the_formulas_by_hand() {
        let chosen = Reply { log_prob: -12.5, reference: -13.0, tokens: 7 };
        let rejected = Reply { log_prob: -14.0, reference: -13.2, tokens: 9 };
        for (form, want) in [
            (PairForm::Dpo, 0.556_040_396_695),
            (PairForm::Robust, 0.468_290_396_695),
            (PairForm::DpoNorm, 0.674_198_201_449),
            (PairForm::Ipo, 2.269_087_931_469),
            (PairForm::IpoSum, 0.134_444_444_444),
            (PairForm::Hinge, 0.61),
            (PairForm::Cpo, 0.538_248_945_997),
            (PairForm::Simpo, 0.960_708_508_090),
            (PairForm::Orpo, 0.253_507_995_791),
        ] {
            let found = loss(form).of(&chosen, &rejected).loss;
            assert!((found - want).abs() < 1e-11, "{form:?}: {found}, by hand {want}");
        }
    }

    #[test]
    fn far_from_zero_nothing_overflows() {
        for form in FORMS {
            for (c, r) in [(0.0, -1e6), (-1e6, 0.0), (-1e-12, -1e-12), (-1e5, -1e5)] {
                let side = |log_prob| Reply { log_prob, reference: -10.0, tokens: 3 };
                let Slope { loss, chosen, rejected } = loss(form).of(&side(c), &side(r));
                assert!([loss, chosen, rejected].iter().all(|x| x.is_finite()), "{form:?} {c} {r}");
            }
        }
    }

    proptest! {
        #[test]
        fn derivatives_are_those_of_finite_differences(
            form in prop::sample::select(FORMS.to_vec()),
            c in -30.0f64..-0.5, r in -30.0f64..-0.5, rc in -30.0f64..-0.5, rr in -30.0f64..-0.5,
            nc in 1usize..9, nr in 1usize..9,
        ) {
            let h = 1e-5;
            let at = |dc: f64, dr: f64| {
                let chosen = Reply { log_prob: c + dc, reference: rc, tokens: nc };
                loss(form).of(&chosen, &Reply { log_prob: r + dr, reference: rr, tokens: nr })
            };
            let slope = at(0.0, 0.0);
            prop_assume!(form != PairForm::Hinge || slope.loss > 1e-3 || slope.loss == 0.0);
            let chosen = (at(h, 0.0).loss - at(-h, 0.0).loss) / (2.0 * h);
            let rejected = (at(0.0, h).loss - at(0.0, -h).loss) / (2.0 * h);
            prop_assume!(form != PairForm::Hinge || chosen == 0.0 || slope.chosen != 0.0);
            prop_assert!((slope.chosen - chosen).abs() < 1e-6 * (1.0 + chosen.abs()), "{} {chosen}", slope.chosen);
            prop_assert!((slope.rejected - rejected).abs() < 1e-6 * (1.0 + rejected.abs()), "{} {rejected}", slope.rejected);
        }
    }
}
