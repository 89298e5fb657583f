//! Sampling of tokens.

use crate::{
    cuda::Cuda,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::operand::Operand,
};
use koan_backend::Matrix;

pub(crate) fn sample(
    cuda: &Cuda,
    outputs: [&mut Memory<f32>; 3],
    x: &Operand,
    w: &Matrix<Cuda>,
    layout: &DeviceLayout,
) {
    panic!("not written yet")
}
