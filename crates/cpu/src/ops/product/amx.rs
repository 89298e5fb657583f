//! The bf16 product of a block on AMX's tiles, with f32 accumulation.
//!
//! ```text
//! A tile    [16 rows, 32 of k]             1 KB, bf16, rounded to nearest even from A on the fly
//! B tile    [16 pairs of k, 16 columns]    1 KB, bf16, each pair of k side by side
//! A packed  [rows / 16][k / 32] tiles      B packed  [columns / 32][k / 32][2] tiles, both padded with zeros
//! ```
//!
//! Two tiles of A by two of B are multiplied into four of C, so that four loads of tiles feed four products; a product takes
//! 16 cycles, a load 8. All of k is summed in the tiles, from zero.

use std::arch::asm;

use koan_backend::Store;

use super::{Block, Format, Panels, View};

/// k of a tile.
const DEPTH: usize = 32;
/// Rows of a tile.
const ROWS: usize = 16;
/// Numbers in a tile's space of 1 KB.
const TILE: usize = 256;
/// Rows and columns of a product of two by two tiles.
const SIDE: usize = 2 * ROWS;

pub(crate) const FORMAT: Format = Format { panel_columns: SIDE, depth: DEPTH, per_f32: 2 };

/// Scratch that [`multiply`] needs: A packed in whole pairs of tiles, and four tiles of C.
pub(crate) fn scratch_len(rows: usize, k: usize) -> usize {
    rows.next_multiple_of(SIDE) * k.next_multiple_of(DEPTH) / 2 + SIDE * SIDE
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

/// A number as bf16, rounded to nearest even.
#[inline(always)]
fn bf16(x: f32) -> u32 {
    half::bf16::from_f32(x).to_bits().into()
}

/// Packs `b` `[k, columns]`, at most a panel wide, into `panel`.
///
/// # Safety
/// The machine has AVX-512 and AVX-512 BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(crate) unsafe fn pack(panel: &mut [f32], b: View<'_>) {
    for (i, packed) in panel.iter_mut().enumerate() {
        let (tile, pair, column) = (i / TILE, i % TILE / ROWS, i % ROWS);
        let (k, column) = (tile / 2 * DEPTH + 2 * pair, tile % 2 * ROWS + column);
        *packed = f32::from_bits(pair_at(b.transposed(), column, k));
    }
}

/// Packs `a` `[rows, k]` into `packed`, in whole pairs of tiles.
///
/// # Safety
/// As for [`pack`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pack_a(packed: &mut [f32], a: View<'_>) {
    let tiles = a.columns.div_ceil(DEPTH);
    for (i, packed) in packed.iter_mut().enumerate() {
        let (tile, row, pair) = (i / TILE, i % TILE / ROWS, i % ROWS);
        *packed = f32::from_bits(pair_at(a, tile / tiles * ROWS + row, tile % tiles * DEPTH + 2 * pair));
    }
}

/// Elements `(row, k)` and `(row, k + 1)` side by side; zero beyond the matrix.
#[inline(always)]
fn pair_at(a: View<'_>, row: usize, k: usize) -> u32 {
    let at = |k: usize| {
        if row < a.rows && k < a.columns { bf16(a.data[row * a.row_stride + k * a.column_stride]) } else { 0 }
    };
    at(k) | at(k + 1) << 16
}

/// `c = a b`, or `c += a b`.
///
/// # Safety
/// The machine has AVX-512, AVX-512 BF16 and AMX, and this process may use it.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(crate) unsafe fn multiply(c: Block, a: View<'_>, b: Panels<'_>, store: Store, scratch: &mut [f32]) {
    assert!(a.rows == c.rows && a.columns == b.k && b.columns == c.columns && b.panel_columns == SIDE);
    let tiles = b.k.div_ceil(DEPTH);
    let (sums, packed) = scratch.split_at_mut(SIDE * SIDE);
    let packed = &mut packed[..c.rows.div_ceil(SIDE) * 2 * tiles * TILE];
    // SAFETY: by this function's contract.
    let _tiles = unsafe {
        pack_a(packed, a);
        Tiles::configure()
    };
    for (column, panel) in (0..c.columns).step_by(SIDE).zip(b.data.chunks_exact(2 * tiles * TILE)) {
        for (row, a) in (0..c.rows).step_by(SIDE).zip(packed.chunks_exact(2 * tiles * TILE)) {
            let (rows, columns) = (SIDE.min(c.rows - row), SIDE.min(c.columns - column));
            // SAFETY: the tiles are configured, `a` and `panel` hold two rows and two columns of `tiles` tiles, and `row` and
            // `column` lie in C's block, which is this task's alone.
            unsafe {
                let c_row = c.start.add(row * c.row_stride + column);
                if store == Store::Write && rows == SIDE && columns == SIDE {
                    multiply_tiles(c_row, c.row_stride, a.as_ptr(), panel.as_ptr(), tiles);
                    continue;
                }
                multiply_tiles(sums.as_mut_ptr(), SIDE, a.as_ptr(), panel.as_ptr(), tiles);
                for (r, sums) in sums.chunks_exact(SIDE).take(rows).enumerate() {
                    let c = std::slice::from_raw_parts_mut(c_row.add(r * c.row_stride), columns);
                    for (c, sum) in c.iter_mut().zip(sums) {
                        *c = if store == Store::Add { *c + sum } else { *sum };
                    }
                }
            }
        }
    }
}

/// `c` `[32, 32]` = the product of two rows of `tiles` tiles at `a` and two columns of as many at `b`.
///
/// # Safety
/// This thread has configured its tiles; `tiles` > 0; `a` and `b` can be read for 2 · `tiles` tiles, and `c` written for 32
/// rows of 32 numbers, `c_stride` apart.
#[inline(always)]
unsafe fn multiply_tiles(c: *mut f32, c_stride: usize, a: *const f32, b: *const f32, tiles: usize) {
    // SAFETY: by this function's contract; the tiles' content does not outlive the block.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
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
