//! Columns of heads that are copied or added.

use koan_backend::{Columns, Store};

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    memory::Memory,
    ops::rows::{Rows, packs, wide},
};

params! {
    /// Columns `width` of each head of `x`, to those of `y`.
    struct CopyColumns {
        y: Address, x: Address, n: u64,
        y_features: u32, to: u32, to_stride: u32, x_features: u32, from: u32, from_stride: u32,
        heads: u32, width: u32, add: u32, shift: u32, wide: u32, unused: u32,
    }
}

/// `y[n, h, :] = x[n, h, :]`, or `+=` in the order of h, for the `width` columns that `to` and `from` give head `h`.
pub(crate) fn copy(
    cuda: &Cuda,
    y: &mut Memory<f32>,
    x: &Memory<f32>,
    [to, from]: [Columns; 2],
    [heads, width]: [usize; 2],
    n: usize,
    store: Store,
) {
    to.check(heads, width);
    from.check(heads, width);
    if heads * width == 0 {
        return;
    }
    let of = |c: Columns| [c.features, c.start, c.stride];
    let wide = wide(&[&of(to)[..], &of(from), &[width]].concat());
    let rows = Rows::new(cuda, n, packs((heads - 1) * to.stride + width, wide), 2);
    let params = CopyColumns {
        y: y.first(n * to.features, "y"),
        x: x.first(n * from.features, "x"),
        n: n as u64,
        y_features: to.features as u32,
        to: to.start as u32,
        to_stride: to.stride as u32,
        x_features: from.features as u32,
        from: from.start as u32,
        from_stride: from.stride as u32,
        heads: heads as u32,
        width: width as u32,
        add: (store == Store::Add).into(),
        shift: rows.shift,
        wide: wide.into(),
        unused: 0,
    };
    rows.launch(cuda, "copy_columns", 0, params);
}
