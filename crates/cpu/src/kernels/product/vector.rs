//! The f32 product of a block, on vectors.
//!
//! ```text
//! for each part of k          the block's A [96, 320], 120 KB, and C [96, 576], 216 KB, stay in level 2
//!   for each panel of B       its part [320, 16], 20 KB, stays in level 1
//!     for each tile of rows   C [6, 16] in registers: two loads of B, six broadcasts of A, twelve products
//! ```
//!
//! While a panel's tiles are computed, the next panel is fetched from memory, a line for every few steps of k: weights
//! come from memory once a pass, and would else be waited for by the first tile of each panel. So is what the next tile needs: its
//! part of C, and of an A that is read as it lies, which the first panel's tiles would else wait for, its rows; and what is packed of A
//! for the next part of k.
//!
//! A tile is two vectors wide and `TILE_ROWS` high, so that its accumulators fill the registers: 6 × 16 with
//! AVX2's 16 registers, 12 × 32 with AVX-512's 32. Multiply-adds, of which two start per cycle, are then what
//! bounds it, and not loads.
//!
//! Roofline: 64 rows by [576, 1536] are 113 MFLOP on 4 MB, 28 FLOP per byte, so that a core needs 4 GB/s; more
//! rows need less. One row is 0.5 FLOP per byte, bound by memory. Measured with AVX2 on one Zen 3 core, whose
//! multiply-adds reach 104 GFLOP/s (the best of many runs on a busy machine):
//!
//! ```text
//! forward  64 rows, 576 to 1536    98 GFLOP/s    backward_input   1024 rows, 576 to 576   89 GFLOP/s
//! forward  1024 rows, 576 to 576   94 GFLOP/s    backward_weight  1024 rows, 576 to 576   81 GFLOP/s
//! forward  4456 rows, 576 to 1536  88 GFLOP/s    forward  1 row, 576 to 1536   26 GFLOP/s, 52 GB/s
//! ```

use koan_backend::Store;

use super::{
    matrix::{Block, LINE, Panels, Source},
    pack,
    tile::{Walk, accumulate, by_rows},
};
use crate::simd::Simd;

/// Depth that a pass over the block takes at once, at most.
pub(crate) const DEPTH: usize = 320;

/// Steps of k in a turn of the inner loop: what advances addresses and counts is then a small part of it.
const UNROLLED: usize = 4;

/// Rows of a block, 16 tiles of 6 or 8 of 12: A's part stays in the level 2 cache.
pub(crate) const BLOCK_ROWS: usize = 96;

/// Columns of a block, at most: 216 KB of C.
pub(crate) const BLOCK_COLUMNS: usize = 576;

/// Scratch that [`multiply`] needs: a block of A, in whole tiles of at least a row, a vector between them.
pub(crate) fn scratch_len(rows: usize, k: usize) -> usize {
    (rows + 16) * DEPTH.min(k) + rows * 16
}

/// `c = a b`, or `c += a b`.
#[inline(always)]
pub(crate) fn multiply<S: Simd>(
    s: S,
    c: Block,
    a: Source<'_>,
    b: Panels<'_>,
    store: Store,
    scratch: &mut [f32],
) {
    let (a, width) = (a.of_f32(), 2 * S::LANES);
    assert!(a.rows == c.rows && a.columns == b.k && b.columns == c.columns && b.panel_columns == width);
    let tile_rows = c.rows.div_ceil(c.rows.div_ceil(S::TILE_ROWS)); // tiles of about the same height
    let tiles = c.rows.div_ceil(tile_rows);
    // One tile goes through a panel but once: no part of it needs to stay near.
    let depth = if tiles == 1 && a.column_stride == 1 { b.k } else { DEPTH };
    let part = b.k.div_ceil(b.k.div_ceil(depth));
    for k in (0..b.k).step_by(part) {
        let depth = part.min(b.k - k);
        let after = a.part(0, a.rows, k + depth, part.min(b.k - k - depth));
        let a = a.part(0, a.rows, k, depth);
        let packed = a.column_stride != 1;
        let (start, tile_stride) = if packed {
            let stride = pack::tile_stride(s, depth);
            let packed = &mut scratch[..a.rows.div_ceil(tile_rows) * stride];
            pack::tiles(s, packed, a, tile_rows);
            (packed.as_ptr(), stride)
        } else {
            (a.data.as_ptr(), tile_rows * a.row_stride)
        };
        if !packed && tiles > 1 {
            a.part(0, tile_rows, 0, depth).prefetch(s);
        }
        for column in (0..c.columns).step_by(width) {
            let panel = &b.data[column / width * b.panel_len + k * width..][..depth * width];
            // Each tile fetches its share of what the next panel holds of this depth.
            let next = panel.as_ptr().wrapping_add(b.panel_len);
            let share = (depth * width).div_ceil(tiles).next_multiple_of(LINE);
            for row in (0..c.rows).step_by(tile_rows) {
                let below = row + tile_rows;
                let (next_row, next_column) =
                    if below < c.rows { (below, column) } else { (0, column + width) };
                let reads_a = !packed && column == 0 && below < c.rows;
                if packed {
                    let tile = column / width * tiles + row / tile_rows;
                    pack::prefetch_share(s, after, tile, tiles * c.columns.div_ceil(width));
                }
                // SAFETY: the tile lies in C's block, as `row` and `column` do; `start` and the strides are
                // those of A's block, which has as many rows, and `panel` is `depth` deep.
                unsafe {
                    let tile = Tile {
                        c: c.start.add(row * c.row_stride + column),
                        c_stride: c.row_stride,
                        columns: width.min(c.columns - column),
                        add: k > 0 || store == Store::Add,
                        a: start.add(row / tile_rows * tile_stride),
                        a_stride: a.row_stride,
                        next_c: c.start.wrapping_add(next_row * c.row_stride + next_column),
                        next_a: reads_a.then(|| start.wrapping_add(below / tile_rows * tile_stride)),
                        b: panel.as_ptr(),
                        next: next.wrapping_add(row / tile_rows * share),
                        every: tiles,
                        k: depth,
                    };
                    let rows = tile_rows.min(c.rows - row);
                    if packed {
                        tile.multiply::<S, true>(s, rows);
                    } else {
                        tile.multiply::<S, false>(s, rows);
                    }
                }
            }
        }
    }
}

