//! The products of attention: scores, sums over keys, sums over lines. Each in tiles as high as the registers allow and two
//! vectors wide, or four for a few lines, whose chains of multiply-adds would else wait for each other.

use super::lines::{Lines, PIECE, Seen, WIDEST};
use crate::{
    kernels::product::{
        View,
        tile::{Walk, accumulate},
    },
    memory::Disjoint,
    simd::Simd,
};

/// Lines that are few enough for tiles four vectors wide.
const FEW: usize = 3;

/// Steps in a turn of the inner loop. More are hardly faster here, and take longer to compile.
const UNROLLED: usize = 1;

/// Calls what is written for a tile of `N` lines, `W` vectors wide: four where `wide`, which `FEW` lines may be.
macro_rules! by_size {
    ($n:expr, $wide:expr, $N:ident, $W:ident => $call:expr) => {
        by_size!(@ ($n, $wide), $N, $W => $call; (1, true, 4) (2, true, 4) (3, true, 4)
            (1, false, 2) (2, false, 2) (3, false, 2) (4, false, 2) (6, false, 2) (8, false, 2) (12, false, 2))
    };
    (@ $size:expr, $N:ident, $W:ident => $call:expr; $(($n:literal, $wide:literal, $w:literal))*) => {
        match $size {
            $(($n, $wide) => { const $N: usize = $n; const $W: usize = $w; $call })*
            size => unreachable!("a tile of {size:?}"),
        }
    };
}

/// Lines of the next tile, of `rest`. Not each height has a tile of its own: they would take long to compile.
#[inline(always)]
fn height<S: Simd>(_: S, rest: usize) -> usize {
    match rest.min(S::TILE_ROWS) {
        12.. => 12,
        8.. => 8,
        6.. => 6,
        5 => 4,
        few => few,
    }
}

/// `y[i, j] = x[i]·key[j]` for the lines of `x` and the keys that each attends to, of `len` that are `transposed`
/// `[dim, PIECE]`. Lines of `y` are `space` elements apart; behind the keys, up to `WIDEST` elements of each are overwritten.
#[inline(always)]
pub(super) fn scores<S: Simd>(
    s: S,
    y: &mut [f32],
    space: usize,
    x: &[f32],
    lines: Lines,
    transposed: &[f32],
    dim: usize,
    first: isize,
    len: usize,
) {
    assert!(y.len() >= (lines.count - 1) * space + len + WIDEST && transposed.len() == dim * PIECE);
    assert!(len <= PIECE && lines.start + (lines.count - 1) * lines.stride + dim <= x.len());
    let mut i = 0;
    while i < lines.count {
        let n = height(s, lines.count - i);
        let wide = n <= FEW;
        let width = if wide { 4 } else { 2 } * S::LANES;
        for j in (0..lines.seen(i + n - 1, first, len)).step_by(width) {
            // SAFETY: the tile's lines and keys lie within `y`, `x` and `transposed`, as was asserted: whole tiles make a
            // piece.
            unsafe {
                let x =
                    Walk { start: x.as_ptr().add(lines.start + i * lines.stride), row: lines.stride, k: 1 };
                let keys = Walk { start: transposed.as_ptr().add(j), row: 1, k: PIECE };
                let y = y.as_mut_ptr().add(i * space + j);
                by_size!(n, wide, N, W => scores_tile::<S, N, W>(s, y, space, x, keys, dim));
            }
        }
        i += n;
    }
}

/// A tile of [`scores`].
///
/// # Safety
/// `x` can be read at `N` lines, `keys` for `W` vectors, for `dim` elements each, and `W` vectors can be written at `N` lines
/// of `y`.
#[inline(always)]
unsafe fn scores_tile<S: Simd, const N: usize, const W: usize>(
    s: S,
    y: *mut f32,
    space: usize,
    x: Walk,
    keys: Walk,
    dim: usize,
) {
    if N > S::TILE_ROWS {
        return; // no tile is as high
    }
    let mut sums = [[s.splat(0.0); W]; N];
    // SAFETY: by this function's contract.
    unsafe {
        accumulate::<S, N, W, UNROLLED>(s, &mut sums, x, keys, dim);
        for (i, sums) in sums.into_iter().enumerate() {
            for (w, sum) in sums.into_iter().enumerate() {
                s.store_at(y.add(i * space + w * S::LANES), sum);
            }
        }
    }
}

