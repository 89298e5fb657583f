//! `status.json` of a run directory: how far the run is, in its own words. A process that is killed says nothing any more;
//! but while a run goes on it holds a lock on its directory, which the system takes back whatever ends the process. So
//! "running" without the lock is a run that was killed. (The lock also keeps a second process out.)

use std::{
    error::Error,
    fs::{File, TryLockError},
    path::Path,
    time::{Duration, SystemTime},
};

use koan_files::FilesError;
use serde::Serialize;

use super::error::StageError;

/// The file's name.
const FILE: &str = "status.json";
/// Who looks at a run holds its lock for a moment: it is asked for so often, so long apart.
const LOCK_TRIES: usize = 50;
const LOCK_EVERY: Duration = Duration::from_millis(10);

/// How a run is.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
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

/// Says how the run in directory `run` is.
pub(super) fn write(run: &Path, state: State, error: Option<&dyn Error>) -> Result<(), FilesError> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    let boot = boot.map(|id| id.trim().to_owned());
    let status = Status { state, since, pid: std::process::id(), boot, message: error.map(in_words) };
    let text = serde_json::to_string(&status).expect("a status of plain values") + "\n";
    koan_files::replace(&run.join(FILE), text.as_bytes())
}

/// An error with its causes.
fn in_words(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}

/// Locks a run's directory for as long as the file is open; `None` where the file system has no locks.
pub(super) fn lock(run: &Path) -> Result<Option<File>, StageError> {
    let dir = File::open(run).map_err(FilesError::io("open", run))?;
    for _ in 0..LOCK_TRIES {
        match dir.try_lock() {
            Ok(()) => return Ok(Some(dir)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_EVERY),
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
    Err(StageError::RunInUse { path: run.into() })
}
