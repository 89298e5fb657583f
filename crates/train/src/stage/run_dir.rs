//! A run's directory: everything it makes, written so that a kill at any moment loses at most the steps since the last
//! checkpoint, and a resumed run repeats them exactly.
//!
//! ```text
//! config.toml                  every option with its value
//! metrics.jsonl                one object per step
//! tensorboard/                 the same numbers as an event file, if the config wants one
//! rollouts/step-000012.jsonl   what the model wrote, and what it earned; stages that sample nothing have none
//! checkpoints/step-000100/     a Hugging Face directory, with optimizer.safetensors, trainer.json and SHA256SUMS; and with
//!                              reference/, if the reference policy is not the base model any more
//! model/                       the final model
//! lineage.json                 what the run was made from, and what it took
//! cost.json                    what it costs so far, over all processes
//! status.json                  whether it runs, is finished, was stopped, or failed and why
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use koan_backend::Backend;
use koan_files::{FilesError, checksums, jsonl, read_text, rename, replace};
use koan_model::{Model, checkpoint};
use serde::{Deserialize, Serialize};

use super::{
    checkpoint::STATE,
    config::{Settings, changes},
    error::StageError,
    status::{self, State},
    tensorboard::EventFile,
};
use crate::cost::Cost;

/// A run's directory, open to be written.
pub(super) struct RunDir {
    path: PathBuf,
    /// Held to the end.
    _lock: Option<File>,
    metrics: File,
    events: Option<EventFile>,
}

/// A run that was begun before, found as it was left.
pub(super) struct Begun {
    lock: Option<File>,
    /// Its newest checkpoint, whole, and the step that it was made after.
    newest: Option<(u64, PathBuf)>,
}

impl Begun {
    /// Looks at the run in `path`, to go on with it; nothing is changed.
    ///
    /// # Errors
    /// If there is no run, it was started with another config, or its newest checkpoint is damaged or gone.
    pub(super) fn find<C: Settings>(path: &Path, config: &C) -> Result<Self, StageError> {
        let config_path = path.join("config.toml");
        if !config_path.exists() {
            return Err(StageError::NoCheckpoint { path: path.into() });
        }
        let lock = status::lock(path)?;
        let started = read_text(&config_path).map_err(FilesError::io("read", &config_path))?;
        let started: toml::Table = started.parse().map_err(|e: toml::de::Error| FilesError::Damaged {
            path: config_path.clone(),
            what: e.to_string(),
        })?;
        let every = started.get("checkpoint_every").and_then(toml::Value::as_integer).unwrap_or(1);
        let changed = changes(started, config);
        if !changed.is_empty() {
            return Err(StageError::config_changed(path, &changed));
        }
        let mut whole = checkpoints(path)?;
        let newest = whole.pop();
        if newest.is_none() {
            check_never_had(path, every.unsigned_abs())?;
        }
        if let Some((_, dir)) = &newest {
            checksums::check(dir, STATE).map_err(|damage| StageError::DamagedCheckpoint {
                checkpoint: dir.clone(),
                older: whole.pop().map(|(step, _)| step),
                source: damage,
            })?;
        }
        Ok(Self { lock, newest })
    }

    /// The newest checkpoint's directory. A run that was killed before its first has none, and starts over.
    pub(super) fn checkpoint(&self) -> Option<&Path> {
        self.newest.as_ref().map(|(_, dir)| dir.as_path())
    }
}

impl RunDir {
    /// Makes a new run directory.
    ///
    /// # Errors
    /// If it holds a run already, or can't be written.
    pub(super) fn create<C: Settings>(path: &Path, config: &C) -> Result<Self, StageError> {
        if path.join("config.toml").exists() {
            return Err(StageError::RunExists { path: path.into() });
        }
        let dir = path.join("checkpoints");
        fs::create_dir_all(&dir).map_err(FilesError::io("create", &dir))?;
        let run = Self::begin(path, status::lock(path)?, config, None)?;
        replace(&path.join("config.toml"), config.to_toml().as_bytes())?;
        Ok(run)
    }

