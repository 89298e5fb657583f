//! Products of whole matrices, and the form of matrices that they read.
//!
//! Every kernel gives the same bits (`kernels/product.h` says in which order it sums), so the choice between them goes by time alone.

mod call;
mod kernels;

use koan_backend::{Matrix, OutOfMemory, ProductPrecision, Store};

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    memory::{Bf16, Memory},
    ops::{fp8, operand::Operand},
};

pub use self::kernels::Layout;
pub(crate) use self::{
    call::{CHUNK, Call, GROUP, Hopper, word},
    kernels::{Kernel, kernel},
};

params! {
    /// `y = x`, rounded.
    struct PackValues { y: Address, x: Address, n: u64 }
}

/// `y = x wᵀ`, or `+=`: y f32 [n, out], x bf16 [n, in], w bf16 [out, in]; `[n, out, in] = sizes`.
pub(crate) fn forward(cuda: &Cuda, y: Address, x: Address, w: Address, sizes: [usize; 3], store: Store) {
    Call { layout: Layout::Forward, c: y, a: x, b: w, sizes, store }.run(cuda);
}

/// `dx = dy w`, or `+=`: dx f32 [n, in], dy bf16 [n, out], w bf16 [out, in]; `[n, out, in] = sizes`.
pub(crate) fn backward_input(
    cuda: &Cuda,
    dx: Address,
    dy: Address,
    w: Address,
    [n, out, inp]: [usize; 3],
    store: Store,
) {
    Call { layout: Layout::BackwardInput, c: dx, a: dy, b: w, sizes: [n, inp, out], store }.run(cuda);
}

/// `dw += dyᵀ x`: dw f32 [out, in], dy bf16 [n, out], x bf16 [n, in]; `[n, out, in] = sizes`.
pub(crate) fn backward_weight(cuda: &Cuda, dw: Address, dy: Address, x: Address, [n, out, inp]: [usize; 3]) {
    let (layout, sizes) = (Layout::BackwardWeight, [out, inp, n]);
    Call { layout, c: dw, a: dy, b: x, sizes, store: Store::Add }.run(cuda);
}

/// Weight matrices in the form that products read: bf16, row-major; for FP8 the codes in bf16, and their scales.
#[derive(Debug)]
pub struct Packed {
    pub(crate) values: Memory<Bf16>,
    /// `[matrices, blocks of out, blocks of in]`, or nothing.
    pub(crate) scales: Memory<f32>,
    /// `[matrices, out_features, in_features]`
    pub(crate) shape: [usize; 3],
    precision: ProductPrecision,
}

impl Packed {
    pub(crate) fn bytes(shape: [usize; 3], precision: ProductPrecision) -> usize {
        let scales = Memory::<f32>::bytes(scales_of(shape, precision));
        Memory::<Bf16>::bytes(len_of(shape)).saturating_add(scales)
    }

    pub(crate) fn new(
        cuda: &Cuda,
        shape: [usize; 3],
        precision: ProductPrecision,
    ) -> Result<Self, OutOfMemory> {
        let values = cuda.new_memory(len_of(shape))?;
        Ok(Self { values, scales: cuda.new_memory(scales_of(shape, precision))?, shape, precision })
    }

    pub(crate) fn fill(&mut self, cuda: &Cuda, w: &Memory<f32>) {
        let len = len_of(self.shape);
        let (values, w) = (self.values.first(len, "packed"), w.first(len, "w"));
        match self.precision {
            ProductPrecision::Device | ProductPrecision::Int8 => pack_values(cuda, values, w, len),
            ProductPrecision::Fp8 => fp8::squares(cuda, values, self.scales.at(0), w, self.shape),
        }
    }
}

fn scales_of(shape: [usize; 3], precision: ProductPrecision) -> usize {
    match precision {
        ProductPrecision::Device | ProductPrecision::Int8 => 0,
        ProductPrecision::Fp8 => fp8::squares_of(shape),
    }
}

fn len_of(shape: [usize; 3]) -> usize {
    shape.iter().fold(1, |len: usize, n| len.saturating_mul(*n))
}

/// `y = x`, rounded to nearest even.
fn pack_values(cuda: &Cuda, y: Address, x: Address, n: usize) {
    cuda.for_each("pack_values", n.div_ceil(8), PackValues { y, x, n: n as u64 });
}

/// Matrices as products read them.
pub(crate) enum Rounded<'a> {
    /// As they are held.
    Held(&'a Memory<Bf16>),
    /// Rounded for one product.
    Made(Memory<Bf16>),
}

impl<'a> Rounded<'a> {
    /// All matrices of `w`.
    pub(crate) fn of(cuda: &Cuda, w: &'a Matrix<Cuda>) -> Self {
        let [out, inp] = w.shape();
        let len = w.matrices() * out * inp;
        if let Some(packed) = w.packed() {
            return Self::Held(&packed.values);
        }
        let made = cuda.scratch(len);
        pack_values(cuda, made.first(len, "w"), w.values.first(len, "w"), len);
        Self::Made(made)
    }

    /// Where `len` elements begin.
    pub(crate) fn first(&self, len: usize) -> Address {
        match self {
            Self::Held(values) => values.first(len, "w"),
            Self::Made(values) => values.first(len, "w"),
        }
    }
}

pub(crate) fn linear_forward(
    cuda: &Cuda,
    y: &mut Memory<f32>,
    x: &Operand,
    w: &Matrix<Cuda>,
    n: usize,
    store: Store,
) {
    let [out, inp] = w.shape();
    let (y, x) = (y.first(n * out, "y"), x.rounded.first(n * inp, "x"));
    match w.precision() {
        ProductPrecision::Device | ProductPrecision::Int8 => {
            let weights = Rounded::of(cuda, w);
            forward(cuda, y, x, weights.first(out * inp), [n, out, inp], store);
        }
        ProductPrecision::Fp8 => fp8::forward(cuda, y, x, w, n, None, store),
    }
}

pub(crate) fn linear_backward_input(
    cuda: &Cuda,
    dx: &mut Memory<f32>,
    dy: &Operand,
    w: &Matrix<Cuda>,
    n: usize,
    store: Store,
) {
    let [out, inp] = w.shape();
    let (dx, dy) = (dx.first(n * inp, "dx"), dy.rounded.first(n * out, "dy"));
    match w.precision() {
        ProductPrecision::Device | ProductPrecision::Int8 => {
            let weights = Rounded::of(cuda, w);
            backward_input(cuda, dx, dy, weights.first(out * inp), [n, out, inp], store);
        }
        ProductPrecision::Fp8 => fp8::backward_input(cuda, dx, dy, w, n, None, store),
    }
}

pub(crate) fn linear_backward_weight(
    cuda: &Cuda,
    dw: &mut Memory<f32>,
    dy: &Operand,
    x: &Operand,
    n: usize,
    [out, inp]: [usize; 2],
    precision: ProductPrecision,
) {
    let (dy, x) = (dy.rounded.first(n * out, "dy"), x.rounded.first(n * inp, "x"));
    let dw = dw.first(out * inp, "dw");
    match precision {
        ProductPrecision::Device | ProductPrecision::Int8 => backward_weight(cuda, dw, dy, x, [n, out, inp]),
        ProductPrecision::Fp8 => fp8::backward_weight(cuda, dw, [dy, x], [n, out, inp], None),
    }
}
