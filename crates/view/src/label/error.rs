//! What can go wrong with labelling, with the remedy.

use std::{io, path::PathBuf};

use koan_data::DataError;
use koan_files::FilesError;

/// Why answers can't be labelled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// The rows.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file that can't be written.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Nothing can be made of the rows.
    #[error("`{file}` gives nothing to label: {why}")]
    Nothing {
        /// The rows.
        file: String,
        /// What they are.
        why: String,
    },
    /// More text than is held.
    #[error("the answers to label are more than {} MiB of text; split the file", limit >> 20)]
    TooLarge {
        /// The most bytes.
        limit: usize,
    },
    /// The file to write has no name.
    #[error("`{}` names no file; give one, such as prefs.jsonl", out.display())]
    NoFile {
        /// What was given.
        out: PathBuf,
    },
    /// The file to write is the one to read.
    #[error("`{}` is both what is labelled and --out: give another --out", out.display())]
    Itself {
        /// The file.
        out: PathBuf,
    },
    /// The file to write is there, and no votes are.
    #[error("`{}` exists and was not made of votes (there is no `{}`): give another --out, or move it away", out.display(), votes.display())]
    NotOurs {
        /// The file.
        out: PathBuf,
        /// Where its votes would be.
        votes: PathBuf,
    },
    /// No votes yet.
    #[error("there are no votes at `{}` yet; `koan label` without this option collects them", path.display())]
    NoVotes {
        /// Where they would be.
        path: PathBuf,
    },
    /// The votes were begun otherwise.
    #[error("`{}` was begun with another {name} ({was}): leave the option out to go on, or begin with another --out", path.display())]
    OtherSettings {
        /// The votes.
        path: PathBuf,
        /// The option.
        name: &'static str,
        /// Its value then.
        was: String,
    },
    /// Another process has the votes.
    #[error("`{}` is open in another `koan label`: use its page (people may share one), or end it first", path.display())]
    Busy {
        /// The votes.
        path: PathBuf,
    },
    /// A line that is no vote.
    #[error("{}:{line}: {reason}; mend or remove that line: each line is one vote, and all others are kept", path.display())]
    Damaged {
        /// The votes.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot {what} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
