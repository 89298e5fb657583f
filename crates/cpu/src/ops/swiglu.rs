//! SwiGLU, cut into tasks: elements.

use crate::{
    ops::operand::Operand,
    parallel::{TASK_LEN, Threads},
    tables::Kernels,
};

/// Writes `y`.
pub(crate) fn forward(kernels: &Kernels, threads: &Threads, y: &mut Operand, gate: &[f32], up: &[f32]) {
    y.produce(kernels, threads, gate.len(), TASK_LEN, |task, y| {
        let part = task * TASK_LEN..task * TASK_LEN + y.len();
        kernels.swiglu_forward(y, &gate[part.clone()], &up[part]);
    });
}

/// In place: `gate` and `up` become their gradients, `dy` becomes `y`.
pub(crate) fn backward(kernels: &Kernels, threads: &Threads, operands: [&mut Operand; 3], n: usize) {
    Operand::change(kernels, threads, operands, n, TASK_LEN / 4, |_, [dy, gate, up]| {
        kernels.swiglu_backward(dy, gate, up);
    });
}
