//! RMSNorm, cut into tasks: rows, and for the gradient of the weight columns.

use crate::{
    memory::Disjoint,
    ops::operand::Operand,
    parallel::{TASK_COLUMNS, Threads, task_rows},
    tables::Kernels,
};

/// Writes `y` `[n, features]` for products, `rstd` `[n]` for [`backward`], and a copy of `x` where it is to be `saved`.
pub(crate) fn forward(
    kernels: &Kernels,
    threads: &Threads,
    y: &mut Operand,
    saved: Option<&mut [f32]>,
    rstd: &mut [f32],
    x: &[f32],
    w: &[f32],
    eps: f32,
) {
    let (features, rows, n) = (w.len(), task_rows(w.len()), rstd.len());
    let (saved, rstd) = (saved.map(Disjoint::new), Disjoint::new(rstd));
    y.produce(kernels, threads, n * features, rows * features, |task, y| {
        let first = task * rows;
        let part = first * features..first * features + y.len();
        // SAFETY: these rows are this task's alone, here and below.
        let rstd = unsafe { rstd.slice(first..first + y.len() / features) };
        kernels.rms_norm_forward(y, rstd, &x[part.clone()], w, eps);
        if let Some(saved) = &saved {
            // SAFETY: as above.
            unsafe { saved.slice(part.clone()) }.copy_from_slice(&x[part]);
        }
    });
}

/// The same of heads, which other operations read.
pub(crate) fn forward_heads(
    kernels: &Kernels,
    threads: &Threads,
    y: &mut [f32],
    rstd: &mut [f32],
    x: &[f32],
    w: &[f32],
    eps: f32,
) {
    let (features, rows) = (w.len(), task_rows(w.len()));
    threads.chunks([(y, rows * features), (rstd, rows)], |task, [y, rstd]| {
        let x = &x[task * rows * features..][..y.len()];
        kernels.rms_norm_forward(y, rstd, x, w, eps);
    });
}

/// Adds to `dx` `[n, features]` and to `dw` `[features]`, if it is asked for.
pub(crate) fn backward(
    kernels: &Kernels,
    threads: &Threads,
    dx: &mut [f32],
    dw: Option<&mut [f32]>,
    dy: &[f32],
    x: &[f32],
    w: &[f32],
    rstd: &[f32],
) {
    let (features, rows) = (w.len(), task_rows(w.len()));
    threads.chunks([(dx, rows * features)], |task, [dx]| {
        let part = task * rows * features..task * rows * features + dx.len();
        kernels.rms_norm_backward(dx, &dy[part.clone()], &x[part], w, &rstd[task * rows..]);
    });
    backward_weight(kernels, threads, dw, [dy, x], rstd, features);
}

/// [`backward`] to the first `n` rows of an operand.
pub(crate) fn backward_of_stream(
    kernels: &Kernels,
    threads: &Threads,
    dx: &mut Operand,
    dw: Option<&mut [f32]>,
    [dy, x]: [&[f32]; 2],
    w: &[f32],
    rstd: &[f32],
) {
    let (features, rows) = (w.len(), task_rows(w.len()));
    Operand::change(kernels, threads, [dx], dy.len(), rows * features, |task, [dx]| {
        let part = task * rows * features..task * rows * features + dx.len();
        kernels.rms_norm_backward(dx, &dy[part.clone()], &x[part], w, &rstd[task * rows..]);
    });
    backward_weight(kernels, threads, dw, [dy, x], rstd, features);
}

/// Adds to `dw` `[features]`, if it is asked for.
fn backward_weight(
    kernels: &Kernels,
    threads: &Threads,
    dw: Option<&mut [f32]>,
    [dy, x]: [&[f32]; 2],
    rstd: &[f32],
    features: usize,
) {
    let Some(dw) = dw else { return };
    threads.chunks([(dw, TASK_COLUMNS)], |task, [dw]| {
        kernels.rms_norm_backward_weight(dw, task * TASK_COLUMNS, features, dy, x, rstd);
    });
}
