//! The MLPs of experts, an expert a task: the products of its three matrices and SwiGLU between them, so that what one writes the next
//! finds in the level 2 cache. Rows are read where they lie, and matrices are packed where they are read.
//!
//! ```text
//! forward    for each block of the expert's rows      its x [96, hidden], gate, up and SwiGLU [96, features]
//! backward   for each chunk of the expert's rows      its x and dy [288, hidden], gate, up and SwiGLU [288, features]
//! ```
//!
//! Where products are bf16, rows are gathered as bf16, and what lies between two products is rounded as it is read. Each element is the chain that the operations one after another give it: a chain goes on from memory, in f32, where it is cut.

use std::ops::Range;

use koan_backend::{ExpertRows, Store};

use crate::{
    kernels::product::{Block, Panels, Source, View},
    memory::{Disjoint, as_bf16, with_scratch},
    ops::experts::busy,
    parallel::Threads,
    tables::Kernels,
};

/// Rows of an expert that the backward takes at once: three blocks.
const CHUNK: usize = 288;

/// Elements of a matrix, at most: three packed ones and the rows of a chunk are some megabytes.
const LARGEST: usize = 1 << 18;

/// Experts that each thread should have, so that one of many rows is not waited for.
const EXPERTS_PER_THREAD: usize = 4;

/// The matrices of experts, and the rows that go to them.
#[derive(Clone, Copy)]
pub(crate) struct Mixture<'a> {
    /// `[experts, features, hidden]` twice, and `[experts, hidden, features]`.
    pub(crate) w: [&'a [f32]; 3],
    pub(crate) hidden: usize,
    pub(crate) features: usize,
    pub(crate) copies: &'a ExpertRows,
    /// Of each copy.
    pub(crate) weights: &'a [f32],
}

/// Whether tasks of an expert each are what suits these `copies`.
pub(crate) fn suits(threads: &Threads, hidden: usize, features: usize, copies: &ExpertRows) -> bool {
    let enough = threads.count() == 1 || busy(copies).len() >= EXPERTS_PER_THREAD * threads.count();
    enough && hidden * features <= LARGEST
}

impl<'a> Mixture<'a> {
    /// Matrix `i` of expert `e`, row-major.
    fn matrix(self, i: usize, e: usize) -> Source<'a> {
        let [out, inp] = if i < 2 { [self.features, self.hidden] } else { [self.hidden, self.features] };
        Source::new(&self.w[i][e * out * inp..], out, inp)
    }

    /// The rows of `x` that are these copies.
    fn gather<'b>(self, to: &'b mut [f32], x: Source<'_>, copies: &Range<usize>) -> Source<'b> {
        fn gather<'b, T: Copy>(to: &'b mut [T], x: View<'_, T>, rows: &[u32]) -> View<'b, T> {
            for (to, &row) in to.chunks_exact_mut(x.columns()).zip(rows) {
                to.copy_from_slice(x.row(row as usize));
            }
            View::new(to, rows.len(), x.columns())
        }
        let rows = &self.copies.rows()[copies.clone()];
        match x {
            Source::F32(x) => Source::F32(gather(to, x, rows)),
            Source::Bf16(x) => Source::Bf16(gather(as_bf16(to), x, rows)),
        }
    }

    /// Runs `task` for each expert that has copies; each thread gets as many, and does those with the most first.
    fn run(self, threads: &Threads, task: impl Fn(usize) + Sync) {
        let mut experts = busy(self.copies);
        experts.sort_by_key(|&e| std::cmp::Reverse(self.copies.of(e).len()));
        let (all, hands) = (experts, threads.count());
        let experts: Vec<_> = (0..hands).flat_map(|i| all.iter().skip(i).step_by(hands).copied()).collect();
        threads.run(experts.len(), |i| task(experts[i]));
    }
}

/// `range` in parts of about the same length, at most `most`, which is some `unit`s, as all parts but the last are.
fn parts(range: Range<usize>, most: usize, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let len = range.len().div_ceil(range.len().div_ceil(most)).next_multiple_of(unit);
    range.clone().step_by(len).map(move |start| start..range.end.min(start + len))
}

/// `x` `[rows, columns]` as products read it: itself, or rounded into `room`, which has space for half as many f32.
fn operand<'a>(
    kernels: &Kernels,
    room: &'a mut [f32],
    x: &'a [f32],
    [rows, columns]: [usize; 2],
) -> Source<'a> {
    if !kernels.rounds() {
        return Source::new(x, rows, columns);
    }
    let rounded = &mut as_bf16(room)[..x.len()];
    kernels.round(rounded, x);
    Source::Bf16(View::new(rounded, rows, columns))
}

