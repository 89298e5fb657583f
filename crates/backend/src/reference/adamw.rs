//! AdamW (arXiv:1711.05101, Algorithm 2), bias-corrected, with `g` scaled first and the decay a share
//! of `lr`:
//! `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`,
//! `w ← w − lr (m̂ / (√v̂ + eps) + weight_decay · w)`. All buffers are of one length.

use crate::AdamWStep;

/// Updates the weights and both moments.
pub(super) fn step(w: &mut [f64], m: &mut [f64], v: &mut [f64], g: &[f64], step: AdamWStep) {
    let [lr, beta1, beta2, eps, weight_decay] =
        [step.lr, step.beta1, step.beta2, step.eps, step.weight_decay].map(f64::from);
    let [grad_scale, correction1, correction2] =
        [step.grad_scale, step.bias_correction1, step.bias_correction2].map(f64::from);
    for i in 0..w.len() {
        let g = grad_scale * g[i];
        m[i] = beta1 * m[i] + (1.0 - beta1) * g;
        v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
        let update = m[i] / correction1 / ((v[i] / correction2).sqrt() + eps);
        w[i] -= lr * (update + weight_decay * w[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `m̂ = g` and `v̂ = g²`, a first step is `lr` against the sign of the gradient, whatever its size.
    #[test]
    fn the_first_step_follows_the_sign() {
        let (mut w, mut m, mut v) = ([1.0, 2.0, -1.0], [0.0; 3], [0.0; 3]);
        let first = AdamWStep {
            lr: 0.25,
            beta1: 0.75,
            beta2: 0.875,
            eps: 0.0,
            weight_decay: 0.5,
            grad_scale: 0.5,
            bias_correction1: 0.25,
            bias_correction2: 0.125,
        };
        step(&mut w, &mut m, &mut v, &[8.0, -0.5, 2.0], first);
        assert_eq!(w, [1.0 - 0.25 * 1.5, 2.0 + 0.25 * (1.0 - 1.0), -1.0 - 0.25 * (1.0 - 0.5)]);
        assert_eq!((m[0], v[0]), (1.0, 2.0));
    }
}
