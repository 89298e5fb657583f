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
    /// The path is not a run.
    #[error("`{}` is not a run directory: it has neither config.toml nor metrics.jsonl; give the path that the run's config calls `run_dir`", path.display())]
    NotARun {
        /// The path.
        path: PathBuf,
    },
    /// The server can't listen at the address.
    #[error("cannot listen at {host}:{port}; use another --port, or --port 0 for any that is free")]
    Bind {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// No more connections can be accepted.
    #[error("cannot accept connections")]
    Accept {
        /// Why.
        source: std::io::Error,
    },
    /// A query is not valid.
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
