//! Rejection sampling: a model answers every problem several times, and what stands up to all filters becomes data, as one
//! loop:
//!
//! ```text
//! for each step:
//!     have a group of completions of each of the next problems written              (here.rs, there.rs)
//!     judge them                                                                    (sample.rs)
//!     refuse: filter after filter, the cheapest first                               (filter.rs)
//!     choose among the others                                                       (choose.rs)
//! write the rows                                                                    (rows.rs)
//! ```
//!
//! `rollouts/` has every completion with whether it was kept and why not, and is the run's journal: a step that was made is never sampled
//! again, and `data/` is written from it at the end, whole.
//!
//! - [`RejectConfig`]: what its TOML file says,
//! - [`choose`], [`Summary`]: the pieces, for other stages that learn from samples,
//! - [`Forecast`]: what a run takes, without one.

mod choose;
mod config;
mod error;
mod filter;
mod forecast;
mod here;
mod inputs;
mod journal;
mod judge;
mod metrics;
mod pairs;
mod record;
mod rows;
mod sample;
mod server;
mod sources;
mod there;

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    path::{Path, PathBuf},
    time::Instant,
};

use koan_backend::Backend;
use koan_data::Problem;
use koan_files::{FilesError, NewFile, jsonl};
use koan_generate::Counters;
use koan_infer::{Engine, JudgeModels};
use koan_reward::{Rewards, Standard};
use serde::{Deserialize, Serialize};

pub use choose::{Choice, Comparisons, Paired, Rejection, choose};
pub use config::{FilterConfig, FormatFilter, KeepConfig, RejectConfig, Which};
pub use error::RejectError;
pub use filter::{Fate, Fates};
pub use forecast::Forecast;
pub use judge::JudgeConfig;
pub use metrics::{Metrics, Summary};
pub use sample::{Answer, Group};
pub use server::ServerConfig;

use self::{
    inputs::{Inputs, Writer},
    pairs::balanced,
    record::{Line, Recorded},
    sample::Asked,
    sources::{Source, Written},
    there::Asking,
};
use crate::{
    TrainError,
    rl::{DraftMetrics, RolloutLine},
    stage::{self, Course, Launch, RunSummary, Session},
};

/// A run in which nothing was decided for so many steps keeps nothing: it ends.
const MAX_STEPS_WITHOUT_A_VERDICT: usize = 3;

/// What a run says while it goes.
pub type Event<'a> = stage::Event<'a, Metrics>;

/// What a run made.
#[derive(Clone, Debug)]
pub struct Made {
    /// How it ended.
    pub run: RunSummary,
    /// The file of its rows, unless it was stopped.
    pub data: Option<PathBuf>,
    /// The counts of the whole run.
    pub summary: Summary,
}

/// What a checkpoint of this stage alone knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RejectState {
    summary: Summary,
    /// Scales of reward models' scores, which the first step set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    standards: BTreeMap<String, Standard>,
}

/// Runs `config` to its last problem, or to the end of the step in which `launch.stop` is set. With `launch.resume` it goes on
/// after the last step that was made, and ends with the bytes of a run that was never interrupted.
///
/// # Errors
/// All that can be known to be wrong is, before any work: files, sizes, memory, disk. Later only what the system refuses,
/// rewards that judge nothing, or filters that refuse everything.
pub fn run<B: Backend>(
    b: &B,
    config: &RejectConfig,
    launch: Launch,
    mut on: impl FnMut(Event),
) -> Result<Made, TrainError> {
    launch.ranks.refuse_several("rejection sampling works")?;
    let inputs = Inputs::read(b, config)?;
    let course = Course { stage: "reject", steps: inputs.steps(config), inputs: inputs.all(config)? };
    let mut session = Session::open(b, course, config, launch, RejectState::default())?;
    let mut made = None;
    let ended = collect(b, config, inputs, launch.threads, &mut session, &mut on).map(|all| {
        let run = all.run.clone();
        made = Some(all);
        run
    });
    session.record_outcome(ended)?;
    Ok(made.expect("a run that did not fail has made something"))
}

fn collect<B: Backend>(
    b: &B,
    config: &RejectConfig,
    inputs: Inputs,
    threads: usize,
    session: &mut Session<RejectState>,
    on: &mut impl FnMut(Event),
) -> Result<Made, TrainError> {
    if !inputs.bad.is_empty() {
        on(Event::BadReferences { data: &config.stage.data, bad: &inputs.bad });
    }
    inputs.notes.iter().for_each(|text| on(Event::Note { text }));
    let memory = inputs.in_words(b);
    let task =
        format!("{} completions of each of {} problems", config.rollout.group_size, inputs.problems.len());
    let (step, steps) = (session.state().step, session.steps());
    on(Event::Start { step, steps, memory: &memory, task: &task });
    if session.next_step().is_some() {
        sample(b, config, &inputs, threads, session, on)?;
    }
    let mut summary = session.state().own.summary;
    if session.is_stopped() {
        return Ok(Made { run: session.summary(), data: None, summary });
    }
    let data = write_data(config, &inputs, session, &mut summary)?;
    let run = session.finish_data(b, &data, &summary)?;
    Ok(Made { run, data: Some(data), summary })
}

