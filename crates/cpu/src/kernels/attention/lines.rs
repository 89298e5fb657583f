//! What goes through the keys as one matrix: lines, and how many keys each attends to.

/// Keys of a piece: 16 KB at 64 features, half a level 1 cache.
pub(super) const PIECE: usize = 64;

/// Four vectors of any instruction set, the widest tile.
pub(super) const WIDEST: usize = 64;

/// Rows of a block, or of one row the heads: what goes through the keys as one matrix.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    pub(super) count: usize,
    /// Where the first starts in queries.
    pub(super) start: usize,
    /// From one to the next.
    pub(super) stride: usize,
    /// How many more keys each attends to than the one before.
    pub(super) step: usize,
}

impl Lines {
    /// How many of `len` keys line `i` attends to, if the first attends to `first`.
    #[inline(always)]
    pub(super) fn seen(self, i: usize, first: isize, len: usize) -> usize {
        (first + (i * self.step) as isize).clamp(0, len as isize) as usize
    }
}

/// How many of `len` keys the lines attend to, the first to `first`.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) lines: Lines,
    pub(super) first: isize,
    pub(super) len: usize,
}

impl Seen {
    #[inline(always)]
    pub(super) fn by(self, line: usize) -> usize {
        self.lines.seen(line, self.first, self.len)
    }
}
