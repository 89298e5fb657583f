//! `[exchange]`: how documents of all files meet, by URL and by band.

use serde::{Deserialize, Serialize};

use super::setting;
use crate::MineError;

/// How documents of all files meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Exchange {
    /// Parts into which keys are cut by their hash; each is sorted alone, so at most this many machines can share the work.
    pub parts: usize,
    /// Memory to sort in, MiB: what is more goes to disk.
    pub memory_mib: usize,
}

impl Default for Exchange {
    fn default() -> Self {
        Self { parts: 16, memory_mib: 256 }
    }
}

impl Exchange {
    pub(super) fn check(&self) -> Result<(), MineError> {
        if !(1..=4096).contains(&self.parts) {
            return Err(setting("exchange.parts", "must lie between 1 and 4096"));
        }
        if !(1..=1 << 20).contains(&self.memory_mib) {
            return Err(setting("exchange.memory_mib", "must lie between 1 and 1048576"));
        }
        Ok(())
    }
}
