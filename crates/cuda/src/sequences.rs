//! The sequences of a layout on the device: the rows of their keys, one by one, and tiles of their own rows.

use std::{cmp::Reverse, ops::Range, sync::OnceLock};

use koan_backend::{OutOfMemory, Sequence, sharing_groups};

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    layout::{Part, Parts},
    memory::Memory,
};

/// Positions of a [`Tile`], at most.
pub(crate) const POSITIONS: usize = 64;
/// Keys that attention takes together: the key rows of each sequence are filled up to a multiple.
pub(crate) const BLOCK: usize = 64;
/// No row: what key rows are filled up with.
const NONE: u32 = u32::MAX;
/// Tiles whose contexts differ by less stay in the order of their sequences, so that those that share keys read them together.
const SAME_CONTEXT: usize = 1024;

params! {
    /// `key_rows[starts[r]..starts[r + 1]]` are consecutive rows from `first_rows[r]`, or none.
    struct KeyRows { key_rows: Address, starts: Address, first_rows: Address, ranges: u32, none: u32 }
}

/// Rows of a sequence, as kernels read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    /// The first, in the pass.
    pub(crate) row: u32,
    /// How many.
    pub(crate) rows: u32,
    /// Keys that the first row sees; the next sees one more.
    pub(crate) visible: u32,
    /// Where the rows of the sequence's keys begin in the table.
    pub(crate) keys: u32,
}

impl Tile {
    /// Keys that the last row sees.
    pub(crate) fn context(self) -> usize {
        (self.visible + self.rows - 1) as usize
    }

    pub(crate) fn words(self) -> [u32; 4] {
        [self.row, self.rows, self.visible, self.keys]
    }
}

/// A layout's sequences on a device.
pub(crate) struct Sequences {
    /// For each sequence its rows' keys, all of one after those of another.
    pub(crate) key_rows: Memory<u32>,
    /// Tiles of all rows: those of most rows first, then of the most keys, so that the longest work begins first.
    pub(crate) tiles: Vec<Tile>,
    tiles_at: Part,
    /// Where the rows of each sequence's keys begin.
    keys: Vec<u32>,
    key_blocks: OnceLock<KeyBlocks>,
}

/// Keys of which one block sums the gradients, as kernels read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeyBlock {
    /// Where the rows of these keys begin in the table.
    keys: u32,
    /// The number of the first in each sequence that sees it.
    start: u32,
    count: u32,
    /// The sequences whose rows see them, and that this block sums over.
    viewers: [u32; 2],
    /// Where it keeps the sums, if other blocks sum over other sequences; else none.
    slot: u32,
}

/// Keys whose gradients are summed in slots, as kernels read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeySum {
    /// Where the rows of these keys begin in the table.
    keys: u32,
    count: u32,
    first_slot: u32,
    slots: u32,
}

/// Which keys' gradients are summed by which block, on a device.
pub(crate) struct KeyBlocks {
    words: Memory<u32>,
    sequences: Part,
    blocks: Part,
    sums: Part,
    /// How many blocks there are.
    pub(crate) count: usize,
    /// How many blocks of keys are summed in slots.
    pub(crate) summed: usize,
    /// How many slots these take, of [`BLOCK`] keys each.
    pub(crate) slots: usize,
}

impl KeyBlocks {
    fn new(cuda: &Cuda, sequences: &[Sequence], keys: &[u32]) -> Self {
        let (blocks, sums) = key_blocks(sequences, keys);
        let whole = sequences.iter().zip(keys).map(|(s, &keys)| tile(s, 0..s.rows.len(), keys).words());
        let block = |b: &KeyBlock| [b.keys, b.start, b.count, b.viewers[0], b.viewers[1], b.slot];
        let sum = |s: &KeySum| [s.keys, s.count, s.first_slot, s.slots];
        let mut parts = Parts::default();
        let (count, summed) = (blocks.len(), sums.len());
        let slots = sums.iter().map(|sum| sum.slots as usize).sum();
        let sequences = parts.push(&whole.flatten().collect::<Vec<_>>());
        let blocks = parts.push(&blocks.iter().flat_map(block).collect::<Vec<_>>());
        let sums = parts.push(&sums.iter().flat_map(sum).collect::<Vec<_>>());
        let words = cuda.scratch(parts.0.len());
        words.write(&parts.0);
        Self { words, sequences, blocks, sums, count, summed, slots }
    }

    /// [`Tile`]s of whole sequences.
    pub(crate) fn sequences(&self) -> Address {
        self.words.at(self.sequences.start)
    }

    /// Six words a block.
    pub(crate) fn blocks(&self) -> Address {
        self.words.at(self.blocks.start)
    }

    /// Four words for each block of keys that is summed in slots.
    pub(crate) fn sums(&self) -> Address {
        self.words.at(self.sums.start)
    }
}

