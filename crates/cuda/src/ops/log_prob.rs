//! Log-probabilities of given tokens, and their backward.

use crate::{
    cuda::Cuda,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::operand::Operand,
};
use koan_backend::Matrix;

pub(crate) fn forward(
    cuda: &Cuda,
    outputs: [&mut Memory<f32>; 3],
    x: &Operand,
    w: &Matrix<Cuda>,
    temperature: f32,
    layout: &DeviceLayout,
) {
    panic!("not written yet")
}
pub(crate) fn backward(
    cuda: &Cuda,
    dx: &mut Memory<f32>,
    dw: Option<&mut Memory<f32>>,
    d_log_probs: &Memory<f32>,
    x: &Operand,
    w: &Matrix<Cuda>,
    log_sum_exp: &Memory<f32>,
    temperature: f32,
    layout: &DeviceLayout,
) {
    panic!("not written yet")
}
