//! Fetches models and data sets from a Hugging Face hub, only the files that are needed, checked, and resumed where a
//! connection broke; and sends models to one, only what it does not have.
//!
//! - [`Hub`]: its address and the token; [`Hub::pull`] fetches a model, [`Hub::pull_data`] a data set,
//! - `files`: what the hub says of a repository, and which of its files are needed,
//! - `download`: one file, piece by piece,
//! - `push`: [`Hub::push`], from the repository to the commit; `contents`: what a directory has to send; `upload`: large files.
#![forbid(unsafe_code)]

mod contents;
mod download;
mod error;
mod files;
mod hub;
mod push;
mod upload;

pub use error::HubError;
pub use files::Wanted;
pub use hub::{Hub, Progress, Pulled};
pub use push::{Push, Pushed};
