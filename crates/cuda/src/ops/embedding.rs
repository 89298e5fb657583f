//! Rows taken and put by their numbers.

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::{
        operand::Operand,
        rows::{Rows, packs, wide},
    },
};

/// Threads of a block that adds rows.
const ADDING: usize = 128;

params! {
    /// `y[i, :] = x[rows[i], :]`, rows of `units` units of `unit` bytes.
    struct GatherRows { y: Address, x: Address, rows: Address, n: u64, units: u32, unit: u32, shift: u32, unused: u32 }
}
params! {
    /// `y[rows[n], :] = x[n, :]`, rounded, or `y[n, :]` where `rows` is null.
    struct StoreKeys { y: Address, x: Address, rows: Address, n: u64, features: u32, shift: u32, wide: u32, unused: u32 }
}
params! {
    /// `y[ids[i], :] += x[n, :]` for the rows `order[starts[i]..starts[i + 1]]`.
    struct AddRows { y: Address, x: Address, order: Address, starts: Address, ids: Address, n: u64, features: u32, wide: u32 }
}

/// `y[i, :] = x[rows[i], :]` of `n` rows of `features` elements of `size` bytes; zeros where `rows[i]` is [`u32::MAX`].
pub(crate) fn gather(cuda: &Cuda, [y, x, rows]: [Address; 3], n: usize, features: usize, size: usize) {
    let unit = if (features * size).is_multiple_of(16) { 16 } else { size };
    let units = features * size / unit;
    let grid = Rows::new(cuda, n, units, 4);
    let (units, unit) = (units as u32, unit as u32);
    let params = GatherRows { y, x, rows, n: n as u64, units, unit, shift: grid.shift, unused: 0 };
    grid.launch(cuda, "gather_rows", 0, params);
}

/// Stores keys or values, rounded, to their rows of the cache, or to those of the pass.
pub(crate) fn store_keys(
    cuda: &Cuda,
    keys: &mut Memory<Bf16>,
    x: &Memory<f32>,
    features: usize,
    layout: &DeviceLayout,
) {
    let (n, wide) = (layout.host.len(), wide(&[features]));
    let rows = Rows::new(cuda, n, packs(features, wide), 2);
    let params = StoreKeys {
        y: keys.first(layout.stored_rows() * features, "keys"),
        x: x.first(n * features, "x"),
        rows: layout.cache_rows(),
        n: n as u64,
        features: features as u32,
        shift: rows.shift,
        wide: wide.into(),
        unused: 0,
    };
    rows.launch(cuda, "store_keys", 0, params);
}

/// `y[n, :] = w[ids[n], :]`
pub(crate) fn forward(
    cuda: &Cuda,
    y: &mut Memory<f32>,
    w: &Memory<f32>,
    features: usize,
    layout: &DeviceLayout,
) {
    let n = layout.host.len();
    let w = w.first(layout.vocabulary() * features, "w");
    gather(cuda, [y.first(n * features, "y"), w, layout.ids()], n, features, size_of::<f32>());
}

/// `dw[ids[n], :] += dy[n, :]`, in the order of n.
pub(crate) fn backward(
    cuda: &Cuda,
    dw: &mut Memory<f32>,
    dy: &Memory<f32>,
    features: usize,
    layout: &DeviceLayout,
) {
    let (n, wide) = (layout.host.len(), wide(&[features]));
    let by_id = layout.by_id();
    let threads = packs(features, wide).next_multiple_of(32).min(ADDING);
    let grid = [by_id.ids, packs(features, wide).div_ceil(threads), 1];
    let params = AddRows {
        y: dw.first(layout.vocabulary() * features, "dw"),
        x: dy.first(n * features, "dy"),
        order: by_id.order,
        starts: by_id.starts,
        ids: by_id.distinct,
        n: by_id.ids as u64,
        features: features as u32,
        wide: wide.into(),
    };
    cuda.launch("add_rows", grid, threads, 0, params);
}

/// `y[i, :] = x[head_rows[i], :]`
pub(crate) fn head_rows_forward(
    cuda: &Cuda,
    y: &mut Operand,
    x: &Operand,
    features: usize,
    layout: &DeviceLayout,
) {
    let (rows, n) = (layout.host.len() * features, layout.host.head_rows.len());
    let at = [y.rounded.first(n * features, "y"), x.rounded.first(rows, "x"), layout.head_rows()];
    gather(cuda, at, n, features, size_of::<Bf16>());
    if let (Some(y), Some(x)) = (&y.values, &x.values) {
        let at = [y.first(n * features, "y"), x.first(rows, "x"), layout.head_rows()];
        gather(cuda, at, n, features, size_of::<f32>());
    }
}

/// `dx[head_rows[i], :] = dy[i, :]`, and zero in all other rows of the pass.
pub(crate) fn head_rows_backward(
    cuda: &Cuda,
    dx: &mut Memory<f32>,
    dy: &Memory<f32>,
    features: usize,
    layout: &DeviceLayout,
) {
    let n = layout.host.len();
    let dy = dy.first(layout.host.head_rows.len() * features, "dy");
    gather(cuda, [dx.first(n * features, "dx"), dy, layout.heads_of_rows()], n, features, size_of::<f32>());
}
