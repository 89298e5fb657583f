//! A program that judges: a line of JSON on its standard input for each completion, a line of JSON on its standard
//! output for each verdict.
//!
//! It is started before the run, once for each worker, in a process group of its own; what it writes to standard
//! error is kept in `reward-NAME.log` of the run directory, or passed on where there is none, up to [`MAX_LOG_BYTES`]. At
//! the end its standard input is closed, and it has a second to end.
//!
//! **Which answer is whose.** A request has an `id` of its own. An answer that repeats it belongs to that request: a
//! program that answers so is sent further requests while others are open, may answer in any order, and what else it
//! writes is ignored. One that does not is asked one at a time, and its answer counts once it waits for the next request with nothing more to say.
//!
//! | what happens | verdict | then |
//! |---|---|---|
//! | it answers with JSON that is not a score: NaN, an unknown field | undecided | it is kept |
//! | its answer is not JSON, or longer than [`MAX_ANSWER_BYTES`](super::MAX_ANSWER_BYTES) | undecided | it is restarted |
//! | no answer within `timeout_s` | undecided | its group is killed, and it is restarted |
//! | it ends | undecided | it is restarted |
//! | it writes more lines than were asked for | all open requests are void; each is sent once more, alone, and is undecided if this happens again | it is restarted |
//! | it ended, or wrote a line, between requests | as if this had not happened | it is restarted first |
//! | any that leaves a completion undecided, `max_failures` times in a row | undecided, this and all later ones | it is no longer used |
//!
//! A program that ends or writes before anything was asked is an error when it is first started.

mod log;
mod running;
pub mod tree;

use super::{Options, Request, Worker};
use crate::verifier::Context;
use log::Log;
use running::{Answer, Failure, Running};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How many bytes of what programs write to standard error are passed on or kept; the rest is dropped.
pub const MAX_LOG_BYTES: usize = 1 << 20;

/// How many requests a program may have open at once, if it says which it answers.
const MAX_OPEN: usize = 64;

static BEFORE_FIRST: OnceLock<fn()> = OnceLock::new();
/// Whether programs may be started.
static MAY_START: RwLock<bool> = RwLock::new(true);

/// Has `act` done before the first program of this process is started.
pub fn before_first_start(act: fn()) {
    let _ = BEFORE_FIRST.set(act); // the first to ask is the program itself
}

/// From now on no program is started: this process ends.
pub fn refuse_starts() {
    *MAY_START.write().unwrap_or_else(PoisonError::into_inner) = false;
}

/// Starts the program of `options`, as many times as it has workers, and sees them wait for requests.
///
/// # Errors
/// A program that can't be started, ends at once, or writes before it is asked.
pub(super) fn start(
    options: &Options,
    timeout: Duration,
    context: &Context,
) -> Result<Vec<Box<dyn Worker>>, String> {
    static PREPARED: std::sync::Once = std::sync::Once::new();
    PREPARED.call_once(|| BEFORE_FIRST.get().into_iter().for_each(|act| act()));
    let log = Arc::new(Log::new(&options.command[0], context.log_dir.as_deref()));
    let started = Instant::now();
    let start = |_| Running::start(&options.command, &log);
    let running: Vec<Running> = (0..options.workers).map(start).collect::<Result<_, _>>()?;
    let worker = |running: Running| {
        running.await_start(started, timeout).map_err(|reason| said(&options.command[0], &reason, &log))?;
        let program = Program {
            command: options.command.clone(),
            timeout,
            max_failures: options.max_failures,
            log: Arc::clone(&log),
            is_plain_reader: running.is_plain_reader(),
            has_ids: AtomicBool::new(false),
            turn: RwLock::new(()),
            state: Mutex::new(State { failures: 0, last: String::new(), running: Some(Arc::new(running)) }),
        };
        Ok(Box::new(program) as Box<dyn Worker>)
    };
    running.into_iter().map(worker).collect()
}

/// What the program did, and its last words.
fn said(program: &str, reason: &str, log: &Log) -> String {
    match log.last_line().as_str() {
        "" => format!("`{program}` {reason}"),
        words => format!("`{program}` {reason}; it said: {words}"),
    }
}

struct Program {
    command: Vec<String>,
    timeout: Duration,
    max_failures: usize,
    log: Arc<Log>,
    /// Whether it can be seen to wait for its standard input.
    is_plain_reader: bool,
    /// Whether its last answer said which request it belongs to.
    has_ids: AtomicBool,
    /// Held by all who ask while answers have ids, else by one alone.
    turn: RwLock<()>,
    state: Mutex<State>,
}

struct State {
    /// Failures since the last answer, and what the last of them was.
    failures: usize,
    last: String,
    running: Option<Arc<Running>>,
}

