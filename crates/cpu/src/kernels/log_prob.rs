//! Log-softmax of a chunk of a row's logits: its sums, its gradient, its exponentials. Bound by the exponential, some
//! twenty instructions per vector.

use crate::simd::Simd;

/// What one chunk's logits of a row come to.
#[derive(Clone, Copy)]
pub(crate) struct Partial {
    /// The greatest.
    pub(crate) max: f32,
    /// Σ exp(l − max)
    pub(crate) sum: f32,
    /// Σ exp(l − max) · (l − max)
    pub(crate) weighted: f32,
}

/// Multiplies `logits` by `inverse_temperature`, and sums them up.
#[inline(always)]
pub(crate) fn partial<S: Simd>(s: S, logits: &mut [f32], inverse_temperature: f32) -> Partial {
    const NOTHING: f32 = -1e30; // finite, so that exp(l − max) · (l − max) is 0
    let factor = s.splat(inverse_temperature);
    let mut max = s.splat(f32::NEG_INFINITY);
    for logits in logits.chunks_mut(S::LANES) {
        s.store(logits, s.mul(s.load(logits), factor));
        max = s.max(s.load_or(logits, NOTHING), max);
    }
    let max = s.greatest(max);
    let (shift, mut sum, mut weighted) = (s.splat(max), s.splat(0.0), s.splat(0.0));
    for logits in logits.chunks(S::LANES) {
        let l = s.sub(s.load_or(logits, NOTHING), shift);
        let e = s.exp(l);
        sum = s.add(sum, e);
        weighted = s.mul_add(e, l, weighted);
    }
    Partial { max, sum: s.sum(sum), weighted: s.sum(weighted) }
}

/// Turns `logits` into `−d · inverse_temperature · p`: their gradient, except the target's.
#[inline(always)]
pub(crate) fn gradient<S: Simd>(
    s: S,
    logits: &mut [f32],
    inverse_temperature: f32,
    d: f32,
    log_sum_exp: f32,
) {
    let (factor, shift) = (s.splat(inverse_temperature), s.splat(log_sum_exp));
    let d = s.splat(-d * inverse_temperature);
    for logits in logits.chunks_mut(S::LANES) {
        let p = s.exp(s.sub(s.mul(s.load(logits), factor), shift));
        s.store(logits, s.mul(p, d));
    }
}

/// eˣ of every element.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: &mut [f32]) {
    for x in x.chunks_mut(S::LANES) {
        s.store(x, s.exp(s.load(x)));
    }
}
