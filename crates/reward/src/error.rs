//! What can go wrong outside model text. Model text itself never makes an error, only a verdict.

use koan_data::{DataError, rows::Place};
use koan_files::jsonl::{self, MAX_LINE_BYTES};
use std::io;

/// Why a verifier could not be found, or a file of completions could not be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RewardError {
    /// A name that no verifier has.
    #[error("there is no verifier `{name}`; use one of: {}", known.join(", "))]
    UnknownVerifier {
        /// The name asked for.
        name: String,
        /// The known names, the nearest first.
        known: Vec<&'static str>,
    },
    /// An option does not exist, or can't have its value.
    #[error("reward `{kind}`: {reason}")]
    Options {
        /// The verifier.
        kind: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Two rewards have the same name.
    #[error("two rewards are called `{name}`; give one of them a `name` of its own")]
    SameName {
        /// The name.
        name: String,
    },
    /// No reward at all.
    #[error("there is no reward; write at least one [[reward]]")]
    NoRewards,
    /// A problem names a reward that does not exist.
    #[error("`reward` of problem `{id}`: {source}")]
    Problem {
        /// The problem.
        id: String,
        /// What is wrong with the name.
        source: Box<RewardError>,
    },
    /// No problem can be judged.
    #[error(
        "the references of all {problems} problems are bad; of problem `{}`: {}; is this the reward for them?",
        first.id, first.reason
    )]
    AllBad {
        /// How many there are.
        problems: usize,
        /// The first.
        first: crate::BadReference,
    },
    /// The input could not be read.
    #[error(transparent)]
    Data(#[from] Box<DataError>),
    /// The output could not be written.
    #[error("cannot write the verdicts of {file}")]
    Write {
        /// The input's name.
        file: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The replay was asked to stop.
    #[error("stopped")]
    Stopped,
    /// The threads that judge could not be started.
    #[error("cannot start threads: {reason}")]
    Threads {
        /// The system's reason.
        reason: String,
    },
    /// A line of the input is not a completion to judge.
    #[error("{place}: {reason}")]
    Line {
        /// The file, and the row in it.
        place: Place,
        /// What is wrong with it.
        reason: LineError,
    },
}

/// What is wrong with a line of completions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("longer than {MAX_LINE_BYTES} bytes; split the file or shorten the completion")]
    TooLong,
    /// Not a JSON object.
    #[error("not a JSON object ({message}, column {column}); write one object per line")]
    Json {
        /// The parser's message.
        message: String,
        /// The column, from 1.
        column: usize,
    },
    /// A field is absent.
    #[error("has no `{field}`; every line needs `answer` and `completion`")]
    Missing {
        /// The field's name.
        field: &'static str,
    },
    /// No completion can be judged by what the line has for a reference.
    #[error("can't be judged: {0}")]
    Reference(String),
    /// A model that judges could not be asked.
    #[error("{0}")]
    Models(String),
    /// One completion and a list of them.
    #[error("has both `completion` and `completions`; remove one of them")]
    TwoCompletions,
    /// A field is of the wrong type.
    #[error("`{field}` is {found}; write {expected}")]
    Type {
        /// The field's name.
        field: &'static str,
        /// The value, shortened.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// `reward` names no verifier.
    #[error("`reward`: {0}")]
    Verifier(Box<RewardError>),
}

impl From<jsonl::LineError> for LineError {
    fn from(error: jsonl::LineError) -> Self {
        match error {
            jsonl::LineError::TooLong => Self::TooLong,
            jsonl::LineError::Json { message, column } => Self::Json { message, column },
        }
    }
}
