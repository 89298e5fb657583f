//! SwiGLU (arXiv:2002.05202): `y = gate · σ(gate) · up`, element by element.
//!
//! Bound by memory where the elements are not in a cache; by σ, some twenty instructions per vector, where they
//! are.

use crate::simd::Simd;

/// Writes `y`.
#[inline(always)]
pub(crate) fn forward<S: Simd>(s: S, y: &mut [f32], gate: &[f32], up: &[f32]) {
    for ((y, gate), up) in y.chunks_mut(S::LANES).zip(gate.chunks(S::LANES)).zip(up.chunks(S::LANES)) {
        let gate = s.load(gate);
        s.store(y, s.mul(s.mul(gate, s.sigmoid(gate)), s.load(up)));
    }
}

/// In place: `gate` becomes `dgate = dy · up · σ(gate) · (1 + gate · (1 − σ(gate)))`, `up` becomes
/// `dup = dy · gate · σ(gate)`, `dy` becomes `y`.
#[inline(always)]
pub(crate) fn backward<S: Simd>(s: S, dy: &mut [f32], gate: &mut [f32], up: &mut [f32]) {
    let one = s.splat(1.0);
    let vectors = dy.chunks_mut(S::LANES).zip(gate.chunks_mut(S::LANES)).zip(up.chunks_mut(S::LANES));
    for ((in_dy, in_gate), in_up) in vectors {
        let (dy, gate, up) = (s.load(in_dy), s.load(in_gate), s.load(in_up));
        let sigmoid = s.sigmoid(gate);
        let silu = s.mul(gate, sigmoid);
        let slope = s.mul(sigmoid, s.mul_add(gate, s.sub(one, sigmoid), one));
        s.store(in_dy, s.mul(silu, up));
        s.store(in_gate, s.mul(s.mul(dy, up), slope));
        s.store(in_up, s.mul(dy, silu));
    }
}

/// Of rows of `features`, each times its weight: `y = w · gate · σ(gate) · up`.
#[inline(always)]
pub(crate) fn weighted_forward<S: Simd>(
    s: S,
    y: &mut [f32],
    gate: &[f32],
    up: &[f32],
    weights: &[f32],
    features: usize,
) {
    let rows = y.chunks_exact_mut(features).zip(gate.chunks_exact(features)).zip(up.chunks_exact(features));
    for (((y, gate), up), &w) in rows.zip(weights) {
        let w = s.splat(w);
        for ((y, gate), up) in y.chunks_mut(S::LANES).zip(gate.chunks(S::LANES)).zip(up.chunks(S::LANES)) {
            let gate = s.load(gate);
            s.store(y, s.mul(w, s.mul(s.mul(gate, s.sigmoid(gate)), s.load(up))));
        }
    }
}

/// As [`backward`] of rows with the gradient `w · dy`; writes `d_weights`, `Σ dy · gate · σ(gate) · up` of each row.
#[inline(always)]
pub(crate) fn weighted_backward<S: Simd>(
    s: S,
    d_weights: &mut [f32],
    dy: &mut [f32],
    gate: &mut [f32],
    up: &mut [f32],
    weights: &[f32],
    features: usize,
) {
    let one = s.splat(1.0);
    let rows = dy
        .chunks_exact_mut(features)
        .zip(gate.chunks_exact_mut(features))
        .zip(up.chunks_exact_mut(features))
        .zip(d_weights.iter_mut().zip(weights));
    for (((dy, gate), up), (d_weight, &w)) in rows {
        let (w, mut sum) = (s.splat(w), s.splat(0.0));
        let vectors = dy.chunks_mut(S::LANES).zip(gate.chunks_mut(S::LANES)).zip(up.chunks_mut(S::LANES));
        for ((in_dy, in_gate), in_up) in vectors {
            let (dy, gate, up) = (s.load(in_dy), s.load(in_gate), s.load(in_up));
            let sigmoid = s.sigmoid(gate);
            let silu = s.mul(gate, sigmoid);
            let slope = s.mul(sigmoid, s.mul_add(gate, s.sub(one, sigmoid), one));
            let y = s.mul(silu, up);
            sum = s.mul_add(dy, y, sum);
            let dy = s.mul(w, dy);
            s.store(in_dy, s.mul(w, y));
            s.store(in_gate, s.mul(s.mul(dy, up), slope));
            s.store(in_up, s.mul(dy, silu));
        }
        *d_weight = s.sum(sum);
    }
}
