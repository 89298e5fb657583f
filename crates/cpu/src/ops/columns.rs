//! Columns that are copied or added, cut into tasks: rows. Bound by memory.

use koan_backend::{Columns, Store};

use crate::{
    parallel::{Threads, task_rows},
    tables::Kernels,
};

/// `y[n, h, :] = x[n, h, :]`, or `+=` in the order of h, for the `width` columns that `to` and `from` give head `h`.
pub(crate) fn copy(
    kernels: &Kernels,
    threads: &Threads,
    y: &mut [f32],
    x: &[f32],
    to: Columns,
    from: Columns,
    heads: usize,
    width: usize,
    store: Store,
) {
    if y.is_empty() {
        return;
    }
    let rows = task_rows(heads * width);
    threads.chunks([(y, rows * to.features)], |task, [y]| {
        let x = &x[task * rows * from.features..];
        for (y, x) in y.chunks_exact_mut(to.features).zip(x.chunks_exact(from.features)) {
            for head in 0..heads {
                let y = &mut y[to.start + head * to.stride..][..width];
                let x = &x[from.start + head * from.stride..][..width];
                match store {
                    Store::Write => y.copy_from_slice(x),
                    Store::Add => kernels.add(y, x),
                }
            }
        }
    });
}
