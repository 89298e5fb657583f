//! SwiGLU, element by element.

use koan_backend::Keep;

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    memory::Memory,
    ops::{operand::Operand, rows::PACK},
};

params! {
    /// `y` of the forward.
    struct Forward { y: Address, gate: Address, up: Address, n: u64 }
}
params! {
    /// The values of all three, and their rounded forms; whether the values are written too.
    struct Backward { values: [Address; 3], rounded: [Address; 3], n: u64, keep: u32, unused: u32 }
}

/// Writes `y`.
pub(crate) fn forward(cuda: &Cuda, y: &mut Operand, gate: &Memory<f32>, up: &Memory<f32>, n: usize) {
    let (y, gate, up) = (y.rounded.first(n, "y"), gate.first(n, "gate"), up.first(n, "up"));
    let params = Forward { y, gate, up, n: n as u64 };
    cuda.for_each("swiglu_forward", n.div_ceil(PACK), params);
}

/// In place: `gate` and `up` become their gradients, `dy` becomes `y`.
pub(crate) fn backward(cuda: &Cuda, operands: [&mut Operand; 3], keep: Keep, n: usize) {
    let [dy, gate, up] = operands;
    let operands = [(&*dy, "dy"), (&*gate, "gate"), (&*up, "up")];
    let values = operands.map(|(x, name)| x.values().first(n, name));
    let rounded = operands.map(|(x, name)| x.rounded.first(n, name));
    let params = Backward { values, rounded, n: n as u64, keep: (keep == Keep::Values).into(), unused: 0 };
    cuda.for_each("swiglu_backward", n.div_ceil(PACK), params);
}
