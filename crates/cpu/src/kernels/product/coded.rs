//! Panels of weights that take less space than f32: codes of 8 bits, or bf16.
//!
//! - In 8 bits ([`koan_backend::int8`]): codes `[k, columns]`, and the scales of every 32 of k `[k / 32, columns]`.
//! - In bf16, of weights that it holds exactly, as most models are published: words `[k, columns / 2]`, in each the element of a column of
//!   the panel's first vector, and in its upper half that of the second's.
//!
//! A product by them is one by their values, in the same order of sums, so by bf16 it has the bits of one by f32. Many rows multiply panels
//! whose values were written first, into memory that the next rows find in level 2; a tile of rows takes the values in registers, and reads
//! a quarter or half of what it would of f32: what bounds a pass of few rows.

use koan_backend::{Store, int8::BLOCK};

use super::{
    matrix::{Block, LINE, Panels, Source},
    tile::by_rows,
};
use crate::simd::Simd;

/// Writes the values of a panel in 8 bits, of as many k as `panel` has.
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

/// Writes the values of a panel in bf16, of as many k as `panel` has.
#[inline(always)]
pub(crate) fn widen<S: Simd>(s: S, panel: &mut [f32], words: &[u32]) {
    for (row, words) in panel.chunks_exact_mut(2 * S::LANES).zip(words.chunks_exact(S::LANES)) {
        // SAFETY: a vector of words.
        let [first, second] = unsafe { s.load_halves(words.as_ptr()) };
        s.store(row, first);
        s.store(&mut row[S::LANES..], second);
    }
}

/// Writes a panel of values that bf16 holds exactly as words of two.
pub(crate) fn narrow(words: &mut [u32], panel: &[f32], lanes: usize) {
    for (words, row) in words.chunks_exact_mut(lanes).zip(panel.chunks_exact(2 * lanes)) {
        let (first, second) = row.split_at(lanes);
        for ((word, first), second) in words.iter_mut().zip(first).zip(second) {
            *word = first.to_bits() >> 16 | second.to_bits() & 0xffff_0000;
        }
    }
}

/// The codes of a panel, of which a row has two vectors.
trait Codes<S: Simd>: Copy {
    /// What is common to the codes of a [`BLOCK`] of k.
    type Common: Copy;

    /// # Safety
    /// The panel has block `block`.
    unsafe fn common(self, s: S, block: usize) -> Self::Common;

    /// The values of row `k`.
    ///
    /// # Safety
    /// The panel has it.
    unsafe fn load(self, s: S, k: usize, common: Self::Common) -> [S::V; 2];

    /// Asks for what lies [`AHEAD`] lines after row `k`, if that begins a line of codes.
    fn prefetch(self, s: S, k: usize);
}

/// Lines of codes that are asked for ahead: panels lie one after the other, and this one is read forward.
const AHEAD: usize = 64;
/// Bytes of a cache line.
const LINE_BYTES: usize = 4 * LINE;

/// Asks for what lies `AHEAD` lines after row `k` of rows of so many bytes.
#[inline(always)]
fn prefetch_after<S: Simd>(s: S, start: *const u8, k: usize, row: usize) {
    if (k * row).is_multiple_of(LINE_BYTES) {
        s.prefetch(start.wrapping_add(k * row + AHEAD * LINE_BYTES).cast());
    }
}

#[derive(Clone, Copy)]
struct Int8 {
    codes: *const i8,
    scales: *const f32,
}

impl<S: Simd> Codes<S> for Int8 {
    type Common = [S::V; 2];

    #[inline(always)]
    unsafe fn common(self, s: S, block: usize) -> [S::V; 2] {
        // SAFETY: by this function's contract.
        [0, S::LANES].map(|at| unsafe { s.load_at(self.scales.add(block * 2 * S::LANES + at)) })
    }

    #[inline(always)]
    unsafe fn load(self, s: S, k: usize, scales: [S::V; 2]) -> [S::V; 2] {
        // SAFETY: by this function's contract.
        let codes = |half| unsafe { s.load_codes(self.codes.add((2 * k + half) * S::LANES)) };
        [s.mul(codes(0), scales[0]), s.mul(codes(1), scales[1])]
    }

    #[inline(always)]
    fn prefetch(self, s: S, k: usize) {
        prefetch_after(s, self.codes.cast(), k, 2 * S::LANES);
    }
}

#[derive(Clone, Copy)]
struct Halves(*const u32);

impl<S: Simd> Codes<S> for Halves {
    type Common = ();

    #[inline(always)]
    unsafe fn common(self, _: S, _: usize) {}

    #[inline(always)]
    unsafe fn load(self, s: S, k: usize, (): ()) -> [S::V; 2] {
        // SAFETY: by this function's contract.
        unsafe { s.load_halves(self.0.add(k * S::LANES)) }
    }

    #[inline(always)]
    fn prefetch(self, s: S, k: usize) {
        prefetch_after(s, self.0.cast(), k, 4 * S::LANES);
    }
}

/// `c = a b`, or `c += a b`, of rows that are one tile, by weights in 8 bits or bf16.
#[inline(always)]
pub(crate) fn multiply<S: Simd>(s: S, c: Block, a: Source<'_>, b: Panels<'_>, store: Store) {
    let (a, width) = (a.of_f32(), 2 * S::LANES);
    assert!(a.rows == c.rows && a.columns == b.k && b.columns == c.columns && b.panel_columns == width);
    assert!(c.rows <= S::TILE_ROWS && a.column_stride == 1);
    for column in (0..c.columns).step_by(width) {
        // SAFETY: the tile lies in C's block; A has as many rows and columns, and the panel as many k, as is asserted.
        unsafe {
            let tile = Tile {
                c: c.start.add(column),
                c_stride: c.row_stride,
                columns: width.min(c.columns - column),
                add: store == Store::Add,
                a: a.data.as_ptr(),
                a_stride: a.row_stride,
                k: b.k,
            };
            if b.is_int8() {
                let (codes, scales) = b.int8_panel(column / width);
                assert!(codes.len() >= b.k * width && scales.len() >= b.k.div_ceil(BLOCK) * width);
                let codes = Int8 { codes: codes.as_ptr(), scales: scales.as_ptr() };
                by_rows!(c.rows, ROWS => tile.multiply::<S, _, ROWS>(s, codes));
            } else {
                let words = b.halves_panel(column / width);
                assert!(words.len() >= b.k * S::LANES);
                let codes = Halves(words.as_ptr());
                by_rows!(c.rows, ROWS => tile.multiply::<S, _, ROWS>(s, codes));
            }
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
    k: usize,
}

impl Tile {
    /// # Safety
    /// C can be written and A be read at `ROWS` rows, and codes of two vectors for `k`, by the strides given; nothing else accesses C at
    /// the time.
    #[inline(always)]
    unsafe fn multiply<S: Simd, C: Codes<S>, const ROWS: usize>(self, s: S, codes: C) {
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
                let common = codes.common(s, block);
                for k in k..self.k.min(k + BLOCK) {
                    codes.prefetch(s, k);
                    let b = codes.load(s, k, common);
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
