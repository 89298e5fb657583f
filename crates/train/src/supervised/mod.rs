//! Learning by imitation, as one loop: the stages `pretrain` (all tokens of texts) and `sft` (replies alone).
//!
//! ```text
//! for each step:
//!     the next texts, until there are batch_tokens to predict
//!     one update by the mean negative log-probability of those tokens   (next_token.rs)
//! ```

mod batches;
mod config;
mod context;
mod corpus;
mod error;
mod explain;
mod fill_in_middle;
mod memory;
mod multi_token;
pub mod next_token;
mod pieces;
mod preset;

use std::time::Instant;

use koan_backend::Backend;
use koan_model::{Config, HeadKind};
use koan_text::Tokenizer;
use serde::{Deserialize, Serialize};

pub use batches::BatchGrowth;
pub(crate) use batches::{BatchSize, Batches, Course as Length};
pub use config::{HeldOut, SupervisedConfig, TooLong};
pub use context::{ContextConfig, RopeConfig, RopeKind};
use corpus::Corpus;
pub use corpus::Packing;
pub use error::SupervisedError;
pub use fill_in_middle::FimConfig;
pub use memory::{check_memory, step_bytes};
pub use multi_token::MultiTokenConfig;
pub use pieces::demonstration_tokens;
pub(crate) use pieces::{Limits, Piece, conversation, encode_reply, read as read_pieces};
pub use preset::Preset;

use self::{
    fill_in_middle::FillInMiddle,
    next_token::{NextToken, Text},
};
use crate::{
    TrainError,
    stage::{self, Course, Input, Launch, RunSummary, Session, Settings, check_model_and_disk, disk_bytes},
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
    /// Tokens predicted per second.
    pub tokens_per_s: f64,
    /// Seconds of the step.
    pub step_s: f64,
    /// Loss on held-out text after the step, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f64>,
    /// Mean negative log-probability of what modules predict further ahead, if they are trained; nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multi_token_loss: Option<f64>,
}

/// What a run says while it goes.
pub type Event<'a> = stage::Event<'a, Metrics>;

/// What a checkpoint of these stages alone knows: nothing, the step says how far the data are read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SupervisedState {}

/// What a run reads, and what it will hold.
struct Inputs {
    model: Config,
    pieces: Vec<Piece>,
    /// What of the data is not learned, in words.
    left_out: String,
    held_out: Vec<Piece>,
    /// Tokens of the longest piece.
    positions: usize,
    /// Tokens of the longest pass.
    rows: usize,
    /// What it will hold in memory, in words.
    memory: String,
}

/// Runs `config` to its last step, or to the end of the step in which `launch.stop` is set. With `launch.resume` it goes on
/// from the newest checkpoint, and ends with the bits of a run that was never interrupted.
///
/// # Errors
/// All that can be known to be wrong is, before any work: files, sizes, memory, disk. Later only what the system
/// refuses, or a gradient that is not finite.
pub fn run<B: Backend>(
    b: &B,
    stage: Stage,
    config: &SupervisedConfig,
    launch: Launch,
    mut on: impl FnMut(Event),
) -> Result<RunSummary, TrainError> {
    run_as(b, stage, config, (config, stage.name(), Vec::new()), launch, &mut on)
}

/// As [`run`], as a part of a run of another stage: of its settings, its name, and what it read besides.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_as<B: Backend, C: Settings>(
    b: &B,
    stage: Stage,
    config: &SupervisedConfig,
    (settings, name, more): (&C, &'static str, Vec<Input>),
    launch: Launch,
    mut on: impl FnMut(Event),
) -> Result<RunSummary, TrainError> {
    let inputs = Inputs::read(b, stage, config, launch.ranks.ranks())?;
    let size = BatchSize::new(config.batch_tokens, config.batch_growth);
    let length = Length::of(config.steps, config.epochs);
    let mut batches = Batches::new(&inputs.pieces, config.stage.seed, size, length);
    let steps = batches.steps();
    let held_out = config.eval.as_ref().map(|eval| &eval.data);
    let mut all = Input::all(&config.stage, held_out)?;
    all.extend(more);
    let course = Course { stage: name, steps, inputs: all };
    let mut session = Session::open(b, course, settings, launch, SupervisedState {})?;
    let ended = train(b, stage, config, &inputs, &mut batches, &mut session, &mut on);
    session.record_outcome(ended)
}

