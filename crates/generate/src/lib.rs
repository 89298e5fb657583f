//! Batched sampling: requests come and go at any time, and what prompts begin with is computed and stored once.
//!
//! - [`Generator`]: plans its memory, then takes requests and computes passes,
//! - [`Request`], [`Sampling`]: what it is asked; [`Step`], [`Finished`], [`Completion`]: what it gives,
//! - [`Listener`]: hears of each token as it is sampled, and may end a request or choose another token by its logits,
//! - [`Prompt`]: many completions at once, through [`Generator::run`],
//! - [`Drafts`]: guesses of tokens, several of which a pass checks,
//! - [`Limits`], [`MemoryPlan`]: how many sequences run at once in the memory there is,
//! - [`uniform`], [`Stream`]: the random number of a token, which depends on no batch.
//!
//! Inside, `scheduler/` decides which rows each pass holds, and `pages.rs` where their keys and values lie.
//!
//! The engine knows nothing of text: tokens go in, tokens come out.
#![forbid(unsafe_code)]

mod batch;
mod drafts;
mod generator;
mod listener;
mod pages;
mod plan;
mod random;
mod request;
mod sampling;
mod scheduler;

pub use batch::Prompt;
pub use drafts::Drafts;
pub use generator::{Counters, Generator, Standing};
pub use listener::{Listener, Sampled};
pub use plan::{Limits, MemoryPlan, NoRoom};
pub use random::{Stream, uniform};
pub use request::{Completion, FinishReason, Finished, Request, RequestError, RequestId, Step};
pub use sampling::Sampling;
