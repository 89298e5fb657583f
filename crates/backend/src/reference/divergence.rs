//! Divergence of a student's distribution `q` from a teacher's `p`, over the tokens that both know. Tokens that count one by one
//! are classes of their own, all others are one class. With `Pᶜ`, `Qᶜ` the probabilities of class `c`, `f` and `h` the value and
//! the slope of its [`Share`](crate::Share):
//!
//! ```text
//! D = Σᶜ f(Pᶜ, Qᶜ)        dzᵥ = weight / T · (qᵥ / Qᶜ · h(Pᶜ, Qᶜ) − qᵥ Σᶜ h(Pᶜ, Qᶜ)),   c the class of v
//! ```

use super::log_sum_exp;
use crate::{Divergence, Share, Support};

/// The divergence of a row; its student's logits become the gradient of `weight` times it.
pub(super) fn row(student: &mut [f64], teacher: &[f64], of: Divergence, weight: f64) -> f64 {
    let Divergence { form, temperature, support } = of;
    let (vocab, temperature) = (student.len().min(teacher.len()), f64::from(temperature));
    let log_softmax = |logits: &[f64]| -> Vec<f64> {
        let l: Vec<f64> = logits[..vocab].iter().map(|z| z / temperature).collect();
        let total = log_sum_exp(&l);
        l.iter().map(|l| l - total).collect()
    };
    let (mut ln_p, ln_q) = (log_softmax(teacher), log_softmax(student));

    let mut ranked: Vec<usize> = (0..vocab).collect();
    ranked.sort_by(|&a, &b| teacher[b].total_cmp(&teacher[a]).then(a.cmp(&b)));
    let (own, rest) = ranked.split_at(support.tokens(vocab));
    let ln_sum = |ln: &[f64], of: &[usize]| match of {
        [] => f64::NEG_INFINITY,
        _ => log_sum_exp(&of.iter().map(|&v| ln[v]).collect::<Vec<_>>()),
    };
    let (mut ln_p_rest, ln_q_rest) = (ln_sum(&ln_p, rest), ln_sum(&ln_q, rest));
    if matches!(support, Support::Renormalised(_)) {
        let kept = ln_sum(&ln_p, own);
        for &v in own {
            ln_p[v] -= kept;
        }
        ln_p_rest = f64::NEG_INFINITY;
    }

    let shares: Vec<Share> = own.iter().map(|&v| form.share(ln_p[v], ln_q[v])).collect();
    let of_rest = form.share(ln_p_rest, ln_q_rest);
    let sum = |part: fn(&Share) -> f64| shares.iter().chain([&of_rest]).map(part).sum::<f64>();
    let (value, slopes) = (sum(|share| share.value), sum(|share| share.slope));

    student.fill(0.0);
    for (&v, share) in own.iter().zip(&shares) {
        student[v] = share.slope - ln_q[v].exp() * slopes;
    }
    for &v in rest {
        student[v] = (ln_q[v] - ln_q_rest).exp() * of_rest.slope - ln_q[v].exp() * slopes;
    }
    for d in student {
        *d *= weight / temperature;
    }
    value
}
