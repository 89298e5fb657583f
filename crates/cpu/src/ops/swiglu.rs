//! SwiGLU (arXiv:2002.05202): `y = gate · σ(gate) · up`, element by element.
//!
//! Bound by memory where the numbers are not in a cache; by σ, some twenty instructions a vector, where they
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

/// Writes `dgate = dy · up · σ(gate) · (1 + gate · (1 − σ(gate)))` and `dup = dy · gate · σ(gate)`.
#[inline(always)]
pub(crate) fn backward<S: Simd>(
    s: S,
    dgate: &mut [f32],
    dup: &mut [f32],
    dy: &[f32],
    gate: &[f32],
    up: &[f32],
) {
    let outputs = dgate.chunks_mut(S::LANES).zip(dup.chunks_mut(S::LANES));
    let inputs = dy.chunks(S::LANES).zip(gate.chunks(S::LANES)).zip(up.chunks(S::LANES));
    let one = s.splat(1.0);
    for ((dgate, dup), ((dy, gate), up)) in outputs.zip(inputs) {
        let (dy, gate) = (s.load(dy), s.load(gate));
        let sigmoid = s.sigmoid(gate);
        let slope = s.mul(sigmoid, s.mul_add(gate, s.sub(one, sigmoid), one));
        s.store(dgate, s.mul(s.mul(dy, s.load(up)), slope));
        s.store(dup, s.mul(dy, s.mul(gate, sigmoid)));
    }
}
