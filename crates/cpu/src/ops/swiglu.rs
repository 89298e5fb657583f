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
    let [dy, gate, up] = operands;
    let values = [&mut *dy, &mut *gate, &mut *up].map(|x| (&mut x.values_mut()[..n], TASK_LEN));
    threads.chunks(values, |_, [dy, gate, up]| kernels.swiglu_backward(dy, gate, up));
    for operand in [dy, gate, up] {
        operand.round(kernels, threads, 0..n);
    }
}
