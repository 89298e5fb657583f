//! A program that judges: a line of JSON on its standard input for each completion, a line of JSON on its standard
//! output for each verdict, in that order.
//!
//! It is started before the run, once for each worker, in its own process group. What it writes to standard
//! error is kept in `reward-NAME.log` of the run directory, or passed on if there is none, up to [`MAX_LOG_BYTES`]. At the end its
//! standard input is closed, and it has the time [`GRACE`] to end.
//!
//! | what happens | verdict | then |
//! |---|---|---|
//! | it answers with JSON that is not a score: NaN, an unknown field | undecided | it is kept |
//! | its answer is not JSON, or longer than [`MAX_ANSWER_BYTES`] | undecided | it is restarted |
//! | no answer within `timeout_s` | undecided | its group is killed, and it is restarted |
//! | it ends | undecided | it is restarted |
//! | it ended, or wrote a line, without being asked | as if this had not happened | it is restarted first |
//! | any of these `max_failures` times in a row | undecided, this and all later ones | it is no longer used |
//!
//! A restart whenever its lines do not match the requests ensures that no answer is mistaken for another's.

use super::{MAX_ANSWER_BYTES, Options, Worker};
use crate::verdict::shorten;
use crate::verifier::Context;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How many bytes of what programs write to standard error are passed on or kept; the rest is dropped.
pub const MAX_LOG_BYTES: usize = 1 << 20;

/// How long a program may take to end when there is nothing more to judge.
pub const GRACE: Duration = Duration::from_secs(1);

/// Starts the program of `options`, as many times as it has workers.
///
/// # Errors
/// A program that can't be started.
pub(super) fn start(
    options: &Options,
    timeout: Duration,
    context: &Context,
) -> Result<Vec<Box<dyn Worker>>, String> {
    let log = Arc::new(Log::new(&options.command[0], context.log_dir.as_deref()));
    let worker = |_| {
        let (command, log) = (options.command.clone(), Arc::clone(&log));
        let running = Some(Running::start(&command, &log)?);
        let max_failures = options.max_failures;
        let program =
            Program { command, timeout, max_failures, log, failures: 0, last: String::new(), running };
        Ok(Box::new(program) as Box<dyn Worker>)
    };
    (0..options.workers).map(worker).collect()
}

struct Program {
    command: Vec<String>,
    timeout: Duration,
    max_failures: usize,
    log: Arc<Log>,
    /// Failures since the last answer, and the reason of the last.
    failures: usize,
    last: String,
    running: Option<Running>,
}

impl Worker for Program {
    fn ask(&mut self, request: &str) -> Result<String, String> {
        if self.failures >= self.max_failures {
            return Err(format!(
                "given up after {} failures in a row, the last: {}",
                self.failures, self.last
            ));
        }
        match self.try_to_ask(request) {
            Ok(answer) => {
                self.failures = 0;
                Ok(answer)
            }
            Err(reason) => {
                self.running.take().inspect(Running::kill_group);
                self.failures += 1;
                let said = self.log.last_line();
                let said = if said.is_empty() { said } else { format!("; it said: {said}") };
                self.last = format!("`{}` {reason}{said}", self.command[0]);
                Err(self.last.clone())
            }
        }
    }
}

impl Program {
    fn try_to_ask(&mut self, request: &str) -> Result<String, String> {
        let waiting = self.running.take().filter(Running::is_waiting);
        let running = match waiting {
            Some(running) => running,
            None => Running::start(&self.command, &self.log)?,
        };
        let running = self.running.insert(running);
        _ = running.requests.send(request.to_owned()); // what ends a program shows in its answers
        match running.answers.recv_timeout(self.timeout) {
            Ok(Ok(line)) if is_json(&line) => Ok(line),
            Ok(Ok(line)) => Err(format!("wrote `{}`, which is no JSON", shorten(line.trim()))),
            Ok(Err(reason)) => Err(reason),
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("gave no answer within {} s", self.timeout.as_secs_f64()))
            }
            Err(RecvTimeoutError::Disconnected) => Err(running.how_it_ended()),
        }
    }
}

