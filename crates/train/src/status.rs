//! `status.json` of a run directory: how far the run is, in its own words. A process that is killed says nothing any more;
//! but while a run goes on it holds a lock on its directory, which the system takes back whatever ends the process. So
//! "running" without the lock is a run that was killed. (The lock also keeps a second process out.)

use std::{
    error::Error,
    fs::{File, TryLockError},
    path::Path,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use crate::{TrainError, rl::RunSummary, run_dir::RunDir};

/// The file's name.
const FILE: &str = "status.json";
/// Who looks at a run holds its lock for a moment: it is asked for so often, so long apart.
const LOCK_TRIES: usize = 50;
const LOCK_EVERY: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Running,
    /// Its last step is made, its model written.
    Finished,
    /// It was asked to stop.
    Stopped,
    Failed,
}

#[derive(Serialize)]
struct Status {
    state: State,
    /// Since when; seconds since 1970.
    since: u64,
    pid: u32,
    /// The machine, since it was started: elsewhere a missing lock says nothing.
    boot: Option<String>,
    /// The error.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Says that the run in directory `run` goes on.
pub(crate) fn running(run: &Path) -> Result<(), TrainError> {
    write(run, State::Running, None)
}

/// Runs a stage, which opens its directory into the slot that it is given, and writes there how it ended.
pub(crate) fn told(
    stage: impl FnOnce(&mut Option<RunDir>) -> Result<RunSummary, TrainError>,
) -> Result<RunSummary, TrainError> {
    let mut run = None;
    let ended = stage(&mut run);
    if let Some(run) = &run {
        let (state, message) = match &ended {
            Ok(summary) if summary.stopped => (State::Stopped, None),
            Ok(_) => (State::Finished, None),
            Err(error) => (State::Failed, Some(in_words(error))),
        };
        let _ = write(run.path(), state, message); // how it ended matters more
    }
    ended
}

fn write(run: &Path, state: State, message: Option<String>) -> Result<(), TrainError> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    let boot = boot.map(|id| id.trim().to_owned());
    let status = Status { state, since, pid: std::process::id(), boot, message };
    let text = serde_json::to_string(&status).expect("a status of plain values") + "\n";
    Ok(koan_files::replace(&run.join(FILE), text.as_bytes())?)
}

/// An error with its causes.
fn in_words(error: &TrainError) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}

/// Locks a run's directory for as long as the file is open; `None` where the file system has no locks.
pub(crate) fn lock(run: &Path) -> Result<Option<File>, TrainError> {
    let dir = File::open(run).map_err(TrainError::io("open", run))?;
    for _ in 0..LOCK_TRIES {
        match dir.try_lock() {
            Ok(()) => return Ok(Some(dir)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_EVERY),
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
    Err(TrainError::RunInUse { path: run.into() })
}
