//! A bias: `y += b` in every row, so `db = Σₙ dy`. Bound by memory; both are sums of rows, by the kernel that
//! scatters use.

use crate::{
    parallel::{TASK_COLUMNS, TASK_LEN, Threads, task_rows},
    tables::Kernels,
};

/// Adds `bias` to each row of `y`.
pub(crate) fn forward(kernels: &Kernels, threads: &Threads, y: &mut [f32], bias: &[f32]) {
    threads.chunks([(y, task_rows(bias.len()) * bias.len())], |_, [y]| {
        y.chunks_exact_mut(bias.len()).for_each(|y| kernels.add(y, bias));
    });
}

/// Adds the rows of `dy` to `db`, in their order. Tasks own columns.
pub(crate) fn backward(kernels: &Kernels, threads: &Threads, db: &mut [f32], dy: &[f32]) {
    let features = db.len();
    let columns = if dy.len() < TASK_LEN { features } else { TASK_COLUMNS };
    threads.chunks([(db, columns)], |task, [db]| {
        dy.chunks_exact(features).for_each(|dy| kernels.add(db, &dy[task * columns..][..db.len()]));
    });
}
