//! The bf16 product of a block on AMX's tiles, with f32 accumulation.
//!
//! ```text
//! A tile    [16 rows, 32 of k]             1 KB, bf16; an A or B of f32 is rounded to nearest even on the fly
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

use super::{
    matrix::{Block, Format, Panels, Source, View},
    pack,
};
use crate::simd::{Avx512, Simd};

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
pub(crate) unsafe fn pack(panel: &mut [f32], b: Source<'_>) {
    for (i, tile) in panel.as_chunks_mut().0.iter_mut().enumerate() {
        pack_tile(tile, b.transposed(), i % 2 * ROWS, i / 2 * DEPTH, Order::Pairs);
    }
}

/// The reverse of [`pack`], transposed: the panel's columns as `rows` of pairs of bf16, each contiguous.
///
/// # Safety
/// The machine has AVX-512 and AVX-512 BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(crate) unsafe fn unpack(rows: &mut [f32], panel: &[f32]) {
    let stride = panel.len() / SIDE;
    // SAFETY: by this function's contract.
    let s = unsafe { Avx512::new() };
    for (i, tile) in panel.chunks_exact(TILE).enumerate() {
        // A pair has the size of an f32; no arithmetic touches it.
        let rows = &mut rows[i % 2 * ROWS * stride + i / 2 * ROWS..];
        pack::transpose(s, rows, stride, View::new(tile, ROWS, ROWS), None);
    }
}

/// Rounds `x` to bf16, to nearest even, as packing does.
///
/// # Safety
/// The machine has AVX-512 and AVX-512 BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(crate) unsafe fn round(y: &mut [u16], x: &[f32]) {
    for (y, x) in y.chunks_mut(32).zip(x.chunks(32)) {
        let mask = |from: usize| ((1_u64 << x.len().saturating_sub(from).min(16)) - 1) as u16;
        let start = x.as_ptr();
        // SAFETY: the masks keep to the elements of `x`, and to as many of `y`, which is as long.
        unsafe {
            let low = _mm512_maskz_loadu_ps(mask(0), start);
            let high = _mm512_maskz_loadu_ps(mask(16), start.wrapping_add(16));
            let all = ((1_u64 << y.len().min(x.len())) - 1) as u32;
            _mm512_mask_storeu_epi16(y.as_mut_ptr().cast(), all, bf16(low, high));
        }
    }
}

/// What a packed matrix is made of.
trait Element: Copy {
    /// 16 elements from `(line, k)` `first` on along the contiguous direction, then 16 from `second` on, as bf16: all of them
    /// in a tile `INSIDE` of the matrix, else zero beyond it.
    ///
    /// # Safety
    /// The machine has AVX-512 and AVX-512 BF16; with `INSIDE`, the elements are the matrix's.
    unsafe fn pair<const INSIDE: bool>(x: View<'_, Self>, first: [usize; 2], second: [usize; 2]) -> __m512i;
}

impl Element for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn pair<const INSIDE: bool>(x: View<'_>, first: [usize; 2], second: [usize; 2]) -> __m512i {
        let load = |[line, k]: [usize; 2]| {
            let start = address(x, line, k);
            // SAFETY: inside, the elements are the matrix's, which lie in its data; the mask keeps to them elsewhere.
            unsafe {
                if INSIDE { _mm512_loadu_ps(start) } else { _mm512_maskz_loadu_ps(within(x, line, k), start) }
            }
        };
        bf16(load(first), load(second))
    }
}

impl Element for u16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn pair<const INSIDE: bool>(x: View<'_, u16>, first: [usize; 2], second: [usize; 2]) -> __m512i {
        let load = |[line, k]: [usize; 2]| {
            let start = address(x, line, k).cast();
            // SAFETY: as for f32.
            unsafe {
                if INSIDE {
                    _mm256_loadu_epi16(start)
                } else {
                    _mm256_maskz_loadu_epi16(within(x, line, k), start)
                }
            }
        };
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(load(first)), load(second))
    }
}

/// The address of element `(line, k)`, which need not be one of the matrix.
#[inline(always)]
fn address<T>(x: View<'_, T>, line: usize, k: usize) -> *const T {
    x.data.as_ptr().wrapping_add(line * x.row_stride + k * x.column_stride)
}

/// Which of the 16 elements from `(line, k)` on along the contiguous direction are the matrix's.
#[inline(always)]
fn within<T>(x: View<'_, T>, line: usize, k: usize) -> u16 {
    let (lines, columns) = (x.rows.saturating_sub(line), x.columns.saturating_sub(k));
    let (along, across) = if x.column_stride == 1 { (columns, lines) } else { (lines, columns) };
    let count = if across == 0 { 0 } else { along.min(16) };
    ((1_u32 << count) - 1) as u16
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
fn pack_tile(tile: &mut [f32; TILE], x: Source<'_>, line: usize, k: usize, order: Order) {
    // Most tiles lie inside, where loads need no mask.
    let inside = line + ROWS <= x.rows() && k + DEPTH <= x.columns();
    // SAFETY: the instructions are this function's too; `inside` says whether the tile is.
    unsafe {
        match (x, inside) {
            (Source::F32(x), true) => pack_tile_at::<_, true>(tile, x, line, k, order),
            (Source::F32(x), false) => pack_tile_at::<_, false>(tile, x, line, k, order),
            (Source::Bf16(x), true) => pack_tile_at::<_, true>(tile, x, line, k, order),
            (Source::Bf16(x), false) => pack_tile_at::<_, false>(tile, x, line, k, order),
        }
    }
}

/// [`pack_tile`], of a tile that lies inside of `x` or not.
///
/// # Safety
/// With `INSIDE`, the tile does.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pack_tile_at<T: Element, const INSIDE: bool>(
    tile: &mut [f32; TILE],
    x: View<'_, T>,
    line: usize,
    k: usize,
    order: Order,
) {
    let natural = if x.column_stride == 1 { Order::Lines } else { Order::Pairs };
    let rows = tile.as_chunks_mut::<ROWS>().0.iter_mut().enumerate();
    match natural {
        Order::Lines => {
            for (i, row) in rows {
                // SAFETY: by this function's contract.
                store(row, unsafe { T::pair::<INSIDE>(x, [line + i, k], [line + i, k + 16]) });
            }
        }
        Order::Pairs => {
            for (i, row) in rows {
                let k = k + 2 * i;
                // SAFETY: by this function's contract.
                store(row, interleave(unsafe { T::pair::<INSIDE>(x, [line, k], [line, k + 1]) }));
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
