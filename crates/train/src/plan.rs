//! The worst step, planned before the first: if it can't fit, the run says so then.

use std::path::Path;

use koan_generate::{Limits, available_memory};
use koan_model::{Config, Purpose};

use crate::{RlConfig, TrainError};

const GIB: f64 = (1u64 << 30) as f64;

/// What a run holds, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The policy and its packed copy, and the reference policy if there is one.
    pub weights: u64,
    /// Gradient and both moments.
    pub optimizer: u64,
    /// The longest pass forward and backward.
    pub training: u64,
    /// All sequences that run at once, at their longest.
    pub generation: u64,
    /// Most sequences at once, and their longest prompt and completion.
    pub limits: Limits,
    /// Rows of the longest training pass.
    pub rows: usize,
}

impl Plan {
    /// Plans `config`'s worst step for a model of the sizes `model`, with prompts of up to `prompt_tokens`.
    pub fn new(config: &RlConfig, model: &Config, prompt_tokens: usize) -> Self {
        let new_tokens = config.rollout.max_new_tokens;
        let limits = Limits { sequences: config.sequences(), prompt_tokens, new_tokens };
        let rows = config.optim.micro_batch_tokens.max(prompt_tokens - 1 + new_tokens);
        let parameters = model.parameters();
        let models = if config.loss().kl == 0.0 { 1 } else { 2 };
        let head = 2 * model.hidden_size + 3;
        let reference = Purpose::Inference.numbers_per_row(model) * (models - 1);
        let bytes = |numbers: usize| 4 * numbers as u64;
        Self {
            weights: bytes(models * 2 * parameters),
            optimizer: bytes(3 * parameters),
            training: bytes(rows * (config.optim.purpose().numbers_per_row(model) + head + reference)),
            generation: limits.bytes(model) as u64,
            limits,
            rows,
        }
    }

    /// All of it, in bytes.
    pub fn bytes(&self) -> u64 {
        self.weights + self.optimizer + self.training + self.generation
    }

    /// Refuses a plan that exceeds the memory that is free.
    ///
    /// # Errors
    /// [`TrainError::Memory`], with what takes how much. Where the system does not say what is free, nothing is refused.
    pub fn check_memory(&self) -> Result<(), TrainError> {
        match available_memory() {
            Some(available) if available < self.bytes() => Err(TrainError::Memory {
                needed_gib: self.bytes() as f64 / GIB,
                available_gib: available as f64 / GIB,
                breakdown: self.breakdown(),
            }),
            _ => Ok(()),
        }
    }

    /// What takes how much, in words.
    pub fn breakdown(&self) -> String {
        let gib = |bytes: u64| bytes as f64 / GIB;
        format!(
            "weights {:.2} GiB, gradient and optimizer {:.2}, a pass of {} tokens {:.2}, {} sequences at once {:.2}",
            gib(self.weights),
            gib(self.optimizer),
            self.rows,
            gib(self.training),
            self.limits.sequences,
            gib(self.generation)
        )
    }
}

/// Refuses a run whose checkpoints would not fit on the disk that holds `run_dir`: those that are kept, the one being
/// written, and the final model.
///
/// # Errors
/// [`TrainError::Disk`], or if the directory can't be looked at.
pub fn check_disk(run_dir: &Path, checkpoints_kept: usize, model: &Config) -> Result<(), TrainError> {
    let checkpoint = 3 * 4 * model.parameters() as u64;
    let needed = (checkpoints_kept as u64 + 1) * checkpoint + checkpoint / 3;
    let stat = rustix::fs::statvfs(run_dir).map_err(|e| TrainError::io("look at", run_dir)(e.into()))?;
    let available = stat.f_bavail * stat.f_frsize;
    if available < needed {
        let (needed_gib, available_gib) = (needed as f64 / GIB, available as f64 / GIB);
        return Err(TrainError::Disk { needed_gib, available_gib, path: run_dir.into() });
    }
    Ok(())
}
