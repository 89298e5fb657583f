//! Training: a stage reads a model directory and data, and writes a run directory.
//!
//! - [`rl`]: reinforcement learning from verified answers, one straight loop,
//! - [`supervised`]: learning by imitation, of texts or of replies, another,
//! - [`prefer`]: learning from preferences, a third,
//! - [`reject`]: rejection sampling, which trains nothing and makes data,
//! - [`distill`]: learning from a teacher,
//! - [`gradient`]: the gradient of a loss over packed passes, the inner loop of all,
//! - [`optim`]: AdamW, schedules, clipping,
//! - [`stage`]: what all stages share: run directory, checkpoints, lineage, status, events, settings,
//! - [`comm`]: ranks, processes that make one run together,
//! - [`cost`]: what work costs: time, tokens, FLOPs, energy,
//! - [`forecast`]: how long work will take; [`speed`]: how fast this machine is,
//! - [`config`]: TOML files and overrides, every key checked.
#![forbid(unsafe_code)]

pub mod comm;
pub mod config;
pub mod cost;
pub mod distill;
mod error;
pub mod forecast;
pub mod gradient;
pub mod optim;
pub mod prefer;
pub mod reject;
pub mod rl;
pub mod speed;
pub mod stage;
pub mod supervised;

pub use error::TrainError;