/// The same on the host, to be uploaded.
pub(crate) struct Planned {
    tiles: Vec<Tile>,
    tiles_at: Part,
    keys: Vec<u32>,
    ranges: usize,
    starts: Part,
    first_rows: Part,
    len: usize,
}

impl Planned {
    /// Adds to `parts` what the device needs.
    pub(crate) fn new(parts: &mut Parts, sequences: &[Sequence]) -> Self {
        let ranges = sequences.iter().map(|s| s.prefix.len() + 2).sum::<usize>() + 1;
        let (mut starts, mut first_rows) = (Vec::with_capacity(ranges), Vec::with_capacity(ranges));
        let mut len = 0;
        let mut keys = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            keys.push(index(len));
            for range in joined(sequence) {
                starts.push(index(len));
                first_rows.push(index(range.start));
                len += range.len();
            }
            if !len.is_multiple_of(BLOCK) {
                starts.push(index(len));
                first_rows.push(NONE);
                len = len.next_multiple_of(BLOCK);
            }
        }
        starts.push(index(len));
        let tiles = tiles(sequences, &keys);
        let words: Vec<u32> = tiles.iter().flat_map(|tile| tile.words()).collect();
        let tiles_at = parts.push(&words);
        let ranges = first_rows.len();
        Self {
            tiles,
            tiles_at,
            keys,
            ranges,
            starts: parts.push(&starts),
            first_rows: parts.push(&first_rows),
            len,
        }
    }

    /// Lays out the keys, once `words` hold the parts.
    pub(crate) fn on_device(self, cuda: &Cuda, words: &Memory<u32>) -> Result<Sequences, OutOfMemory> {
        let key_rows = cuda.new_memory(self.len)?;
        let params = KeyRows {
            key_rows: key_rows.at(0),
            starts: words.at(self.starts.start),
            first_rows: words.at(self.first_rows.start),
            ranges: index(self.ranges),
            none: NONE,
        };
        cuda.launch("lay_out_keys", [self.ranges.div_ceil(8), 1, 1], 256, 0, params);
        Ok(Sequences {
            key_rows,
            tiles: self.tiles,
            tiles_at: self.tiles_at,
            keys: self.keys,
            key_blocks: OnceLock::new(),
        })
    }
}

impl Sequences {
    /// Where tile `first` lies in the layout's words.
    pub(crate) fn tile_word(&self, first: usize) -> usize {
        self.tiles_at.start + first * 4
    }

    /// What the backward needs besides, made when it first asks.
    ///
    /// # Panics
    /// If sequences that share keys do not stand side by side.
    pub(crate) fn key_blocks(&self, cuda: &Cuda, sequences: &[Sequence]) -> &KeyBlocks {
        self.key_blocks.get_or_init(|| KeyBlocks::new(cuda, sequences, &self.keys))
    }
}

/// The key rows of a sequence; ranges that adjoin are one.
fn joined(sequence: &Sequence) -> impl Iterator<Item = Range<usize>> {
    let mut ranges =
        sequence.prefix.iter().chain([&sequence.keys]).filter(|range| !range.is_empty()).peekable();
    std::iter::from_fn(move || {
        let mut range = ranges.next()?.clone();
        while let Some(next) = ranges.next_if(|next| next.start == range.end) {
            range.end = next.end;
        }
        Some(range)
    })
}

fn tiles(sequences: &[Sequence], keys: &[u32]) -> Vec<Tile> {
    let mut tiles = Vec::new();
    for (s, &keys) in sequences.iter().zip(keys) {
        for first in (0..s.rows.len()).step_by(POSITIONS) {
            tiles.push(tile(s, first..s.rows.len().min(first + POSITIONS), keys));
        }
    }
    tiles.sort_by_key(|tile| Reverse((tile.rows, tile.context() / SAME_CONTEXT)));
    tiles
}

fn tile(s: &Sequence, positions: Range<usize>, keys: u32) -> Tile {
    Tile {
        row: index(s.rows.start + positions.start),
        rows: index(positions.len()),
        visible: index(s.before() + s.visible(positions.start)),
        keys,
    }
}

/// Rows of the sequences that one block sums over, at least, where others sum over other sequences.
const SHARE: usize = 256;
/// Blocks that the sums over a group's shared keys are cut into, about, where its sequences allow it.
const SHARES: usize = 64;

