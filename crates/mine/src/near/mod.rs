//! Near-duplicates: pages that share most of their word 5-grams, of which one stays.
//!
//! | module | holds |
//! |---|---|
//! | `sign` | a text's signature: bands of min-hashes, and a sketch |
//! | `pairs` | the exchange by band: which documents are alike |
//! | `clusters` | union-find: which documents go, and for which they go |
//!
//! Each document gives a record a band. Records are parted by their band's hash ([`Record::part`]), so that those of one hash meet in
//! one part whatever shard they came from; a part is sorted ([`pairs`]) and gives pairs, all pairs together give clusters
//! ([`clusters`]). The document of the smallest id stays. An id is a document's place in the input, so the first one stays, however the
//! input is cut into shards.

mod clusters;
mod pairs;
mod sign;

use serde::{Deserialize, Serialize};

pub use clusters::{Removed, clusters};
pub use pairs::{PAIR_BYTES, Pair, RECORD_BYTES, Record, pairs};
pub use sign::{Scratch, Signature, Signer, similarity};

use crate::MineError;

/// When two documents are near-duplicates. The bands, rows and n-grams are FineWeb's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Near {
    /// Words of a shingle; a Han or kana character is a word.
    pub ngram: usize,
    /// Bands: two documents that agree in all rows of any band are compared.
    pub bands: usize,
    /// Rows of a band: min-hashes.
    pub rows: usize,
    /// The least share of common shingles (Jaccard), as the min-hashes estimate it, at which two compared documents are duplicates.
    pub similarity: f64,
    /// From which the hash functions are derived.
    pub seed: u64,
}

impl Default for Near {
    fn default() -> Self {
        Self { ngram: 5, bands: 14, rows: 8, similarity: 0.7, seed: 1 }
    }
}

impl Near {
    /// # Errors
    /// A setting out of range.
    pub fn check(&self) -> Result<(), MineError> {
        let wrong = |key: &str, what: &str| Err(MineError::Setting { key: key.into(), what: what.into() });
        if !(1..=100).contains(&self.ngram) {
            return wrong("near.ngram", "must lie between 1 and 100");
        }
        if !(1..=256).contains(&self.bands) || !(1..=64).contains(&self.rows) || self.bands * self.rows > 1024
        {
            return wrong(
                "near.bands",
                "bands must lie between 1 and 256, rows between 1 and 64, and their product below 1025",
            );
        }
        if !(0.0..=1.0).contains(&self.similarity) {
            return wrong("near.similarity", "must lie between 0 and 1; 0 compares by bands alone");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
