//! The verifier `code`: a Python program is judged by tests, in a [sandbox](koan_sandbox).
//!
//! The program is the completion's last fenced `python` block, after the thinking. Every test runs it from its
//! start, in a process of its own: a test of streams gives it standard input and compares what it prints; a test
//! of calls calls one of its functions and compares what that returns; an assert is run apart from the program, and has
//! its calls made there (`asserts.rs`). What is expected never enters the program's process, so a program can only
//! be right by computing it. Tests stop at the
//! first that fails.
//!
//! | outcome | when |
//! |---|---|
//! | correct | it passes all tests, and ends each with status 0 |
//! | wrong | a test fails: other output, an exception, another status, too much time, memory or output |
//! | unparsable | there is no program |
//! | undecided | the sandbox was lost twice in one test: this is not punished |
//!
//! [`Tests::parse`] finds bad references before a program is run. Limits are first of all on CPU time, so that a
//! verdict does not depend on how busy the machine is; hashes and the random module start from fixed seeds.

#[cfg(target_os = "linux")]
mod asserts;
#[cfg(target_os = "linux")]
mod block;
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "nothing is judged elsewhere"))]
mod compare;
#[cfg(target_os = "linux")]
mod judge;
mod problem;

#[cfg(target_os = "linux")]
pub use judge::Judge;
pub use problem::{MAX_MEMORY_LIMIT_MB, MAX_TESTS, MAX_TIME_LIMIT_S, MIN_MEMORY_LIMIT_MB, Tests};

use crate::verifier::{Configured, Context, Sample, Verifier};
use crate::{Outcome, Problem, Verdict};
use serde::{Deserialize, Serialize};
use std::{error::Error, path::PathBuf};

/// How programs are run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The interpreter; none: `python3` on the `PATH`.
    pub python: Option<PathBuf>,
    /// CPU time for each test, if the problem does not say. A program that waits instead of computing
    /// has three times this and two seconds more of wall-clock time.
    pub time_limit_s: f64,
    /// Memory for each test, including the interpreter's, if the problem does not say.
    pub memory_limit_mb: u64,
    /// The most bytes that a program may print, or return, in one test.
    pub output_limit_bytes: u64,
    /// The most threads that a program may start. It can't start processes.
    pub threads: u32,
    /// How many programs run at once; none: as many as there are processors.
    pub sandboxes: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            python: None,
            time_limit_s: 6.0,
            memory_limit_mb: 512,
            output_limit_bytes: 1 << 20,
            threads: 16,
            sandboxes: None,
        }
    }
}

impl Configured for Judge {
    type Options = Options;

    fn build(options: Options, _: &Context) -> Result<Self, String> {
        Self::new(&options).map_err(|error| match error.source() {
            Some(cause) => format!("{error} ({cause})"),
            None => error.to_string(),
        })
    }
}

impl Verifier for Judge {
    fn judge(&self, sample: &Sample) -> Verdict {
        match Tests::parse(&sample.problem.other) {
            Ok(tests) => self.judge(sample.completion, &tests),
            Err(reason) => Verdict::without_answer(Outcome::BadReference, reason),
        }
    }

    fn check(&self, problem: &Problem) -> Result<(), String> {
        self.check_tests(&Tests::parse(&problem.other)?)
    }
}

/// Judges programs by tests, on Linux: elsewhere there is none.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub enum Judge {}

#[cfg(not(target_os = "linux"))]
impl Judge {
    /// Refuses.
    ///
    /// # Errors
    /// [`SandboxError::NotLinux`](koan_sandbox::SandboxError::NotLinux), always.
    pub fn new(_options: &Options) -> Result<Self, koan_sandbox::SandboxError> {
        Err(koan_sandbox::SandboxError::NotLinux)
    }

    /// Never called: there is no judge.
    ///
    /// # Errors
    /// None.
    pub fn check_tests(&self, _tests: &Tests) -> Result<(), String> {
        match *self {}
    }

    /// Never called: there is no judge.
    pub fn judge(&self, _completion: &str, _tests: &Tests) -> Verdict {
        match *self {}
    }
}
