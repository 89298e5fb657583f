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
    #[error("`{}` is not a run directory: it has neither config.toml nor metrics.jsonl, and no folder in it has; give the path that the run's config calls `run_dir`, a recipe's `run_dir`, or a folder of runs", path.display())]
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
    /// What reads files for an answer ended in a panic.
    #[error("this answer failed; that is a defect of Koan: {source}")]
    Work {
        /// How it ended.
        source: tokio::task::JoinError,
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
    /// There is no run of this name.
    #[error("no run is called `{name}`; /api/runs lists them")]
    NoSuchRun {
        /// The name.
        name: String,
    },
    /// Where a row comes from can't be found out.
    #[error("where this row comes from can't be found out: {why}")]
    Trace {
        /// Why.
        why: String,
    },
    /// Metrics have too many names for a table.
    #[error("the metrics of `{run}` have more than {most} names; ask for some, with `key`")]
    TooManyColumns {
        /// The run.
        run: String,
        /// The most columns of a table.
        most: usize,
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
