//! A run's directory: everything it makes, written so that a kill at any moment loses at most the steps since the last
//! checkpoint, and a resumed run repeats them exactly.
//!
//! ```text
//! config.toml                  every option with its value
//! metrics.jsonl                one object a step
//! tensorboard/                 the same numbers as an event file, if the config wants one
//! rollouts/step-000012.jsonl   what the model wrote, and what it earned; in learning by imitation there are none
//! checkpoints/step-000100/     a Hugging Face directory, with optimizer.safetensors, trainer.json and SHA256SUMS; and with
//!                              reference/, if the reference policy is not the base model any more
//! model/                       the final model
//! lineage.json                 what the run was made from, and what it took
//! status.json                  whether it runs, is finished, was stopped, or failed and why
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use koan_backend::{Backend, MomentType};
use koan_files::{checksums, jsonl, replace, sha256, write_directory, write_synced};
use koan_model::{
    Config, Model, TensorInfo, checkpoint,
    safetensors_file::{self, Entry, Reader},
};
use serde::{Deserialize, Serialize};

use crate::{
    TrainError,
    optimizer::{Optimizer, stored},
    status,
    tensorboard::EventFile,
};

/// The file of a checkpoint that holds its [`TrainerState`].
const STATE: &str = "trainer.json";

/// The options of a stage, as its run directory keeps and compares them.
pub trait StageConfig: Serialize {
    /// Options that do not shape a run's course, as `key` or `table.key`: where it lies, how often it saves, what is given
    /// by hash instead. They may differ when it is resumed.
    const FREE: &'static [&'static str];

    /// All options with their values, as TOML.
    fn to_toml(&self) -> String {
        toml::to_string(self).expect("a config of plain values is TOML")
    }

    /// Whether the metrics are wanted as TensorBoard event files too.
    fn tensorboard(&self) -> bool;
}

/// What a checkpoint knows besides weights and moments: all that the next step depends on, and nothing that differs
/// between two runs of the same config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// Steps made.
    pub step: u64,
    /// Updates of the optimizer.
    pub updates: u64,
    /// Completion tokens drawn.
    pub tokens: u64,
    /// Problems taken from the data's order; in learning by imitation `step` says how far it is, and this is 0.
    pub cursor: u64,
    /// Keys every random stream, whose counters are step, problem, sample and token; also keys the order of the data.
    pub seed: u64,
    /// SHA-256 of the options that shape the run.
    pub config_sha256: String,
    /// SHA-256 of the weights it started from.
    pub model_sha256: String,
    /// SHA-256 of the problems.
    pub data_sha256: String,
}

/// A run's directory.
pub struct RunDir {
    path: PathBuf,
    /// Held to the end.
    _lock: Option<File>,
    metrics: File,
    events: Option<EventFile>,
}

impl RunDir {
    /// Makes a new run directory, or goes on with one ([`RunDir::resume`]).
    ///
    /// # Errors
    /// Those of the one or the other.
    pub fn open<C: StageConfig>(
        path: &Path,
        config: &C,
        resume: bool,
    ) -> Result<(Self, Option<PathBuf>), TrainError> {
        if resume { Self::resume(path, config) } else { Ok((Self::create(path, config)?, None)) }
    }

    /// Makes a new run directory.
    ///
    /// # Errors
    /// If it holds a run already, or can't be written.
    pub fn create(path: &Path, config: &impl StageConfig) -> Result<Self, TrainError> {
        if path.join("config.toml").exists() {
            return Err(TrainError::RunExists { path: path.into() });
        }
        let dir = path.join("checkpoints");
        fs::create_dir_all(&dir).map_err(TrainError::io("create", &dir))?;
        let run = Self::begin(path, status::lock(path)?, config)?;
        replace(&path.join("config.toml"), config.to_toml().as_bytes())?;
        Ok(run)
    }

