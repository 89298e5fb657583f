//! The method `logits`: a student learns a teacher's distributions over the tokens of demonstrations.
//!
//! ```text
//! for each step:
//!     the next demonstrations, until there are batch_tokens to learn
//!     one update by the mean divergence at those tokens                (learner.rs)
//! ```

use std::time::Instant;

use koan_backend::{Backend, check_memory};
use koan_model::{Config, HeadKind, Residency};
use koan_text::Tokenizer;

use super::{
    DistillConfig, DistillError, DistillState, Event, Metrics,
    learner::{DivergencePasses, Learner},
    teacher::Teacher,
};
use crate::{
    TrainError,
    gradient::Tree,
    optim::moment_bytes,
    stage::{Course, GIB, Input, Launch, RunSummary, Session, StageError, check_model_and_disk, disk_bytes},
    supervised::{BatchSize, Batches, Length, Limits, Piece, next_token::Text, read_pieces},
};

/// What a run reads, and what it will hold.
struct Inputs {
    model: Config,
    pieces: Vec<Piece>,
    /// What of the data is not learned, in words.
    left_out: String,
    held_out: Vec<Piece>,
    /// Tokens of the longest text.
    positions: usize,
    /// Tokens of the longest pass.
    rows: usize,
    /// What it will hold in memory, in words.
    memory: String,
}

/// See [`super::run`].
pub(super) fn run<B: Backend>(
    b: &B,
    config: &DistillConfig,
    launch: Launch,
    on: &mut impl FnMut(Event),
) -> Result<RunSummary, TrainError> {
    let inputs = Inputs::read(b, config, launch.ranks.ranks())?;
    let (size, length) =
        (BatchSize::new(config.batch_tokens(), None), Length::of(config.steps, config.epochs));
    let mut batches = Batches::new(&inputs.pieces, config.stage.seed, size, length);
    let steps = batches.steps();
    let mut all = Input::all(&config.stage, config.eval.as_ref().map(|eval| &eval.data))?;
    all.push(Teacher::inputs(config)?);
    let course = Course { stage: "distill", steps, inputs: all };
    let mut session = Session::open(b, course, config, launch, DistillState {})?;
    let ended = train(b, config, &inputs, &mut batches, &mut session, on);
    session.record_outcome(ended)
}

fn train<B: Backend>(
    b: &B,
    config: &DistillConfig,
    inputs: &Inputs,
    batches: &mut Batches,
    session: &mut Session<DistillState>,
    on: &mut impl FnMut(Event),
) -> Result<RunSummary, TrainError> {
    let (optim, of) = (&config.stage.optim, config.algorithm.divergence());
    let teacher = Teacher::load(b, config, inputs.positions)?;
    let model = session.load_model(b, inputs.positions)?;
    let optimizer = session.load_optimizer(b, &inputs.model)?;
    let learner = Learner::new(b, model, optimizer, teacher, of, inputs.rows, optim)?;
    let mut learner = learner.sharded(b, session.shards()?)?;
    let held_out: Vec<Text> = inputs.held_out.iter().map(Piece::text).collect();
    let (step, steps, memory) = (session.state().step, session.steps(), &inputs.memory);
    let task = format!(
        "{}\n{} texts, {} tokens to learn in a pass over the data{}",
        config.explain(),
        inputs.pieces.len(),
        inputs.pieces.iter().map(|piece| piece.text().tokens.len()).sum::<usize>(),
        inputs.left_out
    );
    on(Event::Start { step, steps, memory, task: &task });

    let mut batches = batches.skip(step as usize);
    while let Some(step) = session.next_step() {
        let texts = batches.next().expect("epochs follow one another without end");
        let start = Instant::now();
        let lr = optim.lr_at(step - 1, steps);
        let update = learner.update(b, &texts, optim, lr).map_err(|e| e.in_step(step))?;
        let mut metrics = Metrics::of(step, &update, lr, start.elapsed().as_secs_f64());
        if config.eval.as_ref().is_some_and(|e| step.is_multiple_of(e.every) || step == steps) {
            metrics.eval_loss = Some(learner.loss(b, &held_out)?);
        }
        session.after_step(b, learner.trained(), update.tokens, DistillState {}, &metrics, on)?;
    }
    Ok(session.finish(b, &learner.model)?)
}

impl Inputs {
    /// Reads and checks everything that `config` names, the cheapest first.
    fn read<B: Backend>(b: &B, config: &DistillConfig, ranks: usize) -> Result<Self, TrainError> {
        let (shared, optim) = (&config.stage, &config.stage.optim);
        let model = shared.trained_config()?;
        let tokenizer = Tokenizer::load_for(&shared.model, model.vocab_size)?;
        let limits = Limits { max_tokens: config.max_tokens(), too_long: config.too_long() };
        let read = |files| read_pieces(files, &tokenizer, limits, &model);
        let data = read(&shared.data)?;
        let (left_out, pieces) = (data.left_out(), data.pieces);
        let held_out = match &config.eval {
            Some(eval) => read(&eval.data)?.pieces,
            None => Vec::new(),
        };
        let positions = pieces.iter().chain(&held_out).map(Piece::rows).max().unwrap_or(1);
        let teacher = Teacher::open(config, &tokenizer, positions)?;
        let ids = pieces.iter().chain(&held_out).flat_map(|piece| piece.context.iter().chain(&piece.tokens));
        if let Some(&id) = ids.max().filter(|&&id| id as usize >= teacher.config.vocab_size) {
            let (files, vocab_size) = (shared.data.to_string(), teacher.config.vocab_size);
            return Err(DistillError::NoSuchToken { id, vocab_size, files }.into());
        }
        let rows = optim.micro_batch_tokens.max(positions);
        let memory = check_plan(b, config, &model, &teacher, rows, ranks)?;
        let disk = disk_bytes(shared.checkpoints_kept, false, &model, optim.moments);
        check_model_and_disk(shared, &model, &[HeadKind::Language], positions, disk)?;
        Ok(Self { model, pieces, left_out, held_out, positions, rows, memory })
    }
}

/// Refuses a run in passes of `rows` tokens that exceeds the memory that is free. Says what takes how much.
fn check_plan<B: Backend>(
    b: &B,
    config: &DistillConfig,
    model: &Config,
    teacher: &Teacher,
    rows: usize,
    ranks: usize,
) -> Result<String, StageError> {
    let optim = &config.stage.optim;
    let moments = moment_bytes(b, model, optim.moments);
    let gradient = model.gradient_bytes(b) + Tree::bytes(b, model, config.stage.parts(ranks));
    let own = model.model_bytes(b, Residency::Training) + gradient + moments;
    let pass = DivergencePasses::bytes(b, [model, &teacher.config], rows, optim.purpose());
    let [own, of_teacher, pass] = [own, teacher.bytes(b), pass].map(|bytes| bytes as u64);
    let gib = |bytes: u64| bytes as f64 / GIB;
    let breakdown = format!(
        "student's weights, gradient and optimizer {:.2} GiB, teacher's weights {:.2}, a pass of {rows} tokens through both, with \
         a chunk of their logits, {:.2}",
        gib(own),
        gib(of_teacher),
        gib(pass)
    );
    let remedy =
        "lower optim.micro_batch_tokens or max_tokens, set optim.recompute, or take a smaller teacher";
    let needed = own.saturating_add(of_teacher).saturating_add(pass);
    check_memory("a step", needed, b.free_memory(), breakdown.clone(), remedy)?;
    Ok(breakdown)
}
