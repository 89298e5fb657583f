//! The bf16 product of a block on AMX's tiles, with f32 accumulation.
//!
//! ```text
//! A tile    [16 rows, 32 of k]             1 KB, bf16, rounded to nearest even from A on the fly
//! B tile    [16 pairs of k, 16 columns]    1 KB, bf16, each pair of k side by side
//! A packed  [rows / 16][k / 32] tiles      B packed  [columns / 32][k / 32][2] tiles, both padded with zeros
//! ```
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
#[allow(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")]
use std::arch::x86_64::*;

use koan_backend::Store;

use super::matrix::{Block, Format, Panels, View};

/// k of a tile.
const DEPTH: usize = 32;
/// Rows of a tile.
const ROWS: usize = 16;
/// Elements in a tile's space of 1 KB.
const TILE: usize = 256;
/// Rows and columns of a product of two by two tiles.
const SIDE: usize = 2 * ROWS;
/// Tiles of a part of k.
const PART: usize = 16;

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

/// Packs `b` `[k, columns]`, at most a panel wide, into `panel`.
///
/// # Safety
/// The machine has AVX-512 and AVX-512 BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(crate) unsafe fn pack(panel: &mut [f32], b: View<'_>) {
    for (i, tile) in panel.as_chunks_mut().0.iter_mut().enumerate() {
        pack_tile(tile, b.transposed(), i % 2 * ROWS, i / 2 * DEPTH, Order::Pairs);
    }
}

/// What a tile's rows are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The lines of the matrix: a tile of A.
    Lines,
    /// The pairs of k: a tile of B.
    Pairs,
}

/// Packs 16 lines from `line` by 32 of k from `k` of the matrix `x` `[lines, k]`; zero beyond it. Lines are
/// rows of A or columns of B.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn pack_tile(tile: &mut [f32; TILE], x: View<'_>, line: usize, k: usize, order: Order) {
    // Most tiles lie inside, where loads need no mask.
    if line + ROWS <= x.rows && k + DEPTH <= x.columns {
        pack_tile_at::<true>(tile, x, line, k, order);
    } else {
        pack_tile_at::<false>(tile, x, line, k, order);
    }
}

/// [`pack_tile`], of a tile that lies inside of `x` or not.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn pack_tile_at<const INSIDE: bool>(
    tile: &mut [f32; TILE],
    x: View<'_>,
    line: usize,
    k: usize,
    order: Order,
) {
    let natural = if x.column_stride == 1 { Order::Lines } else { Order::Pairs };
    let rows = tile.as_chunks_mut::<ROWS>().0.iter_mut().enumerate();
    match natural {
        Order::Lines => {
            for (i, row) in rows {
                store(row, bf16(load::<INSIDE>(x, line + i, k), load::<INSIDE>(x, line + i, k + 16)));
            }
        }
        Order::Pairs => {
            for (i, row) in rows {
                let k = k + 2 * i;
                store(row, interleave(bf16(load::<INSIDE>(x, line, k), load::<INSIDE>(x, line, k + 1))));
            }
        }
    }
    if natural != order {
        let mut vectors = [_mm512_setzero_si512(); ROWS];
        for (vector, row) in vectors.iter_mut().zip(tile.as_chunks::<ROWS>().0) {
            // SAFETY: a row holds 16 elements.
            *vector = unsafe { _mm512_loadu_si512(row.as_ptr().cast()) };
        }
        for (row, vector) in tile.as_chunks_mut::<ROWS>().0.iter_mut().zip(transpose(&vectors)) {
            store(row, vector);
        }
    }
}

/// Writes a row of a tile.
#[inline]
#[target_feature(enable = "avx512f")]
fn store(row: &mut [f32; ROWS], vector: __m512i) {
    // SAFETY: a row holds 16 elements.
    unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), vector) };
}

/// 16 elements from `(line, k)` on along the contiguous direction: all of them in a tile `INSIDE` of the matrix, else zero
/// beyond it.
#[inline]
#[target_feature(enable = "avx512f")]
fn load<const INSIDE: bool>(x: View<'_>, line: usize, k: usize) -> __m512 {
    let start = x.data.as_ptr().wrapping_add(line * x.row_stride + k * x.column_stride);
    if INSIDE {
        // SAFETY: the elements are the matrix's, which lie in its data.
        return unsafe { _mm512_loadu_ps(start) };
    }
    let (lines, columns) = (x.rows.saturating_sub(line), x.columns.saturating_sub(k));
    let (along, across) = if x.column_stride == 1 { (columns, lines) } else { (lines, columns) };
    let count = if across == 0 { 0 } else { along.min(16) };
    // SAFETY: the mask keeps to elements of the matrix, which lie in its data.
    unsafe { _mm512_maskz_loadu_ps(((1_u32 << count) - 1) as u16, start) }
}

/// The elements of `low`, then those of `high`, rounded to nearest even.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn bf16(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both are 512 bits of integers.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// Places the upper half's bf16 values after those of the lower half, one by one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn interleave(x: __m512i) -> __m512i {
    let mut order = [0_u16; 32];
    for (i, order) in order.iter_mut().enumerate() {
        *order = (i / 2 + i % 2 * 16) as u16;
    }
    // SAFETY: 64 bytes can be read at `order`.
    _mm512_permutexvar_epi16(unsafe { _mm512_loadu_si512(order.as_ptr().cast()) }, x)
}

/// Transposes 16 rows of 16 pairs: neighbouring rows are interleaved by one, then by two pairs; then the
/// vectors' quarters, each four rows of a column, are brought together.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: &[__m512i; 16]) -> [__m512i; 16] {
    let mut columns = *rows;
    for c in 0..4 {
        let mut fours = [rows[0]; 4];
        for (g, four) in fours.iter_mut().enumerate() {
            let (first, second) = ((rows[4 * g], rows[4 * g + 1]), (rows[4 * g + 2], rows[4 * g + 3]));
            let (first, second) = if c < 2 {
                (_mm512_unpacklo_epi32(first.0, first.1), _mm512_unpacklo_epi32(second.0, second.1))
            } else {
                (_mm512_unpackhi_epi32(first.0, first.1), _mm512_unpackhi_epi32(second.0, second.1))
            };
            *four = if c % 2 == 0 {
                _mm512_unpacklo_epi64(first, second)
            } else {
                _mm512_unpackhi_epi64(first, second)
            };
        }
        let [p, q, r, s] = fours;
        let (low, high) = (_mm512_shuffle_i32x4::<0x44>(p, q), _mm512_shuffle_i32x4::<0xEE>(p, q));
        let (next_low, next_high) = (_mm512_shuffle_i32x4::<0x44>(r, s), _mm512_shuffle_i32x4::<0xEE>(r, s));
        columns[c] = _mm512_shuffle_i32x4::<0x88>(low, next_low);
        columns[4 + c] = _mm512_shuffle_i32x4::<0xDD>(low, next_low);
        columns[8 + c] = _mm512_shuffle_i32x4::<0x88>(high, next_high);
        columns[12 + c] = _mm512_shuffle_i32x4::<0xDD>(high, next_high);
    }
    columns
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
