//! RMSNorm (arXiv:1910.07467): `y = w · x · rstd`, `rstd = 1 / √(mean(x²) + eps)`, a row per token.
//!
//! Bound by memory: the forward reads and writes a row once, from the level 1 cache the second time.

use crate::simd::Simd;

/// Writes `y`, and `rstd` for [`backward`].
#[inline(always)]
pub(crate) fn forward<S: Simd>(s: S, y: &mut [f32], rstd: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
    let features = w.len();
    for ((y, x), rstd) in y.chunks_exact_mut(features).zip(x.chunks_exact(features)).zip(rstd) {
        *rstd = (s.dot(x, x) / features as f32 + eps).sqrt().recip();
        let scale = s.splat(*rstd);
        for ((y, x), w) in y.chunks_mut(S::LANES).zip(x.chunks(S::LANES)).zip(w.chunks(S::LANES)) {
            s.store(y, s.mul(s.load(w), s.mul(s.load(x), scale)));
        }
    }
}

/// With `x̂ = x · rstd` and `g = w · dy`: adds `rstd · (g − x̂ · mean(g · x̂))` to `dx`.
#[inline(always)]
pub(crate) fn backward<S: Simd>(s: S, dx: &mut [f32], dy: &[f32], x: &[f32], w: &[f32], rstd: &[f32]) {
    let features = w.len();
    let rows = dy.chunks_exact(features).zip(x.chunks_exact(features)).zip(rstd);
    for (dx, ((dy, x), &rstd)) in dx.chunks_exact_mut(features).zip(rows) {
        let vectors = || dy.chunks(S::LANES).zip(x.chunks(S::LANES)).zip(w.chunks(S::LANES));
        let mut sum = s.splat(0.0);
        for ((dy, x), w) in vectors() {
            sum = s.mul_add(s.mul(s.load(w), s.load(dy)), s.load(x), sum);
        }
        let mean = s.splat(s.sum(sum) * rstd / features as f32);
        let rstd = s.splat(rstd);
        for (dx, ((dy, x), w)) in dx.chunks_mut(S::LANES).zip(vectors()) {
            let g = s.mul(s.load(w), s.load(dy));
            let d = s.sub(g, s.mul(s.mul(s.load(x), rstd), mean));
            s.store(dx, s.mul_add(rstd, d, s.load(dx)));
        }
    }
}

/// Adds `Σₙ dy · x̂`, in the order of n, to `dw`: the columns from `column` on of `features`.
#[inline(always)]
pub(crate) fn backward_weight<S: Simd>(
    s: S,
    dw: &mut [f32],
    column: usize,
    features: usize,
    dy: &[f32],
    x: &[f32],
    rstd: &[f32],
) {
    for ((dy, x), &rstd) in dy.chunks_exact(features).zip(x.chunks_exact(features)).zip(rstd) {
        let (dy, x, rstd) = (&dy[column..][..dw.len()], &x[column..][..dw.len()], s.splat(rstd));
        for ((dw, dy), x) in dw.chunks_mut(S::LANES).zip(dy.chunks(S::LANES)).zip(x.chunks(S::LANES)) {
            s.store(dw, s.mul_add(s.load(dy), s.mul(s.load(x), rstd), s.load(dw)));
        }
    }
}
