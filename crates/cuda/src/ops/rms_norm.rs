//! RMSNorm, of rows and of heads.

use crate::{
    cuda::Cuda,
    device::Address,
    launch::{Params, params},
    memory::Memory,
    ops::{
        bias::add_rows,
        operand::Operand,
        rows::{Rows, packs, shift, wide},
    },
};

/// Packs of a row that a thread holds in registers: HELD of the kernels.
pub(crate) const HELD: [usize; 2] = [8, 4];
/// Threads of a block of the backward, whatever the number of rows: the order of sums depends on it.
const THREADS: usize = 256;
/// Elements of which a block of the backward sums the gradient of the scales, some.
const CHUNK_LEN: usize = 16_384;

params! {
    /// `y` of `n` rows, as values, rounded, or both, and a copy of `x`; null where it is not asked for.
    struct Norm {
        values: Address, copy: Address, rounded: Address, rstd: Address, x: Address, w: Address, n: u64,
        features: u32, shift: u32, eps: f32, wide: u32,
    }
}
params! {
    /// `dx +=`, and the sums of `dw` of each chunk of rows, null where the scales are frozen.
    struct NormBackward {
        dx: Address, chunks: Address, dy: Address, x: Address, w: Address, rstd: Address, n: u64,
        features: u32, shift: u32, chunk: u32, wide: u32,
    }
}

/// Writes `y` `[n, features]` for products, and `rstd` `[n]` for [`backward`].
pub(crate) fn forward(
    cuda: &Cuda,
    y: &mut Operand,
    rstd: &mut Memory<f32>,
    x: &Memory<f32>,
    w: &Memory<f32>,
    eps: f32,
    n: usize,
) {
    let len = n * w.len();
    normalize(cuda, [y.values_or_null(len, "y"), 0, y.rounded.first(len, "y")], rstd, x, w, eps, n);
}

/// The same, and copies `x`.
pub(crate) fn forward_saved(
    cuda: &Cuda,
    y: &mut Operand,
    saved: &mut Memory<f32>,
    rstd: &mut Memory<f32>,
    x: &Memory<f32>,
    w: &Memory<f32>,
    eps: f32,
    n: usize,
) {
    let len = n * w.len();
    let outputs = [y.values_or_null(len, "y"), saved.first(len, "saved"), y.rounded.first(len, "y")];
    normalize(cuda, outputs, rstd, x, w, eps, n);
}

/// The same of heads, which other operations read.
pub(crate) fn forward_heads(
    cuda: &Cuda,
    y: &mut Memory<f32>,
    rstd: &mut Memory<f32>,
    x: &Memory<f32>,
    w: &Memory<f32>,
    eps: f32,
    n: usize,
) {
    normalize(cuda, [y.first(n * w.len(), "y"), 0, 0], rstd, x, w, eps, n);
}

fn normalize(
    cuda: &Cuda,
    [values, copy, rounded]: [Address; 3],
    rstd: &mut Memory<f32>,
    x: &Memory<f32>,
    w: &Memory<f32>,
    eps: f32,
    n: usize,
) {
    let (features, wide) = (w.len(), wide(&[w.len()]));
    let packs = packs(features, wide);
    let rows = Rows::new(cuda, n, packs, HELD[0]);
    let params = Norm {
        values,
        copy,
        rounded,
        rstd: rstd.first(n, "rstd"),
        x: x.first(n * features, "x"),
        w: w.at(0),
        n: n as u64,
        features: features as u32,
        shift: rows.shift,
        eps,
        wide: wide.into(),
    };
    let kernel = if packs <= 1 << rows.shift { "rms_norm_narrow" } else { "rms_norm" };
    rows.launch(cuda, kernel, SUMS, params);
}

/// Bytes of shared memory that the sums over a row take.
pub(crate) const SUMS: usize = 32 * size_of::<f32>();

params! {
    /// With `dx` rounded, unless `rounded` is null.
    struct RowsBackward { norm: NormBackward, rounded: Address }
}

/// Adds to `dx` `[n, features]`, and to `dw` `[features]` if it is asked for; writes `rounded`, `dx` rounded, unless it is null.
pub(crate) fn backward(
    cuda: &Cuda,
    dx: &Memory<f32>,
    rounded: Address,
    dw: Option<&mut Memory<f32>>,
    dy: &Memory<f32>,
    x: &Memory<f32>,
    w: &Memory<f32>,
    rstd: &Memory<f32>,
    n: usize,
) {
    let len = n * w.len();
    let at = [dx.first(len, "dx"), dy.first(len, "dy"), x.first(len, "x"), rstd.first(n, "rstd")];
    let kernels = ["rms_norm_backward_narrow", "rms_norm_backward"];
    backward_by(cuda, kernels, at, dw, w, n, |norm| RowsBackward { norm, rounded });
}

/// The same by other kernels, for rows of a pack a thread and for others, whose parameters are made of these.
pub(crate) fn backward_by<P: Params>(
    cuda: &Cuda,
    [narrow, any]: [&'static str; 2],
    [dx, dy, x, rstd]: [Address; 4],
    dw: Option<&mut Memory<f32>>,
    w: &Memory<f32>,
    n: usize,
    params: impl FnOnce(NormBackward) -> P,
) {
    let features = w.len();
    let wide = wide(&[features]);
    let packs = packs(features, wide);
    let shift = shift(packs, HELD[1]);
    let groups = THREADS >> shift;
    let chunk = (CHUNK_LEN / features).next_power_of_two().clamp(groups, 1024);
    let chunks = n.div_ceil(chunk);
    let sums = dw.as_ref().map(|_| cuda.scratch::<f32>(chunks * features));
    let norm = NormBackward {
        dx,
        chunks: sums.as_ref().map_or(0, |sums| sums.at(0)),
        dy,
        x,
        w: w.at(0),
        rstd,
        n: n as u64,
        features: features as u32,
        shift,
        chunk: chunk as u32,
        wide: wide.into(),
    };
    let kernel = if packs <= 1 << shift { narrow } else { any };
    let shared = SUMS + groups * features * size_of::<f32>();
    cuda.launch(kernel, [chunks, 1, 1], THREADS, shared, params(norm));
    if let (Some(dw), Some(sums)) = (dw, sums) {
        add_rows(cuda, dw.first(features, "dw"), sums.at(0), features, chunks);
    }
}
