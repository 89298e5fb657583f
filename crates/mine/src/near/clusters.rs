//! Union-find over pairs: of each cluster the document with the smallest id stays.

use std::path::Path;

use super::Pair;
use crate::{MineError, sort::Sorter};

/// Documents that go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Each that goes, with the one that stays for it; by rising id.
    pub documents: Vec<(u64, u64)>,
    /// Clusters that they are of.
    pub clusters: usize,
}

impl Removed {
    /// The document that stays for `id`, if `id` goes.
    pub fn kept_for(&self, id: u64) -> Option<u64> {
        let at = self.documents.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.documents[at].1)
    }
}

/// What goes of the documents that are named by the pairs, which `pairs` gives twice, in any order. Needs 12 bytes of memory for each
/// of them, 16 for each that goes, and `memory` bytes to sort in, beside files in `folder`.
///
/// # Errors
/// Those of `pairs` and the files; more than 4 billion documents.
pub fn clusters<I: Iterator<Item = Result<Pair, MineError>>>(
    pairs: impl Fn() -> Result<I, MineError>,
    folder: &Path,
    memory: usize,
) -> Result<Removed, MineError> {
    let mut sorter = Sorter::<8>::new(folder, memory);
    for pair in pairs()? {
        let (a, b) = pair?.ids();
        sorter.push(a.to_be_bytes())?;
        sorter.push(b.to_be_bytes())?;
    }
    let mut ids = Vec::new();
    for id in sorter.finish()? {
        let id = u64::from_be_bytes(id?);
        if ids.last() != Some(&id) {
            ids.push(id);
        }
    }
    if u32::try_from(ids.len()).is_err() {
        let what = "more than 4 billion documents have near-duplicates; mine the crawl in parts".to_owned();
        return Err(MineError::Stage { what });
    }
    let number = |id: u64| ids.binary_search(&id).expect("each is in the list") as u32;
    let mut parent: Vec<u32> = (0..ids.len() as u32).collect();
    for pair in pairs()? {
        let (a, b) = pair?.ids();
        let (a, b) = (root(&mut parent, number(a)), root(&mut parent, number(b)));
        // The smaller is the root, so that it stays.
        parent[a.max(b) as usize] = a.min(b);
    }
    let mut removed = Removed::default();
    for i in 0..ids.len() as u32 {
        let root = root(&mut parent, i);
        if root == i {
            removed.clusters += 1;
        } else {
            removed.documents.push((ids[i as usize], ids[root as usize]));
        }
    }
    Ok(removed)
}

fn root(parent: &mut [u32], mut i: u32) -> u32 {
    while parent[i as usize] != i {
        parent[i as usize] = parent[parent[i as usize] as usize];
        i = parent[i as usize];
    }
    i
}
