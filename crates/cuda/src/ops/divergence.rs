//! Divergences of distributions.

use crate::{
    cuda::Cuda,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::operand::Operand,
};
use koan_backend::Divergence;

pub(crate) fn divergence(
    cuda: &Cuda,
    d: &mut Memory<f32>,
    student: &mut Operand,
    teacher: &mut Memory<f32>,
    of: Divergence,
    weight: f64,
    sizes: [usize; 3],
) {
    panic!("not written yet")
}
