//! What can be wrong with texts and demonstrations.

use koan_model::ConfigError;
use koan_text::TextError;

/// Why texts can't be learned from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisedError {
    /// Nothing says where a text ends.
    #[error(
        "the model's tokenizer_config.json names no eos_token: nothing would say where a text ends; add it"
    )]
    NoEndOfText,
    /// The tokenizer has no tokens for filling in the middle.
    #[error(
        "fill-in-the-middle needs three tokens of the model's tokenizer, and it has no `{token}`: name others, as in fim.tokens = \
         [\"BEFORE THE PREFIX\", \"BEFORE THE SUFFIX\", \"BEFORE THE MIDDLE\"], or set fim.rate = 0"
    )]
    NoFimToken {
        /// The token that it has not.
        token: String,
    },
    /// Middles are to be filled in of what is tokens already.
    #[error(
        "`{files}` gives tokens, and fill-in-the-middle cuts texts between characters: give texts, or set fim.rate = 0"
    )]
    FimOfTokens {
        /// The data.
        files: String,
    },
    /// The context can't be made as long.
    #[error(transparent)]
    Context(#[from] ConfigError),
    /// A demonstration's prompt is empty.
    #[error("the prompt of demonstration {number} has no tokens: a first token has nothing to follow")]
    PromptEmpty {
        /// Which, from 1.
        number: usize,
    },
    /// A demonstration can't be read through the tokenizer and the chat template.
    #[error("demonstration {number}")]
    Row {
        /// Which, from 1.
        number: usize,
        /// Why.
        source: TextError,
    },
    /// The last reply of a demonstration has no thinking, and the prompt opens it.
    #[error(
        "the last reply of demonstration {number} has no thinking, but the model's chat template opens it (`<think>`): the model would never generate this reply. Put the thinking into `reasoning_content` or into `content` before the answer, or change the template"
    )]
    WithoutThinking {
        /// Which, from 1.
        number: usize,
    },
    /// No reply fits.
    #[error("no reply of `{files}` fits into max_tokens = {max} with what comes before it; raise it")]
    AllTooLong {
        /// The data.
        files: String,
        /// The limit.
        max: usize,
    },
    /// A demonstration is too long.
    #[error(
        "demonstration {number} has {tokens} tokens; max_tokens is {max}. Raise it, or set `too_long` to leave-out or truncate"
    )]
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