    /// Opens a run directory to go on from its newest checkpoint, if it has one, and forgets the metrics and rollouts of
    /// later steps, which will be made again. A run that was killed before its first checkpoint starts over.
    ///
    /// # Errors
    /// If there is no run, it was started with another config, its newest checkpoint is damaged, or it can't be written.
    pub fn resume<C: StageConfig>(path: &Path, config: &C) -> Result<(Self, Option<PathBuf>), TrainError> {
        let config_path = path.join("config.toml");
        if !config_path.exists() {
            return Err(TrainError::NoCheckpoint { path: path.into() });
        }
        let lock = status::lock(path)?;
        let started = fs::read_to_string(&config_path).map_err(TrainError::io("read", &config_path))?;
        let started = started.parse().map_err(|e: toml::de::Error| TrainError::Damaged {
            path: config_path.clone(),
            what: e.to_string(),
        })?;
        let differ = changed_keys(&shaping::<C>(started), &shaping::<C>(table(config)));
        if !differ.is_empty() {
            return Err(TrainError::ConfigChanged { path: path.into(), keys: differ.join(", ") });
        }
        let mut whole = checkpoints(path)?;
        let newest = whole.pop();
        if let Some((_, dir)) = &newest {
            checksums::check(dir, STATE).map_err(|damage| TrainError::DamagedCheckpoint {
                checkpoint: dir.clone(),
                older: whole.pop().map(|(step, _)| step),
                source: Box::new(damage.into()),
            })?;
        }
        replace(&config_path, config.to_toml().as_bytes())?;
        forget_after(path, newest.as_ref().map(|(step, _)| *step))?;
        Ok((Self::begin(path, lock, config)?, newest.map(|(_, dir)| dir)))
    }

    fn begin(path: &Path, lock: Option<File>, config: &impl StageConfig) -> Result<Self, TrainError> {
        let (metrics, events) = (open_metrics(path)?, open_events(path, config)?);
        status::running(path)?;
        Ok(Self { path: path.into(), _lock: lock, metrics, events })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line to metrics.jsonl, and its numbers to the event file, if there is one.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write_metrics(&mut self, metrics: &impl Serialize) -> Result<(), TrainError> {
        let mut line = serde_json::to_vec(metrics).expect("metrics are plain numbers");
        line.push(b'\n');
        self.metrics.write_all(&line).map_err(TrainError::io("write", &self.path.join("metrics.jsonl")))?;
        self.events.as_mut().map_or(Ok(()), |events| events.add(&line))
    }

    /// Writes rollouts/step-NNNNNN.jsonl.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write_rollouts<T: Serialize>(
        &self,
        step: u64,
        lines: impl Iterator<Item = T>,
    ) -> Result<(), TrainError> {
        let dir = self.path.join("rollouts");
        let path = dir.join(format!("step-{step:06}.jsonl"));
        let write = || {
            fs::create_dir_all(&dir)?;
            let mut out = BufWriter::new(File::create(&path)?);
            for line in lines {
                jsonl::write_line(&mut out, &line)?;
            }
            out.flush()
        };
        write().map_err(TrainError::io("write", &path))
    }

    /// Saves a checkpoint, whole or not at all, then removes all but the newest `kept`. `reference` is the reference policy
    /// if it is another than the base model. Returns the checkpoint's directory and digest: one SHA-256 over all its files.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn save_checkpoint<B: Backend>(
        &self,
        b: &B,
        model: &Model<B>,
        reference: Option<&Model<B>>,
        optimizer: &Optimizer<B>,
        state: &TrainerState,
        like: &Path,
        kept: usize,
    ) -> Result<(PathBuf, String), TrainError> {
        self.metrics.sync_all().map_err(TrainError::io("sync", &self.path.join("metrics.jsonl")))?;
        let dir = self.path.join(format!("checkpoints/step-{:06}", state.step));
        let mut digest = String::new();
        write_directory(&dir, |part| {
            checkpoint::save_into(b, model, part, like)?;
            if let Some(reference) = reference {
                let part = part.join("reference");
                fs::create_dir(&part).map_err(TrainError::io("create", &part))?;
                checkpoint::save_into(b, reference, &part, like)?;
            }
            let entries = moment_entries(model.config());
            let moments: Vec<&B::Moment> = optimizer.m.tensors().chain(optimizer.v.tensors()).collect();
            let read = |i: usize| Ok::<_, TrainError>(b.read_moment(moments[i]));
            let path = part.join("optimizer.safetensors");
            safetensors_file::write_as(stored(optimizer.moments), &path, &entries, read)?;
            let state = serde_json::to_string_pretty(state).expect("a state of plain values") + "\n";
            write_synced(&part.join(STATE), state.as_bytes())?;
            digest = checksums::write(part, STATE)?;
            Ok::<_, TrainError>(())
        })?;
        let mut all = checkpoints(&self.path)?;
        for (_, old) in all.drain(..all.len().saturating_sub(kept)) {
            remove_checkpoint(&old)?;
        }
        Ok((dir, digest))
    }

    /// Writes model/, `model` as it is after `state`, and lineage.json; replaces those of an earlier, shorter run.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn finish<B: Backend>(
        &self,
        b: &B,
        model: &Model<B>,
        stage: &'static str,
        [base_model, data]: [&Path; 2],
        state: &TrainerState,
    ) -> Result<PathBuf, TrainError> {
        let [dir, next] = ["model", ".model.next"].map(|name| self.path.join(name));
        let remove = |dir: &Path| {
            let removed = if dir.exists() { fs::remove_dir_all(dir) } else { Ok(()) };
            removed.map_err(TrainError::io("remove", dir))
        };
        remove(&next)?;
        let weights_sha256 = checkpoint::save(b, model, &next, base_model)?;
        remove(&dir)?;
        koan_files::rename(&next, &dir)?;
        let lineage = Lineage {
            stage,
            base_model,
            base_model_sha256: &state.model_sha256,
            data,
            data_sha256: &state.data_sha256,
            config_sha256: &state.config_sha256,
            weights_sha256,
            koan_version: env!("CARGO_PKG_VERSION"),
            steps: state.step,
            tokens: state.tokens,
            seconds: self.seconds()?,
        };
        let text = serde_json::to_string_pretty(&lineage).expect("a lineage of plain values") + "\n";
        replace(&self.path.join("lineage.json"), text.as_bytes())?;
        Ok(dir)
    }

    /// Seconds that the steps so far took, from their metrics: those of a killed and resumed run too.
    fn seconds(&self) -> Result<f64, TrainError> {
        #[derive(Deserialize)]
        struct Seconds {
            step_s: f64,
        }
        let path = self.path.join("metrics.jsonl");
        let text = fs::read_to_string(&path).map_err(TrainError::io("read", &path))?;
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Seconds>(line).ok());
        Ok(lines.map(|line| line.step_s).sum())
    }
}

