//! What all stages share.

use std::{path::Path, sync::atomic::AtomicBool};

use koan_model::{Config, checkpoint::CheckpointError};

use crate::TrainError;

/// What whoever starts a run decides, apart from its config: none of it changes what the run computes.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Go on from the newest checkpoint of the run directory.
    pub resume: bool,
    /// Threads that judge completions; the backend has its own.
    pub threads: usize,
    /// Once it is set, the run ends after the step that it is in.
    pub stop: &'a AtomicBool,
}

/// Refuses texts of `asked` tokens where the model in directory `dir` reads fewer in one piece: its positions or its window
/// end before.
///
/// # Errors
/// [`CheckpointError::Positions`]
pub(crate) fn check_positions(dir: &Path, model: &Config, asked: usize) -> Result<(), TrainError> {
    let max = model.longest_sequence();
    if asked > max {
        return Err(CheckpointError::Positions { asked, max, path: dir.into() }.into());
    }
    Ok(())
}
