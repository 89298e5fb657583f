//! Matrix products: `C = A B` and `C += A B`, the three of a linear layer.
//!
//! ```text
//! forward           y  [n, out]  = x   [n, in]  · Wᵀ [in, out]     B packed once per update
//! backward_input    dx [n, in]   = dy  [n, out] · W  [out, in]     B packed on the fly, from the values or from packed Wᵀ
//! backward_weight   dW [out, in] = dyᵀ [out, n] · x  [n, in]       A and B packed on the fly
//! ```
//!
//! A task computes a block of C: some rows by some panels of B. Its size is chosen so that the block's A stays in
//! the level 2 cache and so that there are a few tasks per thread. Blocks do not matter to the result: each element
//! of C is one chain (see `kernels/product/`), which k is never split for. A B packed on the fly is cut every
//! [`FLY_DEPTH`]; the chain then goes on from C.

use koan_backend::{AlignedVec, OutOfMemory, ProductPrecision, Store};

use crate::{
    kernels::product::{Block, Format, Panels, Source, View},
    memory::{Disjoint, grown, with_scratch},
    ops::{coded, fp8},
    parallel::Threads,
    tables::Kernels,
};

/// Depth to which a B packed on the fly is packed at a time: 6 MB at 1536 columns, which a level 3 cache
/// holds.
const FLY_DEPTH: usize = 1024;

/// Multiply-adds that a task should at least take, some 10 µs.
pub(super) const TASK_WORK: usize = 1 << 19;

/// Rows whose products take as long as reading B from memory: fewer rows take no less.
const ROWS_OF_A_READ: usize = 8;

/// Tasks per thread, so that a thread that starts late is not waited for.
pub(super) const TASKS_PER_THREAD: usize = 4;

/// A weight matrix `[out_features, in_features]`, or several of one shape, in the layout that the products of one instruction
/// set read.
#[derive(Debug)]
pub struct Packed {
    data: AlignedVec<f32>,
    /// Where products are in FP8, the scales of each 128 × 128; of weights in 8 bits, those of panels.
    scales: Option<AlignedVec<f32>>,
    precision: ProductPrecision,
    /// Whether f32 are held in bf16, which holds them exactly.
    is_halved: bool,
    matrices: usize,
    out_features: usize,
    in_features: usize,
}

impl Packed {
    /// Matrices of shape `[matrices, out_features, in_features]`, for products of `precision`.
    pub(crate) fn new(
        kernels: &Kernels,
        [matrices, out_features, in_features]: [usize; 3],
        precision: ProductPrecision,
    ) -> Result<Self, OutOfMemory> {
        let [len, scales] = Self::lens(&kernels.format, [out_features, in_features], precision);
        let scales = (precision != ProductPrecision::Device).then(|| AlignedVec::zeros(matrices * scales));
        let data = AlignedVec::zeros_read_often(matrices * len)?;
        let scales = scales.transpose()?;
        Ok(Self { data, scales, precision, is_halved: false, matrices, out_features, in_features })
    }

    /// Matrices of the values `w`, which are never changed: in bf16 where products are of f32 and that holds them.
    pub(crate) fn fixed(
        kernels: &Kernels,
        threads: &Threads,
        w: &[f32],
        shape: [usize; 3],
        precision: ProductPrecision,
    ) -> Result<Self, OutOfMemory> {
        let of_f32 = precision == ProductPrecision::Device && !kernels.rounds();
        if !of_f32 || !coded::is_exact(threads, w) {
            let mut packed = Self::new(kernels, shape, precision)?;
            packed.fill(kernels, threads, w);
            return Ok(packed);
        }
        let [matrices, out_features, in_features] = shape;
        let len = Self::halved_len(&kernels.format, [out_features, in_features]);
        let mut data = AlignedVec::zeros_read_often(matrices * len)?;
        coded::fill_halves(kernels, threads, &mut data, w, shape);
        Ok(Self { data, scales: None, precision, is_halved: true, matrices, out_features, in_features })
    }

    /// Elements of a matrix `[out, inp]` that is held in bf16.
    fn halved_len(format: &Format, [out, inp]: [usize; 2]) -> usize {
        out.div_ceil(format.panel_columns) * format.halves_panel_len(inp)
    }

