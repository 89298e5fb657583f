//! The bf16 product of a block on AMX's tiles, with f32 accumulation. A is packed as B is (`pairs.rs`), by
//! `[rows / 16][k / 32]` tiles.
//!
//! ```text
//! for each part of k          the block's A [128, 512], 128 KB, stays in level 2
//!   for each panel of B       its part [512, 32], 32 KB, stays in level 1
//!     for each pair of rows   C [32, 32] in four tiles
//! ```
//!
//! Two tiles of A by two of B are multiplied into four of C, so that four loads of tiles feed four products;
//! a product takes 16 cycles, a load 8. A comes from level 2 at 32 bytes per cycle. Each element of C is the hardware's chain
//! over k, which goes on from what C holds.

use std::arch::asm;

use koan_backend::Store;

use super::{
    matrix::{Block, Format, Panels, Source},
    pairs::{DEPTH, Order, ROWS, SIDE, TILE, pack_tile},
};

/// Tiles of a part of k.
const PART: usize = 16;

/// Rows of a tile of C.
pub(crate) const TILE_ROWS: usize = ROWS;

/// A block is as wide as there are tasks enough: its rows are packed once.
pub(crate) const FORMAT: Format =
    Format { panel_columns: SIDE, depth: DEPTH, per_f32: 2, block_rows: 128, block_columns: 1 << 13 };

/// Scratch that [`multiply`] needs: a part of A packed in whole pairs of tiles, and four tiles of C.
pub(crate) fn scratch_len(rows: usize, k: usize) -> usize {
    rows.next_multiple_of(SIDE) / ROWS * k.div_ceil(DEPTH).min(PART) * TILE + SIDE * SIDE
}

/// The configuration of this thread's tiles, all 16 rows of 64 bytes, until dropped.
struct Tiles;

/// The operand of LDTILECFG (Intel SDM vol. 1 §18.3).
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Tiles {
    /// # Safety
    /// The machine has AMX, and this process may use it.
    unsafe fn configure() -> Self {
        static ALL: Configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
            rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
        };
        // SAFETY: `ALL` is a valid configuration; the rest is this function's contract.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const ALL, options(nostack, readonly)) };
        Self
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: `configure` was called, so the machine has AMX.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// `c = a b`, or `c += a b`.
///
/// # Safety
/// The machine has AVX-512, AVX-512 BF16 and AMX, and this process may use it.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(crate) unsafe fn multiply(c: Block, a: Source<'_>, b: Panels<'_>, store: Store, scratch: &mut [f32]) {
    assert!(a.rows() == c.rows && a.columns() == b.k && b.columns == c.columns && b.panel_columns == SIDE);
    let tiles = b.k.div_ceil(DEPTH);
    let (sums, packed) = scratch.split_at_mut(SIDE * SIDE);
    // SAFETY: by this function's contract.
    let _tiles = unsafe { Tiles::configure() };
    for part in (0..tiles).step_by(PART) {
        let depth = PART.min(tiles - part);
        let packed = &mut packed[..c.rows.div_ceil(SIDE) * 2 * depth * TILE];
        for (i, tile) in packed.as_chunks_mut().0.iter_mut().enumerate() {
            pack_tile(tile, a, i / depth * ROWS, (part + i % depth) * DEPTH, Order::Lines);
        }
        let add = store == Store::Add || part > 0;
        for (column, panel) in (0..c.columns).step_by(SIDE).zip(b.data.chunks_exact(2 * tiles * TILE)) {
            let panel = &panel[2 * part * TILE..][..2 * depth * TILE];
            for (row, a) in (0..c.rows).step_by(SIDE).zip(packed.chunks_exact(2 * depth * TILE)) {
                let (rows, columns) = (SIDE.min(c.rows - row), SIDE.min(c.columns - column));
                // SAFETY: the tiles are configured, `a` and `panel` hold two rows and two columns of `depth`
                // tiles, and `row` and `column` lie in C's block, which is this task's alone.
                unsafe {
                    let c_row = c.start.add(row * c.row_stride + column);
                    if rows == SIDE && columns == SIDE {
                        multiply_tiles(c_row, c.row_stride, a.as_ptr(), panel.as_ptr(), depth, add);
                        continue;
                    }
                    for (r, sums) in sums.chunks_exact_mut(SIDE).take(rows).enumerate() {
                        let c = std::slice::from_raw_parts(c_row.add(r * c.row_stride), columns);
                        sums[..columns].copy_from_slice(c);
                    }
                    multiply_tiles(sums.as_mut_ptr(), SIDE, a.as_ptr(), panel.as_ptr(), depth, add);
                    for (r, sums) in sums.chunks_exact(SIDE).take(rows).enumerate() {
                        let c = std::slice::from_raw_parts_mut(c_row.add(r * c.row_stride), columns);
                        c.copy_from_slice(&sums[..columns]);
                    }
                }
            }
        }
    }
}

/// `c` `[32, 32]` = or += the product of two rows of `tiles` tiles at `a` and two columns of as many at `b`.
///
/// # Safety
/// This thread has configured its tiles; `tiles` > 0; `a` and `b` can be read for 2 · `tiles` tiles, and `c`
/// read and written for 32 rows of 32 elements, `c_stride` apart.
#[inline(always)]
unsafe fn multiply_tiles(
    c: *mut f32,
    c_stride: usize,
    a: *const f32,
    b: *const f32,
    tiles: usize,
    add: bool,
) {
    // SAFETY: by this function's contract; the tiles' content does not outlive the block.
    unsafe {
        asm!(
            "test {add:e}, {add:e}",
            "jnz 3f",
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "jmp 2f",
            "3:",
            "tileloadd tmm0, [{c} + {stride}]",
            "tileloadd tmm1, [{c} + {stride} + 64]",
            "tileloadd tmm2, [{lower_c} + {stride}]",
            "tileloadd tmm3, [{lower_c} + {stride} + 64]",
            "2:",
            "tileloadd tmm4, [{a} + {row}]",
            "tileloadd tmm6, [{b} + {row}]",
            "tileloadd tmm7, [{b} + {row} + 1024]",
            "tileloadd tmm5, [{lower} + {row}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 1024", "add {lower}, 1024", "add {b}, 2048",
            "dec {tiles}",
            "jnz 2b",
            "tilestored [{c} + {stride}], tmm0",
            "tilestored [{c} + {stride} + 64], tmm1",
            "tilestored [{lower_c} + {stride}], tmm2",
            "tilestored [{lower_c} + {stride} + 64], tmm3",
            add = in(reg) u32::from(add),
            a = inout(reg) a => _,
            lower = inout(reg) a.add(tiles * TILE) => _,
            b = inout(reg) b => _,
            row = in(reg) 64_usize,
            tiles = inout(reg) tiles => _,
            c = in(reg) c,
            lower_c = in(reg) c.add(ROWS * c_stride),
            stride = in(reg) c_stride * size_of::<f32>(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Operations of a turn of [`multiply_adds`]: four products of tiles.
pub(crate) const OPERATIONS_OF_TURN: usize = 4 * 2 * ROWS * ROWS * DEPTH;

/// `turns` of four products of tiles of zeros.
///
/// # Safety
/// The machine has AMX, and this process may use it.
pub(crate) unsafe fn multiply_adds(turns: usize) -> f32 {
    // SAFETY: by this function's contract; the tiles' content does not outlive the block.
    unsafe {
        let _tiles = Tiles::configure();
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {turns}",
            "jnz 2b",
            turns = inout(reg) turns.max(1) => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem),
        );
    }
    0.0
}
