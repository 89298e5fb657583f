//! A training step: forward, backward, clip, AdamW, repack, on random tokens from random weights.

use std::time::Instant;

use koan_backend::{Backend, MomentType, OutOfMemory};
use koan_generate::{Stream, uniform};
use koan_model::{Config, Model, TensorInfo};
use serde::Serialize;

use crate::{
    OptimConfig, TrainError,
    config::MomentName,
    next_token::{NextToken, Text, Update},
};

/// What a measured step does.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TrainShape {
    /// Sequences of a step.
    pub sequences: usize,
    /// Tokens of each; all but the first are predicted.
    pub tokens: usize,
    /// Tokens of one pass.
    pub micro_batch_tokens: usize,
    /// Whether layers are computed again in the backward.
    pub recompute: bool,
    /// In what AdamW's moments are kept.
    #[serde(with = "MomentName")]
    pub moments: MomentType,
}

/// Runs `steps` steps and hands over the seconds of each, and what it found.
///
/// # Errors
/// If a gradient is not finite.
pub fn train<B: Backend>(
    b: &B,
    config: Config,
    shape: &TrainShape,
    steps: u64,
    mut each: impl FnMut(f64, Update),
) -> Result<(), TrainError> {
    let vocab = config.vocab_size as f64;
    let mut tensor = 0..;
    let model = Model::new(b, config, shape.tokens, |info: &TensorInfo| {
        let tensor = tensor.next().unwrap_or(0);
        let value = |i| {
            if info.role.is_matrix() {
                0.07 * (uniform(0, Stream::Bench { step: 0 }, tensor, i, 0) - 0.5) as f32
            } else {
                1.0
            }
        };
        Ok::<_, OutOfMemory>((0..info.len() as u64).map(value).collect::<Vec<f32>>())
    })?;
    let rows = shape.micro_batch_tokens.max(shape.tokens);
    let optim = OptimConfig { recompute: shape.recompute, moments: shape.moments, ..OptimConfig::default() };
    let mut learner = NextToken::new(b, model, rows, &optim)?;
    for step in 0..steps {
        let token = |sequence, at| (uniform(0, Stream::Bench { step }, sequence, 0, at) * vocab) as u32;
        let sequences: Vec<Vec<u32>> = (0..shape.sequences as u64)
            .map(|sequence| (0..shape.tokens as u64).map(|at| token(sequence, at)).collect())
            .collect();
        let texts: Vec<Text> =
            sequences.iter().map(|ids| Text { context: &ids[..1], tokens: &ids[1..] }).collect();
        let start = Instant::now();
        let update = learner.update(b, &texts, &optim, optim.lr)?;
        each(start.elapsed().as_secs_f64(), update);
    }
    Ok(())
}
