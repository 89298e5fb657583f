//! SwiGLU, cut into tasks: elements.

use crate::{
    parallel::{TASK_LEN, Threads},
    tables::Kernels,
};

/// Writes `y`.
pub(crate) fn forward(kernels: &Kernels, threads: &Threads, y: &mut [f32], gate: &[f32], up: &[f32]) {
    threads.chunks([(y, TASK_LEN)], |task, [y]| {
        let part = task * TASK_LEN..task * TASK_LEN + y.len();
        kernels.swiglu_forward(y, &gate[part.clone()], &up[part]);
    });
}

/// In place: `gate` and `up` become their gradients, `dy` becomes `y`.
pub(crate) fn backward(
    kernels: &Kernels,
    threads: &Threads,
    dy: &mut [f32],
    gate: &mut [f32],
    up: &mut [f32],
) {
    threads.chunks([(dy, TASK_LEN), (gate, TASK_LEN), (up, TASK_LEN)], |_, [dy, gate, up]| {
        kernels.swiglu_backward(dy, gate, up);
    });
}