impl Worker for Program {
    fn ask(&self, request: &Request) -> Result<String, String> {
        let first = if self.has_ids.load(Ordering::Relaxed) {
            let _turn = self.turn.read().unwrap_or_else(PoisonError::into_inner);
            self.try_to_ask(request)
        } else {
            let _turn = self.turn.write().unwrap_or_else(PoisonError::into_inner);
            self.try_to_ask(request)
        };
        match first {
            Err(Failure { may_be_anothers: true, .. }) => {
                let _turn = self.turn.write().unwrap_or_else(PoisonError::into_inner);
                self.try_to_ask(request).map_err(|failure| failure.reason)
            }
            other => other.map_err(|failure| failure.reason),
        }
    }

    fn max_open(&self) -> usize {
        if self.has_ids.load(Ordering::Relaxed) { MAX_OPEN } else { 1 }
    }
}

impl Program {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_to_ask(&self, request: &Request) -> Result<String, Failure> {
        let final_failure = |reason| Failure { reason, may_be_anothers: false };
        let running = self.running().map_err(final_failure)?;
        match running.ask(request, self.timeout) {
            Ok(Answer { line, has_id }) => {
                self.has_ids.store(has_id, Ordering::Relaxed);
                self.lock().failures = 0;
                Ok(line)
            }
            Err(Failure { reason, may_be_anothers }) => {
                running.kill();
                self.has_ids.store(false, Ordering::Relaxed);
                let reason = said(&self.command[0], &reason, &self.log);
                let mut state = self.lock();
                state.running.take_if(|current| Arc::ptr_eq(current, &running));
                if !may_be_anothers {
                    state.failures += 1;
                    state.last.clone_from(&reason);
                }
                Err(Failure { reason, may_be_anothers })
            }
        }
    }

