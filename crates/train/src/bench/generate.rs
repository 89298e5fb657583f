//! The speed of generation alone, on random prompts and completions of fixed lengths.

use std::time::Instant;

use koan_backend::Backend;
use koan_generate::{Counters, Generator, Limits, Prompt, Sampling, Stream, uniform};
use koan_model::Model;
use serde::Serialize;

use crate::TrainError;

/// What a measured run draws.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct GenerateShape {
    /// Completions, all at once.
    pub sequences: usize,
    /// Completions that share a prompt.
    pub group: usize,
    /// Tokens of each prompt.
    pub prompt_tokens: usize,
    /// Tokens of each completion: none ends early.
    pub new_tokens: usize,
}

/// Runs `runs` times and hands over the seconds of each, prompts included, with what it computed.
///
/// # Errors
/// If the device refuses the memory.
pub fn generate<B: Backend>(
    b: &B,
    model: &Model<B>,
    shape: &GenerateShape,
    runs: u64,
    mut each: impl FnMut(f64, Counters),
) -> Result<(), TrainError> {
    let &GenerateShape { sequences, group, prompt_tokens, new_tokens } = shape;
    let vocab = model.config().vocab_size as f64;
    let mut generator = Generator::new(b, model.config(), Limits { sequences, prompt_tokens, new_tokens })?;
    for step in 1..=runs {
        let token = |problem, at| (uniform(0, Stream::Bench { step }, problem, 0, at) * vocab) as u32;
        let prompts: Vec<Prompt> = (0..sequences.div_ceil(group))
            .map(|problem| Prompt {
                ids: (0..prompt_tokens as u64).map(|at| token(problem as u64, at)).collect(),
                problem: problem as u64,
                samples: group.min(sequences - problem * group),
            })
            .collect();
        let sampling =
            Sampling { max_new_tokens: new_tokens, stream: Stream::Rollout { step }, ..Sampling::default() };
        let start = Instant::now();
        let counters = generator.run(b, model, &prompts, &sampling, |_| {})?;
        each(start.elapsed().as_secs_f64(), counters);
    }
    Ok(())
}
