//! A maths corpus out of web crawls, the way DeepSeekMath's was made (arXiv 2402.03300, section 2.1).
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | the TOML file of `koan mine`, a file a section |
//! | [`source`] | WARC, WET and JSON Lines in: pages, with what was skipped and why |
//! | [`address`] | URLs in one form, hosts, registered domains |
//! | [`prefilter`] | pages without maths, told apart by their bytes |
//! | [`extract`] | HTML to text, formulas as LaTeX |
//! | [`language`] | a text's language |
//! | [`document`] | a row of the corpus |
//! | [`error`] | what can go wrong, with file and remedy |
#![forbid(unsafe_code)]

pub mod address;
pub mod config;
pub mod document;
pub mod error;
pub mod extract;
pub mod language;
pub mod prefilter;
pub mod source;

pub use config::Config;
pub use document::Document;
pub use error::MineError;
pub use source::{Page, Source};
