//! Learning from preferences, as one loop: DPO and its kin on pairs, KTO on replies that are each good or bad, and reward
//! models of either.
//!
//! ```text
//! what the reference policy says of every reply               (reference.rs)
//! for each step:
//!     the next examples
//!     one update by the loss of pairs or of rows              (learner.rs; pair.rs, kto.rs, reward_model.rs)
//! ```

mod config;
mod error;
mod examples;
mod explain;
mod kto;
mod learner;
mod metrics;
mod pair;
mod reference;
mod reward_model;

use std::time::Instant;

use koan_backend::Backend;
use koan_model::{
    Config, HeadKind,
    checkpoint::{CheckpointError, Place},
};
use koan_text::Tokenizer;
use serde::{Deserialize, Serialize};

pub use config::{Algorithm, LossName, Nll, NllOver, Objective, PreferConfig};
pub use error::PreferError;
pub use examples::Example;
pub use kto::KtoLoss;
pub use learner::{Compared, Found, Learner};
pub use metrics::{HeldOutMetrics, Metrics};
pub use pair::{PairForm, PairLoss, Reply, Slope};
pub use reward_model::{RankLoss, label_loss};

use self::examples::Examples;
use crate::{
    TrainError,
    comm::Ranks,
    stage::{self, Batches, Course, Input, Launch, RunSummary, Session, check_model_and_disk, disk_bytes},
    supervised,
};

/// What a run says while it goes.
pub type Event<'a> = stage::Event<'a, Metrics>;

/// What a checkpoint of this stage alone knows: nothing, the step says how far the data are read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PreferState {}

/// What a run reads, and what it will hold.
struct Inputs {
    model: Config,
    examples: Examples,
    held_out: Examples,
    /// Tokens of the longest sequence.
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
    config: &PreferConfig,
    launch: Launch,
    mut on: impl FnMut(Event),
) -> Result<RunSummary, TrainError> {
    let inputs = Inputs::read(b, config, launch.ranks.ranks())?;
    let batches = Batches::new(inputs.examples.rows.len(), config.stage.seed, config.batch);
    let steps = config.steps.unwrap_or_else(|| batches.in_epochs(config.epochs.unwrap_or(1)));
    let held_out = config.eval.as_ref().map(|eval| &eval.data);
    let mut all = Input::all(&config.stage, held_out)?;
    if let Some(path) = &config.reference {
        all.push(Input::model("reference", path)?);
    }
    let course = Course { stage: "prefer", steps, inputs: all };
    let mut session = Session::open(b, course, config, launch, PreferState {})?;
    let ended = train(b, config, &inputs, &batches, launch, &mut session, &mut on);
    session.record_outcome(ended)
}

fn train<B: Backend>(
    b: &B,
    config: &PreferConfig,
    inputs: &Inputs,
    batches: &Batches,
    launch: Launch,
    session: &mut Session<PreferState>,
    on: &mut impl FnMut(Event),
) -> Result<RunSummary, TrainError> {
    let (optim, objective) = (&config.stage.optim, config.algorithm.objective());
    let (step, steps, memory) = (session.state().step, session.steps(), &inputs.memory);
    on(Event::Start { step, steps, memory, task: &inputs.in_words() });
    let ranks = launch.ranks;
    let reference = inputs.reference(b, config, &inputs.examples, "reference.json", ranks, on)?;
    let held_out = inputs.reference(b, config, &inputs.held_out, "reference.held-out.json", ranks, on)?;
    let held_out = compared(&inputs.held_out, &held_out);

    let model = if objective.makes_scorer() {
        session.load_scorer(b, &inputs.model, inputs.positions)?
    } else {
        session.load_model(b, inputs.positions)?
    };
    let optimizer = session.load_optimizer(b, &inputs.model)?;
    let learner = Learner::new(b, model, optimizer, objective, inputs.rows, optim)?;
    let mut learner = learner.sharded(b, session.shards()?)?;
    let all = compared(&inputs.examples, &reference);
    while let Some(step) = session.next_step() {
        let examples: Vec<Compared> = batches.of_step(step).into_iter().map(|i| all[i]).collect();
        let start = Instant::now();
        let lr = optim.lr_at(step - 1, steps);
        let (found, norm) = learner.update(b, &examples, optim, lr).map_err(|e| e.in_step(step))?;
        let mut metrics =
            Metrics::new(step, &found, !objective.makes_scorer(), norm, lr, start.elapsed().as_secs_f64());
        if config.eval.as_ref().is_some_and(|e| step.is_multiple_of(e.every) || step == steps) {
            metrics.held_out = Some(learner.measure(b, &held_out)?.into());
        }
        session.after_step(b, learner.trained(), found.tokens, PreferState {}, &metrics, on)?;
    }
    Ok(session.finish(b, &learner.policy)?)
}

