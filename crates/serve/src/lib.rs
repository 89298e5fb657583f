//! The OpenAI API over models that speak text.
//!
//! - [`listen`]: takes an address; [`serve`]: answers requests until it is to stop,
//! - [`Named`]: a model and the name it is asked for by, [`Settings`]: how they are served,
//! - `ask/`: what is asked, read and checked; what is not supported is refused by its name,
//! - `engine/`: the thread that owns the models: requests come and go between passes,
//! - `tell/`: answers and streams, made of what is sampled,
//! - `format.rs`: replies that must be JSON,
//! - `http/`: connections, who is answered, the paths,
//! - `page/`: the chat page.
//!
//! What a request is answered depends on the request alone, its seed included, and on nothing else that is served.
#![forbid(unsafe_code)]

mod ask;
mod engine;
mod error;
mod format;
mod http;
mod metrics;
mod page;
mod serve;
mod served;
mod tell;

pub use ask::{MAX_CHOICES, MAX_LOG_PROBS, MAX_STOP_BYTES, MAX_STOPS, MAX_TOP, check_request};
pub use error::ServeError;
pub use http::{Log, MAX_BODY_BYTES, MAX_CONNECTIONS, listen};
pub use serve::{Settings, serve};
pub use served::Named;
