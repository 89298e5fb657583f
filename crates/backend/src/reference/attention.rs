//! Causal grouped-query attention (arXiv:1706.03762, arXiv:2305.13245). For a row and a head, over the keys `j`
//! that the row attends to: `sⱼ = scale · q·kⱼ`, `p = softmax(s)`, `out = Σⱼ pⱼ vⱼ`.
//!
//! The backward follows FlashAttention-2 (arXiv:2307.08691, Algorithm 2): `pⱼ = exp(sⱼ − log_sum_exp)`,
//! `dsⱼ = pⱼ (dout·vⱼ − dout·out)`, then `dq = scale Σⱼ dsⱼ kⱼ`, `dkⱼ += scale · dsⱼ q`, `dvⱼ += pⱼ dout`.
//!
//! `q` is (N, H · D), `out` (N, H · V); `k` is (key rows, K · D), `v` (key rows, K · V); `log_sum_exp` is (N, H).

use super::{dot, log_sum_exp};
use crate::{Heads, Sequence};
use std::ops::Range;

/// One query: its row's number times the heads plus its head, where it lies in `q` and its output in `out`, and where each
/// key it attends to lies in `k` and in `v`, in the order of positions.
pub(crate) struct Query {
    pub(crate) index: usize,
    pub(crate) place: Range<usize>,
    pub(crate) output: Range<usize>,
    pub(crate) keys: Vec<[Range<usize>; 2]>,
}

/// All queries of `sequences`.
pub(crate) fn queries(sequences: &[Sequence], heads: Heads) -> impl Iterator<Item = Query> {
    let place = |index: usize, dim: usize| index * dim..(index + 1) * dim;
    sequences.iter().flat_map(move |s| {
        s.rows.clone().enumerate().flat_map(move |(i, row)| {
            (0..heads.query).map(move |head| {
                let own = s.keys.start..s.keys.start + s.visible(i);
                let keys = s.prefix.iter().cloned().flatten().chain(own);
                let index = row * heads.query + head;
                let key = |j| j * heads.key_value + head / heads.group();
                Query {
                    index,
                    place: place(index, heads.dim),
                    output: place(index, heads.value_dim),
                    keys: keys.map(|j| [heads.dim, heads.value_dim].map(|dim| place(key(j), dim))).collect(),
                }
            })
        })
    })
}

/// Writes `out`, and `log_sum_exp` for [`backward`].
pub(super) fn forward(
    out: &mut [f64],
    log_sum_exps: &mut [f64],
    q: &[f64],
    k: &[f64],
    v: &[f64],
    sequences: &[Sequence],
    heads: Heads,
    scale: f64,
) {
    for Query { index, place, output, keys } in queries(sequences, heads) {
        let scores: Vec<f64> =
            keys.iter().map(|[j, _]| scale * dot(&q[place.clone()], &k[j.clone()])).collect();
        let total = log_sum_exp(&scores);
        let out = &mut out[output];
        out.fill(0.0);
        for (s, [_, j]) in scores.iter().zip(keys) {
            add_scaled(out, (s - total).exp(), &v[j]);
        }
        log_sum_exps[index] = total;
    }
}

/// Writes `dq`, adds to `dk` and `dv`.
pub(super) fn backward(
    dq: &mut [f64],
    dk: &mut [f64],
    dv: &mut [f64],
    dout: &[f64],
    q: &[f64],
    k: &[f64],
    v: &[f64],
    out: &[f64],
    log_sum_exp: &[f64],
    sequences: &[Sequence],
    heads: Heads,
    scale: f64,
) {
    for key in sequences.iter().flat_map(|s| s.prefix.iter().chain([&s.keys])) {
        dk[key.start * heads.key_features()..key.end * heads.key_features()].fill(0.0);
        dv[key.start * heads.value_features()..key.end * heads.value_features()].fill(0.0);
    }
    for Query { index, place, output, keys } in queries(sequences, heads) {
        let (q, dout, out) = (&q[place.clone()], &dout[output.clone()], &out[output]);
        let dq = &mut dq[place];
        dq.fill(0.0);
        for [key, value] in keys {
            let p = (scale * dot(q, &k[key.clone()]) - log_sum_exp[index]).exp();
            let ds = p * (dot(dout, &v[value.clone()]) - dot(dout, out));
            add_scaled(dq, scale * ds, &k[key.clone()]);
            add_scaled(&mut dk[key], scale * ds, q);
            add_scaled(&mut dv[value], p, dout);
        }
    }
}

/// `y += a x`
fn add_scaled(y: &mut [f64], a: f64, x: &[f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}
