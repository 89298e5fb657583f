//! Packs a panel of B for the f32 kernels: `[k][columns of a tile]`, so that a tile reads it from front to
//! back.

use super::matrix::{LINE, Source, View};
use crate::simd::Simd;

/// How many k further on what is packed is fetched: the rows that a panel or block is part of are far apart, where the
/// processor does not foresee them.
const AHEAD: usize = 16;

/// Packs `b` `[k, columns]`, at most a panel wide, into `panel`.
#[inline(always)]
pub(crate) fn panel<S: Simd>(s: S, panel: &mut [f32], b: Source<'_>) {
    let (b, width) = (b.of_f32(), 2 * S::LANES);
    let columns = b.columns;
    if b.column_stride == 1 {
        for (k, packed) in panel.chunks_exact_mut(width).enumerate() {
            let row = &b.data[k * b.row_stride..][..columns];
            for column in (0..columns).step_by(LINE) {
                s.prefetch(row.as_ptr().wrapping_add(AHEAD * b.row_stride + column));
            }
            for (packed, row) in packed.chunks_mut(S::LANES).zip(row.chunks(S::LANES)) {
                s.store(packed, s.load(row));
            }
        }
    } else {
        transpose(s, panel, width, b.transposed(), None);
    }
    if columns < width {
        panel.chunks_exact_mut(width).for_each(|packed| packed[columns..].fill(0.0));
    }
}

/// The reverse of [`panel`], transposed: the panel's columns as `rows`, each contiguous.
#[inline(always)]
pub(crate) fn unpack<S: Simd>(s: S, rows: &mut [f32], panel: &[f32]) {
    let width = 2 * S::LANES;
    let k = panel.len() / width;
    transpose(s, rows, k, View::new(panel, k, width), None);
}

/// `y[column · y_stride + row] = x[row, column]`, for an `x` whose rows are contiguous. The `next` matrix is fetched meanwhile.
#[inline(always)]
pub(crate) fn transpose<S: Simd>(s: S, y: &mut [f32], y_stride: usize, x: View<'_>, next: Option<View<'_>>) {
    if x.rows * x.columns == 0 {
        return;
    }
    assert!(x.column_stride == 1 && x.rows <= y_stride && (x.columns - 1) * y_stride + x.rows <= y.len());
    assert!((x.rows - 1) * x.row_stride + x.columns <= x.data.len());
    let (whole_rows, whole_columns) = (x.rows - x.rows % S::LANES, x.columns - x.columns % S::LANES);
    for row in (0..whole_rows).step_by(S::LANES) {
        for column in (0..whole_columns).step_by(S::LANES) {
            if let Some(next) = next
                && column.is_multiple_of(LINE)
            {
                for i in row..row + S::LANES {
                    s.prefetch(next.data.as_ptr().wrapping_add(i * next.row_stride + column));
                }
            }
            // SAFETY: the square lies in both matrices, which lie in `x` and `y`, as was asserted.
            unsafe {
                let from = x.data.as_ptr().add(row * x.row_stride + column);
                s.transpose(y.as_mut_ptr().add(column * y_stride + row), y_stride, from, x.row_stride);
            }
        }
    }
    for row in 0..x.rows {
        let first = if row < whole_rows { whole_columns } else { 0 };
        for column in first..x.columns {
            y[column * y_stride + row] = x.data[row * x.row_stride + column];
        }
    }
}

/// Space between tiles of depth `k` that [`tiles`] packs: a vector more than a tile.
#[inline(always)]
pub(crate) fn tile_stride<S: Simd>(_: S, k: usize) -> usize {
    S::TILE_ROWS * k + S::LANES
}

/// Packs `a` `[rows, k]`, whose columns are contiguous, as tiles `[k][TILE_ROWS]` of `tile_rows` rows each.
#[inline(always)]
pub(crate) fn tiles<S: Simd>(s: S, packed: &mut [f32], a: View<'_>, tile_rows: usize) {
    let (tiles, stride) = (a.rows.div_ceil(tile_rows), tile_stride(s, a.columns));
    assert!(a.row_stride == 1 && tile_rows <= S::TILE_ROWS && S::TILE_ROWS <= S::LANES);
    assert!(tiles * stride <= packed.len());
    for k in 0..a.columns {
        let column = &a.data[k * a.column_stride..];
        for row in (0..a.rows).step_by(LINE) {
            s.prefetch(column.as_ptr().wrapping_add(AHEAD * a.column_stride + row));
        }
        // Whole vectors: what lies beyond the tile's rows is overwritten by the next k, or never read.
        let whole = (column.len().saturating_sub(S::LANES) / tile_rows + 1).min(tiles);
        let whole = if column.len() < S::LANES { 0 } else { whole };
        for tile in 0..whole {
            // SAFETY: a vector of each tile lies within `column`; and within `packed`, whose tiles have room for one more.
            unsafe {
                let vector = s.load_at(column.as_ptr().add(tile * tile_rows));
                s.store_at(packed.as_mut_ptr().add(tile * stride + k * S::TILE_ROWS), vector);
            }
        }
        for tile in whole..tiles {
            let vector = s.load(&column[tile * tile_rows..]);
            s.store(&mut packed[tile * stride + k * S::TILE_ROWS..], vector);
        }
    }
}

/// Fetches one of `shares` of `a`, whose columns are contiguous.
#[inline(always)]
pub(crate) fn prefetch_share<S: Simd>(s: S, a: View<'_>, share: usize, shares: usize) {
    let columns = a.columns.div_ceil(shares);
    for k in (share * columns..a.columns).take(columns) {
        for row in (0..a.rows).step_by(LINE) {
            s.prefetch(a.data.as_ptr().wrapping_add(k * a.column_stride + row));
        }
    }
}
