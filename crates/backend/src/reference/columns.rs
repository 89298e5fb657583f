//! Columns that are copied or added: `y[n, h, :] = x[n, h, :]` for the `width` columns that `to` and `from` give head `h`.

use crate::{Columns, Store};

/// Heads are taken in their order; with [`Store::Add`] several may go to the same columns.
pub(super) fn copy(
    y: &mut [f64],
    x: &[f64],
    to: Columns,
    from: Columns,
    heads: usize,
    width: usize,
    store: Store,
) {
    for (y, x) in y.chunks_exact_mut(to.features).zip(x.chunks_exact(from.features)) {
        for head in 0..heads {
            let y = &mut y[to.start + head * to.stride..][..width];
            for (y, x) in y.iter_mut().zip(&x[from.start + head * from.stride..]) {
                match store {
                    Store::Write => *y = *x,
                    Store::Add => *y += *x,
                }
            }
        }
    }
}
