use std::io;

/// Why a model or a data set could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The name is not the name of a repository.
    #[error(
        "`{name}` is not the name of a repository: write OWNER/NAME, as in HuggingFaceTB/SmolLM2-135M-Instruct or openai/gsm8k"
    )]
    Name {
        /// What was asked for.
        name: String,
    },
    /// The revision is not a branch, tag or commit.
    #[error("`{revision}` is not a revision: write a branch, a tag or a commit")]
    Revision {
        /// What was asked for.
        revision: String,
    },
    /// The hub's address is not an address.
    #[error("HF_ENDPOINT is `{endpoint}`; write an address such as https://huggingface.co")]
    Endpoint {
        /// What it is.
        endpoint: String,
    },
    /// The token has characters that can't be sent.
    #[error("HF_TOKEN holds characters that no token has")]
    Token,
    /// The hub asks for a token, or refuses the one it got.
    #[error(
        "`{name}` is private, gated or not there (HTTP {status}): {}",
        if *token { "the token in HF_TOKEN may not read it; ask for access on its page" }
        else { "set HF_TOKEN to a token that may read it" }
    )]
    Forbidden {
        /// The repository.
        name: String,
        /// 401 or 403.
        status: u16,
        /// Whether a token was sent.
        token: bool,
    },
    /// There is no such repository, revision or file.
    #[error("`{what}` is not at {endpoint} (HTTP 404)")]
    NotFound {
        /// What was asked for.
        what: String,
        /// Where.
        endpoint: String,
    },
    /// The hub answered with an error.
    #[error("{url} answered HTTP {status}")]
    Status {
        /// What was asked.
        url: String,
        /// The answer.
        status: u16,
    },
    /// The hub could not be reached, or its answer could not be read.
    #[error("cannot fetch {url}")]
    Fetch {
        /// What was asked.
        url: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The connection broke too often.
    #[error(
        "{url} broke off at byte {at}, {attempts} times in a row; what has arrived is kept: run the same command again to continue"
    )]
    Broken {
        /// What was asked.
        url: String,
        /// How far it got.
        at: u64,
        /// How often it broke at the same place.
        attempts: u32,
        /// Why, the last time.
        source: io::Error,
    },
    /// The hub's description of the repository can't be used.
    #[error("{url} is not a description of a repository: {what}")]
    Description {
        /// What was asked.
        url: String,
        /// What is wrong.
        what: String,
    },
    /// The repository lacks a file that every model has.
    #[error("`{name}` has no {what}: not a model that Koan reads")]
    NotAModel {
        /// The repository.
        name: String,
        /// What it lacks.
        what: &'static str,
    },
    /// The repository has no data that is wanted and read.
    #[error("`{name}` has no data file that Koan reads{wanted}; {remedy}")]
    NoData {
        /// The repository.
        name: String,
        /// What was asked for.
        wanted: String,
        /// Its files, or where others are.
        remedy: String,
    },
    /// A pattern of files that is none.
    #[error("`{pattern}` is no pattern of files: {what}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        what: String,
    },
    /// A file is not what the hub says it is.
    #[error(
        "`{file}` is not as the hub states: its {what} is {found}, not {stated}; it was removed: run the same command again"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Size or SHA-256.
        what: &'static str,
        /// What was fetched.
        found: String,
        /// What was stated.
        stated: String,
    },
    /// There is no token, and a hub writes nothing without one.
    #[error(
        "a push needs a token: set HF_TOKEN to one that may write (on Hugging Face: Settings, Access Tokens)"
    )]
    NoToken,
    /// The token may not write there.
    #[error(
        "the token in HF_TOKEN may not write `{name}` (HTTP {status}): it needs the right to write, and the name must be one of its \
         owner's{}",
        said(message)
    )]
    NotAllowed {
        /// The repository.
        name: String,
        /// 401, 402 or 403.
        status: u16,
        /// What the hub says.
        message: String,
    },
    /// The hub refused what was sent.
    #[error("{url} refused the {what} (HTTP {status}){}", said(message))]
    Refused {
        /// What was asked.
        url: String,
        /// What was sent.
        what: &'static str,
        /// The answer.
        status: u16,
        /// What the hub says.
        message: String,
    },
    /// The hub finds fault with the model card's metadata.
    #[error("the hub does not take the metadata of README.md{}: mend it and push again", said(message))]
    Metadata {
        /// What it says.
        message: String,
    },
    /// The connection broke too often while a file was sent.
    #[error(
        "cannot send `{file}` to {host}, {attempts} times in a row; what has arrived is kept: run the same command again to go on"
    )]
    Send {
        /// The file.
        file: String,
        /// Where it was to go.
        host: String,
        /// How often it was tried.
        attempts: u32,
        /// Why, the last time.
        source: Box<ureq::Error>,
    },
    /// The directory holds no model.
    #[error("`{}` has no {what}: not a model", path.display())]
    NoModel {
        /// The directory.
        path: std::path::PathBuf,
        /// What it lacks.
        what: &'static str,
    },
    /// The answer of the hub makes no sense.
    #[error("{url} answered what is not understood: {what}")]
    Answer {
        /// What was asked.
        url: String,
        /// What is wrong.
        what: String,
    },
    /// A file could not be read or written, or the directory that was to be made is there.
    #[error(transparent)]
    Files(#[from] koan_files::FilesError),
}

/// A hub's message, if there is one.
fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!("; it says: {message}") }
}