/// Some rows of C, as wide as a panel or narrower, and the addresses of what they are the product of.
struct Tile {
    c: *mut f32,
    c_stride: usize,
    columns: usize,
    /// Whether to go on from what C holds.
    add: bool,
    a: *const f32,
    /// From a row of A to the next, unless A is packed.
    a_stride: usize,
    /// Where the next tile's C starts, which is fetched.
    next_c: *const f32,
    /// Where the next tile's A starts, if it is fetched.
    next_a: Option<*const f32>,
    b: *const f32,
    /// What is fetched of the next panel, a k for `every` of this one.
    next: *const f32,
    every: usize,
    k: usize,
}

impl Tile {
    /// The tile's product, `rows` high.
    ///
    /// # Safety
    /// C can be written and A be read at `rows` rows, and B for `k` rows of two vectors, by the strides
    /// given; nothing else accesses C at the time.
    #[inline(always)]
    unsafe fn multiply<S: Simd, const PACKED: bool>(self, s: S, rows: usize) {
        // SAFETY: by this function's contract.
        unsafe {
            by_rows!(rows, ROWS => self.multiply_rows::<S, PACKED, ROWS>(s));
        }
    }

    /// # Safety
    /// As for [`multiply`](Self::multiply).
    #[inline(always)]
    unsafe fn multiply_rows<S: Simd, const PACKED: bool, const ROWS: usize>(self, s: S) {
        let width = 2 * S::LANES;
        if ROWS > S::TILE_ROWS {
            return; // no tile is as high: `multiply` has one match for all instruction sets
        }
        let mut sum = [[s.splat(0.0); 2]; ROWS];
        // SAFETY: by this function's contract.
        unsafe {
            if self.add {
                for (r, sum) in sum.iter_mut().enumerate() {
                    let c = self.c.add(r * self.c_stride);
                    *sum = if self.columns == width {
                        [s.load_at(c), s.load_at(c.add(S::LANES))]
                    } else {
                        let c = std::slice::from_raw_parts(c, self.columns);
                        [s.load(c), s.load(&c[S::LANES.min(self.columns)..])]
                    };
                }
            }
            for r in 0..ROWS {
                for line in (0..width).step_by(LINE) {
                    s.prefetch(self.next_c.wrapping_add(r * self.c_stride + line));
                }
            }
            let (a_row, a_k) = if PACKED { (1, S::TILE_ROWS) } else { (self.a_stride, 1) };
            let (mut a, mut b) = (self.a, self.b);
            let (mut next, mut next_a) = (self.next, self.next_a);
            let mut left_k = self.k;
            while left_k > 0 {
                // A tile takes `every` steps of k for each that it fetches of the next panel.
                for line in 0..UNROLLED * width.div_ceil(LINE) {
                    s.prefetch(next.wrapping_add(line * LINE));
                }
                next = next.wrapping_add(UNROLLED * width);
                let steps = (UNROLLED * self.every).min(left_k);
                left_k -= steps;
                if let Some(a) = &mut next_a {
                    for line in (0..steps).step_by(LINE) {
                        for r in 0..ROWS {
                            s.prefetch(a.wrapping_add(r * self.a_stride + line));
                        }
                    }
                    *a = a.wrapping_add(steps);
                }
                let of_a = Walk { start: a, row: a_row, k: a_k };
                accumulate::<S, ROWS, 2, UNROLLED>(
                    s,
                    &mut sum,
                    of_a,
                    Walk { start: b, row: 1, k: width },
                    steps,
                );
                a = a.wrapping_add(steps * a_k);
                b = b.wrapping_add(steps * width);
            }
            for (r, sum) in sum.iter().enumerate() {
                let c = self.c.add(r * self.c_stride);
                if self.columns == width {
                    s.store_at(c, sum[0]);
                    s.store_at(c.add(S::LANES), sum[1]);
                } else {
                    let c = std::slice::from_raw_parts_mut(c, self.columns);
                    s.store(c, sum[0]);
                    s.store(&mut c[S::LANES.min(self.columns)..], sum[1]);
                }
            }
        }
    }
}
