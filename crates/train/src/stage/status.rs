//! `status.json` of a run directory: how far the run is, in its own words. A process that is killed says nothing any more;
//! but while a run goes on it holds a lock on its directory, which the system takes back whatever ends the process. So
//! "running" without the lock is a run that was killed. (The lock also keeps a second process out.)

use std::{
    error::Error,
    fs::{File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use koan_files::FilesError;
use serde::{Deserialize, Serialize};

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
    /// The step of its newest checkpoint, when this was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<u64>,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// The run of this process that goes on, if it has one.
static OPEN: Mutex<Option<PathBuf>> = Mutex::new(None);

fn open() -> MutexGuard<'static, Option<PathBuf>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The run in directory `run` goes on, until [`close`].
pub(super) fn open_for(run: &Path) {
    *open() = Some(run.into());
}

/// The run has ended by itself.
pub(super) fn close() {
    *open() = None;
}

/// Says in the run's status.json, if this process has one that goes on, that `signal` ended it between two checkpoints.
pub fn record_kill(signal: &str) {
    if let Some(run) = &*open() {
        let message =
            format!("interrupted by {signal}, within a step; --resume goes on from the newest checkpoint");
        let _ = write(run, State::Stopped, checkpoint(run), Some(message)); // the process ends
    }
}

/// Says in the run's status.json, if this process has one that goes on, that it failed, and why.
pub fn record_failure(why: &str) {
    if let Some(run) = &*open() {
        let _ = write(run, State::Failed, checkpoint(run), Some(why.to_owned())); // the process ends
    }
}

/// Says how the run in directory `run` is, and why.
pub(super) fn write(
    run: &Path,
    state: State,
    checkpoint: Option<u64>,
    message: Option<String>,
) -> Result<(), FilesError> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    let boot = boot.map(|id| id.trim().to_owned());
    let status = Status { state, since, pid: std::process::id(), boot, checkpoint, message };
    let text = serde_json::to_string(&status).expect("a status of plain values") + "\n";
    let path = run.join(FILE);
    koan_files::replace(&path, text.as_bytes()).or_else(|error| overwrite(&path, &text).map_err(|_| error))
}

/// Writes over what is there: on a full disk that has room, where a new file has none.
fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

/// The step of the newest checkpoint that the run in directory `run` last said it had, if it did.
pub(super) fn checkpoint(run: &Path) -> Option<u64> {
    #[derive(Deserialize)]
    struct Ended {
        checkpoint: Option<u64>,
    }
    let text = koan_files::read_text(&run.join(FILE)).ok()?;
    serde_json::from_str::<Ended>(&text).ok()?.checkpoint
}

/// An error with its causes.
pub(super) fn in_words(error: &dyn Error) -> String {
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
