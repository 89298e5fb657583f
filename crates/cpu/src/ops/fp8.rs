//! The products of a linear layer with operands in FP8, emulated.
//!
//! ```text
//! operands   codes, numbers of E4M3, in the precision of the kernels' products, which hold them exactly; their scales apart
//! product    for each block of 128 of k: the kernels' product of the codes, from zero; C += that · A's scale · B's scale
//! ```
//!
//! A task computes a block of C through all of k, so that its sums stay in a cache. Each element of C is one chain over the
//! blocks of k, and of each the kernels' chain: no row depends on another.

use koan_backend::{AlignedVec, Store, bf16, fp8::BLOCK};

use crate::{
    kernels::product::{Block, Format, Panels, Source},
    memory::{Disjoint, grown, with_scratch},
    ops::{
        operand::Operand,
        product::{Packed, TASK_WORK, TASKS_PER_THREAD, pack, unpack},
    },
    parallel::{Threads, task_rows},
    tables::Kernels,
};

/// Columns of sums that a task has at a time, at most: with the rows of a block some 200 KB. A multiple of all panels' widths.
const SUM_COLUMNS: usize = 512;

/// What products in FP8 work in.
pub(crate) struct Scratch {
    a: Codes,
    b: Codes,
    /// A matrix of codes with their scales multiplied in again.
    restored: AlignedVec<f32>,
    panels: AlignedVec<f32>,
    rows: AlignedVec<f32>,
    column_scales: AlignedVec<f32>,
}

impl Scratch {
    /// None yet: it grows.
    pub(crate) fn empty() -> Self {
        let [restored, panels, rows, column_scales] = [(); 4].map(|()| AlignedVec::empty());
        Self { a: Codes::empty(), b: Codes::empty(), restored, panels, rows, column_scales }
    }
}

/// A matrix of codes, and their scales.
struct Codes {
    codes: Operand,
    scales: AlignedVec<f32>,
}

impl Codes {
    fn empty() -> Self {
        Self { codes: Operand::empty(), scales: AlignedVec::empty() }
    }

    /// Rounds `x` `[n, features]` with a scale for each row and 128 features. The scales are `[blocks of features, n]`.
    fn of_rows(&mut self, kernels: &Kernels, threads: &Threads, x: Source<'_>) {
        let (n, features) = (x.rows(), x.columns());
        self.codes.grow(kernels, n * features);
        let scales = Disjoint::new(grown(&mut self.scales, n * features.div_ceil(BLOCK)));
        let rows = task_rows(features);
        self.codes.produce(kernels, threads, n * features, rows * features, |task, codes| {
            for (i, codes) in codes.chunks_mut(features).enumerate() {
                let row = task * rows + i;
                for (block, codes) in codes.chunks_mut(BLOCK).enumerate() {
                    let mut space = [0.0; BLOCK];
                    let x = values(x, row, block * BLOCK, codes.len(), &mut space);
                    let place = block * n + row;
                    // SAFETY: a row is one task's.
                    let scale = unsafe { scales.slice(place..place + 1) };
                    scale[0] = kernels.fp8_round_block(codes, x);
                }
            }
        });
    }

    /// Rounds `x` `[n, features]` with a scale for each feature and 128 rows. The scales are `[blocks of rows, features]`.
    fn of_columns(&mut self, kernels: &Kernels, threads: &Threads, x: Source<'_>) {
        let (n, features) = (x.rows(), x.columns());
        self.codes.grow(kernels, n * features);
        let scales = Disjoint::new(grown(&mut self.scales, n.div_ceil(BLOCK) * features));
        self.codes.produce(kernels, threads, n * features, BLOCK * features, |band, codes| {
            // SAFETY: a band of rows is one task's.
            let scales = unsafe { scales.slice(band * features..(band + 1) * features) };
            scales.fill(0.0);
            let mut space = [0.0; BLOCK];
            for row in band * BLOCK..n.min((band + 1) * BLOCK) {
                for (block, most) in scales.chunks_mut(BLOCK).enumerate() {
                    kernels.fp8_raise(most, values(x, row, block * BLOCK, most.len(), &mut space));
                }
            }
            kernels.fp8_scales(scales);
            for (i, codes) in codes.chunks_mut(features).enumerate() {
                let row = band * BLOCK + i;
                for (block, (codes, scales)) in codes.chunks_mut(BLOCK).zip(scales.chunks(BLOCK)).enumerate()
                {
                    let x = values(x, row, block * BLOCK, codes.len(), &mut space);
                    kernels.fp8_round_columns(codes, x, scales);
                }
            }
        });
    }

