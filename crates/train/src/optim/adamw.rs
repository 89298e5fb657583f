//! AdamW, with clipping by the global norm of the gradient.

use koan_backend::{AdamWStep, Backend, MomentType, OutOfMemory, bf16};
use koan_model::{Config, Gradient, Model, TensorInfo, Transformer, safetensors_file::Stored};

use super::{Balance, NotFinite, OptimConfig};

/// The moments of every parameter; those of what is frozen are empty.
pub struct Optimizer<B: Backend> {
    /// First moments.
    pub m: Transformer<B::Moment>,
    /// Second moments.
    pub v: Transformer<B::Moment>,
    /// In what they are kept.
    pub moments: MomentType,
    /// Updates made so far.
    pub updates: u64,
    /// What balances the experts of a model that has them.
    pub balance: Balance,
}

impl<B: Backend> Optimizer<B> {
    /// No update made yet: all moments zero.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, config: &Config, moments: MomentType) -> Result<Self, OutOfMemory> {
        let zeros = || Transformer::try_build(config, |info| b.zero_moment(info.trained_len(), moments));
        Ok(Self { m: zeros()?, v: zeros()?, moments, updates: 0, balance: Balance::default() })
    }

    /// Clips the gradient, makes one update of `model` at learning rate `lr`, and repacks its weights. Returns the norm of
    /// the gradient before clipping. Weight decay applies to matrices, not to norms and biases. Biases of routers are moved by
    /// [`Balance`].
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
    ) -> Result<f64, NotFinite> {
        let trained =
            || model.weights.tensors().zip(gradient.weights.tensors()).filter(|(p, _)| p.info().trained);
        let gradients: Vec<&B::Buf> = trained().map(|(_, g)| g).collect();
        let squares = b.sums_of_squares(&gradients);
        if let Some((_, (p, _))) = squares.iter().zip(trained()).find(|(sum, _)| !sum.is_finite()) {
            let what = format!("the gradient of `{}`", p.info().name);
            return Err(NotFinite { what, update: self.updates + 1 });
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
        for ((p, g), (tensor, (m, v))) in weights.zip(moments).filter(|((p, _), _)| p.info().trained) {
            let weight_decay = if p.info().role.is_matrix() { step.weight_decay } else { 0.0 };
            let rounding_key = bf16::random_bits(bf16::random_bits(0, tensor), self.updates as u32);
            b.adamw_step(p.value_mut(), m, v, g, AdamWStep { weight_decay, rounding_key, ..step });
            p.repack(b);
        }
        self.balance.after_update(b, model, gradient, self.updates);
        Ok(norm)
    }
}

/// Bytes of memory of both moments of all parameters.
pub(crate) fn moment_bytes<B: Backend>(b: &B, model: &Config, moments: MomentType) -> usize {
    let bytes = |info: &TensorInfo| b.moment_bytes(info.trained_len(), moments);
    2 * model.tensors().iter().map(bytes).sum::<usize>()
}

/// In what a file holds moments: nothing is lost.
pub(crate) fn stored(moments: MomentType) -> Stored {
    match moments {
        MomentType::F32 => Stored::F32,
        MomentType::Bf16 => Stored::Bf16,
    }
}