/// `y[i] += Σⱼ weights[i, j] · row[j]`, over the rows that the line `i` attends to, in their order. The `next` rows are
/// fetched meanwhile.
///
/// # Safety
/// No other access to the lines of `y` happens.
#[inline(always)]
pub(super) unsafe fn sum_keys<S: Simd>(
    s: S,
    y: &Disjoint<'_>,
    lines: Lines,
    weights: &[f32],
    space: usize,
    rows: View<'_>,
    next: Option<View<'_>>,
    first: isize,
) {
    let (len, dim) = (rows.rows(), rows.columns());
    let whole = dim - dim % (2 * S::LANES);
    assert!(weights.len() >= (lines.count - 1) * space + len);
    let y = y.pointer(lines.start, lines.start + (lines.count - 1) * lines.stride + dim - 1);
    let mut i = 0;
    while i < lines.count {
        let n = height(s, lines.count - i);
        let seen = Seen { lines, first: first + (i * lines.step) as isize, len };
        // A tile may stand before all of the keys.
        let mut d = if seen.by(n - 1) == 0 { whole } else { 0 };
        while d < whole {
            let wide = n <= FEW && d + 4 * S::LANES <= dim;
            let width = if wide { 4 } else { 2 } * S::LANES;
            if let Some(next) = next
                && i == 0
            {
                next.part(0, next.rows(), d, width).prefetch(s);
            }
            // SAFETY: the tile's columns, from `d` on, lie within each line and row.
            unsafe {
                let y = y.add(i * lines.stride + d);
                let weights = Walk { start: weights.as_ptr().add(i * space), row: space, k: 1 };
                let (start, k) = rows.start();
                let rows = Walk { start: start.add(d), row: 1, k };
                by_size!(n, wide, N, W => sum_tile::<S, N, W>(s, y, lines.stride, weights, rows, seen));
            }
            d += width;
        }
        for r in 0..if whole < dim { n } else { 0 } {
            // SAFETY: the line is the caller's alone.
            let y = unsafe { std::slice::from_raw_parts_mut(y.add((i + r) * lines.stride), dim) };
            let weights = &weights[(i + r) * space..][..seen.by(r)];
            sum_columns(s, y, whole, weights.iter().enumerate().map(|(j, weight)| (*weight, rows.row(j))));
        }
        i += n;
    }
}

/// Key rows that are written.
pub(super) struct Keys<'a> {
    pub(super) of: &'a Disjoint<'a>,
    /// Where the first starts.
    pub(super) start: usize,
    /// From one to the next.
    pub(super) stride: usize,
}

