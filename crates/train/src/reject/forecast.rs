//! What a run will take, known without starting it.

use koan_backend::Backend;

use super::{
    RejectConfig,
    inputs::{Inputs, Writer},
};
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
    /// Most tokens of a prompt; none where a server reads them.
    pub prompt_tokens: Option<usize>,
    /// Most tokens of a completion.
    pub new_tokens: usize,
    /// Sequences sampled at once, or requests to a server.
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
    /// Of `config`, on `b`. The model's directory needs a config and a tokenizer, and no weights; a server is not asked. Nothing is written.
    ///
    /// # Errors
    /// Files that are wrong, and what does not fit into memory.
    pub fn of<B: Backend>(b: &B, config: &RejectConfig) -> Result<Self, TrainError> {
        let inputs = Inputs::plan(b, config, None)?;
        let (prompt_tokens, sequences) = match &inputs.writer {
            Writer::Here(here) => (Some(here.limits.prompt_tokens), here.plan.limits.sequences),
            Writer::There(there) => (None, there.config.workers),
        };
        Ok(Self {
            steps: inputs.steps(config),
            problems: inputs.problems.len(),
            bad_references: inputs.bad.len(),
            prompt_tokens,
            new_tokens: config.rollout.max_new_tokens.most(),
            sequences,
            memory: inputs.memory(b),
            available: b.free_memory(),
            disk: inputs.disk(config),
            available_disk: available_disk(&config.stage.run_dir)?,
        })
    }
}
