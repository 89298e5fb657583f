//! Memory of a step, before the first.

use koan_backend::Backend;
use koan_model::{Config, Residency};

use crate::{
    comm::Parts,
    gradient::{Passes, Tree},
    optim::{OptimConfig, moment_bytes},
    stage::{GIB, StageError, adapter_in_words},
};

/// Bytes of weights, gradient (added up over the shards of a rank) and optimizer, and of a pass of `rows` tokens.
pub fn step_bytes<B: Backend>(
    b: &B,
    model: &Config,
    rows: usize,
    optim: &OptimConfig,
    parts: Parts,
) -> [u64; 2] {
    let moments = moment_bytes(b, model, optim.moments);
    let gradient = model.gradient_bytes(b) + Tree::bytes(b, model, parts);
    let weights = model.model_bytes(b, Residency::Training) + gradient + moments;
    [weights as u64, Passes::bytes(b, model, rows, optim.purpose()) as u64]
}

/// Refuses a run in passes of `rows` tokens that exceeds the memory that is free. Says what takes how much.
///
/// # Errors
/// [`StageError::Memory`].
pub fn check_memory<B: Backend>(
    b: &B,
    model: &Config,
    rows: usize,
    optim: &OptimConfig,
    parts: Parts,
) -> Result<String, StageError> {
    let [weights, pass] = step_bytes(b, model, rows, optim, parts);
    let adapter = adapter_in_words(model).map_or_else(String::new, |adapter| format!("; {adapter}"));
    let breakdown = format!(
        "weights, gradient and optimizer {:.2} GiB, a pass of {rows} tokens {:.2}{adapter}",
        weights as f64 / GIB,
        pass as f64 / GIB
    );
    let remedy = match parts.shards {
        1 => "lower optim.micro_batch_tokens or max_tokens, or set optim.recompute",
        _ => "lower optim.micro_batch_tokens, max_tokens or shards, or set optim.recompute",
    };
    koan_backend::check_memory("a step", weights + pass, b.free_memory(), breakdown.clone(), remedy)?;
    Ok(breakdown)
}
