//! A run that goes on: what every stage does before, after and between its steps.
//!
//! ```text
//! check everything that can be wrong
//! let mut session = Session::open(…)              directory, lock, checkpoint to go on from
//! while let Some(step) = session.next_step() {
//!     the step
//!     session.after_step(…)                       metrics, checkpoint when one is due
//! }
//! session.finish(…)                               model/, lineage.json
//! ```

use std::{
    cell::Cell,
    error::Error,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use koan_backend::Backend;
use koan_files::{FilesError, hash_file, sha256};
use koan_model::{
    Config, Counter, Model, Param, Work,
    checkpoint::{self, CheckpointError, Place},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    checkpoint::{Trained, TrainerState, load_optimizer, load_state, save, save_with},
    config::{Settings, StageConfig, hash_config},
    error::StageError,
    event::Event,
    lineage::{Input, Lineage, Made},
    run_dir::{Begun, RunDir},
    status::{self, State},
};
use crate::{
    comm::{CommError, Ranks, Shards},
    cost::{Cost, Meter},
    optim::{Diverged, LoadMetrics, Optimizer, check_weights},
};

/// What whoever starts a run decides, apart from its config: none of it changes what the run computes.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Go on from the newest checkpoint of the run directory.
    pub resume: bool,
    /// Threads that judge completions; the backend has its own.
    pub threads: usize,
    /// Once it is set on any rank, the run ends after the step that it is in.
    pub stop: &'a AtomicBool,
    /// The processes that make the run together, of which this is one.
    pub ranks: &'a Ranks,
}

/// The course of a run.
#[derive(Clone, Debug)]
pub struct Course {
    /// Which stage it is, as lineage.json names it.
    pub stage: &'static str,
    /// Steps in all.
    pub steps: u64,
    /// What it reads.
    pub inputs: Vec<Input>,
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

/// A run whose directory is open. `S` is what its stage alone counts.
pub struct Session<'a, S> {
    /// On rank 0, which alone writes.
    run: Option<RunDir>,
    ranks: Ranks,
    config: &'a StageConfig,
    course: Course,
    updates_per_step: u64,
    stop: &'a AtomicBool,
    state: TrainerState<S>,
    /// The checkpoint it goes on from.
    from: Option<PathBuf>,
    /// The step of the newest checkpoint.
    newest: Option<u64>,
    stopped: bool,
    /// Of the last checkpoint written.
    digest: String,
    /// What all processes of the run cost, until it ends.
    meter: Option<Meter>,
    /// What was computed when the step began that is being made.
    before_step: Cell<Work>,
}

/// A line of metrics.jsonl.
#[derive(Serialize)]
struct Line<'a, M> {
    #[serde(flatten)]
    metrics: &'a M,
    /// Floating-point operations of the step.
    flops: f64,
    /// How even the loads of experts were, if the model has them.
    #[serde(flatten)]
    experts: Option<LoadMetrics>,
    /// How ranks waited for each other, if there are several.
    #[serde(flatten)]
    ranks: Option<RankMetrics>,
}

/// How ranks waited for each other in a step.
#[derive(Serialize)]
struct RankMetrics {
    /// Seconds that a rank waited for others, mean over the ranks.
    wait_s: f64,
    /// The rank that waited least: the others waited for it.
    slowest_rank: usize,
}

/// What ranks tell each other after each step.
#[derive(Serialize, Deserialize)]
struct AfterStep {
    flops: f64,
    wait_s: f64,
}

/// What rank 0 tells the others of the run that it has opened.
#[derive(Serialize, Deserialize)]
struct Opened {
    from: Option<PathBuf>,
}