    /// Rounds `w` `[out, inp]` with a scale for each 128 × 128. The scales are `[blocks of out, blocks of inp]`.
    fn of_squares(&mut self, kernels: &Kernels, threads: &Threads, w: &[f32], [out, inp]: [usize; 2]) {
        self.codes.grow(kernels, out * inp);
        let blocks = inp.div_ceil(BLOCK);
        let scales = Disjoint::new(grown(&mut self.scales, out.div_ceil(BLOCK) * blocks));
        self.codes.produce(kernels, threads, out * inp, BLOCK * inp, |band, codes| {
            let w = &w[band * BLOCK * inp..][..codes.len()];
            // SAFETY: a band of rows is one task's.
            let scales = unsafe { scales.slice(band * blocks..(band + 1) * blocks) };
            scales.fill(0.0);
            for row in w.chunks(inp) {
                for (most, x) in scales.iter_mut().zip(row.chunks(BLOCK)) {
                    kernels.fp8_raise(std::slice::from_mut(most), &[kernels.fp8_largest(x)]);
                }
            }
            kernels.fp8_scales(scales);
            for (codes, row) in codes.chunks_mut(inp).zip(w.chunks(inp)) {
                for ((codes, x), scale) in codes.chunks_mut(BLOCK).zip(row.chunks(BLOCK)).zip(&*scales) {
                    kernels.fp8_round(codes, x, *scale);
                }
            }
        });
    }
}

/// `len` values of row `row` of `x` from `column` on, in f32; those of bf16 in `space`.
fn values<'a>(
    x: Source<'a>,
    row: usize,
    column: usize,
    len: usize,
    space: &'a mut [f32; BLOCK],
) -> &'a [f32] {
    match x {
        Source::F32(x) => &x.row(row)[column..][..len],
        Source::Bf16(x) => {
            let row = &x.row(row)[column..][..len];
            space.iter_mut().zip(row).for_each(|(y, &x)| *y = bf16::to_f32(x));
            &space[..len]
        }
    }
}

/// B `[k, columns]` of codes: the panels of each block of k, one after the other.
#[derive(Clone, Copy)]
struct Panelled<'a> {
    data: &'a [f32],
    k: usize,
    columns: usize,
    /// `[blocks of k, columns]`
    scales: &'a [f32],
}

impl<'a> Panelled<'a> {
    /// The panels of a block of k.
    fn block(self, format: &Format, block: usize) -> Panels<'a> {
        let depth = BLOCK.min(self.k - block * BLOCK);
        let data = &self.data[block * format.len(BLOCK, self.columns)..][..format.len(depth, self.columns)];
        Panels::new(format, data, depth, self.columns)
    }
}

