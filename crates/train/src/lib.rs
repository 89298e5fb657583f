//! Training: a stage reads a model directory and data, and writes a run directory.
//!
//! - [`rl`]: reinforcement learning from verified answers, one straight loop,
//! - [`supervised`]: learning by imitation, of texts or of replies, another,
//! - [`RlConfig`], [`supervised::SupervisedConfig`]: what their TOML files say, every key checked,
//! - [`advantage`], [`policy_loss`], [`preset`]: the pieces of an algorithm beside the papers' formulas, and the papers'
//!   choices of them,
//! - [`micro_batch`]: how the completions of an update are cut into packed passes,
//! - [`learner`]: one update of the policy,
//! - [`next_token`]: one update by next-token prediction,
//! - [`optimizer`]: AdamW, schedules, clipping,
//! - [`plan`]: memory and disk of the worst step, before the first; [`estimate`]: its seconds,
//! - [`run_dir`]: metrics, rollouts, checkpoints, lineage; `status`: how far the run is, in its own words,
//! - [`stage`]: what all stages share,
//! - [`tensorboard`]: metrics as TensorBoard event files,
//! - [`demo`]: all of it in small, from a text to a model that reasons.
#![forbid(unsafe_code)]

pub mod advantage;
//! - [`demo`]: all of it in small, from a text to a model that reasons.
mod config;
pub mod demo;
mod error;
pub mod estimate;
pub mod learner;
pub mod micro_batch;
pub mod next_token;
pub mod optimizer;
pub mod plan;
pub mod policy_loss;
pub mod preset;
pub mod rl;
pub mod run_dir;
pub mod stage;
mod status;
pub mod supervised;
pub mod tensorboard;

pub use config::{AlgorithmConfig, EvalConfig, OptimConfig, RlConfig, RolloutConfig, Schedule};
pub use error::TrainError;
pub use preset::Preset;
