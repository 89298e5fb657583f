//! Causal grouped-query attention (arXiv:2305.13245) over the keys that a [`Sequence`] gives each row.
//!
//! ```text
//! forward   sⱼ = scale · q·kⱼ    log_sum_exp = ln Σⱼ exp sⱼ    pⱼ = exp(sⱼ − log_sum_exp)    out = Σⱼ pⱼ vⱼ
//! backward  dsⱼ = scale · pⱼ (dout·vⱼ − dout·out)    dq = Σⱼ dsⱼ kⱼ    dkⱼ += dsⱼ q    dvⱼ += pⱼ dout
//! ```
//!
//! [`ROWS`] rows go through the keys together, in pieces that stay in the level 1 cache for all query heads
//! of a group. The scores of a row over all its keys lie in scratch, one line a head. Keys are counted by
//! their place in the context, prefix first, so that a row's bits do not depend on whether its prompt is a
//! shared prefix or its own, or on where rows lie. A dot product is one chain a lane and a tree, a weighted
//! sum of rows is one chain in the order of the keys.
//!
//! A multiply-add needs a load, so that loads bound it. Measured with AVX2 on one Zen 3 core, whose
//! multiply-adds reach 104 GFLOP/s, on 8 sequences of 512 rows and 9 heads of 64 in groups of 3: 37 GFLOP/s
//! forward, 26 backward.

use std::ops::Range;

use koan_backend::{Heads, Sequence, sharing_groups};

use crate::{
    kernels::Kernels,
    parallel::{Disjoint, Threads, with_scratch},
    simd::Simd,
};

/// Rows of a forward task.
const TASK_ROWS: usize = 32;

/// Rows that go through the keys together.
const ROWS: usize = 8;

/// Keys of a piece: 16 KB at 64 features, half a level 1 cache, for all heads of [`ROWS`] rows.
const PIECE: usize = 64;

/// Keys of a dot product's block.
const KEYS: usize = 8;

/// The keys and values of all sequences, `[key rows, key_value · dim]`, as one group of heads sees them.
#[derive(Clone, Copy)]
struct Context<'a> {
    k: &'a [f32],
    v: &'a [f32],
    heads: Heads,
    /// The group: the number of its key head.
    head: usize,
    scale: f32,
}

impl Context<'_> {
    /// Where the group's part of key row `row` starts.
    #[inline(always)]
    fn key(&self, row: usize) -> usize {
        row * self.heads.key_features() + self.head * self.heads.dim
    }

    /// Where query head `h` of the group starts in row `row`.
    #[inline(always)]
    fn query(&self, row: usize, h: usize) -> usize {
        row * self.heads.query_features() + (self.head * self.heads.group() + h) * self.heads.dim
    }

    /// Where the saved log-sum-exp of query head `h` of the group lies.
    #[inline(always)]
    fn saved(&self, row: usize, h: usize) -> usize {
        row * self.heads.query + self.head * self.heads.group() + h
    }
}

/// A forward task: some of a run's rows, and the query heads of one key head.
pub(crate) struct Forward<'a> {
    context: Context<'a>,
    out: Disjoint<'a>,
    log_sum_exp: Disjoint<'a>,
    q: &'a [f32],
    sequence: &'a Sequence,
    /// Keys that come before the run's own.
    before: usize,
    /// The rows, counted within the run.
    rows: Range<usize>,
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
}

/// What `rows` of a run attend to, cut into pieces of keys: for each piece, for each row, the row, how many
/// keys come before, and the key rows. `before` keys come before the run's own.
#[inline(always)]
fn pieces(
    sequence: &Sequence,
    before: usize,
    rows: Range<usize>,
) -> impl Iterator<Item = (usize, usize, Range<usize>)> {
    let own = sequence.keys.start..sequence.keys.start + sequence.visible(rows.end - 1);
    let mut counted = 0;
    let starts = sequence.prefix.iter().cloned().chain([own]).flat_map(move |keys| {
        let first = counted;
        counted += keys.len();
        keys.clone().step_by(PIECE).map(move |key| (first + key - keys.start, key, PIECE.min(keys.end - key)))
    });
    starts.flat_map(move |(start, key, len)| {
        let visible = move |i| (i, (before + sequence.visible(i)).saturating_sub(start).min(len));
        rows.clone().map(visible).filter(|(_, len)| *len > 0).map(move |(i, len)| (i, start, key..key + len))
    })
}

