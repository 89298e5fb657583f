//! Causal grouped-query attention (arXiv:2305.13245) over the keys that a [`Sequence`] gives each row.
//!
//! ```text
//! forward   sⱼ = scale · q·kⱼ    log_sum_exp = ln Σⱼ exp sⱼ    pⱼ = exp(sⱼ − log_sum_exp)    out = Σⱼ pⱼ vⱼ
//! backward  dsⱼ = scale · pⱼ (dout·vⱼ − dout·out)    dq = Σⱼ dsⱼ kⱼ    dkⱼ += dsⱼ q    dvⱼ += pⱼ dout
//! ```
//!
//! All sums are small products, computed in tiles as those of linear layers are ([`accumulate`]). A block of rows goes
//! through the keys together, in pieces that stay in the level 1 cache for all query heads of a group: scores are a
//! product with the piece's keys transposed, the sums over keys one with them as they lie. The scores of a block over all
//! its keys lie in scratch, a line for each row and head.
//!
//! Keys are counted by their place in the context, prefix first. Every sum is one chain, over the features or over the
//! keys in that order, and ends at the last key that its row sees; so a row's bits do not depend on whether its prompt is
//! a shared prefix or its own, on where rows lie, or on which rows are computed beside it.
//!
//!
//! Measured with AVX2 on one Zen 3 core, whose multiply-adds reach 104 GFLOP/s, in GFLOP/s, counting keys that are seen: 8
//! sequences of 512 rows, 9 heads of 64 on 3 keys: 55 forward, 52 backward; 16 of 64 rows, 4 heads: 30 and 31; single rows
//! against 1,000 keys: 11, bound by memory.

use std::ops::Range;

use koan_backend::{Heads, Sequence, sharing_groups};

use self::{
    block::{Block, Line, PIECE, Piece, ROWS, SCORES, Set},
    tiles::{Keys, WIDEST, sum_keys, sum_lines},
};
use super::product::View;
use crate::{
    kernels::Kernels,
    parallel::{Disjoint, Threads, with_scratch},
    simd::Simd,
};

mod block;
mod softmax;
mod tiles;

/// Rows of a forward task.
const TASK_ROWS: usize = 2 * ROWS;

/// Forward tasks a thread, at least, where single rows are many.
const TASKS_PER_THREAD: usize = 4;

/// Features of key heads that a task takes together, at most: 64 KB of keys transposed.
const TOGETHER: usize = 256;

/// The keys and values of all sequences, `[key rows, key_value · dim]`.
#[derive(Clone, Copy)]
struct Context<'a> {
    k: &'a [f32],
    v: &'a [f32],
    heads: Heads,
    scale: f32,
}

impl Context<'_> {
    /// Where key head `head` starts in key row `row`.
    #[inline(always)]
    fn key(&self, row: usize, head: usize) -> usize {
        row * self.heads.key_features() + head * self.heads.dim
    }

    /// The part of `heads` in key rows.
    #[inline(always)]
    fn part<'b>(&self, rows: &'b [f32], keys: &Range<usize>, heads: Range<usize>) -> View<'b> {
        let (start, features) = (self.key(keys.start, heads.start), self.heads.key_features());
        View::strided(&rows[start..], features, keys.len(), heads.len() * self.heads.dim)
    }

    /// Where query head `head` starts in row `row`.
    #[inline(always)]
    fn query(&self, row: usize, head: usize) -> usize {
        row * self.heads.query_features() + head * self.heads.dim
    }
}

/// A forward task: some of a run's rows, and the query heads of some key heads.
pub(crate) struct Forward<'a> {
    context: Context<'a>,
    out: Disjoint<'a>,
    log_sum_exp: Disjoint<'a>,
    q: &'a [f32],
    sequence: &'a Sequence,
    /// The rows, counted within the run.
    rows: Range<usize>,
    /// The key heads.
    heads: Range<usize>,
}

/// A backward task: the sequences that share keys, and the query heads of one key head.
pub(crate) struct Backward<'a> {
    context: Context<'a>,
    dq: Disjoint<'a>,
    dk: Disjoint<'a>,
    dv: Disjoint<'a>,
    dout: &'a [f32],
    q: &'a [f32],
    out: &'a [f32],
    log_sum_exp: &'a [f32],
    sequences: &'a [Sequence],
    head: usize,
}