/// What a model was made from, and what it took.
#[derive(Serialize)]
struct Lineage<'a> {
    /// Which stage made it.
    stage: &'static str,
    /// The directory of the model it started from.
    base_model: &'a Path,
    /// SHA-256 of that model's weights.
    base_model_sha256: &'a str,
    /// The problems it learned from.
    data: &'a Path,
    /// SHA-256 of their file.
    data_sha256: &'a str,
    /// SHA-256 of the options that shaped the run.
    config_sha256: &'a str,
    /// SHA-256 of the final model.safetensors.
    weights_sha256: String,
    /// Version of this program.
    koan_version: &'static str,
    /// Steps made.
    steps: u64,
    /// Completion tokens drawn.
    tokens: u64,
    /// Seconds that the steps took.
    seconds: f64,
}

/// Reads a checkpoint's trainer.json.
///
/// # Errors
/// If it can't be read, or is damaged.
pub fn load_state(dir: &Path) -> Result<TrainerState, TrainError> {
    let path = dir.join(STATE);
    let text = fs::read(&path).map_err(TrainError::io("read", &path))?;
    let other = |e| format!("{e}; it was written by another version of Koan, or changed by hand");
    serde_json::from_slice(&text).map_err(|e| TrainError::Damaged { path, what: other(e) })
}

/// The state of a checkpoint, if it is one of this config and of these inputs.
pub(crate) fn resumed_state(dir: &Path, fresh: &TrainerState) -> Result<TrainerState, TrainError> {
    let state = load_state(dir)?;
    let changed = [
        ("the model", state.model_sha256 != fresh.model_sha256),
        ("the data", state.data_sha256 != fresh.data_sha256),
        ("the config", state.config_sha256 != fresh.config_sha256),
    ];
    match changed.iter().find(|(_, changed)| *changed) {
        Some((what, _)) => Err(TrainError::InputsChanged { path: dir.into(), what }),
        None => Ok(state),
    }
}

/// Reads a checkpoint's moments, which were kept as `moments` says.
///
/// # Errors
/// If they can't be read, or are of another model.
pub fn load_optimizer<B: Backend>(
    b: &B,
    dir: &Path,
    config: &Config,
    moments: MomentType,
    updates: u64,
) -> Result<Optimizer<B>, TrainError> {
    let reader = Reader::open(&dir.join("optimizer.safetensors"))?;
    let mut entries = moment_entries(config).into_iter();
    let mut moment = || {
        koan_model::Transformer::try_build(config, |_| {
            let entry = entries.next().expect("two moments a tensor");
            Ok::<_, TrainError>(b.upload_moment(&reader.read(&entry)?, moments)?)
        })
    };
    Ok(Optimizer { m: moment()?, v: moment()?, moments, updates })
}