/// Writes a task's `out` and `log_sum_exp`.
#[inline(always)]
pub(crate) fn forward<S: Simd>(s: S, task: Forward<'_>, scratch: &mut [f32]) {
    let Forward { context, sequence, before, .. } = task;
    let (dim, group) = (context.heads.dim, context.heads.group());
    for first in task.rows.clone().step_by(ROWS) {
        let rows = first..(first + ROWS).min(task.rows.end);
        let stride = before + sequence.visible(rows.end - 1);
        let line = |i: usize, h: usize| ((i - first) * group + h) * stride;
        for (i, start, keys) in pieces(sequence, before, rows.clone()) {
            let q = &task.q[context.query(sequence.rows.start + i, 0)..][..group * dim];
            dot_rows(s, &mut scratch[line(i, 0) + start..], stride, q, dim, context.k, &context, keys);
        }
        for i in rows.clone() {
            for h in 0..group {
                let scores = &mut scratch[line(i, h)..][..before + sequence.visible(i)];
                let log_sum_exp = softmax(s, scores, context.scale);
                let row = sequence.rows.start + i;
                let (saved, start) = (context.saved(row, h), context.query(row, h));
                // SAFETY: the row's heads of this group are this task's alone, here and below.
                let (saved, out) =
                    unsafe { (task.log_sum_exp.slice(saved..saved + 1), task.out.slice(start..start + dim)) };
                saved[0] = log_sum_exp;
                out.fill(0.0);
            }
        }
        for (i, start, keys) in pieces(sequence, before, rows) {
            for h in 0..group {
                let head = context.query(sequence.rows.start + i, h);
                // SAFETY: as above.
                let out = unsafe { task.out.slice(head..head + dim) };
                let p = &scratch[line(i, h) + start..][..keys.len()];
                sum_rows(s, out, p, context.v, &context, keys.clone());
            }
        }
    }
}

/// Writes a task's `dq`, adds to its `dk` and `dv`.
#[inline(always)]
pub(crate) fn backward<S: Simd>(s: S, task: Backward<'_>, scratch: &mut [f32]) {
    let context = task.context;
    let (dim, group) = (context.heads.dim, context.heads.group());
    for (sequence, first) in
        task.sequences.iter().flat_map(|s| (0..s.rows.len()).step_by(ROWS).map(move |i| (s, i)))
    {
        let rows = first..(first + ROWS).min(sequence.rows.len());
        let before = sequence.before();
        let stride = before + sequence.visible(rows.end - 1);
        let (p, ds) = scratch.split_at_mut(ROWS * group * stride);
        let line = |i: usize, h: usize| ((i - first) * group + h) * stride;
        let heads = |i: usize| {
            let start = context.query(sequence.rows.start + i, 0);
            start..start + group * dim
        };
        for (i, start, keys) in pieces(sequence, before, rows.clone()) {
            let (start, q, dout) = (line(i, 0) + start, &task.q[heads(i)], &task.dout[heads(i)]);
            dot_rows(s, &mut p[start..], stride, q, dim, context.k, &context, keys.clone());
            dot_rows(s, &mut ds[start..], stride, dout, dim, context.v, &context, keys);
        }
        for i in rows.clone() {
            let (dout, out) = (&task.dout[heads(i)], &task.out[heads(i)]);
            for (h, (dout, out)) in dout.chunks_exact(dim).zip(out.chunks_exact(dim)).enumerate() {
                let line = line(i, h)..line(i, h) + before + sequence.visible(i);
                let log_sum_exp = task.log_sum_exp[context.saved(sequence.rows.start + i, h)];
                let along = s.dot(dout, out);
                softmax_backward(s, &mut p[line.clone()], &mut ds[line], context.scale, log_sum_exp, along);
            }
            // SAFETY: the row's heads of this group are this task's alone, here and below.
            unsafe { task.dq.slice(heads(i)) }.fill(0.0);
        }
        for (i, start, keys) in pieces(sequence, before, rows.clone()) {
            // SAFETY: as above.
            let dq = unsafe { task.dq.slice(heads(i)) };
            for (h, dq) in dq.chunks_exact_mut(dim).enumerate() {
                let ds = &ds[line(i, h) + start..][..keys.len()];
                sum_rows(s, dq, ds, context.k, &context, keys.clone());
            }
        }
        for (i, start, keys) in pieces(sequence, before, rows.clone()) {
            add_outer(s, task.dk, &ds[line(i, 0) + start..], stride, &task.q[heads(i)], dim, &context, keys);
        }
        for (i, start, keys) in pieces(sequence, before, rows) {
            add_outer(
                s,
                task.dv,
                &p[line(i, 0) + start..],
                stride,
                &task.dout[heads(i)],
                dim,
                &context,
                keys,
            );
        }
    }
}

