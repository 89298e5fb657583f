//! RMSNorm.

use crate::{
    cuda::Cuda,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::operand::Operand,
};

pub(crate) fn forward(
    cuda: &Cuda,
    y: &mut Operand,
    rstd: &mut Memory<f32>,
    x: &Memory<f32>,
    w: &Memory<f32>,
    eps: f32,
    n: usize,
) {
    panic!("not written yet")
}
pub(crate) fn forward_heads(
    cuda: &Cuda,
    y: &mut Memory<f32>,
    rstd: &mut Memory<f32>,
    x: &Memory<f32>,
    w: &Memory<f32>,
    eps: f32,
    n: usize,
) {
    panic!("not written yet")
}
pub(crate) fn backward(
    cuda: &Cuda,
    dx: &mut Memory<f32>,
    dw: Option<&mut Memory<f32>>,
    dy: &Memory<f32>,
    x: &Memory<f32>,
    w: &Memory<f32>,
    rstd: &Memory<f32>,
    n: usize,
) {
    panic!("not written yet")
}
