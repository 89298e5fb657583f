//! What can go wrong with a file: where, at what, and why.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a file or directory could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The operating system refused.
    #[error("cannot {what} `{}`", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory that was to be made is there.
    #[error("`{}` exists and is not an empty directory; choose another, or remove it first", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// A file does not hold what it should.
    #[error("`{}` is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl FilesError {
    /// Makes the error of the system's: that `what` was tried on `path`.
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.into(), source }
    }
}
