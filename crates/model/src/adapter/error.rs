//! Why an adapter was refused.

use std::path::PathBuf;

use crate::safetensors_file::FileError;

/// Why an adapter was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// A rank of nothing, or of more than any layer has use for.
    #[error("an adapter of rank {rank}; the rank is 1 to 4096")]
    Rank {
        /// The rank.
        rank: usize,
    },
    /// A scale of nothing.
    #[error("an adapter with alpha {alpha}; alpha is above 0")]
    Alpha {
        /// α
        alpha: f64,
    },
    /// No layers are named.
    #[error("the adapter has no targets; \"all-linear\" adapts every linear layer but the output head")]
    NoTargets,
    /// A target that no layer is.
    #[error("no linear layer of the model is `{target}`; it has {known}")]
    UnknownTarget {
        /// The target.
        target: String,
        /// The layers that it has, by the last part of their paths.
        known: String,
    },
    /// The directory holds no adapter.
    #[error("`{}` is no adapter: it has no adapter_config.json (PEFT's directory of an adapter has that and adapter_model.safetensors)", path.display())]
    NotAnAdapter {
        /// The directory.
        path: PathBuf,
    },
    /// The adapter's weights are pickled.
    #[error("`{}` has no adapter_model.safetensors but pickled Python (.bin), which Koan does not run: save the adapter with PEFT's `save_pretrained(DIR, safe_serialization=True)`", path.display())]
    Pickled {
        /// The directory.
        path: PathBuf,
    },
    /// The config is not one.
    #[error("`{}` is not the config of an adapter: {what}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The config asks for what Koan does not compute.
    #[error("`{key}` is {value} in `{}`, which Koan does not compute: {remedy}", path.display())]
    Unsupported {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What to do.
        remedy: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A tensor that the base model has no use for.
    #[error("the adapter in `{}` has a tensor `{name}`: {what}", path.display())]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        what: String,
        /// The directory.
        path: PathBuf,
    },
    /// The base model is not where the adapter says.
    #[error("the adapter in `{}` is of the base model `{base}`, which is no directory here: give the base model's directory as the model, and this one as its adapter", path.display())]
    NoBase {
        /// What it names.
        base: String,
        /// The adapter's directory.
        path: PathBuf,
    },
    /// A model that is an adapter itself, with another adapter.
    #[error("`{}` is an adapter, and another one is given: give the base model's directory as the model", path.display())]
    OnAnAdapter {
        /// The model's directory.
        path: PathBuf,
    },
    /// There is no tensor that could take a bias.
    #[error("the adapter in `{}` has a bias on B of `{layer}`, which has none in the base model: it can't be merged, only applied", path.display())]
    Unmergeable {
        /// The layer's path.
        layer: String,
        /// The directory.
        path: PathBuf,
    },
    /// The weights' file was refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Training can't go on from it.
    #[error("training can't go on from the adapter in `{}`: it has {what}; `koan model merge` makes a model of it, on which a new adapter can be trained", path.display())]
    NotTrainable {
        /// What it has.
        what: String,
        /// The directory.
        path: PathBuf,
    },
}
