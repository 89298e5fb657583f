//! Products in FP8, emulated, as `Backend::linear_forward` defines them: of whole matrices, or of copies by those of their experts.

use koan_backend::{Matrix, Store, fp8::BLOCK};

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    memory::{Bf16, Memory},
    ops::{product::word, route::Routes},
};

params! {
    /// Rows, rounded with a scale for each row and 128 features.
    struct Fp8Rows { x: Address, codes: Address, scales: Address, restored: Address, n: u64, features: u32, blocks: u32 }
}

params! {
    /// Matrices, rounded with a scale for each 128 × 128.
    struct Fp8Squares { w: Address, codes: Address, scales: Address, out: u32, inp: u32 }
}

params! {
    /// Rows, rounded with a scale for each feature and 128 rows.
    struct Fp8Columns {
        x: Address, values: Address, codes: Address, scales: Address, starts: Address,
        n: u32, features: u32, experts: u32, unused: u32,
    }
}

params! {
    /// A product of codes.
    struct Fp8Product {
        a: Address, b: Address, c: Address, a_scales: Address, b_scales: Address, starts: Address,
        experts: u32, m: u32, n: u32, k: u32, add: u32, paired: u32,
        a_index: u32, a_block: u32, b_shift: u32, b_index: u32, b_block: u32, b_matrix: u32,
    }
}

/// Rows and columns of a block's tile.
const TILE: usize = 64;
/// Bytes of the stages of a block's tile.
const SHARED: usize = 4 * 2 * TILE * 64 * 2;
/// By what index elements share the scale of a square: 128 of them.
const SQUARE: u32 = BLOCK.ilog2();

/// Numbers of E4M3, which bf16 holds exactly, and their scales.
struct Codes {
    codes: Memory<Bf16>,
    scales: Memory<f32>,
}

impl Codes {
    fn new(cuda: &Cuda, len: usize, scales: usize) -> Self {
        Self { codes: cuda.scratch(len), scales: cuda.scratch(scales) }
    }
}

/// How many squares of 128 × 128 matrices have.
pub(crate) fn squares_of([matrices, out, inp]: [usize; 3]) -> usize {
    matrices * out.div_ceil(BLOCK) * inp.div_ceil(BLOCK)
}

/// Rounds matrices `w`; scales are `[matrices, blocks of out, blocks of inp]`.
pub(crate) fn squares(cuda: &Cuda, codes: Address, scales: Address, w: Address, shape: [usize; 3]) {
    let [matrices, out, inp] = shape;
    let grid = [squares_of([1, out, inp]), matrices, 1];
    let params = Fp8Squares { w, codes, scales, out: word(out), inp: word(inp) };
    cuda.launch("fp8_squares", grid, 256, 32, params);
}

/// Rounds rows of bf16; scales are `[n, blocks of features]`. What they then stand for goes to `restored`.
fn rows(cuda: &Cuda, x: Address, [n, features]: [usize; 2], restored: Option<&Memory<f32>>) -> Codes {
    let blocks = features.div_ceil(BLOCK);
    let rounded = Codes::new(cuda, n * features, n * blocks);
    let params = Fp8Rows {
        x,
        codes: rounded.codes.at(0),
        scales: rounded.scales.at(0),
        restored: restored.map_or(0, |restored| restored.first(n * features, "restored")),
        n: n as u64,
        features: word(features),
        blocks: word(blocks),
    };
    cuda.launch("fp8_rows", [(n * blocks).div_ceil(8), 1, 1], 256, 0, params);
    rounded
}

/// Elements by rows, to be rounded by columns.
enum Source<'a> {
    Rounded(Address),
    Values(&'a Memory<f32>),
}

/// Rounds the columns of rows, 128 rows at a time, with experts of each expert's copies; scales are `[slots, features]`.
fn columns(cuda: &Cuda, x: Source<'_>, [n, features]: [usize; 2], routes: Option<&Routes>) -> Codes {
    let experts = routes.map_or(0, |routes| routes.experts);
    let blocks = n.div_ceil(BLOCK) + experts;
    let rounded = Codes::new(cuda, n * features, (blocks + 1) * features);
    let (x, values) = match x {
        Source::Rounded(x) => (x, 0),
        Source::Values(values) => (0, values.first(n * features, "values")),
    };
    let params = Fp8Columns {
        x,
        values,
        codes: rounded.codes.at(0),
        scales: rounded.scales.at(0),
        starts: starts_of(routes),
        n: word(n),
        features: word(features),
        experts: word(experts),
        unused: 0,
    };
    cuda.launch("fp8_columns", [blocks * features.div_ceil(BLOCK), 1, 1], BLOCK, 0, params);
    rounded
}

fn starts_of(routes: Option<&Routes>) -> Address {
    routes.map_or(0, |routes| routes.starts.first(routes.experts + 1, "starts"))
}

/// The codes of matrices, as they are held or made for one product, and where they lie.
fn weights(cuda: &Cuda, w: &Matrix<Cuda>) -> (Option<Codes>, [Address; 2]) {
    let [out, inp] = w.shape();
    let shape = [w.matrices(), out, inp];
    let (len, of_scales) = (shape.iter().product(), squares_of(shape));
    if let Some(packed) = w.packed() {
        return (None, [packed.values.first(len, "w"), packed.scales.first(of_scales, "scales")]);
    }
    let made = Codes::new(cuda, len, of_scales);
    let at = [made.codes.at(0), made.scales.at(0)];
    squares(cuda, at[0], at[1], w.values.first(len, "w"), shape);
    (Some(made), at)
}