/// Whether `line` is JSON, or would be if it had a number where it has `NaN` or `Infinity`, as Python writes them.
fn is_json(line: &str) -> bool {
    let finite = || line.replace("NaN", "0").replace("Infinity", "0");
    serde_json::from_str::<Value>(line).is_ok() || serde_json::from_str::<Value>(&finite()).is_ok()
}

/// A running program, with the threads that talk to it.
struct Running {
    child: Child,
    requests: Sender<String>,
    answers: Receiver<Result<String, String>>,
    /// Closed when all of standard error was read.
    stderr_read: Receiver<()>,
    /// Whether its status was read.
    is_reaped: bool,
}

impl Running {
    fn start(command: &[String], log: &Arc<Log>) -> Result<Self, String> {
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("can't start `{}`: {error}", command[0]))?;
        let (requests, to_write) = mpsc::channel::<String>();
        let (read, answers) = mpsc::channel();
        let (stderr_open, stderr_read) = mpsc::channel();
        if let Some(mut stdin) = child.stdin.take() {
            thread::spawn(move || {
                for mut line in to_write {
                    line.push('\n');
                    if stdin.write_all(line.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || read_lines(stdout, &read));
        }
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(log);
            thread::spawn(move || {
                log.copy(stderr);
                drop(stderr_open);
            });
        }
        Ok(Self { child, requests, answers, stderr_read, is_reaped: false })
    }

    /// Whether it is running and has written nothing without being asked.
    fn is_waiting(&self) -> bool {
        matches!(self.answers.try_recv(), Err(TryRecvError::Empty))
    }

    /// How a program ended whose standard output is closed.
    fn how_it_ended(&mut self) -> String {
        if !self.has_ended(GRACE) {
            return "closed its standard output".to_owned();
        }
        self.kill_group();
        let status = self.child.wait();
        self.is_reaped = true;
        _ = self.stderr_read.recv_timeout(GRACE); // what it said last
        status.map_or_else(|error| format!("is gone: {error}"), |status| format!("ended ({status})"))
    }

    /// Whether the program ends in time. Its status is not read yet, so that its process group keeps its id.
    fn has_ended(&self, at_most: Duration) -> bool {
        const PEEK: WaitIdOptions =
            WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG).union(WaitIdOptions::NOWAIT);
        let start = Instant::now();
        loop {
            match waitid(WaitId::Pid(Pid::from_child(&self.child)), PEEK) {
                Ok(None) if start.elapsed() < at_most => thread::sleep(Duration::from_millis(2)),
                Ok(status) => return status.is_some(),
                Err(_) => return true,
            }
        }
    }

    /// Kills the program and its children, unless its status was read: its id may then belong to another.
    fn kill_group(&self) {
        if !self.is_reaped {
            _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL); // gone already: nothing to kill
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel();
        self.requests = closed; // the writing thread ends, and with it standard input
        if self.is_waiting() {
            self.has_ended(GRACE);
        }
        self.kill_group();
        _ = self.child.wait();
    }
}

/// Sends each line of `stdout`, until it ends or has a line that is too long.
fn read_lines(stdout: impl Read, lines: &Sender<Result<String, String>>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let read = (&mut stdout).take(MAX_ANSWER_BYTES as u64 + 1).read_until(b'\n', &mut line);
        let too_long = line.len() > MAX_ANSWER_BYTES;
        let sent = match read {
            Ok(0) | Err(_) => return,
            Ok(_) if too_long => {
                lines.send(Err(format!("wrote a line of more than {MAX_ANSWER_BYTES} bytes")))
            }
            Ok(_) => lines.send(Ok(String::from_utf8_lossy(&line).into_owned())),
        };
        if sent.is_err() || too_long {
            return;
        }
    }
}

/// What programs write to standard error.
struct Log(Mutex<LogState>);

struct LogState {
    /// Where it is kept; none: passed on. Opened when there is something to write: the run's directory is made after
    /// its rewards.
    path: Option<PathBuf>,
    file: Option<File>,
    left: usize,
    last_line: String,
}

