//! What can go wrong, with the remedy.

use std::path::PathBuf;

/// Why a run can't be shown, or a request can't be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// There is nothing at the path.
    #[error("there is no run at `{}`", path.display())]
    NoRun {
        /// The path.
        path: PathBuf,
    },
    /// The path is something else.
    #[error("`{}` is not a run directory: it has neither config.toml nor metrics.jsonl; give what the run's config calls `run_dir`", path.display())]
    NotARun {
        /// The path.
        path: PathBuf,
    },
    /// The address can't be listened at.
    #[error("cannot listen at {host}:{port}; another --port, or --port 0 for any that is free")]
    Bind {
        /// The host asked for.
        host: String,
        /// The port asked for.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// No connection can be accepted any more.
    #[error("cannot accept connections")]
    Accept {
        /// Why.
        source: std::io::Error,
    },
    /// A query makes no sense.
    #[error("`{key}` is `{value}`: {expected}")]
    Query {
        /// The parameter.
        key: String,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A step has no rollouts.
    #[error("there are no rollouts of step {step}")]
    NoStep {
        /// The step.
        step: u64,
    },
    /// The operating system refused.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl ViewError {
    pub(crate) fn read(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Read { path: path.into(), source }
    }
}
