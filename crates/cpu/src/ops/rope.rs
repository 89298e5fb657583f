//! Rotary positions, cut into tasks: rows.

use koan_backend::Rotation;

use crate::{
    kernels::rope::Table,
    parallel::{Threads, task_rows},
    tables::Kernels,
};

/// Rotates the heads of `x` `[positions.len(), rotation.features()]`.
pub(crate) fn rotate(
    kernels: &Kernels,
    threads: &Threads,
    x: &mut [f32],
    table: Table<'_>,
    positions: &[u32],
    rotation: Rotation,
) {
    if x.is_empty() {
        return;
    }
    let features = rotation.features();
    let rows = task_rows(features);
    threads.chunks([(x, rows * features)], |task, [x]| {
        let positions = &positions[task * rows..][..x.len() / features];
        kernels.rope(x, table, positions, rotation);
    });
}
