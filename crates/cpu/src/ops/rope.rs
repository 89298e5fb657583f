//! Rotary positions, cut into tasks: rows.

use koan_backend::Rotation;

use crate::{
    kernels::rope::Table,
    ops::operand::Operand,
    parallel::{Threads, task_rows},
    tables::Kernels,
};

/// [`rotate`], of an operand, whose values it must keep.
pub(crate) fn rotate_operand(
    kernels: &Kernels,
    threads: &Threads,
    x: &mut Operand,
    table: Table<'_>,
    positions: &[u32],
    rotation: Rotation,
) {
    let features = rotation.features();
    let rows = task_rows(features);
    Operand::change(kernels, threads, [x], positions.len() * features, rows * features, |task, [x]| {
        let positions = &positions[task * rows..][..x.len() / features];
        kernels.rope(x, table, positions, rotation);
    });
}

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
