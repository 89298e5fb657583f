//! The output head fused with log-softmax, and its sampling twin. With the logits `l = x Wᵀ / temperature` of
//! a row: `log_sum_exp = ln Σᵥ exp(lᵥ)`, `pᵥ = exp(lᵥ − log_sum_exp)`, `log_prob = l[target] − log_sum_exp`,
//! `entropy = log_sum_exp − Σᵥ pᵥ lᵥ`.
//!
//! Backward: `dlᵥ = d_log_prob ([v = target] − pᵥ) / temperature`, then `dx = dl W`, `dW = dlᵀ x`.
//!
//! `x`, `dx` are (N, C); `w`, `dw` are (V, C); everything else is (N).

use super::{dot, linear, log_sum_exp};
use crate::{Draw, Store};

/// Writes `log_probs`, `entropy`, and `log_sum_exp` for [`backward`].
pub(super) fn forward(
    log_probs: &mut [f64],
    entropy: &mut [f64],
    log_sum_exps: &mut [f64],
    x: &[f64],
    w: &[f64],
    targets: &[u32],
    temperature: f64,
) {
    let c = x.len() / targets.len().max(1);
    for (n, &target) in targets.iter().enumerate() {
        let l = logits(&x[n * c..][..c], w, temperature);
        let total = log_sum_exp(&l);
        log_probs[n] = l[target as usize] - total;
        entropy[n] = total - l.iter().map(|l| (l - total).exp() * l).sum::<f64>();
        log_sum_exps[n] = total;
    }
}

/// Writes `dx`, adds to `dw`, if it is asked for.
pub(super) fn backward(
    dx: &mut [f64],
    mut dw: Option<&mut [f64]>,
    d_log_probs: &[f64],
    x: &[f64],
    w: &[f64],
    targets: &[u32],
    log_sum_exp: &[f64],
    temperature: f64,
) {
    let c = x.len() / targets.len().max(1);
    for (n, &target) in targets.iter().enumerate() {
        let row = n * c..(n + 1) * c;
        let mut dl = logits(&x[row.clone()], w, temperature);
        for (v, l) in dl.iter_mut().enumerate() {
            let hit = f64::from(v == target as usize);
            *l = d_log_probs[n] * (hit - (*l - log_sum_exp[n]).exp()) / temperature;
        }
        linear::backward_input(&mut dx[row.clone()], &dl, w, dl.len(), c, Store::Write);
        if let Some(dw) = &mut dw {
            linear::backward_weight(dw, &dl, &x[row], dl.len(), c);
        }
    }
}

/// Writes the sampled tokens, their log-probabilities under what they were sampled from, and under the whole distribution. See
/// [`Backend::sample`](crate::Backend::sample).
pub(super) fn sample(
    [tokens, log_probs, full_log_probs]: [&mut [f64]; 3],
    x: &[f64],
    w: &[f64],
    draws: &[Draw],
) {
    let c = x.len() / draws.len().max(1);
    for (n, draw) in draws.iter().enumerate() {
        let mut l = logits(&x[n * c..][..c], w, draw.temperature_of_log_prob().into());
        let whole = log_sum_exp(&l);
        let full: Vec<f64> = l.iter().map(|l| l - whole).collect();
        if draw.truncates() {
            truncate(&mut l, draw);
        }
        let total = log_sum_exp(&l);
        let token =
            if draw.temperature == 0.0 { likeliest(&l) } else { invert_cumulative(&l, total, draw.uniform) };
        tokens[n] = token as f64;
        log_probs[n] = l[token] - total;
        full_log_probs[n] = full[token];
    }
}

/// Gives the tokens that `draw` drops a logit of −∞: each truncation on its own, over a list sorted whole.
fn truncate(l: &mut [f64], draw: &Draw) {
    let mut ranked: Vec<usize> = (0..l.len()).collect();
    ranked.sort_by(|&a, &b| l[b].total_cmp(&l[a]).then(a.cmp(&b)));
    if draw.top_k > 0 {
        ranked.iter().skip(draw.top_k).for_each(|&v| l[v] = f64::NEG_INFINITY);
    }
    let total = log_sum_exp(l);
    let mut above = 0.0;
    for &v in &ranked {
        let p = (l[v] - total).exp();
        if above > 0.0 && above >= f64::from(draw.top_p) {
            l[v] = f64::NEG_INFINITY;
        }
        above += p;
    }
    let likeliest = l[ranked[0]];
    for l in l {
        if (*l - likeliest).exp() < f64::from(draw.min_p) {
            *l = f64::NEG_INFINITY;
        }
    }
}

/// `x Wᵀ / temperature` of one row.
fn logits(x: &[f64], w: &[f64], temperature: f64) -> Vec<f64> {
    w.chunks_exact(x.len()).map(|w| dot(x, w) / temperature).collect()
}

/// The first of the largest logits.
fn likeliest(l: &[f64]) -> usize {
    (1..l.len()).fold(0, |best, v| if l[v] > l[best] { v } else { best })
}

/// The first token whose cumulative probability exceeds `uniform`; the last possible one if rounding leaves
/// none.
fn invert_cumulative(l: &[f64], log_sum_exp: f64, uniform: f64) -> usize {
    let mut cumulative = 0.0;
    let mut last = 0;
    for (v, l) in l.iter().enumerate() {
        let p = (l - log_sum_exp).exp();
        cumulative += p;
        if p > 0.0 {
            last = v;
        }
        if cumulative > uniform {
            break;
        }
    }
    last
}
