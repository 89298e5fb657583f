//! GGUF: makes a Hugging Face model directory of a llama.cpp model file, and such a file of a directory.
//!
//! `architecture` knows the models' sizes (`deepseek` those of latents and experts), `weight` their tensors under both names. In: `reader` walks the file's header, metadata and tensor table;
//! `dequant` holds the block formats; `tokenizer` rebuilds `tokenizer.json`; `import` ties them together. The file is taken
//! as hostile: every count, length and offset is checked before it is used, and memory stays bounded whatever the file
//! says. Out: `quant`, `tokenizer_export` and `writer`, tied together by `export`.

mod architecture;
mod deepseek;
mod dequant;
mod export;
#[cfg(test)]
mod fixture;
mod import;
mod quant;
mod reader;
mod tokenizer;
mod tokenizer_export;
mod weight;
mod writer;

use std::io;
use std::path::PathBuf;

pub use export::{ExportType, export};
pub use import::{GgufInfo, ImportSummary, import, info};

/// Why a GGUF file could not be imported or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file cannot be opened.
    #[error("cannot open `{}`", path.display())]
    Open {
        /// The GGUF file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be read at some place.
    #[error("cannot read at byte {offset}")]
    Read {
        /// Where in the file.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The directory could not be written.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::CheckpointError),
    /// The weights could not be written.
    #[error(transparent)]
    File(#[from] crate::safetensors_file::FileError),
    /// The GGUF file could not be written.
    #[error(transparent)]
    Files(#[from] koan_files::FilesError),
    /// The config was refused.
    #[error(transparent)]
    Config(#[from] crate::ConfigError),
    /// A file of the tokenizer has no counterpart in the format.
    #[error("`{}`: {what}", path.display())]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The file does not start as a GGUF file does.
    #[error("not a GGUF file: it starts with `{}`, not `GGUF`", found.escape_ascii())]
    Magic {
        /// The file's first bytes.
        found: [u8; 4],
    },
    /// The version is unknown, or the file is big-endian.
    #[error("GGUF version {found} is not supported; convert the file to version 3, little-endian")]
    Version {
        /// The version the file claims.
        found: u32,
    },
    /// The file ends before something it announced.
    #[error("the file is cut short: {what} at byte {offset} needs {needed} bytes; download it again")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        offset: u64,
        /// Its length.
        needed: u64,
    },
    /// A count or length is beyond what any real model needs.
    #[error("{what} at byte {offset} is {found}; at most {limit} is accepted")]
    Limit {
        /// What was being read.
        what: &'static str,
        /// Where in the file.
        offset: u64,
        /// What the file says.
        found: u64,
        /// The documented limit.
        limit: u64,
    },
    /// Something in the header is not what the format allows.
    #[error("at byte {offset}: {problem}")]
    Malformed {
        /// What is wrong.
        problem: &'static str,
        /// Where in the file.
        offset: u64,
    },
    /// A metadata key or tensor name appears twice.
    #[error("`{name}` appears twice in the file")]
    Duplicate {
        /// The key or name.
        name: String,
    },
    /// A metadata key that the import needs is absent.
    #[error("metadata key `{key}` is missing")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A metadata value has the wrong type or is out of range.
    #[error("metadata key `{key}` is {found}; expected {expected}")]
    BadValue {
        /// The key.
        key: String,
        /// What the file holds, shortened.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// The model uses something that has no place in the directory that is written.
    #[error("{what} `{found}` is not supported; supported: {supported}")]
    Unsupported {
        /// What kind of thing.
        what: &'static str,
        /// Which one.
        found: String,
        /// Those that are.
        supported: &'static str,
    },
    /// A tensor is stored in a format that is not read.
    #[error("tensor `{name}` has ggml type {code}, which is not supported; supported: {}", dequant::NAMES)]
    TensorType {
        /// The tensor.
        name: String,
        /// ggml's number of the type.
        code: u32,
    },
    /// A tensor's place or size contradicts the file or another tensor.
    #[error("tensor `{name}`: {problem}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A tensor that the architecture has is absent.
    #[error("tensor `{name}` is missing: the file is not a whole model")]
    MissingTensor {
        /// The tensor.
        name: String,
    },
    /// A tensor's shape contradicts the metadata.
    #[error("tensor `{name}` has shape {found:?}, the metadata asks for {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// The tensor's shape, outermost dimension first.
        found: Vec<usize>,
        /// The shape that the metadata asks for.
        expected: Vec<usize>,
    },
    /// A token or merge of the tokenizer is invalid.
    #[error("tokenizer: {what} {index} (`{text}`) {problem}")]
    Tokenizer {
        /// `token` or `merge`.
        what: &'static str,
        /// Its number.
        index: usize,
        /// Its text.
        text: String,
        /// What is wrong.
        problem: &'static str,
    },
}
