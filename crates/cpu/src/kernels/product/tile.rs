//! A tile of a product, in registers: `C += A B` for some rows of A and vectors of columns of B.

use crate::simd::Simd;

/// Where the elements of a matrix lie.
#[derive(Clone, Copy)]
pub(crate) struct Walk {
    pub(crate) start: *const f32,
    /// From a row, of A, to the next.
    pub(crate) row: usize,
    /// From a k to the next.
    pub(crate) k: usize,
}

/// Adds to a tile the product of `ROWS` rows of A and `WIDTH` vectors of columns of B, over `k` steps.
///
/// # Safety
/// At each of `k` steps, A can be read at `ROWS` rows and B for `WIDTH` vectors.
#[inline(always)]
pub(crate) unsafe fn accumulate<S: Simd, const ROWS: usize, const WIDTH: usize, const UNROLLED: usize>(
    s: S,
    sum: &mut [[S::V; WIDTH]; ROWS],
    a: Walk,
    b: Walk,
    k: usize,
) {
    let (mut a_k, mut b_k) = (a.start, b.start);
    // SAFETY: by this function's contract.
    unsafe {
        for _ in 0..k / UNROLLED {
            for i in 0..UNROLLED {
                step(s, sum, a_k.wrapping_add(i * a.k), a.row, b_k.wrapping_add(i * b.k));
            }
            a_k = a_k.wrapping_add(UNROLLED * a.k);
            b_k = b_k.wrapping_add(UNROLLED * b.k);
        }
        for _ in 0..k % UNROLLED {
            step(s, sum, a_k, a.row, b_k);
            a_k = a_k.wrapping_add(a.k);
            b_k = b_k.wrapping_add(b.k);
        }
    }
}

/// One k of a tile: adds the product of a column of A, whose rows are `a_row` elements apart, and a row of B.
///
/// # Safety
/// A can be read at `ROWS` rows, and `WIDTH` vectors at `b`.
#[inline(always)]
unsafe fn step<S: Simd, const ROWS: usize, const WIDTH: usize>(
    s: S,
    sum: &mut [[S::V; WIDTH]; ROWS],
    a: *const f32,
    a_row: usize,
    b: *const f32,
) {
    let mut columns = [s.splat(0.0); WIDTH];
    // SAFETY: by this function's contract.
    unsafe {
        for (i, columns) in columns.iter_mut().enumerate() {
            *columns = s.load_at(b.add(i * S::LANES));
        }
        for (r, sum) in sum.iter_mut().enumerate() {
            let x = s.splat(*a.add(r * a_row));
            for (sum, columns) in sum.iter_mut().zip(columns) {
                *sum = s.mul_add(x, columns, *sum);
            }
        }
    }
}

/// Calls what is written for a number of rows that the compiler knows, at most [`Simd::TILE_ROWS`] of any instruction set.
macro_rules! by_rows {
    ($rows:expr, $ROWS:ident => $call:expr) => {
        by_rows!(@ $rows, $ROWS => $call; 1 2 3 4 5 6 7 8 9 10 11 12)
    };
    (@ $rows:expr, $ROWS:ident => $call:expr; $($n:literal)*) => {
        match $rows {
            $($n => { const $ROWS: usize = $n; $call })*
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}
pub(super) use by_rows;