/// `y[h · stride + j] = x[h]·row[j]` for the rows `keys` of `rows` and the heads `x` `[group, dim]`.
#[inline(always)]
fn dot_rows<S: Simd>(
    s: S,
    y: &mut [f32],
    stride: usize,
    x: &[f32],
    dim: usize,
    rows: &[f32],
    context: &Context<'_>,
    keys: Range<usize>,
) {
    let whole = dim - dim % S::LANES;
    for first in keys.clone().step_by(KEYS) {
        let count = KEYS.min(keys.end - first);
        let mut block = [&rows[context.key(first)..][..dim]; KEYS];
        for (j, row) in block.iter_mut().enumerate().take(count) {
            *row = &rows[context.key(first + j)..][..dim];
        }
        for (h, x) in x.chunks_exact(dim).enumerate() {
            let mut sums = [s.splat(0.0); KEYS];
            for d in (0..whole).step_by(S::LANES) {
                // SAFETY: `x` and all of `block` are `dim` ≥ `d + LANES` long.
                unsafe {
                    let x = s.load_at(x.as_ptr().add(d));
                    for (sum, row) in sums.iter_mut().zip(&block) {
                        *sum = s.mul_add(x, s.load_at(row.as_ptr().add(d)), *sum);
                    }
                }
            }
            if whole < dim {
                let x = s.load(&x[whole..]);
                for (sum, row) in sums.iter_mut().zip(&block) {
                    *sum = s.mul_add(x, s.load(&row[whole..]), *sum);
                }
            }
            let (y, sums) = (&mut y[h * stride + first - keys.start..][..count], s.sum_8(sums));
            if count == KEYS {
                y.copy_from_slice(&sums); // a length that the compiler knows
            } else {
                y.copy_from_slice(&sums[..count]);
            }
        }
    }
}

/// `y += Σⱼ weights[j] · row[j]` for the rows `keys` of `rows`.
#[inline(always)]
fn sum_rows<S: Simd>(
    s: S,
    y: &mut [f32],
    weights: &[f32],
    rows: &[f32],
    context: &Context<'_>,
    keys: Range<usize>,
) {
    if keys.is_empty() {
        return;
    }
    let (dim, stride) = (y.len(), context.heads.key_features());
    let rows = &rows[context.key(keys.start)..];
    assert!(weights.len() == keys.len() && (keys.len() - 1) * stride + dim <= rows.len());
    let mut d = 0;
    // SAFETY: every row of `keys` has `dim` numbers, as `y` has.
    unsafe {
        while d + 8 * S::LANES <= dim {
            sum_columns::<S, 8>(s, y.as_mut_ptr().add(d), weights, rows.as_ptr().add(d), stride);
            d += 8 * S::LANES;
        }
        while d + 2 * S::LANES <= dim {
            sum_columns::<S, 2>(s, y.as_mut_ptr().add(d), weights, rows.as_ptr().add(d), stride);
            d += 2 * S::LANES;
        }
    }
    for d in (d..dim).step_by(S::LANES) {
        let columns = d..(d + S::LANES).min(dim);
        let mut sum = s.load(&y[columns.clone()]);
        for (weight, row) in weights.iter().zip(rows.chunks(stride)) {
            sum = s.mul_add(s.splat(*weight), s.load(&row[columns.clone()]), sum);
        }
        s.store(&mut y[columns], sum);
    }
}

/// `y += Σⱼ weights[j] · row[j]`, `N` vectors wide.
///
/// # Safety
/// `N` vectors can be read and written at `y`, and read at each of `weights.len()` rows, `stride` numbers
/// apart.
#[inline(always)]
unsafe fn sum_columns<S: Simd, const N: usize>(
    s: S,
    y: *mut f32,
    weights: &[f32],
    rows: *const f32,
    stride: usize,
) {
    let mut sums = [s.splat(0.0); N];
    // SAFETY: by this function's contract.
    unsafe {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = s.load_at(y.add(i * S::LANES));
        }
        for (j, weight) in weights.iter().enumerate() {
            let (weight, row) = (s.splat(*weight), rows.add(j * stride));
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = s.mul_add(weight, s.load_at(row.add(i * S::LANES)), *sum);
            }
        }
        for (i, sum) in sums.iter().enumerate() {
            s.store_at(y.add(i * S::LANES), *sum);
        }
    }
}

