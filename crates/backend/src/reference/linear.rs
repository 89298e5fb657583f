//! A linear layer without bias: `y = x Wᵀ`, so `dx = dy W` and `dW = dyᵀ x`.
//! `x`, `dx` are (N, I); `y`, `dy` are (N, O); `w`, `dw` are (O, I).

use super::dot;
use crate::Store;

/// Writes `y`, or adds to it.
pub(super) fn forward(y: &mut [f64], x: &[f64], w: &[f64], o: usize, i: usize, store: Store) {
    for (y, x) in y.chunks_exact_mut(o).zip(x.chunks_exact(i)) {
        for (y, w) in y.iter_mut().zip(w.chunks_exact(i)) {
            match store {
                Store::Write => *y = dot(x, w),
                Store::Add => *y += dot(x, w),
            }
        }
    }
}

/// Writes `dx`, or adds to it.
pub(super) fn backward_input(dx: &mut [f64], dy: &[f64], w: &[f64], o: usize, i: usize, store: Store) {
    if store == Store::Write {
        dx.fill(0.0);
    }
    for (dx, dy) in dx.chunks_exact_mut(i).zip(dy.chunks_exact(o)) {
        for (&dy, w) in dy.iter().zip(w.chunks_exact(i)) {
            for (dx, w) in dx.iter_mut().zip(w) {
                *dx += dy * w;
            }
        }
    }
}

/// Adds to `dw`, row after row.
pub(super) fn backward_weight(dw: &mut [f64], dy: &[f64], x: &[f64], o: usize, i: usize) {
    for (dy, x) in dy.chunks_exact(o).zip(x.chunks_exact(i)) {
        for (&dy, dw) in dy.iter().zip(dw.chunks_exact_mut(i)) {
            for (dw, x) in dw.iter_mut().zip(x) {
                *dw += dy * x;
            }
        }
    }
}