/// Blocks of the keys that each group of sequences shares, then of each sequence's own. Many sequences that share few keys are cut
/// into runs, whose sums are added in their order. The blocks of the most rows come first.
fn key_blocks(sequences: &[Sequence], keys: &[u32]) -> (Vec<KeyBlock>, Vec<KeySum>) {
    let (mut blocks, mut sums) = (Vec::new(), Vec::new());
    let mut slots = 0;
    let mut cut = |sequence: usize, numbers: Range<usize>, runs: &[Range<usize>]| {
        for start in numbers.clone().step_by(BLOCK) {
            let (first, count) = (keys[sequence] + index(start), index((numbers.end - start).min(BLOCK)));
            let shared = runs.len() > 1;
            for (i, run) in runs.iter().enumerate() {
                blocks.push(KeyBlock {
                    keys: first,
                    start: index(start),
                    count,
                    viewers: [index(run.start), index(run.end)],
                    slot: if shared { slots + index(i) } else { NONE },
                });
            }
            if shared {
                sums.push(KeySum { keys: first, count, first_slot: slots, slots: index(runs.len()) });
                slots += index(runs.len());
            }
        }
    };
    for group in sharing_groups(sequences) {
        let first = &sequences[group.start];
        let shared = if first.prefix.is_empty() { first.keys.len() } else { first.before() };
        let rows: usize = sequences[group.clone()].iter().map(|s| s.rows.len()).sum();
        let share = SHARE.max(rows * shared.div_ceil(BLOCK) / SHARES);
        cut(group.start, 0..shared, &runs(sequences, group.clone(), share));
        for i in group {
            let s = &sequences[i];
            if !s.prefix.is_empty() {
                cut(i, s.before()..s.context(), std::slice::from_ref(&(i..i + 1)));
            }
        }
    }
    // rows that see the first of a block's keys
    let rows = |block: &KeyBlock| {
        let viewers = &sequences[block.viewers[0] as usize..block.viewers[1] as usize];
        let see = |s: &Sequence| (s.context() - block.start as usize).min(s.rows.len());
        viewers.iter().map(see).sum::<usize>()
    };
    blocks.sort_by_cached_key(|block| Reverse(rows(block)));
    (blocks, sums)
}

/// Cuts the sequences `group` into runs of at least `share` rows; the last may have fewer.
fn runs(sequences: &[Sequence], group: Range<usize>, share: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut rows = share;
    for i in group {
        match runs.last_mut() {
            Some(run) if rows < share => run.end = i + 1,
            _ => {
                runs.push(i..i + 1);
                rows = 0;
            }
        }
        rows += sequences[i].rows.len();
    }
    runs
}

fn index(n: usize) -> u32 {
    u32::try_from(n).expect("fewer than 2³² rows and keys in a pass")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(range: Range<usize>) -> Vec<Range<usize>> {
        vec![range]
    }

    #[test]
    fn pages_that_adjoin_are_one_range() {
        let sequence = Sequence { rows: 0..1, prefix: vec![16..32, 32..48, 0..16, 4..4], keys: 16..20 };
        assert_eq!(joined(&sequence).collect::<Vec<_>>(), [16..48, 0..20]);
    }

    #[test]
    fn tiles_hold_every_row_the_longest_first() {
        let decoded = Sequence { rows: 0..1, prefix: one(64..128), keys: 0..5 };
        let prefilled = Sequence { rows: 1..71, prefix: vec![], keys: 200..270 };
        let tile = |row, rows, visible, keys| Tile { row, rows, visible, keys };
        let expected = [tile(1, 64, 1, 128), tile(65, 6, 65, 128), tile(0, 1, 69, 0)];
        assert_eq!(tiles(&[decoded, prefilled], &[0, 128]), expected);
    }

    #[test]
    fn shared_keys_are_summed_over_all_who_see_them() {
        let prompt = Sequence { rows: 0..70, prefix: vec![], keys: 0..70 };
        let completion = |rows: Range<usize>| Sequence { keys: rows.clone(), rows, prefix: one(0..70) };
        let sequences = [prompt, completion(70..73), completion(73..74)];
        let block = |keys, start, count, viewers| KeyBlock { keys, start, count, viewers, slot: NONE };
        let expected = [
            block(0, 0, 64, [0, 3]),
            block(64, 64, 6, [0, 3]),
            block(128 + 70, 70, 3, [1, 2]),
            block(256 + 70, 70, 1, [2, 3]),
        ];
        assert_eq!(key_blocks(&sequences, &[0, 128, 256]), (expected.to_vec(), vec![]));
    }

    #[test]
    fn sums_over_many_rows_are_cut_into_runs_of_sequences() {
        let prompt = Sequence { rows: 0..2, prefix: vec![], keys: 0..2 };
        let completion = |i: usize| {
            let rows = 2 + i * 200..2 + (i + 1) * 200;
            Sequence { keys: rows.clone(), rows, prefix: one(0..2) }
        };
        let sequences: Vec<_> = std::iter::once(prompt).chain((0..4).map(completion)).collect();
        let (blocks, sums) = key_blocks(&sequences, &[0; 5]);
        assert_eq!(sums, [KeySum { keys: 0, count: 2, first_slot: 0, slots: 2 }]);
        let shared: Vec<_> = blocks.iter().filter(|b| b.slot != NONE).map(|b| (b.slot, b.viewers)).collect();
        assert_eq!(shared, [(0, [0, 3]), (1, [3, 5])]);
        assert_eq!(blocks.iter().filter(|b| b.slot == NONE).map(|b| b.count).sum::<u32>(), 800);
    }
}
