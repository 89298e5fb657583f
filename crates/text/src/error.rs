//! What can go wrong with text.

use std::io;
use std::path::PathBuf;

/// Why text could not be turned into tokens, or back, or into a prompt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file of the tokenizer cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such directory.
    #[error("there is no model at `{}`", dir.display())]
    NoModel {
        /// Where it should be.
        dir: PathBuf,
    },
    /// A model directory has no tokenizer.
    #[error("`{}` has no tokenizer.json, which text needs; copy it from where the model is from", dir.display())]
    NoTokenizer {
        /// The directory.
        dir: PathBuf,
    },
    /// A file is larger than any real tokenizer's.
    #[error("`{}` is larger than {limit} bytes, the most that is accepted", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A text file is not UTF-8.
    #[error("`{}` is not UTF-8", path.display())]
    Utf8 {
        /// The file.
        path: PathBuf,
        /// Where.
        source: std::string::FromUtf8Error,
    },
    /// A file is not valid JSON of its kind.
    #[error("`{}` is not valid", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// `tokenizer.json` is not a tokenizer.
    #[error("`{}` is not a tokenizer that can be read", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why.
        source: tokenizers::Error,
    },
    /// `tokenizer_config.json` gives a role to a token that `tokenizer.json` lacks.
    #[error("`{}` has {role} `{token}`, which tokenizer.json lacks; correct one of them", path.display())]
    UnknownToken {
        /// `tokenizer_config.json`.
        path: PathBuf,
        /// The key, such as `eos_token`.
        role: &'static str,
        /// The token.
        token: String,
    },
    /// The tokenizer has tokens for which the model has no embedding.
    #[error("the tokenizer of `{}` has {tokens} tokens, but the model has {vocab_size} (vocab_size in config.json): it is of another model", path.display())]
    TooManyTokens {
        /// The tokenizer's directory.
        path: PathBuf,
        /// One more than its largest token.
        tokens: usize,
        /// The model's.
        vocab_size: usize,
    },
    /// The rules of a tokenizer make a text many times longer.
    #[error("`{}` has rules (`Replace`, `Prepend`) in its {part} that can make a text {factor} times longer; {limit} is the most that is accepted", path.display())]
    TokenizerGrowth {
        /// `tokenizer.json`.
        path: PathBuf,
        /// `normalizer` or another part of the file.
        part: &'static str,
        /// How much longer.
        factor: usize,
        /// The limit.
        limit: usize,
    },
    /// A text is too long to be encoded in one piece.
    #[error("a text of {n_bytes} bytes is too long: {limit} is the most that is tokenized in one piece")]
    TextTooLong {
        /// Its length.
        n_bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// There are several chat templates, and none is for the conversation.
    #[error("the model of `{}` has several chat templates ({names}) and none called `default`: save the one to use as chat_template.jinja in that directory", dir.display())]
    NoDefaultTemplate {
        /// The model's directory.
        dir: PathBuf,
        /// Their names.
        names: String,
    },
    /// The chat template leaves out a part of the conversation.
    #[error(
        "the chat template leaves out {what}, which the model would never see; remove it, or use a model whose template writes it"
    )]
    LeftOut {
        /// The part.
        what: String,
    },
    /// A conversation has what only a chat template can write.
    #[error("{what} can't be written without a chat template; the model has none, or it is not used")]
    NeedsTemplate {
        /// The part.
        what: String,
    },
    /// The chat template has no place for thinking.
    #[error(
        "the chat template has no place for the thinking of message {number}, or its prompt says that there is none; remove it, or put it into `content` as the model is to write it"
    )]
    NoThinking {
        /// Which message, from 1.
        number: usize,
    },
    /// Nothing says where a reply ends.
    #[error(
        "neither the chat template nor tokenizer_config.json (`eos_token`) says which token ends a reply; name it there"
    )]
    NoEndOfTurn,
    /// A field of a row for the chat template is of another type.
    #[error("`{field}` is not {expected}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The tokenizer failed on a text.
    #[error("cannot encode a text of {n_bytes} bytes")]
    Encode {
        /// The length of the text.
        n_bytes: usize,
        /// Why.
        source: tokenizers::Error,
    },
    /// The tokenizer failed on token ids.
    #[error("cannot decode {n_tokens} tokens")]
    Decode {
        /// The number of tokens.
        n_tokens: usize,
        /// Why.
        source: tokenizers::Error,
    },
    /// The chat template is not valid Jinja.
    #[error("the chat template is invalid")]
    Template {
        /// Where and why.
        source: minijinja::Error,
    },
    /// The chat template refused the messages, or failed on them.
    #[error("the chat template failed on {n_messages} messages")]
    Render {
        /// The number of messages.
        n_messages: usize,
        /// Where and why.
        source: minijinja::Error,
    },
    /// The chat template does more work than any real one.
    #[error(
        "the chat template does not end on {n_messages} messages: its loops and the text they make are more than {limit} steps, the most that is allowed"
    )]
    TemplateWork {
        /// The number of messages.
        n_messages: usize,
        /// The limit.
        limit: u64,
    },
    /// A prompt template is not valid Jinja.
    #[error("the prompt template is invalid")]
    RowTemplate {
        /// Where and why.
        source: minijinja::Error,
    },
    /// A prompt template reads a field that a row does not have.
    #[error("`{field}` is not in the row, which has: {fields}")]
    NoField {
        /// The field.
        field: String,
        /// Those that there are.
        fields: String,
    },
    /// A prompt template failed on a row.
    #[error("the prompt template failed")]
    RowRender {
        /// Where and why.
        source: minijinja::Error,
    },
    /// A prompt template does not end.
    #[error(
        "the prompt template does not end: its loops and the text they make are more than {limit} steps, the most that is allowed"
    )]
    RowTemplateWork {
        /// The limit.
        limit: u64,
    },
}
