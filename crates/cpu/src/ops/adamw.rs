//! AdamW's step and the sum of squares, cut into tasks; moments of either type.

use koan_backend::{AdamWStep, AlignedVec, MomentType, OutOfMemory};

use crate::{
    memory::Disjoint,
    parallel::{TASK_LEN, Threads},
    tables::Kernels,
};

/// Parts whose squares are summed on their own, at most; their sums are added in order.
const MOST_SUMS: usize = 256;

/// A moment, of either type.
pub enum Moment {
    /// As it was computed.
    F32(AlignedVec<f32>),
    /// The bits of bf16 values.
    Bf16(AlignedVec<u16>),
}

impl Moment {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize, kind: MomentType) -> Result<Self, OutOfMemory> {
        Ok(match kind {
            MomentType::F32 => Self::F32(AlignedVec::zeros(len)?),
            MomentType::Bf16 => Self::Bf16(AlignedVec::zeros(len)?),
        })
    }

    /// How many elements it holds.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::Bf16(x) => x.len(),
        }
    }
}

/// Σ x² in a fixed order: of parts, of which there are at most [`MOST_SUMS`], then of their sums.
pub(crate) fn sum_of_squares(kernels: &Kernels, threads: &Threads, x: &[f32]) -> f64 {
    let mut sums = [0.0; MOST_SUMS];
    let len = x.len().div_ceil(MOST_SUMS).max(TASK_LEN);
    let partial = Disjoint::new(&mut sums);
    threads.run(x.len().div_ceil(len), |task| {
        let x = &x[task * len..((task + 1) * len).min(x.len())];
        // SAFETY: the sum is this task's alone.
        let sum = unsafe { partial.slice(task..task + 1) };
        sum[0] = kernels.sum_of_squares(x);
    });
    sums.iter().sum()
}

/// One step on `w` and its moments, all as long as `g`.
pub(crate) fn step(
    kernels: &Kernels,
    threads: &Threads,
    w: &mut [f32],
    m: &mut Moment,
    v: &mut Moment,
    g: &[f32],
    step: AdamWStep,
) {
    match (m, v) {
        (Moment::F32(m), Moment::F32(v)) => {
            threads.chunks([(w, TASK_LEN), (m, TASK_LEN), (v, TASK_LEN)], |task, [w, m, v]| {
                kernels.adamw_step(w, m, v, &g[task * TASK_LEN..][..w.len()], step);
            });
        }
        (Moment::Bf16(m), Moment::Bf16(v)) => {
            let (w, m, v) = (Disjoint::new(w), Disjoint::new(m), Disjoint::new(v));
            threads.run(g.len().div_ceil(TASK_LEN), |task| {
                let part = task * TASK_LEN..((task + 1) * TASK_LEN).min(g.len());
                // SAFETY: these elements are this task's alone.
                let (w, m, v) =
                    unsafe { (w.slice(part.clone()), m.slice(part.clone()), v.slice(part.clone())) };
                kernels.adamw_step_bf16(w, m, v, &g[part.clone()], part.start, step);
            });
        }
        _ => panic!("moments of two types"),
    }
}
