//! Operands of the bf16 products, packed in tiles of pairs of k.
//!
//! ```text
//! A tile    [16 rows, 32 of k]             1 KB, bf16; an A or B of f32 is rounded to nearest even on the fly
//! B tile    [16 pairs of k, 16 columns]    1 KB, bf16, each pair of k side by side
//! B packed  [columns / 32][k / 32][2] tiles, padded with zeros
//! ```

#[allow(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")]
use std::arch::x86_64::*;

use super::{
    matrix::{Source, View},
    pack,
};
use crate::simd::{Avx512, Simd};

/// k of a tile.
pub(super) const DEPTH: usize = 32;
/// Rows of a tile.
pub(super) const ROWS: usize = 16;
/// Elements in a tile's space of 1 KB.
pub(super) const TILE: usize = 256;
/// How many k further on what lies in rows of k is fetched: the rows are far apart, where the processor does not foresee them.
const AHEAD: usize = 2 * DEPTH;
/// Columns of a panel, two tiles.
pub(super) const SIDE: usize = 2 * ROWS;

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

/// Writes the values of weights in 8 bits as a panel, rounded to bf16.
///
/// # Safety
/// The machine has AVX-512 and AVX-512 BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(crate) unsafe fn dequantize(panel: &mut [f32], codes: &[i8], scales: &[f32]) {
    let blocks = panel.chunks_exact_mut(2 * TILE).zip(codes.chunks_exact(DEPTH * SIDE));
    for ((tiles, codes), scales) in blocks.zip(scales.chunks_exact(SIDE)) {
        for (half, tile) in tiles.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
            // SAFETY: a block has scales and codes of 32 columns, of which a half's are 16 from its first on.
            let values = |k: usize| unsafe {
                let codes = _mm_loadu_si128(codes[k * SIDE + half * ROWS..][..ROWS].as_ptr().cast());
                let scales = _mm512_loadu_ps(scales[half * ROWS..][..ROWS].as_ptr());
                _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)), scales)
            };
            for (i, row) in tile.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
                store(row, interleave(bf16(values(2 * i), values(2 * i + 1))));
            }
        }
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
pub(super) enum Order {
    /// The lines of the matrix: a tile of A.
    Lines,
    /// The pairs of k: a tile of B.
    Pairs,
}

/// Packs 16 lines from `line` by 32 of k from `k` of the matrix `x` `[lines, k]`; zero beyond it. Lines are
/// rows of A or columns of B.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) fn pack_tile(tile: &mut [f32; TILE], x: Source<'_>, line: usize, k: usize, order: Order) {
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
                for ahead in [k + AHEAD, k + AHEAD + 1] {
                    _mm_prefetch::<_MM_HINT_T0>(address(x, line, ahead).cast());
                }
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
