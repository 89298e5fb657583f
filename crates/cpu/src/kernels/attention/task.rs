//! What a task of attention is given.

use std::ops::Range;

use koan_backend::{Heads, Sequence};

use crate::{kernels::product::View, memory::Disjoint};

/// The keys of all sequences `[key rows, key_value · dim]`, and their values `[key rows, key_value · value_stride]`, of each head the
/// first `value_dim`.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) value_stride: usize,
    pub(crate) heads: Heads,
    pub(crate) scale: f32,
}

impl Context<'_> {
    /// How queries and keys are cut.
    #[inline(always)]
    pub(super) fn of_keys(&self) -> Cut {
        let Heads { query, key_value, dim, .. } = self.heads;
        Cut { query, key_value, dim, stride: dim }
    }

    /// How outputs and values are cut.
    #[inline(always)]
    pub(super) fn of_values(&self) -> Cut {
        Cut { stride: self.value_stride, ..self.of_value_gradients() }
    }

    /// How outputs and the gradients of values are cut.
    #[inline(always)]
    pub(super) fn of_value_gradients(&self) -> Cut {
        let Heads { query, key_value, value_dim: dim, .. } = self.heads;
        Cut { query, key_value, dim, stride: dim }
    }
}

/// How rows are cut into heads: those of queries and keys, or those of outputs and values.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    query: usize,
    key_value: usize,
    /// Features of a head.
    pub(super) dim: usize,
    /// From a key head's features to those of the next.
    stride: usize,
}

impl Cut {
    /// Features of a key row.
    #[inline(always)]
    pub(super) fn key_features(self) -> usize {
        self.key_value * self.stride
    }

    /// Features of a row.
    #[inline(always)]
    pub(super) fn query_features(self) -> usize {
        self.query * self.dim
    }

    /// Where key head `head` starts in key row `row`.
    #[inline(always)]
    pub(super) fn key(self, row: usize, head: usize) -> usize {
        row * self.key_features() + head * self.stride
    }

    /// The part of key head `head` in key rows.
    #[inline(always)]
    pub(super) fn part<'b>(self, rows: &'b [f32], keys: &Range<usize>, head: usize) -> View<'b> {
        View::strided(&rows[self.key(keys.start, head)..], self.key_features(), keys.len(), self.dim)
    }

    /// Where query head `head` starts in row `row`.
    #[inline(always)]
    pub(super) fn query(self, row: usize, head: usize) -> usize {
        row * self.query_features() + head * self.dim
    }
}

/// A forward task: some of a run's rows, and the query heads of some key heads, or of one of them a part.
pub(crate) struct Forward<'a> {
    pub(crate) context: Context<'a>,
    pub(crate) out: Disjoint<'a>,
    pub(crate) log_sum_exp: Disjoint<'a>,
    pub(crate) q: &'a [f32],
    pub(crate) sequence: &'a Sequence,
    /// The rows, counted within the run.
    pub(crate) rows: Range<usize>,
    /// The query heads.
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
