//! SwiGLU, element by element.

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    memory::Memory,
    ops::{operand::Operand, rows::PACK},
};

params! {
    /// `y` of the forward, its values null where they are not kept.
    struct Forward { values: Address, rounded: Address, gate: Address, up: Address, n: u64 }
}
params! {
    /// The values of all three, and their rounded forms.
    struct Backward { values: [Address; 3], rounded: [Address; 3], n: u64 }
}

/// Writes `y`.
pub(crate) fn forward(cuda: &Cuda, y: &mut Operand, gate: &Memory<f32>, up: &Memory<f32>, n: usize) {
    let (values, rounded) = (y.values_or_null(n, "y"), y.rounded.first(n, "y"));
    let (gate, up) = (gate.first(n, "gate"), up.first(n, "up"));
    let params = Forward { values, rounded, gate, up, n: n as u64 };
    cuda.for_each("swiglu_forward", n.div_ceil(PACK), params);
}

/// In place: `gate` and `up` become their gradients, `dy` becomes `y`.
pub(crate) fn backward(cuda: &Cuda, dy: &mut Operand, gate: &mut Operand, up: &mut Operand, n: usize) {
    let operands = [(&*dy, "dy"), (&*gate, "gate"), (&*up, "up")];
    let values = operands.map(|(x, name)| x.values().first(n, name));
    let rounded = operands.map(|(x, name)| x.rounded.first(n, name));
    cuda.for_each("swiglu_backward", n.div_ceil(PACK), Backward { values, rounded, n: n as u64 });
}
