//! What a run will take, known without starting it.

use koan_backend::Backend;

use super::{RejectConfig, inputs::Inputs};
use crate::{TrainError, stage::available_disk};

/// What a run will take.
#[derive(Clone, Debug)]
pub struct Forecast {
    /// Steps in all.
    pub steps: u64,
    /// Problems that are sampled.
    pub problems: usize,
    /// Problems that are left out, since their references are bad.
    pub bad_references: usize,
    /// Most tokens of a prompt and of a completion.
    pub tokens: [usize; 2],
    /// Sequences sampled at once.
    pub sequences: usize,
    /// Bytes of weights, of the generator, and of models that judge.
    pub memory: [u64; 3],
    /// Bytes of the device that are free, where it says.
    pub available: Option<u64>,
    /// Bytes of rollouts and data, at most, about.
    pub disk: u64,
    /// Bytes that are free on the disk of the run directory, where it says.
    pub available_disk: Option<u64>,
}

impl Forecast {
    /// Of `config`, on `b`. The model's directory needs a config and a tokenizer, and no weights. Nothing is written.
    ///
    /// # Errors
    /// Files that are wrong, and what does not fit into memory.
    pub fn of<B: Backend>(b: &B, config: &RejectConfig) -> Result<Self, TrainError> {
        let inputs = Inputs::plan(b, config, None)?;
        Ok(Self {
            steps: inputs.steps(config),
            problems: inputs.problems.len(),
            bad_references: inputs.bad.len(),
            tokens: [inputs.limits.prompt_tokens, inputs.limits.new_tokens],
            sequences: inputs.plan.limits.sequences,
            memory: inputs.memory(b),
            available: b.free_memory(),
            disk: inputs.disk(config),
            available_disk: available_disk(&config.stage.run_dir)?,
        })
    }
}
