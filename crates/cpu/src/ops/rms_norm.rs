//! RMSNorm, cut into tasks: rows, and for the gradient of the weight columns.

use crate::{
    memory::Disjoint,
    ops::operand::Operand,
    parallel::{TASK_COLUMNS, Threads, task_rows},
    tables::Kernels,
};

/// Writes `y` `[n, features]` for products, and `rstd` `[n]` for [`backward`].
pub(crate) fn forward(
    kernels: &Kernels,
    threads: &Threads,
    y: &mut Operand,
    rstd: &mut [f32],
    x: &[f32],
    w: &[f32],
    eps: f32,
) {
    let (features, rows, n) = (w.len(), task_rows(w.len()), rstd.len());
    let rstd = Disjoint::new(rstd);
    y.produce(kernels, threads, n * features, rows * features, |task, y| {
        let first = task * rows;
        let x = &x[first * features..][..y.len()];
        // SAFETY: these rows are this task's alone.
        let rstd = unsafe { rstd.slice(first..first + y.len() / features) };
        kernels.rms_norm_forward(y, rstd, x, w, eps);
    });
}

/// [`forward`], and a copy of `x` in `saved`.
pub(crate) fn forward_of_stream(
    kernels: &Kernels,
    threads: &Threads,
    y: &mut Operand,
    [saved, rstd]: [&mut [f32]; 2],
    x: &[f32],
    w: &[f32],
    eps: f32,
) {
    let (features, rows, n) = (w.len(), task_rows(w.len()), rstd.len());
    let [saved, rstd] = [saved, rstd].map(Disjoint::new);
    y.produce(kernels, threads, n * features, rows * features, |task, y| {
        let first = task * rows;
        let of_rows = first * features..first * features + y.len();
        // SAFETY: these rows are this task's alone.
        let (saved, rstd) =
            unsafe { (saved.slice(of_rows.clone()), rstd.slice(first..first + y.len() / features)) };
        kernels.rms_norm_forward(y, rstd, &x[of_rows.clone()], w, eps);
        saved.copy_from_slice(&x[of_rows]);
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
