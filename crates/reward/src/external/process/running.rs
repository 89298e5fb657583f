//! A program that runs, and which of its lines answers which request.
//!
//! A line with an `id` answers the request of that `id`, whatever the order; once a program has written one, its lines
//! without are ignored. Of other programs, a line without `id` answers the request that is open, if exactly one is, and
//! only once nothing else has followed it. Any other line is **surplus**: it can't
//! be known what it answers, so it voids all that is still open, and the program is of no further use.

use super::{Log, MAY_START, tree};
use crate::external::{MAX_ANSWER_BYTES, Request};
use crate::verdict::shorten;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a program may take to end when there is nothing more to judge.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// How long a program is watched after it was started, where it can't be seen that it waits for requests.
const START: Duration = Duration::from_secs(1);

/// How long further lines are waited for after an answer without `id`, where the same can't be seen.
const SETTLE: Duration = Duration::from_millis(10);

/// How often it is looked whether a program waits.
const LOOK: Duration = Duration::from_micros(100);

/// A program that runs, with the threads that speak to it.
pub(super) struct Running {
    child: Mutex<Reaped>,
    pid: Pid,
    requests: Mutex<Option<Sender<String>>>,
    /// Requests that are not yet written whole.
    n_unwritten: Arc<AtomicUsize>,
    stdin: Option<Arc<OwnedFd>>,
    inbox: Arc<Inbox>,
    /// Closed when all of standard error was read.
    stderr_read: Mutex<Receiver<()>>,
    /// Whether it was ever seen to wait for its standard input: then what it has to say is said when it waits again.
    is_plain_reader: AtomicBool,
}

struct Reaped {
    child: Child,
    /// Whether its status was read: its number may then be another's.
    is_reaped: bool,
}

/// What a program has written.
struct Inbox {
    stdout: OwnedFd,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The start of a line.
    partial: Vec<u8>,
    /// Requests that were sent and not answered, by `id`.
    open: HashSet<String>,
    /// Lines that answer a request and were not yet taken, by its `id`; and whether they said so.
    answers: HashMap<String, (String, bool)>,
    n_answers: usize,
    /// Whether an answer said to which request it belongs.
    has_ids: bool,
    /// Why nothing more can be asked.
    over: Option<Over>,
}

/// Why a program can't be asked any more.
#[derive(Clone, Debug, PartialEq)]
enum Over {
    /// It has closed its standard output.
    Closed,
    /// It has written what answers nothing that was asked, or not surely.
    Surplus(String),
    /// It has written what is no answer, or none in time.
    Failed(String),
}

/// A request that got no answer.
pub(super) struct Failure {
    /// What the program did.
    pub(super) reason: String,
    /// Whether something else than this request may be the cause: it is worth asking again, alone and in a new program.
    pub(super) may_be_anothers: bool,
}

/// An answer.
pub(super) struct Answer {
    pub(super) line: String,
    /// Whether it said to which request it belongs.
    pub(super) has_id: bool,
}