/// The blocks of k of `b` `[k, columns]`, each to be packed on its own.
fn blocks(b: Source<'_>) -> Vec<Source<'_>> {
    let depth = |k: usize| BLOCK.min(b.rows() - k);
    (0..b.rows()).step_by(BLOCK).map(|k| b.part(k, depth(k), 0, b.columns())).collect()
}

/// Space of B `[k, columns]`, packed in blocks of k, in f32.
pub(crate) fn packed_len(format: &Format, k: usize, columns: usize) -> usize {
    k / BLOCK * format.len(BLOCK, columns) + format.len(k % BLOCK, columns)
}

/// The scales of the 128 × 128 squares of `W` `[out, inp]`, as those of the columns of `Wᵀ`: `[blocks of inp, out]`.
fn of_transpose(scales: &mut [f32], squares: &[f32], [out, inp]: [usize; 2]) {
    let blocks = inp.div_ceil(BLOCK);
    for (block, scales) in scales.chunks_mut(out).take(blocks).enumerate() {
        for (i, scales) in scales.chunks_mut(BLOCK).enumerate() {
            scales.fill(squares[i * blocks + block]);
        }
    }
}

/// The scales of the squares of `columns` from `first` on, a block's first, as those of the columns of `W`:
/// `[blocks of out, columns]`.
fn of_columns(scales: &mut [f32], squares: &[f32], [out, inp]: [usize; 2], first: usize, columns: usize) {
    let blocks = inp.div_ceil(BLOCK);
    for (row, scales) in scales.chunks_mut(columns).take(out.div_ceil(BLOCK)).enumerate() {
        for (i, scales) in scales.chunks_mut(BLOCK).enumerate() {
            scales.fill(squares[row * blocks + first / BLOCK + i]);
        }
    }
}

/// Rounds matrices `w` `[matrices, out, inp]` into `data`, the panels of their transposes, and `squares`, their scales.
pub(crate) fn fill(
    kernels: &Kernels,
    threads: &Threads,
    data: &mut [f32],
    squares: &mut [f32],
    w: &[f32],
    [matrices, out, inp]: [usize; 3],
) {
    let mut codes = Codes::empty();
    let (len, scales) = (packed_len(&kernels.format, inp, out), squares_of([out, inp]));
    for i in 0..matrices {
        codes.of_squares(kernels, threads, &w[i * out * inp..][..out * inp], [out, inp]);
        squares[i * scales..][..scales].copy_from_slice(&codes.scales[..scales]);
        let of = blocks(codes.codes.matrix(out, inp, "w").transposed());
        pack(kernels, threads, &mut data[i * len..][..len], &of);
    }
}

/// How many squares of 128 × 128 a matrix has.
pub(crate) fn squares_of([out, inp]: [usize; 2]) -> usize {
    out.div_ceil(BLOCK) * inp.div_ceil(BLOCK)
}

/// What is held of a weight matrix `[out, inp]`: its values, or the number of a matrix that is packed.
#[derive(Clone, Copy)]
pub(crate) enum Weights<'a> {
    Values(&'a [f32]),
    Packed(&'a Packed, usize),
}

/// `y = x Wᵀ`, or `y += x Wᵀ`; `x` is `[n, inp]`.
pub(crate) fn forward(
    kernels: &Kernels,
    threads: &Threads,
    y: &mut [f32],
    x: Source<'_>,
    w: Weights<'_>,
    [out, inp]: [usize; 2],
    store: Store,
    scratch: &mut Scratch,
) {
    let Scratch { a, b, panels, column_scales, .. } = scratch;
    let column_scales = grown(column_scales, inp.div_ceil(BLOCK) * out);
    let data = match w {
        Weights::Values(w) => {
            b.of_squares(kernels, threads, w, [out, inp]);
            of_transpose(column_scales, &b.scales, [out, inp]);
            let panels = grown(panels, packed_len(&kernels.format, inp, out));
            pack(kernels, threads, panels, &blocks(b.codes.matrix(out, inp, "w").transposed()));
            &*panels
        }
        Weights::Packed(w, i) => {
            let (data, squares) = w.fp8(kernels, i);
            of_transpose(column_scales, squares, [out, inp]);
            data
        }
    };
    a.of_rows(kernels, threads, x);
    let b = Panelled { data, k: inp, columns: out, scales: column_scales };
    let c = Target { start: 0, stride: out };
    multiply(kernels, threads, y, c, (a.codes.matrix(x.rows(), inp, "x"), &a.scales), b, store);
}

/// `dx = dy W`, or `dx += dy W`; `dy` is `[n, out]`.
pub(crate) fn backward_input(
    kernels: &Kernels,
    threads: &Threads,
    dx: &mut [f32],
    dy: Source<'_>,
    w: Weights<'_>,
    [out, inp]: [usize; 2],
    store: Store,
    scratch: &mut Scratch,
) {
    let Scratch { a, b, panels, rows, column_scales, .. } = scratch;
    a.of_rows(kernels, threads, dy);
    let dy = (a.codes.matrix(dy.rows(), out, "dy"), &a.scales[..]);
    let columns = match w {
        Weights::Values(_) => inp,
        Weights::Packed(..) => BLOCK,
    };
    let panels = grown(panels, packed_len(&kernels.format, out, columns.min(inp)));
    let column_scales = grown(column_scales, out.div_ceil(BLOCK) * columns.min(inp));
    // What is held packed is unpacked a block of columns at a time.
    for first in (0..inp).step_by(columns) {
        let columns = columns.min(inp - first);
        let (w, squares) = match w {
            Weights::Values(w) => {
                b.of_squares(kernels, threads, w, [out, inp]);
                (b.codes.matrix(out, inp, "w"), &b.scales[..])
            }
            Weights::Packed(w, i) => {
                let (data, squares) = w.fp8(kernels, i);
                let transposed = Panelled { data, k: inp, columns: out, scales: &[] };
                let block = transposed.block(&kernels.format, first / BLOCK);
                (unpack(kernels, threads, rows, block), squares)
            }
        };
        of_columns(column_scales, squares, [out, inp], first, columns);
        pack(kernels, threads, panels, &blocks(w));
        let b = Panelled { data: panels, k: out, columns, scales: column_scales };
        multiply(kernels, threads, dx, Target { start: first, stride: inp }, dy, b, store);
    }
}

/// `dW += dyᵀ x`; `dy` is `[n, out]`, `x` `[n, inp]`.
pub(crate) fn backward_weight(
    kernels: &Kernels,
    threads: &Threads,
    dw: &mut [f32],
    dy: Source<'_>,
    x: Source<'_>,
    scratch: &mut Scratch,
) {
    let Scratch { a, b, restored, panels, .. } = scratch;
    let (n, out, inp) = (x.rows(), dy.columns(), x.columns());
    // The forward had the rows rounded: what is rounded by columns is that.
    b.of_rows(kernels, threads, x);
    let restored = restore(kernels, threads, restored, b, [n, inp]);
    b.of_columns(kernels, threads, restored);
    a.of_columns(kernels, threads, dy);
    let panels = grown(panels, packed_len(&kernels.format, n, inp));
    pack(kernels, threads, panels, &blocks(b.codes.matrix(n, inp, "x")));
    let b = Panelled { data: panels, k: n, columns: inp, scales: &b.scales };
    let dy = (a.codes.matrix(n, out, "dy").transposed(), &a.scales[..]);
    multiply(kernels, threads, dw, Target { start: 0, stride: inp }, dy, b, Store::Add);
}

/// The codes of rows `[n, features]` times their scales.
fn restore<'a>(
    kernels: &Kernels,
    threads: &Threads,
    restored: &'a mut AlignedVec<f32>,
    rows: &Codes,
    [n, features]: [usize; 2],
) -> Source<'a> {
    let restored = grown(restored, n * features);
    let (codes, per_task) = (rows.codes.matrix(n, features, "x"), task_rows(features));
    threads.chunks([(&mut *restored, per_task * features)], |task, [y]| {
        for (i, y) in y.chunks_mut(features).enumerate() {
            let row = task * per_task + i;
            for (block, y) in y.chunks_mut(BLOCK).enumerate() {
                let mut space = [0.0; BLOCK];
                y.copy_from_slice(values(codes, row, block * BLOCK, y.len(), &mut space));
                kernels.fp8_unscale(y, rows.scales[block * n + row]);
            }
        }
    });
    Source::new(restored, n, features)
}

