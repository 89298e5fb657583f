//! Biases, and sums over rows.

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    memory::Memory,
    ops::rows::{PACK, Rows, packs, wide},
};

/// Rows that a block sums, where there are more than [`SUMMED_AT_ONCE`].
const CHUNK: usize = 128;
/// Rows that one block a column may sum: few enough that a second launch would cost more.
const SUMMED_AT_ONCE: usize = 512;

params! {
    /// `y[n, :] += bias`
    struct AddBias { y: Address, bias: Address, n: u64, features: u32, shift: u32, wide: u32, unused: u32 }
}
params! {
    /// `y[c, :] = Σ x[n, :]`, or `+=`, over the rows of chunk `c`.
    struct SumRows { y: Address, x: Address, n: u64, features: u32, chunk: u32, add: u32, wide: u32 }
}

/// `y[n, :] += bias`
pub(crate) fn forward(cuda: &Cuda, y: &mut Memory<f32>, bias: &Memory<f32>, features: usize, n: usize) {
    let wide = wide(&[features]);
    let rows = Rows::new(cuda, n, packs(features, wide), 2);
    let params = AddBias {
        y: y.first(n * features, "y"),
        bias: bias.first(features, "bias"),
        n: n as u64,
        features: features as u32,
        shift: rows.shift,
        wide: wide.into(),
        unused: 0,
    };
    rows.launch(cuda, "add_bias", 0, params);
}

/// `d_bias += Σₙ dy[n, :]`
pub(crate) fn backward(cuda: &Cuda, d_bias: &mut Memory<f32>, dy: &Memory<f32>, features: usize, n: usize) {
    let (d_bias, dy) = (d_bias.first(features, "d_bias"), dy.first(n * features, "dy"));
    add_rows(cuda, d_bias, dy, features, n);
}

/// `y += Σₙ x[n, :]`, with `x` `[n, features]`, in an order that `n` and `features` alone determine: of chunks of rows from row 0 on,
/// then of their sums.
pub(crate) fn add_rows(cuda: &Cuda, y: Address, x: Address, features: usize, n: usize) {
    if n == 0 {
        return;
    }
    if n <= SUMMED_AT_ONCE {
        // As many warps as have rows.
        let warps = n.next_power_of_two().clamp(4, 32);
        sum(cuda, y, x, features, n, n, warps, true);
        return;
    }
    let chunks = n.div_ceil(CHUNK);
    let sums = cuda.scratch::<f32>(chunks * features);
    sum(cuda, sums.at(0), x, features, n, CHUNK, 8, false);
    add_rows(cuda, y, sums.at(0), features, chunks);
}

fn sum(
    cuda: &Cuda,
    y: Address,
    x: Address,
    features: usize,
    n: usize,
    chunk: usize,
    warps: usize,
    add: bool,
) {
    let wide = wide(&[features]);
    let params = SumRows {
        y,
        x,
        n: n as u64,
        features: features as u32,
        chunk: chunk as u32,
        add: add.into(),
        wide: wide.into(),
    };
    let grid = [n.div_ceil(chunk), packs(features, wide).div_ceil(32), 1];
    cuda.launch("sum_rows", grid, 32 * warps, 32 * warps * PACK * size_of::<f32>(), params);
}
