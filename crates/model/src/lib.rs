//! Transformer families, generic over the backend that computes them.
//!
//! - [`Family`], [`Config`]: what `config.json` says, checked,
//! - [`Transformer`], [`Layer`], [`Linear`]: the shape of a model: of its weights, its gradient and its optimizer's moments alike,
//! - [`Model`]: weights on a backend, with [`Model::forward`], [`Model::log_probs`] and [`Model::backward`],
//! - [`Batch`]: packed sequences, a group's prompt stored once,
//! - [`Activations`], [`Head`], [`KvCache`]: the memory a pass needs, planned before it runs,
//! - [`checkpoint`]: Hugging Face directories; [`gguf`]: llama.cpp's files, in and out; [`init`]: fresh models.
#![deny(unsafe_code)]

mod activations;
mod batch;
mod bounded;
pub mod checkpoint;
mod config;
mod family;
pub mod gguf;
mod init;
mod layer;
mod license;
mod mapped;
mod model;
mod rope;
pub mod safetensors_file;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod transformer;

pub use activations::{Activations, Head, KvCache, Purpose};
pub use batch::{Batch, Scored};
pub use config::{Biases, Config, ConfigError};
pub use family::Family;
pub use init::{fresh, init};
pub use license::license;
pub use model::{Gradient, Held, Model, Param};
pub use rope::RopeScaling;
pub use transformer::{Layer, Linear, TensorInfo, Transformer};
