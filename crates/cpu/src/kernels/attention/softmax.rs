//! Softmax of a line of scores, and its backward. Bound by the exponential, some twenty instructions per vector.

use crate::simd::Simd;

/// Turns dot products into probabilities, `exp(scale · x − max) / Σ exp(scale · x − max)`; gives the
/// log-sum-exp.
#[inline(always)]
pub(super) fn forward<S: Simd>(s: S, x: &mut [f32], scale: f32) -> f32 {
    let scale = s.splat(scale);
    let mut max = s.splat(f32::NEG_INFINITY);
    for x in x.chunks(S::LANES) {
        max = s.max(s.mul(s.load_or(x, x[0]), scale), max);
    }
    let max = s.greatest(max);
    let (shift, mut sum) = (s.splat(max), s.splat(0.0));
    for x in x.chunks_mut(S::LANES) {
        s.store(x, s.exp(s.sub(s.mul(s.load(x), scale), shift)));
        sum = s.add(sum, s.load(x));
    }
    let sum = s.sum(sum);
    let inverse = s.splat(sum.recip());
    for x in x.chunks_mut(S::LANES) {
        s.store(x, s.mul(s.load(x), inverse));
    }
    max + sum.ln()
}

/// Turns dot products `p` and `ds`, of queries with keys and of `dout` with values, into probabilities and
/// `ds`. `along` is `dout·out`.
#[inline(always)]
pub(super) fn backward<S: Simd>(
    s: S,
    p: &mut [f32],
    ds: &mut [f32],
    scale: f32,
    log_sum_exp: f32,
    along: f32,
) {
    let (scale, shift, along) = (s.splat(scale), s.splat(log_sum_exp), s.splat(along));
    for (p, ds) in p.chunks_mut(S::LANES).zip(ds.chunks_mut(S::LANES)) {
        let probability = s.exp(s.sub(s.mul(s.load(p), scale), shift));
        s.store(ds, s.mul(s.mul(probability, s.sub(s.load(ds), along)), scale));
        s.store(p, probability);
    }
}
