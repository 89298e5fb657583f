//! The processes that `koan` starts, and what they start: none outlives it.
//!
//! Orphans below `koan` become its children ([`tree`]), so that at its end it finds and kills all, in whatever session they
//! are. If `koan` itself is killed it can't; so before the first program of a reward is started, a *keeper* is: a process
//! that remembers every second who is below `koan`, and kills them when `koan` has gone.

use std::{
    collections::HashMap,
    env,
    io::{self, Read as _},
    os::unix::process::{CommandExt as _, parent_id},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
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

/// While it lives, processes may be started; dropped, all of them end.
pub(crate) struct Children;

impl Children {
    /// From now on, orphans are ours.
    pub(crate) fn adopt() -> Self {
        tree::adopt_orphans();
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
    let spared: Vec<Pid> = keeper.iter().map(Pid::from_child).collect();
    tree::kill_below(getpid(), &spared);
    if let Some(mut keeper) = keeper.take() {
        let _ = keeper.kill().and_then(|()| keeper.wait()); // gone already
    }
}

/// Its standard input closes when this process ends, however it does.
static KEEPER_STARTED: Mutex<Option<Child>> = Mutex::new(None);

fn start_keeper() {
    let start = || -> io::Result<Child> {
        Command::new(env::current_exe()?)
            .arg(KEEPER)
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
    let is_keeper = env::args_os().nth(1).is_some_and(|word| word == KEEPER);
    if let (true, Some(host)) = (is_keeper, Pid::from_raw(parent_id() as i32)) {
        keep(host);
    }
    is_keeper
}

fn keep(host: Pid) {
    let (open, closed) = channel::<()>();
    thread::spawn(move || {
        let _open = open;
        let _ = io::stdin().read(&mut [0]);
    });
    let (mut known, mut look) = (HashMap::new(), LOOK[0]);
    loop {
        let now: HashMap<Pid, u64> = tree::below(host).into_iter().collect();
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
    known.remove(&getpid());
    tree::kill_all(&known.into_iter().collect::<Vec<_>>());
}