/// Writes a task's `out` and `log_sum_exp`.
#[inline(always)]
pub(crate) fn forward<S: Simd>(s: S, task: Forward<'_>, scratch: &mut [f32]) {
    let (context, heads) = (task.context, task.heads);
    let dim = context.heads.dim;
    let (transposed, p) = scratch.split_at_mut(heads.len() * dim * PIECE);
    for block in Block::all(&context, task.sequence, task.rows, heads.clone()) {
        let space = block.space();
        block.scores(s, p, task.q, context.k, transposed);
        for (Line { start, saved, keys }, p) in block.lines().zip(p.chunks_mut(space)) {
            let log_sum_exp = softmax::forward(s, &mut p[..keys], context.scale);
            // SAFETY: these heads of the row are this task's alone, here and below.
            let (saved, out) =
                unsafe { (task.log_sum_exp.slice(saved..saved + 1), task.out.slice(start..start + dim)) };
            saved[0] = log_sum_exp;
            out.fill(0.0);
        }
        let mut pieces = block.pieces().peekable();
        while let Some(Piece { start, keys, first }) = pieces.next() {
            for Set { line, head, lines } in block.sets() {
                let next = pieces.peek().map(|next| context.part(context.v, &next.keys, head..head + 1));
                let values = context.part(context.v, &keys, head..head + 1);
                let p = &p[line * space + start..];
                // SAFETY: as above.
                unsafe { sum_keys(s, &task.out, lines, p, space, values, next, first) };
            }
        }
    }
}

/// Writes a task's `dq`, adds to its `dk` and `dv`.
#[inline(always)]
pub(crate) fn backward<S: Simd>(s: S, task: Backward<'_>, scratch: &mut [f32]) {
    let (context, head) = (task.context, task.head);
    let (dim, heads) = (context.heads.dim, head..head + 1);
    let (transposed, scratch) = scratch.split_at_mut(dim * PIECE);
    let all = task.sequences.iter().filter(|sequence| !sequence.rows.is_empty());
    for block in all.flat_map(|s| Block::all(&context, s, 0..s.rows.len(), heads.clone())) {
        let space = block.space();
        let (p, ds) = scratch.split_at_mut(block.rows.len() * context.heads.group() * space);
        for (y, x, rows) in [(&mut *p, task.q, context.k), (&mut *ds, task.dout, context.v)] {
            block.scores(s, y, x, rows, transposed);
        }
        let of_lines = p.chunks_mut(space).zip(ds.chunks_mut(space));
        for (Line { start, saved, keys }, (p, ds)) in block.lines().zip(of_lines) {
            let along = s.dot(&task.dout[start..start + dim], &task.out[start..start + dim]);
            let (scale, log_sum_exp) = (context.scale, task.log_sum_exp[saved]);
            softmax::backward(s, &mut p[..keys], &mut ds[..keys], scale, log_sum_exp, along);
            // What the block's later rows attend to has no part in this one.
            p[keys..].fill(0.0);
            ds[keys..].fill(0.0);
            // SAFETY: these heads of the row are this task's alone, here and below.
            unsafe { task.dq.slice(start..start + dim) }.fill(0.0);
        }
        for Piece { start, keys, first } in block.pieces() {
            let of_keys = context.part(context.k, &keys, heads.clone());
            for Set { line, lines, .. } in block.sets() {
                let (p, ds) = (&p[line * space + start..], &ds[line * space + start..]);
                // SAFETY: as above; and the head's columns of these key rows are this task's alone.
                unsafe { sum_keys(s, &task.dq, lines, ds, space, of_keys, None, first) };
                for (of, weights, x) in [(&task.dk, ds, task.q), (&task.dv, p, task.dout)] {
                    let y = Keys {
                        of,
                        start: context.key(keys.start, head),
                        stride: context.heads.key_features(),
                    };
                    // SAFETY: as above.
                    unsafe { sum_lines(s, y, keys.len(), weights, space, x, lines, dim, first) };
                }
            }
        }
    }
}

/// The inputs of the forward and the backward.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) sequences: &'a [Sequence],
    pub(crate) heads: Heads,
    pub(crate) scale: f32,
}

