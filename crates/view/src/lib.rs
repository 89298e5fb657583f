//! The run viewer: a local page with the curves and the rollouts of a run, live during training.
//!
//! - [`Server`]: HTTP/1.1, GET only, bounded in every direction,
//! - [`Viewer`]: what it answers: the page, and the run's data as JSON,
//! - [`run`]: what is in a run directory: its state, its metrics from where a reader stopped,
//! - [`rollouts`]: the completions of a step, filtered, sorted, one part at a time,
//! - `page/`: the page itself: HTML, style and script, put together as one document.
//!
//! It knows nothing of models or training: it reads the files that a run writes, and writes none.
#![forbid(unsafe_code)]

mod error;
mod http;
mod lines;
mod page;
pub mod rollouts;
pub mod run;
mod viewer;

pub use error::ViewError;
pub use http::{Request, Response, Server};
pub use viewer::Viewer;
