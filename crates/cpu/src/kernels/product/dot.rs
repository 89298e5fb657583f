//! The bf16 product of a block on vectors, with f32 accumulation: `vdpbf16ps` adds the products of a pair of k to each of
//! sixteen sums.
//!
//! ```text
//! for each part of k          the block's A [96, 256], 48 KB, and C [96, 576], 216 KB, stay in level 2
//!   for each panel of B       its part [256, 32], 16 KB, stays in level 1
//!     for each tile of rows   C [12, 32] in registers: two loads of B, twelve broadcasts of A, 24 products
//! ```
//!
//! An A of bf16 rows is read as it lies; any other is packed in rows. Each element of C is the instruction's chain over pairs of k, which
//! goes on from what C holds.
//!
//! Roofline: a row reads a byte for each of its multiply-adds, half of what the f32 product reads. At many rows the instruction bounds
//! it: 32 multiply-adds, of which a Zen 4 core starts one per cycle, twice its f32; a Xeon one every two cycles, half of its f32.

#[allow(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")]
use std::arch::x86_64::*;
use std::hint::black_box;

use koan_backend::Store;

use super::{
    super::ceiling::SUMS,
    matrix::{Block, Format, LINE, Panels, Source, View},
    pairs::{DEPTH, Order, ROWS, SIDE, TILE, pack_tile},
    tile::by_rows,
};

/// Tiles of a part of k.
const PART: usize = 8;
/// Rows of a tile of C: with two vectors of columns, 24 of the 32 registers.
pub(crate) const TILE_ROWS: usize = 12;
/// Cache lines of a step of k, 32 of it, in a panel.
const PANEL_LINES: usize = 2 * TILE / LINE;
/// Pairs of k in a tile of B.
const PAIRS: usize = DEPTH / 2;

/// Panels are those of AMX.
pub(crate) const FORMAT: Format =
    Format { panel_columns: SIDE, depth: DEPTH, per_f32: 2, block_rows: 96, block_columns: 576 };

/// Scratch that [`multiply`] needs: a part of A in rows of pairs, in whole tiles.
pub(crate) fn scratch_len(rows: usize, k: usize) -> usize {
    rows.next_multiple_of(ROWS) * k.div_ceil(DEPTH) * PAIRS
}

/// `c = a b`, or `c += a b`.
///
/// # Safety
/// The machine has AVX-512 and AVX-512 BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(crate) unsafe fn multiply(c: Block, a: Source<'_>, b: Panels<'_>, store: Store, scratch: &mut [f32]) {
    assert!(a.rows() == c.rows && a.columns() == b.k && b.columns == c.columns && b.panel_columns == SIDE);
    let tile_rows = c.rows.div_ceil(c.rows.div_ceil(TILE_ROWS)); // tiles of about the same height
    // One tile goes through a panel but once: no part of it needs to stay near.
    let (tiles, part) = (b.k.div_ceil(DEPTH), if c.rows <= TILE_ROWS { usize::MAX } else { PART });
    // Each tile of rows fetches its share of the next panel.
    let share = PANEL_LINES.div_ceil(c.rows.div_ceil(tile_rows));
    let part = tiles.div_ceil(tiles.div_ceil(part));
    for first in (0..tiles).step_by(part) {
        let (k, end) = (first * DEPTH, b.k.min((first + part) * DEPTH));
        let a = a.part(0, a.rows(), k, end - k);
        let (start, stride) = rows_of_pairs(a, scratch);
        for (column, panel) in (0..c.columns).step_by(SIDE).zip(b.data.chunks_exact(b.panel_len)) {
            for row in (0..c.rows).step_by(tile_rows) {
                let below = row + tile_rows;
                let (next_row, next_column) =
                    if below < c.rows { (below, column) } else { (0, column + SIDE) };
                // SAFETY: the tile lies in C's block, which is this task's alone, as `row` and `column` do; A's rows are
                // readable for `end - k` of k, rounded up to pairs, and the panel for whole tiles of k from `first` on.
                unsafe {
                    let tile = Tile {
                        c: c.start.add(row * c.row_stride + column),
                        c_stride: c.row_stride,
                        columns: SIDE.min(c.columns - column),
                        add: first > 0 || store == Store::Add,
                        a: start.add(row * stride),
                        a_stride: stride,
                        next_c: c.start.wrapping_add(next_row * c.row_stride + next_column),
                        next_a: (column == 0 && below < c.rows).then(|| start.wrapping_add(below * stride)),
                        b: panel.as_ptr().add(2 * first * TILE),
                        next_b: panel
                            .as_ptr()
                            .wrapping_add(b.panel_len + 2 * first * TILE + row / tile_rows * share * LINE),
                        share,
                        pairs: (end - k).div_ceil(2),
                    };
                    by_rows!(tile_rows.min(c.rows - row), N => tile.multiply::<N>());
                }
            }
        }
    }
}

