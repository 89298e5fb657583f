//! Everything that can stop a run, with the place and the remedy.

use std::path::PathBuf;

/// Why a run could not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The config file could not be read.
    #[error("cannot read `{}`", path.display())]
    ReadConfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The config does not parse.
    #[error("in `{}`: {message}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and key.
        message: String,
    },
    /// A value makes no sense.
    #[error("`{key}` is {value}: {expected}")]
    Value {
        /// The key, with its table.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The model could not be loaded or saved.
    #[error(transparent)]
    Checkpoint(#[from] koan_model::checkpoint::CheckpointError),
    /// A tensor file could not be read or written.
    #[error(transparent)]
    File(#[from] koan_model::safetensors_file::FileError),
    /// A file or directory of the run could not be read or written, or a checkpoint is damaged.
    #[error(transparent)]
    Files(#[from] koan_files::FilesError),
    /// The tokenizer or its template was refused.
    #[error(transparent)]
    Text(#[from] koan_text::TextError),
    /// The problems were refused.
    #[error(transparent)]
    Data(#[from] koan_data::DataError),
    /// A reward or its options were refused.
    #[error(transparent)]
    Reward(#[from] koan_reward::RewardError),
    /// A held-out measurement could not be made.
    #[error(transparent)]
    Eval(#[from] koan_eval::EvalError),
    /// A completion could not be asked for.
    #[error(transparent)]
    Request(#[from] koan_generate::RequestError),
    /// The device refused memory.
    #[error(transparent)]
    OutOfMemory(#[from] koan_backend::OutOfMemory),
    /// A problem's prompt is longer than the run allows for.
    #[error("the prompt of problem `{id}` has {tokens} tokens; rollout.max_prompt_tokens is {max}")]
    PromptTooLong {
        /// The problem.
        id: String,
        /// Its prompt's tokens.
        tokens: usize,
        /// The limit.
        max: usize,
    },
    /// A problem's prompt is empty.
    #[error("the prompt of problem `{id}` has no tokens: a first token has nothing to follow")]
    PromptEmpty {
        /// The problem.
        id: String,
    },
    /// The worst step would not fit in memory.
    #[error(
        "the worst step needs {needed_gib:.1} GiB of memory, {available_gib:.1} are free: {breakdown}; lower rollout.sequences, optim.micro_batch_tokens or rollout.max_new_tokens"
    )]
    Memory {
        /// Planned, GiB.
        needed_gib: f64,
        /// Free, GiB.
        available_gib: f64,
        /// What takes how much.
        breakdown: String,
    },
    /// The longest pass of learning by imitation would not fit in memory.
    #[error(
        "a step needs {needed_gib:.1} GiB of memory, {available_gib:.1} are free: {breakdown}; lower optim.micro_batch_tokens or max_tokens, or set optim.recompute"
    )]
    PassMemory {
        /// Planned, GiB.
        needed_gib: f64,
        /// Free, GiB.
        available_gib: f64,
        /// What takes how much.
        breakdown: String,
    },
    /// Nothing says where a text ends.
    #[error(
        "the model's tokenizer_config.json names no eos_token: nothing would say where a text ends; add it"
    )]
    NoEndOfText,
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
    #[error("`{}` gives token {id}, the model knows {vocab_size}; the tokenizer or the file is another model's", path.display())]
    NoSuchToken {
        /// The token.
        id: u32,
        /// The model's.
        vocab_size: usize,
        /// The data.
        path: PathBuf,
    },
    /// All texts are empty.
    #[error("`{}` has nothing to learn: its texts are empty", path.display())]
    NothingToLearn {
        /// The data.
        path: PathBuf,
    },
    /// The checkpoints would not fit on the disk.
    #[error("checkpoints need {needed_gib:.1} GiB at `{}`, {available_gib:.1} are free; lower checkpoints_kept or choose another run_dir", path.display())]
    Disk {
        /// Needed, GiB.
        needed_gib: f64,
        /// Free, GiB.
        available_gib: f64,
        /// The run directory.
        path: PathBuf,
    },
    /// The directory holds a finished demo.
    #[error("`{}` holds a finished demo: look at its report.html, or choose another directory (--run-dir)", path.display())]
    DemoExists {
        /// The directory.
        path: PathBuf,
    },
    /// A name that can't be written into the settings of the demo's runs.
    #[error("`{}` can't be the demo's directory: its name has a quote, a backslash or no UTF-8", path.display())]
    DemoName {
        /// The directory.
        path: PathBuf,
    },
    /// Another process has the run directory.
    #[error("another process is running `{}`: wait for its end, or choose another run_dir", path.display())]
    RunInUse {
        /// The run directory.
        path: PathBuf,
    },
    /// The run directory holds a run already.
    #[error("`{}` holds a run already: go on with it (--resume), or choose another run_dir", path.display())]
    RunExists {
        /// The run directory.
        path: PathBuf,
    },
    /// There is no checkpoint to go on from.
    #[error("nothing to resume: no checkpoint in `{}`", path.display())]
    NoCheckpoint {
        /// The run directory.
        path: PathBuf,
    },
    /// A run can't go on with another config.
    #[error("`{}` was started with another config: {keys} differ; a run goes on as it began", path.display())]
    ConfigChanged {
        /// The run directory.
        path: PathBuf,
        /// The keys that differ.
        keys: String,
    },
    /// A run can't go on with other inputs.
    #[error("`{}` was started from other inputs: {what} changed since", path.display())]
    InputsChanged {
        /// The run directory.
        path: PathBuf,
        /// What changed.
        what: &'static str,
    },
    /// A checkpoint's file is damaged.
    #[error("`{}` is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The newest checkpoint is damaged.
    #[error(
        "the newest checkpoint is damaged; remove `{}`, and --resume {}",
        checkpoint.display(),
        older.map_or("starts over: there is no older one".to_owned(), |step| format!("goes on from step {step}, the one before it"))
    )]
    DamagedCheckpoint {
        /// Its directory.
        checkpoint: PathBuf,
        /// The step of the one before it, if there is one.
        older: Option<u64>,
        /// Which file, and how.
        source: Box<TrainError>,
    },
    /// The rewards do not work.
    #[error(
        "no completion of the last {steps} steps could be judged, so nothing is learned; the last checkpoint is whole; {reason}"
    )]
    NothingJudged {
        /// Steps in a row.
        steps: usize,
        /// What a reward says of the last.
        reason: String,
    },
    /// The policy is lost.
    #[error(
        "step {step} can't be made; lower optim.lr, and start a new run from the model, or from a checkpoint of before as its \
         model: those that are there are whole"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// What is not finite.
        source: Box<TrainError>,
    },
    /// A number is not finite.
    #[error("{what} is not finite at update {update}; lower optim.lr")]
    NotFinite {
        /// The gradient, or what else.
        what: String,
        /// The update, from 1.
        update: u64,
    },
    /// The operating system refused.
    #[error("cannot {what} `{}`", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl TrainError {
    pub(crate) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, path: path.into(), source }
    }
}
