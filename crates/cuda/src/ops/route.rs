//! How rows choose their experts, and their copies.

use crate::{
    cuda::Cuda,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::operand::Operand,
};
use koan_backend::{OutOfMemory, Routing, Store};

/// Which experts each row chose.
#[derive(Debug)]
pub struct Routes {
    /// Experts there are, and experts that a row chooses.
    pub(crate) experts: usize,
    pub(crate) per_token: usize,
    /// Rows of the last route_forward.
    pub(crate) rows: usize,
    /// [rows, per_token]: the experts of each row, ascending.
    pub(crate) chosen: Memory<u32>,
    /// [rows, per_token]: their weights.
    pub(crate) weights: Memory<f32>,
    /// [rows, per_token]: the copy, sorted by expert, that each choice became.
    pub(crate) places: Memory<u32>,
    /// [copies]: the row of each copy.
    pub(crate) copy_rows: Memory<u32>,
    /// [experts + 1]: the first copy of each expert, and the number of copies.
    pub(crate) starts: Memory<u32>,
}

impl Routes {
    pub(crate) fn new(cuda: &Cuda, rows: usize, of: Routing) -> Result<Self, OutOfMemory> {
        panic!("not written yet")
    }
    pub(crate) fn bytes(rows: usize, of: Routing) -> usize {
        panic!("not written yet")
    }
    pub(crate) fn read(&self) -> (Vec<u32>, Vec<f64>) {
        panic!("not written yet")
    }
}

pub(crate) fn forward(
    cuda: &Cuda,
    routes: &mut Routes,
    scores: &mut Memory<f32>,
    bias: Option<&Memory<f32>>,
    of: Routing,
    n: usize,
) {
    panic!("not written yet")
}
pub(crate) fn backward(
    cuda: &Cuda,
    d_logits: &mut Operand,
    load: Option<&mut Memory<f32>>,
    d_weights: &Memory<f32>,
    scores: &Memory<f32>,
    routes: &Routes,
    of: Routing,
    balance: f32,
    layout: &DeviceLayout,
) {
    panic!("not written yet")
}
pub(crate) fn copies_forward(cuda: &Cuda, y: &mut Operand, x: &Operand, routes: &Routes, features: usize) {
    panic!("not written yet")
}
pub(crate) fn sum_copies(
    cuda: &Cuda,
    y: &mut Memory<f32>,
    x: &Memory<f32>,
    routes: &Routes,
    features: usize,
    store: Store,
) {
    panic!("not written yet")
}
pub(crate) fn weighted_swiglu_forward(
    cuda: &Cuda,
    y: &mut Operand,
    gate: &Memory<f32>,
    up: &Memory<f32>,
    routes: &Routes,
    features: usize,
) {
    panic!("not written yet")
}
pub(crate) fn weighted_swiglu_backward(
    cuda: &Cuda,
    d_weights: &mut Memory<f32>,
    operands: [&mut Operand; 3],
    routes: &Routes,
    features: usize,
) {
    panic!("not written yet")
}
