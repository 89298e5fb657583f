//! Records of bands, and the pairs of documents that they bring together.

use std::path::Path;

use super::{Near, Signature, sign::SKETCHED, similarity};
use crate::{MineError, sort::Sorter};

/// Bytes of a [`Record`].
pub const RECORD_BYTES: usize = 8 + 8 + SKETCHED / 2;
/// Bytes of a [`Pair`].
pub const PAIR_BYTES: usize = 16;
/// Documents of one band's hash that others are compared with, at most: of more that are all unlike each other, the rest are
/// compared with these.
const MAX_LEADERS: usize = 64;

/// A document under the hash of one of its bands: hash, id, sketch; numbers big-endian, so that records sort as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record(pub [u8; RECORD_BYTES]);

/// Two near-duplicates by their ids, the smaller first, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair(pub [u8; PAIR_BYTES]);

impl Record {
    /// The records of a document, one a band.
    pub fn of(id: u64, signature: &Signature) -> impl Iterator<Item = Self> {
        signature.bands.iter().map(move |band| {
            let mut record = [0; RECORD_BYTES];
            record[..8].copy_from_slice(&band.to_be_bytes());
            record[8..16].copy_from_slice(&id.to_be_bytes());
            record[16..].copy_from_slice(&signature.sketch);
            Self(record)
        })
    }

    /// Which of `parts` the record belongs to: all of one hash belong to one.
    pub fn part(&self, parts: usize) -> usize {
        ((u128::from(self.band()) * parts as u128) >> 64) as usize
    }

    fn band(&self) -> u64 {
        number(&self.0[..8])
    }

    /// The document.
    pub fn id(&self) -> u64 {
        number(&self.0[8..16])
    }

    fn sketch(&self) -> &[u8; SKETCHED / 2] {
        self.0[16..].try_into().expect("the rest is the sketch")
    }
}

impl Pair {
    /// Of two documents.
    pub fn new(a: u64, b: u64) -> Self {
        let mut pair = [0; PAIR_BYTES];
        pair[..8].copy_from_slice(&a.min(b).to_be_bytes());
        pair[8..].copy_from_slice(&a.max(b).to_be_bytes());
        Self(pair)
    }

    /// The ids, the smaller first.
    pub fn ids(&self) -> (u64, u64) {
        (number(&self.0[..8]), number(&self.0[8..]))
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}

/// Hands `each` the near-duplicates among the `records` of one part, in an order that depends on the set of records alone. Works in
/// `memory` bytes, and in files in `folder`.
///
/// # Errors
/// Those of `records`, `each` and the files.
pub fn pairs(
    records: impl IntoIterator<Item = Result<Record, MineError>>,
    near: &Near,
    folder: &Path,
    memory: usize,
    mut each: impl FnMut(Pair) -> Result<(), MineError>,
) -> Result<(), MineError> {
    let mut sorter = Sorter::<RECORD_BYTES>::new(folder, memory);
    for record in records {
        sorter.push(record?.0)?;
    }
    let places = near.bands * near.rows;
    let mut last = None;
    let mut leaders: Vec<Record> = Vec::new();
    for record in sorter.finish()? {
        let record = Record(record?);
        if leaders.first().is_some_and(|leader| leader.band() != record.band()) {
            leaders.clear();
        }
        // One document under one hash twice: two of its bands, or a shard that was read twice.
        if last
            .replace(record)
            .is_some_and(|last: Record| (last.band(), last.id()) == (record.band(), record.id()))
        {
            continue;
        }
        let alike =
            |leader: &&Record| similarity(leader.sketch(), record.sketch(), places) >= near.similarity;
        if let Some(leader) = leaders.iter().find(alike) {
            each(Pair::new(leader.id(), record.id()))?;
        } else if leaders.len() < MAX_LEADERS {
            leaders.push(record);
        }
    }
    Ok(())
}
