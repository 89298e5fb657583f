//! Reinforcement learning from verified answers, as one loop:
//!
//! ```text
//! for each step:
//!     draw a group of completions for each problem     (koan-generate)
//!     judge them: rewards                              (koan-reward)
//!     compare within each group: advantages            (advantage.rs)
//!     one update for each mini-batch of problems       (forward, loss, backward, AdamW)
//! ```
//!
//! The log-probabilities of generation are those of the policy to the bit, so they serve as π_old as they are: weights are
//! never synchronised, and nothing is computed twice.

mod draw;
mod forecast;
mod metrics;
mod rollout;

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Instant,
};

use koan_backend::Backend;
use koan_data::{Problem, read_problems};
use koan_eval::{Evaluation, Interval, PromptStyle};
use koan_generate::{Generator, Limits, Sampling, Stream};
use koan_model::{Config, checkpoint};
use koan_reward::{BadReference, Context, Rewards};
use koan_text::Tokenizer;
use serde::Serialize;

pub use forecast::Forecast;
pub use metrics::Metrics;

use self::{draw::Drawn, rollout::RolloutLine};
use crate::{
    RlConfig, TrainError,
    learner::{Learner, ScoredGroup},
    optimizer::Optimizer,
    plan::{Plan, check_disk, disk_bytes},
    run_dir::{self, RunDir, TrainerState},
    stage::{Launch, check_positions},
    status,
};

/// A run in which nothing was decided for so many steps learns nothing: it ends.
const MAX_STEPS_WITHOUT_A_VERDICT: usize = 3;
/// The line of metrics.jsonl before the first step: where the run starts from.
#[derive(Serialize)]
struct Baseline {
    step: u64,
    eval: Interval,
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
        /// What it will hold.
        plan: &'a Plan,
        /// The formula in force.
        formula: &'a str,
    },
    /// Problems that are left out, since their references are bad.
    BadReferences {
        /// Their file.
        data: &'a Path,
        /// Which, and why.
        bad: &'a [BadReference],
    },
    /// Held-out accuracy.
    Eval {
        /// After how many steps.
        step: u64,
        /// What it is.
        interval: Interval,
        /// Mean tokens of a completion.
        completion_tokens: f64,
        /// Seconds it took.
        seconds: f64,
    },
    /// A completion finished.
    Drawn {
        /// Finished so far, this step.
        done: usize,
        /// Of how many.
        of: usize,
    },
    /// A step is made.
    Step(&'a Metrics),
    /// A checkpoint is written.
    Checkpoint {
        /// Its directory.
        path: &'a Path,
        /// SHA-256 over its files.
        digest: &'a str,
    },
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunSummary {
    /// Steps made in all.
    pub step: u64,
    /// Whether it was asked to stop before its last step.
    pub stopped: bool,
    /// The final model's directory, unless it was stopped.
    pub model: Option<PathBuf>,
    /// Digest of the last checkpoint; empty if none was written, because all steps were made before.
    pub digest: String,
}

/// Everything a step works with.
struct Trainer<'a, B: Backend> {
    b: &'a B,
    config: &'a RlConfig,
    tokenizer: Tokenizer,
    style: PromptStyle,
    rewards: Rewards,
    /// Threads that judge.
    threads: usize,
    problems: Vec<Problem>,
    prompts: Vec<Vec<u32>>,
    /// Problems taken from the data's order so far.
    cursor: u64,
    held_out: Vec<Problem>,
    sampling: Sampling,
    limits: Limits,
    learner: Learner<B>,
}

/// Runs `config` to its last step, or to the end of the step in which `launch.stop` is set. With `launch.resume` it goes on from the
/// newest checkpoint, and ends with the bits of a run that was never interrupted.
///
/// # Errors
/// All that can be known to be wrong is, before any work: files, sizes, memory, disk. Later only what the system
/// refuses, or a gradient that is not finite.
pub fn run<B: Backend>(
    b: &B,
    config: &RlConfig,
    launch: Launch,
    on: impl FnMut(Event),
) -> Result<RunSummary, TrainError> {
    status::told(|opened| train(b, config, launch, on, opened))
}