impl Running {
    pub(super) fn start(command: &[String], log: &Arc<Log>) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("can't start `{}`: {error}", command[0]);
        let may_start = MAY_START.read().unwrap_or_else(PoisonError::into_inner);
        if !*may_start {
            return Err(format!("`{}` is not started: koan is ending", command[0]));
        }
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        drop(may_start);
        let pid = Pid::from_child(&child);
        tree::awaited().push(pid);
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(format!("can't speak to `{}`", command[0]));
        };
        let (requests, to_write) = mpsc::channel::<String>();
        let n_unwritten = Arc::new(AtomicUsize::new(0));
        let stdin = Arc::new(OwnedFd::from(stdin));
        let inbox = Inbox { stdout: stdout.into(), state: Mutex::default(), changed: Condvar::new() };
        let inbox = Arc::new(inbox);
        let (stderr_open, stderr_read) = mpsc::channel();
        {
            let (stdin, n_unwritten) = (Arc::clone(&stdin), Arc::clone(&n_unwritten));
            thread::spawn(move || write_requests(&stdin, &to_write, &n_unwritten));
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.read());
            let log = Arc::clone(log);
            thread::spawn(move || {
                log.copy(stderr);
                drop(stderr_open);
            });
        }
        Ok(Self {
            child: Mutex::new(Reaped { child, is_reaped: false }),
            pid,
            requests: Mutex::new(Some(requests)),
            n_unwritten,
            stdin: Some(stdin),
            inbox,
            stderr_read: Mutex::new(stderr_read),
            is_plain_reader: AtomicBool::new(false),
        })
    }

    /// Waits until the program waits for a request, or seems to; at most `timeout`.
    ///
    /// # Errors
    /// It has ended, or written something: it will not do.
    pub(super) fn await_start(&self, started: Instant, timeout: Duration) -> Result<(), String> {
        let mut state = self.inbox.lock();
        loop {
            match &state.over {
                Some(Over::Closed) => {
                    drop(state);
                    return Err(format!("{} before anything was asked", self.how_it_ended()));
                }
                Some(Over::Surplus(reason) | Over::Failed(reason)) => return Err(reason.clone()),
                None => {}
            }
            let waited = started.elapsed();
            if self.is_quiet(&mut state) || waited >= timeout || waited >= START && !self.is_busy() {
                return Ok(());
            }
            state = self.inbox.wait(state, LOOK * 10);
        }
    }

    /// Whether it runs and has written nothing that was not asked for.
    pub(super) fn can_be_asked(&self) -> bool {
        self.inbox.lock().over.is_none()
    }

    /// Whether it was seen to wait for its standard input.
    pub(super) fn is_plain_reader(&self) -> bool {
        self.is_plain_reader.load(Ordering::Relaxed)
    }

    /// Sends a request and waits for its answer.
    pub(super) fn ask(&self, request: &Request, timeout: Duration) -> Result<Answer, Failure> {
        let deadline = Instant::now() + timeout;
        let mut state = self.inbox.lock();
        let is_fresh = state.n_answers == 0;
        state.open.insert(request.id.clone());
        self.n_unwritten.fetch_add(1, Ordering::SeqCst);
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        // What ends a program shows in its answers.
        _ = requests.as_ref().map(|requests| requests.send(request.line.clone()));
        drop(requests);
        loop {
            if let Some(&(_, has_id)) = state.answers.get(&request.id) {
                let mut over = None;
                if !has_id {
                    (state, over) = self.settle(state, deadline);
                }
                // A line with its `id` may have come since.
                if let Some((line, has_id)) = state.answers.remove(&request.id) {
                    return match over {
                        Some(Over::Surplus(reason) | Over::Failed(reason)) if !has_id => {
                            Err(Failure { reason, may_be_anothers: !is_fresh })
                        }
                        _ => Ok(Answer { line, has_id }),
                    };
                }
            }
            let now = Instant::now();
            if state.over.is_none() && now >= deadline {
                let seconds = timeout.as_secs_f64();
                state.over = Some(Over::Failed(format!("gave no answer within {seconds} s")));
                self.inbox.changed.notify_all();
            }
            if let Some(over) = state.over.clone() {
                let is_alone = state.open.len() <= 1;
                drop(state);
                return Err(match over {
                    Over::Closed => Failure { reason: self.how_it_ended(), may_be_anothers: !is_alone },
                    Over::Failed(reason) => Failure { reason, may_be_anothers: !is_alone },
                    Over::Surplus(reason) => Failure { reason, may_be_anothers: !is_alone || !is_fresh },
                });
            }
            state = self.inbox.wait(state, deadline - now);
        }
    }

    /// Waits for what may follow an answer without `id`: until the program waits for the next request, where that can be
    /// seen, or else for [`SETTLE`]. Says whether it is of further use.
    fn settle<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        deadline: Instant,
    ) -> (MutexGuard<'a, State>, Option<Over>) {
        let start = Instant::now();
        loop {
            let now = Instant::now();
            let is_settled = self.is_quiet(&mut state)
                || now >= deadline
                || now - start >= SETTLE && !self.is_plain_reader();
            if is_settled && state.over.is_none() && !state.has_ids && !state.partial.is_empty() {
                state.over = Some(Over::Surplus(surplus(&state.partial)));
            }
            if is_settled || state.over.is_some() || state.has_ids {
                let over = state.over.clone();
                return (state, over);
            }
            state = self.inbox.wait(state, LOOK);
        }
    }

    /// Whether it is seen that the program has read all requests, waits for more, and that all it wrote was read. The
    /// inbox is locked meanwhile, so nothing is between its pipe and its state.
    fn is_quiet(&self, _: &mut MutexGuard<State>) -> bool {
        let is_empty = |pipe: &OwnedFd| ioctl_fionread(pipe).is_ok_and(|n_bytes| n_bytes == 0);
        let is_quiet = self.n_unwritten.load(Ordering::SeqCst) == 0
            && self.stdin.as_deref().is_some_and(is_empty)
            && waits_for_input(self.pid)
            && is_empty(&self.inbox.stdout);
        if is_quiet {
            self.is_plain_reader.store(true, Ordering::Relaxed);
        }
        is_quiet
    }

    /// Whether the program computes, or waits for a disk.
    fn is_busy(&self) -> bool {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.pid.as_raw_nonzero())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with(['R', 'D']))
    }

    /// How a program whose standard output is closed came to its end.
    fn how_it_ended(&self) -> String {
        if !self.has_ended(GRACE) {
            return "closed its standard output".to_owned();
        }
        self.kill();
        let mut reaped = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let status = reaped.child.wait();
        reaped.is_reaped = true;
        drop(reaped);
        // What it said last.
        _ = self.stderr_read.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(GRACE);
        status.map_or_else(|error| format!("is gone: {error}"), |status| format!("ended ({status})"))
    }

    /// Whether the program ends in time. Its status is left to be read, so that its process group keeps its number.
    fn has_ended(&self, at_most: Duration) -> bool {
        const PEEK: WaitIdOptions =
            WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG).union(WaitIdOptions::NOWAIT);
        let start = Instant::now();
        loop {
            match waitid(WaitId::Pid(self.pid), PEEK) {
                Ok(None) if start.elapsed() < at_most => thread::sleep(Duration::from_millis(2)),
                Ok(status) => return status.is_some(),
                Err(_) => return true,
            }
        }
    }

    /// Kills the program and all that it started, except what has lost its parents: that becomes a child of this process,
    /// if it asked for it ([`tree::adopt_orphans`]), and ends with it.
    pub(super) fn kill(&self) {
        if !self.child.lock().unwrap_or_else(PoisonError::into_inner).is_reaped {
            tree::kill_below(self.pid, &[]);
            _ = kill_process_group(self.pid, Signal::KILL); // gone already: nothing to kill
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The writing thread ends, and with it standard input.
        _ = self.requests.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.stdin = None;
        if self.can_be_asked() {
            self.has_ended(GRACE);
        }
        self.kill();
        _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).child.wait();
        tree::awaited().retain(|pid| *pid != self.pid);
    }
}

