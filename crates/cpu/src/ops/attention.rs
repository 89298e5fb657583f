//! Attention, cut into tasks: forward by rows and key heads, backward by the sequences that share keys and key heads.

use std::ops::Range;

use koan_backend::{Heads, Sequence, sharing_groups};

use crate::{
    kernels::attention::{self, Backward, Context, Forward, most_rows},
    memory::{Disjoint, with_scratch},
    parallel::Threads,
    tables::Kernels,
};

/// Rows of a forward task.
const TASK_ROWS: usize = most_rows(1);

/// Forward tasks per thread, at least, where single rows are many.
const TASKS_PER_THREAD: usize = 4;

/// Features of key heads that a task takes together, at most: 64 KB of keys transposed.
const TOGETHER: usize = 256;

/// The inputs of the forward and the backward. The sequences are those of a checked layout: threads rely on no row being in
/// two of them.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) k: &'a [f32],
    /// None where values are the first features of keys.
    pub(crate) v: Option<&'a [f32]>,
    pub(crate) sequences: &'a [Sequence],
    pub(crate) heads: Heads,
    pub(crate) scale: f32,
}

impl<'a> Inputs<'a> {
    fn context(self) -> Context<'a> {
        let Self { k, v, heads, scale, .. } = self;
        let value_stride = if v.is_some() { heads.value_dim } else { heads.dim };
        Context { k, v: v.unwrap_or(k), value_stride, heads, scale }
    }

    fn check(self) {
        let heads = self.heads;
        assert!(
            heads.dim > 0
                && heads.value_dim > 0
                && heads.key_value > 0
                && heads.query.is_multiple_of(heads.key_value)
                && (self.v.is_some() || heads.value_dim <= heads.dim),
            "{heads:?}"
        );
    }
}

/// Writes `out` and `log_sum_exp`.
pub(crate) fn forward(
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
    // Where there are fewer than threads, a task takes a part of a key head's queries: several read the same keys.
    let group = heads.group();
    let parts_of_group = threads.count().div_ceil((alone * heads.key_value).max(1)).clamp(1, group);
    let parts = sequences.iter().flat_map(|s| {
        let is_alone = s.rows.len() == 1;
        let together = if is_alone { together } else { 1 };
        let step = if is_alone && together == 1 { group.div_ceil(parts_of_group) } else { together * group };
        let rows = (0..s.rows.len()).step_by(TASK_ROWS).map(|row| row..(row + TASK_ROWS).min(s.rows.len()));
        let parts = move |rows: Range<usize>| {
            let key_heads = (0..heads.key_value).step_by(together);
            let queries = key_heads.flat_map(move |head| {
                let end = (head + together).min(heads.key_value) * group;
                (head * group..end).step_by(step).map(move |first| first..(first + step).min(end))
            });
            queries.map(move |queries| (s, rows.clone(), queries))
        };
        rows.flat_map(parts)
    });
    let parts: Vec<_> = parts.collect();
    threads.run(parts.len(), |task| {
        let (sequence, rows, heads) = parts[task].clone();
        let (dim, key_heads) = (inputs.heads.dim, heads.len().div_ceil(group));
        let of_each = heads.len().div_ceil(key_heads);
        let len = attention::scratch_len(key_heads, of_each, dim, sequence.context());
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

/// Writes `dq`, and `dk` and `dv` of the keys that sequences have.
pub(crate) fn backward(
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
        for row in sequences.iter().flat_map(|s| s.prefix.iter().chain([&s.keys])).flat_map(Range::clone) {
            for (d, features, of_head) in
                [(dk, heads.key_features(), heads.dim), (dv, heads.value_features(), heads.value_dim)]
            {
                let start = row * features + head * of_head;
                // SAFETY: a key head of the sequences that share keys is this task's alone.
                unsafe { d.slice(start..start + of_head) }.fill(0.0);
            }
        }
        let longest = sequences.iter().map(Sequence::context).max().unwrap_or(0);
        let dim = heads.dim.max(heads.value_dim);
        with_scratch(2 * attention::scratch_len(1, heads.group(), dim, longest), |scratch| {
            let task = Backward { context, dq, dk, dv, dout, q, out, log_sum_exp, sequences, head };
            kernels.attention_backward(task, scratch);
        });
    });
}