impl<'a, S: Serialize + DeserializeOwned> Session<'a, S> {
    /// Makes the run's directory, or goes on with the one that is there, if `launch` says so. `own` is what the stage counts
    /// before its first step. Nothing is written before all that is there fits.
    ///
    /// # Errors
    /// If ranks would not compute the same, there is a run that is not to be gone on with, or none that is, or one of another config or of other inputs, if its
    /// newest checkpoint is damaged or gone, if it is longer already, or if it can't be written.
    pub fn open<B: Backend, C: Settings>(
        b: &B,
        course: Course,
        config: &'a C,
        launch: Launch<'a>,
        own: S,
    ) -> Result<Self, StageError> {
        let (shared, updates_per_step) = (config.stage(), config.updates_per_step());
        let mut state = TrainerState {
            stage: course.stage.to_owned(),
            step: 0,
            updates: 0,
            tokens: 0,
            seed: shared.seed,
            config_sha256: hash_config(config),
            inputs_sha256: Input::hashes(&course.inputs),
            own,
        };
        let ranks = launch.ranks.clone();
        Shards::new(shared.shards, ranks.clone())?;
        check_same(&ranks, b, launch.resume, &config.to_toml(), &course.inputs)?;
        let mut from = None;
        let run = if !ranks.is_first() {
            None
        } else if launch.resume {
            let begun = Begun::find(&shared.run_dir, config)?;
            if let Some(dir) = begun.checkpoint() {
                state = load_state(dir, &state)?;
                from = Some(dir.to_owned());
                if state.step > course.steps {
                    let (path, made, steps) = (shared.run_dir.clone(), state.step, course.steps);
                    return Err(StageError::StepsMade { path, made, steps });
                }
            }
            Some(RunDir::go_on(&shared.run_dir, config, begun)?)
        } else {
            Some(RunDir::create(&shared.run_dir, config)?)
        };
        from = ranks.broadcast(Some(Opened { from }))?.from;
        let meter = if let Some(run) = &run {
            status::open_for(run.path());
            Meter::start(run.cost(), run.cost_writer())
        } else {
            if let Some(dir) = &from {
                state = load_state(dir, &state)?;
            }
            Meter::start(Cost::default(), |_| {})
        };
        let (stop, digest) = (launch.stop, String::new());
        let newest = from.as_ref().map(|_| state.step);
        let before_step = Cell::new(Counter::of_this_thread().work());
        let meter = Some(meter);
        let stopped = false;
        let config = shared;
        Ok(Self {
            run,
            ranks,
            config,
            course,
            updates_per_step,
            stop,
            state,
            from,
            newest,
            stopped,
            digest,
            meter,
            before_step,
        })
    }

    /// What the checkpoint that the run goes on from knows, and the steps since.
    pub fn state(&self) -> &TrainerState<S> {
        &self.state
    }

    /// The model as the run has it: of the checkpoint that it goes on from, or the one that it starts from, with an adapter
    /// if that is what is trained. Sequences may have up to `positions` tokens.
    ///
    /// # Errors
    /// If it can't be loaded.
    pub fn load_model<B: Backend>(&self, b: &B, positions: usize) -> Result<Model<B>, StageError> {
        let config = self.config.trained_config()?;
        self.load_scorer(b, &config, positions)
    }

    /// The model of `config` as the run has it, as [`load_model`](Self::load_model). A reward model that starts from one that
    /// predicts tokens gets a fresh head.
    ///
    /// # Errors
    /// If it can't be loaded.
    pub fn load_scorer<B: Backend>(
        &self,
        b: &B,
        config: &Config,
        positions: usize,
    ) -> Result<Model<B>, StageError> {
        let config = self.config.adapted(config.clone())?;
        let place = self.place(self.from.as_deref())?;
        Ok(checkpoint::load_as(b, &place, config, positions, self.config.seed)?)
    }

    /// Where the weights lie that were saved in `saved`; without it, where those lie that the run starts from.
    fn place(&self, saved: Option<&Path>) -> Result<Place, StageError> {
        let place = match saved {
            None => return self.config.start(),
            Some(dir) if self.config.adapter.is_some() => Place::find(&self.config.model, Some(dir)),
            Some(dir) => Ok(dir.into()),
        };
        let place = place.map_err(CheckpointError::from)?;
        Ok(place.in_precision(self.config.precision).caching(self.config.cache))
    }

    /// The reference policy of `policy` as the run has it: the model that it starts from, or, if it was `refreshed` since, that
    /// of the checkpoint that the run goes on from. Where an adapter is trained it shares the policy's frozen weights: it is
    /// the model without an adapter, unless the run starts from one or the reference `refreshes` as it goes.
    ///
    /// # Errors
    /// If it can't be loaded.
    pub fn load_reference<B: Backend>(
        &self,
        b: &B,
        policy: &Model<B>,
        refreshes: bool,
        refreshed: bool,
    ) -> Result<Model<B>, StageError> {
        let saved = self.from.as_ref().filter(|_| refreshed).map(|dir| dir.join("reference"));
        let place = self.place(saved.as_deref())?;
        if self.config.adapter.is_none() {
            return Ok(checkpoint::load(b, &place, Some(policy.positions()))?);
        }
        let adapted = refreshes || place.adapter().is_some();
        let config = if adapted { policy.config().clone() } else { policy.config().base() };
        Ok(checkpoint::load_on_same_base(b, policy, &place, config, self.config.seed)?)
    }