/// [`run`], with the run's directory in `opened` as soon as it is open.
fn train<B: Backend>(
    b: &B,
    config: &RlConfig,
    launch: Launch,
    mut on: impl FnMut(Event),
    opened: &mut Option<RunDir>,
) -> Result<RunSummary, TrainError> {
    // Everything that can be wrong, cheapest first.
    let max_new_tokens = Some(config.rollout.max_new_tokens);
    let context = Context { max_new_tokens, log_dir: Some(config.run_dir.clone()) };
    let rewards = Rewards::build(&config.reward, context)?;
    let model_config = Config::load(&config.model).map_err(checkpoint::CheckpointError::from)?;
    let tokenizer = Tokenizer::load_for(&config.model, model_config.vocab_size)?;
    let style = PromptStyle { raw: config.rollout.raw, system: config.rollout.system.clone() };
    let (problems, bad) = rewards.sift(read_problems(&config.data)?)?;
    let held_out = config.eval.as_ref().map_or(Ok(Vec::new()), |e| read_problems(&e.data))?;
    let (held_out, bad_held_out) = rewards.sift(held_out)?;
    let max = config.rollout.max_prompt_tokens;
    let prompts = encode(&tokenizer, &style, &problems, max)?;
    let held_out_prompts = encode(&tokenizer, &style, &held_out, max)?;
    let longest = prompts.iter().chain(&held_out_prompts).map(Vec::len).max().unwrap_or(1);
    let plan = Plan::new(b, config, &model_config, longest);
    let asked = longest + plan.limits.new_tokens;
    check_positions(&config.model, &model_config, asked)?;
    plan.check_memory()?;
    let (refreshed, moments) = (config.reference_every().is_some(), config.optim.moments);
    check_disk(&config.run_dir, disk_bytes(config.checkpoints_kept, refreshed, &model_config, moments))?;
    checkpoint::Weights::open(&config.model, &model_config)?;
    let (run, from) = RunDir::open(&config.run_dir, config, launch.resume)?;
    let run = opened.insert(run);
    let mut state = TrainerState {
        step: 0,
        updates: 0,
        tokens: 0,
        cursor: 0,
        seed: config.seed,
        config_sha256: run_dir::hash_config(config),
        model_sha256: koan_files::hash_files(&config.model, "safetensors")?,
        data_sha256: koan_files::hash_file(&config.data)?,
    };
    if let Some(dir) = &from {
        state = run_dir::resumed_state(dir, &state)?;
    }

    let policy = checkpoint::load(b, from.as_deref().unwrap_or(&config.model), Some(asked))?;
    let loss = config.loss();
    let every = config.reference_every();
    let refreshed = |updates: u64| every.map_or(0, |every| updates / every);
    let reference = match (loss.kl, &from) {
        (0.0, _) => None,
        (_, Some(dir)) if refreshed(state.updates) > 0 => {
            Some(checkpoint::load(b, &dir.join("reference"), Some(asked))?)
        }
        _ => Some(checkpoint::load(b, &config.model, Some(asked))?),
    };
    let optimizer = match &from {
        Some(dir) => run_dir::load_optimizer(b, dir, &model_config, moments, state.updates)?,
        None => Optimizer::new(b, &model_config, moments)?,
    };
    let stop_ids = model_config.eos_token_ids.iter().copied().chain(tokenizer.eos()).collect();
    let mut trainer = Trainer {
        b,
        config,
        style,
        rewards,
        threads: launch.threads,
        prompts,
        cursor: state.cursor,
        problems,
        held_out,
        sampling: Sampling {
            temperature: config.rollout.temperature,
            max_new_tokens: config.rollout.max_new_tokens,
            stop_ids,
            seed: config.seed,
            ..Sampling::default()
        },
        limits: plan.limits,
        learner: Learner::new(
            policy,
            reference,
            optimizer,
            loss,
            config.rollout.temperature,
            plan.rows,
            config.optim.purpose(),
        ),
        tokenizer,
    };

    if !bad.is_empty() {
        on(Event::BadReferences { data: &config.data, bad: &bad });
    }
    if let Some(eval) = config.eval.as_ref().filter(|_| !bad_held_out.is_empty()) {
        on(Event::BadReferences { data: &eval.data, bad: &bad_held_out });
    }
    on(Event::Start { step: state.step, steps: config.steps, plan: &plan, formula: &config.explain() });
    if state.step == 0
        && let Some(eval) = trainer.evaluate(0, &mut on)?
    {
        run.write_metrics(&Baseline { step: 0, eval })?;
    }
    let mut digest = String::new();
    let mut steps_without_a_verdict = 0;
    while state.step < config.steps {
        let step = state.step + 1;
        let (metrics, drawn) = trainer.step(step, &mut on).map_err(|e| diverged(step, e))?;
        let judged = metrics.drawn_groups * config.rollout.group_size > metrics.undecided;
        steps_without_a_verdict = if judged { 0 } else { steps_without_a_verdict + 1 };
        if steps_without_a_verdict == MAX_STEPS_WITHOUT_A_VERDICT {
            let masked = drawn.groups[0].samples[0].judgement.terms.iter().find(|term| term.score.is_none());
            let reason = masked.map_or_else(String::new, |term| format!("`{}`: {}", term.name, term.reason));
            return Err(TrainError::NothingJudged { steps: steps_without_a_verdict, reason });
        }
        if refreshed(trainer.learner.optimizer.updates) > refreshed(state.updates) {
            trainer.learner.refresh_reference(b);
        }
        state = TrainerState {
            step,
            updates: trainer.learner.optimizer.updates,
            tokens: state.tokens + metrics.tokens as u64,
            cursor: trainer.cursor,
            ..state
        };
        let due = config.eval.as_ref().is_some_and(|e| step.is_multiple_of(e.every) || step == config.steps);
        let eval = if due { trainer.evaluate(step, &mut on)? } else { None };
        let metrics = Metrics { eval, ..metrics };
        run.write_rollouts(step, trainer.rollout_lines(step, &drawn)?.into_iter())?;
        run.write_metrics(&metrics)?;
        on(Event::Step(&metrics));
        let stopping = launch.stop.load(Ordering::Relaxed);
        if step.is_multiple_of(config.checkpoint_every) || step == config.steps || stopping {
            let learner = &trainer.learner;
            learner.check_finite(b).map_err(|e| diverged(step, e))?;
            let reference = learner.reference().filter(|_| refreshed(state.updates) > 0);
            let (policy, optimizer, kept) = (&learner.policy, &learner.optimizer, config.checkpoints_kept);
            let path;
            (path, digest) =
                run.save_checkpoint(b, policy, reference, optimizer, &state, &config.model, kept)?;
            on(Event::Checkpoint { path: &path, digest: &digest });
        }
        if stopping && step < config.steps {
            return Ok(RunSummary { step, stopped: true, model: None, digest });
        }
    }
    let model = run.finish(b, &trainer.learner.policy, "rl", [&config.model, &config.data], &state)?;
    Ok(RunSummary { step: state.step, stopped: false, model: Some(model), digest })
}

