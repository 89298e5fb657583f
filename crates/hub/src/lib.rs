//! Fetches model directories from a Hugging Face hub: only the files that a model needs, checked, and resumed where a
//! connection broke.
//!
//! - [`Hub`]: its address and the token; [`Hub::pull`] fetches a repository,
//! - `files`: what the hub says of a repository, and which of its files a model needs,
//! - `download`: one file, piece by piece.
#![forbid(unsafe_code)]

mod download;
mod error;
mod files;
mod hub;

pub use error::HubError;
pub use hub::{Hub, Progress, Pulled};
