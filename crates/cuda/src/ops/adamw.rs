//! AdamW, and sums of squares.

use crate::{
    cuda::Cuda,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::operand::Operand,
};
use koan_backend::{AdamWStep, MomentType, OutOfMemory};

/// A moment of AdamW.
#[derive(Debug)]
pub enum Moment {
    /// As it was computed.
    F32(Memory<f32>),
    /// Rounded stochastically.
    Bf16(Memory<Bf16>),
}

impl Moment {
    pub(crate) fn zeros(cuda: &Cuda, len: usize, kind: MomentType) -> Result<Self, OutOfMemory> {
        panic!("not written yet")
    }
    pub(crate) fn upload(cuda: &Cuda, values: &[f32], kind: MomentType) -> Result<Self, OutOfMemory> {
        panic!("not written yet")
    }
    pub(crate) fn read(&self) -> Vec<f32> {
        panic!("not written yet")
    }
}

pub(crate) fn sums_of_squares(cuda: &Cuda, buffers: &[&Memory<f32>]) -> Vec<f64> {
    panic!("not written yet")
}
pub(crate) fn step(
    cuda: &Cuda,
    w: &mut Memory<f32>,
    m: &mut Moment,
    v: &mut Moment,
    g: &Memory<f32>,
    step: AdamWStep,
) {
    panic!("not written yet")
}
