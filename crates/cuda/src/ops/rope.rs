//! Rotary positions.

use crate::{
    cuda::Cuda,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::operand::Operand,
};
use koan_backend::Rotation;

pub(crate) fn rotate(
    cuda: &Cuda,
    x: &mut Memory<f32>,
    cos: &Memory<f32>,
    sin: &Memory<f32>,
    sign: f32,
    rotation: Rotation,
    layout: &DeviceLayout,
) {
    panic!("not written yet")
}
