//! The memory of a model that speaks, planned before its weights are read.

use std::path::Path;

use koan_backend::{Backend, DoesNotFit, check_memory};
use koan_generate::{Drafts, Limits, MemoryPlan};
use koan_model::{Config, Head, Purpose, Residency, checkpoint::check_positions};

use crate::{Codec, InferError};

/// The share of the memory that is free which a generator takes unless it is given a budget.
pub(crate) const SHARE_OF_MEMORY: f64 = 0.8;

const GIB: f64 = (1u64 << 30) as f64;
const REMEDY: &str =
    "use a smaller model, shorter sequences, or a machine (or a limit of this one) with more memory";

/// Refuses a model of these sizes, with `rest` more bytes for `what`, if it does not fit into the memory that is free.
pub(crate) fn check<B: Backend>(b: &B, config: &Config, rest: usize, what: &str) -> Result<(), DoesNotFit> {
    let weights = config.model_bytes(b, Residency::Inference);
    let needed = weights.saturating_add(rest).max(config.loading_bytes(b, Residency::Inference));
    let breakdown = format!("weights {:.2} GiB, {what} {:.2}", weights as f64 / GIB, rest as f64 / GIB);
    check_memory("the model", needed as u64, b.free_memory(), breakdown, REMEDY)
}

/// Plans the model of directory `dir` with a generator: the sequences of `limits` run at once, or as many of them as fit into
/// `memory` bytes, or without such a budget into most of the memory that the weights leave. Nothing is read.
///
/// # Errors
/// More positions than the model reaches, or no room for the weights and one sequence.
pub fn plan_generator<B: Backend>(
    b: &B,
    dir: &Path,
    config: &Config,
    positions: usize,
    limits: Limits,
    memory: Option<usize>,
) -> Result<MemoryPlan, InferError> {
    check_positions(dir, config, positions)?;
    check_drafts(dir, config, limits.drafts)?;
    let one = MemoryPlan::whole(b, Limits { sequences: 1, ..limits }).bytes(b, config);
    check(b, config, one, "one sequence")?;
    let left =
        b.free_memory().map(|free| free.saturating_sub(config.model_bytes(b, Residency::Inference) as u64));
    let share = left.map(|left| ((left as f64 * SHARE_OF_MEMORY) as usize).max(one));
    let plan = match memory.or(share) {
        Some(bytes) => MemoryPlan::within(b, limits, config, bytes)?,
        None => MemoryPlan::whole(b, limits),
    };
    check(b, config, plan.bytes(b, config), &format!("{} sequences at once", plan.limits.sequences))?;
    Ok(plan)
}

/// Refuses drafts of a module that the model of `config`, in `dir`, does not have.
///
/// # Errors
/// [`InferError::NoModule`].
pub fn check_drafts(dir: &Path, config: &Config, drafts: Drafts) -> Result<(), InferError> {
    match (drafts, config.multi_token_layers) {
        (Drafts::MultiToken, 0) => Err(InferError::NoModule { path: dir.into() }),
        _ => Ok(()),
    }
}

/// Bytes for a generator that leaves `reserved` of the memory that the weights leave, where the device says what is free.
pub(crate) fn budget<B: Backend>(b: &B, config: &Config, reserved: usize) -> Option<usize> {
    let free = b.free_memory()?;
    let left = free.saturating_sub(config.model_bytes(b, Residency::Inference) as u64);
    Some((left as f64 * SHARE_OF_MEMORY).min(left.saturating_sub(reserved as u64) as f64) as usize)
}

/// Plans passes of up to `rows` tokens through the model of `codec`, none of more than `positions`. Nothing is read.
///
/// # Errors
/// As [`plan_generator`].
pub(crate) fn plan_passes<B: Backend>(
    b: &B,
    codec: &Codec,
    positions: usize,
    rows: usize,
) -> Result<(), InferError> {
    let config = codec.config();
    check_positions(codec.dir(), config, positions)?;
    let pass = Purpose::Inference.bytes(b, config, rows).saturating_add(Head::bytes(b, config, rows));
    Ok(check(b, config, pass, &format!("a pass of {rows} tokens"))?)
}
