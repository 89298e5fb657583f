//! AdamW (arXiv:1711.05101), and the norm that gradients are clipped by.
//!
//! Bound by memory: a step reads four numbers and writes three for each weight.

use koan_backend::AdamWStep;

use crate::simd::Simd;

/// Σ x², in eight chains of f64.
#[inline(always)]
pub(crate) fn sum_of_squares<S: Simd>(_: S, x: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    let (eights, rest) = x.as_chunks::<8>();
    for x in eights {
        for (sum, &x) in sums.iter_mut().zip(x) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum += f64::from(x) * f64::from(x);
    }
    sums.iter().sum()
}

/// One step on `w` and its moments, by the formula of [`AdamWStep`].
#[inline(always)]
pub(crate) fn step<S: Simd>(s: S, w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], step: AdamWStep) {
    let (beta1, beta2) = (s.splat(step.beta1), s.splat(step.beta2));
    let (rest1, rest2) = (s.splat(1.0 - step.beta1), s.splat(1.0 - step.beta2));
    let (correction1, correction2) = (s.splat(step.bias_correction1), s.splat(step.bias_correction2));
    let (descent, eps) = (s.splat(-step.lr), s.splat(step.eps));
    let (decay, scale) = (s.splat(step.weight_decay), s.splat(step.grad_scale));
    let state = w.chunks_mut(S::LANES).zip(m.chunks_mut(S::LANES)).zip(v.chunks_mut(S::LANES));
    for (((w, m), v), g) in state.zip(g.chunks(S::LANES)) {
        let g = s.mul(s.load(g), scale);
        let first = s.mul_add(beta1, s.load(m), s.mul(rest1, g));
        let second = s.mul_add(beta2, s.load(v), s.mul(rest2, s.mul(g, g)));
        let root = s.sqrt(s.div(second, correction2));
        let update = s.div(s.div(first, correction1), s.add(root, eps));
        let old = s.load(w);
        s.store(m, first);
        s.store(v, second);
        s.store(w, s.mul_add(descent, s.mul_add(decay, old, update), old));
    }
}
