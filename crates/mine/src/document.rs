//! A row of the corpus.

use serde::{Deserialize, Serialize};

use crate::Source;

/// A document, as a line of the corpus has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Where it was captured, as the crawl has it.
    pub url: String,
    /// The page's title, or nothing.
    #[serde(default)]
    pub title: String,
    /// Its text: paragraphs apart by a blank line, formulas in `$…$` and `$$…$$`.
    pub text: String,
    /// Its language, as ISO 639-1 has it, or `und`.
    pub language: String,
    /// The classifier's share of the label `maths`; absent where no classifier was asked.
    #[serde(default)]
    pub score: Option<f32>,
    /// The registered domain of its host (`example.co.uk`), or nothing.
    pub domain: String,
    /// How many formulas the extraction found.
    pub formulas: u32,
    /// Where its bytes are.
    pub source: Source,
}
