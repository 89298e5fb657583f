//! Python programs that nobody trusts, run so that they can do nothing but compute.
//!
//! A [`Sandbox`] is an interpreter in namespaces of its own, with an empty network, a read-only tree that holds
//! the standard library alone, no capabilities, and lists of the files (Landlock) and system calls (seccomp) that
//! it may use. It is made by this program, without privileges and without helpers, and it is made whole or not at
//! all: where the kernel can't give a part of it, there is an error that says which. `docs/sandbox.md` tells what
//! it withstands, and what not.
//!
//! | file | holds |
//! |---|---|
//! | `interpreter.rs`, `probe.py` | which Python, and the files that it needs |
//! | `root.rs` | the tree of files that a contained program sees |
//! | `policy.rs` | the system calls and files that it may use |
//! | `child.rs` | the way from `clone` to the contained interpreter: the only unsafe code of this crate |
//! | `zygote.py` | the contained interpreter, which forks once for every program |
//! | `process.rs` | the host's side: start a sandbox, give it programs, see how they end |
//! | `selftest.rs`, `selftest.py` | the proof, from inside, that containment holds |

use std::io;
use std::path::PathBuf;

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the child between clone and execve has nothing but system calls")]
mod child;
#[cfg(target_os = "linux")]
mod interpreter;
#[cfg(target_os = "linux")]
mod policy;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod root;
#[cfg(target_os = "linux")]
mod selftest;

#[cfg(target_os = "linux")]
pub use interpreter::Interpreter;
#[cfg(target_os = "linux")]
pub use process::{Call, End, Ended, Launcher, Limits, Program, Sandbox};

/// Why there is no sandbox, or no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// Another system than Linux.
    #[error("programs can be contained on Linux alone; judge code there")]
    NotLinux,
    /// An option is out of range.
    #[error("`{option}` is {value}; it must be {range}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        range: String,
    },
    /// No interpreter that can be used.
    #[error("cannot use the interpreter `{}`: {reason}; install Python 3.9 or newer, or set `python` to the path of one", python.display())]
    Python {
        /// The interpreter asked.
        python: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The files of the interpreter could not be listed, or what the sandbox needs not be made.
    #[error("cannot prepare the sandbox")]
    Prepare(#[from] io::Error),
    /// Landlock or seccomp is missing, or refuses what is asked of it.
    #[error(
        "cannot contain programs: {part}: {reason}. Nothing is run without it; use a kernel of Linux 5.14 or newer that has it enabled"
    )]
    Policy {
        /// Landlock or the system call filter.
        part: &'static str,
        /// Its words.
        reason: String,
    },
    /// The kernel does not let this program contain others.
    #[error(
        "cannot contain programs: the kernel refuses to {step}. Nothing is run without it; allow unprivileged \
         user namespaces (Ubuntu: an AppArmor profile, or `sysctl kernel.apparmor_restrict_unprivileged_userns=0`; \
         Docker: `--security-opt seccomp=unconfined`; Debian: `sysctl kernel.unprivileged_userns_clone=1`)"
    )]
    Refused {
        /// What it refuses.
        step: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The interpreter did not start in the sandbox.
    #[error("the interpreter does not start in the sandbox: {words}")]
    Start {
        /// Its last words.
        words: String,
    },
    /// The self-test got out.
    #[error("the sandbox does not hold: a program in it can {}. Nothing is run in it", breaches.join("; "))]
    Breach {
        /// What the self-test could do and should not.
        breaches: Vec<String>,
    },
    /// A running sandbox was lost. The program in it was not judged.
    #[error("the sandbox was lost: {reason}")]
    Lost {
        /// What is known of it.
        reason: String,
    },
}

impl SandboxError {
    #[cfg(target_os = "linux")]
    fn policy(part: &'static str, reason: impl ToString) -> Self {
        Self::Policy { part, reason: reason.to_string() }
    }
}
