//! Rows that are copied or added by index: embedding, gather, scatter. Bound by memory.

use crate::{
    memory::Disjoint,
    parallel::{TASK_COLUMNS, TASK_LEN, Threads, task_rows},
    tables::Kernels,
};

/// `y[i, :] = x[rows[i], :]`
pub(crate) fn gather<T: Copy + Send + Sync>(
    threads: &Threads,
    y: &mut [T],
    x: &[T],
    rows: &[u32],
    features: usize,
) {
    let (y, task_rows) = (Disjoint::new(y), task_rows(features));
    threads.run(rows.len().div_ceil(task_rows), |task| {
        let range = task * task_rows..rows.len().min((task + 1) * task_rows);
        // SAFETY: these rows of `y` are this task's alone.
        let y = unsafe { y.slice(range.start * features..range.end * features) };
        for (y, &row) in y.chunks_exact_mut(features).zip(&rows[range]) {
            y.copy_from_slice(&x[row as usize * features..][..features]);
        }
    });
}

/// `y[rows[i], :] = x[i, :]`. One task: distinct rows are the caller's word, which memory safety cannot rest
/// on.
pub(crate) fn scatter(y: &mut [f32], x: &[f32], rows: &[u32], features: usize) {
    for (x, &row) in x.chunks_exact(features).zip(rows) {
        y[row as usize * features..][..features].copy_from_slice(x);
    }
}

/// `y[rows[i], :] += x[i, :]`, in the order of i. Tasks own columns, so that rows may repeat.
pub(crate) fn scatter_add(
    kernels: &Kernels,
    threads: &Threads,
    y: &mut [f32],
    x: &[f32],
    rows: &[u32],
    features: usize,
) {
    let columns = if rows.len() * features < TASK_LEN { features } else { TASK_COLUMNS };
    let y = Disjoint::new(y);
    threads.run(features.div_ceil(columns), |task| {
        let columns = task * columns..((task + 1) * columns).min(features);
        for (x, &row) in x.chunks_exact(features).zip(rows) {
            let start = row as usize * features;
            // SAFETY: the columns are this task's alone, and the slice is gone before the next row's.
            let y = unsafe { y.slice(start + columns.start..start + columns.end) };
            kernels.add(y, &x[columns.clone()]);
        }
    });
}