/// Packs `b` into `data`, which has the space.
fn pack<'a>(kernels: &Kernels, data: &'a mut [f32], b: Source<'_>) -> Panels<'a> {
    let (width, columns) = (kernels.format.panel_columns, b.columns());
    let panels = data.chunks_exact_mut(kernels.format.panel_len(b.rows()));
    for (column, panel) in (0..columns).step_by(width).zip(panels) {
        kernels.pack(panel, b.part(0, b.rows(), column, width.min(columns - column)));
    }
    Panels::new(&kernels.format, data, b.rows(), columns)
}

/// `c = a b`, or `c += a b`, block by block.
fn multiply(
    kernels: &Kernels,
    c: &mut [f32],
    a: Source<'_>,
    b: Panels<'_>,
    store: Store,
    scratch: &mut [f32],
) {
    let (rows, columns, format) = (a.rows(), b.columns(), &kernels.format);
    let c = Disjoint::new(&mut c[..rows * columns]);
    for row in (0..rows).step_by(format.block_rows) {
        let height = format.block_rows.min(rows - row);
        for column in (0..columns).step_by(format.block_columns) {
            let width = format.block_columns.min(columns - column);
            // SAFETY: C is the caller's alone, and one block of it lives at a time.
            let block = unsafe { Block::new(&c, row * columns + column, columns, height, width) };
            let a = a.part(row, height, 0, a.columns());
            kernels.product(block, a, b.part(column, width), store, scratch);
        }
    }
}

/// Writes `gate`, `up` `[copies, features]` and `out` `[copies, hidden]`.
pub(crate) fn forward(
    kernels: &Kernels,
    threads: &Threads,
    out: &mut [f32],
    [gate, up]: [&mut [f32]; 2],
    x: Source<'_>,
    of: Mixture<'_>,
) {
    let Mixture { hidden, features, .. } = of;
    let (format, most) = (&kernels.format, kernels.format.block_rows);
    let [wide, narrow] = [format.len(hidden, features), format.len(features, hidden)];
    let of_product = (kernels.scratch_len)(most, hidden.max(features));
    let [out, gate, up] = [out, gate, up].map(Disjoint::new);
    of.run(threads, |e| {
        with_scratch(2 * wide + narrow + most * (hidden + 2 * features) + of_product, |scratch| {
            let (packed_gate, scratch) = scratch.split_at_mut(wide);
            let (packed_up, scratch) = scratch.split_at_mut(wide);
            let (packed_down, scratch) = scratch.split_at_mut(narrow);
            let (rows, scratch) = scratch.split_at_mut(most * hidden);
            let (swiglu, scratch) = scratch.split_at_mut(most * features);
            let (rounded, scratch) = scratch.split_at_mut(most * features);
            let w = [0, 1, 2].map(|i| of.matrix(i, e).transposed());
            let packed_gate = pack(kernels, packed_gate, w[0]);
            let packed_up = pack(kernels, packed_up, w[1]);
            let packed_down = pack(kernels, packed_down, w[2]);
            for copies in parts(of.copies.of(e), most, 1) {
                let x = of.gather(rows, x, &copies);
                let of_features = copies.start * features..copies.end * features;
                // SAFETY: an expert's copies are its task's alone.
                let [gate, up] = [&gate, &up].map(|y| unsafe { y.slice(of_features.clone()) });
                multiply(kernels, gate, x, packed_gate, Store::Write, scratch);
                multiply(kernels, up, x, packed_up, Store::Write, scratch);
                let (swiglu, weights) = (&mut swiglu[..gate.len()], &of.weights[copies.clone()]);
                kernels.weighted_swiglu_forward(swiglu, gate, up, weights, features);
                // SAFETY: as above.
                let out = unsafe { out.slice(copies.start * hidden..copies.end * hidden) };
                let swiglu = operand(kernels, rounded, swiglu, [copies.len(), features]);
                multiply(kernels, out, swiglu, packed_down, Store::Write, scratch);
            }
        });
    });
}

