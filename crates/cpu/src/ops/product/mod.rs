//! Matrix products: `C = A B` and `C += A B`, the three of a linear layer.
//!
//! ```text
//! forward           y  [n, out]  = x   [n, in]  · Wᵀ [in, out]     B packed once an update
//! backward_input    dx [n, in]   = dy  [n, out] · W  [out, in]     B packed on the fly
//! backward_weight   dW [out, in] = dyᵀ [out, n] · x  [n, in]       A and B packed on the fly
//! ```
//!
//! B is packed into panels of a few columns, in which a tile of the product reads forward (`pack.rs`). A task
//! computes a block of C: some rows by some panels. Its size is chosen so that the block's A stays in the
//! level 2 cache and so that there are a few tasks a thread. Within a block, [`kernel`] (f32) or `amx` (bf16)
//! does the work.
//!
//! **One order.** Each element of C is one chain of multiply-adds over k = 0, 1, …, whatever the block or the
//! tile it falls into: k is never split among threads, and where it is cut (at most every [`kernel::DEPTH`];
//! every [`FLY_DEPTH`] for a B packed on the fly) the chain goes on from C. So a row's result depends on that
//! row alone. On AMX the chain is the hardware's own, in the order of k too.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
pub(crate) mod kernel;
pub(crate) mod pack;

use koan_backend::{AlignedVec, OutOfMemory, Store};

use crate::{
    kernels::Kernels,
    parallel::{Disjoint, Threads, grown, with_scratch},
    simd::Simd,
};

/// Depth to which a B packed on the fly is packed at a time: 6 MB at 1536 columns, which a level 3 cache
/// holds.
const FLY_DEPTH: usize = 1024;

/// Multiply-adds that a task should at least take, some 10 µs.
const TASK_WORK: usize = 1 << 19;

/// Rows whose products take as long as reading B from memory: fewer rows take no less.
const ROWS_OF_A_READ: usize = 8;

/// Tasks a thread, so that a thread that starts late is not waited for.
const TASKS_PER_THREAD: usize = 4;

/// A matrix that is read: element `(row, column)` lies at `row · row_stride + column · column_stride`, within
/// `data`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    row_stride: usize,
    column_stride: usize,
    rows: usize,
    columns: usize,
}

impl<'a> View<'a> {
    /// The matrix `[rows, columns]` that lies in `data` row by row.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { data: &data[..rows * columns], row_stride: columns, column_stride: 1, rows, columns }
    }

    /// The matrix `[rows, columns]` whose rows lie in `data`, `stride` numbers apart.
    #[inline(always)]
    pub(crate) fn strided(data: &'a [f32], stride: usize, rows: usize, columns: usize) -> Self {
        assert!(rows > 0 && columns <= stride && (rows - 1) * stride + columns <= data.len());
        Self { data, row_stride: stride, column_stride: 1, rows, columns }
    }

    pub(crate) fn rows(self) -> usize {
        self.rows
    }

    pub(crate) fn columns(self) -> usize {
        self.columns
    }

    /// The first number, and how far it is from a row to the next.
    #[inline(always)]
    pub(crate) fn start(self) -> (*const f32, usize) {
        (self.data.as_ptr(), self.row_stride)
    }

    /// Asks for the cache lines of a matrix whose rows are contiguous.
    #[inline(always)]
    pub(crate) fn prefetch<S: Simd>(self, s: S) {
        for i in 0..self.rows {
            for column in (0..self.columns).step_by(kernel::LINE) {
                s.prefetch(self.data.as_ptr().wrapping_add(i * self.row_stride + column));
            }
        }
    }

    /// Row `i`, of a matrix whose rows are contiguous.
    #[inline(always)]
    pub(crate) fn row(self, i: usize) -> &'a [f32] {
        &self.data[i * self.row_stride..][..self.columns]
    }

    pub(crate) fn transposed(self) -> Self {
        let Self { data, row_stride, column_stride, rows, columns } = self;
        Self { data, row_stride: column_stride, column_stride: row_stride, rows: columns, columns: rows }
    }

    /// `rows` rows from `row` on, of `columns` columns from `column` on.
    #[inline(always)]
    pub(crate) fn part(self, row: usize, rows: usize, column: usize, columns: usize) -> Self {
        assert!(row + rows <= self.rows && column + columns <= self.columns, "a part beyond its matrix");
        let start = if rows * columns == 0 { 0 } else { row * self.row_stride + column * self.column_stride };
        Self { data: &self.data[start..], rows, columns, ..self }
    }
}

