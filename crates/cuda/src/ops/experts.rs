//! Products of experts: each copy by the matrix of its expert.

use crate::ops::route::Routes;
use crate::{
    cuda::Cuda,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::operand::Operand,
};
use koan_backend::{Matrix, ProductPrecision, Store};

pub(crate) fn forward(
    cuda: &Cuda,
    y: &mut Memory<f32>,
    x: &Operand,
    w: &Matrix<Cuda>,
    routes: &Routes,
    store: Store,
) {
    panic!("not written yet")
}
pub(crate) fn backward_input(
    cuda: &Cuda,
    dx: &mut Memory<f32>,
    dy: &Operand,
    w: &Matrix<Cuda>,
    routes: &Routes,
    store: Store,
) {
    panic!("not written yet")
}
pub(crate) fn backward_weight(
    cuda: &Cuda,
    dw: &mut Memory<f32>,
    dy: &Operand,
    x: &Operand,
    routes: &Routes,
    shape: [usize; 2],
    precision: ProductPrecision,
) {
    panic!("not written yet")
}
