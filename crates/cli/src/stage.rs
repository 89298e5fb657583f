//! What the verbs of stages share: their arguments, what is shown while a run goes, and how it ended.

use std::{path::PathBuf, sync::atomic::AtomicBool};

use koan_train::stage::{Event, Launch, RunSummary};

use crate::{
    device::{Device, Running},
    eval::{pass_at_1, warn_of_bad_references},
    progress::Progress,
};

/// What Ctrl-C makes a stage do.
pub(crate) const STOPPING: &str = "finishing the step, then writing a checkpoint";

#[derive(clap::Args)]
pub(crate) struct StageArgs {
    /// Settings of the run (TOML)
    pub(crate) config: PathBuf,
    /// Change one setting, e.g. `--set optim.lr=3e-6`
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
        Launch { resume: self.resume, threads: running.judges, stop }
    }

    /// Says how the run of `koan VERB FILE` ended: where the model is, or how to go on.
    pub(crate) fn conclude(&self, summary: &RunSummary, verb: &str) -> anyhow::Result<()> {
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

/// What is shown while a run goes.
pub(crate) struct Screen {
    running: Running,
    progress: Option<Progress>,
    steps: u64,
    steps_done: u64,
    brief: String,
}

impl Screen {
    pub(crate) fn new(running: Running) -> Self {
        Self { running, progress: None, steps: 0, steps_done: 0, brief: String::new() }
    }

    /// Shows `event`; `words` says a step of so many in words.
    pub(crate) fn show<M>(&mut self, event: Event<M>, words: impl Fn(&M, u64) -> Words) {
        match event {
            Event::BadReferences { data, bad } => warn_of_bad_references(data, bad),
            Event::Start { step, steps, memory, task } => {
                let bar = Progress::new("steps", steps as usize).going_on_after(step as usize);
                bar.print(&format!("{}; {memory}", self.running));
                bar.print(task);
                if step > 0 {
                    bar.print(&format!("going on after step {step}"));
                }
                (self.progress, self.steps, self.steps_done) = (Some(bar), steps, step);
            }
            Event::Completed { done, of } => {
                let separator = if self.brief.is_empty() { "" } else { "; " };
                self.set(&format!("{}{separator}completions {done}/{of}", self.brief));
            }
            Event::HeldOut { step, score, seconds } => self.print(&format!(
                "held out after step {step}: {}, {:.1} tokens, {seconds:.0} s",
                pass_at_1(score),
                score.completion_tokens
            )),
            Event::Step { step, metrics } => {
                let Words { line, brief } = words(metrics, self.steps);
                if let Some(line) = line {
                    self.print(&line);
                }
                (self.steps_done, self.brief) = (step, brief);
                self.set(&self.brief.clone());
            }
            Event::Checkpoint { path, digest } => {
                self.print(&format!("checkpoint {} sha256 {digest}", path.display()));
            }
        }
    }

    fn set(&mut self, words: &str) {
        if let Some(bar) = &mut self.progress {
            bar.set(self.steps_done as usize, words);
        }
    }

    fn print(&self, line: &str) {
        if let Some(bar) = &self.progress {
            bar.print(line);
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.progress {
            bar.finish();
        }
    }
}