/// Launches a product; `aligned` are the sizes of the operands' rows.
fn launch(
    cuda: &Cuda,
    kernels: [&'static str; 2],
    grid: [usize; 2],
    aligned: [usize; 2],
    product: Fp8Product,
) {
    let chunks = aligned.iter().all(|row| row.is_multiple_of(8));
    let kernel = kernels[usize::from(!chunks)];
    cuda.launch(kernel, [grid[0], grid[1], 1], 128, SHARED, product);
}

/// Tiles of rows: with experts, at most so many.
fn tiles_of(n: usize, routes: Option<&Routes>) -> usize {
    n.div_ceil(TILE) + routes.map_or(0, |routes| routes.experts)
}

/// `y = x Wᵀ`, or `+=`; x bf16 `[n, inp]`.
pub(crate) fn forward(
    cuda: &Cuda,
    y: Address,
    x: Address,
    w: &Matrix<Cuda>,
    n: usize,
    routes: Option<&Routes>,
    store: Store,
) {
    let ([out, inp], (_made, [codes, squares])) = (w.shape(), weights(cuda, w));
    if n == 0 {
        return;
    }
    let x = rows(cuda, x, [n, inp], None);
    let blocks = inp.div_ceil(BLOCK);
    let product = Fp8Product {
        a: x.codes.at(0),
        b: codes,
        c: y,
        a_scales: x.scales.at(0),
        b_scales: squares,
        starts: starts_of(routes),
        experts: word(w.matrices()),
        m: word(n),
        n: word(out),
        k: word(inp),
        add: (store == Store::Add).into(),
        paired: out.is_multiple_of(2).into(),
        a_index: word(blocks),
        a_block: 1,
        b_shift: SQUARE,
        b_index: word(blocks),
        b_block: 1,
        b_matrix: word(squares_of([1, out, inp])),
    };
    let grid = [tiles_of(n, routes) * out.div_ceil(TILE), 1];
    launch(cuda, ["fp8_forward", "fp8_forward_elements"], grid, [inp; 2], product);
}

/// `dx = dy W`, or `+=`; dy bf16 `[n, out]`.
pub(crate) fn backward_input(
    cuda: &Cuda,
    dx: Address,
    dy: Address,
    w: &Matrix<Cuda>,
    n: usize,
    routes: Option<&Routes>,
    store: Store,
) {
    let ([out, inp], (_made, [codes, squares])) = (w.shape(), weights(cuda, w));
    if n == 0 {
        return;
    }
    let dy = rows(cuda, dy, [n, out], None);
    let product = Fp8Product {
        a: dy.codes.at(0),
        b: codes,
        c: dx,
        a_scales: dy.scales.at(0),
        b_scales: squares,
        starts: starts_of(routes),
        experts: word(w.matrices()),
        m: word(n),
        n: word(inp),
        k: word(out),
        add: (store == Store::Add).into(),
        paired: inp.is_multiple_of(2).into(),
        a_index: word(out.div_ceil(BLOCK)),
        a_block: 1,
        b_shift: SQUARE,
        b_index: 1,
        b_block: word(inp.div_ceil(BLOCK)),
        b_matrix: word(squares_of([1, out, inp])),
    };
    let grid = [tiles_of(n, routes) * inp.div_ceil(TILE), 1];
    launch(cuda, ["fp8_backward_input", "fp8_backward_input_elements"], grid, [out, inp], product);
}

/// `dW += dyᵀ x`; dy bf16 `[n, out]`, x bf16 `[n, inp]`.
pub(crate) fn backward_weight(
    cuda: &Cuda,
    dw: Address,
    [dy, x]: [Address; 2],
    [n, out, inp]: [usize; 3],
    routes: Option<&Routes>,
) {
    if n == 0 {
        return;
    }
    // The forward had the rows rounded: what is rounded by columns is that.
    let restored = cuda.scratch(n * inp);
    rows(cuda, x, [n, inp], Some(&restored));
    let x = columns(cuda, Source::Values(&restored), [n, inp], routes);
    let dy = columns(cuda, Source::Rounded(dy), [n, out], routes);
    let experts = routes.map_or(1, |routes| routes.experts);
    let product = Fp8Product {
        a: dy.codes.at(0),
        b: x.codes.at(0),
        c: dw,
        a_scales: dy.scales.at(0),
        b_scales: x.scales.at(0),
        starts: starts_of(routes),
        experts: word(experts),
        m: word(out),
        n: word(inp),
        k: word(n),
        add: 1,
        paired: inp.is_multiple_of(2).into(),
        a_index: 1,
        a_block: word(out),
        b_shift: 0,
        b_index: 1,
        b_block: word(inp),
        b_matrix: 0,
    };
    let grid = [out.div_ceil(TILE) * inp.div_ceil(TILE), experts];
    launch(cuda, ["fp8_backward_weight", "fp8_backward_weight_elements"], grid, [out, inp], product);
}
