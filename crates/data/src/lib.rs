//! Problem files and procedural problem generators.
//!
//! A [`Problem`] is a question whose answer a program can check. Problems are kept as JSON Lines, one object
//! a line; this crate reads and writes such files and makes problems of its own. It knows nothing of models
//! or rewards.
//!
//! | module | holds |
//! |---|---|
//! | [`problem`] | the format of a problem; [`read_problems`], [`write_problems`] |
//! | [`arithmetic`] | the generator `arithmetic`: twelve levels of sums and products |
//! | [`jsonl`] | files of lines: read with a bound, written whole or not at all |
//! | [`error`] | what can go wrong, with file and line |
//!
//! # Adding a generator
//!
//! 1. Write `src/<kind>.rs` with a struct of its options and a method
//!    `generate(&self) -> Result<Vec<Problem>, DataError>`. Its header says what it makes and from what its
//!    randomness is drawn.
//! 2. Add `pub mod <kind>;` here, and the kind to `koan data generate`.
//! 3. Test that every answer is right by a second way of computing it, that a longer file starts with the
//!    shorter one, and that its training and test problems are disjoint.
#![forbid(unsafe_code)]

pub mod arithmetic;
pub mod error;
pub mod jsonl;
pub mod problem;

pub use arithmetic::{Arithmetic, Split};
pub use error::DataError;
pub use problem::{Message, Problem, read_problems, write_problems};
