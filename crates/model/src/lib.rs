//! Transformer families, generic over the backend that computes them.
//!
//! - [`Family`], [`Config`]: what `config.json` says, checked,
//! - [`Transformer`]: a model's tensors, of its weights, its gradient and its optimizer's moments alike: a [`Trunk`] of
//!   [`Layer`]s, each an [`Attention`] and an [`Mlp`] of some kind, and a [`LanguageHead`],
//! - [`TensorInfo`], [`Role`]: what a tensor is called and what it is for,
//! - [`Model`]: weights on a backend, with [`Model::forward`], [`Model::log_probs`] and [`Model::backward`],
//! - [`Activations`], [`Head`], [`KvCache`]: the memory a pass needs, planned before it runs,
//! - [`Flops`], [`Work`]: what passes compute,
//! - [`Adapter`]: low-rank adapters (LoRA) on its linear layers, in PEFT's format,
//! - [`checkpoint`]: Hugging Face directories; [`gguf`]: llama.cpp's files, in and out; [`init`]: fresh models, [`init_tiny`]: one to try things with.
#![deny(unsafe_code)]

mod activations;
mod adapter;
mod attention;
mod cache;
pub mod checkpoint;
mod config;
pub mod gguf;
mod heads;
mod init;
mod layer;
mod license;
mod linear;
mod mapped;
mod mistaken;
mod mlp;
mod model;
mod param;
mod role;
mod rope;
pub mod safetensors_file;
mod tensors;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod tiny;
mod transformer;
mod trunk;
mod work;

pub use activations::{Activations, Purpose};
pub use adapter::{Adapter, AdapterError, AdapterSpec, LowRank, Targets};
pub use attention::{Attention, AttentionKind, Grouped, Latent, Query};
pub use cache::KvCache;
pub use config::{
    Biases, CacheForm, Config, ConfigError, ExpertsConfig, Family, Fp8Weights, LatentConfig, Yarn,
};
pub use heads::{
    DivergenceRows, Drafting, Head, HeadKind, Heads, LanguageHead, LogitRows, MultiToken, MultiTokenRows,
    ScalarHead, ScalarRows,
};
pub use init::{fresh, init};
pub use layer::{Layer, LayerKind};
pub use license::{is_license_card, license, license_keys};
pub use linear::{Linear, Lora};
pub use mlp::{Dense, Mlp, MlpKind, Routed};
pub use model::{Gradient, Model};
pub use param::{Param, Residency};
pub use role::Role;
pub use rope::RopeScaling;
pub use tensors::TensorInfo;
pub use tiny::init_tiny;
pub use transformer::Transformer;
pub use trunk::Trunk;
pub use work::{Counter, Flops, PassSize, Work, count_drawn};