    /// Elements of a matrix `[out, inp]`, and its scales.
    fn lens(format: &Format, [out, inp]: [usize; 2], precision: ProductPrecision) -> [usize; 2] {
        let panels = out.div_ceil(format.panel_columns);
        match precision {
            ProductPrecision::Device => [format.len(inp, out), 0],
            ProductPrecision::Fp8 => [fp8::packed_len(format, inp, out), fp8::squares_of([out, inp])],
            ProductPrecision::Int8 => {
                [format.int8_panel_len(inp), format.int8_scales_len(inp)].map(|len| panels * len)
            }
        }
    }

    /// Bytes that such matrices take, at most.
    pub(crate) fn bytes(
        format: &Format,
        [matrices, out, inp]: [usize; 3],
        precision: ProductPrecision,
    ) -> usize {
        let [len, scales] = Self::lens(format, [out, inp], precision).map(|n| matrices.saturating_mul(n));
        AlignedVec::<f32>::bytes_read_often(len) + AlignedVec::<f32>::bytes_of(scales)
    }

    /// Bytes that it takes.
    pub(crate) fn held_bytes(&self) -> usize {
        AlignedVec::<f32>::bytes_read_often(self.data.len())
            + self.scales.as_ref().map_or(0, |scales| AlignedVec::<f32>::bytes_of(scales.len()))
    }

    /// Overwrites it with `w`, of the same shape.
    ///
    /// # Panics
    /// If it is one of values that are never changed.
    pub(crate) fn fill(&mut self, kernels: &Kernels, threads: &Threads, w: &[f32]) {
        assert!(!self.is_halved, "a matrix that is never changed");
        let (out, inp) = (self.out_features, self.in_features);
        let shape = [self.matrices, out, inp];
        match (&mut self.scales, self.precision) {
            (Some(scales), ProductPrecision::Fp8) => {
                return fp8::fill(kernels, threads, &mut self.data, scales, w, shape);
            }
            (Some(scales), _) => {
                return coded::fill_int8(&kernels.format, threads, [&mut self.data, scales], w, shape);
            }
            (None, _) => {}
        }
        let w: Vec<_> =
            (0..self.matrices).map(|i| Source::new(&w[i * out * inp..], out, inp).transposed()).collect();
        pack(kernels, threads, &mut self.data, &w);
    }

    /// The panels of the one matrix that it is: those of `Wᵀ`.
    pub(crate) fn panels(&self, kernels: &Kernels) -> Panels<'_> {
        assert_eq!(self.matrices, 1, "a product by several matrices");
        self.panels_of(kernels, 0)
    }

    /// The panels of matrix `i`.
    pub(crate) fn panels_of(&self, kernels: &Kernels, i: usize) -> Panels<'_> {
        let (out, inp) = (self.out_features, self.in_features);
        let [mut len, of_scales] = Self::lens(&kernels.format, [out, inp], self.precision);
        if self.is_halved {
            len = Self::halved_len(&kernels.format, [out, inp]);
        }
        assert_eq!(self.data.len(), self.matrices * len, "a matrix packed for another instruction set");
        let data = &self.data[i * len..][..len];
        match &self.scales {
            None if self.is_halved => Panels::halves(&kernels.format, data, inp, out),
            None => Panels::new(&kernels.format, data, inp, out),
            Some(scales) => {
                assert_eq!(self.precision, ProductPrecision::Int8, "a matrix packed for products in FP8");
                Panels::int8(&kernels.format, [data, &scales[i * of_scales..][..of_scales]], inp, out)
            }
        }
    }

    /// Of matrix `i`, whose products are in FP8, the panels of `Wᵀ`, those of each block of k apart, and the scales.
    pub(super) fn fp8(&self, kernels: &Kernels, i: usize) -> (&[f32], &[f32]) {
        assert_eq!(self.precision, ProductPrecision::Fp8, "a matrix that is not packed for products in FP8");
        let squares = self.scales.as_ref().expect("a matrix packed for products in FP8");
        let (out, inp) = (self.out_features, self.in_features);
        let (len, of_each) = (fp8::packed_len(&kernels.format, inp, out), fp8::squares_of([out, inp]));
        assert_eq!(self.data.len(), self.matrices * len, "a matrix packed for another instruction set");
        (&self.data[i * len..][..len], &squares[i * of_each..][..of_each])
    }
}

