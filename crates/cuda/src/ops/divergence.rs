//! Divergences of distributions.

use koan_backend::{Divergence, DivergenceForm, Support};

use crate::{cuda::Cuda, device::Address, launch::params, memory::Memory, ops::operand::Operand};

params! {
    struct Diverge {
        d: Address, student: Address, rounded: Address, teacher: Address,
        own: u32, other: u32, top: u32, form: u32, renormalised: u32, inverse_temperature: f32, beta: f32, weight: f32,
    }
}

/// Bytes of shared memory that a cut by rank takes: the histogram, the cut itself, and room for 16 sums and 512 counts.
pub(crate) const SHARED_OF_CUT: usize = 3 * 33 * 32 * 4 + 64 + 16 * 8 + 512 * 4;

/// Writes the divergence of each row; the student's logits become the gradient of `weight` times it.
pub(crate) fn divergence(
    cuda: &Cuda,
    d: &mut Memory<f32>,
    student: &mut Operand,
    teacher: &mut Memory<f32>,
    of: Divergence,
    weight: f64,
    [n, own, other]: [usize; 3],
) {
    let (form, beta) = match of.form {
        DivergenceForm::Forward => (0, 0.0),
        DivergenceForm::Reverse => (1, 0.0),
        DivergenceForm::JensenShannon { beta } => (2, beta as f32),
    };
    let params = Diverge {
        d: d.first(n, "d"),
        student: student.values().first(n * own, "student"),
        rounded: student.rounded.first(n * own, "student"),
        teacher: teacher.first(n * other, "teacher"),
        own: own as u32,
        other: other as u32,
        top: of.support.tokens(own.min(other)) as u32,
        form,
        renormalised: matches!(of.support, Support::Renormalised(_)).into(),
        inverse_temperature: of.temperature.recip(),
        beta,
        weight: (weight / f64::from(of.temperature)) as f32,
    };
    cuda.launch("diverge", [n, 1, 1], 512, SHARED_OF_CUT, params);
}
