//! Everything that can stop a run, with the place and the remedy; each kind of error lies with its concern.

use koan_backend::OutOfMemory;
use koan_data::DataError;
use koan_files::FilesError;
use koan_generate::RequestError;
use koan_infer::InferError;
use koan_model::checkpoint::CheckpointError;
use koan_reward::RewardError;
use koan_text::TextError;

use crate::gradient::PassError;
use crate::{
    comm::CommError,
    config::ConfigError,
    distill::DistillError,
    optim::{Diverged, NotFinite},
    prefer::PreferError,
    reject::RejectError,
    rl::RlError,
    stage::StageError,
    supervised::SupervisedError,
};

/// Why a run could not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
#[non_exhaustive]
pub enum TrainError {
    /// The config was refused.
    Config(#[from] ConfigError),
    /// The run directory, its checkpoints, or the room for them.
    Stage(#[from] StageError),
    /// Problems or rewards.
    Rl(#[from] RlError),
    /// Texts or demonstrations.
    Supervised(#[from] SupervisedError),
    /// Preferences.
    Prefer(#[from] PreferError),
    /// Rejection sampling.
    Reject(#[from] RejectError),
    /// A teacher.
    Distill(#[from] DistillError),
    /// A number is not finite.
    NotFinite(#[from] NotFinite),
    /// Another rank has ended, or ranks can't make a run together.
    Ranks(#[from] CommError),
    /// A step can't be made: the model is lost.
    Diverged(#[from] Diverged),
    /// A completion could not be asked for.
    Request(#[from] RequestError),
    /// The device refused memory.
    OutOfMemory(#[from] OutOfMemory),
    /// A file could not be read or written.
    Files(#[from] FilesError),
    /// The model could not be loaded or saved.
    Checkpoint(#[from] CheckpointError),
    /// The tokenizer or its template was refused.
    Text(#[from] TextError),
    /// The data were refused.
    Data(#[from] DataError),
    /// A reward or its options were refused.
    Reward(#[from] RewardError),
    /// Models that judge could not be asked.
    Judges(#[from] koan_reward::ModelsError),
    /// The model's text could not be read or written, or a held-out measurement not be made.
    Infer(#[from] InferError),
}

impl From<PassError> for TrainError {
    fn from(error: PassError) -> Self {
        match error {
            PassError::OutOfMemory(error) => error.into(),
            PassError::Ranks(error) => error.into(),
        }
    }
}

impl TrainError {
    /// An error of step `step`: with what to do, if numbers are not finite.
    pub(crate) fn in_step(self, step: u64) -> Self {
        match self {
            Self::NotFinite(source) => Diverged { step, source }.into(),
            other => other,
        }
    }
}
