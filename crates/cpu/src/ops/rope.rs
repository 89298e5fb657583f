//! Rotary positions, cut into tasks: rows.

use crate::{
    kernels::rope::Table,
    parallel::{Threads, task_rows},
    tables::Kernels,
};

/// Rotates every head of `x` `[positions.len(), features]`.
pub(crate) fn rotate(
    kernels: &Kernels,
    threads: &Threads,
    x: &mut [f32],
    table: Table<'_>,
    positions: &[u32],
    features: usize,
    dim: usize,
) {
    if x.is_empty() {
        return;
    }
    let rows = task_rows(features);
    threads.chunks([(x, rows * features)], |task, [x]| {
        let positions = &positions[task * rows..][..x.len() / features];
        kernels.rope(x, table, positions, dim);
    });
}
