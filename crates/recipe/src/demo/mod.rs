//! The whole path in small, with nothing but this program: write a text and problems, pretrain a base model, run R1-Zero on
//! it, and compare the two on held-out problems.
//!
//! ```text
//! DIR/text.jsonl, train.jsonl, held-out.jsonl     what is read and asked             (koan_data::moves)
//! DIR/fresh/                                      a model of random weights          (base.rs)
//! DIR/base.toml, base/                            the run that pretrains it          (recipes/zero-tiny-base.toml)
//! DIR/zero.toml, zero/                            the run that reinforces it         (recipes/zero-tiny.toml)
//! DIR/result.json, report.html, curves.svg        before and after                   (report.rs)
//! ```
//!
//! No answer, curve or sample is scripted: the stages are those of `koan pretrain` and `koan rl`, and the measurements
//! those of `koan eval`.

mod base;
mod error;
mod measure;
pub mod notation;
mod report;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use koan_backend::Backend;
use koan_data::{
    Problem, Split,
    moves::{Habits, Moves},
    read_problems, write_problems,
};
use koan_eval::Judged;
use koan_files::FilesError;
use koan_train::{
    rl::{self, RlConfig},
    stage::Launch,
    supervised::{self, Stage, SupervisedConfig},
};
use serde::{Deserialize, Serialize};

pub use error::DemoError;
pub use measure::Measure;
use measure::measure;

const BASE_RECIPE: &str = include_str!("../../../../recipes/zero-tiny-base.toml");
const ZERO_RECIPE: &str = include_str!("../../../../recipes/zero-tiny.toml");
/// The directory that the recipes name.
const RECIPE_DIR: &str = "runs/demo";
/// Held-out answers that are shown side by side.
const EXAMPLES: usize = 6;

/// How people of the text answer: most blurt, few check.
const HABITS: Habits = Habits { blurt: 0.7, work: 0.18, slip: 0.07, miss: 5 };

/// How much of everything.
struct Sizes {
    moves: usize,
    texts: u64,
    train: u64,
    held_out: u64,
    /// Settings of the base run and of the RL run that differ from the recipes.
    base: &'static [&'static str],
    zero: &'static [&'static str],
}

const FULL: Sizes = Sizes { moves: 8, texts: 100_000, train: 4000, held_out: 400, base: &[], zero: &[] };
/// For a quick look, and for continuous integration: shorter problems, less text, fewer steps.
const QUICK: Sizes = Sizes {
    moves: 6,
    texts: 60_000,
    train: 1000,
    held_out: 200,
    base: &[],
    zero: &["steps=40", "rollout.max_new_tokens=96"],
};

/// What a demo says while it goes.
#[derive(Debug)]
pub enum Event<'a> {
    /// Text and problems are written.
    Written {
        /// Some lines of the text.
        sample: &'a [String],
    },
    /// The base model learns.
    Base(supervised::Event<'a>),
    /// A model was measured on held-out problems.
    Measured {
        /// Which: `base` or `zero`.
        model: &'static str,
        /// How well it did.
        measure: &'a Measure,
    },
    /// The policy learns.
    Zero(rl::Event<'a>),
}

/// A held-out problem with both models' answers to it.
#[derive(Clone, Debug, Serialize)]
pub struct Example {
    /// The question.
    pub prompt: String,
    /// The right answer.
    pub answer: String,
    /// The base model's answer.
    pub before: Judged,
    /// The trained model's.
    pub after: Judged,
}

/// What a step of reinforcement learning showed: a point of the curves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    /// The step.
    pub step: u64,
    /// Share of right completions.
    pub accuracy: f64,
    /// Mean tokens of a completion.
    pub completion_tokens: f64,
    /// Words of reflection per completion.
    pub reflection_words: f64,
    /// Mean entropy of a token, nats.
    pub entropy: f64,
}

/// The demo's result: the content of `result.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The base model.
    pub before: Measure,
    /// The model that learned from verified answers.
    pub after: Measure,
    /// Seconds from start to end.
    pub seconds: f64,
    /// Of them, pretraining.
    pub pretrain_seconds: f64,
    /// And reinforcement learning.
    pub rl_seconds: f64,
    /// Whether it was the quick one.
    pub quick: bool,
    /// Where the trained model is.
    pub model: PathBuf,
    /// Steps of reinforcement learning.
    pub curve: Vec<Point>,
    /// Some answers side by side.
    pub examples: Vec<Example>,
}