    /// The program, started anew where it is of no further use.
    fn running(&self) -> Result<Arc<Running>, String> {
        let mut state = self.lock();
        let State { failures, last, .. } = &*state;
        if *failures >= self.max_failures {
            return Err(format!("given up after {failures} failures in a row, the last: {last}"));
        }
        if let Some(running) = state.running.take_if(|running| running.can_be_asked()) {
            return Ok(Arc::clone(state.running.insert(running)));
        }
        state.running = None;
        let started = Instant::now();
        let mut start = || {
            let running = Running::start(&self.command, &self.log)?;
            if self.is_plain_reader {
                running.await_start(started, self.timeout)?;
            }
            Ok(Arc::clone(state.running.insert(Arc::new(running))))
        };
        start().inspect_err(|reason: &String| {
            let reason = said(&self.command[0], reason, &self.log);
            state.failures += 1;
            state.last = reason;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::External;
    use super::*;
    use crate::verifier::{Configured, Sample, Verifier};
    use crate::{Outcome, Problem};
    use std::thread;

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

        let never = external("read -r a; exit 1", |_| {});
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

    /// A program in Python, with what it does for each request; `n` is the completion's number.
    fn python(body: &str, set: impl FnOnce(&mut Options)) -> External {
        let script = format!(
            "import json, sys, time\nfor line in sys.stdin:\n  sample = json.loads(line)\n  n = int(sample['completion'])\n{body}"
        );
        let command = ["python3", "-E", "-c", &script].map(str::to_owned).to_vec();
        let mut options = Options { command, max_failures: 1000, timeout_s: 30.0, ..Options::default() };
        set(&mut options);
        External::build(options, &Context::default()).expect("builds")
    }

    /// The scores of `n` completions, asked by `threads` threads.
    fn scores(external: &External, threads: usize, n: usize) -> Vec<Option<f32>> {
        let all = Mutex::new(vec![None; n]);
        let next = std::sync::atomic::AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        if i >= n {
                            return;
                        }
                        let score = ask(external, &i.to_string()).1;
                        all.lock().expect("no panic")[i] = score;
                    }
                });
            }
        });
        all.into_inner().expect("no panic")
    }

    #[test]
    fn an_answer_is_never_taken_for_anothers() {
        for (name, body) in [
            ("a line after", "  print(n, flush=True)\n  print(1000 + n, flush=True)\n"),
            (
                "a line after, late",
                "  print(n, flush=True)\n  time.sleep(0.02)\n  print(1000 + n, flush=True)\n",
            ),
            ("a line after, not flushed", "  print(n, flush=True)\n  print(1000 + n)\n"),
            ("a line before", "  print(1000 + n, flush=True)\n  print(n, flush=True)\n"),
            ("a line long before", "  print(1000, flush=True)\n  time.sleep(0.03)\n  print(n, flush=True)\n"),
            ("a line before, not flushed", "  print(7000)\n  print(n, flush=True)\n"),
            ("the start of a line after", "  print(n, flush=True)\n  print(9, end='', flush=True)\n"),
            ("an answer twice", "  for _ in 'ab': print(json.dumps({'score': n + 0.5}), flush=True)\n"),
            ("now and then", "  print(n, flush=True)\n  if n % 3 == 0: print(2000 + n, flush=True)\n"),
            ("words after", "  print(n, flush=True)\n  print('debug', flush=True)\n"),
            (
                "ids twice",
                "  for i in range(2): print(json.dumps({'id': sample['id'], 'score': n + 1000 * i}), flush=True)\n",
            ),
            (
                "ids and numbers before",
                "  print(1000 + n, flush=True)\n  print(json.dumps({'id': sample['id'], 'score': n}), flush=True)\n",
            ),
            (
                "ids and words",
                "  print(json.dumps({'id': sample['id'], 'score': n}), flush=True)\n  print('debug', flush=True)\n",
            ),
            (
                "ids and numbers",
                "  print(json.dumps({'id': sample['id'], 'score': n}), flush=True)\n  print(1000 + n, flush=True)\n",
            ),
            ("an old id", "  print(json.dumps({'id': '#1', 'score': n}), flush=True)\n"),
            ("a whole number for an id", "  print(json.dumps({'id': n, 'score': n}), flush=True)\n"),
        ] {
            for threads in [1, 3] {
                let found = scores(&python(body, |_| {}), threads, 7);
                for (i, score) in found.iter().enumerate() {
                    let own = score.is_none() || *score == Some(i as f32);
                    assert!(own || name == "an old id", "{name}, {threads} threads: {found:?}");
                }
                if name.starts_with("ids and") || name == "a line after, not flushed" && threads == 1 {
                    assert!(found.iter().all(Option::is_some), "{name}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn a_program_that_writes_too_much_is_given_up_and_says_why() {
        let twice =
            python("  print(n, flush=True)\n  print(7, flush=True)\n", |options| options.max_failures = 2);
        for _ in 0..2 {
            let (outcome, _, reason) = ask(&twice, "1");
            assert_eq!(outcome, Outcome::Undecided);
            assert!(reason.contains("wrote `7`, which answers nothing that was asked"), "{reason}");
        }
        assert!(ask(&twice, "1").2.contains("given up after 2 failures in a row"));
    }

    #[test]
    fn answers_with_ids_come_in_any_order() {
        // Answers three at a time, the last first, and then what is left.
        let script = "import json, sys, threading, queue\nasked, kept = queue.Queue(), []\ndef read():\n  for line in sys.stdin: asked.put(json.loads(line))\nthreading.Thread(target=read, daemon=True).start()\nwhile True:\n  try: kept.append(asked.get(timeout=0.2 if kept else None))\n  except queue.Empty: pass\n  else:\n    if len(kept) < 3: continue\n  for sample in reversed(kept):\n    print(json.dumps({'id': sample['id'], 'score': int(sample['completion'])}), flush=True)\n  kept = []\n";
        let command = ["python3", "-E", "-c", script].map(str::to_owned).to_vec();
        let options = Options { command, ..Options::default() };
        let external = External::build(options, &Context::default()).expect("builds");
        let found = scores(&external, 6, 40);
        assert_eq!(found, (0..40).map(|i| Some(i as f32)).collect::<Vec<_>>());
    }

    #[test]
    fn one_completion_that_ends_the_program_takes_no_other_with_it() {
        let body = "  if n == 5: sys.exit(1)\n  time.sleep(0.01)\n  print(json.dumps({'id': sample['id'], 'score': n}), flush=True)\n";
        let found = scores(&python(body, |_| {}), 6, 20);
        for (i, score) in found.iter().enumerate() {
            assert_eq!(*score, (i != 5).then_some(i as f32), "{found:?}");
        }
    }

    #[test]
    fn a_program_that_will_not_do_is_an_error_before_any_work() {
        for (script, expected) in [
            ("exit 3", "`sh` ended (exit status: 3) before anything was asked"),
            ("echo no such module >&2; exit 1", "it said: no such module"),
            ("exec no-such-program", "before anything was asked"),
            ("exit 0", "ended (exit status: 0) before anything was asked"),
            ("kill -9 $$", "(signal: 9 (SIGKILL)) before anything was asked"),
            ("echo 7; cat", "wrote `7`, which answers nothing that was asked"),
            ("echo ready; cat", "wrote `ready`, which answers nothing that was asked"),
        ] {
            let command = ["sh", "-c", script].map(str::to_owned).to_vec();
            let options = Options { command, workers: 2, ..Options::default() };
            let error = External::build(options, &Context::default()).err().expect("refused");
            assert!(error.contains(expected), "{script}: {error}");
        }
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