/// Makes the steps that are left.
fn sample<B: Backend>(
    b: &B,
    config: &RejectConfig,
    inputs: &Inputs,
    threads: usize,
    session: &mut Session<RejectState>,
    on: &mut impl FnMut(Event),
) -> Result<(), TrainError> {
    let models = JudgeModels::load(b, &inputs.needs())?;
    let mut writing = Writing::begin(b, inputs, session.run_dir())?;
    if let Some(rewards) = &inputs.rewards {
        rewards.set_standards(&session.state().own.standards);
    }
    let asked = Asked {
        problems: &inputs.problems,
        samples: config.rollout.group_size,
        rewards: inputs.rewards.as_ref(),
        threads,
        models: &models,
    };
    let mut without_a_verdict = 0;
    while let Some(step) = session.next_step() {
        let start = Instant::now();
        let first = (step - 1) as usize * config.rollout.problems;
        let wanted = first..inputs.problems.len().min(first + config.rollout.problems);
        let of = wanted.len() * config.rollout.group_size;
        let before = writing.counters();
        let done = |done| on(Event::Completed { done, of });
        let groups = writing.collect(step, config, &asked, wanted, done)?;
        let choices: Vec<Choice> = match &inputs.judge {
            Some(judge) => judge.choose(config, &models, &inputs.problems, &groups)?,
            None => groups.iter().map(|group| choose(config, group)).collect(),
        };
        let drafts = DraftMetrics::of(writing.counters().since(before));
        let metrics = Metrics { drafts, ..Metrics::of(&groups, &choices) };
        without_a_verdict = if metrics.nothing_judged.is_some() { without_a_verdict + 1 } else { 0 };
        if let Some(reason) = &metrics.nothing_judged
            && (config.filter.asks_for_outcome() || config.keep.which == Which::Preference)
            && without_a_verdict == MAX_STEPS_WITHOUT_A_VERDICT
        {
            return Err(
                RejectError::NothingJudged { steps: without_a_verdict, reason: reason.clone() }.into()
            );
        }
        session.write_rollouts(step, lines(config, inputs, step, &groups, &choices)?.into_iter())?;
        let mut own = session.state().own.clone();
        own.standards = inputs.rewards.as_ref().map(Rewards::standards).unwrap_or_default();
        for choice in &choices {
            own.summary.add(choice);
        }
        let step_s = start.elapsed().as_secs_f64();
        let tokens_per_s = metrics.tokens as f64 / step_s;
        let metrics = Metrics { step, step_s, tokens_per_s, ..metrics };
        session.after_step_without_training(metrics.tokens, own, &metrics, on)?;
        writing.after_step()?;
    }
    Ok(())
}

/// Who writes completions, while it does.
enum Writing<'a, B: Backend> {
    Here(&'a here::Here, Box<Engine<'a, B>>),
    There(Asking<'a>),
}

impl<'a, B: Backend> Writing<'a, B> {
    /// Loads the model, or reads what a server answered before the run in directory `run` was interrupted.
    fn begin(b: &'a B, inputs: &'a Inputs, run: &Path) -> Result<Self, TrainError> {
        Ok(match &inputs.writer {
            Writer::Here(here) => Self::Here(here, Box::new(here.begin(b)?)),
            Writer::There(there) => Self::There(there.begin(run)?),
        })
    }

    /// The judged completions of the problems at the places `wanted`; says how many are there, after each.
    fn collect(
        &mut self,
        step: u64,
        config: &RejectConfig,
        asked: &Asked,
        wanted: Range<usize>,
        on: impl FnMut(usize),
    ) -> Result<Vec<Group>, TrainError> {
        match self {
            Self::Here(here, engine) => {
                let here = *here;
                let of = wanted.clone();
                asked.collect(
                    wanted,
                    |send| here.write(engine, config, asked, of, on, send),
                    |i| here.opened(i),
                )
            }
            Self::There(asking) => {
                let of = wanted.clone();
                asked.collect(wanted, |send| asking.write(step, config, asked, of, on, send), |_| Ok(None))
            }
        }
    }

    /// What was computed to sample, here.
    fn counters(&self) -> Counters {
        match self {
            Self::Here(_, engine) => engine.generator.counters(),
            Self::There(_) => Counters::default(),
        }
    }

    /// After a step that was made.
    fn after_step(&mut self) -> Result<(), TrainError> {
        match self {
            Self::Here(..) => Ok(()),
            Self::There(asking) => asking.forget(),
        }
    }
}

