//! Columns of heads.

use crate::{
    cuda::Cuda,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::operand::Operand,
};
use koan_backend::{Columns, Store};

pub(crate) fn copy(
    cuda: &Cuda,
    y: &mut Memory<f32>,
    x: &Memory<f32>,
    [to, from]: [Columns; 2],
    [heads, width]: [usize; 2],
    n: usize,
    store: Store,
) {
    panic!("not written yet")
}
