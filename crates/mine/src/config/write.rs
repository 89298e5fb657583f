//! `[write]`: how the corpus is written.

use serde::{Deserialize, Serialize};

use super::setting;
use crate::MineError;

/// How the corpus is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Write {
    /// The level of zstd, 1 to 19.
    pub level: i32,
    /// Parquet files beside the JSON Lines.
    pub parquet: bool,
}

impl Default for Write {
    fn default() -> Self {
        Self { level: 3, parquet: false }
    }
}

impl Write {
    pub(super) fn check(&self) -> Result<(), MineError> {
        if !(1..=19).contains(&self.level) {
            return Err(setting("write.level", "must lie between 1 and 19"));
        }
        Ok(())
    }
}
