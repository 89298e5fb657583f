//! What can go wrong with data: where it did, and what to do about it.

use crate::rows::Place;
use koan_files::jsonl::{self, MAX_LINE_BYTES};
use std::{io, path::PathBuf};

/// Why data could not be read, written or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file could not be written; what it held before is unchanged.
    #[error(transparent)]
    Write(#[from] koan_files::FilesError),
    /// A row of a file is not what it should be.
    #[error("{place}: {reason}")]
    Line {
        /// The file, and the row in it.
        place: Place,
        /// What is wrong with it.
        reason: LineError,
    },
    /// A file without rows.
    #[error("{} is empty: it has no lines; write one JSON object per line", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A file is cut or damaged.
    #[error("{}, after {read} rows: {what}; fetch or write the file again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The rows that were read before.
        read: usize,
        /// What is wrong.
        what: String,
    },
    /// A file of a format that is not read.
    #[error("{} is {what}; {remedy}", path.display())]
    Unread {
        /// The file.
        path: PathBuf,
        /// Its format.
        what: &'static str,
        /// What to do.
        remedy: String,
    },
    /// A pattern of file names that matches none, or is none.
    #[error("`{pattern}`: {what}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        what: String,
    },
    /// A file that is named twice.
    #[error("{} is named twice; name it once", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
    },
    /// An empty list of files.
    #[error("no file is named; name at least one")]
    NoFiles,
    /// A format that cannot be imported.
    #[error("format `{format}`: use gsm8k")]
    Format {
        /// The format asked for.
        format: String,
    },
    /// Levels that do not exist or are not written as a list.
    #[error("levels `{levels}`: use numbers from 1 to {n_levels}, such as `1-3,6`, each once")]
    Levels {
        /// The levels asked for.
        levels: String,
        /// How many levels there are.
        n_levels: usize,
    },
    /// A split that does not exist.
    #[error("split `{split}`: use train, test or all")]
    Split {
        /// The split asked for.
        split: String,
    },
    /// A phrasing that would lose the expression.
    #[error("phrasing `{phrasing}` has no {}; say where the expression goes", crate::arithmetic::SLOT)]
    Phrasing {
        /// The phrasing asked for.
        phrasing: String,
    },
    /// More problems than a level has.
    #[error(
        "level {level} gives only {available} problems for split `{split}`, and {wanted} were asked for; \
         make fewer problems or add levels"
    )]
    Exhausted {
        /// The level.
        level: usize,
        /// The split.
        split: crate::Split,
        /// How many problems were found.
        available: usize,
        /// How many were asked for.
        wanted: usize,
    },
}

/// What is wrong with a line of problems.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("longer than {MAX_LINE_BYTES} bytes; is this JSON Lines, one object per line?")]
    TooLong,
    /// Not a problem in JSON.
    #[error(
        "not a problem: {message}, column {column}; write an object with `prompt` or `messages`, and `answer`"
    )]
    Json {
        /// The parser's message.
        message: String,
        /// The column, from 1.
        column: usize,
    },
    /// Not the JSON of a text or a demonstration.
    #[error("{message}, column {column}; write an object with {expected}")]
    Object {
        /// The parser's message.
        message: String,
        /// The column, from 1.
        column: usize,
        /// The fields it should have.
        expected: &'static str,
    },
    /// A field that is of another type than it should be.
    #[error("{what}")]
    FieldType {
        /// The field, what it is, and what to do.
        what: String,
    },
    /// Not an object.
    #[error("no JSON object: the row is {found}; write an object with named fields")]
    NoObject {
        /// What it is.
        found: String,
    },
    /// An object with other fields.
    #[error("expected an object with {expected}; `koan data convert` makes them of published data sets")]
    Fields {
        /// The fields it should have.
        expected: &'static str,
    },
    /// Not a line of GSM8K's own files.
    #[error("not a line of GSM8K: {what}; a line has `question`, and `answer` that ends in `#### NUMBER`")]
    NotGsm8k {
        /// What is wrong.
        what: String,
    },
    /// A row that shows no answer, or not in a shape that is known.
    #[error("{what}")]
    Row {
        /// What is wrong.
        what: String,
    },
    /// It asks nothing.
    #[error("has neither `prompt` nor `messages`; add one of them, or use `koan data convert`")]
    NoPrompt,
    /// It asks two things.
    #[error("has both `prompt` and `messages`; remove one of them")]
    TwoPrompts,
    /// An identifier that an earlier line has.
    #[error("has the id `{id}` of {first}; make ids unique, or leave them out")]
    DuplicateId {
        /// The identifier.
        id: String,
        /// The earlier line.
        first: String,
    },
}

impl From<jsonl::LineError> for LineError {
    fn from(error: jsonl::LineError) -> Self {
        match error {
            jsonl::LineError::TooLong => Self::TooLong,
            jsonl::LineError::Json { message, column } => Self::Json { message, column },
        }
    }
}

impl LineError {
    /// The same error, for a line that is not a problem but an object with the fields `expected`.
    pub(crate) fn expecting(self, expected: &'static str) -> Self {
        match self {
            Self::Json { message, column } => Self::Object { message, column, expected },
            other => other,
        }
    }
}
