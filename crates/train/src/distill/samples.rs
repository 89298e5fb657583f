//! The method `samples`: a student learns a teacher's completions.
//!
//! ```text
//! a teacher's completions of every problem, those that stand up to the filters    samples/, a run of crate::reject
//! fine-tuning of the student on them                                              crate::supervised
//! ```
//!
//! The text is what is handed over, in the student's tokens: so the teacher's tokenizer may be another, and the teacher on a server.

use koan_backend::Backend;
use koan_model::HeadKind;
use koan_text::Tokenizer;

use super::{DistillConfig, Event, Metrics, teacher::Teacher};
use crate::{
    TrainError, reject,
    stage::{Input, Launch, RunSummary, StageError, check_model_and_disk, disk_bytes},
    supervised::{self, Limits, Stage, check_memory, read_pieces},
};

/// See [`super::run`]. Killed while it samples, a run goes on in `samples/`; after that, from its own checkpoints.
pub(super) fn run<B: Backend>(
    b: &B,
    config: &DistillConfig,
    launch: Launch,
    on: &mut impl FnMut(Event),
) -> Result<RunSummary, TrainError> {
    launch.ranks.refuse_several("distillation by `samples` works")?;
    let has_run = |dir: &std::path::Path| dir.join("config.toml").exists();
    let (path, sampling) = (&config.stage.run_dir, config.sampling()?);
    if !launch.resume && has_run(path) {
        return Err(StageError::RunExists { path: path.clone() }.into());
    }
    let (begun, sampled) = (has_run(path), has_run(&sampling.stage.run_dir));
    if launch.resume && !begun && !sampled {
        return Err(StageError::NoCheckpoint { path: path.clone() }.into());
    }
    check_student(b, config)?;
    let of_sampling = Launch { resume: launch.resume && sampled, ..launch };
    let made = reject::run(b, &sampling, of_sampling, |event| show_sampling(event, on))?;
    let Some(data) = made.data else { return Ok(made.run) };
    let launch = Launch { resume: launch.resume && begun, ..launch };
    let more = match &config.server {
        Some(server) => vec![Input::server(&server.base(), &server.model)],
        None => vec![Teacher::inputs(config)?],
    };
    let learning = config.fine_tuning(&data);
    supervised::run_as(b, Stage::Sft, &learning, (config, "distill", more), launch, |event| {
        show_learning(event, on);
    })
}

/// Refuses what is wrong with the student before the teacher works for hours.
fn check_student<B: Backend>(b: &B, config: &DistillConfig) -> Result<(), TrainError> {
    let (shared, optim) = (&config.stage, &config.stage.optim);
    let model = shared.trained_config()?;
    let tokenizer = Tokenizer::load_for(&shared.model, model.vocab_size)?;
    if let Some(eval) = &config.eval {
        let limits = Limits { max_tokens: config.max_tokens(), too_long: config.too_long() };
        read_pieces(&eval.data, &tokenizer, limits, &model)?;
    }
    let disk = disk_bytes(shared.checkpoints_kept, false, &model, optim.moments);
    check_model_and_disk(shared, &model, &[HeadKind::Language], 1, disk)?;
    let longest = config.max_tokens().min(model.longest_sequence());
    check_memory(b, &model, optim.micro_batch_tokens.max(longest), optim, config.stage.parts(1))?;
    Ok(())
}

fn show_sampling(event: reject::Event, on: &mut impl FnMut(Event)) {
    match event {
        reject::Event::BadReferences { data, bad } => on(Event::BadReferences { data, bad }),
        reject::Event::Note { text } => on(Event::Note { text }),
        reject::Event::Start { step, steps, memory, task } => {
            let task = format!("the teacher writes first: {task}");
            on(Event::Start { step, steps, memory, task: &task });
        }
        reject::Event::Completed { done, of } => on(Event::Completed { done, of }),
        _ => {}
    }
}

fn show_learning(event: supervised::Event, on: &mut impl FnMut(Event)) {
    match event {
        supervised::Event::Start { step, steps, memory, task } => {
            on(Event::Start { step, steps, memory, task });
        }
        supervised::Event::Step { step, metrics } => {
            let supervised::Metrics { loss, grad_norm, lr, tokens, tokens_per_s, step_s, eval_loss, .. } =
                *metrics;
            let metrics = Metrics {
                step,
                loss,
                grad_norm,
                lr,
                tokens,
                tokens_per_s,
                step_s,
                eval_loss,
                ..Metrics::default()
            };
            on(Event::Step { step, metrics: &metrics });
        }
        supervised::Event::Checkpoint { path, digest } => on(Event::Checkpoint { path, digest }),
        _ => {}
    }
}