/// What [`backward`] writes and adds to: see [`MixtureGradients`](koan_backend::MixtureGradients).
pub(crate) struct Gradients<'a> {
    pub(crate) copies: &'a mut [f32],
    pub(crate) weights: &'a mut [f32],
    pub(crate) matrices: [Option<&'a mut [f32]>; 3],
}

/// From `dy`, by rows, writes and adds to `d`. `gate` and `up` become their gradients.
pub(crate) fn backward(
    kernels: &Kernels,
    threads: &Threads,
    d: Gradients<'_>,
    dy: Source<'_>,
    x: Source<'_>,
    [gate, up]: [&mut [f32]; 2],
    of: Mixture<'_>,
) {
    let Mixture { hidden, features, .. } = of;
    let [d_copies, d_weights, gate, up] = [d.copies, d.weights, gate, up].map(Disjoint::new);
    let d_matrices = d.matrices.map(|dw| dw.map(Disjoint::new));
    let space = |k: usize, columns: usize| kernels.format.len(k, columns);
    of.run(threads, |e| {
        let most = CHUNK.min(of.copies.of(e).len()).next_multiple_of(kernels.format.depth);
        let of_panels = [
            space(hidden, features),
            space(most, features),
            2 * space(features, hidden),
            space(most, hidden),
        ];
        let of_panels = of_panels.into_iter().fold(0, usize::max);
        let of_product = (kernels.scratch_len)(kernels.format.block_rows, hidden.max(features).max(most));
        with_scratch(of_panels + most * (hidden + 3 * features) + of_product, |scratch| {
            let (panels, scratch) = scratch.split_at_mut(of_panels);
            let (rows, scratch) = scratch.split_at_mut(most * hidden);
            let (swiglu, scratch) = scratch.split_at_mut(most * features);
            let (first_rounded, scratch) = scratch.split_at_mut(most * features);
            let (second_rounded, scratch) = scratch.split_at_mut(most * features);
            let add = |i: usize, dy: Source<'_>, x: Panels<'_>, scratch: &mut [f32]| {
                if let Some(dw) = &d_matrices[i] {
                    let len = hidden * features;
                    // SAFETY: an expert's matrices are its task's alone.
                    let dw = unsafe { dw.slice(e * len..(e + 1) * len) };
                    multiply(kernels, dw, dy.transposed(), x, Store::Add, scratch);
                }
            };
            // A chain that is cut goes on with a whole step of k.
            for copies in parts(of.copies.of(e), CHUNK, kernels.format.depth) {
                let (n, of_features) = (copies.len(), copies.start * features..copies.end * features);
                // SAFETY: an expert's copies are its task's alone, here and below.
                let [gate, up] = [&gate, &up].map(|y| unsafe { y.slice(of_features.clone()) });
                let swiglu = &mut swiglu[..n * features];
                let d_out = of.gather(rows, dy, &copies);
                let down = pack(kernels, panels, of.matrix(2, e));
                multiply(kernels, swiglu, d_out, down, Store::Write, scratch);
                // SAFETY: as above.
                let d_weights = unsafe { d_weights.slice(copies.clone()) };
                let weights = &of.weights[copies.clone()];
                kernels.weighted_swiglu_backward(d_weights, swiglu, gate, up, weights, features);
                if d_matrices[2].is_some() {
                    let swiglu = pack(kernels, panels, Source::new(swiglu, n, features));
                    add(2, d_out, swiglu, scratch);
                }

                let gate = operand(kernels, first_rounded, gate, [n, features]);
                let up = operand(kernels, second_rounded, up, [n, features]);
                let (first, second) = panels.split_at_mut(space(features, hidden));
                let packed = [pack(kernels, first, of.matrix(0, e)), pack(kernels, second, of.matrix(1, e))];
                for block in parts(0..n, kernels.format.block_rows, 1) {
                    let start = copies.start + block.start;
                    // SAFETY: as above.
                    let d = unsafe { d_copies.slice(start * hidden..(start + block.len()) * hidden) };
                    for ((dy, w), store) in [gate, up].into_iter().zip(packed).zip([Store::Write, Store::Add])
                    {
                        multiply(
                            kernels,
                            d,
                            dy.part(block.start, block.len(), 0, features),
                            w,
                            store,
                            scratch,
                        );
                    }
                }
                if d_matrices[0].is_some() || d_matrices[1].is_some() {
                    let x = pack(kernels, panels, of.gather(rows, x, &copies));
                    add(0, gate, x, scratch);
                    add(1, up, x, scratch);
                }
            }
        });
    });
}
