//! Rows taken and put by their numbers.

use crate::{
    cuda::Cuda,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::operand::Operand,
};

pub(crate) fn store_keys(
    cuda: &Cuda,
    keys: &mut Memory<Bf16>,
    x: &Memory<f32>,
    features: usize,
    layout: &DeviceLayout,
) {
    panic!("not written yet")
}
pub(crate) fn forward(
    cuda: &Cuda,
    y: &mut Memory<f32>,
    w: &Memory<f32>,
    features: usize,
    layout: &DeviceLayout,
) {
    panic!("not written yet")
}
pub(crate) fn backward(
    cuda: &Cuda,
    dw: &mut Memory<f32>,
    dy: &Memory<f32>,
    features: usize,
    layout: &DeviceLayout,
) {
    panic!("not written yet")
}
pub(crate) fn head_rows_forward(
    cuda: &Cuda,
    y: &mut Operand,
    x: &Operand,
    features: usize,
    layout: &DeviceLayout,
) {
    panic!("not written yet")
}
pub(crate) fn head_rows_backward(
    cuda: &Cuda,
    dx: &mut Memory<f32>,
    dy: &Memory<f32>,
    features: usize,
    layout: &DeviceLayout,
) {
    panic!("not written yet")
}
