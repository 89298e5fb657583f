//! Local pages: the run viewer, with the curves and the rollouts of runs, live during training; and the labelling page.
//!
//! - [`server::Hosts`], [`Page`]: what other servers of this machine need too: who is answered, and a page as one document,
//! - [`Server`]: HTTP/1.1, bounded in every direction, for this machine's own pages alone,
//! - [`Viewer`]: the pages that it serves: the viewer, the runs' data as JSON, their metrics as CSV,
//! - [`runs`]: which runs are shown, [`run`]: how a run is, [`differences`]: in which settings runs differ,
//! - `recipes`: the steps of recipes, what reads what, how far each is and what it cost,
//! - [`metrics`]: the numbers of a run from where a reader stopped,
//! - [`rollouts`]: the completions of a step, filtered, sorted, one part at a time,
//! - `page/`: the page itself: HTML, style and script, put together as one document,
//! - [`label`]: the page on which people compare or rate answers, with routes of its own.
//!
//! It knows nothing of models or training. The viewer reads the files that a run writes, and writes none. Another page is another
//! module with routes of its own, served by the same [`Server`].
#![forbid(unsafe_code)]

mod csv;
pub mod differences;
mod error;
pub mod label;
mod lines;
pub mod metrics;
mod page;
mod recipes;
pub mod rollouts;
pub mod run;
pub mod runs;
pub mod server;
mod viewer;

pub use error::ViewError;
pub use page::Page;
pub use server::{MAX_CONNECTIONS, Server};
pub use viewer::{Tracer, Viewer};
