//! What the verbs of stages share: their arguments, what is shown while a run goes, and how it ended.

mod time_left;

use std::{path::PathBuf, sync::atomic::AtomicBool, time::Instant};

use koan_train::{
    TrainError,
    stage::{Event, Launch, RunSummary},
};

pub(crate) use self::time_left::Course;
use self::time_left::{TimeLeft, brief};
use crate::{
    device::{Device, Running},
    eval::{pass_at_1, warn_of_bad_references},
    progress::Progress,
    ranks::ranks,
};

/// Lines of steps between two headers.
const HEADER_EVERY: usize = 20;
/// The same, if something else was said in between.
const HEADER_AFTER_WORDS: usize = 5;

/// What Ctrl-C makes a stage do.
pub(crate) const STOPPING: &str = "finishing the step, then writing a checkpoint";

#[derive(clap::Args)]
pub(crate) struct StageArgs {
    /// Settings of the run (TOML); recipes/ has some
    #[arg(value_name = "FILE.toml")]
    pub(crate) config: PathBuf,
    /// Change one setting, e.g. `--set optim.lr=3e-6`. Repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Go on from the newest checkpoint of the run directory
    #[arg(long)]
    pub(crate) resume: bool,
    #[command(flatten)]
    pub(crate) device: Device,
}

impl StageArgs {
    /// How the run is started, on a device that is `running`.
    pub(crate) fn launch<'a>(&self, running: Running, stop: &'a AtomicBool) -> Launch<'a> {
        Launch { resume: self.resume, threads: running.judges, stop, ranks: ranks() }
    }

    /// Says, on the first rank, how the run of `koan VERB FILE` ended: where the model is, or how to go on.
    pub(crate) fn conclude(&self, summary: &RunSummary, verb: &str) -> anyhow::Result<()> {
        if !ranks().is_first() {
            return Ok(());
        }
        let RunSummary { step, digest, .. } = summary;
        let said = match &summary.model {
            Some(model) if digest.is_empty() => say!("the model is in {}", model.display()),
            Some(model) => say!("the model is in {}; checkpoint sha256 {digest}", model.display()),
            None => {
                say!("stopped after step {step}; go on with: koan {verb} {} --resume", self.config.display())
            }
        };
        Ok(said?)
    }
}

/// A step in words.
pub(crate) struct Words {
    /// A line of its own, if it deserves one.
    pub(crate) line: Option<String>,
    /// A few words beside the progress.
    pub(crate) brief: String,
}

/// Metrics of a step, as they are shown: in columns, with lines of at most 80 characters.
pub(crate) trait Shown {
    /// What the columns are.
    const HEADER: &'static str;

    /// The seconds of the step, without those of a measurement.
    fn seconds(&self) -> f64;

    /// A step of `steps` in words; `left` is the time that is left.
    fn in_words(&self, steps: u64, left: &str) -> Words;
}

/// What is shown while a run goes.
pub(crate) struct Screen {
    running: Running,
    course: Course,
    progress: Option<Progress>,
    steps: u64,
    steps_done: u64,
    brief: String,
    /// Lines of steps since the last header; none before the first.
    since_header: Option<usize>,
    /// Whether something else was said since.
    interrupted: bool,
    time_left: TimeLeft,
    /// Seconds left when the last step ended.
    left: Option<f64>,
    /// When the last step or what followed it ended.
    last: Instant,
    /// Seconds of a measurement since then.
    measured: Option<f64>,
}

impl Screen {
    /// Of a run that goes its `course`.
    fn new(running: Running, course: Course) -> Self {
        Self {
            running,
            course,
            progress: None,
            steps: 0,
            steps_done: 0,
            brief: String::new(),
            since_header: None,
            interrupted: false,
            time_left: TimeLeft::new(course),
            left: None,
            last: Instant::now(),
            measured: None,
        }
    }

    /// Shows a run that goes its `course`, on the first rank; `run` gets what is to be told of its events.
    pub(crate) fn of<M: Shown, T>(
        running: Running,
        course: Course,
        run: impl FnOnce(&mut dyn FnMut(Event<M>)) -> Result<T, TrainError>,
    ) -> anyhow::Result<T> {
        if !ranks().is_first() {
            return Ok(run(&mut |_| {})?);
        }
        let mut screen = Self::new(running, course);
        let made = run(&mut |event| screen.show(event))?;
        screen.finish();
        Ok(made)
    }

