//! Learning by imitation, as one loop: the stages `pretrain` (all tokens of texts) and `sft` (replies alone).
//!
//! ```text
//! for each step:
//!     the next texts, until there are batch_tokens to predict
//!     one update by the mean negative log-probability of those tokens   (next_token.rs)
//! ```

mod config;
mod pieces;

use std::{sync::atomic::Ordering, time::Instant};

use koan_backend::Backend;
use koan_model::{Config, checkpoint};
use koan_text::Tokenizer;
use serde::Serialize;

pub use config::{HeldOut, SupervisedConfig};
use pieces::{Batches, Piece};

use crate::{
    TrainError,
    next_token::{NextToken, Text},
    plan::{check_disk, check_supervised, disk_bytes},
    rl::RunSummary,
    run_dir::{self, RunDir, TrainerState},
    stage::{Launch, check_positions},
    status,
};

/// What is imitated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Texts: every token is learned.
    Pretrain,
    /// Demonstrations: the assistant's replies are learned.
    Sft,
}

impl Stage {
    /// Its name in lineage.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pretrain => "pretrain",
            Self::Sft => "sft",
        }
    }

    /// The learning rate where none is given.
    fn default_lr(self) -> f32 {
        match self {
            Self::Pretrain => 3e-4,
            Self::Sft => 1e-5,
        }
    }
}

/// One line of metrics.jsonl.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Metrics {
    /// The step, from 1.
    pub step: u64,
    /// Mean negative log-probability of a token, before the update; nats.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f32,
    /// Tokens predicted, this step.
    pub tokens: usize,
    /// Tokens predicted a second.
    pub tokens_per_s: f64,
    /// Seconds of the step.
    pub step_s: f64,
    /// Loss on held-out text after the step, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f64>,
}

/// What a run tells while it goes.
#[derive(Debug)]
pub enum Event<'a> {
    /// Everything was checked; the run starts after `step` steps.
    Start {
        /// Steps made by an earlier part of the run.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// Texts or replies, and the tokens of them that are learned.
        pieces: usize,
        /// Tokens to learn in one pass over the data.
        tokens: usize,
        /// What it will hold, in words.
        memory: &'a str,
    },
    /// A step is made.
    Step(&'a Metrics),
    /// A checkpoint is written.
    Checkpoint {
        /// Its directory.
        path: &'a std::path::Path,
        /// SHA-256 over weights, optimizer and trainer state.
        digest: &'a str,
    },
}

/// Runs `config` to its last step, or to the end of the step in which `launch.stop` is set. With `launch.resume` it goes on from the
/// newest checkpoint, and ends with the bits of a run that was never interrupted.
///
/// # Errors
/// All that can be known to be wrong is, before any work: files, sizes, memory, disk. Later only what the system
/// refuses, or a gradient that is not finite.
pub fn run<B: Backend>(
    b: &B,
    stage: Stage,
    config: &SupervisedConfig,
    launch: Launch,
    on: impl FnMut(Event),
) -> Result<RunSummary, TrainError> {
    status::told(|opened| train(b, stage, config, launch, on, opened))
}