/// The lines of a step's completions.
fn lines<'a>(
    config: &RejectConfig,
    inputs: &'a Inputs,
    step: u64,
    groups: &'a [Group],
    choices: &'a [Choice],
) -> Result<Vec<Line<'a>>, TrainError> {
    let tokenizer = match &inputs.writer {
        Writer::Here(here) if config.rollout.log_probs => Some(here.codec.tokenizer()?),
        _ => None,
    };
    let mut lines = Vec::new();
    for (group, choice) in groups.iter().zip(choices) {
        let problem = &inputs.problems[group.problem];
        for (i, (sample, rejection)) in group.samples.iter().zip(&choice.rejections).enumerate() {
            lines.push(Line {
                rollout: RolloutLine::new(step, problem, i, sample.said(), tokenizer)?,
                rejection,
            });
        }
    }
    Ok(lines)
}

/// Writes the rows of all that was kept, whole, and returns their file. Counts the pairs that are left out for their lengths.
fn write_data(
    config: &RejectConfig,
    inputs: &Inputs,
    session: &Session<RejectState>,
    summary: &mut Summary,
) -> Result<PathBuf, TrainError> {
    let (run, steps) = (session.run_dir(), session.steps());
    let is_preference = config.keep.which == Which::Preference;
    let balance = if is_preference {
        let mut lengths = Vec::new();
        each_pair(run, steps, |chosen, rejected| {
            lengths.push((chosen.completion_tokens, rejected.completion_tokens));
            Ok(())
        })?;
        balanced(&lengths, config.keep.length_balance)
    } else {
        Vec::new()
    };
    summary.rows_unbalanced = balance.iter().filter(|kept| !**kept).count() as u64;
    if summary.rows == summary.rows_unbalanced {
        return Err(nothing_kept(summary).into());
    }
    let name = if is_preference { "preferences.jsonl" } else { "sft.jsonl" };
    let path = run.join("data").join(name);
    std::fs::create_dir_all(run.join("data")).map_err(FilesError::io("create", &path))?;
    let mut out = NewFile::create(&path)?;
    let mut write = |row| jsonl::write_line(&mut out, &row).map_err(FilesError::io("write", &path));
    let problems: HashMap<&str, &Problem> = inputs.problems.iter().map(|p| (&*p.id, p)).collect();
    let opened = inputs.opened()?;
    let url = config.server.as_ref().map(ServerConfig::base).unwrap_or_default();
    let source = Source {
        writer: match &config.server {
            None => Written::Here { model: &config.stage.model, model_sha256: session.input_sha256("model") },
            Some(server) => Written::There { url: &url, model: &server.model },
        },
        seed: config.stage.seed,
        system: config.rollout.system.as_deref().filter(|_| !config.rollout.raw),
        files: &inputs.files,
        opened: &opened,
    };
    let of = |id: &str| {
        let what = format!("problem `{id}` is not in the data");
        problems.get(id).copied().ok_or_else(|| FilesError::Damaged { path: run.join("rollouts"), what })
    };
    if is_preference {
        let mut kept = balance.into_iter();
        each_pair(run, steps, |chosen, rejected| {
            let margin = chosen.rejection.pair.map_or(0.0, |pair| pair.margin);
            match kept.next() {
                Some(true) => write(rows::preference(of(&chosen.id)?, &source, chosen, rejected, margin)),
                _ => Ok(()),
            }
        })?;
    } else {
        record::read(run, steps, |line| match line.rejection.fate {
            Fate::Kept => write(rows::demonstration(of(&line.id)?, &source, &line)),
            _ => Ok(()),
        })?;
    }
    out.finish()?;
    Ok(path)
}

/// Hands the pairs of a run's steps to `each`: those of a problem in the order of their numbers.
fn each_pair(
    run: &Path,
    steps: u64,
    mut each: impl FnMut(&Recorded, &Recorded) -> Result<(), FilesError>,
) -> Result<(), FilesError> {
    let mut of_problem: Vec<Recorded> = Vec::new();
    let mut hand_over = |mut lines: Vec<Recorded>| {
        lines.sort_by_key(|line| line.rejection.pair.map(|pair| (pair.number, !pair.chosen)));
        lines.chunks_exact(2).try_for_each(|pair| each(&pair[0], &pair[1]))
    };
    record::read(run, steps, |line| {
        if line.rejection.pair.is_none() {
            return Ok(());
        }
        if of_problem.first().is_some_and(|first| first.id != line.id) {
            hand_over(std::mem::take(&mut of_problem))?;
        }
        of_problem.push(line);
        Ok(())
    })?;
    hand_over(of_problem)
}

fn nothing_kept(summary: &Summary) -> RejectError {
    let named = summary.completions.named();
    let mut why: Vec<String> =
        named.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")).collect();
    if summary.problems_tied > 0 {
        why.push(format!("{} problems whose completions do not differ by enough", summary.problems_tied));
    }
    if summary.comparisons.undecided > 0 {
        why.push(format!("{} pairs that the judge did not decide", summary.comparisons.undecided));
    }
    if summary.rows_unbalanced > 0 {
        let pairs = summary.rows_unbalanced;
        why.push(format!("{pairs} pairs of too different lengths (keep.length_balance)"));
    }
    RejectError::NothingKept { completions: summary.completions.all(), why: why.join(", ") }
}

#[cfg(test)]
mod tests;
