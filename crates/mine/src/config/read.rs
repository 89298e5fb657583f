//! `[read]`: how input is read.

use serde::{Deserialize, Serialize};

use super::setting;
use crate::MineError;

/// What becomes of `conversion` records: texts that a crawler made of pages, as in WET files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conversions {
    /// Read in files that have had no captured page before; skipped beside the pages that they were made of.
    #[default]
    Auto,
    /// Always read.
    Read,
    /// Always skipped.
    Skip,
}

/// How input is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Read {
    /// A page is cut to this many bytes, as captured and as unpacked.
    pub max_page_bytes: usize,
    /// What becomes of `conversion` records.
    pub conversions: Conversions,
}

impl Default for Read {
    fn default() -> Self {
        Self { max_page_bytes: 8 << 20, conversions: Conversions::Auto }
    }
}

impl Read {
    pub(super) fn check(&self) -> Result<(), MineError> {
        if !(1024..=1 << 30).contains(&self.max_page_bytes) {
            return Err(setting("read.max_page_bytes", "must lie between 1024 and 1073741824"));
        }
        Ok(())
    }
}
