//! Fetches models and data sets from a Hugging Face hub: only the files that are needed, checked, and resumed where a
//! connection broke.
//!
//! - [`Hub`]: its address and the token; [`Hub::pull`] fetches a model, [`Hub::pull_data`] a data set,
//! - `files`: what the hub says of a repository, and which of its files are needed,
//! - `download`: one file, piece by piece.
#![forbid(unsafe_code)]

mod download;
mod error;
mod files;
mod hub;

pub use error::HubError;
pub use files::Wanted;
pub use hub::{Hub, Progress, Pulled};