    /// Goes on with a run from its newest checkpoint: forgets the metrics and rollouts of later steps, which will be made
    /// again.
    ///
    /// # Errors
    /// If it can't be written.
    pub(super) fn go_on<C: Settings>(path: &Path, config: &C, begun: Begun) -> Result<Self, StageError> {
        replace(&path.join("config.toml"), config.to_toml().as_bytes())?;
        let dir = path.join("checkpoints");
        fs::create_dir_all(&dir).map_err(FilesError::io("create", &dir))?;
        let newest = begun.newest.map(|(step, _)| step);
        forget_after(path, newest)?;
        let run = Self::begin(path, begun.lock, config, newest)?;
        run.keep_checkpoints(config.stage().checkpoints_kept)?; // a kill may have come between a checkpoint and this
        Ok(run)
    }

    fn begin<C: Settings>(
        path: &Path,
        lock: Option<File>,
        config: &C,
        newest: Option<u64>,
    ) -> Result<Self, StageError> {
        let metrics = open_metrics(path)?;
        let events = open_events(path, config.stage().tensorboard)?;
        status::write(path, State::Running, newest, None)?;
        Ok(Self { path: path.into(), _lock: lock, metrics, events })
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line to metrics.jsonl, and its numbers to the event file, if there is one.
    ///
    /// # Errors
    /// If it can't be written.
    pub(super) fn write_metrics(&mut self, metrics: &impl Serialize) -> Result<(), FilesError> {
        let mut line = serde_json::to_vec(metrics).expect("metrics are plain numbers");
        line.push(b'\n');
        self.metrics.write_all(&line).map_err(FilesError::io("write", &self.path.join("metrics.jsonl")))?;
        self.events.as_mut().map_or(Ok(()), |events| events.add(&line))
    }

    /// Writes rollouts/step-NNNNNN.jsonl.
    ///
    /// # Errors
    /// If it can't be written.
    pub(super) fn write_rollouts<T: Serialize>(
        &self,
        step: u64,
        lines: impl Iterator<Item = T>,
    ) -> Result<(), FilesError> {
        jsonl::write(&self.path.join(format!("rollouts/step-{step:06}.jsonl")), lines)
    }

    /// Where the checkpoint after `step` steps lies; the metrics up to it are on the disk.
    ///
    /// # Errors
    /// If they can't be written.
    pub(super) fn checkpoint_after(&self, step: u64) -> Result<PathBuf, FilesError> {
        self.metrics.sync_all().map_err(FilesError::io("sync", &self.path.join("metrics.jsonl")))?;
        Ok(self.path.join(format!("checkpoints/step-{step:06}")))
    }

    /// Removes all checkpoints except the newest `kept`.
    ///
    /// # Errors
    /// If they can't be removed.
    pub(super) fn keep_checkpoints(&self, kept: usize) -> Result<(), FilesError> {
        let mut all = checkpoints(&self.path)?;
        all.drain(..all.len().saturating_sub(kept)).try_for_each(|(_, old)| remove_checkpoint(&old))
    }

    /// Writes model/, in place of that of an earlier, shorter run, with the tokenizer of `like`. Returns its directory and
    /// the SHA-256 of its weights.
    ///
    /// # Errors
    /// If it can't be written.
    pub(super) fn write_model<B: Backend>(
        &self,
        b: &B,
        model: &Model<B>,
        like: &Path,
    ) -> Result<(PathBuf, String), StageError> {
        let [dir, next] = ["model", ".model.next"].map(|name| self.path.join(name));
        let remove = |dir: &Path| {
            let removed = if dir.exists() { fs::remove_dir_all(dir) } else { Ok(()) };
            removed.map_err(FilesError::io("remove", dir))
        };
        remove(&next)?;
        let weights_sha256 = checkpoint::save(b, model, &next, like)?;
        remove(&dir)?;
        rename(&next, &dir)?;
        Ok((dir, weights_sha256))
    }

    /// What the run has cost, as its processes so far wrote it down.
    pub(super) fn cost(&self) -> Cost {
        let text = read_text(&self.path.join("cost.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// What writes that down. A disk that is full is no reason to end a run.
    pub(super) fn cost_writer(&self) -> impl Fn(Cost) + Send + use<> {
        let path = self.path.join("cost.json");
        move |cost| {
            let text = serde_json::to_string(&cost).expect("plain numbers") + "\n";
            let _ = replace(&path, text.as_bytes()); // it is tried again some seconds later
        }
    }

    /// Seconds that the steps so far took, from their metrics: those of a killed and resumed run too.
    ///
    /// # Errors
    /// If the metrics can't be read.
    pub(super) fn seconds(&self) -> Result<f64, FilesError> {
        #[derive(Deserialize)]
        struct Seconds {
            step_s: f64,
        }
        let path = self.path.join("metrics.jsonl");
        let text = read_text(&path).map_err(FilesError::io("read", &path))?;
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Seconds>(line).ok());
        Ok(lines.map(|line| line.step_s).sum())
    }
}

fn open_metrics(run: &Path) -> Result<File, FilesError> {
    let path = run.join("metrics.jsonl");
    OpenOptions::new().create(true).append(true).open(&path).map_err(FilesError::io("open", &path))
}

/// The event file to go on with, written from the metrics that there are, if it is `wanted`. One that is no longer wanted is
/// written a last time, so that it has no steps that are made again.
fn open_events(run: &Path, wanted: bool) -> Result<Option<EventFile>, FilesError> {
    if !wanted && !EventFile::exists(run) {
        return Ok(None);
    }
    EventFile::rebuild(run).map(|events| wanted.then_some(events))
}

/// Removes a checkpoint: renamed first, so that what a kill leaves of it is no checkpoint.
fn remove_checkpoint(dir: &Path) -> Result<(), FilesError> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let gone = dir.with_file_name(format!(".{name}.old"));
    fs::rename(dir, &gone).and_then(|()| fs::remove_dir_all(&gone)).map_err(FilesError::io("remove", dir))
}

/// All whole checkpoints, oldest first.
fn checkpoints(run: &Path) -> Result<Vec<(u64, PathBuf)>, FilesError> {
    let dir = run.join("checkpoints");
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(&dir).map_err(FilesError::io("read", &dir))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(FilesError::io("read", &dir))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if let Some(step) = name.strip_prefix("step-").and_then(|s| s.parse().ok()) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Refuses a run without checkpoints that must have had one, so that it does not start over in silence: it was finished, says
/// that it wrote one, or made more steps than the `every` after which the first is due.
fn check_never_had(run: &Path, every: u64) -> Result<(), StageError> {
    let text = read_text(&run.join("metrics.jsonl")).unwrap_or_default();
    let steps = text.lines().filter_map(|line| serde_json::from_str::<Step>(line).ok());
    let made = steps.map(|line| line.step).max().unwrap_or(0);
    let last = match status::checkpoint(run) {
        Some(step) => step,
        None if run.join("lineage.json").exists() => made,
        None if made > every => (made - 1) / every * every,
        None => return Ok(()),
    };
    Err(StageError::LostCheckpoints { path: run.into(), made: made.max(last), last })
}

/// A line of metrics.jsonl, as far as it matters here.
#[derive(Deserialize)]
struct Step {
    step: u64,
}

/// Removes what was written for steps after `step`, all of it if there is none; and what a kill left half written or half
/// removed.
fn forget_after(run: &Path, step: Option<u64>) -> Result<(), FilesError> {
    let path = run.join("metrics.jsonl");
    let text = match read_text(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text.map_err(FilesError::io("read", &path))?,
    };
    let kept: String = text
        .lines()
        .filter(|line| serde_json::from_str::<Step>(line).is_ok_and(|line| Some(line.step) <= step))
        .flat_map(|line| [line, "\n"])
        .collect();
    replace(&path, kept.as_bytes())?;
    let dir = run.join("checkpoints");
    for entry in fs::read_dir(&dir).map_err(FilesError::io("read", &dir))? {
        let path = entry.map_err(FilesError::io("read", &dir))?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".step-")) {
            fs::remove_dir_all(&path).map_err(FilesError::io("remove", &path))?;
        }
    }
    let dir = run.join("rollouts");
    if !dir.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(&dir).map_err(FilesError::io("read", &dir))? {
        let path = entry.map_err(FilesError::io("read", &dir))?.path();
        let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default();
        if name.strip_prefix("step-").and_then(|s| s.parse::<u64>().ok()).is_some_and(|s| Some(s) > step) {
            fs::remove_file(&path).map_err(FilesError::io("remove", &path))?;
        }
    }
    Ok(())
}
