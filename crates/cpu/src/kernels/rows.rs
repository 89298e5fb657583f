//! Rows that are added, what scatters and biases are made of, and rows that are scaled. Bound by memory.

use crate::simd::Simd;

/// `y += x`
#[inline(always)]
pub(crate) fn add<S: Simd>(s: S, y: &mut [f32], x: &[f32]) {
    for (y, x) in y.chunks_mut(S::LANES).zip(x.chunks(S::LANES)) {
        s.store(y, s.add(s.load(y), s.load(x)));
    }
}

/// `x *= factor`
#[inline(always)]
pub(crate) fn scale<S: Simd>(s: S, x: &mut [f32], factor: f32) {
    let factor = s.splat(factor);
    for x in x.chunks_mut(S::LANES) {
        s.store(x, s.mul(s.load(x), factor));
    }
}
