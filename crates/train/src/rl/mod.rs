//! Reinforcement learning from verified answers, as one loop:
//!
//! ```text
//! for each step:
//!     sample a group of completions for each problem   (rollout.rs)
//!     judge them: rewards                              (koan-reward)
//!     compare within each group: advantages            (advantage.rs)
//!     one update for each mini-batch of problems       (learner.rs: forward, loss, backward, AdamW)
//! ```
//!
//! The log-probabilities of generation are those of the policy to the bit, so they serve as π_old as they are: weights are
//! never synchronised, and nothing is computed twice.
//!
//! - [`RlConfig`]: what its TOML file says; [`preset`]: the papers' choices,
//! - [`advantage`], [`policy_loss`]: the pieces of an algorithm beside the papers' formulas,
//! - [`learner`]: one update of the policy,
//! - [`plan`]: memory of the worst step, before the first; [`estimate`]: its seconds; [`Forecast`]: both, without a run,
//! - [`Metrics`]: what a step found out.

pub mod advantage;
mod config;
mod error;
pub mod estimate;
mod explain;
mod forecast;
mod held_out;
mod inputs;
pub mod learner;
mod metrics;
mod new_tokens;
pub mod plan;
pub mod policy_loss;
pub mod preset;
mod record;
mod rollout;

use std::{collections::BTreeMap, time::Instant};

use koan_backend::Backend;
use koan_generate::Sampling;
use koan_infer::JudgeModels;
use koan_reward::Standard;
use serde::{Deserialize, Serialize};

pub use config::{AlgorithmConfig, EvalConfig, RlConfig, RolloutConfig};
pub use error::RlError;
pub use forecast::{Forecast, OnRanks};
pub use metrics::{DraftMetrics, HeldOutScore, Metrics};
pub use new_tokens::MaxNewTokens;
pub use preset::Preset;
pub use rollout::Sample;

use self::{
    inputs::Inputs,
    learner::{Learner, ScoredGroup},
    policy_loss::Credit,
    rollout::Rollouts,
};
pub(crate) use self::{
    inputs::{encode, judging},
    record::{RolloutLine, Said},
};
use crate::{
    TrainError,
    comm::Shards,
    stage::{self, Course, Input, Launch, RunSummary, Session},
};

/// A run in which nothing was decided for so many steps learns nothing: it ends.
const MAX_STEPS_WITHOUT_A_VERDICT: usize = 3;

/// What a run says while it goes.
pub type Event<'a> = stage::Event<'a, Metrics>;

/// What a checkpoint of this stage alone knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RlState {
    /// Problems taken from the data's order.
    cursor: u64,
    /// Scales of reward models' scores, which the first step set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    standards: BTreeMap<String, Standard>,
}

/// The line of metrics.jsonl before the first step: where the run starts from.
#[derive(Serialize)]
struct Baseline {
    step: u64,
    eval: HeldOutScore,
}

/// Everything a step works with.
struct Trainer<'a, B: Backend> {
    b: &'a B,
    config: &'a RlConfig,
    inputs: Inputs,
    /// The models that rewards ask.
    models: JudgeModels<'a, B>,
    /// Threads that judge.
    threads: usize,
    /// To which problems are dealt, in turn.
    shards: Shards,
    /// Problems taken from the data's order so far.
    cursor: u64,
    sampling: Sampling,
    learner: Learner<B>,
}

/// Runs `config` to its last step, or to the end of the step in which `launch.stop` is set. With `launch.resume` it goes on
/// from the newest checkpoint, and ends with the bits of a run that was never interrupted.
///
/// # Errors
/// All that can be known to be wrong is, before any work: files, sizes, memory, disk. Later only what the system
/// refuses, rewards that judge nothing, or a gradient that is not finite.
pub fn run<B: Backend>(
    b: &B,
    config: &RlConfig,
    launch: Launch,
    mut on: impl FnMut(Event),
) -> Result<RunSummary, TrainError> {
    let inputs = Inputs::read(b, config, launch.ranks.ranks())?;
    let held_out = config.eval.as_ref().map(|eval| &eval.data);
    if inputs.rewards.asks_models() {
        launch.ranks.refuse_several("rewards that ask models work")?;
    }
    let mut all = Input::all(&config.stage, held_out)?;
    all.extend(inputs.of_rewards()?);
    let course = Course { stage: "rl", steps: config.steps, inputs: all };
    let mut session = Session::open(b, course, config, launch, RlState::default())?;
    let ended = train(b, config, inputs, launch.threads, &mut session, &mut on);
    session.record_outcome(ended)
}

