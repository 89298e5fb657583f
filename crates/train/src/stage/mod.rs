//! What all stages share: a stage reads a model directory and data, and writes a run directory.
//!
//! - [`Session`]: open, resume, save, stop, finish, so that a stage's loop stays a straight line; [`Course`]: what the stage
//!   gives it; [`Launch`]: what whoever starts the run decides; [`Event`]: what it says while it goes,
//! - [`StageConfig`], [`Settings`]: what the TOML file of every stage says,
//! - [`AdapterConfig`]: training an adapter in place of the weights; [`ExpertsTable`]: balancing experts,
//! - [`Input`]: what a run was made from,
//! - [`TrainerState`], [`Trained`]: what a checkpoint holds,
//! - `run_dir`: everything that a run makes; `status`: how far it is, in its own words; [`tensorboard`]: its metrics as
//!   TensorBoard event files,
//! - [`disk_bytes`], [`available_disk`]: whether there is room.

mod adapter;
mod batches;
mod checkpoint;
mod config;
mod error;
mod event;
mod experts;
mod lineage;
mod room;
mod run_dir;
mod session;
mod status;
pub mod tensorboard;

pub(crate) use adapter::in_words as adapter_in_words;
pub use adapter::{AdapterConfig, TargetsConfig};
pub(crate) use batches::Batches;
pub use checkpoint::{Trained, TrainerState};
#[cfg(test)]
pub(crate) use config::all_keys;
pub(crate) use config::{CacheName, PrecisionName, fill, is_expanded, is_native, of_table, read, read_part};
pub use config::{Changed, Settings, StageConfig, hash_config};
pub use error::StageError;
pub use event::Event;
pub use experts::ExpertsTable;
pub use lineage::{Input, Origin};
pub(crate) use room::{GIB, check_disk, check_model_and_disk};
pub use room::{available_disk, disk_bytes};
pub use session::{Course, Launch, RunSummary, Session};
pub use status::{record_failure, record_kill};
