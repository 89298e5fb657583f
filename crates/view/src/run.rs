//! A run directory, read while the run may still write it.

use std::{
    fs::{self, File, Metadata, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ViewError;

/// Bytes at the end of metrics.jsonl from which the duration of a step is estimated.
const TAIL_BYTES: u64 = 64 << 10;
/// The last steps, from which the pace of a run is estimated.
const PACE_STEPS: usize = 20;
/// Longest config.toml, lineage.json and status.json that are read, bytes.
const MAX_TEXT_BYTES: u64 = 1 << 20;
/// A run without a usable status counts as silent after this many times its longest recent step without output, and at least
/// so many seconds.
const SILENT_STEPS: f64 = 5.0;
const MIN_SILENT_S: f64 = 60.0;
/// The same before the first step, while a model is loaded and measured.
const START_SILENT_S: f64 = 1800.0;

/// A run's directory.
#[derive(Clone, Debug)]
pub struct Run {
    path: PathBuf,
}

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is running.
    Training,
    /// It has made its last step and written its model.
    Finished,
    /// It was asked to stop.
    Stopped,
    /// It ended with an error.
    Failed,
    /// Its process ended without writing why.
    Killed,
    /// It has no usable status, and nothing was written for longer than a step takes.
    Silent,
    /// Its files can't be read.
    Unreadable,
}

/// What a run recorded of itself in status.json.
#[derive(Deserialize)]
struct Status {
    state: RecordedState,
    boot: Option<String>,
    message: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RecordedState {
    Running,
    Finished,
    Stopped,
    Failed,
}

/// What a run is, and how far it is.
#[derive(Debug, Serialize)]
pub struct Overview {
    /// The directory's name.
    pub name: String,
    /// Its path.
    pub path: String,
    /// Its state.
    pub state: State,
    /// The error of a run that failed, or can't be read.
    pub message: Option<String>,
    /// Seconds since it last wrote anything.
    pub quiet_s: f64,
    /// The number of steps in its config.
    pub steps: Option<u64>,
    /// The last step in its metrics.
    pub step: Option<u64>,
    /// Seconds of its last steps, on average.
    pub step_s: Option<f64>,
    /// What it is, besides how far.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
}

/// What a run is: of its one overview, not of a list.
#[derive(Debug, Serialize)]
pub struct Details {
    /// Its config.toml, unchanged.
    pub config: Option<String>,
    /// Its lineage.json.
    pub lineage: Option<Value>,
    /// The steps that have rollouts: first and last of each stretch without a gap.
    pub rollouts: Vec<(u64, u64)>,
}

impl Run {
    /// The run at `path`.
    ///
    /// # Errors
    /// If there is nothing at `path`, or no run.
    pub fn open(path: &Path) -> Result<Self, ViewError> {
        if !path.exists() {
            return Err(ViewError::NoRun { path: path.into() });
        }
        if !["config.toml", "metrics.jsonl"].iter().any(|name| path.join(name).is_file()) {
            return Err(ViewError::NotARun { path: path.into() });
        }
        Ok(Self { path: fs::canonicalize(path).map_err(ViewError::read(path))? })
    }

    /// Its directory's name.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into())
    }

    /// Where it is, without symbolic links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// When it was started: its config is written then.
    pub(crate) fn started(&self) -> SystemTime {
        let written = |name: &str| fs::metadata(self.path.join(name)).and_then(|m| m.modified()).ok();
        written("config.toml").or_else(|| written("metrics.jsonl")).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// How far it is.
    pub fn overview(&self) -> Overview {
        self.read_overview(false).unwrap_or_else(|error| self.unreadable(&error))
    }

    /// How far it is, and what it is.
    pub fn overview_with_details(&self) -> Overview {
        self.read_overview(true).unwrap_or_else(|error| self.unreadable(&error))
    }

    fn read_overview(&self, with_details: bool) -> Result<Overview, ViewError> {
        let config = self.text("config.toml")?;
        let steps = config.as_deref().and_then(|text| text.parse::<toml::Table>().ok());
        let steps = steps.and_then(|table| table.get("steps")?.as_integer()?.try_into().ok());
        let lineage = self.text("lineage.json")?.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let tail = self.tail()?;
        let last = tail.iter().filter_map(|row| row["step"].as_u64()).max();
        let quiet_s = self.quiet().as_secs_f64();
        // A run that was resumed with more steps still has the lineage of its first, shorter end.
        let of_all =
            |lineage: &Value| lineage["steps"].as_u64().is_none_or(|made| Some(made) >= steps.max(last));
        let finished = lineage.as_ref().is_some_and(of_all);
        let inferred = || match () {
            () if finished => State::Finished,
            () if quiet_s <= silent_after_s(&tail) => State::Training,
            () => State::Silent,
        };
        let status = self.text("status.json")?.and_then(|text| serde_json::from_str::<Status>(&text).ok());
        let state = match &status {
            Some(Status { state: RecordedState::Finished, .. }) => State::Finished,
            Some(Status { state: RecordedState::Stopped, .. }) => State::Stopped,
            Some(Status { state: RecordedState::Failed, .. }) => State::Failed,
            Some(Status { state: RecordedState::Running, boot, .. }) => match self.is_locked() {
                Some(true) => State::Training,
                Some(false) if boot.is_some() && *boot == this_boot() => State::Killed,
                _ => inferred(),
            },
            None => inferred(),
        };
        let seconds: Vec<f64> =
            tail.iter().rev().filter_map(|row| row["step_s"].as_f64()).take(PACE_STEPS).collect();
        Ok(Overview {
            name: self.name(),
            path: self.path.display().to_string(),
            state,
            message: status.and_then(|status| status.message),
            quiet_s,
            steps,
            step: last,
            step_s: (!seconds.is_empty()).then(|| seconds.iter().sum::<f64>() / seconds.len() as f64),
            details: with_details.then(|| Details { config, lineage, rollouts: self.rollout_steps() }),
        })
    }

    fn unreadable(&self, error: &ViewError) -> Overview {
        Overview {
            name: self.name(),
            path: self.path.display().to_string(),
            state: State::Unreadable,
            message: Some(error.to_string()),
            quiet_s: 0.0,
            steps: None,
            step: None,
            step_s: None,
            details: None,
        }
    }

    /// Its config, as tables; empty if it has none that is valid.
    pub(crate) fn config(&self) -> Result<toml::Table, ViewError> {
        Ok(self.text("config.toml")?.and_then(|text| text.parse().ok()).unwrap_or_default())
    }

    /// The file of a step's rollouts. A reader chooses nothing of its name but the number.
    pub(crate) fn rollout_path(&self, step: u64) -> PathBuf {
        self.path.join(format!("rollouts/step-{step:06}.jsonl"))
    }

    fn rollout_steps(&self) -> Vec<(u64, u64)> {
        let Ok(entries) = fs::read_dir(self.path.join("rollouts")) else { return Vec::new() };
        let step = |entry: io::Result<fs::DirEntry>| {
            let name = entry.ok()?.file_name();
            let digits = name.to_str()?.strip_prefix("step-")?.strip_suffix(".jsonl")?;
            let step: u64 = digits.parse().ok()?;
            (format!("{step:06}") == digits).then_some(step)
        };
        let mut steps: Vec<u64> = entries.filter_map(step).collect();
        steps.sort_unstable();
        let mut stretches: Vec<(u64, u64)> = Vec::new();
        for step in steps {
            match stretches.last_mut() {
                Some((_, last)) if *last + 1 == step => *last = step,
                _ => stretches.push((step, step)),
            }
        }
        stretches
    }

    /// Whether a process is running it, and so holds a lock on the directory. `None` where the file system has no locks.
    fn is_locked(&self) -> Option<bool> {
        match File::open(&self.path).ok()?.try_lock_shared() {
            Ok(()) => Some(false),
            Err(TryLockError::WouldBlock) => Some(true),
            Err(TryLockError::Error(_)) => None,
        }
    }

    /// How long ago anything was written.
    fn quiet(&self) -> Duration {
        let written = ["metrics.jsonl", "config.toml", "rollouts", "checkpoints", "lineage.json"]
            .iter()
            .filter_map(|name| fs::metadata(self.path.join(name)).and_then(|m: Metadata| m.modified()).ok());
        let newest = written.max().unwrap_or(SystemTime::UNIX_EPOCH);
        newest.elapsed().unwrap_or_default()
    }

    /// The last lines of metrics.jsonl.
    fn tail(&self) -> Result<Vec<Value>, ViewError> {
        let path = self.path.join("metrics.jsonl");
        let read = || -> io::Result<Vec<u8>> {
            let Some(mut file) = open_file(&path)? else { return Ok(Vec::new()) };
            let len = file.metadata()?.len();
            read_at(&mut file, len.saturating_sub(TAIL_BYTES), TAIL_BYTES)
        };
        let bytes = read().map_err(ViewError::read(&path))?;
        Ok(bytes.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    fn text(&self, name: &str) -> Result<Option<String>, ViewError> {
        let path = self.path.join(name);
        let read = || -> io::Result<Option<Vec<u8>>> {
            open_file(&path)?.map(|mut file| read_at(&mut file, 0, MAX_TEXT_BYTES)).transpose()
        };
        let bytes = read().map_err(ViewError::read(&path))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// A file for reading, if there is one.
///
/// # Errors
/// If the system refuses, or it is no file: a pipe or a device would be waited for without end.
pub(crate) fn open_file(path: &Path) -> io::Result<Option<File>> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => File::open(path).map(Some),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The id of this boot of the machine.
fn this_boot() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

/// Seconds without output after which a run with these last steps counts as silent.
fn silent_after_s(rows: &[Value]) -> f64 {
    let longest = rows.iter().filter_map(|row| row["step_s"].as_f64()).reduce(f64::max);
    longest.map_or(START_SILENT_S, |longest| (SILENT_STEPS * longest).max(MIN_SILENT_S))
}

/// At most `max` bytes from `from` on.
pub(crate) fn read_at(file: &mut File, from: u64, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(files: &[(&str, &str)]) -> (tempfile::TempDir, Run) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("rollouts")).expect("a folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("written");
        }
        let run = Run::open(folder.path()).expect("a run");
        (folder, run)
    }

    #[test]
    fn a_run_without_a_word_is_judged_by_its_silence() {
        let (folder, run) =
            run_with(&[("config.toml", "steps = 20\n"), ("metrics.jsonl", "{\"step\":1,\"step_s\":2.5}\n")]);
        let overview = run.overview();
        assert_eq!((overview.state, overview.steps), (State::Training, Some(20)));
        let long_ago = SystemTime::now() - Duration::from_secs(120);
        for name in ["metrics.jsonl", "config.toml", "rollouts"] {
            File::open(folder.path().join(name)).and_then(|file| file.set_modified(long_ago)).expect("set");
        }
        assert_eq!(run.overview().state, State::Silent);
        // A damaged status is ignored.
        fs::write(folder.path().join("status.json"), "{\"state\": \"runn").expect("written");
        assert_eq!(run.overview().state, State::Silent);
        fs::write(folder.path().join("lineage.json"), "{\"steps\": 10}").expect("written");
        assert_ne!(run.overview().state, State::Finished, "it goes on for longer than it once did");
        fs::write(folder.path().join("lineage.json"), "{\"steps\": 20}").expect("written");
        assert_eq!(run.overview().state, State::Finished);
        fs::write(folder.path().join("config.toml"), "epochs = 2\n").expect("written");
        assert_eq!(run.overview().state, State::Finished);
        fs::write(folder.path().join("metrics.jsonl"), "{\"step\": 21}\n").expect("written");
        assert_ne!(run.overview().state, State::Finished, "it goes on");
    }

    #[test]
    fn a_run_says_how_it_is() {
        let (folder, run) = run_with(&[("config.toml", "steps = 20\n"), ("lineage.json", "{\"steps\": 20}")]);
        let said = |text: &str| {
            fs::write(folder.path().join("status.json"), text).expect("written");
            let overview = run.overview();
            (overview.state, overview.message)
        };
        assert_eq!(said("{\"state\": \"stopped\", \"since\": 1}"), (State::Stopped, None));
        let why = Some("the disk is full".to_owned());
        let failed = "{\"state\": \"failed\", \"message\": \"the disk is full\"}";
        assert_eq!(said(failed), (State::Failed, why));
        assert_eq!(said("{\"state\": \"finished\"}").0, State::Finished);
        // Without a lock here, a run elsewhere is judged by what it wrote, and a run of this machine is gone.
        let running = |boot: &str| format!("{{\"state\": \"running\", \"boot\": \"{boot}\"}}");
        assert_eq!(said(&running("another")).0, State::Finished);
        let here = this_boot();
        if let Some(boot) = &here {
            assert_eq!(said(&running(boot)).0, State::Killed);
        }
        let lock = File::open(folder.path()).expect("opens");
        lock.lock().expect("locked");
        assert_eq!(said(&running("another")).0, State::Training);
        drop(lock);
        assert_ne!(said(&running("another")).0, State::Training);
    }

    #[test]
    fn steps_with_rollouts_are_reported_in_stretches() {
        let name = |step: &str| (format!("rollouts/step-{step}.jsonl"), "");
        let files = ["000001", "000002", "000004", "1000000", "12", "x", "-00001"].map(name);
        let mut files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (&name[..], *text)).collect();
        files.push(("config.toml", ""));
        let details = run_with(&files).1.overview_with_details().details.expect("read");
        assert_eq!(details.rollouts, [(1, 2), (4, 4), (1_000_000, 1_000_000)]);
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let (folder, run) = run_with(&[("metrics.jsonl", "{\"step\":1}\n")]);
        fs::create_dir(folder.path().join("status.json")).expect("a folder");
        let overview = run.overview();
        assert_eq!(overview.state, State::Unreadable);
        let message = overview.message.expect("why");
        assert!(message.contains("status.json") && message.contains("no file"), "{message}");
    }

    #[test]
    fn only_run_directories_open() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(matches!(Run::open(folder.path()), Err(ViewError::NotARun { .. })));
        assert!(matches!(Run::open(&folder.path().join("none")), Err(ViewError::NoRun { .. })));
    }
}