/// An error of step `step`: with what to do, if numbers are not finite.
fn diverged(step: u64, error: TrainError) -> TrainError {
    match error {
        TrainError::NotFinite { .. } => TrainError::Diverged { step, source: Box::new(error) },
        other => other,
    }
}

fn encode(
    tokenizer: &Tokenizer,
    style: &PromptStyle,
    problems: &[Problem],
    max: usize,
) -> Result<Vec<Vec<u32>>, TrainError> {
    let encode = |problem: &Problem| {
        let ids = style.encode(tokenizer, &problem.messages())?;
        match ids.len() {
            0 => Err(TrainError::PromptEmpty { id: problem.id.clone() }),
            tokens if tokens > max => Err(TrainError::PromptTooLong { id: problem.id.clone(), tokens, max }),
            _ => Ok(ids),
        }
    };
    problems.iter().map(encode).collect()
}

impl<B: Backend> Trainer<'_, B> {
    /// Makes step `step`, from 1.
    fn step(&mut self, step: u64, on: &mut impl FnMut(Event)) -> Result<(Metrics, Drawn), TrainError> {
        let start = Instant::now();
        let drawn = self.draw(step, on)?;
        let train_start = Instant::now();
        let scored: Vec<ScoredGroup> = drawn
            .learned
            .iter()
            .map(|&i| &drawn.groups[i])
            .map(|group| ScoredGroup {
                prompt: &self.prompts[group.problem],
                completions: group.samples.iter().map(|s| (&s.completion, s.advantage)).collect(),
            })
            .collect();
        let (parts, per_step) = (self.config.algorithm.mini_batches(), self.config.updates_a_step());
        let (mut updates, mut lr) = (Vec::new(), 0.0);
        for i in 0..per_step {
            let part = i as usize % parts;
            let part = &scored[part * scored.len() / parts..(part + 1) * scored.len() / parts];
            lr = self.config.optim.lr_at((step - 1) * per_step + i, self.config.steps * per_step);
            updates.push(self.learner.update(self.b, part, &self.config.optim, lr)?);
        }
        let metrics = Metrics::of(&drawn, &updates);
        let step_s = start.elapsed().as_secs_f64();
        let train_s = train_start.elapsed().as_secs_f64();
        let metrics = Metrics {
            step,
            lr,
            generate_s: drawn.generate_s,
            reward_s: step_s - train_s - drawn.generate_s,
            train_s,
            step_s,
            tokens_per_s: metrics.tokens as f64 / step_s,
            ..metrics
        };
        Ok((metrics, drawn))
    }

    /// Measures the policy on held-out problems, if there are any.
    fn evaluate(&mut self, step: u64, on: &mut impl FnMut(Event)) -> Result<Option<Interval>, TrainError> {
        let Some(eval) = &self.config.eval else { return Ok(None) };
        let sampling =
            Sampling { temperature: eval.temperature, stream: Stream::HeldOut, ..self.sampling.clone() };
        let evaluation = Evaluation {
            problems: &self.held_out,
            samples: eval.samples,
            style: &self.style,
            tokenizer: &self.tokenizer,
            sampling: &sampling,
            rewards: &self.rewards,
            threads: self.threads,
        };
        let start = Instant::now();
        let mut generator = Generator::new(self.b, self.learner.policy.config(), self.limits)?;
        let score = evaluation.score(self.b, self.learner.drawing(self.b)?, &mut generator)?;
        on(Event::Eval {
            step,
            interval: score.pass_at_1,
            completion_tokens: score.completion_tokens,
            seconds: start.elapsed().as_secs_f64(),
        });
        Ok(Some(score.pass_at_1))
    }

    fn rollout_lines<'s>(&'s self, step: u64, drawn: &'s Drawn) -> Result<Vec<RolloutLine<'s>>, TrainError> {
        let tokenizer = self.config.rollout.log_probs.then_some(&self.tokenizer);
        let lines = drawn.groups.iter().flat_map(|group| {
            let problem = &self.problems[group.problem];
            let line = move |(i, sample)| RolloutLine::new(step, problem, i, sample, tokenizer);
            group.samples.iter().enumerate().map(line)
        });
        Ok(lines.collect::<Result<_, _>>()?)
    }
}