/// `row[j] += Σₕ weights[h · stride + j] · x[h]`, in the order of the heads, for the rows `keys` of `rows`,
/// which are this task's alone.
#[inline(always)]
fn add_outer<S: Simd>(
    s: S,
    rows: Disjoint<'_>,
    weights: &[f32],
    stride: usize,
    x: &[f32],
    dim: usize,
    context: &Context<'_>,
    keys: Range<usize>,
) {
    let (group, whole) = (x.len() / dim, dim - dim % (4 * S::LANES));
    assert!(weights.len() >= (group - 1) * stride + keys.len());
    for (j, key) in keys.enumerate() {
        let start = context.key(key);
        // SAFETY: the group's columns of these key rows are the caller's task's alone.
        let row = unsafe { rows.slice(start..start + dim) };
        for d in (0..whole).step_by(4 * S::LANES) {
            let mut sums = [s.splat(0.0); 4];
            // SAFETY: four vectors from `d` on lie within `row` and within each head of `x`, and a weight of
            // each head within `weights`.
            unsafe {
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = s.load_at(row.as_ptr().add(d + i * S::LANES));
                }
                for h in 0..group {
                    let (weight, x) =
                        (s.splat(*weights.get_unchecked(h * stride + j)), x.as_ptr().add(h * dim + d));
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = s.mul_add(weight, s.load_at(x.add(i * S::LANES)), *sum);
                    }
                }
                for (i, sum) in sums.iter().enumerate() {
                    s.store_at(row.as_mut_ptr().add(d + i * S::LANES), *sum);
                }
            }
        }
        for (d, row) in (whole..dim).step_by(S::LANES).zip(row[whole..].chunks_mut(S::LANES)) {
            let mut sum = s.load(row);
            for (h, x) in x.chunks_exact(dim).enumerate() {
                sum = s.mul_add(s.splat(weights[h * stride + j]), s.load(&x[d..][..row.len()]), sum);
            }
            s.store(row, sum);
        }
    }
}

/// Turns dot products into probabilities, `exp(scale · x − max) / Σ exp(scale · x − max)`; gives the
/// log-sum-exp.
#[inline(always)]
fn softmax<S: Simd>(s: S, x: &mut [f32], scale: f32) -> f32 {
    let scale = s.splat(scale);
    let mut max = s.splat(f32::NEG_INFINITY);
    for x in x.chunks(S::LANES) {
        max = s.max(s.mul(s.load_or(x, x[0]), scale), max);
    }
    let max = s.greatest(max);
    let (shift, mut sum) = (s.splat(max), s.splat(0.0));
    for x in x.chunks_mut(S::LANES) {
        s.store(x, s.exp(s.sub(s.mul(s.load(x), scale), shift)));
        sum = s.add(sum, s.load(x));
    }
    let sum = s.sum(sum);
    let inverse = s.splat(sum.recip());
    for x in x.chunks_mut(S::LANES) {
        s.store(x, s.mul(s.load(x), inverse));
    }
    max + sum.ln()
}

/// Turns dot products `p` and `ds`, of queries with keys and of `dout` with values, into probabilities and
/// `ds`. `along` is `dout·out`.
#[inline(always)]
fn softmax_backward<S: Simd>(s: S, p: &mut [f32], ds: &mut [f32], scale: f32, log_sum_exp: f32, along: f32) {
    let (scale, shift, along) = (s.splat(scale), s.splat(log_sum_exp), s.splat(along));
    for (p, ds) in p.chunks_mut(S::LANES).zip(ds.chunks_mut(S::LANES)) {
        let probability = s.exp(s.sub(s.mul(s.load(p), scale), shift));
        s.store(ds, s.mul(s.mul(probability, s.sub(s.load(ds), along)), scale));
        s.store(p, probability);
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
    fn context(self, head: usize) -> Context<'a> {
        Context { k: self.k, v: self.v, heads: self.heads, head, scale: self.scale }
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

/// Writes `out` and `log_sum_exp`.
pub(crate) fn forward_all(
    kernels: &Kernels,
    threads: &Threads,
    out: &mut [f32],
    log_sum_exp: &mut [f32],
    inputs: Inputs<'_>,
) {
    inputs.check();
    let Inputs { sequences, heads, .. } = inputs;
    let (out, log_sum_exp) = (Disjoint::new(out), Disjoint::new(log_sum_exp));
    let parts = sequences.iter().flat_map(|s| (0..s.rows.len()).step_by(TASK_ROWS).map(move |row| (s, row)));
    let parts: Vec<(&Sequence, usize)> = parts.collect();
    threads.run(parts.len() * heads.key_value, |task| {
        let ((sequence, row), head) = (parts[task / heads.key_value], task % heads.key_value);
        let rows = row..(row + TASK_ROWS).min(sequence.rows.len());
        let (context, before) = (inputs.context(head), sequence.before());
        with_scratch(ROWS * heads.group() * sequence.context(), |scratch| {
            let task = Forward { context, out, log_sum_exp, q: inputs.q, sequence, before, rows };
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
        let context = inputs.context(task % heads.key_value);
        let longest = sequences.iter().map(Sequence::context).max().unwrap_or(0);
        with_scratch(2 * ROWS * heads.group() * longest, |scratch| {
            let task = Backward { context, dq, dk, dv, dout, q, out, log_sum_exp, sequences };
            kernels.attention_backward(task, scratch);
        });
    });
}
