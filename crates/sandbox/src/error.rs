//! Why a program could not be run contained, and what to do about it.

use std::{io, path::PathBuf};

/// Why there is no sandbox, or no longer one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// Another system than Linux.
    #[error("programs can be contained only on Linux; judge code there")]
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
    /// There is no usable interpreter.
    #[error("cannot use the interpreter `{}`: {reason}; install Python 3.9 or newer, or set `python` to the path of one", python.display())]
    Python {
        /// The interpreter.
        python: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The files of the interpreter could not be listed, or something that the sandbox needs could not be made.
    #[error("cannot prepare the sandbox")]
    Prepare(#[from] io::Error),
    /// Landlock or seccomp is missing, or refuses what is asked of it.
    #[error(
        "cannot contain programs: {part}: {reason}. Nothing is run without it; use a kernel of Linux 5.14 or newer that has it enabled"
    )]
    Policy {
        /// Landlock or the system call filter.
        part: &'static str,
        /// Its message.
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
    /// The self-test could do something that is forbidden.
    #[error("the sandbox does not hold: a program in it can {}. Nothing is run in it", breaches.join("; "))]
    Breach {
        /// What the self-test could do and should not.
        breaches: Vec<String>,
    },
    /// A running sandbox was lost; the program in it was not judged.
    #[error("the sandbox was lost: {reason}")]
    Lost {
        /// What is known of it.
        reason: String,
    },
}

impl SandboxError {
    #[cfg(target_os = "linux")]
    pub(crate) fn policy(part: &'static str, reason: impl ToString) -> Self {
        Self::Policy { part, reason: reason.to_string() }
    }
}
