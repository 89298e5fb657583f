//! Operands rounded to FP8, as f32 that hold the numbers of E4M3, and sums that are scaled. Plain loops, which the compiler
//! makes vectors of; each function is compiled for every instruction set.

use koan_backend::fp8;

use crate::simd::Simd;

/// `y = E4M3(x / s)`, with the scale `s` of `x`, which it returns.
#[inline(always)]
pub(crate) fn round_block<S: Simd>(s: S, y: &mut [f32], x: &[f32]) -> f32 {
    let scale = fp8::scale(fp8::largest(x));
    round(s, y, x, scale);
    scale
}

/// `y = E4M3(x / scale)`
#[inline(always)]
pub(crate) fn round<S: Simd>(_: S, y: &mut [f32], x: &[f32], scale: f32) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = fp8::round(x / scale));
}

/// `y = E4M3(x / scales)`, element by element.
#[inline(always)]
pub(crate) fn round_columns<S: Simd>(_: S, y: &mut [f32], x: &[f32], scales: &[f32]) {
    y.iter_mut().zip(x).zip(scales).for_each(|((y, &x), &scale)| *y = fp8::round(x / scale));
}

/// The largest magnitude of `x`; NaN is above all.
#[inline(always)]
pub(crate) fn largest<S: Simd>(_: S, x: &[f32]) -> f32 {
    fp8::largest(x)
}

/// Raises magnitudes `most` to those of `x`, element by element; NaN is above all.
#[inline(always)]
pub(crate) fn raise<S: Simd>(_: S, most: &mut [f32], x: &[f32]) {
    for (most, x) in most.iter_mut().zip(x) {
        *most = f32::from_bits(most.to_bits().max(x.to_bits() & 0x7fff_ffff));
    }
}

/// Magnitudes of columns become their scales.
#[inline(always)]
pub(crate) fn scales<S: Simd>(_: S, most: &mut [f32]) {
    for most in most {
        *most = fp8::scale(*most);
    }
}

/// `y *= scale`
#[inline(always)]
pub(crate) fn unscale<S: Simd>(_: S, y: &mut [f32], scale: f32) {
    for y in y {
        *y *= scale;
    }
}

/// `c += sums · row_scale · column_scales`
#[inline(always)]
pub(crate) fn add_scaled<S: Simd>(_: S, c: &mut [f32], sums: &[f32], row_scale: f32, column_scales: &[f32]) {
    for ((c, &sum), &scale) in c.iter_mut().zip(sums).zip(column_scales) {
        *c += sum * row_scale * scale;
    }
}
