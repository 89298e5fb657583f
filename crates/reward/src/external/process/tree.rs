//! The processes below one: its children, their children, and so on.
//!
//! A process group ends with one signal, but a child may leave it (`setsid`). It can't leave its ancestors: a process whose
//! parent has ended becomes a child of the nearest *subreaper* above it. So a program that is one finds below
//! itself whatever its children left, until it ends itself.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, waitid};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A process that exists: its number, and when it was started (clock ticks since the machine was), since numbers come again.
pub type Process = (Pid, u64);

/// How often it is looked for children that were started meanwhile.
const ROUNDS: usize = 50;

/// Children of this process whose status somebody asks for later.
static AWAITED: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// The list of [`AWAITED`].
pub(super) fn awaited() -> MutexGuard<'static, Vec<Pid>> {
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes this process the one that orphans below it come to, where the system has such. It then reaps them:
/// [`reap_orphans`].
pub fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Some(getpid())); // an older kernel: they go to process 1
}

/// All processes below `root`, without those of `spared` and what is below them, and without those that have ended and are not
/// yet reaped. None where there is no `/proc`.
pub fn below(root: Pid, spared: &[Pid]) -> Vec<Process> {
    let mut children: HashMap<Pid, Vec<Process>> = HashMap::new();
    for pid in pids() {
        if let Some((parent, start, true)) = stat(pid) {
            children.entry(parent).or_default().push((pid, start));
        }
    }
    let (mut found, mut parents) = (Vec::new(), vec![root]);
    while let Some(parent) = parents.pop() {
        let mut own = children.remove(&parent).unwrap_or_default();
        own.retain(|(pid, _)| !spared.contains(pid));
        parents.extend(own.iter().map(|(pid, _)| *pid));
        found.extend(own);
    }
    found
}

/// Reaps the children of this process that have ended, and had when `before` was given; gives those that have now. Not those
/// whose status a program's owner reads: they were not adopted.
pub fn reap_orphans(before: &[Process]) -> Vec<Process> {
    let mut ended = Vec::new();
    for pid in pids() {
        if let Some((parent, start, false)) = stat(pid)
            && parent == getpid()
            && !awaited().contains(&pid)
        {
            if before.contains(&(pid, start)) {
                let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG); // somebody else did
            } else {
                ended.push((pid, start));
            }
        }
    }
    ended
}

/// The numbers of all processes.
fn pids() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

/// Parent and start of a process, and whether it still runs; none if there is no such process.
fn stat(pid: Pid) -> Option<(Pid, u64, bool)> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok().and_then(Pid::from_raw)?;
    let start = fields.nth(17)?.parse().ok()?;
    Some((parent, start, !matches!(state, "Z" | "X")))
}

/// Kills all processes below `root`, without those of `spared` and what is below them. They are stopped first, so that none
/// starts another meanwhile.
pub fn kill_below(root: Pid, spared: &[Pid]) {
    let mut stopped = HashSet::new();
    for _ in 0..ROUNDS {
        let found = below(root, spared).into_iter();
        let new: Vec<Process> = found.filter(|process| stopped.insert(*process)).collect();
        if new.is_empty() {
            break;
        }
        for (pid, _) in &new {
            let _ = kill_process(*pid, Signal::STOP); // gone already: nothing to stop
        }
    }
    for (pid, _) in &stopped {
        let _ = kill_process(*pid, Signal::KILL);
    }
}

/// Kills `processes` that still exist, and all below them.
pub fn kill_all(processes: &[Process]) {
    for &(pid, start) in processes {
        if stat(pid).is_some_and(|(_, now, runs)| runs && now == start) {
            kill_below(pid, &[]);
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn children_of_children_are_found_and_killed_in_whatever_session() {
        let script = "setsid sh -c 'echo $$; sleep 1000 & echo $!; wait' & sleep 1000 & echo $!; wait";
        let mut child =
            Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let told: HashSet<i32> =
            lines.take(3).map(|line| line.expect("a line").parse().expect("a number")).collect();
        let root = Pid::from_child(&child);
        let found = below(root, &[]);
        let pids: HashSet<i32> = found.iter().map(|(pid, _)| pid.as_raw_nonzero().get()).collect();
        assert!(pids.is_superset(&told), "{pids:?} of {told:?}");
        let all: Vec<Pid> = found.iter().map(|(pid, _)| *pid).collect();
        kill_below(root, &all);
        assert_eq!(below(root, &[]).len(), found.len(), "whom it spares");
        kill_all(&found[..1]);
        kill_below(root, &[]);
        for _ in 0..100 {
            if found.iter().all(|(pid, start)| stat(*pid).is_none_or(|(_, now, runs)| !runs || now != *start))
            {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(below(root, &[]).is_empty());
        assert!(stat(root).is_some(), "it is not below itself");
        child.kill().and_then(|()| child.wait()).expect("ended");
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "what is tested waits for it")]
    fn orphans_that_have_ended_are_reaped_the_second_time() {
        let child = Command::new("true").spawn().expect("started");
        let pid = Pid::from_child(&child);
        let own = |ended: Vec<Process>| ended.into_iter().find(|process| process.0 == pid);
        let ended = (0..500).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            own(reap_orphans(&[]))
        });
        awaited().push(pid);
        assert_eq!(own(reap_orphans(&[ended.expect("it ends")])), None);
        assert!(stat(pid).is_some(), "somebody asks for its status");
        awaited().retain(|other| *other != pid);
        reap_orphans(&[ended.expect("it ends")]);
        assert!(stat(pid).is_none_or(|(_, start, _)| Some((pid, start)) != ended));
    }
}