/// Where C lies in its buffer.
#[derive(Clone, Copy)]
struct Target {
    /// Its first element.
    start: usize,
    /// From a row to the next.
    stride: usize,
}

/// `c = a b`, or `c += a b`, of codes and their scales; those of `a` `[rows, k]` are `[blocks of k, rows]`.
fn multiply(
    kernels: &Kernels,
    threads: &Threads,
    c: &mut [f32],
    target: Target,
    (a, a_scales): (Source<'_>, &[f32]),
    b: Panelled<'_>,
    store: Store,
) {
    let (rows, columns) = (a.rows(), b.columns);
    if rows * columns == 0 {
        return;
    }
    let Format { panel_columns, block_rows, .. } = kernels.format;
    let row_blocks = rows.div_ceil(block_rows);
    let panels = columns.div_ceil(panel_columns);
    let least = columns.div_ceil(SUM_COLUMNS);
    let most = (rows * columns * b.k).div_ceil(TASK_WORK).max(least);
    let wanted = (threads.count() * TASKS_PER_THREAD).div_ceil(row_blocks);
    let column_blocks = wanted.clamp(least, most).min(panels);
    let first_column = |block: usize| (block * panels / column_blocks * panel_columns).min(columns);
    let c = Disjoint::new(c);
    threads.run(row_blocks * column_blocks, |task| {
        let (row, block) = (task / column_blocks * block_rows, task % column_blocks);
        let (column, end) = (first_column(block), first_column(block + 1));
        let (height, width) = (block_rows.min(rows - row), end - column);
        let part = |row: usize| {
            let start = target.start + row * target.stride + column;
            // SAFETY: blocks of different tasks do not overlap.
            unsafe { c.slice(start..start + width) }
        };
        if store == Store::Write {
            (row..row + height).for_each(|row| part(row).fill(0.0));
        }
        let (sums_len, scratch_len) = (height * width, (kernels.scratch_len)(height, BLOCK));
        with_scratch(sums_len + scratch_len, |scratch| {
            let (sums, scratch) = scratch.split_at_mut(sums_len);
            for k in 0..b.k.div_ceil(BLOCK) {
                let panels = b.block(&kernels.format, k);
                let a = a.part(row, height, k * BLOCK, panels.k());
                {
                    let sums = Disjoint::new(sums);
                    // SAFETY: the sums are this task's alone.
                    let block = unsafe { Block::new(&sums, 0, width, height, width) };
                    kernels.multiply(block, a, panels.part(column, width), Store::Write, scratch);
                }
                let scales = &b.scales[k * columns + column..][..width];
                for (i, sums) in sums.chunks(width).enumerate() {
                    let row = row + i;
                    kernels.fp8_add_scaled(part(row), sums, a_scales[k * rows + row], scales);
                }
            }
        });
    });
}
