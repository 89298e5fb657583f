//! What attention computes together: a block of rows, as lines, and the pieces of keys that it goes through.

use std::ops::Range;

use koan_backend::Sequence;

use super::{
    lines::{Lines, PIECE, WIDEST},
    task::{Context, Cut},
    tiles::scores,
};
use crate::{kernels::product::pack, simd::Simd};

/// Rows of a block, at most, where several query heads have a key head: whole tiles of every instruction set.
const ROWS: usize = 24;

/// Rows of a block, at most, where each query head has a key head of its own: its lines alone share what is transposed of the keys.
const ROWS_OF_ONE: usize = 3 * ROWS;

/// Rows of a block, at most, where `group` query heads have a key head.
pub(crate) const fn most_rows(group: usize) -> usize {
    if group == 1 { ROWS_OF_ONE } else { ROWS }
}

/// Scores of a block that a level 2 cache holds; a longer context has smaller blocks.
pub(super) const SCORES: usize = 96 << 10;

/// Neighbouring keys that a block's rows attend to.
pub(super) struct Piece {
    /// The place of the first in the context.
    pub(super) start: usize,
    /// Their key rows.
    pub(super) keys: Range<usize>,
    /// How many of them, and of those after them, the block's first row attends to; less than none, if it stands before them.
    pub(super) first: isize,
}

/// The pieces that `rows` of a run attend to; `before` keys come before the run's own. None crosses a place in the context
/// that is a multiple of [`PIECE`].
#[inline(always)]
fn pieces(sequence: &Sequence, before: usize, rows: &Range<usize>) -> impl Iterator<Item = Piece> {
    let own = sequence.keys.start..sequence.keys.start + sequence.visible(rows.end - 1);
    let visible = before + sequence.visible(rows.start);
    let mut ranges = sequence.prefix.iter().cloned().chain([own]);
    let (mut start, mut rest) = (0, 0..0);
    std::iter::from_fn(move || {
        while rest.is_empty() {
            rest = ranges.next()?;
        }
        let keys = rest.start..rest.end.min(rest.start + PIECE - start % PIECE);
        let piece = Piece { start, keys: keys.clone(), first: visible as isize - start as isize };
        (start, rest.start) = (start + keys.len(), keys.end);
        Some(piece)
    })
}

/// Query heads of one key head, in all rows of a block or in its only one.
pub(super) struct Set {
    /// The number of its first line in scratch.
    pub(super) line: usize,
    /// The key head.
    pub(super) head: usize,
    pub(super) lines: Lines,
}

/// The key heads that query heads attend to.
#[inline(always)]
pub(super) fn key_heads(heads: &Range<usize>, group: usize) -> Range<usize> {
    heads.start / group..heads.end.div_ceil(group)
}

/// A row and query head of a block.
pub(super) struct Line {
    /// The row.
    pub(super) row: usize,
    /// The query head.
    pub(super) head: usize,
    /// Where its saved log-sum-exp lies.
    pub(super) saved: usize,
    /// How many keys it attends to.
    pub(super) keys: usize,
}

/// `rows` of a run, and some query heads: those of some key heads, or of one of them a part. Its lines in scratch are those of a
/// query head, then those of the next.
pub(super) struct Block<'a> {
    context: &'a Context<'a>,
    sequence: &'a Sequence,
    before: usize,
    pub(super) rows: Range<usize>,
    /// The query heads.
    heads: Range<usize>,
}

impl<'a> Block<'a> {
    /// The blocks of `rows` of a run.
    #[inline(always)]
    pub(super) fn all(
        context: &'a Context<'a>,
        sequence: &'a Sequence,
        rows: Range<usize>,
        heads: Range<usize>,
    ) -> impl Iterator<Item = Self> {
        let before = sequence.before();
        let longest = before + sequence.visible(rows.end - 1);
        let scores = longest * heads.len();
        let most = (SCORES / scores).clamp(1, ROWS);
        // Above the rows of any block only where little of the cache is taken.
        let most = most.max(most_rows(context.heads.group()).min(SCORES / 4 / scores));
        let end = rows.end;
        rows.step_by(most).map(move |row| {
            let (rows, heads) = (row..end.min(row + most), heads.clone());
            Self { context, sequence, before, rows, heads }
        })
    }

    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> {
        pieces(self.sequence, self.before, &self.rows)
    }

    /// How many keys the last row attends to.
    fn keys(&self) -> usize {
        self.before + self.sequence.visible(self.rows.end - 1)
    }

    /// Space of a line in scratch: one element per key, and what whole vectors write beyond the last.
    pub(super) fn space(&self) -> usize {
        self.keys() + WIDEST
    }

    fn key_heads(&self) -> Range<usize> {
        key_heads(&self.heads, self.context.heads.group())
    }

    /// The sets, their lines in rows that are cut by `cut`.
    #[inline(always)]
    pub(super) fn sets(&self, cut: Cut) -> impl Iterator<Item = Set> {
        let group = self.context.heads.group();
        let (row, rows, heads) =
            (self.sequence.rows.start + self.rows.start, self.rows.len(), self.heads.clone());
        // The heads of a row, or the rows of a head: what lies at equal distances.
        let (together, stride, step) =
            if rows == 1 { (group.min(heads.len()), cut.dim, 0) } else { (1, cut.query_features(), 1) };
        heads.clone().step_by(together).map(move |head| {
            let lines = Lines { count: rows * together, start: cut.query(row, head), stride, step };
            Set { line: (head - heads.start) * rows, head: head / group, lines }
        })
    }

    #[inline(always)]
    pub(super) fn lines(&self) -> impl Iterator<Item = Line> {
        self.heads.clone().flat_map(move |head| {
            self.rows.clone().map(move |i| {
                let row = self.sequence.rows.start + i;
                let saved = row * self.context.heads.query + head;
                Line { row, head, saved, keys: self.before + self.sequence.visible(i) }
            })
        })
    }

    /// Writes to each line of `y` the products of its `x` with its part of the key rows `rows` that it attends to, both cut
    /// by `cut`. `transposed` is room for a piece of them.
    #[inline(always)]
    pub(super) fn scores<S: Simd>(
        &self,
        s: S,
        cut: Cut,
        y: &mut [f32],
        x: &[f32],
        rows: &[f32],
        transposed: &mut [f32],
    ) {
        let space = self.space();
        let len = cut.dim * PIECE;
        let mut pieces = self.pieces().peekable();
        while let Some(Piece { start, keys, first }) = pieces.next() {
            let (beside, end) = (start % PIECE, start + keys.len());
            for (head, transposed) in self.key_heads().zip(transposed.chunks_exact_mut(len)) {
                // What comes next is fetched meanwhile: where few lines read it, memory is what they wait for.
                let next = pieces.peek().map(|next| cut.part(rows, &next.keys, head));
                let keys = cut.part(rows, &keys, head);
                pack::transpose(s, &mut transposed[beside..], PIECE, keys, next);
            }
            if end.is_multiple_of(PIECE) || end == self.keys() {
                // With the pieces that stand beside this one.
                let (start, first) = (start - beside, first + beside as isize);
                for Set { line, head, lines } in self.sets(cut) {
                    let transposed = &transposed[(head - self.key_heads().start) * len..][..len];
                    let y = &mut y[line * space + start..];
                    scores(s, y, space, x, lines, transposed, cut.dim, first, end - start);
                }
            }
        }
    }
}
