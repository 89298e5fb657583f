//! The `[optim]` table.

use koan_backend::MomentType;
use koan_model::Purpose;
use serde::{Deserialize, Serialize};

use super::Schedule;
use crate::config::{ConfigError, check, is_size};

/// The names of [`MomentType`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "MomentType", rename_all = "kebab-case")]
enum MomentName {
    F32,
    Bf16,
}

/// `[optim]`: AdamW.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimConfig {
    /// Learning rate.
    pub lr: f32,
    /// Share of the updates over which it rises from zero; or `warmup_steps`.
    #[serde(skip_serializing_if = "is_zero")]
    pub warmup_share: f64,
    /// Updates over which it rises from zero; or `warmup_share`.
    pub warmup_steps: u64,
    /// How it goes then.
    pub schedule: Schedule,
    /// What the learning rate falls to, where the schedule lets it fall.
    pub lr_end: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled decay of matrices.
    pub weight_decay: f32,
    /// Largest norm of the gradient.
    pub grad_clip: f64,
    /// In what both moments are kept: 8 bytes per parameter in f32, 4 in bf16, rounded stochastically.
    #[serde(with = "MomentName")]
    pub moments: MomentType,
    /// Tokens of one forward and backward pass: more is faster and takes more memory; the result is equal up to
    /// rounding.
    pub micro_batch_tokens: usize,
    /// Keep of each layer only its input, and compute the rest again in the backward: the same gradient to the bit, for
    /// a third more work and a fraction of the memory.
    pub recompute: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

impl OptimConfig {
    /// What a training pass is planned for.
    pub fn purpose(&self) -> Purpose {
        if self.recompute { Purpose::Recomputing } else { Purpose::Training }
    }

    /// The optimizer in words, every constant with its value; of a run of so many `updates`, if that is known.
    pub(crate) fn explain(&self, updates: Option<u64>) -> String {
        let moments = match self.moments {
            MomentType::F32 => "f32",
            MomentType::Bf16 => "bf16, rounded stochastically",
        };
        format!(
            "AdamW: lr {:e}, betas {} {}, eps {:e}, weight decay {}, gradient norm at most {}, moments in {moments}\n{}",
            self.lr,
            self.beta1,
            self.beta2,
            self.eps,
            self.weight_decay,
            self.grad_clip,
            self.explain_schedule(updates),
        )
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check(self.lr >= 0.0 && self.lr.is_finite(), "optim.lr", &self.lr, "0 or more")?;
        check((0.0..=self.lr).contains(&self.lr_end), "optim.lr_end", &self.lr_end, "0 to optim.lr")?;
        self.schedule.check(self.lr_end)?;
        check((0.0..=1.0).contains(&self.warmup_share), "optim.warmup_share", &self.warmup_share, "0 to 1")?;
        let either = self.warmup_share == 0.0 || self.warmup_steps == 0;
        check(either, "optim.warmup_share", &self.warmup_share, "given, or optim.warmup_steps, not both")?;
        check((0.0..1.0).contains(&self.beta1), "optim.beta1", &self.beta1, "0 to below 1")?;
        check((0.0..1.0).contains(&self.beta2), "optim.beta2", &self.beta2, "0 to below 1")?;
        check(self.eps > 0.0 && self.eps.is_finite(), "optim.eps", &self.eps, "above 0")?;
        check(
            self.weight_decay >= 0.0 && self.weight_decay.is_finite(),
            "optim.weight_decay",
            &self.weight_decay,
            "0 or more",
        )?;
        check(self.grad_clip > 0.0, "optim.grad_clip", &self.grad_clip, "above 0")?;
        check(
            is_size(self.micro_batch_tokens),
            "optim.micro_batch_tokens",
            &self.micro_batch_tokens,
            "1 to 1048576",
        )
    }
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            lr: 1e-6,
            warmup_steps: 0,
            warmup_share: 0.0,
            schedule: Schedule::Constant,
            lr_end: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            grad_clip: 1.0,
            moments: MomentType::F32,
            micro_batch_tokens: 512,
            recompute: false,
        }
    }
}
