//! AdamW (arXiv:1711.05101, Algorithm 2), bias-corrected, with `g` scaled first and the decay a share
//! of `lr`:
//! `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`,
//! `w ← w − lr (m̂ / (√v̂ + eps) + weight_decay · w)`. All buffers are of one length. The moments are rounded last.

use crate::{AdamWStep, MomentType, bf16};

/// A moment: its elements in f64, all of them values that bf16 holds if that is its type.
#[derive(Clone, Debug)]
pub struct Moment {
    pub(super) values: Vec<f64>,
    pub(super) kind: MomentType,
}

impl Moment {
    pub(super) fn new(values: Vec<f64>, kind: MomentType) -> Self {
        let mut moment = Self { values, kind };
        (0..moment.values.len()).for_each(|i| moment.set(i, moment.values[i], 0));
        moment
    }

    /// Number `i` becomes `x`, in bf16 rounded by `random`.
    fn set(&mut self, i: usize, x: f64, random: u32) {
        self.values[i] = match self.kind {
            MomentType::F32 => x,
            MomentType::Bf16 => bf16::to_f32(bf16::round(x as f32, random)).into(),
        };
    }
}

/// Updates the weights and both moments.
pub(super) fn step(w: &mut [f64], m: &mut Moment, v: &mut Moment, g: &[f64], step: AdamWStep) {
    let [lr, beta1, beta2, eps, weight_decay] =
        [step.lr, step.beta1, step.beta2, step.eps, step.weight_decay].map(f64::from);
    let [grad_scale, correction1, correction2] =
        [step.grad_scale, step.bias_correction1, step.bias_correction2].map(f64::from);
    for i in 0..w.len() {
        let g = grad_scale * g[i];
        let first = beta1 * m.values[i] + (1.0 - beta1) * g;
        let second = beta2 * v.values[i] + (1.0 - beta2) * g * g;
        let update = first / correction1 / ((second / correction2).sqrt() + eps);
        w[i] -= lr * (update + weight_decay * w[i]);
        let random = bf16::random_bits(step.rounding_key, i as u32);
        m.set(i, first, random);
        v.set(i, second, random >> 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: AdamWStep = AdamWStep {
        lr: 0.25,
        beta1: 0.75,
        beta2: 0.875,
        eps: 0.0,
        weight_decay: 0.5,
        grad_scale: 0.5,
        bias_correction1: 0.25,
        bias_correction2: 0.125,
        rounding_key: 0,
    };

    /// With `m̂ = g` and `v̂ = g²`, a first step is `lr` against the sign of the gradient, whatever its size.
    #[test]
    fn the_first_step_follows_the_sign() {
        for kind in [MomentType::F32, MomentType::Bf16] {
            let mut w = [1.0, 2.0, -1.0];
            let [mut m, mut v] = [(); 2].map(|()| Moment::new(vec![0.0; 3], kind));
            step(&mut w, &mut m, &mut v, &[8.0, -0.5, 2.0], FIRST);
            assert_eq!(w, [1.0 - 0.25 * 1.5, 2.0 + 0.25 * (1.0 - 1.0), -1.0 - 0.25 * (1.0 - 0.5)]);
            assert_eq!((m.values[0], v.values[0]), (1.0, 2.0));
        }
    }

    /// What stochastic rounding is for: at β₂ = 0.999, `v` reaches `g²` in the mean, where rounding to nearest would stop it
    /// as soon as a step is less than half a unit in the last place.
    #[test]
    fn a_second_moment_in_bf16_does_not_freeze() {
        const N: usize = 256;
        let (beta2, g) = (0.999f32, 0.013);
        let [mut m, mut v] = [(); 2].map(|()| Moment::new(vec![0.0; N], MomentType::Bf16));
        let mut nearest = 0.0f32;
        for t in 0..8000 {
            let rounding_key = bf16::random_bits(0, t);
            let slow = AdamWStep { lr: 0.0, beta2, grad_scale: 1.0, eps: 1e-8, rounding_key, ..FIRST };
            step(&mut [0.0; N], &mut m, &mut v, &[g; N], slow);
            let next = beta2 * nearest + (1.0 - beta2) * (g * g) as f32;
            nearest = bf16::to_f32(bf16::round(next, 0x8000)); // half a unit: to nearest
        }
        let mean = v.values.iter().sum::<f64>() / N as f64 / (g * g);
        assert!((mean - 1.0).abs() < 0.02, "{mean} of g²");
        assert!(f64::from(nearest) < 0.5 * g * g, "{} of g²", f64::from(nearest) / (g * g));
    }
}
