//! Routing (arXiv:2412.19437, equations 12 to 20): rows choose experts by scores of their logits (N, E), `s = σ(l)` or
//! `s = softmax(l)`, plus a bias (E); the weights are `w = scale · s`, or `w = scale · s / D` with `D = Σ s + 10⁻²⁰` over the experts
//! chosen.

use super::swiglu::sigmoid;
use crate::{ExpertRows, OutOfMemory, Routing, Scoring, Sequence, routing::EPSILON};

/// Which experts each row chose, and by what weights.
#[derive(Debug)]
pub struct Routes {
    /// (N, per token): the experts of each row, ascending.
    pub(super) chosen: Vec<u32>,
    /// (N, per token): their weights.
    pub(super) weights: Vec<f64>,
    pub(super) copies: ExpertRows,
}

impl Routes {
    pub(super) fn new(rows: usize, of: Routing) -> Result<Self, OutOfMemory> {
        Ok(Self { chosen: Vec::new(), weights: Vec::new(), copies: ExpertRows::new(rows, of)? })
    }

    pub(super) fn bytes(rows: usize, of: Routing) -> usize {
        rows.saturating_mul(12 * of.per_token).saturating_add(ExpertRows::bytes(rows, of))
    }

    /// The weight of each copy.
    pub(super) fn weights_of_copies(&self) -> Vec<f64> {
        let mut of_copies = vec![0.0; self.weights.len()];
        self.copies.places().iter().zip(&self.weights).for_each(|(&i, w)| of_copies[i as usize] = *w);
        of_copies
    }
}

/// Turns the logits in `scores` into scores, and writes `routes`.
pub(super) fn forward(routes: &mut Routes, scores: &mut [f64], bias: Option<&[f64]>, of: Routing) {
    routes.chosen.clear();
    routes.weights.clear();
    let (mut chosen, mut sums) = (vec![0; of.per_token], vec![0.0; of.experts]);
    for s in scores.chunks_exact_mut(of.experts) {
        match of.scoring {
            Scoring::Sigmoid => s.iter_mut().for_each(|s| *s = sigmoid(*s)),
            Scoring::Softmax => {
                let log_sum = super::log_sum_exp(s);
                for s in s.iter_mut() {
                    *s = (*s - log_sum).exp();
                }
            }
        }
        of.choose(&mut chosen, &mut sums, s, bias);
        let factor = f64::from(of.scale) / divisor(s, &chosen, of);
        routes.weights.extend(chosen.iter().map(|&e| factor * s[e as usize]));
        routes.chosen.extend(&chosen);
    }
    routes.copies.sort(&routes.chosen);
}

/// What a chosen expert's score is divided by: D, or 1.
fn divisor(s: &[f64], chosen: &[u32], of: Routing) -> f64 {
    if of.normalized { chosen.iter().map(|&e| s[e as usize]).sum::<f64>() + EPSILON } else { 1.0 }
}

/// Writes the gradient by the scores: `dsᵢ = scale · dwᵢ`, or `scale / D · (dwᵢ − Σⱼ dwⱼ sⱼ / D)`; 0 where `i` was not chosen.
pub(super) fn backward(ds: &mut [f64], d_weights: &[f64], s: &[f64], routes: &Routes, of: Routing) {
    let (per_token, experts) = (of.per_token, of.experts);
    let rows = ds.chunks_exact_mut(experts).zip(s.chunks_exact(experts));
    let chosen = routes.chosen.chunks_exact(per_token).zip(routes.copies.places().chunks_exact(per_token));
    for ((ds, s), (chosen, places)) in rows.zip(chosen) {
        ds.fill(0.0);
        let divisor = divisor(s, chosen, of);
        let of_chosen = || chosen.iter().zip(places).map(|(&e, &i)| (e as usize, d_weights[i as usize]));
        let mean: f64 =
            if of.normalized { of_chosen().map(|(e, dw)| dw * s[e]).sum::<f64>() / divisor } else { 0.0 };
        of_chosen().for_each(|(e, dw)| ds[e] = f64::from(of.scale) / divisor * (dw - mean));
    }
}

/// Adds the gradient of `balance · Σ T Σᵢ fᵢ Pᵢ` by the scores: `dsᵢ += balance · (fᵢ − Σⱼ fⱼ pⱼ) / S` with `S = Σⱼ sⱼ` and
/// `p = s / S`.
pub(super) fn balance(
    ds: &mut [f64],
    s: &[f64],
    routes: &Routes,
    of: Routing,
    balance: f64,
    sequences: &[Sequence],
) {
    if balance == 0.0 {
        return;
    }
    let (per_token, experts) = (of.per_token, of.experts);
    for sequence in sequences {
        let rows = sequence.rows.clone();
        let mut f = vec![0.0; experts];
        let one = experts as f64 / (per_token * rows.len()) as f64;
        let chosen = &routes.chosen[rows.start * per_token..rows.end * per_token];
        for &e in chosen {
            f[e as usize] += one;
        }
        let rows = rows.start * experts..rows.end * experts;
        for (ds, s) in ds[rows.clone()].chunks_exact_mut(experts).zip(s[rows].chunks_exact(experts)) {
            let sum: f64 = s.iter().sum();
            let mean = super::dot(&f, s) / sum;
            ds.iter_mut().zip(&f).for_each(|(ds, f)| *ds += balance * (f - mean) / sum);
        }
    }
}

/// Turns the gradient by a row's scores into that by its logits: `dl = ds · s · (1 − s)`, or `dlᵢ = sᵢ (dsᵢ − Σⱼ dsⱼ sⱼ)`.
pub(super) fn through_scores(d: &mut [f64], s: &[f64], scoring: Scoring) {
    match scoring {
        Scoring::Sigmoid => d.iter_mut().zip(s).for_each(|(d, s)| *d *= s * (1.0 - s)),
        Scoring::Softmax => {
            let mean = super::dot(d, s);
            d.iter_mut().zip(s).for_each(|(d, s)| *d = s * (*d - mean));
        }
    }
}