/// [`run`], with the run's directory in `opened` as soon as it is open.
fn train<B: Backend>(
    b: &B,
    stage: Stage,
    config: &SupervisedConfig,
    launch: Launch,
    mut on: impl FnMut(Event),
    opened: &mut Option<RunDir>,
) -> Result<RunSummary, TrainError> {
    let model_config = Config::load(&config.model).map_err(checkpoint::CheckpointError::from)?;
    let tokenizer = Tokenizer::load_for(&config.model, model_config.vocab_size)?;
    let read = |path| pieces::read(stage, path, &tokenizer, config.max_tokens, model_config.vocab_size);
    let pieces = read(&config.data)?;
    let held_out = config.eval.as_ref().map_or(Ok(Vec::new()), |eval| read(&eval.data))?;
    let held_out: Vec<Text> = held_out.iter().map(Piece::text).collect();
    let longest = pieces.iter().map(Piece::rows).max().unwrap_or(1);
    let asked = longest.max(rows_of(&held_out));
    check_positions(&config.model, &model_config, asked)?;
    let rows = config.optim.micro_batch_tokens.max(asked);
    let memory = check_supervised(b, &model_config, rows, &config.optim)?;
    let moments = config.optim.moments;
    check_disk(&config.run_dir, disk_bytes(config.checkpoints_kept, false, &model_config, moments))?;
    checkpoint::Weights::open(&config.model, &model_config)?;
    let (run, from) = RunDir::open(&config.run_dir, config, launch.resume)?;
    let run = opened.insert(run);
    let fresh = TrainerState {
        step: 0,
        updates: 0,
        tokens: 0,
        cursor: 0,
        seed: config.seed,
        config_sha256: run_dir::hash_config(config),
        model_sha256: koan_files::hash_files(&config.model, "safetensors")?,
        data_sha256: koan_files::hash_file(&config.data)?,
    };
    let mut state = match &from {
        Some(dir) => run_dir::resumed_state(dir, &fresh)?,
        None => fresh,
    };

    let model = checkpoint::load(b, from.as_deref().unwrap_or(&config.model), Some(asked))?;
    let mut learner = NextToken::new(b, model, rows, &config.optim)?;
    if let Some(dir) = &from {
        learner.optimizer = run_dir::load_optimizer(b, dir, &model_config, moments, state.updates)?;
    }
    let mut batches = Batches::new(&pieces, config.seed, config.batch_tokens);
    let steps = config.steps.unwrap_or_else(|| batches.in_epochs(config.epochs.unwrap_or(1)));
    let tokens = pieces.iter().map(|piece| piece.text().tokens.len()).sum();
    on(Event::Start { step: state.step, steps, pieces: pieces.len(), tokens, memory: &memory });
    let mut digest = String::new();
    for (step, texts) in (state.step + 1..=steps).zip(batches.by_ref().skip(state.step as usize)) {
        let start = Instant::now();
        let lr = config.optim.lr_at(step - 1, steps);
        let update = learner.update(b, &texts, &config.optim, lr)?;
        let step_s = start.elapsed().as_secs_f64();
        let due = config.eval.as_ref().is_some_and(|e| step.is_multiple_of(e.every) || step == steps);
        let metrics = Metrics {
            step,
            loss: update.loss,
            grad_norm: update.grad_norm,
            lr,
            tokens: update.tokens,
            tokens_per_s: update.tokens as f64 / step_s,
            step_s,
            eval_loss: due.then(|| learner.loss(b, &held_out)).transpose()?,
        };
        state = TrainerState {
            step,
            updates: learner.optimizer.updates,
            tokens: state.tokens + update.tokens as u64,
            ..state
        };
        run.write_metrics(&metrics)?;
        on(Event::Step(&metrics));
        let stopping = launch.stop.load(Ordering::Relaxed);
        if step.is_multiple_of(config.checkpoint_every) || step == steps || stopping {
            let (model, optimizer) = (&learner.model, &learner.optimizer);
            let path;
            (path, digest) = run.save_checkpoint(
                b,
                model,
                None,
                optimizer,
                &state,
                &config.model,
                config.checkpoints_kept,
            )?;
            on(Event::Checkpoint { path: &path, digest: &digest });
        }
        if stopping && step < steps {
            return Ok(RunSummary { step, stopped: true, model: None, digest });
        }
    }
    let model = run.finish(b, &learner.model, stage.name(), [&config.model, &config.data], &state)?;
    Ok(RunSummary { step: state.step, stopped: false, model: Some(model), digest })
}

fn rows_of(texts: &[Text]) -> usize {
    texts.iter().map(|text| text.context.len() - 1 + text.tokens.len()).max().unwrap_or(1)
}
