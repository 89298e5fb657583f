//! Panels of weights in 8 bits ([`koan_backend::int8`]): codes `[k, columns]`, and the scales of every 32 of k `[k / 32, columns]`.
//!
//! A product by them is one by their values, in the same order of sums. Many rows multiply panels whose values were written first, into memory
//! that the next rows find in level 2; a tile of rows takes the values in registers, and reads a quarter of what it would of f32.

use koan_backend::{Store, int8::BLOCK};

use super::{
    matrix::{Block, LINE, Panels, Source},
    tile::by_rows,
};
use crate::simd::Simd;

/// Writes the values of a panel, of as many k as `panel` has.
#[inline(always)]
pub(crate) fn dequantize<S: Simd>(s: S, panel: &mut [f32], codes: &[i8], scales: &[f32]) {
    let width = 2 * S::LANES;
    let blocks = panel.chunks_mut(BLOCK * width).zip(codes.chunks(BLOCK * width));
    for ((panel, codes), scales) in blocks.zip(scales.chunks_exact(width)) {
        let scales = [s.load(scales), s.load(&scales[S::LANES..])];
        for (row, codes) in panel.chunks_exact_mut(width).zip(codes.chunks_exact(width)) {
            for (half, scale) in scales.into_iter().enumerate() {
                let at = half * S::LANES;
                // SAFETY: a row holds two vectors.
                let codes = unsafe { s.load_codes(codes[at..].as_ptr()) };
                s.store(&mut row[at..], s.mul(codes, scale));
            }
        }
    }
}

/// `c = a b`, or `c += a b`, of rows that are one tile, by weights in 8 bits.
#[inline(always)]
pub(crate) fn multiply<S: Simd>(s: S, c: Block, a: Source<'_>, b: Panels<'_>, store: Store) {
    let (a, width) = (a.of_f32(), 2 * S::LANES);
    assert!(a.rows == c.rows && a.columns == b.k && b.columns == c.columns && b.panel_columns == width);
    assert!(c.rows <= S::TILE_ROWS && a.column_stride == 1);
    for column in (0..c.columns).step_by(width) {
        let (codes, scales) = b.int8_panel(column / width);
        assert!(codes.len() >= b.k * width && scales.len() >= b.k.div_ceil(BLOCK) * width);
        // SAFETY: the tile lies in C's block; A has as many rows and columns, and the panel as many k, as was asserted.
        unsafe {
            let tile = Tile {
                c: c.start.add(column),
                c_stride: c.row_stride,
                columns: width.min(c.columns - column),
                add: store == Store::Add,
                a: a.data.as_ptr(),
                a_stride: a.row_stride,
                codes: codes.as_ptr(),
                scales: scales.as_ptr(),
                k: b.k,
            };
            by_rows!(c.rows, ROWS => tile.multiply::<S, ROWS>(s));
        }
    }
}

/// Some rows of C, as wide as a panel or narrower, and the addresses of what they are the product of.
#[derive(Clone, Copy)]
struct Tile {
    c: *mut f32,
    c_stride: usize,
    columns: usize,
    /// Whether to go on from what C holds.
    add: bool,
    a: *const f32,
    a_stride: usize,
    codes: *const i8,
    scales: *const f32,
    k: usize,
}

impl Tile {
    /// # Safety
    /// C can be written and A be read at `ROWS` rows, and codes and scales of two vectors for `k`, by the strides given; nothing else
    /// accesses C at the time.
    #[inline(always)]
    unsafe fn multiply<S: Simd, const ROWS: usize>(self, s: S) {
        let width = 2 * S::LANES;
        if ROWS > S::TILE_ROWS {
            return; // no tile is as high: `multiply` has one match for all instruction sets
        }
        let mut sums = [[s.splat(0.0); 2]; ROWS];
        // SAFETY: by this function's contract.
        unsafe {
            let row = |r: usize| self.c.add(r * self.c_stride);
            if self.add {
                for (r, sums) in sums.iter_mut().enumerate() {
                    let c = std::slice::from_raw_parts(row(r), self.columns);
                    *sums = [s.load(c), s.load(&c[S::LANES.min(self.columns)..])];
                }
            }
            for (block, k) in (0..self.k).step_by(BLOCK).enumerate() {
                let scales = [0, S::LANES].map(|at| s.load_at(self.scales.add(block * width + at)));
                for k in k..self.k.min(k + BLOCK) {
                    let codes = self.codes.add(k * width);
                    // Panels lie one after the other: what is four blocks ahead is read next, of this panel or the next.
                    if (k * width).is_multiple_of(4 * LINE) {
                        s.prefetch(codes.wrapping_add(4 * BLOCK * width).cast());
                    }
                    let b = [0, 1].map(|half| s.mul(s.load_codes(codes.add(half * S::LANES)), scales[half]));
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let x = s.splat(*self.a.add(r * self.a_stride + k));
                        for (sum, b) in sums.iter_mut().zip(b) {
                            *sum = s.mul_add(x, b, *sum);
                        }
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                let c = std::slice::from_raw_parts_mut(row(r), self.columns);
                s.store(c, sums[0]);
                s.store(&mut c[S::LANES.min(self.columns)..], sums[1]);
            }
        }
    }
}