    /// The optimizer of the model of `config` as the run has it.
    ///
    /// # Errors
    /// If it can't be loaded, or the device refuses the memory.
    pub fn load_optimizer<B: Backend>(&self, b: &B, config: &Config) -> Result<Optimizer<B>, StageError> {
        let (config, moments) = (self.config.adapted(config.clone())?, self.config.optim.moments);
        let balance =
            self.config.balance(self.course.stage, &config, self.course.steps, self.updates_per_step);
        let optimizer = match &self.from {
            Some(dir) => load_optimizer(b, dir, &config, moments, self.state.updates)?,
            None => Optimizer::new(b, &config, moments)?,
        };
        Ok(Optimizer { balance, ..optimizer })
    }

    /// The parts of each update, and the ranks that compute them.
    ///
    /// # Errors
    /// If there are more ranks than shards.
    pub fn shards(&self) -> Result<Shards, CommError> {
        Shards::new(self.config.shards, self.ranks.clone())
    }

    /// Steps in all.
    pub fn steps(&self) -> u64 {
        self.course.steps
    }

    /// The step to make, from 1; none if all are made, or the run was asked to stop.
    pub fn next_step(&self) -> Option<u64> {
        self.before_step.set(Counter::of_this_thread().work());
        (self.state.step < self.course.steps && !self.stopped).then_some(self.state.step + 1)
    }