impl<'a> Inputs<'a> {
    fn context(self) -> Context<'a> {
        Context { k: self.k, v: self.v, heads: self.heads, scale: self.scale }
    }

    /// Asserts what threads rely on: no row is in two sequences.
    fn check(self) {
        let heads = self.heads;
        assert!(
            heads.dim > 0 && heads.key_value > 0 && heads.query.is_multiple_of(heads.key_value),
            "{heads:?}"
        );
        let apart = |a: &Sequence, b: &Sequence| a.rows.end <= b.rows.start || b.rows.end <= a.rows.start;
        let ascend = self.sequences.windows(2).all(|s| s[0].rows.end <= s[1].rows.start);
        let disjoint = |(i, s)| self.sequences[..i].iter().all(|other| apart(s, other));
        assert!(ascend || self.sequences.iter().enumerate().all(disjoint), "sequences with common rows");
        let own = |s: &Sequence| s.rows.len() <= s.keys.len();
        assert!(self.sequences.iter().all(own), "a run with fewer keys than rows");
    }
}

/// Scratch of a task that computes `group` query heads of each of `heads` key heads of `dim` features, for rows that
/// attend to up to `context` keys: pieces transposed, and a block's lines.
fn scratch_len(heads: usize, group: usize, dim: usize, context: usize) -> usize {
    let lines = heads * group;
    let scores = SCORES.max(lines * context).min(ROWS * lines * context);
    heads * dim * PIECE + scores + ROWS * lines * WIDEST
}

/// Writes `out` and `log_sum_exp`.
pub(crate) fn forward_all(
    kernels: &Kernels,
    threads: &Threads,
    out: &mut [f32],
    log_sum_exp: &mut [f32],
    inputs: Inputs<'_>,
) {
    inputs.check();
    let Inputs { q, sequences, heads, .. } = inputs;
    let (out, log_sum_exp) = (Disjoint::new(out), Disjoint::new(log_sum_exp));
    // A row alone is bound by memory, where a key row lies in one piece: a task takes all of it, if there are tasks enough.
    let alone = sequences.iter().filter(|s| s.rows.len() == 1).count();
    let enough = alone * heads.key_value / (threads.count() * TASKS_PER_THREAD);
    let together = enough.min(TOGETHER / heads.dim).clamp(1, heads.key_value);
    let parts = sequences.iter().flat_map(|s| {
        let together = if s.rows.len() == 1 { together } else { 1 };
        let rows = (0..s.rows.len()).step_by(TASK_ROWS).map(|row| row..(row + TASK_ROWS).min(s.rows.len()));
        let parts = move |rows: Range<usize>| {
            let first = (0..heads.key_value).step_by(together);
            first.map(move |head| (s, rows.clone(), head..(head + together).min(heads.key_value)))
        };
        rows.flat_map(parts)
    });
    let parts: Vec<_> = parts.collect();
    threads.run(parts.len(), |task| {
        let (sequence, rows, heads) = parts[task].clone();
        let len = scratch_len(heads.len(), inputs.heads.group(), inputs.heads.dim, sequence.context());
        with_scratch(len, |scratch| {
            let context = inputs.context();
            let task = Forward { context, out, log_sum_exp, q, sequence, rows, heads };
            kernels.attention_forward(task, scratch);
        });
    });
}

/// What the backward reads besides the inputs.
#[derive(Clone, Copy)]
pub(crate) struct Saved<'a> {
    pub(crate) dout: &'a [f32],
    pub(crate) out: &'a [f32],
    pub(crate) log_sum_exp: &'a [f32],
}

/// Writes `dq`, adds to `dk` and `dv`.
pub(crate) fn backward_all(
    kernels: &Kernels,
    threads: &Threads,
    [dq, dk, dv]: [&mut [f32]; 3],
    inputs: Inputs<'_>,
    saved: Saved<'_>,
) {
    inputs.check();
    let Inputs { sequences, heads, q, .. } = inputs;
    let Saved { dout, out, log_sum_exp } = saved;
    let (dq, dk, dv) = (Disjoint::new(dq), Disjoint::new(dk), Disjoint::new(dv));
    let groups = sharing_groups(sequences);
    threads.run(groups.len() * heads.key_value, |task| {
        let sequences = &sequences[groups[task / heads.key_value].clone()];
        let (context, head) = (inputs.context(), task % heads.key_value);
        let longest = sequences.iter().map(Sequence::context).max().unwrap_or(0);
        with_scratch(2 * scratch_len(1, heads.group(), heads.dim, longest), |scratch| {
            let task = Backward { context, dq, dk, dv, dout, q, out, log_sum_exp, sequences, head };
            kernels.attention_backward(task, scratch);
        });
    });
}