/// Packs matrices `[k, columns]` into `data`, which has the space, one after the other. All have as many columns.
pub(super) fn pack(kernels: &Kernels, threads: &Threads, data: &mut [f32], matrices: &[Source<'_>]) {
    let Format { panel_columns, .. } = kernels.format;
    let panel_len = |b: &Source<'_>| kernels.format.panel_len(b.rows());
    let deepest = matrices.iter().map(panel_len).max().unwrap_or(0);
    if deepest == 0 {
        return;
    }
    let columns = matrices[0].columns();
    assert!(matrices.iter().all(|b| b.columns() == columns), "matrices of different widths");
    let panels = columns.div_ceil(panel_columns);
    // As many for each thread, so that none waits.
    let most = panels.div_ceil((TASK_WORK / 8 / deepest).max(1));
    let tasks = most.next_multiple_of(threads.count()).min(panels);
    let first = |task: usize| task * panels / tasks;
    let starts = starts(matrices.iter().map(|b| kernels.format.len(b.rows(), columns)));
    let data = Disjoint::new(data);
    threads.run(tasks * matrices.len(), |task| {
        let (i, task) = (task / tasks, task % tasks);
        let (b, panel_len) = (matrices[i], panel_len(&matrices[i]));
        for panel in first(task)..first(task + 1) {
            let (start, column) = (starts[i] + panel * panel_len, panel * panel_columns);
            // SAFETY: panels do not overlap, and each is one task's.
            let packed = unsafe { data.slice(start..start + panel_len) };
            kernels.pack(packed, b.part(0, b.rows(), column, panel_columns.min(columns - column)));
        }
    });
}

/// Where each of some parts of these lengths starts that lie back to back; then where they end.
fn starts(lengths: impl Iterator<Item = usize>) -> Vec<usize> {
    let sums = lengths.scan(0, |end, len| {
        *end += len;
        Some(*end)
    });
    std::iter::once(0).chain(sums).collect()
}

/// Packs `b` `[k, columns]` into `scratch`.
pub(crate) fn pack_on_the_fly<'a>(
    kernels: &Kernels,
    threads: &Threads,
    scratch: &'a mut AlignedVec<f32>,
    b: Source<'_>,
) -> Panels<'a> {
    let data = grown(scratch, kernels.format.len(b.rows(), b.columns()));
    pack(kernels, threads, data, &[b]);
    Panels::new(&kernels.format, data, b.rows(), b.columns())
}

/// As [`pack_on_the_fly`], of several matrices of one width.
pub(crate) fn pack_all_on_the_fly<'a>(
    kernels: &Kernels,
    threads: &Threads,
    scratch: &'a mut AlignedVec<f32>,
    matrices: &[Source<'_>],
) -> Vec<Panels<'a>> {
    let starts = starts(matrices.iter().map(|b| kernels.format.len(b.rows(), b.columns())));
    let data = grown(scratch, starts[matrices.len()]);
    pack(kernels, threads, data, matrices);
    let parts = matrices.iter().zip(starts.windows(2));
    parts.map(|(b, of)| Panels::new(&kernels.format, &data[of[0]..of[1]], b.rows(), b.columns())).collect()
}

/// `c = a b`, or `c += a b`.
pub(crate) fn multiply(
    kernels: &Kernels,
    threads: &Threads,
    c: &mut [f32],
    a: Source<'_>,
    b: Panels<'_>,
    store: Store,
) {
    let (rows, columns) = (a.rows(), b.columns());
    if rows * columns == 0 {
        return;
    }
    if b.k() == 0 {
        if store == Store::Write {
            c[..rows * columns].fill(0.0);
        }
        return;
    }
    multiply_all(kernels, threads, c, &[Product { a, b, start: 0 }], store);
}

/// A product of several that one list of tasks computes.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) a: Source<'a>,
    pub(crate) b: Panels<'a>,
    /// The first element of C `[a.rows, b.columns]`, among those of all products.
    pub(crate) start: usize,
}

