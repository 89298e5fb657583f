//! Steps that need no verb of the program: rows that are chosen ([`rows`](crate::rows)), a world ([`world`](crate::world)), the votes of its
//! people ([`vote`](crate::vote)), a report ([`report`](crate::report)).

use koan_data::DataError;
use koan_files::FilesError;
use koan_model::checkpoint::CheckpointError;
use koan_train::config::with_nearest_name;
use serde::de::DeserializeOwned;
use toml::Table;

use crate::{Job, Kind, report::Report, rows, rows::RowsError, vote::Vote, world::World};

/// Why such a step can't be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OwnError {
    /// The settings make no sense.
    #[error("{0}")]
    Settings(String),
    /// What it reads is not as it must be.
    #[error("{0}")]
    Inputs(String),
    /// Rows could not be chosen.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// Data could not be read or written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A fresh model could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file could not be read or written.
    #[error(transparent)]
    Files(#[from] FilesError),
}

/// Whether steps of `kind` are such.
pub(crate) fn is_one(kind: Kind) -> bool {
    rows::is_one(kind) || matches!(kind, Kind::World | Kind::Vote | Kind::Report)
}

/// Refuses settings that make no sense.
///
/// # Errors
/// Unknown keys, with the nearest that is known, and values.
pub(crate) fn check(kind: Kind, settings: &Table) -> Result<(), OwnError> {
    match kind {
        Kind::World => read::<World>(settings)?.check(),
        Kind::Vote => read::<Vote>(settings)?.check(),
        Kind::Report => read::<Report>(settings)?.check(),
        _ => Ok(rows::check(kind, settings)?),
    }
}

/// Makes the step.
///
/// # Errors
/// Settings that make no sense, and what can't be read or written.
pub(crate) fn make(job: &Job) -> Result<(), OwnError> {
    match job.kind {
        Kind::World => read::<World>(&job.settings)?.make(&job.dir),
        Kind::Vote => read::<Vote>(&job.settings)?.make(&job.dir),
        Kind::Report => read::<Report>(&job.settings)?.make(&job.dir),
        _ => Ok(rows::make(job.kind, &job.settings, &job.dir)?),
    }
}

/// The settings of a step.
///
/// # Errors
/// Unknown keys, with the nearest that is known, and values.
pub(crate) fn read<T: DeserializeOwned>(settings: &Table) -> Result<T, OwnError> {
    settings
        .clone()
        .try_into()
        .map_err(|e: toml::de::Error| OwnError::Settings(with_nearest_name(&e.to_string(), &[])))
}
