//! Products.

use crate::device::Address;
use crate::{
    cuda::Cuda,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::operand::Operand,
};
use koan_backend::{Matrix, OutOfMemory, ProductPrecision, Store};

/// Weight matrices in the form that products read: bf16, row-major.
#[derive(Debug)]
pub struct Packed {
    pub(crate) values: Memory<Bf16>,
    pub(crate) shape: [usize; 3],
}

impl Packed {
    pub(crate) fn bytes(shape: [usize; 3], precision: ProductPrecision) -> usize {
        panic!("not written yet")
    }
    pub(crate) fn new(
        cuda: &Cuda,
        shape: [usize; 3],
        precision: ProductPrecision,
    ) -> Result<Self, OutOfMemory> {
        panic!("not written yet")
    }
    pub(crate) fn fill(&mut self, cuda: &Cuda, w: &Memory<f32>) {
        panic!("not written yet")
    }
}

/// `y = x wᵀ`, or `+=`: y f32 [n, out], x bf16 [n, in], w bf16 [out, in]; `[n, out, in] = sizes`.
pub(crate) fn forward(cuda: &Cuda, y: Address, x: Address, w: Address, sizes: [usize; 3], store: Store) {
    panic!("not written yet")
}
/// `dx = dy w`, or `+=`: dx f32 [n, in], dy bf16 [n, out], w bf16 [out, in]; `[n, out, in] = sizes`.
pub(crate) fn backward_input(
    cuda: &Cuda,
    dx: Address,
    dy: Address,
    w: Address,
    sizes: [usize; 3],
    store: Store,
) {
    panic!("not written yet")
}
/// `dw += dyᵀ x`: dw f32 [out, in], dy bf16 [n, out], x bf16 [n, in]; `[n, out, in] = sizes`.
pub(crate) fn backward_weight(cuda: &Cuda, dw: Address, dy: Address, x: Address, sizes: [usize; 3]) {
    panic!("not written yet")
}

pub(crate) fn linear_forward(
    cuda: &Cuda,
    y: &mut Memory<f32>,
    x: &Operand,
    w: &Matrix<Cuda>,
    n: usize,
    store: Store,
) {
    panic!("not written yet")
}
pub(crate) fn linear_backward_input(
    cuda: &Cuda,
    dx: &mut Memory<f32>,
    dy: &Operand,
    w: &Matrix<Cuda>,
    n: usize,
    store: Store,
) {
    panic!("not written yet")
}
pub(crate) fn linear_backward_weight(
    cuda: &Cuda,
    dw: &mut Memory<f32>,
    dy: &Operand,
    x: &Operand,
    n: usize,
    shape: [usize; 2],
    precision: ProductPrecision,
) {
    panic!("not written yet")
}