fn compared<'a>(examples: &'a Examples, reference: &[[f64; 2]]) -> Vec<Compared<'a>> {
    let pairs = examples.rows.iter().zip(reference);
    pairs.map(|(example, &reference)| Compared { example, reference }).collect()
}

impl Inputs {
    /// Reads and checks everything that `config` names, the cheapest first.
    fn read<B: Backend>(b: &B, config: &PreferConfig, ranks: usize) -> Result<Self, TrainError> {
        let (shared, optim) = (&config.stage, &config.stage.optim);
        let model = Config::load(&shared.model).map_err(CheckpointError::from)?;
        if let Some(path) = &config.reference {
            let reference = Place::find(path, None).map_err(CheckpointError::from)?.config()?.vocab_size;
            if reference != model.vocab_size {
                let (path, model) = (path.clone(), model.vocab_size);
                return Err(PreferError::OtherVocabulary { path, reference, model }.into());
            }
        }
        let tokenizer = Tokenizer::load_for(&shared.model, model.vocab_size)?;
        let read = |files| Examples::read(files, config, &tokenizer, &model);
        let examples = read(&shared.data)?;
        let held_out = config.eval.as_ref().map_or(Ok(Examples::default()), |eval| read(&eval.data))?;
        let start = model;
        let objective = config.algorithm.objective();
        let heads: &[HeadKind] = if objective.makes_scorer() {
            &[HeadKind::Language, HeadKind::Scalar]
        } else {
            &[HeadKind::Language]
        };
        let model = if objective.makes_scorer() && start.head == HeadKind::Language {
            let pad = start.raw.get("pad_token_id").and_then(serde_json::Value::as_u64).map(|id| id as u32);
            start.with_scalar_head(
                examples.unused_token(pad, start.vocab_size),
                objective == Objective::Labels,
            )
        } else {
            start.clone()
        };
        let model = shared.adapted(model)?;
        let all = || examples.rows.iter().chain(&held_out.rows);
        let positions = all().map(Example::positions).max().unwrap_or(1);
        let rows = optim.micro_batch_tokens.max(all().map(Example::rows).max().unwrap_or(1));
        let disk = disk_bytes(shared.checkpoints_kept, false, &model, optim.moments);
        check_model_and_disk(shared, &start, heads, positions, disk)?;
        let memory = supervised::check_memory(b, &model, rows, optim, shared.parts(ranks))?;
        Ok(Self { model, examples, held_out, positions, rows, memory })
    }

    /// What is learned from, in words.
    fn in_words(&self) -> String {
        let (n, left_out) = (self.examples.rows.len(), self.examples.left_out());
        let held_out = match self.held_out.rows.len() {
            0 => String::new(),
            n => format!(", {n} held out"),
        };
        let left_out = if left_out.is_empty() { left_out } else { format!(" ({left_out})") };
        format!("{n} rows{left_out}{held_out}")
    }

    /// What the reference policy says of `examples`; zeros where the loss has none.
    fn reference<B: Backend>(
        &self,
        b: &B,
        config: &PreferConfig,
        examples: &Examples,
        file: &str,
        ranks: &Ranks,
        on: &mut impl FnMut(Event),
    ) -> Result<Vec<[f64; 2]>, TrainError> {
        let (rows, file) = (&examples.rows, config.stage.run_dir.join(file));
        match config.reference_place()? {
            Some(place) if !rows.is_empty() => {
                let done = |done| on(Event::Scored { done, of: rows.len() });
                reference::log_probs(b, &place, rows, self.rows, &file, ranks, done)
            }
            _ => Ok(vec![[0.0; 2]; rows.len()]),
        }
    }
}
