//! How far a student's distributions are from a teacher's.

/// How two distributions over tokens are compared: `p` a teacher's and `q` a student's, both softmax(logits / temperature).
///
/// | form | D | ∂D/∂z, z a student's logit |
/// |---|---|---|
/// | forward | KL(p‖q) | (q − p) / T |
/// | reverse | KL(q‖p) | q (ln q/p − KL(q‖p)) / T |
/// | Jensen-Shannon, 0 < b < 1 | b KL(p‖m) + (1−b) KL(q‖m), m = bp + (1−b)q | (1−b) q (ln q/m − KL(q‖m)) / T |
///
/// The last is that of GKD (arXiv:2306.13649). There is no factor T².
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Divergence {
    /// Which.
    pub form: DivergenceForm,
    /// Both models' logits are divided by it.
    pub temperature: f32,
    /// What of the teacher's distribution counts.
    pub support: Support,
}

/// Which divergence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DivergenceForm {
    /// KL(p‖q)
    Forward,
    /// KL(q‖p)
    Reverse,
    /// b KL(p‖m) + (1−b) KL(q‖m)
    JensenShannon {
        /// b, above 0 and below 1.
        beta: f64,
    },
}

/// What of a teacher's distribution counts. The likeliest tokens are those with the largest logits; of equal ones, those with
/// the lower numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// All of it.
    Whole,
    /// Its so many likeliest tokens, scaled to sum to 1: p is 0 elsewhere, where q is not. A reverse divergence is infinite.
    Renormalised(usize),
    /// Its so many likeliest tokens, and all others as one class, of the teacher and of the student.
    WithRest(usize),
}

/// What a class of tokens contributes to a divergence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// To the divergence.
    pub value: f64,
    /// Its derivative by ln q: with H the sum of all classes' slopes, ∂D/∂z of a class's token is that of its slope, less q H.
    pub slope: f64,
}

impl DivergenceForm {
    /// The share of a class that has probability e^`ln_p` under the teacher and e^`ln_q` under the student.
    pub fn share(self, ln_p: f64, ln_q: f64) -> Share {
        // What has no probability contributes nothing, whatever its logarithm is compared with.
        let times = |ln: f64, by: f64| if ln == f64::NEG_INFINITY { 0.0 } else { ln.exp() * by };
        match self {
            Self::Forward => Share { value: times(ln_p, ln_p - ln_q), slope: -ln_p.exp() },
            Self::Reverse => {
                let value = times(ln_q, ln_q - ln_p);
                Share { value, slope: value + ln_q.exp() }
            }
            Self::JensenShannon { beta } => {
                let b = beta;
                let (of_p, of_q) = (b.ln() + ln_p, (1.0 - b).ln() + ln_q);
                let larger = of_p.max(of_q);
                let ln_m = larger + (-(of_p - of_q).abs()).exp().ln_1p();
                let slope = (1.0 - b) * times(ln_q, ln_q - ln_m);
                Share { value: b * times(ln_p, ln_p - ln_m) + slope, slope }
            }
        }
    }
}

impl Support {
    /// How many of the teacher's likeliest tokens count one by one, of a vocabulary of `vocab`.
    pub fn tokens(self, vocab: usize) -> usize {
        match self {
            Self::Whole => vocab,
            Self::Renormalised(k) | Self::WithRest(k) => k.min(vocab),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_formulas() {
        let (p, q, b) = (0.3f64, 0.2f64, 0.25);
        let share = |form: DivergenceForm| form.share(p.ln(), q.ln());
        let near = |share: Share, value: f64, slope: f64| {
            assert!((share.value - value).abs() < 1e-15 && (share.slope - slope).abs() < 1e-15, "{share:?}");
        };
        near(share(DivergenceForm::Forward), 0.3 * 1.5f64.ln(), -0.3);
        near(share(DivergenceForm::Reverse), -0.2 * 1.5f64.ln(), 0.2 - 0.2 * 1.5f64.ln());
        let m = 0.25 * 0.3 + 0.75 * 0.2; // 0.225
        let slope = 0.75 * 0.2 * (q / m).ln();
        near(share(DivergenceForm::JensenShannon { beta: b }), 0.25 * 0.3 * (p / m).ln() + slope, slope);
    }

    #[test]
    fn what_has_no_probability_contributes_nothing() {
        let none = f64::NEG_INFINITY;
        for form in
            [DivergenceForm::Forward, DivergenceForm::Reverse, DivergenceForm::JensenShannon { beta: 0.5 }]
        {
            assert_eq!(form.share(none, none), Share { value: 0.0, slope: -0.0 }, "{form:?}");
        }
        assert_eq!(DivergenceForm::Forward.share(none, -1.0).value, 0.0);
        assert_eq!(DivergenceForm::Forward.share(-1.0, none).value, f64::INFINITY);
        let jsd = DivergenceForm::JensenShannon { beta: 0.5 };
        assert_eq!(jsd.share(none, 0.0), Share { value: 0.5 * 2f64.ln(), slope: 0.5 * 2f64.ln() });
    }
}
