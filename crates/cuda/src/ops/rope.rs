//! Rotary positions.

use koan_backend::{Pairs, Rotation};

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    layout::DeviceLayout,
    memory::Memory,
    ops::rows::{Rows, wide},
};

params! {
    /// `x` of `n` rows, in place; `sign` −1 turns back.
    struct Rope {
        x: Address, cos: Address, sin: Address, positions: Address, n: u64,
        heads: u32, head_features: u32, start: u32, half: u32, shift: u32, wide: u32, neighbours: u32, sign: f32,
    }
}

/// Rotates the heads of `x` `[rows, rotation.features()]` by the angles of the rows' positions, times `sign`.
pub(crate) fn rotate(
    cuda: &Cuda,
    x: &mut Memory<f32>,
    cos: &Memory<f32>,
    sin: &Memory<f32>,
    sign: f32,
    rotation: Rotation,
    layout: &DeviceLayout,
) {
    rotation.check();
    let Rotation { heads, head_features, start, dim, pairs } = rotation;
    let (n, half, neighbours) = (layout.host.len(), dim / 2, pairs == Pairs::Neighbours);
    if n == 0 || half == 0 {
        return;
    }
    let angles = (layout.greatest_position() as usize + 1) * half;
    // A thread turns four pairs of halves, or two of neighbours: four features in a row.
    let wide = wide(&[head_features, start]) && half.is_multiple_of(if neighbours { 2 } else { 4 });
    let pairs_each = if !wide {
        1
    } else if neighbours {
        2
    } else {
        4
    };
    let rows = Rows::new(cuda, n, heads * half / pairs_each, 2);
    let params = Rope {
        x: x.first(n * rotation.features(), "x"),
        cos: cos.first(angles, "cos"),
        sin: sin.first(angles, "sin"),
        positions: layout.positions(),
        n: n as u64,
        heads: heads as u32,
        head_features: head_features as u32,
        start: start as u32,
        half: half as u32,
        shift: rows.shift,
        wide: wide.into(),
        neighbours: neighbours.into(),
        sign,
    };
    rows.launch(cuda, "rope", 0, params);
}