/// Writes each of `requests` as a line, until there are no more or nobody reads.
fn write_requests(stdin: &OwnedFd, requests: &Receiver<String>, n_unwritten: &AtomicUsize) {
    for mut line in requests {
        line.push('\n');
        let mut left = line.as_bytes();
        while !left.is_empty() {
            match rustix::io::write(stdin, left) {
                Ok(n_bytes) => left = &left[n_bytes..],
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
        n_unwritten.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether the process's first thread is in `read` of its standard input, as the kernel says; false where it does not.
fn waits_for_input(pid: Pid) -> bool {
    const READ: &str = if cfg!(target_arch = "x86_64") { "0 0x0 " } else { "63 0x0 " };
    let call = fs::read_to_string(format!("/proc/{}/syscall", pid.as_raw_nonzero()));
    call.is_ok_and(|call| call.starts_with(READ))
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, at_most: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, at_most).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Reads all that the program writes, to its end or until it is of no further use.
    fn read(&self) {
        let mut chunk = vec![0; 1 << 16];
        loop {
            let mut ready = [PollFd::new(&self.stdout, PollFlags::IN)];
            if poll(&mut ready, None).is_err_and(|error| error != Errno::INTR) {
                return;
            }
            if ready[0].revents().is_empty() {
                continue;
            }
            let mut state = self.lock();
            match rustix::io::read(&self.stdout, &mut chunk) {
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => {
                    if !state.partial.is_empty() {
                        let line = std::mem::take(&mut state.partial);
                        state.deliver(&line);
                    }
                    state.over.get_or_insert(Over::Closed);
                }
                Ok(n_bytes) => state.read(&chunk[..n_bytes]),
            }
            self.changed.notify_all();
            if state.over.is_some() {
                return;
            }
        }
    }
}

impl State {
    /// Takes what was read.
    fn read(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if self.partial.len() > MAX_ANSWER_BYTES {
                let reason = format!("wrote a line of more than {MAX_ANSWER_BYTES} bytes");
                self.over.get_or_insert(Over::Failed(reason));
            } else if self.partial.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                self.deliver(&line);
            }
        }
    }

    /// Finds the request that `line` answers.
    fn deliver(&mut self, line: &[u8]) {
        if self.over.is_some() {
            return;
        }
        let text = String::from_utf8_lossy(line).into_owned();
        let value = json(&text);
        let named = value.as_ref().and_then(|value| value.get("id"));
        let named = named.map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
        if named.is_none() && self.has_ids {
            return;
        }
        if value.is_none() {
            self.over = Some(if self.open.is_empty() {
                Over::Surplus(surplus(line))
            } else {
                Over::Failed(format!("wrote `{}`, which is no JSON", shorten(text.trim())))
            });
            return;
        }
        if let Some(answer) =
            named.as_ref().and_then(|id| self.answers.get_mut(id)).filter(|answer| !answer.1)
        {
            // The line before it was no answer.
            (*answer, self.has_ids) = ((text, true), true);
            return;
        }
        let answered = match &named {
            Some(id) => self.open.take(id),
            None if self.open.len() == 1 => self.open.drain().next(),
            None => None,
        };
        match answered {
            Some(id) => {
                self.has_ids |= named.is_some();
                self.answers.insert(id, (text, named.is_some()));
                self.n_answers += 1;
            }
            None => self.over = Some(Over::Surplus(surplus(line))),
        }
    }
}

/// What is said of a line that answers nothing.
fn surplus(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    format!(
        "wrote `{}`, which answers nothing that was asked; write one line for each request, and messages to standard error",
        shorten(line.trim())
    )
}

/// `line` as JSON, with a number where it has `NaN` or `Infinity`, as Python writes them.
fn json(line: &str) -> Option<Value> {
    let finite = || line.replace("NaN", "0").replace("Infinity", "0");
    serde_json::from_str(line).or_else(|_| serde_json::from_str(&finite())).ok()
}
