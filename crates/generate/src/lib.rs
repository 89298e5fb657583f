//! Batched sampling: many sequences at once, a group's prompt computed and stored once.
//!
//! - [`Generator`]: plans its memory, then runs prompts to completions,
//! - [`Prompt`], [`Sampling`], [`Completion`], [`Listener`]: what it is asked, and what it gives,
//! - [`Limits`], [`MemoryPlan`]: how many sequences run at once in the memory there is,
//! - [`uniform`], [`Stream`]: the random number of a token, which depends on no batch.
//!
//! Inside, `scheduler.rs` decides which rows each pass holds, and `pages.rs` where their keys and values lie.
//!
//! The engine knows nothing of text: tokens go in, tokens come out.
#![forbid(unsafe_code)]

mod generator;
mod pages;
mod plan;
mod random;
mod sampling;
mod scheduler;

pub use generator::{Generator, RunSummary};
pub use plan::{Limits, MemoryPlan, NoRoom};
pub use random::{Stream, uniform};
pub use sampling::{Completion, FinishReason, Listener, Prompt, Sampling};
