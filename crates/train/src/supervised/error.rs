//! What can be wrong with texts and demonstrations.

/// Why texts can't be learned from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisedError {
    /// Nothing says where a text ends.
    #[error(
        "the model's tokenizer_config.json names no eos_token: nothing would say where a text ends; add it"
    )]
    NoEndOfText,
    /// A demonstration's prompt is empty.
    #[error("the prompt of demonstration {number} has no tokens: a first token has nothing to follow")]
    PromptEmpty {
        /// Which, from 1.
        number: usize,
    },
    /// A demonstration is too long.
    #[error("demonstration {number} has {tokens} tokens; max_tokens is {max}")]
    TextTooLong {
        /// Which, from 1.
        number: usize,
        /// Its tokens.
        tokens: usize,
        /// The limit.
        max: usize,
    },
    /// A token that the model has no embedding for.
    #[error(
        "`{files}` gives token {id}, the model knows {vocab_size}; the tokenizer or the file is another model's"
    )]
    NoSuchToken {
        /// The token.
        id: u32,
        /// The model's.
        vocab_size: usize,
        /// The data.
        files: String,
    },
    /// All texts are empty.
    #[error("`{files}` has nothing to learn: its texts are empty")]
    NothingToLearn {
        /// The data.
        files: String,
    },
}
