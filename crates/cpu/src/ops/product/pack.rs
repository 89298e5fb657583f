//! Packs a panel of B for the f32 kernels: `[k][columns of a tile]`, so that a tile reads it from front to
//! back.

use super::View;
use crate::simd::Simd;

/// Packs `b` `[k, columns]`, at most a panel wide, into `panel`.
#[inline(always)]
pub(crate) fn panel<S: Simd>(s: S, panel: &mut [f32], b: View<'_>) {
    let width = 2 * S::LANES;
    let columns = b.columns;
    for (k, packed) in panel.chunks_exact_mut(width).enumerate() {
        let (packed, padding) = packed.split_at_mut(columns);
        let row = &b.data[k * b.row_stride..];
        if b.column_stride == 1 {
            for (packed, row) in packed.chunks_mut(S::LANES).zip(row[..columns].chunks(S::LANES)) {
                s.store(packed, s.load(row));
            }
        } else {
            for (packed, x) in packed.iter_mut().zip(row.iter().step_by(b.column_stride)) {
                *packed = *x;
            }
        }
        padding.fill(0.0);
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
