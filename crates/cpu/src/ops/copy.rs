//! Buffers that are copied or cleared. Bound by memory.

use crate::parallel::{TASK_LEN, Threads};

/// `y = x`, of the same length.
pub(crate) fn copy(threads: &Threads, y: &mut [f32], x: &[f32]) {
    threads.chunks([(y, TASK_LEN)], |task, [y]| y.copy_from_slice(&x[task * TASK_LEN..][..y.len()]));
}

/// `y = 0`
pub(crate) fn clear(threads: &Threads, y: &mut [f32]) {
    threads.chunks([(y, TASK_LEN)], |_, [y]| y.fill(0.0));
}