fn train<B: Backend>(
    b: &B,
    stage: Stage,
    config: &SupervisedConfig,
    inputs: &Inputs,
    batches: &mut Batches,
    session: &mut Session<SupervisedState>,
    on: &mut impl FnMut(Event),
) -> Result<RunSummary, TrainError> {
    let optim = &config.stage.optim;
    let model = session.load_scorer(b, &inputs.model, inputs.positions)?;
    let optimizer = session.load_optimizer(b, &inputs.model)?;
    let learner = NextToken::new(b, model, optimizer, inputs.rows, optim)?;
    let mut learner = learner.sharded(b, session.shards()?)?;
    let held_out: Vec<Text> = inputs.held_out.iter().map(Piece::text).collect();
    let multi_token = config.multi_token(stage);
    let (step, steps, memory) = (session.state().step, session.steps(), &inputs.memory);
    let tokens: usize = inputs.pieces.iter().map(|piece| piece.text().tokens.len()).sum();
    let what = if config.packing == Packing::Across { "joined sequences" } else { "texts" };
    let task = format!(
        "{} {what}, {tokens} tokens to learn in a pass over the data{}",
        inputs.pieces.len(),
        inputs.left_out
    );
    on(Event::Start { step, steps, memory, task: &task });

    let mut batches = batches.skip(step as usize);
    while let Some(step) = session.next_step() {
        let texts = batches.next().expect("epochs follow one another without end");
        let start = Instant::now();
        let lr = optim.lr_at(step - 1, steps);
        learner.further_weight = multi_token.at(step, steps);
        let update = learner.update(b, &texts, optim, lr).map_err(|e| e.in_step(step))?;
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
            multi_token_loss: update.further_loss,
        };
        session.after_step(b, learner.trained(), update.tokens, SupervisedState {}, &metrics, on)?;
    }
    Ok(session.finish(b, &learner.model)?)
}

impl Inputs {
    /// Reads and checks everything that `config` names, the cheapest first.
    fn read<B: Backend>(
        b: &B,
        stage: Stage,
        config: &SupervisedConfig,
        ranks: usize,
    ) -> Result<Self, TrainError> {
        let (shared, optim) = (&config.stage, &config.stage.optim);
        let model = shared.trained_config()?;
        let mut model = config.context.as_ref().map_or(Ok(model.clone()), |context| context.of(&model))?;
        model.trains_multi_token = config.multi_token(stage).trains();
        let tokenizer = Tokenizer::load_for(&shared.model, model.vocab_size)?;
        let (max_tokens, seed) = (config.max_tokens, shared.seed);
        let limits = Limits { max_tokens, too_long: config.too_long };
        let fill_in = config.fim.as_ref().map(|fim| FillInMiddle::new(fim, seed, &tokenizer)).transpose()?;
        let corpus = Corpus { max_tokens, packing: config.packing, fill_in: fill_in.flatten(), seed };
        let read = |files, corpus: Corpus| match stage {
            Stage::Pretrain => Ok(corpus.read(files, &tokenizer)?.check(files, model.vocab_size)?),
            Stage::Sft => pieces::read(files, &tokenizer, limits, &model),
        };
        let read_data = read(&shared.data, corpus)?;
        let (left_out, pieces) = (read_data.left_out(), read_data.pieces);
        // Held-out texts are measured as they stand, each by itself: so losses of all ways to train compare.
        let as_it_stands = Corpus { packing: Packing::Isolated, fill_in: None, ..corpus };
        let held_out = match &config.eval {
            Some(eval) => read(&eval.data, as_it_stands)?.pieces,
            None => Vec::new(),
        };
        let positions = pieces.iter().chain(&held_out).map(Piece::rows).max().unwrap_or(1);
        let rows = optim.micro_batch_tokens.max(positions);
        let memory = check_memory(b, &model, rows, optim, shared.parts(ranks))?;
        let disk = disk_bytes(shared.checkpoints_kept, false, &model, optim.moments);
        check_model_and_disk(shared, &model, &[HeadKind::Language], positions, disk)?;
        Ok(Self { model, pieces, left_out, held_out, positions, rows, memory })
    }
}
