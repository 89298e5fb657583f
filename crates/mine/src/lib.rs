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
//! | [`classifier`] | fastText: which pages are mathematics |
//! | [`quality`] | rules for what is no text to learn from |
//! | [`iterate`] | the loop: rounds, domains, prefixes |
//! | [`example`] | a small made-up crawl |
//! | [`near`] | near-duplicates by min-hashes |
//! | [`contamination`] | test items in pages |
//! | [`sort`] | sorting of more than memory holds |
//! | [`document`] | a row of the corpus |
//! | [`stages`] | the pipeline: stages that are files to files, skipped where they are made |
//! | [`plan`] | the stages as jobs of a cluster |
//! | [`error`] | what can go wrong, with file and remedy |
#![forbid(unsafe_code)]

pub mod address;
pub mod classifier;
pub mod config;
pub mod contamination;
pub mod document;
pub mod error;
pub mod example;
pub mod extract;
pub mod iterate;
pub mod language;
pub mod near;
pub mod plan;
pub mod prefilter;
pub mod quality;
pub mod sort;
pub mod source;
pub mod stages;

pub use classifier::Classifier;
pub use config::Config;
pub use contamination::Contamination;
pub use document::Document;
pub use error::MineError;
pub use source::{Page, Source};