/// Runs the demo in directory `dir`; what an earlier, interrupted one made there is not made again, whatever
/// `launch.resume` says. `None`: `launch.stop` was set, and the same call goes on.
///
/// # Errors
/// If the directory holds a finished demo or can't be written, and what the stages may fail by.
pub fn run<B: Backend>(
    b: &B,
    dir: &Path,
    quick: bool,
    launch: Launch,
    mut on: impl FnMut(Event),
) -> Result<Option<Outcome>, DemoError> {
    let start = Instant::now();
    if dir.join("result.json").exists() {
        return Err(DemoError::Exists { path: dir.into() });
    }
    let sizes = if quick { QUICK } else { FULL };
    let sample = write_world(dir, &sizes)?;
    on(Event::Written { sample: &sample });

    let file = write_recipe(dir, "base.toml", BASE_RECIPE)?;
    let config = SupervisedConfig::load(Stage::Pretrain, &file, &overrides(sizes.base))?;
    let base = config.stage.run_dir.join("model");
    if !base.exists() {
        let resume = config.stage.run_dir.join("config.toml").exists();
        let launch = Launch { resume, ..launch };
        let summary = supervised::run(b, Stage::Pretrain, &config, launch, |event| on(Event::Base(event)))?;
        if summary.stopped {
            return Ok(None);
        }
    }
    let pretrain_seconds = seconds(&config.stage.run_dir)?;

    let file = write_recipe(dir, "zero.toml", ZERO_RECIPE)?;
    let config = RlConfig::load(&file, &overrides(sizes.zero))?;
    let held_out = read_problems(&dir.join("held-out.jsonl").into())?;
    let (before, answers_before) = measure(b, &base, &config, &held_out, launch.threads)?;
    on(Event::Measured { model: "base", measure: &before });

    let resume = config.stage.run_dir.join("config.toml").exists();
    let summary = rl::run(b, &config, Launch { resume, ..launch }, |event| on(Event::Zero(event)))?;
    let Some(model) = summary.model else { return Ok(None) };
    let (after, answers_after) = measure(b, &model, &config, &held_out, launch.threads)?;
    on(Event::Measured { model: "zero", measure: &after });

    let answers = answers_before.into_iter().zip(answers_after);
    let examples = held_out.iter().zip(answers).take(EXAMPLES).map(|(problem, (before, after))| Example {
        prompt: problem.prompt.clone().unwrap_or_default(),
        answer: problem.answer.clone(),
        before,
        after,
    });
    let outcome = Outcome {
        before,
        after,
        seconds: start.elapsed().as_secs_f64(),
        pretrain_seconds,
        rl_seconds: seconds(&config.stage.run_dir)?,
        quick,
        model,
        curve: lines(&config.stage.run_dir.join("metrics.jsonl"))?,
        examples: examples.collect(),
    };
    koan_files::write_synced(&dir.join("report.html"), report::html(&outcome, &sample).as_bytes())?;
    koan_files::write_synced(&dir.join("curves.svg"), report::picture(&outcome.curve).as_bytes())?;
    let json = serde_json::to_string_pretty(&outcome).expect("an outcome of plain values") + "\n";
    koan_files::replace(&dir.join("result.json"), json.as_bytes())?;
    Ok(Some(outcome))
}

/// Writes text, problems and the fresh model, where they are not there yet. Gives some of the text.
fn write_world(dir: &Path, sizes: &Sizes) -> Result<Vec<String>, DemoError> {
    #[derive(Serialize)]
    struct Line {
        text: String,
    }
    let world = Moves { n_moves: sizes.moves, seed: 1 };
    fs::create_dir_all(dir).map_err(FilesError::io("create", dir))?;
    for (name, split, n) in
        [("train.jsonl", Split::Train, sizes.train), ("held-out.jsonl", Split::Test, sizes.held_out)]
    {
        let problems: Vec<Problem> = (0..n).map(|i| world.problem(split, i)).collect();
        write_problems(&dir.join(name), &problems)?;
    }
    let text = |i| world.text(&HABITS, i);
    koan_files::jsonl::write(&dir.join("text.jsonl"), (0..sizes.texts).map(|i| Line { text: text(i) }))?;
    let fresh = dir.join("fresh");
    if !fresh.exists() {
        base::write(&fresh, dir)?;
    }
    Ok((0..12).map(text).collect())
}

/// Writes a recipe for `dir`, so that its run can be made again or changed.
fn write_recipe(dir: &Path, name: &str, recipe: &str) -> Result<PathBuf, DemoError> {
    let path = dir.join(name);
    let written = dir.to_str().filter(|dir| !dir.contains(['"', '\\', '\n']));
    let written = written.ok_or_else(|| DemoError::Name { path: dir.into() })?;
    koan_files::write_synced(&path, recipe.replace(RECIPE_DIR, written).as_bytes())?;
    Ok(path)
}

fn overrides(settings: &[&str]) -> Vec<String> {
    settings.iter().map(|&setting| setting.to_owned()).collect()
}

/// Seconds that a finished run took, of its lineage.
fn seconds(run: &Path) -> Result<f64, DemoError> {
    #[derive(Deserialize)]
    struct Seconds {
        seconds: f64,
    }
    let path = run.join("lineage.json");
    let text = fs::read(&path).map_err(FilesError::io("read", &path))?;
    let lineage: Seconds =
        serde_json::from_slice(&text).map_err(|e| FilesError::Damaged { path, what: e.to_string() })?;
    Ok(lineage.seconds)
}

/// The lines of a metrics file that are steps.
fn lines(path: &Path) -> Result<Vec<Point>, DemoError> {
    let text = fs::read_to_string(path).map_err(FilesError::io("read", path))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}
