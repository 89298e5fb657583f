//! The f32 product of a block, generic over the instruction set.
//!
//! ```text
//! for each part of k            the block's A [96, 320], 120 KB, and C [96, 512], 192 KB, stay in the level 2 cache
//!   for each panel of B         its part [320, 16], 20 KB, stays in the level 1 cache
//!     for each tile of rows     C [6, 16] in registers: two loads of B, six broadcasts of A, twelve multiply-adds
//! ```
//!
//! A tile is two vectors wide and `TILE_ROWS` high, so that its accumulators fill the registers: 6 × 16 with AVX2's 16
//! registers, 12 × 32 with AVX-512's 32. Multiply-adds, of which two start a cycle, are then what bounds it, and not loads.

use koan_backend::Store;

use super::{BLOCK_ROWS, Block, Panels, View, pack};
use crate::simd::Simd;

/// Depth that a pass over the block takes at once, at most.
pub(crate) const DEPTH: usize = 320;

/// Scratch that [`multiply`] needs: a block of A, in whole tiles.
pub(crate) fn scratch_len(_rows: usize, k: usize) -> usize {
    (BLOCK_ROWS + 16) * DEPTH.min(k)
}

/// `c = a b`, or `c += a b`.
#[inline(always)]
pub(crate) fn multiply<S: Simd>(s: S, c: Block, a: View<'_>, b: Panels<'_>, store: Store, scratch: &mut [f32]) {
    let width = 2 * S::LANES;
    assert!(a.rows == c.rows && a.columns == b.k && b.columns == c.columns && b.panel_columns == width);
    let tile_rows = c.rows.div_ceil(c.rows.div_ceil(S::TILE_ROWS)); // tiles of about the same height
    let part = b.k.div_ceil(b.k.div_ceil(DEPTH));
    for k in (0..b.k).step_by(part) {
        let depth = part.min(b.k - k);
        let a = a.part(0, a.rows, k, depth);
        let (start, tile_stride, row_stride, k_stride) = if a.column_stride == 1 {
            (a.data.as_ptr(), tile_rows * a.row_stride, a.row_stride, 1)
        } else {
            let packed = &mut scratch[..a.rows.next_multiple_of(tile_rows) * depth];
            pack::tiles(s, packed, a, tile_rows);
            (packed.as_ptr(), tile_rows * depth, 1, tile_rows)
        };
        for column in (0..c.columns).step_by(width) {
            let panel = &b.data[column / width * b.panel_len + k * width..][..depth * width];
            for row in (0..c.rows).step_by(tile_rows) {
                let columns = width.min(c.columns - column);
                // SAFETY: the tile lies in C's block, as `row` and `column` do; `start` and the strides are those of A's
                // block, which has as many rows, and `panel` is `depth` deep.
                unsafe {
                    let tile = Tile {
                        c: c.start.add(row * c.row_stride + column),
                        c_stride: c.row_stride,
                        columns,
                        add: k > 0 || store == Store::Add,
                        a: start.add(row / tile_rows * tile_stride),
                        a_row: row_stride,
                        a_k: k_stride,
                        b: panel.as_ptr(),
                        k: depth,
                    };
                    match tile_rows.min(c.rows - row) {
                        1 => tile.multiply::<S, 1>(s),
                        2 => tile.multiply::<S, 2>(s),
                        3 => tile.multiply::<S, 3>(s),
                        4 => tile.multiply::<S, 4>(s),
                        5 => tile.multiply::<S, 5>(s),
                        6 => tile.multiply::<S, 6>(s),
                        7 => tile.multiply::<S, 7>(s),
                        8 => tile.multiply::<S, 8>(s),
                        9 => tile.multiply::<S, 9>(s),
                        10 => tile.multiply::<S, 10>(s),
                        11 => tile.multiply::<S, 11>(s),
                        _ => tile.multiply::<S, 12>(s),
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
    a_row: usize,
    a_k: usize,
    b: *const f32,
    k: usize,
}

impl Tile {
    /// The tile's product, `ROWS` high.
    ///
    /// # Safety
    /// C can be written and A be read at `ROWS` rows, and B for `k` rows of two vectors, by the strides given; nothing else
    /// accesses C at the time.
    #[inline(always)]
    unsafe fn multiply<S: Simd, const ROWS: usize>(self, s: S) {
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
            let (mut a, mut b) = (self.a, self.b);
            for _ in 0..self.k {
                let [left, right] = [s.load_at(b), s.load_at(b.add(S::LANES))];
                for (r, sum) in sum.iter_mut().enumerate() {
                    let x = s.splat(*a.add(r * self.a_row));
                    sum[0] = s.mul_add(x, left, sum[0]);
                    sum[1] = s.mul_add(x, right, sum[1]);
                }
                a = a.wrapping_add(self.a_k);
                b = b.add(width);
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