fn train<B: Backend>(
    b: &B,
    config: &RlConfig,
    inputs: Inputs,
    threads: usize,
    session: &mut Session<RlState>,
    on: &mut impl FnMut(Event),
) -> Result<RunSummary, TrainError> {
    let (loss, plan) = (config.loss(), inputs.plan);
    let refreshes = |updates: u64| config.reference_every().map_or(0, |every| updates / every);
    let (step, refreshed) = (session.state().step, refreshes(session.state().updates) > 0);
    let policy = session.load_model(b, inputs.positions)?;
    let refreshes_at_all = config.reference_every().is_some();
    let load_reference = || session.load_reference(b, &policy, refreshes_at_all, refreshed);
    let reference = (loss.kl != 0.0).then(load_reference).transpose()?;
    let optimizer = session.load_optimizer(b, inputs.codec.config())?;
    let models = JudgeModels::load(b, &inputs.rewards.needs())?;
    inputs.rewards.set_standards(&session.state().own.standards);
    let (temperature, purpose) = (config.rollout.temperature, config.stage.optim.purpose());
    let mut trainer = Trainer {
        b,
        config,
        threads,
        shards: session.shards()?,
        cursor: session.state().own.cursor,
        models,
        sampling: Sampling {
            temperature,
            max_new_tokens: config.rollout.max_new_tokens.at(step + 1),
            stop_ids: inputs.codec.stop_ids(),
            seed: config.stage.seed,
            ..Sampling::default()
        },
        inputs,
        learner: Learner::new(policy, reference, optimizer, loss, temperature, plan.rows, purpose)
            .sharded(session.shards()?),
    };
    trainer.tell_bad_references(on);
    trainer.inputs.notes.iter().for_each(|text| on(Event::Note { text }));
    let memory = plan.in_words(trainer.inputs.codec.config());
    let formula = config.explain();
    on(Event::Start { step, steps: config.steps, memory: &memory, task: &formula });

    if step == 0
        && let Some(eval) = trainer.evaluate(0, on)?
    {
        session.write_metrics(&Baseline { step: 0, eval })?;
    }
    let (mut n_steps, mut steps_without_a_verdict) = (0, 0);
    while let Some(step) = session.next_step() {
        let before = trainer.learner.optimizer.updates;
        let (metrics, rollouts) = trainer.step(step, on).map_err(|e| e.in_step(step))?;
        n_steps += 1;
        steps_without_a_verdict = match metrics.nothing_judged {
            Some(_) => steps_without_a_verdict + 1,
            None => 0,
        };
        // A shorter run that has judged nothing must not end as if it had learned.
        let is_vain = step == config.steps && steps_without_a_verdict == n_steps;
        if let Some(reason) = &metrics.nothing_judged
            && (is_vain || steps_without_a_verdict == MAX_STEPS_WITHOUT_A_VERDICT)
        {
            let (steps, reason) = (steps_without_a_verdict, reason.clone());
            return Err(RlError::NothingJudged { steps, reason }.into());
        }
        let updates = trainer.learner.optimizer.updates;
        if refreshes(updates) > refreshes(before) {
            trainer.learner.refresh_reference(b);
        }
        let eval = if trainer.is_measured_after(step) { trainer.evaluate(step, on)? } else { None };
        let metrics = Metrics { eval, ..metrics };
        session.write_rollouts_of_ranks(step, trainer.rollout_lines(step, &rollouts)?.into_iter())?;
        let own = RlState { cursor: trainer.cursor, standards: trainer.inputs.rewards.standards() };
        let trained = trainer.learner.trained(refreshes(updates) > 0);
        session.after_step(b, trained, metrics.tokens, own, &metrics, on)?;
    }
    Ok(session.finish(b, &trainer.learner.policy)?)
}

impl<B: Backend> Trainer<'_, B> {
    /// Makes step `step`, from 1.
    fn step(&mut self, step: u64, on: &mut impl FnMut(Event)) -> Result<(Metrics, Rollouts), TrainError> {
        let start = Instant::now();
        let max_new_tokens = &self.config.rollout.max_new_tokens;
        self.sampling.max_new_tokens = max_new_tokens.at(step);
        let rollouts = self.sample(step, on)?;
        let train_start = Instant::now();
        let scored: Vec<ScoredGroup> = rollouts
            .learned
            .iter()
            .map(|&place| (place, &rollouts.groups[place]))
            .map(|(place, group)| ScoredGroup {
                place,
                prompt: &self.inputs.prompts[group.problem],
                completions: group
                    .samples
                    .iter()
                    .map(|s| (&s.completion, s.advantage.map(Credit::Completion)))
                    .collect(),
            })
            .collect();
        let (optim, parts) = (&self.config.stage.optim, self.config.algorithm.mini_batches());
        let per_step = self.config.updates_per_step();
        let (mut updates, mut lr) = (Vec::new(), 0.0);
        for i in 0..per_step {
            let part = i as usize % parts;
            let part = &scored[part * scored.len() / parts..(part + 1) * scored.len() / parts];
            lr = optim.lr_at((step - 1) * per_step + i, self.config.steps * per_step);
            updates.push(self.learner.update(self.b, part, optim, lr)?);
        }
        let metrics = Metrics::of(&rollouts, &updates);
        let step_s = start.elapsed().as_secs_f64();
        let train_s = train_start.elapsed().as_secs_f64();
        let metrics = Metrics {
            step,
            lr,
            max_new_tokens: max_new_tokens.fixed().is_none().then(|| max_new_tokens.at(step)),
            generate_s: rollouts.generate_s,
            reward_s: step_s - train_s - rollouts.generate_s,
            train_s,
            step_s,
            tokens_per_s: metrics.tokens as f64 / step_s,
            ..metrics
        };
        Ok((metrics, rollouts))
    }

    /// Says which problems are left out.
    fn tell_bad_references(&self, on: &mut impl FnMut(Event)) {
        let data = std::iter::once((&self.config.stage.data, &self.inputs.bad));
        let held_out = self.config.eval.iter().map(|eval| (&eval.data, &self.inputs.bad_held_out));
        for (data, bad) in data.chain(held_out).filter(|(_, bad)| !bad.is_empty()) {
            on(Event::BadReferences { data, bad });
        }
    }

    /// The lines of what this rank sampled, with the places of their groups.
    fn rollout_lines<'s>(
        &'s self,
        step: u64,
        rollouts: &'s Rollouts,
    ) -> Result<Vec<(usize, RolloutLine<'s>)>, TrainError> {
        let tokenizer = self.config.rollout.log_probs.then(|| self.inputs.codec.tokenizer()).transpose()?;
        let lines = rollouts.groups.iter().enumerate().flat_map(|(place, group)| {
            let problem = &self.inputs.problems[group.problem];
            let line = move |(i, sample)| Ok((place, RolloutLine::new(step, problem, i, sample, tokenizer)?));
            group.samples.iter().enumerate().map(line)
        });
        lines.collect()
    }
}
