//! Biases.

use crate::{
    cuda::Cuda,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::operand::Operand,
};

pub(crate) fn forward(cuda: &Cuda, y: &mut Memory<f32>, bias: &Memory<f32>, features: usize, n: usize) {
    panic!("not written yet")
}
pub(crate) fn backward(cuda: &Cuda, d_bias: &mut Memory<f32>, dy: &Memory<f32>, features: usize, n: usize) {
    panic!("not written yet")
}
