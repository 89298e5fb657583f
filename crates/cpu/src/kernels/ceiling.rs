//! Loops of nothing but multiply-adds, or but reads: what a core reaches at most.

use std::hint::black_box;

use crate::simd::Simd;

/// Sums that are added to in turn: enough that none is waited for, with four cycles for each and two started per cycle.
pub(crate) const SUMS: usize = 12;

/// `turns` multiply-adds of each of [`SUMS`] vectors.
#[inline(always)]
pub(crate) fn multiply_adds<S: Simd>(s: S, turns: usize) -> f32 {
    let x = s.splat(black_box(0.5));
    let mut sums = [s.splat(0.0); SUMS];
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = s.mul_add(x, x, *sum);
        }
    }
    sums.into_iter().map(|sum| s.sum(sum)).sum()
}

/// The sum of `x`, in any order.
#[inline(always)]
pub(crate) fn read<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut sums = [s.splat(0.0); 8];
    for x in x.chunks_exact(8 * S::LANES) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = s.add(*sum, s.load(&x[i * S::LANES..]));
        }
    }
    sums.into_iter().map(|sum| s.sum(sum)).sum()
}
