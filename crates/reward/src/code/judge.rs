//! Judges programs in a pool of sandboxes.

use super::compare::{self, Data};
use super::problem::{Cases, FunctionCase, Streams, is_memory_limit, is_time_limit};
use super::{MAX_MEMORY_LIMIT_MB, MAX_TIME_LIMIT_S, MIN_MEMORY_LIMIT_MB, Options, Tests, block};
use crate::verdict::shorten;
use crate::{Outcome, Verdict};
use koan_sandbox::{Call, End, Ended, Entry, Interpreter, Launcher, Limits, Program, Sandbox, SandboxError};
use rustix::process::Signal;
use serde_json::value::RawValue;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

/// The largest [`Options::output_limit_bytes`].
const MAX_OUTPUT_BYTES: u64 = 64 << 20;
/// The largest [`Options::threads`].
const MAX_THREADS: u32 = 256;

/// Judges programs by tests. Owns the sandboxes; used by many threads at once.
#[derive(Debug)]
pub struct Judge {
    options: Options,
    launcher: Launcher,
    most: usize,
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Debug)]
struct Pool {
    idle: Vec<Sandbox>,
    n_taken: usize,
}

impl Judge {
    /// Makes a first sandbox and proves by its self-test that it holds.
    ///
    /// # Errors
    /// An option out of range; no interpreter; a kernel that does not let programs be contained. Then nothing can
    /// be judged: there is no way with less protection.
    pub fn new(options: &Options) -> Result<Self, SandboxError> {
        check(options)?;
        let interpreter = Interpreter::find(options.python.as_deref())?;
        let launcher = Launcher::new(&interpreter, options.threads, options.output_limit_bytes)?;
        let mut sandbox = launcher.launch()?;
        launcher.test(&mut sandbox)?;
        Ok(Self {
            most: options.sandboxes.unwrap_or_else(|| available_parallelism().map_or(1, usize::from)),
            options: options.clone(),
            launcher,
            pool: Mutex::new(Pool { idle: vec![sandbox], n_taken: 0 }),
            returned: Condvar::new(),
        })
    }

    /// Judges the program in `completion`. Total: any text gets a verdict, within twenty times the sum of its
    /// tests' time limits, not counting the time that it waits for a sandbox.
    pub fn judge(&self, completion: &str, tests: &Tests) -> Verdict {
        if let Err(reason) = tests.too_long(self.options.output_limit_bytes) {
            return Verdict::without_answer(Outcome::BadReference, reason);
        }
        let source = match block::program(completion) {
            Ok(source) => source,
            Err(reason) => return Verdict::without_answer(Outcome::Unparsable, reason),
        };
        let source = &*source;
        let limits = self.limits(tests);
        if let Cases::Asserts(asserts) = &tests.cases {
            return self.judge_by_asserts(source, asserts, &limits);
        }
        let mut place = self.take();
        for i in 0..tests.n_tests() {
            let failure = match place.run_test(source, &tests.cases, i, &limits) {
                Ok(ended) => failure(&ended, &tests.cases, i, tests.tolerance, &limits),
                Err(error) => return Verdict::new(Outcome::Undecided, source, error.to_string()),
            };
            if let Some(how) = failure {
                return fails(source, i, tests.n_tests(), &how);
            }
        }
        passes(source, tests.n_tests())
    }

    /// Whether `tests` can be used: they expect no more than a program may write, and asserts hold by what a program does.
    ///
    /// # Errors
    /// What is wrong with them: they are a bad reference.
    pub fn check_tests(&self, tests: &Tests) -> Result<(), String> {
        tests.too_long(self.options.output_limit_bytes)?;
        match &tests.cases {
            Cases::Asserts(asserts) => self.check_asserts(asserts, &self.limits(tests)),
            _ => Ok(()),
        }
    }

    fn limits(&self, tests: &Tests) -> Limits {
        let cpu = Duration::from_secs_f64(tests.time_limit_s.unwrap_or(self.options.time_limit_s));
        Limits {
            cpu,
            wall: cpu * 3 + Duration::from_secs(2),
            memory_bytes: tests.memory_limit_mb.unwrap_or(self.options.memory_limit_mb) << 20,
            output_bytes: self.options.output_limit_bytes,
        }
    }

    /// Waits for a place in the pool.
    pub(super) fn take(&self) -> Place<'_> {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |pool: &mut Pool| pool.n_taken >= self.most;
        let mut pool = self.returned.wait_while(pool, is_full).unwrap_or_else(PoisonError::into_inner);
        pool.n_taken += 1;
        Place { judge: self, sandbox: pool.idle.pop() }
    }
}

/// The verdict on a program that fails test `i` of `n`, from 0.
pub(super) fn fails(source: &str, i: usize, n: usize, how: &str) -> Verdict {
    let reason = match (i, n) {
        (0, 1) => format!("fails the test: {how}"),
        (0, n) => format!("fails the first of {n} tests: {how}"),
        (i, n) => format!("passes {i} of {n} tests, and fails test {}: {how}", i + 1),
    };
    Verdict::new(Outcome::Wrong, source, reason)
}

/// The verdict on a program that passes all `n` tests.
pub(super) fn passes(source: &str, n: usize) -> Verdict {
    let reason = match n {
        1 => "passes the test".to_owned(),
        n => format!("passes all {n} tests"),
    };
    Verdict::new(Outcome::Correct, source, reason)
}

