//! Rotary positions (arXiv:2104.09864), in the half-split form: with i < dim/2 and the angle of (position,
//! i), `(xᵢ, xᵢ₊dim/2) ← (xᵢ cos − xᵢ₊dim/2 sin, xᵢ₊dim/2 cos + xᵢ sin)`. The backward turns by the opposite
//! angle.
//!
//! Bound by memory: two multiply-adds and two products for two elements read and written.

use crate::simd::Simd;

/// Cosines and sines `[positions, dim/2]`.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a> {
    pub(crate) cos: &'a [f32],
    pub(crate) sin: &'a [f32],
    /// −1 turns back.
    pub(crate) sign: f32,
}

/// Rotates every head of `x` `[positions.len(), heads · dim]`.
#[inline(always)]
pub(crate) fn rotate<S: Simd>(s: S, x: &mut [f32], table: Table<'_>, positions: &[u32], dim: usize) {
    let (half, sign) = (dim / 2, s.splat(table.sign));
    let features = x.len() / positions.len().max(1);
    for (row, &position) in x.chunks_exact_mut(features.max(1)).zip(positions) {
        let start = position as usize * half;
        let (cos, sin) = (&table.cos[start..][..half], &table.sin[start..][..half]);
        for head in row.chunks_exact_mut(dim) {
            let (low, high) = head.split_at_mut(half);
            let angles = cos.chunks(S::LANES).zip(sin.chunks(S::LANES));
            for ((low, high), (cos, sin)) in
                low.chunks_mut(S::LANES).zip(high.chunks_mut(S::LANES)).zip(angles)
            {
                let (a, b) = (s.load(low), s.load(high));
                let (cos, sin) = (s.load(cos), s.mul(s.load(sin), sign));
                s.store(low, s.sub(s.mul(a, cos), s.mul(b, sin)));
                s.store(high, s.mul_add(b, cos, s.mul(a, sin)));
            }
        }
    }
}
