//! The processes that `koan` starts, and what they start: none outlives it.
//!
//! Orphans below `koan` become its children ([`tree`]), so that at its end it finds and kills all, in whatever session they
//! are. If `koan` itself is killed it can't; so before the first program of a reward is started, a *keeper* is: a process
//! that remembers every second who is below `koan`, and kills them when `koan` has gone. Whoever was below it when it began
//! (a shell's, which then became `koan`) is none of this.

use std::{
    env,
    io::{self, Read as _},
    os::unix::process::{CommandExt as _, parent_id},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::Duration,
};

use koan_reward::external::process::{before_first_start, refuse_starts, tree};
use rustix::process::{Pid, getpid};

/// The word by which this program starts itself as a keeper.
const KEEPER: &str = "__keeper";
/// How often the keeper looks, at first and later.
const LOOK: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

/// How often orphans are reaped that had ended the time before: whoever started one himself has read its status by then.
const REAP: Duration = Duration::from_secs(10);

/// While it lives, processes may be started; dropped, all of them end.
pub(crate) struct Children;

impl Children {
    /// From now on, orphans are ours.
    pub(crate) fn adopt() -> Self {
        tree::adopt_orphans();
        let there = tree::below(getpid(), &[]).into_iter().map(|(pid, _)| pid);
        let _ = OTHERS.set(there.collect()); // the first time, which is the only one
        before_first_start(start_keeper);
        Self
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        end_all();
    }
}

/// Kills all processes below this one; the keeper last, in case this takes too long.
pub(crate) fn end_all() {
    refuse_starts();
    let mut keeper = KEEPER_STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    let spared = keeper.iter().map(Pid::from_child).chain(others().iter().copied());
    tree::kill_below(getpid(), &spared.collect::<Vec<_>>());
    if let Some(mut keeper) = keeper.take() {
        let _ = keeper.kill().and_then(|()| keeper.wait()); // gone already
    }
}

/// Who was below this process when it began.
static OTHERS: OnceLock<Vec<Pid>> = OnceLock::new();

fn others() -> &'static [Pid] {
    OTHERS.get().map_or(&[], Vec::as_slice)
}

/// Its standard input closes when this process ends, however it does.
static KEEPER_STARTED: Mutex<Option<Child>> = Mutex::new(None);

/// Starts the keeper, and a thread that reaps orphans which have ended.
fn start_keeper() {
    thread::spawn(|| {
        let mut ended = Vec::new();
        loop {
            thread::sleep(REAP);
            ended = tree::reap_orphans(&ended);
        }
    });
    let start = || -> io::Result<Child> {
        Command::new(env::current_exe()?)
            .arg(KEEPER)
            .args(others().iter().map(|pid| pid.as_raw_nonzero().to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
    };
    // Without it, what a killed run leaves is what it was before: its programs see their standard input close.
    *KEEPER_STARTED.lock().unwrap_or_else(PoisonError::into_inner) = start().ok();
}

/// Does the keeper's work, if this process was started as one.
pub(crate) fn is_keeper() -> bool {
    let mut words = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let is_keeper = words.next().is_some_and(|word| word == KEEPER);
    if let (true, Some(host)) = (is_keeper, Pid::from_raw(parent_id() as i32)) {
        let others = words.filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw));
        keep(host, &others.chain([getpid()]).collect::<Vec<_>>());
    }
    is_keeper
}

fn keep(host: Pid, spared: &[Pid]) {
    let (open, closed) = channel::<()>();
    thread::spawn(move || {
        let _open = open;
        let _ = io::stdin().read(&mut [0]);
    });
    let (mut known, mut look) = (Vec::new(), LOOK[0]);
    loop {
        let now = tree::below(host, spared);
        let has_gone = closed.recv_timeout(look) == Err(RecvTimeoutError::Disconnected);
        look = (look * 2).min(LOOK[1]);
        // After its end nothing is below it: what counts is what was there a moment before.
        if !now.is_empty() {
            known = now;
        }
        if has_gone {
            break;
        }
    }
    tree::kill_all(&known);
}
