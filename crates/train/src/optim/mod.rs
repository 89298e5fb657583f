//! How weights are moved: AdamW, schedules of its learning rate, clipping, and what to do about numbers that are not finite.

mod adamw;
mod balance;
mod config;
mod finite;
mod schedule;

pub use adamw::Optimizer;
pub(crate) use adamw::{moment_bytes, stored};
pub use balance::{Balance, LoadMetrics};
pub use config::OptimConfig;
pub use finite::{Diverged, NotFinite, check_weights};
pub use schedule::{Phase, Schedule, Shape};
