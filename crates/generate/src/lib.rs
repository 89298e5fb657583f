//! Batched sampling: many sequences at once, a group's prompt computed and stored once.
//!
//! - [`Generator`]: plans its memory, then runs prompts to completions,
//! - [`Prompt`], [`Sampling`], [`Completion`]: what it is asked, and what it gives,
//! - [`uniform`]: the random number of a token, which depends on no batch.
//!
//! The engine knows nothing of text: tokens go in, tokens come out.
#![forbid(unsafe_code)]

mod generator;
mod random;

pub use generator::{Completion, FinishReason, Generator, Limits, Prompt, Sampling};
pub use random::uniform;
