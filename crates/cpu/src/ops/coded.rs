//! Weights in 8 bits ([`koan_backend::int8`]), and in bf16 where it holds them exactly: packed, and the products of a block by them.

use std::sync::atomic::{AtomicBool, Ordering};

use koan_backend::{Store, int8};

use crate::{
    kernels::product::{Block, Format, Panels, Source, coded},
    memory::{Disjoint, with_scratch},
    parallel::Threads,
    tables::Kernels,
};

/// k whose values are written at once.
const PART: usize = 256;
/// Panels whose values are written at once where rows are many: A is packed once for all of them.
const PANELS: usize = 8;

/// Whether bf16 holds all values exactly.
pub(crate) fn is_exact(threads: &Threads, values: &[f32]) -> bool {
    /// Values of a task.
    const PART: usize = 1 << 16;
    let inexact = AtomicBool::new(false);
    threads.run(values.len().div_ceil(PART), |i| {
        let part = &values[i * PART..values.len().min((i + 1) * PART)];
        if part.iter().fold(0, |bits, x| bits | x.to_bits()) & 0xffff != 0 {
            inexact.store(true, Ordering::Relaxed);
        }
    });
    !inexact.into_inner()
}

/// Packs each matrix of `w` `[matrices, out, inp]`, which bf16 holds exactly, into `words`.
pub(crate) fn fill_halves(
    kernels: &Kernels,
    threads: &Threads,
    words: &mut [f32],
    w: &[f32],
    [matrices, out, inp]: [usize; 3],
) {
    let Format { panel_columns: columns, .. } = kernels.format;
    let (panels, len) = (out.div_ceil(columns), kernels.format.halves_panel_len(inp));
    let words = Disjoint::new(words);
    threads.run(matrices * panels, |task| {
        let (matrix, panel) = (task / panels, task % panels);
        let w = Source::new(&w[matrix * out * inp..], out, inp).transposed();
        let column = panel * columns;
        // SAFETY: panels do not overlap, and each is one task's. Any bits are a word, which has the space of an f32.
        let words = unsafe {
            let words = words.slice(task * len..(task + 1) * len);
            std::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u32>(), words.len())
        };
        with_scratch(kernels.format.panel_len(inp), |values| {
            kernels.pack(values, w.part(0, inp, column, columns.min(out - column)));
            coded::narrow(words, values, columns / 2);
        });
    });
}

/// Packs each matrix of `w` `[matrices, out, inp]`, rounded before, into `codes` and `scales`.
pub(crate) fn fill_int8(
    format: &Format,
    threads: &Threads,
    [codes, scales]: [&mut [f32]; 2],
    w: &[f32],
    [matrices, out, inp]: [usize; 3],
) {
    let columns = format.panel_columns;
    let (panel_len, scales_len) = (format.int8_panel_len(inp), format.int8_scales_len(inp));
    let panels = out.div_ceil(columns);
    let (codes, scales) = (Disjoint::new(codes), Disjoint::new(scales));
    threads.run(matrices * panels, |task| {
        let (matrix, panel) = (task / panels, task % panels);
        // SAFETY: panels do not overlap, and each is one task's. An f32 has the space of four codes, of which any bits are some.
        let (codes, scales) = unsafe {
            let codes = codes.slice(task * panel_len..(task + 1) * panel_len);
            let codes = std::slice::from_raw_parts_mut(codes.as_mut_ptr().cast::<i8>(), 4 * codes.len());
            (codes, scales.slice(task * scales_len..(task + 1) * scales_len))
        };
        codes.fill(0);
        scales.fill(0.0);
        let rows = &w[matrix * out * inp..][..out * inp];
        for (column, row) in rows.chunks_exact(inp).skip(panel * columns).take(columns).enumerate() {
            for (block, w) in row.chunks(int8::BLOCK).enumerate() {
                let d = int8::scale(w);
                scales[block * columns + column] = d;
                for (k, w) in w.iter().enumerate() {
                    codes[(block * int8::BLOCK + k) * columns + column] = int8::code(*w, d);
                }
            }
        }
    });
}

impl Kernels {
    /// Elements of scratch that [`product`](Self::product) needs, of so many rows.
    pub(crate) fn product_scratch(&self, rows: usize, b: Panels<'_>) -> usize {
        let of_values = if b.is_coded() { PANELS * self.format.panel_len(PART) } else { 0 };
        of_values + (self.scratch_len)(rows, b.k())
    }

    /// `c = a b`, or `c += a b`, of a block.
    pub(crate) fn product(&self, c: Block, a: Source<'_>, b: Panels<'_>, store: Store, scratch: &mut [f32]) {
        if !b.is_coded() {
            return self.multiply(c, a, b, store, scratch);
        }
        if !self.rounds() && a.rows() <= self.tile_rows && a.is_row_major() {
            return self.coded_multiply(c, a, b, store);
        }
        let columns = self.format.panel_columns;
        let (values, scratch) = scratch.split_at_mut(PANELS * self.format.panel_len(PART));
        for k in (0..b.k()).step_by(PART) {
            let depth = PART.min(b.k() - k);
            let (a, panel_len) = (a.part(0, a.rows(), k, depth), self.format.panel_len(depth));
            let store = if k > 0 { Store::Add } else { store };
            for column in (0..b.columns()).step_by(PANELS * columns) {
                let width = (PANELS * columns).min(b.columns() - column);
                let values = &mut values[..width.div_ceil(columns) * panel_len];
                for (i, values) in values.chunks_exact_mut(panel_len).enumerate() {
                    self.write_values(values, b, column / columns + i, k);
                }
                let b = Panels::new(&self.format, values, depth, width);
                self.multiply(c.columns(column, width), a, b, store, scratch);
            }
        }
    }

    /// Writes the values of panel `i` of `b`, from `k` on, as many as `values` has.
    pub(crate) fn write_values(&self, values: &mut [f32], b: Panels<'_>, i: usize, k: usize) {
        let columns = self.format.panel_columns;
        if !b.is_int8() {
            return self.widen(values, &b.halves_panel(i)[k * columns / 2..]);
        }
        let (codes, scales) = b.int8_panel(i);
        self.int8_dequantize(values, &codes[k * columns..], &scales[k / int8::BLOCK * columns..]);
    }
}
