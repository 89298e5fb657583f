//! Packs a panel of B for the f32 kernels: `[k][columns of a tile]`, so that a tile reads it from front to
//! back.

use super::{View, kernel::LINE};
use crate::simd::Simd;

/// Packs `b` `[k, columns]`, at most a panel wide, into `panel`.
#[inline(always)]
pub(crate) fn panel<S: Simd>(s: S, panel: &mut [f32], b: View<'_>) {
    let width = 2 * S::LANES;
    let columns = b.columns;
    if b.column_stride == 1 {
        for (k, packed) in panel.chunks_exact_mut(width).enumerate() {
            let row = &b.data[k * b.row_stride..][..columns];
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

/// Space between tiles that [`tiles`] packs: a vector more than a tile.
#[inline(always)]
pub(crate) fn tile_stride<S: Simd>(_: S, tile_rows: usize, k: usize) -> usize {
    tile_rows * k + S::LANES
}

/// Packs `a` `[rows, k]`, whose columns are contiguous, as `[rows / T]` tiles `[k][T]`, T = `tile_rows` ≤
/// `LANES`.
#[inline(always)]
pub(crate) fn tiles<S: Simd>(s: S, packed: &mut [f32], a: View<'_>, tile_rows: usize) {
    assert!(a.row_stride == 1 && tile_rows <= S::LANES);
    let stride = tile_stride(s, tile_rows, a.columns);
    for k in 0..a.columns {
        let column = &a.data[k * a.column_stride..];
        for (tile, row) in (0..a.rows).step_by(tile_rows).enumerate() {
            // Whole vectors: what lies beyond the tile's rows is overwritten by the next k, or never read.
            s.store(&mut packed[tile * stride + k * tile_rows..], s.load(&column[row..]));
        }
    }
}
