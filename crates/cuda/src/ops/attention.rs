//! Attention.

use crate::{
    cuda::Cuda,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::operand::Operand,
};
use koan_backend::Attention;

pub(crate) fn forward(
    cuda: &Cuda,
    out: &mut Operand,
    log_sum_exp: &mut Memory<f32>,
    inputs: Attention<'_, Cuda>,
) {
    panic!("not written yet")
}
pub(crate) fn backward(
    cuda: &Cuda,
    d: [&mut Memory<f32>; 3],
    dout: &Memory<f32>,
    inputs: Attention<'_, Cuda>,
    out: &Memory<f32>,
    log_sum_exp: &Memory<f32>,
) {
    panic!("not written yet")
}