impl Log {
    /// The log of `program`, in `dir` if there is one.
    fn new(program: &str, dir: Option<&Path>) -> Self {
        let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
        let path = dir.map(|dir| dir.join(format!("reward-{name}.log")));
        Self(Mutex::new(LogState { path, file: None, left: MAX_LOG_BYTES, last_line: String::new() }))
    }

    /// Copies what is read line by line, to its end.
    fn copy(&self, stderr: impl Read) {
        let mut stderr = BufReader::new(stderr);
        loop {
            let mut line = Vec::new();
            match (&mut stderr).take(1 << 16).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => self.0.lock().unwrap_or_else(PoisonError::into_inner).add(&line),
            }
        }
    }

    fn last_line(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last_line.clone()
    }
}

impl LogState {
    fn add(&mut self, line: &[u8]) {
        if !line.trim_ascii().is_empty() {
            self.last_line = shorten(String::from_utf8_lossy(line).trim());
        }
        if self.left == 0 {
            return;
        }
        self.left = self.left.saturating_sub(line.len());
        let end: &[u8] = if self.left == 0 { b"\n(further messages are dropped)\n" } else { b"" };
        if let (None, Some(path)) = (&self.file, &self.path) {
            self.file = OpenOptions::new().create(true).append(true).open(path).ok();
        }
        let mut stderr = io::stderr();
        let to: &mut dyn Write = self.file.as_mut().map_or(&mut stderr, |file| file);
        _ = to.write_all(line).and_then(|()| to.write_all(end)); // nobody is there to be told
    }
}

#[cfg(test)]
mod tests {
    use super::super::External;
    use super::*;
    use crate::verifier::{Configured, Sample, Verifier};
    use crate::{Outcome, Problem};

    /// A verifier that asks the shell script `script`.
    fn external(script: &str, set: impl FnOnce(&mut Options)) -> External {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let mut options = Options { command, max_failures: 3, ..Options::default() };
        set(&mut options);
        External::build(options, &Context::default()).expect("builds")
    }

    fn ask(external: &External, completion: &str) -> (Outcome, Option<f32>, String) {
        let problem = Problem { answer: "7".to_owned(), ..Problem::default() };
        let verdict = external.judge(&Sample::new(&problem, completion));
        (verdict.outcome, verdict.score, verdict.reason)
    }

    const RIGHT_IF_7: &str =
        r#"while read -r line; do case "$line" in *'"completion":"7"'*) echo 1;; *) echo 0;; esac; done"#;

    #[test]
    fn a_program_is_asked_line_by_line() {
        let external = external(RIGHT_IF_7, |_| {});
        for (completion, score) in [("7", 1.0), ("8", 0.0), ("7\n", 0.0), ("7", 1.0)] {
            assert_eq!(ask(&external, completion).1, Some(score), "{completion}");
        }
    }

    #[test]
    fn many_threads_share_the_workers_and_get_their_own_answers() {
        let external = external(RIGHT_IF_7, |options| options.workers = 2);
        thread::scope(|scope| {
            for thread in 0..4 {
                let external = &external;
                scope.spawn(move || {
                    for i in 0..50 {
                        let right = (thread + i) % 3 == 0;
                        let score = ask(external, if right { "7" } else { "6" }).1;
                        assert_eq!(score, Some(f32::from(u8::from(right))));
                    }
                });
            }
        });
    }

    #[test]
    fn a_program_that_dies_is_started_again_and_at_last_given_up() {
        // Answers once, then dies at the next request.
        let once = external("read -r a; echo 1; read -r b; echo oh no >&2; exit 3", |_| {});
        assert_eq!(ask(&once, "a").1, Some(1.0));
        let (outcome, score, reason) = ask(&once, "b");
        assert_eq!((outcome, score), (Outcome::Undecided, None));
        assert!(reason.contains("ended (exit status: 3)") && reason.contains("oh no"), "{reason}");
        assert_eq!(ask(&once, "c").1, Some(1.0), "started again");

        let never = external("exit 1", |_| {});
        for _ in 0..3 {
            assert!(ask(&never, "a").2.contains("ended (exit status: 1)"));
        }
        let (outcome, _, reason) = ask(&never, "a");
        assert_eq!(outcome, Outcome::Undecided);
        assert!(reason.contains("given up after 3 failures in a row"), "{reason}");
    }

