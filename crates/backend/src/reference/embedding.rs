//! Rows taken from a matrix and put back: the embedding table (`y[n] = w[ids[n]]`, so `dw[ids[n]] += dy[n]`),
//! and gathers of activations. All matrices are (rows, C).

/// `y[n, :] = x[rows[n], :]`
pub(super) fn gather(y: &mut [f64], x: &[f64], rows: &[u32], c: usize) {
    for (y, &row) in y.chunks_exact_mut(c).zip(rows) {
        y.copy_from_slice(&x[row as usize * c..][..c]);
    }
}

/// `y[rows[n], :] = x[n, :]`
pub(super) fn scatter(y: &mut [f64], x: &[f64], rows: &[u32], c: usize) {
    for (x, &row) in x.chunks_exact(c).zip(rows) {
        y[row as usize * c..][..c].copy_from_slice(x);
    }
}

/// `dx[rows[n], :] += dy[n, :]`: the backward of [`gather`].
pub(super) fn scatter_add(dx: &mut [f64], dy: &[f64], rows: &[u32], c: usize) {
    for (dy, &row) in dy.chunks_exact(c).zip(rows) {
        for (dx, dy) in dx[row as usize * c..][..c].iter_mut().zip(dy) {
            *dx += dy;
        }
    }
}