/// `c = a b`, or `c += a b`, of each of `products`, of which none is empty. They have as many columns, and write parts of `c`
/// that follow one another.
pub(crate) fn multiply_all(
    kernels: &Kernels,
    threads: &Threads,
    c: &mut [f32],
    products: &[Product<'_>],
    store: Store,
) {
    let Some(first) = products.first() else { return };
    let columns = first.b.columns();
    let end = |p: &Product<'_>| p.start + p.a.rows() * columns;
    assert!(products.iter().all(|p| p.b.columns() == columns), "products of different widths");
    assert!(products.windows(2).all(|p| end(&p[0]) <= p[1].start), "products that overlap");

    let Format { panel_columns, block_rows, block_columns, .. } = kernels.format;
    let tiles = |p: &Product<'_>| p.a.rows().div_ceil(kernels.tile_rows);
    // As many blocks of rows for each thread, of about the same height in whole tiles, so that none waits.
    let blocks = |p: &Product<'_>| match p.a.rows().div_ceil(block_rows) {
        some if some > 1 && products.len() == 1 => some.next_multiple_of(threads.count()).min(tiles(p)),
        some => some,
    };
    let first_row =
        |p: &Product<'_>, block: usize| (block * tiles(p) / blocks(p) * kernels.tile_rows).min(p.a.rows());
    let blocks_before = starts(products.iter().map(blocks));
    let row_blocks = blocks_before[products.len()];
    let work = |p: &Product<'_>| blocks(p) * block_rows.min(p.a.rows()).max(ROWS_OF_A_READ) * p.b.k();
    let work = (products.iter().map(work).sum::<usize>() / row_blocks * panel_columns).max(1);
    // Narrower blocks where the rows make too few tasks.
    let panels = columns.div_ceil(panel_columns);
    // An A that lies in columns is packed by each of the blocks beside one another.
    let per_thread = if first.a.is_row_major() { TASKS_PER_THREAD } else { TASKS_PER_THREAD / 2 };
    let wanted = (threads.count() * per_thread).div_ceil(row_blocks);
    let least = panels.div_ceil(block_columns / panel_columns);
    let most = panels.div_ceil(TASK_WORK.div_ceil(work)).max(least);
    let column_blocks = wanted.clamp(least, most).min(panels);
    let first_column = |block: usize| (block * panels / column_blocks * panel_columns).min(columns);

    let c = Disjoint::new(c);
    let run = |task: usize| {
        let (row_block, block) = (task / column_blocks, task % column_blocks);
        let product = blocks_before.partition_point(|&before| before <= row_block) - 1;
        let Product { a, b, start } = products[product];
        let row_block = row_block - blocks_before[product];
        let (row, end) =
            (first_row(&products[product], row_block), first_row(&products[product], row_block + 1));
        let rows = end - row;
        let (column, end) = (first_column(block), first_column(block + 1));
        let width = end - column;
        // SAFETY: blocks of different tasks do not overlap, nor do products.
        let block = unsafe { Block::new(&c, start + row * columns + column, columns, rows, width) };
        let a = a.part(row, rows, 0, a.columns());
        with_scratch(kernels.product_scratch(rows, b), |scratch| {
            kernels.product(block, a, b.part(column, width), store, scratch);
        });
    };
    // Products that are many and small are not worth to be shared.
    if work * row_blocks * panels < 2 * TASK_WORK {
        (0..row_blocks * column_blocks).for_each(run);
    } else {
        threads.run(row_blocks * column_blocks, run);
    }
}

/// What is held of a weight matrix `W` `[out_features, in_features]`.
#[derive(Clone, Copy)]
pub(crate) enum Weights<'a> {
    Values(Source<'a>),
    /// The panels of `Wᵀ`.
    Packed(Panels<'a>),
}

impl Weights<'_> {
    /// `rows` rows from `row`, a panel's first, on.
    pub(crate) fn part(self, row: usize, rows: usize) -> Self {
        match self {
            Self::Values(w) => Self::Values(w.part(row, rows, 0, w.columns())),
            Self::Packed(w) => Self::Packed(w.part(row, rows)),
        }
    }
}

/// Memory in which weights are packed as they are read: panels, and where only those of the transpose are held, rows.
pub(crate) struct OnTheFly<'a> {
    pub(crate) panels: &'a mut AlignedVec<f32>,
    pub(crate) rows: &'a mut AlignedVec<f32>,
}

