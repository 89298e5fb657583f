//! Causal grouped-query attention (arXiv:2305.13245) over the keys that a [`Sequence`] gives each row.
//!
//! ```text
//! forward   sⱼ = scale · q·kⱼ    log_sum_exp = ln Σⱼ exp sⱼ    pⱼ = exp(sⱼ − log_sum_exp)    out = Σⱼ pⱼ vⱼ
//! backward  dsⱼ = scale · pⱼ (dout·vⱼ − dout·out)    dq = Σⱼ dsⱼ kⱼ    dkⱼ += dsⱼ q    dvⱼ += pⱼ dout
//! ```
//!
//! All sums are small products, computed in tiles as those of linear layers are. A block of rows goes through the keys
//! together, in pieces that stay in the level 1 cache for all query heads of a group: scores are a product with the
//! piece's keys transposed, the sums over keys one with them as they lie. The scores of a block over all its keys lie in
//! scratch, a line for each row and head.
//!
//! Keys are counted by their place in the context, prefix first. Every sum is one chain, over the features or over the
//! keys in that order, and ends at the last key that its row sees; so a row's bits do not depend on whether its prompt is
//! a shared prefix or its own, on where rows lie, or on which rows are computed beside it.
//!
//! - `task.rs`: what a task is given,
//! - `block.rs`: a block of its rows, and the pieces of keys,
//! - `lines.rs`: the rows as lines of scores,
//! - `tiles.rs`: the products, `softmax.rs`: what lies between them.
//!
//! Measured with AVX2 on one Zen 3 core, whose multiply-adds reach 104 GFLOP/s, in GFLOP/s, counting keys that are seen: 8
//! sequences of 512 rows, 9 heads of 64 on 3 keys: 55 forward, 52 backward; 16 of 64 rows, 4 heads: 30 and 31; single rows
//! against 1,000 keys: 11, bound by memory.

mod block;
mod lines;
mod softmax;
mod task;
mod tiles;

pub(crate) use self::{
    block::most_rows,
    task::{Backward, Context, Forward},
};
use self::{
    block::{Block, Line, Piece, SCORES, Set, key_heads},
    lines::{PIECE, WIDEST},
    tiles::{Keys, sum_keys, sum_lines},
};
use crate::simd::Simd;

/// Scratch of a task that computes `group` query heads of each of `heads` key heads of `dim` features, for rows that
/// attend to up to `context` keys: pieces transposed, and a block's lines.
pub(crate) fn scratch_len(heads: usize, group: usize, dim: usize, context: usize) -> usize {
    let (lines, rows) = (heads * group, most_rows(group));
    let scores = SCORES.max(lines * context).min(rows * lines * context);
    heads * dim * PIECE + scores + rows * lines * WIDEST
}

/// Writes a task's `out` and `log_sum_exp`.
#[inline(always)]
pub(crate) fn forward<S: Simd>(s: S, task: Forward<'_>, scratch: &mut [f32]) {
    let (context, heads) = (task.context, task.heads);
    let (of_keys, of_values) = (context.of_keys(), context.of_values());
    let (transposed, p) =
        scratch.split_at_mut(key_heads(&heads, context.heads.group()).len() * of_keys.dim * PIECE);
    for block in Block::all(&context, task.sequence, task.rows, heads.clone()) {
        let space = block.space();
        block.scores(s, of_keys, p, task.q, context.k, transposed);
        for (Line { row, head, saved, keys }, p) in block.lines().zip(p.chunks_mut(space)) {
            let log_sum_exp = softmax::forward(s, &mut p[..keys], context.scale);
            let start = of_values.query(row, head);
            // SAFETY: these heads of the row are this task's alone, here and below.
            let (saved, out) = unsafe {
                (task.log_sum_exp.slice(saved..saved + 1), task.out.slice(start..start + of_values.dim))
            };
            saved[0] = log_sum_exp;
            out.fill(0.0);
        }
        let mut pieces = block.pieces().peekable();
        while let Some(Piece { start, keys, first }) = pieces.next() {
            for Set { line, head, lines } in block.sets(of_values) {
                let next = pieces.peek().map(|next| of_values.part(context.v, &next.keys, head));
                let values = of_values.part(context.v, &keys, head);
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
    let (of_keys, of_values) = (context.of_keys(), context.of_values());
    let of_value_gradients = context.of_value_gradients();
    let (transposed, scratch) = scratch.split_at_mut(of_keys.dim.max(of_values.dim) * PIECE);
    let all = task.sequences.iter().filter(|sequence| !sequence.rows.is_empty());
    let heads = head * context.heads.group()..(head + 1) * context.heads.group();
    for block in all.flat_map(|s| Block::all(&context, s, 0..s.rows.len(), heads.clone())) {
        let space = block.space();
        let (p, ds) = scratch.split_at_mut(block.rows.len() * context.heads.group() * space);
        for (cut, y, x, rows) in
            [(of_keys, &mut *p, task.q, context.k), (of_values, &mut *ds, task.dout, context.v)]
        {
            block.scores(s, cut, y, x, rows, &mut transposed[..cut.dim * PIECE]);
        }
        let of_lines = p.chunks_mut(space).zip(ds.chunks_mut(space));
        for (Line { row, head, saved, keys }, (p, ds)) in block.lines().zip(of_lines) {
            let start = of_values.query(row, head);
            let of_row = start..start + of_values.dim;
            let along = s.dot(&task.dout[of_row.clone()], &task.out[of_row]);
            let (scale, log_sum_exp) = (context.scale, task.log_sum_exp[saved]);
            softmax::backward(s, &mut p[..keys], &mut ds[..keys], scale, log_sum_exp, along);
            // What the block's later rows attend to has no part in this one.
            p[keys..].fill(0.0);
            ds[keys..].fill(0.0);
            let start = of_keys.query(row, head);
            // SAFETY: these heads of the row are this task's alone, here and below.
            unsafe { task.dq.slice(start..start + of_keys.dim) }.fill(0.0);
        }
        for Piece { start, keys, first } in block.pieces() {
            for Set { line, lines, .. } in block.sets(of_keys) {
                let of_piece = of_keys.part(context.k, &keys, head);
                // SAFETY: as above; and the head's columns of these key rows are this task's alone.
                unsafe {
                    sum_keys(s, &task.dq, lines, &ds[line * space + start..], space, of_piece, None, first);
                };
            }
            for (cut, of, weights, x) in
                [(of_keys, &task.dk, &*ds, task.q), (of_value_gradients, &task.dv, &*p, task.dout)]
            {
                for Set { line, lines, .. } in block.sets(cut) {
                    let y = Keys { of, start: cut.key(keys.start, head), stride: cut.key_features() };
                    let weights = &weights[line * space + start..];
                    // SAFETY: as above.
                    unsafe { sum_lines(s, y, keys.len(), weights, space, x, lines, cut.dim, first) };
                }
            }
        }
    }
}
