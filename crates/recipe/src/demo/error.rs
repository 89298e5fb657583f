//! Everything that can stop the demo.

use std::path::PathBuf;

use koan_data::DataError;
use koan_files::FilesError;
use koan_model::checkpoint::CheckpointError;
use koan_train::TrainError;

/// Why the demo could not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The directory holds a finished demo.
    #[error("`{}` holds a finished demo: look at its report.html, or choose another directory (--run-dir)", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// A name that can't be written into the settings of the demo's runs.
    #[error("`{}` can't be the demo's directory: its name has a quote, a backslash or no UTF-8", path.display())]
    Name {
        /// The directory.
        path: PathBuf,
    },
    /// A stage, or a measurement.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Text or problems could not be written or read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The fresh model could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file of the demo could not be written or read, or is damaged.
    #[error(transparent)]
    Files(#[from] FilesError),
}