/// `c = a W`, or `c += a W`.
pub(crate) fn multiply_by_weights(
    kernels: &Kernels,
    threads: &Threads,
    c: &mut [f32],
    a: Source<'_>,
    w: Weights<'_>,
    store: Store,
    memory: OnTheFly<'_>,
) {
    let OnTheFly { panels, rows } = memory;
    let transposed = match w {
        Weights::Values(w) => return multiply_on_the_fly(kernels, threads, c, a, w, store, panels),
        Weights::Packed(transposed) => transposed,
    };
    let mut store = store;
    for k in (0..transposed.columns()).step_by(FLY_DEPTH) {
        let depth = FLY_DEPTH.min(transposed.columns() - k);
        let w = unpack(kernels, threads, rows, transposed.part(k, depth));
        let w = pack_on_the_fly(kernels, threads, panels, w);
        multiply(kernels, threads, c, a.part(0, a.rows(), k, depth), w, store);
        store = Store::Add;
    }
}

/// The matrix whose transpose is `panels`, in rows.
pub(super) fn unpack<'a>(
    kernels: &Kernels,
    threads: &Threads,
    rows: &'a mut AlignedVec<f32>,
    panels: Panels<'_>,
) -> Source<'a> {
    let Format { panel_columns, depth, per_f32, .. } = kernels.format;
    let (n, k) = (panels.columns(), panels.k());
    let (stride, panel_len) = (k.next_multiple_of(depth) / per_f32, kernels.format.panel_len(k));
    let rows = grown(rows, n.next_multiple_of(panel_columns) * stride);
    if panel_len > 0 {
        threads.chunks([(&mut *rows, panel_len)], |i, [rows]| {
            if panels.is_coded() {
                with_scratch(panel_len, |values| {
                    kernels.write_values(values, panels, i, 0);
                    kernels.unpack(rows, values);
                });
            } else {
                kernels.unpack(rows, panels.panel(i));
            }
        });
    }
    if kernels.rounds() {
        // SAFETY: each f32 holds two bf16, of which any bits are some.
        let rows = unsafe { std::slice::from_raw_parts(rows.as_ptr().cast::<u16>(), per_f32 * rows.len()) };
        Source::Bf16(View::strided(rows, per_f32 * stride, n, k))
    } else {
        Source::F32(View::strided(rows, stride, n, k))
    }
}

/// `c = a b`, or `c += a b`, packing `b` on the fly.
pub(crate) fn multiply_on_the_fly(
    kernels: &Kernels,
    threads: &Threads,
    c: &mut [f32],
    a: Source<'_>,
    b: Source<'_>,
    store: Store,
    scratch: &mut AlignedVec<f32>,
) {
    let mut store = store;
    for k in (0..b.rows().max(1)).step_by(FLY_DEPTH) {
        let depth = FLY_DEPTH.min(b.rows() - k);
        let panels = pack_on_the_fly(kernels, threads, scratch, b.part(k, depth, 0, b.columns()));
        multiply(kernels, threads, c, a.part(0, a.rows(), k, depth), panels, store);
        store = Store::Add;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    #[test]
    fn more_threads_than_tiles_of_rows_give_the_same_product() {
        let (k, columns) = (5, 70);
        let values = |len: usize| -> Vec<f32> { (0..len).map(|i| (i * 37 % 101) as f32 - 50.0).collect() };
        for kernels in Isa::ALL.into_iter().filter_map(Kernels::of) {
            for rows in [1, 13, 97, 130, 200] {
                let (a, b) = (values(rows * k), values(k * columns));
                let of = |count: usize| {
                    let threads = Threads::new(count).expect("threads");
                    let (mut c, mut packed) = (vec![f32::NAN; rows * columns], AlignedVec::empty());
                    let (a, b) = (Source::new(&a, rows, k), Source::new(&b, k, columns));
                    multiply_on_the_fly(kernels, &threads, &mut c, a, b, Store::Write, &mut packed);
                    c
                };
                let alone = of(1);
                assert!(alone.iter().all(|x| x.is_finite()), "{rows} rows");
                assert!([3, 16, 40].into_iter().all(|count| of(count) == alone), "{rows} rows");
            }
        }
    }
}