    #[test]
    fn a_program_that_ends_after_its_answer_is_no_failure() {
        let external = external("read -r line; echo 0.5", |options| options.max_failures = 1);
        for _ in 0..3 {
            assert_eq!(ask(&external, "a").1, Some(0.5));
            thread::sleep(Duration::from_millis(200)); // it has ended by the next question
        }
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let hangs =
            r#"while read -r line; do case "$line" in *hang*) sleep 1000 & wait;; *) echo 1;; esac; done"#;
        let external = external(hangs, |options| options.timeout_s = 0.3);
        let start = Instant::now();
        let (outcome, _, reason) = ask(&external, "hang");
        assert_eq!(outcome, Outcome::Undecided);
        assert!(reason.contains("no answer within 0.3 s"), "{reason}");
        assert_eq!(ask(&external, "a").1, Some(1.0), "started again");
        assert!(start.elapsed() < Duration::from_secs(100), "the child was not waited for");
    }

    #[test]
    fn a_program_that_does_not_read_is_timed_too() {
        let external = external("sleep 1000", |options| options.timeout_s = 0.3);
        let long = "x".repeat(1 << 20); // more than a pipe holds
        assert!(ask(&external, &long).2.contains("no answer within 0.3 s"));
    }

    #[test]
    fn what_is_no_score_is_undecided() {
        let echo = |line: &str| external(&format!("while read -r l; do echo '{line}'; done"), |_| {});
        for (line, reason) in
            [("NaN", "neither a finite number"), (r#"{"score": -Infinity}"#, "neither"), ("{}", "without")]
        {
            let external = echo(line);
            for _ in 0..5 {
                let (outcome, score, found) = ask(&external, "a");
                assert_eq!((outcome, score), (Outcome::Undecided, None));
                assert!(found.contains(reason), "an answer, so never given up: {found}");
            }
        }
        let external = echo("starting up");
        assert!(ask(&external, "a").2.contains("wrote `starting up`, which is no JSON"));
        let endless = self::external("read -r line; yes | tr -d '\\n'", |_| {});
        assert!(ask(&endless, "a").2.contains("more than 1048576 bytes"));
    }

    #[test]
    fn an_answer_is_never_taken_for_anothers() {
        // Two lines for each request: the second is not the answer to the next one.
        let twice = external("while read -r line; do echo 1; echo 0; done", |_| {});
        assert_eq!(ask(&twice, "a").1, Some(1.0));
        thread::sleep(Duration::from_millis(200));
        assert_eq!(ask(&twice, "b").1, Some(1.0), "started again, and asked anew");
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_before_any_work() {
        let options = Options { command: vec!["no-such-program".to_owned()], ..Options::default() };
        let error = External::build(options, &Context::default()).err().expect("refused");
        assert!(error.starts_with("can't start `no-such-program`: "), "{error}");
    }

    #[test]
    fn messages_are_kept_up_to_a_bound() {
        let folder = tempfile::tempdir().expect("a folder");
        let script =
            "while read -r line; do head -c 3000000 /dev/zero | tr '\\0' x >&2; echo done >&2; echo 1; done";
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let context = Context { log_dir: Some(folder.path().to_owned()), ..Context::default() };
        let external = External::build(Options { command, ..Options::default() }, &context).expect("builds");
        assert_eq!(ask(&external, "a").1, Some(1.0), "its messages are read, so it does not block");
        drop(external);
        let log = std::fs::read(folder.path().join("reward-sh.log")).expect("kept");
        assert!((MAX_LOG_BYTES..MAX_LOG_BYTES + (1 << 17)).contains(&log.len()), "{}", log.len());
        assert!(log.ends_with(b"are dropped)\n"));
    }
}
