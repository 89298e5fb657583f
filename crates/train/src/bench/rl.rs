//! The speed of an RL step: drawing, forward, backward and AdamW, on prompts and completions of fixed lengths.

use std::time::Instant;

use koan_backend::{Backend, MomentType};
use koan_generate::{Completion, Generator, Limits, Prompt, Sampling, Stream, uniform};
use koan_model::{Model, Purpose, checkpoint::CheckpointError};
use serde::Serialize;

use crate::{
    OptimConfig, Preset, TrainError,
    config::MomentName,
    learner::{Learner, ScoredGroup},
    optimizer::Optimizer,
    policy_loss::PolicyLoss,
};

/// What a measured step does.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RlShape {
    /// Problems.
    pub problems: usize,
    /// Completions of each.
    pub group: usize,
    /// Tokens of each prompt.
    pub prompt_tokens: usize,
    /// Tokens of each completion: none ends early.
    pub new_tokens: usize,
    /// Tokens of one training pass.
    pub micro_batch_tokens: usize,
    /// In what AdamW's moments are kept.
    #[serde(with = "MomentName")]
    pub moments: MomentType,
}

/// Seconds of one step.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StepSeconds {
    /// Drawing.
    pub generate_s: f64,
    /// Forward, backward, AdamW.
    pub train_s: f64,
    /// Largest |sampled − recomputed| log-probability.
    pub log_prob_gap: f32,
}

/// Runs `steps` steps and hands over the seconds of each. No reward model, no reference model, every completion has an
/// advantage, so every token is drawn and learned from.
///
/// # Errors
/// If the model can't be loaded (`load` says), or a gradient is not finite.
pub fn rl<B: Backend>(
    b: &B,
    load: impl FnOnce(usize) -> Result<Model<B>, CheckpointError>,
    shape: &RlShape,
    steps: u64,
    mut each: impl FnMut(StepSeconds),
) -> Result<(), TrainError> {
    let policy = load(shape.prompt_tokens + shape.new_tokens)?;
    let config = policy.config().clone();
    let rows = shape.micro_batch_tokens.max(shape.prompt_tokens - 1 + shape.new_tokens);
    let limits = Limits {
        sequences: shape.problems * shape.group,
        prompt_tokens: shape.prompt_tokens,
        new_tokens: shape.new_tokens,
    };
    let optimizer = Optimizer::new(b, &config, shape.moments)?;
    let loss = PolicyLoss { kl: 0.0, ..Preset::Grpo.pieces().loss(shape.new_tokens) };
    let mut learner = Learner::new(policy, None, optimizer, loss, 1.0, rows, Purpose::Training);
    let optim = OptimConfig::default();
    for step in 1..=steps {
        let token = |problem, at| {
            (uniform(0, Stream::Bench { step }, problem, 0, at) * config.vocab_size as f64) as u32
        };
        let prompts: Vec<Prompt> = (0..shape.problems as u64)
            .map(|problem| Prompt {
                ids: (0..shape.prompt_tokens as u64).map(|at| token(problem, at)).collect(),
                problem,
                samples: shape.group,
            })
            .collect();
        let sampling = Sampling {
            temperature: 1.0,
            max_new_tokens: shape.new_tokens,
            stream: Stream::Rollout { step },
            ..Sampling::default()
        };
        let start = Instant::now();
        let mut drawn: Vec<Vec<Completion>> = vec![Vec::new(); shape.problems];
        let mut generator = Generator::new(b, &config, limits)?;
        generator.run(b, learner.drawing(b)?, &prompts, &sampling, |finished| {
            drawn[finished.request.problem as usize].push(finished.completion);
        })?;
        drop(generator);
        let generate_s = start.elapsed().as_secs_f64();
        let groups: Vec<ScoredGroup> = prompts
            .iter()
            .zip(&drawn)
            .map(|(prompt, completions)| ScoredGroup {
                prompt: &prompt.ids,
                completions: completions.iter().zip([Some(1.0), Some(-1.0)].into_iter().cycle()).collect(),
            })
            .collect();
        let sums = learner.update(b, &groups, &optim, optim.lr)?;
        let train_s = start.elapsed().as_secs_f64() - generate_s;
        each(StepSeconds { generate_s, train_s, log_prob_gap: sums.log_prob_gap });
    }
    Ok(())
}