    /// Adds a line to metrics.jsonl that is no step's.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write_metrics(&mut self, metrics: &impl Serialize) -> Result<(), FilesError> {
        self.run.as_mut().map_or(Ok(()), |run| run.write_metrics(metrics))
    }

    /// Writes the rollouts of step `step`.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn write_rollouts<T: Serialize>(
        &self,
        step: u64,
        lines: impl Iterator<Item = T>,
    ) -> Result<(), FilesError> {
        self.run.as_ref().map_or(Ok(()), |run| run.write_rollouts(step, lines))
    }

    /// The same of lines that ranks have made, each with its place among those of all.
    ///
    /// # Errors
    /// If they can't be written, or another rank has ended.
    pub fn write_rollouts_of_ranks<T: Serialize>(
        &self,
        step: u64,
        lines: impl Iterator<Item = (usize, T)>,
    ) -> Result<(), StageError> {
        if !self.ranks.are_several() {
            return Ok(self.write_rollouts(step, lines.map(|(_, line)| line))?);
        }
        let all: Vec<Vec<(usize, Value)>> = self.ranks.gather(&lines.collect::<Vec<_>>())?;
        let mut all: Vec<(usize, Value)> = all.into_iter().flatten().collect();
        all.sort_by_key(|(place, _)| *place);
        Ok(self.write_rollouts(step, all.into_iter().map(|(_, line)| line))?)
    }

    /// After each step: counts it, with its `tokens` and what the stage alone counts, writes its metrics, and a checkpoint of
    /// what is `trained` if one is due: after every so many steps, after the last, and before the run stops.
    ///
    /// # Errors
    /// If they can't be written, or a checkpoint is due and the weights are not finite.
    pub fn after_step<B: Backend, M: Serialize>(
        &mut self,
        b: &B,
        trained: Trained<B>,
        tokens: usize,
        own: S,
        metrics: &M,
        on: &mut impl FnMut(Event<M>),
    ) -> Result<(), StageError> {
        self.state.updates = trained.optimizer.updates;
        let balance = &trained.optimizer.balance;
        let step = self.count_step(tokens, own, metrics, balance.take(), on)?;
        if let Some(text) = balance.starving() {
            on(Event::Note { text: &text });
        }
        let last = step == self.course.steps;
        if step.is_multiple_of(self.config.checkpoint_every) || last || self.stopped {
            check_weights(b, trained.model, self.state.updates)
                .map_err(|source| Diverged { step, source })?;
            self.check_equal(b, trained.model, step)?;
            let saved = match &self.run {
                Some(run) => {
                    let dir = run.checkpoint_after(step)?;
                    let digest = save(b, &dir, trained, &self.state, &self.config.model)?;
                    Some((dir, digest))
                }
                None => None,
            };
            let (dir, digest) = self.ranks.broadcast(saved)?;
            self.keep_checkpoint(digest)?;
            on(Event::Checkpoint { path: &dir, digest: &self.digest });
        }
        Ok(())
    }

    /// Whether all ranks have the same weights.
    fn check_equal<B: Backend>(&self, b: &B, model: &Model<B>, step: u64) -> Result<(), CommError> {
        if !self.ranks.are_several() {
            return Ok(());
        }
        let trained = model.weights.tensors().filter(|param| param.info().trained);
        let squares = b.sums_of_squares(&trained.map(Param::value).collect::<Vec<_>>());
        let own: Vec<u64> = squares.into_iter().map(f64::to_bits).collect();
        let all: Vec<Vec<u64>> = self.ranks.all_gather(&own)?;
        match all.iter().position(|of_rank| *of_rank != all[0]) {
            Some(rank) => Err(CommError::Diverged { rank, step }),
            None => Ok(()),
        }
    }

    /// The same for a stage that trains nothing: its checkpoint, of what it counts alone, is small, and is written after each
    /// step.
    ///
    /// # Errors
    /// If metrics or checkpoint can't be written.
    pub fn after_step_without_training<M: Serialize>(
        &mut self,
        tokens: usize,
        own: S,
        metrics: &M,
        on: &mut impl FnMut(Event<M>),
    ) -> Result<(), StageError> {
        let step = self.count_step(tokens, own, metrics, None, on)?;
        let saved = match &self.run {
            Some(run) => Some(save_with(&run.checkpoint_after(step)?, &self.state, |_| Ok(()))?),
            None => None,
        };
        let digest = self.ranks.broadcast(saved)?;
        self.keep_checkpoint(digest)
    }

    /// Counts a step, and writes its metrics. Returns its number.
    fn count_step<M: Serialize>(
        &mut self,
        tokens: usize,
        own: S,
        metrics: &M,
        experts: Option<LoadMetrics>,
        on: &mut impl FnMut(Event<M>),
    ) -> Result<u64, StageError> {
        let step = self.state.step + 1;
        self.state.step = step;
        self.state.tokens += tokens as u64;
        self.state.own = own;
        let own = AfterStep {
            flops: Counter::of_this_thread().work().since(self.before_step.get()).flops,
            wait_s: self.ranks.take_waited(),
        };
        let all = if self.ranks.are_several() { self.ranks.all_gather(&own)? } else { vec![own] };
        let waited = |all: &[AfterStep]| RankMetrics {
            wait_s: all.iter().map(|rank| rank.wait_s).sum::<f64>() / all.len() as f64,
            slowest_rank: (0..all.len())
                .min_by(|&a, &b| all[a].wait_s.total_cmp(&all[b].wait_s))
                .unwrap_or(0),
        };
        let ranks = self.ranks.are_several().then(|| waited(&all));
        let flops = all.iter().map(|rank| rank.flops).sum();
        self.write_metrics(&Line { metrics, flops, experts, ranks })?;
        on(Event::Step { step, metrics });
        let [asked] = self.ranks.count([self.stop.load(Ordering::Relaxed).into()])?;
        self.stopped = asked > 0 && step < self.course.steps;
        Ok(step)
    }

    /// The checkpoint of the step just made is written: older ones than those that are kept go.
    fn keep_checkpoint(&mut self, digest: String) -> Result<(), StageError> {
        self.digest = digest;
        self.newest = Some(self.state.step);
        let kept = self.config.checkpoints_kept;
        Ok(self.run.as_ref().map_or(Ok(()), |run| run.keep_checkpoints(kept))?)
    }

    /// After the last step: writes model/ and lineage.json, unless the run was asked to stop before.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn finish<B: Backend>(&mut self, b: &B, model: &Model<B>) -> Result<RunSummary, StageError> {
        if self.stopped {
            return Ok(self.summary());
        }
        let written =
            self.run.as_ref().map(|run| run.write_model(b, model, &self.config.model)).transpose()?;
        let (dir, weights_sha256) = self.ranks.broadcast(written)?;
        self.write_lineage(b, Made::Weights { weights_sha256 })?;
        Ok(RunSummary { model: Some(dir), ..self.summary() })
    }

    /// After the last step of a stage that trains nothing: writes lineage.json with the file that it `made`, and with its
    /// `counts`.
    ///
    /// # Errors
    /// If they can't be read or written.
    pub fn finish_data<B: Backend>(
        &mut self,
        b: &B,
        made: &Path,
        counts: &impl Serialize,
    ) -> Result<RunSummary, StageError> {
        let counts = serde_json::to_value(counts).expect("counts are plain numbers");
        self.write_lineage(b, Made::Data { data_sha256: hash_file(made)?, counts })?;
        Ok(self.summary())
    }

    /// The state of a run that makes no model.
    pub fn summary(&self) -> RunSummary {
        RunSummary { step: self.state.step, stopped: self.stopped, model: None, digest: self.digest.clone() }
    }

    /// SHA-256 of the first input of this role; empty if there is none.
    pub fn input_sha256(&self, role: &str) -> &str {
        self.course.inputs.iter().find(|input| input.role == role).map_or("", |input| &input.sha256)
    }

    /// The run's directory.
    pub fn run_dir(&self) -> &Path {
        &self.config.run_dir
    }

    /// Whether the run was asked to stop before its last step.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// What all processes of the run cost, which is written down. Nothing is counted after that.
    fn end_metering(&mut self) -> Cost {
        match self.meter.take() {
            Some(meter) => {
                let cost = meter.finish();
                if let Some(run) = &self.run {
                    run.cost_writer()(cost);
                }
                cost
            }
            None => self.run.as_ref().map(RunDir::cost).unwrap_or_default(),
        }
    }

    fn write_lineage<B: Backend>(&mut self, b: &B, made: Made) -> Result<(), StageError> {
        let cost = self.end_metering();
        let cost = if self.ranks.are_several() { of_ranks(&self.ranks.gather(&cost)?) } else { cost };
        let Some(run) = &self.run else { return Ok(()) };
        run.cost_writer()(cost);
        let Cost { tokens_drawn, tokens_trained, flops, energy_wh, energy_source, .. } = cost;
        let lineage = Lineage {
            stage: self.course.stage,
            inputs: &self.course.inputs,
            config_sha256: &self.state.config_sha256,
            made,
            koan_version: env!("CARGO_PKG_VERSION"),
            device: b.name(),
            steps: self.state.step,
            tokens: self.state.tokens,
            seconds: run.seconds()?,
            tokens_drawn,
            tokens_trained,
            flops,
            energy_wh,
            energy_source,
        };
        Ok(lineage.write(run.path())?)
    }

    /// Writes into status.json how the run ended, and returns it.
    ///
    /// # Errors
    /// What the run ended by.
    pub fn record_outcome<E: Error + 'static>(
        mut self,
        ended: Result<RunSummary, E>,
    ) -> Result<RunSummary, E> {
        let (state, message) = match &ended {
            Ok(RunSummary { stopped: true, step, .. }) => {
                (State::Stopped, Some(format!("interrupted after step {step}; --resume goes on from there")))
            }
            Ok(_) => (State::Finished, None),
            Err(error) => (State::Failed, Some(status::in_words(error))),
        };
        self.end_metering();
        if let Some(run) = &self.run {
            status::close();
            let _ = status::write(run.path(), state, self.newest, message); // how it ended matters more
        }
        ended
    }
}

