//! What can go wrong while mining: where, at what, and what to do.

use std::{
    io,
    path::{Path, PathBuf},
};

use koan_files::FilesError;

/// Why mining stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MineError {
    /// The config can't be read or is not one.
    #[error("`{}`: {what}", path.display())]
    Config {
        /// The config.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// A setting has a value that it can't have.
    #[error("`{key}`: {what}")]
    Setting {
        /// The setting, as in `near.bands`.
        key: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// No file to read.
    #[error("`{pattern}`: {what}")]
    NoInput {
        /// The file, pattern or list as the config has it.
        pattern: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// A file of a kind that is not read.
    #[error("`{}` is {what}; {remedy}", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The operating system refused to read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What a stage needs is not there, or not as its manifest says.
    #[error("{what}")]
    Stage {
        /// What is wrong, and what to do.
        what: String,
    },
    /// A file is read, and does not hold what it should.
    #[error("`{}` {what}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// A data file can't be read, or a row of it.
    #[error(transparent)]
    Data(#[from] koan_data::DataError),
    /// A file could not be written, or is damaged.
    #[error(transparent)]
    Files(#[from] FilesError),
}

impl MineError {
    /// Makes the error of the system's: that `path` can't be read.
    pub fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Read { path: path.into(), source }
    }
}
