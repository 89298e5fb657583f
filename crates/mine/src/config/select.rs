//! `[prefilter]`, `[language]`, `[classifier]`: which pages go on.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::setting;
use crate::MineError;

/// What becomes of pages without any mark of formulas in their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrefilterMode {
    /// They are only counted: mathematics without formulas is mathematics.
    #[default]
    Count,
    /// They are dropped before they are parsed, which is fast.
    Drop,
}

/// The prefilter on bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Prefilter {
    /// What becomes of pages without any mark of formulas.
    pub mode: PrefilterMode,
}

/// The languages of the corpus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Languages {
    /// Codes of ISO 639-1 that are kept (`["en", "zh"]`); all if there is none.
    pub keep: Vec<String>,
}

impl Languages {
    pub(super) fn check(&self) -> Result<(), MineError> {
        let is_code = |code: &&String| {
            matches!(code.len(), 2 | 3) && code.bytes().all(|byte| byte.is_ascii_lowercase())
        };
        match self.keep.iter().find(|code| !is_code(code)) {
            Some(code) => Err(setting(
                "language.keep",
                format!("`{code}` is no code of ISO 639-1; give two letters, as in `en`"),
            )),
            None => Ok(()),
        }
    }
}

/// The classifier that says which pages are mathematics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classify {
    /// A model of `koan mine train`, or of fastText.
    pub model: PathBuf,
    /// Its label of mathematics.
    #[serde(default = "maths")]
    pub label: String,
    /// The least share of that label with which a page is kept. If it is left out, the cut that was written beside the model (see
    /// [`crate::classifier::cut`]), or 0.5.
    #[serde(default)]
    pub threshold: Option<f32>,
    /// Asked in the last stage, so that another model needs no new extraction. All texts of the crawl then lie in the run directory.
    #[serde(default)]
    pub late: bool,
}

fn maths() -> String {
    crate::classifier::MATHS.to_owned()
}

impl Classify {
    pub(super) fn check(&self) -> Result<(), MineError> {
        if self.threshold.is_some_and(|threshold| !(0.0..=1.0).contains(&threshold)) {
            return Err(setting("classifier.threshold", "must lie between 0 and 1"));
        }
        Ok(())
    }

    /// Fills in what is left out.
    pub(crate) fn resolve(&mut self) -> Result<(), MineError> {
        if self.threshold.is_none() {
            self.threshold = Some(crate::classifier::read_cut(&self.model)?.unwrap_or(0.5));
        }
        Ok(())
    }
}
