//! What can be wrong with a teacher.

use std::path::PathBuf;

/// Why a student can't learn from a teacher.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DistillError {
    /// Both have a token of one number that is another text.
    #[error(
        "the teacher `{}` has another tokenizer than the model `{}`: {what}. Their distributions are compared token by token, so \
         choose a teacher of the model's family; or set algorithm.method = \"samples\", which works across tokenizers: the \
         student learns the teacher's text in its own tokens", teacher.display(), model.display()
    )]
    OtherTokenizer {
        /// The teacher's directory.
        teacher: PathBuf,
        /// The student's.
        model: PathBuf,
        /// Where they differ.
        what: String,
    },
    /// The data have a token that the teacher does not know.
    #[error("{files} gives token {id}, the teacher knows {vocab_size}")]
    NoSuchToken {
        /// The token.
        id: u32,
        /// The teacher's.
        vocab_size: usize,
        /// The data.
        files: String,
    },
    /// The teacher gives numbers that are not finite.
    #[error("the teacher `{}` gives log-probabilities that are not finite: its weights are damaged", path.display())]
    TeacherNotFinite {
        /// Its directory.
        path: PathBuf,
    },
}
