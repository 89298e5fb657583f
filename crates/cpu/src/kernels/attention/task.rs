//! What a task of attention is given.

use std::ops::Range;

use koan_backend::{Heads, Sequence};

use crate::{kernels::product::View, memory::Disjoint};

/// The keys and values of all sequences, `[key rows, key_value · dim]`.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) heads: Heads,
    pub(crate) scale: f32,
}

impl Context<'_> {
    /// Where key head `head` starts in key row `row`.
    #[inline(always)]
    pub(super) fn key(&self, row: usize, head: usize) -> usize {
        row * self.heads.key_features() + head * self.heads.dim
    }

    /// The part of `heads` in key rows.
    #[inline(always)]
    pub(super) fn part<'b>(&self, rows: &'b [f32], keys: &Range<usize>, heads: Range<usize>) -> View<'b> {
        let (start, features) = (self.key(keys.start, heads.start), self.heads.key_features());
        View::strided(&rows[start..], features, keys.len(), heads.len() * self.heads.dim)
    }

    /// Where query head `head` starts in row `row`.
    #[inline(always)]
    pub(super) fn query(&self, row: usize, head: usize) -> usize {
        row * self.heads.query_features() + head * self.heads.dim
    }
}

/// A forward task: some of a run's rows, and the query heads of some key heads.
pub(crate) struct Forward<'a> {
    pub(crate) context: Context<'a>,
    pub(crate) out: Disjoint<'a>,
    pub(crate) log_sum_exp: Disjoint<'a>,
    pub(crate) q: &'a [f32],
    pub(crate) sequence: &'a Sequence,
    /// The rows, counted within the run.
    pub(crate) rows: Range<usize>,
    /// The key heads.
    pub(crate) heads: Range<usize>,
}

/// A backward task: the sequences that share keys, and the query heads of one key head.
pub(crate) struct Backward<'a> {
    pub(crate) context: Context<'a>,
    pub(crate) dq: Disjoint<'a>,
    pub(crate) dk: Disjoint<'a>,
    pub(crate) dv: Disjoint<'a>,
    pub(crate) dout: &'a [f32],
    pub(crate) q: &'a [f32],
    pub(crate) out: &'a [f32],
    pub(crate) log_sum_exp: &'a [f32],
    pub(crate) sequences: &'a [Sequence],
    pub(crate) head: usize,
}