    /// Shows `event`.
    fn show<M: Shown>(&mut self, event: Event<M>) {
        match event {
            Event::BadReferences { data, bad } => warn_of_bad_references(data, bad),
            Event::Note { text } => note!("{text}"),
            Event::Start { step, steps, memory, task } => {
                if self.progress.is_some() {
                    // Another part of the run is over.
                    self.finish();
                    (self.time_left, self.left) = (TimeLeft::new(self.course), None);
                    self.brief.clear();
                }
                let bar = Progress::with_own_time("steps", steps as usize);
                bar.print(&format!("{}; {memory}", self.running));
                bar.print(task);
                if step > 0 {
                    bar.print(&format!("going on after step {step}"));
                }
                (self.progress, self.steps, self.steps_done) = (Some(bar), steps, step);
                self.last = Instant::now();
            }
            Event::Completed { done, of } => {
                let separator = if self.brief.is_empty() { "" } else { "; " };
                self.set(&format!("{}{separator}completions {done}/{of}", self.brief));
            }
            Event::Scored { done, of } => self.set(&format!("reference policy: {done}/{of} rows")),
            Event::HeldOut { step, score, seconds } => {
                self.time_left.measured(seconds);
                match step {
                    0 => self.last = Instant::now(),
                    _ => self.measured = Some(seconds),
                }
                self.say(&format!(
                    "held out after step {step}: {}, {:.1} tokens, {}",
                    pass_at_1(score),
                    score.completion_tokens,
                    brief(seconds)
                ));
            }
            Event::Step { step, metrics } => {
                self.count(step, metrics.seconds());
                let left = self.left.map_or_else(String::new, brief);
                let Words { line, brief } = metrics.in_words(self.steps, &left);
                (self.steps_done, self.brief) = (step, brief);
                if let Some(line) = line {
                    self.line(M::HEADER, &line);
                }
                self.set(&self.brief.clone());
            }
            Event::Checkpoint { path, digest } => {
                self.time_left.saved(self.last.elapsed().as_secs_f64());
                self.last = Instant::now();
                self.say(&format!("checkpoint {} sha256 {digest}", path.display()));
            }
        }
    }

    /// Counts the time of step `step`, which says that it took `seconds`: the rest is its measurement.
    fn count(&mut self, step: u64, seconds: f64) {
        let all = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        let measured = self.measured.take().unwrap_or_else(|| {
            let measured =
                if self.course.measures(step, self.steps) { (all - seconds).max(0.0) } else { 0.0 };
            if measured > 0.0 {
                self.time_left.measured(measured);
            }
            measured
        });
        self.time_left.stepped(all - measured);
        self.left = self.time_left.seconds(step, self.steps);
    }

    /// Prints the line of a step, below a header now and then.
    fn line(&mut self, header: &str, line: &str) {
        let is_due = self
            .since_header
            .is_none_or(|lines| lines >= HEADER_EVERY || (self.interrupted && lines >= HEADER_AFTER_WORDS));
        if is_due {
            self.print(header);
            (self.since_header, self.interrupted) = (Some(0), false);
        }
        self.print(line);
        self.since_header = self.since_header.map(|lines| lines + 1);
    }

    /// Prints something else than a step.
    fn say(&mut self, words: &str) {
        self.interrupted = true;
        self.print(words);
    }

    /// Moves the bar; the time left is less by what went by since the last step.
    fn set(&mut self, words: &str) {
        let left =
            self.left.map(|left| format!("{} left; ", brief(left - self.last.elapsed().as_secs_f64())));
        if let Some(bar) = &mut self.progress {
            bar.set(self.steps_done as usize, &format!("{}{words}", left.unwrap_or_default()));
        }
    }

    fn print(&self, line: &str) {
        if let Some(bar) = &self.progress {
            bar.print(line);
        }
    }

    /// Removes the bar.
    fn finish(&self) {
        if let Some(bar) = &self.progress {
            bar.finish();
        }
    }
}
