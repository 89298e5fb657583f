//! Heads of queries, keys and values: norm, rotation and rounding in one pass over memory.

use koan_backend::{HeadNormBackward, HeadNorms, Heads, Keep, Rotation, composite};

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::{
        operand::Operand,
        rms_norm::{self, NormBackward},
        rows::{Rows, packs, wide},
    },
};

/// Packs of a head that a thread holds, at most: HELD of the kernels.
const HELD: usize = 4;

params! {
    /// What attention reads of `n` heads: those of queries, keys and values of each row.
    struct Forward {
        q: Address, keys: Address, values: Address, of_q: Address, of_k: Address, v: Address,
        q_rstd: Address, k_rstd: Address, q_w: Address, k_w: Address,
        cos: Address, sin: Address, positions: Address, rows: Address,
        n: u64, query: u32, key_value: u32, features: u32, shift: u32, eps: f32, wide: u32,
    }
}
params! {
    /// The gradient of `n` heads that were turned.
    struct Turned {
        dy: Address, rounded: Address, cos: Address, sin: Address, positions: Address,
        n: u64, heads: u32, features: u32, wide: u32, keep: u32,
    }
}
params! {
    struct Backward { norm: NormBackward, of: Turned }
}

/// A number of heads or of their packs as kernels have it.
fn count(n: usize) -> u64 {
    u64::from(u32::try_from(n).expect("fewer than 2³² heads in a pass, and fewer packs of their features"))
}

/// Whether the threads of a warp hold a head of `dim` features; its packs.
fn is_held(dim: usize) -> bool {
    packs(dim, wide(&[dim])) <= 32 * HELD && dim > 0
}

/// Writes queries, keys and values as attention reads them.
pub(crate) fn forward(
    cuda: &Cuda,
    q: &mut Memory<f32>,
    [keys, values]: [&mut Memory<Bf16>; 2],
    [k, v]: [&mut Memory<f32>; 2],
    norms: Option<HeadNorms<'_, Cuda>>,
    [cos, sin]: [&Memory<f32>; 2],
    heads: Heads,
    layout: &DeviceLayout,
) {
    let Heads { query, key_value, dim, value_dim } = heads;
    if !is_held(dim) || dim != value_dim {
        composite::heads_forward(cuda, q, [keys, values], [k, v], norms, [cos, sin], heads, layout);
        return;
    }
    Rotation::whole(query, dim).check();
    let (n, stored) = (layout.host.len(), layout.stored_rows() * heads.key_features());
    if n == 0 {
        return;
    }
    let (len, key_len) = (n * heads.query_features(), n * heads.key_features());
    let angles = (layout.greatest_position() as usize + 1) * dim / 2;
    let q = q.first(len, "q");
    let ([of_q, of_k], w, rstd, eps) = match norms {
        None => ([q, k.first(key_len, "k")], [0; 2], [0; 2], 0.0),
        Some(HeadNorms { x, w, rstd, eps }) => (
            [x[0].first(len, "x"), x[1].first(key_len, "x")],
            w.map(|w| w.first(dim, "w")),
            [rstd[0].first(n * query, "rstd"), rstd[1].first(n * key_value, "rstd")],
            eps,
        ),
    };
    let wide = wide(&[dim]);
    let packs = packs(dim, wide);
    let rows = Rows::new(cuda, n * (query + 2 * key_value), packs, rms_norm::HELD[0]);
    let params = Forward {
        q,
        keys: keys.first(stored, "keys"),
        values: values.first(stored, "values"),
        of_q,
        of_k,
        v: v.first(key_len, "v"),
        q_rstd: rstd[0],
        k_rstd: rstd[1],
        q_w: w[0],
        k_w: w[1],
        cos: cos.first(angles, "cos"),
        sin: sin.first(angles, "sin"),
        positions: layout.positions(),
        rows: layout.cache_rows(),
        n: count(n * (query + 2 * key_value)),
        query: query as u32,
        key_value: key_value as u32,
        features: dim as u32,
        shift: rows.shift,
        eps,
        wide: wide.into(),
    };
    let kernel = if packs <= 1 << rows.shift { "heads_forward_narrow" } else { "heads_forward_any" };
    rows.launch(cuda, kernel, rms_norm::SUMS, params);
}

/// Turns the gradient of heads into that of their product.
pub(crate) fn backward(
    cuda: &Cuda,
    dy: &mut Operand,
    norm: Option<HeadNormBackward<'_, Cuda>>,
    [cos, sin]: [&Memory<f32>; 2],
    [heads, dim]: [usize; 2],
    keep: Keep,
    layout: &DeviceLayout,
) {
    if !is_held(dim) {
        composite::heads_backward(cuda, dy, norm, [cos, sin], [heads, dim], layout);
        return;
    }
    Rotation::whole(heads, dim).check();
    let n = layout.host.len() * heads;
    if n == 0 {
        return;
    }
    let angles = (layout.greatest_position() as usize + 1) * dim / 2;
    let halves = wide(&[dim / 2]);
    let of = Turned {
        dy: dy.values().first(n * dim, "dy"),
        rounded: dy.rounded.first(n * dim, "dy"),
        cos: cos.first(angles, "cos"),
        sin: sin.first(angles, "sin"),
        positions: layout.positions(),
        n: count(n),
        heads: heads as u32,
        features: dim as u32,
        wide: halves.into(),
        keep: (keep == Keep::Values).into(),
    };
    let Some(HeadNormBackward { dw, x, w, rstd, .. }) = norm else {
        let items = n * packs(dim / 2, halves);
        count(items.next_multiple_of(256));
        cuda.for_each("heads_turned_back", items, of);
        return;
    };
    let kernels = ["heads_backward_narrow", "heads_backward_any"];
    let (dy, x, rstd) = (of.dy, x.first(n * dim, "x"), rstd.first(n, "rstd"));
    rms_norm::backward_by(cuda, kernels, [dy, dy, x, rstd], dw, w, n, |norm| Backward { norm, of });
}