/// The first bf16 of A's rows of whole pairs of k, and how many bf16 it is from a row to the next: A itself, or its copy in `scratch`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn rows_of_pairs(a: Source<'_>, scratch: &mut [f32]) -> (*const u16, usize) {
    match a {
        Source::Bf16(View { data, row_stride, column_stride: 1, columns, .. }) if columns % 2 == 0 => {
            (data.as_ptr(), row_stride)
        }
        _ => {
            let tiles = a.columns().div_ceil(DEPTH);
            let stride = tiles * PAIRS;
            let mut tile = [0.0; TILE];
            // An A that lies in columns is read by whole cache lines so.
            for k in 0..tiles {
                for row in (0..a.rows()).step_by(ROWS) {
                    pack_tile(&mut tile, a, row, k * DEPTH, Order::Lines);
                    for (i, pairs) in tile.chunks_exact(PAIRS).enumerate() {
                        scratch[(row + i) * stride + k * PAIRS..][..PAIRS].copy_from_slice(pairs);
                    }
                }
            }
            (scratch.as_ptr().cast(), 2 * stride)
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
    a: *const u16,
    a_stride: usize,
    /// Where the next tile's C starts, which is fetched.
    next_c: *const f32,
    /// Where the next tile's A starts, if it is fetched.
    next_a: Option<*const u16>,
    b: *const f32,
    /// What is fetched of the next panel: so many lines of each step of k.
    next_b: *const f32,
    share: usize,
    /// Pairs of k.
    pairs: usize,
}

impl Tile {
    /// The tile's product, `N` rows high.
    ///
    /// # Safety
    /// The machine has AVX-512 and AVX-512 BF16. C can be written and A be read at `N` rows, and B for the tiles that hold `pairs`
    /// pairs of k, by the strides given; nothing else accesses C at the time.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn multiply<const N: usize>(self) {
        let masks = [0, ROWS].map(|from| ((1_u32 << self.columns.saturating_sub(from).min(ROWS)) - 1) as u16);
        let mut sums = [[_mm512_setzero_ps(); 2]; N];
        // SAFETY: by this function's contract; the masks keep to C's columns.
        unsafe {
            if self.add {
                for (r, sums) in sums.iter_mut().enumerate() {
                    let c = self.c.add(r * self.c_stride);
                    *sums = [
                        _mm512_maskz_loadu_ps(masks[0], c),
                        _mm512_maskz_loadu_ps(masks[1], c.wrapping_add(ROWS)),
                    ];
                }
            }
            for r in 0..N {
                for line in 0..SIDE / LINE {
                    fetch(self.next_c.wrapping_add(r * self.c_stride + line * LINE));
                }
            }
            let (mut a, mut b, mut next_a, mut next_b) = (self.a, self.b, self.next_a, self.next_b);
            for _ in 0..self.pairs / PAIRS {
                if let Some(a) = &mut next_a {
                    for r in 0..N {
                        fetch(a.wrapping_add(r * self.a_stride).cast());
                    }
                    *a = a.wrapping_add(DEPTH);
                }
                for line in 0..self.share {
                    fetch(next_b.wrapping_add(line * LINE));
                }
                next_b = next_b.wrapping_add(2 * TILE);
                for pair in 0..PAIRS {
                    step(&mut sums, a.add(2 * pair), self.a_stride, b.add(pair * ROWS));
                }
                (a, b) = (a.wrapping_add(DEPTH), b.wrapping_add(2 * TILE));
            }
            for pair in 0..self.pairs % PAIRS {
                step(&mut sums, a.add(2 * pair), self.a_stride, b.add(pair * ROWS));
            }
            for (r, sums) in sums.iter().enumerate() {
                let c = self.c.add(r * self.c_stride);
                _mm512_mask_storeu_ps(c, masks[0], sums[0]);
                _mm512_mask_storeu_ps(c.wrapping_add(ROWS), masks[1], sums[1]);
            }
        }
    }
}

/// Asks for a cache line.
#[inline]
#[target_feature(enable = "avx512f")]
fn fetch(line: *const f32) {
    _mm_prefetch::<_MM_HINT_T0>(line.cast());
}

/// One pair of k of a tile.
///
/// # Safety
/// The machine has AVX-512 and AVX-512 BF16. A can be read at `N` rows, and B's two tiles at this pair.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn step<const N: usize>(sums: &mut [[__m512; 2]; N], a: *const u16, a_stride: usize, b: *const f32) {
    // SAFETY: by this function's contract; vectors of bf16 and of 32 bits are both 512 bits.
    unsafe {
        let pairs = |x: __m512i| std::mem::transmute::<__m512i, __m512bh>(x);
        let columns = [0, TILE].map(|from| pairs(_mm512_loadu_si512(b.add(from).cast())));
        for (r, sums) in sums.iter_mut().enumerate() {
            let x = pairs(_mm512_set1_epi32(a.add(r * a_stride).cast::<i32>().read_unaligned()));
            for (sum, columns) in sums.iter_mut().zip(columns) {
                *sum = _mm512_dpbf16_ps(*sum, x, columns);
            }
        }
    }
}

/// Operations of a turn of [`multiply_adds`].
pub(crate) const OPERATIONS_OF_TURN: usize = SUMS * 4 * ROWS;

/// `turns` of the instruction for each of [`SUMS`] vectors of sums.
///
/// # Safety
/// The machine has AVX-512 and AVX-512 BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(crate) unsafe fn multiply_adds(turns: usize) -> f32 {
    // SAFETY: vectors of bf16 and of 32 bits are both 512 bits.
    let x = unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(black_box(0x3f00_3f00))) };
    let mut sums = [_mm512_setzero_ps(); SUMS];
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, x, x);
        }
    }
    sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
}