/// `y[j] += Σᵢ weights[i, j] · x[i]`, over the lines `i` in their order, for `len` keys `j`. Lines that do not attend to a
/// key have a weight of 0 for it.
///
/// # Safety
/// No other access to these columns of the key rows happens.
#[inline(always)]
pub(super) unsafe fn sum_lines<S: Simd>(
    s: S,
    y: Keys<'_>,
    len: usize,
    weights: &[f32],
    space: usize,
    x: &[f32],
    lines: Lines,
    dim: usize,
    first: isize,
) {
    let (stride, whole) = (y.stride, dim - dim % (2 * S::LANES));
    assert!(weights.len() >= (lines.count - 1) * space + len);
    assert!(lines.start + (lines.count - 1) * lines.stride + dim <= x.len());
    let y = y.of.pointer(y.start, y.start + (len - 1) * stride + dim - 1);
    let mut j = 0;
    while j < len {
        let n = height(s, len - j);
        // Lines before the first that attends to the tile's first key have no part in it.
        let from = (j as isize + 1 - first).clamp(0, lines.count as isize) as usize;
        let from = if lines.step == 0 { 0 } else { from };
        if from == lines.count {
            break;
        }
        let all = Seen { lines: Lines { step: 0, ..lines }, first: isize::MAX, len: lines.count - from };
        for d in (0..whole).step_by(2 * S::LANES) {
            // SAFETY: two vectors from `d` on lie within each key row and line, a weight of each line in `weights`.
            unsafe {
                let y = y.add(j * stride + d);
                let weights = Walk { start: weights.as_ptr().add(from * space + j), row: 1, k: space };
                let start = x.as_ptr().add(lines.start + from * lines.stride + d);
                let x = Walk { start, row: 1, k: lines.stride };
                by_size!(n, false, N, W => sum_tile::<S, N, W>(s, y, stride, weights, x, all));
            }
        }
        for r in 0..if whole < dim { n } else { 0 } {
            // SAFETY: these columns of the key row are the caller's alone.
            let y = unsafe { std::slice::from_raw_parts_mut(y.add((j + r) * stride), dim) };
            let x = |i: usize| &x[lines.start + i * lines.stride..][..dim];
            sum_columns(s, y, whole, (from..lines.count).map(|i| (weights[i * space + j + r], x(i))));
        }
        j += n;
    }
}

/// A tile of [`sum_keys`] and [`sum_lines`]: adds to line `i` of `y` the product of its weights with the rows that it has
/// `seen`.
///
/// # Safety
/// `N` lines of `W` vectors can be read and written at `y`, `stride` elements apart; `weights` can be read at `N` lines for as
/// many elements as each has `seen`, and `rows` for `W` vectors at as many.
#[inline(always)]
unsafe fn sum_tile<S: Simd, const N: usize, const W: usize>(
    s: S,
    y: *mut f32,
    stride: usize,
    weights: Walk,
    rows: Walk,
    seen: Seen,
) {
    if N > S::TILE_ROWS {
        return; // no tile is as high
    }
    let mut sums = [[s.splat(0.0); W]; N];
    // SAFETY: by this function's contract.
    unsafe {
        for (i, sums) in sums.iter_mut().enumerate() {
            for (w, sum) in sums.iter_mut().enumerate() {
                *sum = s.load_at(y.add(i * stride + w * S::LANES));
            }
        }
        let common = seen.by(0);
        accumulate::<S, N, W, UNROLLED>(s, &mut sums, weights, rows, common);
        // Each line attends to a row more than the one before: the last rows are for some lines alone.
        for j in common..seen.by(N - 1) {
            let row = rows.start.add(j * rows.k);
            for (i, sums) in sums.iter_mut().enumerate() {
                if j < seen.by(i) {
                    let weight = s.splat(*weights.start.add(i * weights.row + j * weights.k));
                    for (w, sum) in sums.iter_mut().enumerate() {
                        *sum = s.mul_add(weight, s.load_at(row.add(w * S::LANES)), *sum);
                    }
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (w, sum) in sums.into_iter().enumerate() {
                s.store_at(y.add(i * stride + w * S::LANES), sum);
            }
        }
    }
}

/// `y += Σ weight · row` in the columns from `from` on, which make no tile.
#[inline(always)]
fn sum_columns<'a, S: Simd>(
    s: S,
    y: &mut [f32],
    from: usize,
    rows: impl Iterator<Item = (f32, &'a [f32])> + Clone,
) {
    for d in (from..y.len()).step_by(S::LANES) {
        let columns = d..(d + S::LANES).min(y.len());
        let mut sum = s.load(&y[columns.clone()]);
        for (weight, row) in rows.clone() {
            sum = s.mul_add(s.splat(weight), s.load(&row[columns.clone()]), sum);
        }
        s.store(&mut y[columns], sum);
    }
}
