//! Rotary positions (arXiv:2104.09864): with i < dim/2, the angle of (position, i) and a, b the two features that it turns,
//! `(x_a, x_b) ← (x_a cos − x_b sin, x_b cos + x_a sin)`. The backward turns by the opposite angle.
//!
//! Bound by memory: two multiply-adds and two products for two elements read and written.

use koan_backend::{Pairs, Rotation};

use crate::simd::Simd;

/// Cosines and sines `[positions, dim/2]`.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a> {
    pub(crate) cos: &'a [f32],
    pub(crate) sin: &'a [f32],
    /// −1 turns back.
    pub(crate) sign: f32,
}

/// Rotates the heads of `x` `[positions.len(), rotation.features()]`.
#[inline(always)]
pub(crate) fn rotate<S: Simd>(s: S, x: &mut [f32], table: Table<'_>, positions: &[u32], rotation: Rotation) {
    let half = rotation.dim / 2;
    for (row, &position) in x.chunks_exact_mut(rotation.features()).zip(positions) {
        let start = position as usize * half;
        let (cos, sin) = (&table.cos[start..][..half], &table.sin[start..][..half]);
        for head in row.chunks_exact_mut(rotation.head_features) {
            let x = &mut head[rotation.start..][..rotation.dim];
            match rotation.pairs {
                Pairs::Halves => halves(s, x, cos, sin, table.sign),
                Pairs::Neighbours => neighbours(x, cos, sin, table.sign),
            }
        }
    }
}

#[inline(always)]
fn halves<S: Simd>(s: S, x: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
    let (low, high) = x.split_at_mut(cos.len());
    let angles = cos.chunks(S::LANES).zip(sin.chunks(S::LANES));
    for ((low, high), (cos, sin)) in low.chunks_mut(S::LANES).zip(high.chunks_mut(S::LANES)).zip(angles) {
        let (a, b) = (s.load(low), s.load(high));
        let (cos, sin) = (s.load(cos), s.mul(s.load(sin), s.splat(sign)));
        s.store(low, s.sub(s.mul(a, cos), s.mul(b, sin)));
        s.store(high, s.mul_add(b, cos, s.mul(a, sin)));
    }
}

/// Left to the compiler's vectors: a few features of a head are rotated so.
#[inline(always)]
fn neighbours(x: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
    for (pair, (cos, sin)) in x.chunks_exact_mut(2).zip(cos.iter().zip(sin)) {
        let (a, b, sin) = (pair[0], pair[1], sin * sign);
        pair[0] = a * cos - b * sin;
        pair[1] = b * cos + a * sin;
    }
}
