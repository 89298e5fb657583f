//! Problem files and procedural problem generators.
//!
//! A [`Problem`] is a question whose answer a program can check. Problems are kept as JSON Lines, one object
//! per line; this crate reads and writes such files and generates problems. It knows nothing of models
//! or rewards.
//!
//! | module | holds |
//! |---|---|
//! | [`problem`] | the format of a problem; [`read_problems`], [`write_problems`] |
//! | [`mod@convert`] | published data sets, recognised and made Koan's |
//! | [`corpus`] | texts and demonstrations, for learning by imitation |
//! | [`counter`] | the world of the recipe `r1-tiny`: problems, requests, and a text in two languages that answers them in several ways |
//! | [`mod@decontaminate`] | rows that hold a part of a test, taken out |
//! | [`demonstration`] | the shapes of rows that show how to answer |
//! | [`preference`] | pairs of replies, and replies that are each good or bad |
//! | [`arithmetic`] | the generator `arithmetic`: twelve levels of sums and products, by enumeration |
//! | [`kinds`] | all other kinds of procedural problems, generated at random, with worked solutions |
//! | [`mod@import`] | problem files in other formats, converted to ours |
//! | [`moves`] | the demo's world: problems, and a text that answers them in several ways |
//! | [`mod@stats`] | what a file of any format holds |
//! | [`split`] | training and test problems, and lists of levels |
//! | [`rows`] | rows of data files of every format, with errors that name file and row |
//! | [`error`] | what can go wrong, with file and line |
//!
//! # Adding a kind of problem
//!
//! 1. Write `src/kinds/<kind>.rs` with a `const KIND: Kind`: its name, its levels, and a function that draws a
//!    random problem of a level. The prompt says how the answer is written; the verifier is one of `koan-reward`'s.
//! 2. Add `mod <kind>;` and a row to [`kinds::KINDS`]. The program lists it from there.
//! 3. Compute its answers a second way in `src/kinds/tests.rs`, and add its hash to `tests/golden.rs`. The
//!    tests of `koan-reward` judge every kind's answers, solutions and near misses.
#![forbid(unsafe_code)]

pub mod arithmetic;
pub mod convert;
pub mod corpus;
pub mod counter;
pub mod decontaminate;
pub mod demonstration;
pub mod error;
pub mod import;
pub mod kinds;
pub mod moves;
pub mod preference;
pub mod problem;
mod random;
pub mod rows;
pub mod split;
pub mod stats;

pub use arithmetic::Arithmetic;
pub use corpus::{Document, read_corpus, read_demonstrations};
pub use demonstration::Demonstration;
pub use error::DataError;
pub use import::{Format, import};
pub use kinds::{Generate, KINDS, Kind};
pub use preference::{Preference, Rated, read_preferences, read_rated, read_replies};
pub use problem::{Message, Problem, exact, read_placed_problems, read_problems, write_problems};
pub use rows::DataFiles;
pub use split::{Split, parse_levels, stable_hash};
pub use stats::{CountTokens, Stats, stats};
