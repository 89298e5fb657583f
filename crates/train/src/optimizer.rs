//! AdamW with warm-up, a schedule, and clipping by the global norm of the gradient.

use koan_backend::{AdamWStep, Backend, MomentType, OutOfMemory, bf16};
use koan_model::{Config, Gradient, Model, TensorInfo, Transformer, safetensors_file::Stored};

use crate::{OptimConfig, Schedule, TrainError};

/// The share of the updates in which [`Schedule::Wsd`] falls.
const WSD_DECAY: f64 = 0.2;

/// The moments of every parameter.
pub struct Optimizer<B: Backend> {
    /// First moments.
    pub m: Transformer<B::Moment>,
    /// Second moments.
    pub v: Transformer<B::Moment>,
    /// In what they are kept.
    pub moments: MomentType,
    /// Updates made so far.
    pub updates: u64,
}

impl<B: Backend> Optimizer<B> {
    /// No update made yet: all moments zero.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, config: &Config, moments: MomentType) -> Result<Self, OutOfMemory> {
        let zeros = || Transformer::try_build(config, |info| b.zero_moment(info.len(), moments));
        Ok(Self { m: zeros()?, v: zeros()?, moments, updates: 0 })
    }

    /// Clips the gradient, makes one update of `model` at learning rate `lr`, and repacks its weights. Returns the norm of
    /// the gradient before clipping. Weight decay applies to matrices, not to norms and biases.
    ///
    /// # Errors
    /// If the gradient is not finite; the model is then unchanged.
    pub fn update(
        &mut self,
        b: &B,
        model: &mut Model<B>,
        gradient: &Gradient<B>,
        optim: &OptimConfig,
        lr: f32,
    ) -> Result<f64, TrainError> {
        let gradients: Vec<&B::Buf> = gradient.weights.tensors().collect();
        let squares = b.sums_of_squares(&gradients);
        if let Some((_, p)) = squares.iter().zip(model.weights.tensors()).find(|(sum, _)| !sum.is_finite()) {
            let what = format!("the gradient of `{}`", p.info().name);
            return Err(TrainError::NotFinite { what, update: self.updates + 1 });
        }
        let norm = squares.iter().sum::<f64>().sqrt();
        let grad_scale = if norm > optim.grad_clip { (optim.grad_clip / norm) as f32 } else { 1.0 };
        self.updates += 1;
        let t = self.updates as f64;
        let step = AdamWStep {
            lr,
            beta1: optim.beta1,
            beta2: optim.beta2,
            eps: optim.eps,
            weight_decay: optim.weight_decay,
            grad_scale,
            bias_correction1: (1.0 - f64::from(optim.beta1).powf(t)) as f32,
            bias_correction2: (1.0 - f64::from(optim.beta2).powf(t)) as f32,
            rounding_key: 0,
        };
        let moments = (0..).zip(self.m.tensors_mut().zip(self.v.tensors_mut()));
        let weights = model.weights.tensors_mut().zip(gradient.weights.tensors());
        for ((p, g), (tensor, (m, v))) in weights.zip(moments) {
            let weight_decay = if p.info().role.is_matrix() { step.weight_decay } else { 0.0 };
            let rounding_key = bf16::random_bits(bf16::random_bits(0, tensor), self.updates as u32);
            b.adamw_step(p.value_mut(), m, v, g, AdamWStep { weight_decay, rounding_key, ..step });
            p.repack(b);
        }
        Ok(norm)
    }
}

/// Bytes of memory of both moments of all parameters.
pub(crate) fn moment_bytes<B: Backend>(b: &B, model: &Config, moments: MomentType) -> usize {
    let bytes = |info: &TensorInfo| b.moment_bytes(info.len(), moments);
    2 * model.tensors().iter().map(bytes).sum::<usize>()
}

/// In what a file holds moments: nothing is lost.
pub(crate) fn stored(moments: MomentType) -> Stored {
    match moments {
        MomentType::F32 => Stored::F32,
        MomentType::Bf16 => Stored::Bf16,
    }
}

impl OptimConfig {
    /// The learning rate of an update, counted from 0, of `updates` in all: a linear warm-up, then the schedule.
    pub fn lr_at(&self, update: u64, updates: u64) -> f32 {
        let (t, warmup) = (update as f64, self.warmup_steps as f64);
        if t < warmup {
            return self.lr * ((t + 1.0) / warmup) as f32;
        }
        let progress = (t - warmup) / (updates as f64 - warmup).max(1.0);
        let share = match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Linear => 1.0 - progress,
            Schedule::Cosine => 0.5 + 0.5 * (std::f64::consts::PI * progress).cos(),
            Schedule::Wsd => ((1.0 - progress) / WSD_DECAY).min(1.0),
        };
        self.lr * share as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_start_and_end_where_they_should() {
        let optim = |schedule| OptimConfig { lr: 1.0, warmup_steps: 4, schedule, ..OptimConfig::default() };
        for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Cosine, Schedule::Wsd] {
            assert_eq!(optim(schedule).lr_at(0, 20), 0.25);
            assert_eq!(optim(schedule).lr_at(3, 20), 1.0);
            assert_eq!(optim(schedule).lr_at(4, 20), 1.0);
        }
        assert_eq!(optim(Schedule::Constant).lr_at(19, 20), 1.0);
        assert_eq!(optim(Schedule::Linear).lr_at(12, 20), 0.5);
        assert!((optim(Schedule::Cosine).lr_at(12, 20) - 0.5).abs() < 1e-6);
        assert!((optim(Schedule::Wsd).lr_at(16, 20) - 1.0).abs() < 1e-6);
        assert!((optim(Schedule::Wsd).lr_at(18, 20) - 0.625).abs() < 1e-6);
        assert!(optim(Schedule::Linear).lr_at(19, 20) > 0.0);
    }
}