/// What the work of all ranks cost. Ranks may share a machine, so that its energy is not known of each.
fn of_ranks(costs: &[Cost]) -> Cost {
    let sum = costs.iter().fold(Cost::default(), |sum, &cost| sum.and(cost));
    Cost { energy_wh: None, energy_source: None, ..sum }
}

/// Refuses ranks that would not compute the same run.
fn check_same<B: Backend>(
    ranks: &Ranks,
    b: &B,
    resume: bool,
    config: &str,
    inputs: &[Input],
) -> Result<(), StageError> {
    if !ranks.are_several() {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(FilesError::io("find", Path::new("the program")))?;
    let mut own = vec![
        ("device".to_owned(), b.name()),
        ("program".to_owned(), hash_file(&program)?),
        ("config".to_owned(), sha256(config)),
        ("--resume".to_owned(), resume.to_string()),
    ];
    own.extend(inputs.iter().map(|input| (input.role.to_owned(), input.sha256.clone())));
    let all: Vec<Vec<(String, String)>> = ranks.all_gather(&own)?;
    for (rank, theirs) in all.iter().enumerate() {
        for ((what, first), (_, theirs)) in all[0].iter().zip(theirs) {
            if first != theirs {
                let (what, theirs, first) = (what.clone(), theirs.clone(), first.clone());
                return Err(CommError::Differs { rank, what, theirs, first }.into());
            }
        }
    }
    Ok(())
}
