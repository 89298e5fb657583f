//! What can be wrong with a run's directory, and with the room that a run needs.

use std::path::{Path, PathBuf};

use koan_data::DataError;
use koan_files::FilesError;
use koan_model::{checkpoint::CheckpointError, safetensors_file::FileError};

use super::config::Changed;
use crate::optim::Diverged;

/// Why a run's directory could not be opened, written or gone on with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// Another process has the run directory.
    #[error("another process is running `{}`: wait for its end, or choose another run_dir", path.display())]
    RunInUse {
        /// The run directory.
        path: PathBuf,
    },
    /// The run directory holds a run already.
    #[error("`{}` holds a run already: go on with it (--resume), or choose another run_dir", path.display())]
    RunExists {
        /// The run directory.
        path: PathBuf,
    },
    /// There is no checkpoint to go on from.
    #[error("nothing to resume: no checkpoint in `{}`", path.display())]
    NoCheckpoint {
        /// The run directory.
        path: PathBuf,
    },
    /// The run's checkpoints are gone.
    #[error(
        "`{}` can't be resumed: it has made {made} steps, and none of its checkpoints is left; put the newest one back as `{}`, a \
         directory with trainer.json, optimizer.safetensors and model.safetensors, or start a new run in another run_dir, which \
         may begin with this one's weights (`model = \"…\"`)",
        path.display(),
        path.join(format!("checkpoints/step-{last:06}")).display()
    )]
    LostCheckpoints {
        /// The run directory.
        path: PathBuf,
        /// Steps that its metrics know of.
        made: u64,
        /// The step of a checkpoint that was there.
        last: u64,
    },
    /// The run is longer already.
    #[error(
        "`{}` has made {made} steps already, and `steps` is {steps}: raise it to go on, or use another run_dir; nothing was changed",
        path.display()
    )]
    StepsMade {
        /// The run directory.
        path: PathBuf,
        /// Steps made.
        made: u64,
        /// What the config asks for.
        steps: u64,
    },
    /// A run can't go on with another config.
    #[error("`{}` was started with another config: {changed}; a run goes on as it began{remedy}", path.display())]
    ConfigChanged {
        /// The run directory.
        path: PathBuf,
        /// The keys that differ, with their values.
        changed: String,
        /// What else can be done.
        remedy: &'static str,
    },
    /// A run can't go on with other inputs.
    #[error("`{}` was started from other inputs: the {role} changed since", path.display())]
    InputsChanged {
        /// The checkpoint.
        path: PathBuf,
        /// What changed.
        role: String,
    },
    /// The newest checkpoint is damaged.
    #[error(
        "the newest checkpoint is damaged; {}",
        match older {
            Some(step) => format!("remove `{}`, and --resume goes on from step {step}, the one before it", checkpoint.display()),
            None => format!("there is no older one than `{}`: start a new run, in another run_dir", checkpoint.display()),
        }
    )]
    DamagedCheckpoint {
        /// Its directory.
        checkpoint: PathBuf,
        /// The step of the one before it, if there is one.
        older: Option<u64>,
        /// Which file, and how.
        source: FilesError,
    },
    /// The model's experts can't be balanced as the config says.
    #[error("the experts of `{}`: {what}", path.display())]
    Experts {
        /// What is wrong.
        what: &'static str,
        /// The model.
        path: PathBuf,
    },
    /// The largest step would not fit in memory.
    #[error(transparent)]
    Memory(#[from] koan_backend::DoesNotFit),
    /// The checkpoints would not fit on the disk.
    #[error("checkpoints need {needed_gib:.1} GiB at `{}`, {available_gib:.1} are free; lower checkpoints_kept or choose another run_dir", path.display())]
    Disk {
        /// Needed, GiB.
        needed_gib: f64,
        /// Free, GiB.
        available_gib: f64,
        /// The run directory.
        path: PathBuf,
    },
    /// Ranks can't make the run together.
    #[error(transparent)]
    Ranks(#[from] crate::comm::CommError),
    /// The model could not be loaded or saved.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A tensor file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The device refused memory.
    #[error(transparent)]
    OutOfMemory(#[from] koan_backend::OutOfMemory),
    /// The model is lost: there is nothing to save.
    #[error(transparent)]
    Diverged(#[from] Diverged),
    /// A file or directory could not be read or written, or is damaged.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A file of data could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
}

impl StageError {
    /// The run in `path` can't go on with what `changed`.
    pub(super) fn config_changed(path: &Path, changed: &[Changed]) -> Self {
        let length = ["steps", "epochs"];
        let is_longer = changed.iter().all(|changed| length.contains(&&*changed.key));
        let remedy = if is_longer {
            ". The learning rate falls over the whole run (optim.schedule is not constant), so every step depends on how many there \
             are: with another number, the steps made so far would have been others. To train on, begin a new run in another run_dir, \
             with model/ or a checkpoint of this one as its model; a run whose schedule is constant may be made longer"
        } else {
            ". Give these keys their first values, or begin a new run in another run_dir; with model/ or a checkpoint of this one \
             as its model it trains on"
        };
        let changed: Vec<String> = changed.iter().map(Changed::to_string).collect();
        Self::ConfigChanged { path: path.into(), changed: changed.join(", "), remedy }
    }
}