/// A block of a row-major matrix that one task writes.
pub(crate) struct Block {
    start: *mut f32,
    row_stride: usize,
    rows: usize,
    columns: usize,
}

impl Block {
    /// The block of `rows` by `columns` elements whose first is number `start` of `c`.
    ///
    /// # Safety
    /// While the block lives, no other access to its elements happens.
    pub(crate) unsafe fn new(
        c: &Disjoint<'_>,
        start: usize,
        row_stride: usize,
        rows: usize,
        columns: usize,
    ) -> Self {
        assert!(
            rows > 0 && columns > 0 && columns <= row_stride,
            "an empty block, or one of overlapping rows"
        );
        let start = c.pointer(start, start + (rows - 1) * row_stride + columns - 1);
        Self { start, row_stride, rows, columns }
    }
}

/// How an instruction set's products want B, and of what size a task's block is.
pub(crate) struct Format {
    /// Columns of a panel, those of a tile.
    pub(crate) panel_columns: usize,
    /// A panel's depth is padded with zeros to a multiple of this.
    pub(crate) depth: usize,
    /// Elements in the space of an f32.
    pub(crate) per_f32: usize,
    /// Rows of a block: whole tiles.
    pub(crate) block_rows: usize,
    /// Columns of a block, at most.
    pub(crate) block_columns: usize,
}

impl Format {
    /// Space of a panel of depth `k`, in f32.
    fn panel_len(&self, k: usize) -> usize {
        k.next_multiple_of(self.depth) * self.panel_columns / self.per_f32
    }

    /// Space of B `[k, columns]`, in f32.
    fn len(&self, k: usize, columns: usize) -> usize {
        columns.div_ceil(self.panel_columns) * self.panel_len(k)
    }
}

/// B `[k, columns]`, packed in panels, each padded with zeros to whole columns.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    data: &'a [f32],
    panel_len: usize,
    panel_columns: usize,
    k: usize,
    columns: usize,
}

impl Panels<'_> {
    /// `columns` columns from `column`, a panel's first, on.
    pub(crate) fn part(self, column: usize, columns: usize) -> Self {
        assert!(column.is_multiple_of(self.panel_columns) && column + columns <= self.columns);
        Self { data: &self.data[column / self.panel_columns * self.panel_len..], columns, ..self }
    }

    pub(crate) fn k(self) -> usize {
        self.k
    }

    pub(crate) fn columns(self) -> usize {
        self.columns
    }
}

/// A weight matrix `[out_features, in_features]` in the layout that the products of one instruction set read.
#[derive(Debug)]
pub struct Packed {
    data: AlignedVec<f32>,
    out_features: usize,
    in_features: usize,
}

impl Packed {
    pub(crate) fn new(
        kernels: &Kernels,
        out_features: usize,
        in_features: usize,
    ) -> Result<Self, OutOfMemory> {
        let len = kernels.format.len(in_features, out_features);
        Ok(Self { data: AlignedVec::zeros_read_often(len)?, out_features, in_features })
    }

    /// Overwrites it with `w`, of the same shape.
    pub(crate) fn fill(&mut self, kernels: &Kernels, threads: &Threads, w: &[f32]) {
        let w = View::new(w, self.out_features, self.in_features);
        pack(kernels, threads, &mut self.data, w.transposed());
    }

    /// Its panels: those of `Wᵀ`.
    pub(crate) fn panels(&self, kernels: &Kernels) -> Panels<'_> {
        let len = kernels.format.len(self.in_features, self.out_features);
        assert_eq!(self.data.len(), len, "a matrix packed for another instruction set");
        panels(kernels, &self.data, self.in_features, self.out_features)
    }
}

