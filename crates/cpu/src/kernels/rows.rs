//! Rows that are added: what scatters and biases are made of. Bound by memory.

use crate::simd::Simd;

/// `y += x`
#[inline(always)]
pub(crate) fn add<S: Simd>(s: S, y: &mut [f32], x: &[f32]) {
    for (y, x) in y.chunks_mut(S::LANES).zip(x.chunks(S::LANES)) {
        s.store(y, s.add(s.load(y), s.load(x)));
    }
}