/// The moments as tensors of a file: all first moments, then all second ones.
fn moment_entries(config: &Config) -> Vec<Entry> {
    let named = |moment: &str| {
        let entry = |info: TensorInfo| Entry { name: format!("{moment}.{}", info.name), shape: info.shape };
        config.tensors().into_iter().map(entry).collect::<Vec<_>>()
    };
    [named("m"), named("v")].concat()
}

/// SHA-256 of the options that shape a run's course.
pub fn hash_config<C: StageConfig>(config: &C) -> String {
    sha256(shaping::<C>(table(config)).to_string())
}

fn table(config: &impl StageConfig) -> toml::Table {
    config.to_toml().parse().expect("written by `to_toml`")
}

/// The options that shape a run's course. A constant learning rate does not depend on how long the run is.
fn shaping<C: StageConfig>(mut table: toml::Table) -> toml::Table {
    for key in C::FREE {
        match key.split_once('.') {
            None => table.remove(*key),
            Some((section, key)) => {
                table.get_mut(section).and_then(toml::Value::as_table_mut).and_then(|t| t.remove(key))
            }
        };
    }
    let schedule = table.get("optim").and_then(|optim| optim.get("schedule")).and_then(toml::Value::as_str);
    if schedule == Some("constant") {
        table.remove("steps");
    }
    table
}

/// The keys in which two configs differ.
fn changed_keys(a: &toml::Table, b: &toml::Table) -> Vec<String> {
    fn walk(prefix: &str, a: &toml::Table, b: &toml::Table, out: &mut Vec<String>) {
        let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for key in keys {
            match (a.get(key), b.get(key)) {
                (Some(toml::Value::Table(a)), Some(toml::Value::Table(b))) => {
                    walk(&format!("{prefix}{key}."), a, b, out);
                }
                (a, b) if a != b => out.push(format!("{prefix}{key}")),
                _ => {}
            }
        }
    }
    let mut out = Vec::new();
    walk("", a, b, &mut out);
    out
}

fn open_metrics(run: &Path) -> Result<File, TrainError> {
    let path = run.join("metrics.jsonl");
    OpenOptions::new().create(true).append(true).open(&path).map_err(TrainError::io("open", &path))
}

/// The event file to go on with, written from the metrics that there are. One that is no longer wanted is written a last
/// time, so that it has no steps that are made again.
fn open_events(run: &Path, config: &impl StageConfig) -> Result<Option<EventFile>, TrainError> {
    if !config.tensorboard() && !EventFile::exists(run) {
        return Ok(None);
    }
    EventFile::rebuild(run).map(|events| config.tensorboard().then_some(events))
}

/// Removes a checkpoint: renamed first, so that what a kill leaves of it is no checkpoint.
fn remove_checkpoint(dir: &Path) -> Result<(), TrainError> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let gone = dir.with_file_name(format!(".{name}.old"));
    fs::rename(dir, &gone).and_then(|()| fs::remove_dir_all(&gone)).map_err(TrainError::io("remove", dir))
}

/// All whole checkpoints, oldest first.
fn checkpoints(run: &Path) -> Result<Vec<(u64, PathBuf)>, TrainError> {
    let dir = run.join("checkpoints");
    let entries = fs::read_dir(&dir).map_err(TrainError::io("read", &dir))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(TrainError::io("read", &dir))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if let Some(step) = name.strip_prefix("step-").and_then(|s| s.parse().ok()) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Removes what was written for steps after `step`, all of it if there is none; and what a kill left half written or half
/// removed.
fn forget_after(run: &Path, step: Option<u64>) -> Result<(), TrainError> {
    #[derive(Deserialize)]
    struct Step {
        step: u64,
    }
    let path = run.join("metrics.jsonl");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let kept: String = text
        .lines()
        .filter(|line| serde_json::from_str::<Step>(line).is_ok_and(|line| Some(line.step) <= step))
        .flat_map(|line| [line, "\n"])
        .collect();
    replace(&path, kept.as_bytes())?;
    let dir = run.join("checkpoints");
    for entry in fs::read_dir(&dir).map_err(TrainError::io("read", &dir))? {
        let path = entry.map_err(TrainError::io("read", &dir))?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".step-")) {
            fs::remove_dir_all(&path).map_err(TrainError::io("remove", &path))?;
        }
    }
    let dir = run.join("rollouts");
    if !dir.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(&dir).map_err(TrainError::io("read", &dir))? {
        let path = entry.map_err(TrainError::io("read", &dir))?.path();
        let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default();
        if name.strip_prefix("step-").and_then(|s| s.parse::<u64>().ok()).is_some_and(|s| Some(s) > step) {
            fs::remove_file(&path).map_err(TrainError::io("remove", &path))?;
        }
    }
    Ok(())
}