fn panels<'a>(kernels: &Kernels, data: &'a [f32], k: usize, columns: usize) -> Panels<'a> {
    let format = &kernels.format;
    Panels { data, panel_len: format.panel_len(k), panel_columns: format.panel_columns, k, columns }
}

/// Packs `b` `[k, columns]` into `data`, which has the space.
fn pack(kernels: &Kernels, threads: &Threads, data: &mut [f32], b: View<'_>) {
    let Format { panel_columns, .. } = kernels.format;
    let panel_len = kernels.format.panel_len(b.rows);
    if panel_len == 0 {
        return;
    }
    let panels_per_task = (TASK_WORK / 8 / panel_len).max(1);
    threads.chunks([(data, panels_per_task * panel_len)], |task, [chunk]| {
        for (i, panel) in chunk.chunks_exact_mut(panel_len).enumerate() {
            let column = (task * panels_per_task + i) * panel_columns;
            kernels.pack(panel, b.part(0, b.rows, column, panel_columns.min(b.columns - column)));
        }
    });
}

/// Packs `b` `[k, columns]` into `scratch`.
pub(crate) fn pack_on_the_fly<'a>(
    kernels: &Kernels,
    threads: &Threads,
    scratch: &'a mut AlignedVec<f32>,
    b: View<'_>,
) -> Panels<'a> {
    let data = grown(scratch, kernels.format.len(b.rows, b.columns));
    pack(kernels, threads, data, b);
    panels(kernels, data, b.rows, b.columns)
}

/// `c = a b`, or `c += a b`.
pub(crate) fn multiply(
    kernels: &Kernels,
    threads: &Threads,
    c: &mut [f32],
    a: View<'_>,
    b: Panels<'_>,
    store: Store,
) {
    let (rows, columns) = (a.rows, b.columns);
    if rows * columns == 0 {
        return;
    }
    if b.k == 0 {
        if store == Store::Write {
            c[..rows * columns].fill(0.0);
        }
        return;
    }
    // Narrower blocks where the rows make too few tasks.
    let Format { block_rows, block_columns, .. } = kernels.format;
    let row_blocks = rows.div_ceil(block_rows);
    let work = block_rows.min(rows).max(ROWS_OF_A_READ) * b.k * b.panel_columns;
    let panels = columns.div_ceil(b.panel_columns);
    let wanted = (threads.count() * TASKS_PER_THREAD).div_ceil(row_blocks);
    let least = panels.div_ceil(block_columns / b.panel_columns);
    let most = panels.div_ceil(TASK_WORK.div_ceil(work)).max(least);
    let column_blocks = wanted.clamp(least, most).min(panels);
    // Blocks of about the same width: where threads are as fast as each other, none waits.
    let first_column = |block: usize| (block * panels / column_blocks * b.panel_columns).min(columns);

    let c = Disjoint::new(&mut c[..rows * columns]);
    threads.run(row_blocks * column_blocks, |task| {
        let (row, block) = (task / column_blocks * block_rows, task % column_blocks);
        let (column, end) = (first_column(block), first_column(block + 1));
        let (rows, width) = (block_rows.min(rows - row), end - column);
        // SAFETY: blocks of different tasks do not overlap.
        let block = unsafe { Block::new(&c, row * columns + column, columns, rows, width) };
        let a = a.part(row, rows, 0, a.columns);
        with_scratch((kernels.scratch_len)(rows, b.k), |scratch| {
            kernels.multiply(block, a, b.part(column, width), store, scratch);
        });
    });
}

/// `c = a b`, or `c += a b`, packing `b` on the fly.
pub(crate) fn multiply_on_the_fly(
    kernels: &Kernels,
    threads: &Threads,
    c: &mut [f32],
    a: View<'_>,
    b: View<'_>,
    store: Store,
    scratch: &mut AlignedVec<f32>,
) {
    let mut store = store;
    for k in (0..b.rows.max(1)).step_by(FLY_DEPTH) {
        let depth = FLY_DEPTH.min(b.rows - k);
        let panels = pack_on_the_fly(kernels, threads, scratch, b.part(k, depth, 0, b.columns));
        multiply(kernels, threads, c, a.part(0, a.rows, k, depth), panels, store);
        store = Store::Add;
    }
}