fn check(options: &Options) -> Result<(), SandboxError> {
    let refuse = |option, value: String, range| Err(SandboxError::Option { option, value, range });
    let Options { time_limit_s, memory_limit_mb, output_limit_bytes, threads, sandboxes, .. } = *options;
    if !is_time_limit(time_limit_s) {
        let range = format!("above 0 and at most {MAX_TIME_LIMIT_S}");
        return refuse("time_limit_s", time_limit_s.to_string(), range);
    }
    if !is_memory_limit(memory_limit_mb) {
        let range = format!("from {MIN_MEMORY_LIMIT_MB} to {MAX_MEMORY_LIMIT_MB}");
        return refuse("memory_limit_mb", memory_limit_mb.to_string(), range);
    }
    if !(1..=MAX_OUTPUT_BYTES).contains(&output_limit_bytes) {
        let range = format!("from 1 to {MAX_OUTPUT_BYTES}");
        return refuse("output_limit_bytes", output_limit_bytes.to_string(), range);
    }
    if threads > MAX_THREADS {
        return refuse("threads", threads.to_string(), format!("at most {MAX_THREADS}"));
    }
    if sandboxes == Some(0) {
        return refuse("sandboxes", "0".to_owned(), "at least 1, or left out".to_owned());
    }
    Ok(())
}

/// A place in the pool, and its sandbox once that is started; returned to the pool when dropped.
pub(super) struct Place<'a> {
    judge: &'a Judge,
    sandbox: Option<Sandbox>,
}

impl Place<'_> {
    /// Runs test `i`, which is no assert.
    fn run_test(
        &mut self,
        source: &str,
        cases: &Cases,
        i: usize,
        limits: &Limits,
    ) -> Result<Ended, SandboxError> {
        let (stdin, entry) = match cases {
            Cases::Streams(cases) => (cases[i].stdin.as_bytes(), Entry::Main),
            Cases::Calls { function, cases } => {
                (&b""[..], Entry::Call(Call { function, args: &cases[i].args }))
            }
            Cases::Asserts(_) => (&b""[..], Entry::Main),
        };
        self.run(&Program { source, stdin, entry }, limits)
    }

    /// Runs a program. A sandbox that is lost is replaced once.
    pub(super) fn run(&mut self, program: &Program, limits: &Limits) -> Result<Ended, SandboxError> {
        self.try_run(program, limits).or_else(|_| self.try_run(program, limits))
    }

    fn try_run(&mut self, program: &Program, limits: &Limits) -> Result<Ended, SandboxError> {
        let mut sandbox = match self.sandbox.take() {
            Some(sandbox) => sandbox,
            None => self.judge.launcher.launch()?,
        };
        let ended = sandbox.run(program, limits)?;
        self.sandbox = Some(sandbox);
        Ok(ended)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut pool = self.judge.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.n_taken -= 1;
        pool.idle.extend(self.sandbox.take());
        self.judge.returned.notify_one();
    }
}

/// How a program failed test `i`; none if it passed.
fn failure(
    ended: &Ended,
    cases: &Cases,
    i: usize,
    tolerance: Option<f64>,
    limits: &Limits,
) -> Option<String> {
    bad_end(ended, limits).or_else(|| match cases {
        Cases::Streams(cases) => printed(&ended.stdout, &cases[i], tolerance),
        Cases::Calls { cases, .. } => returned(&ended.result, &cases[i], tolerance),
        Cases::Asserts(_) => None,
    })
}

/// How a program ended that did not end well.
pub(super) fn bad_end(ended: &Ended, limits: &Limits) -> Option<String> {
    let last_words = ended.words.trim_end().lines().last().unwrap_or_default();
    Some(match ended.end {
        End::Exited(0) => return None,
        End::Exited(_) if last_words.starts_with("MemoryError") => too_much_memory(limits),
        End::Exited(status) if last_words.is_empty() => format!("exits with status {status}"),
        End::Exited(status) => format!("exits with status {status}: {}", shorten(last_words)),
        End::Killed(signal) if signal == Signal::SEGV.as_raw() => "crashes (SIGSEGV)".to_owned(),
        End::Killed(signal) if signal == Signal::ABORT.as_raw() && last_words.contains("MemoryError") => {
            too_much_memory(limits)
        }
        End::Killed(signal) => format!("is killed by signal {signal}"),
        End::CpuLimit => format!("uses more than {} s of processor time", limits.cpu.as_secs_f64()),
        End::WallLimit => format!("waits, and is still there after {} s", limits.wall.as_secs_f64()),
        End::OutputLimit => format!("writes or returns more than {} bytes", limits.output_bytes),
    })
}

fn too_much_memory(limits: &Limits) -> String {
    format!("uses more than {} MB of memory", limits.memory_bytes >> 20)
}

fn printed(stdout: &[u8], case: &Streams, tolerance: Option<f64>) -> Option<String> {
    let Ok(found) = str::from_utf8(stdout) else { return Some("prints bytes that are not UTF-8".to_owned()) };
    let difference = compare::printed(found, &case.stdout, tolerance).err()?;
    let line = difference.line;
    Some(match (difference.found, difference.expected) {
        (Some(found), Some(expected)) => {
            format!("prints `{}` on line {line}, not `{}`", shorten(found), shorten(expected))
        }
        (Some(found), None) => format!("prints `{}` on line {line}, where nothing should be", shorten(found)),
        (None, expected) => {
            format!("prints no line {line}, which should be `{}`", shorten(expected.unwrap_or_default()))
        }
    })
}

fn returned(result: &[u8], case: &FunctionCase, tolerance: Option<f64>) -> Option<String> {
    if result.is_empty() {
        return Some("ends before its function returns".to_owned());
    }
    let found = serde_json::from_slice::<&RawValue>(result).map_err(|error| error.to_string());
    match found.and_then(|raw| Ok((raw, Data::read(raw)?))) {
        Ok((_, data)) if data.is(&case.returns, tolerance) => None,
        Ok((raw, _)) => Some(format!("returns `{}`, which is not what is expected", shorten(raw.get()))),
        Err(reason) => Some(format!("returns no plain data ({reason})")),
    }
}
