//! SwiGLU.

use crate::{
    cuda::Cuda,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::operand::Operand,
};

pub(crate) fn forward(cuda: &Cuda, y: &mut Operand, gate: &Memory<f32>, up: &Memory<f32>, n: usize) {
    panic!("not written yet")
}
pub(crate) fn backward(cuda: &Cuda, dy: &mut Operand, gate: &mut Operand, up: &mut Operand, n: usize) {
    panic!("not written yet")
}
