//! A bias: `y += b` in every row, so `db = Σₙ dy`. `y`, `dy` are (N, C); `b`, `db` are (C).

/// Adds the bias to each row of `y`.
pub(super) fn forward(y: &mut [f64], b: &[f64]) {
    for y in y.chunks_exact_mut(b.len()) {
        y.iter_mut().zip(b).for_each(|(y, b)| *y += b);
    }
}

/// Adds to `db`, row after row.
pub(super) fn backward(db: &mut [f64], dy: &[f64]) {
    for dy in dy.chunks_exact(db.len()) {
        db.iter_mut().zip(dy).for_each(|(db, dy)| *db += dy);
    }
}
