//! Activations that products read: rows of bf16, and their f32 values where other operations read or change them.

use koan_backend::{Keep, OutOfMemory};

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    memory::{Bf16, Memory},
    ops::rows::PACK,
};

/// An operand of products.
#[derive(Debug)]
pub struct Operand {
    pub(crate) rounded: Memory<Bf16>,
    pub(crate) values: Option<Memory<f32>>,
}

params! {
    /// `y[i] = x[i] = x[i] · factor`, `y` rounded.
    struct Round { y: Address, x: Address, n: u64, factor: f32, scaled: u32 }
}

impl Operand {
    /// Of elements that are not defined yet.
    pub(crate) fn new(cuda: &Cuda, len: usize, keep: Keep) -> Result<Self, OutOfMemory> {
        let values = match keep {
            Keep::Operand => None,
            Keep::Values => Some(cuda.new_memory(len)?),
        };
        Ok(Self { rounded: cuda.new_memory(len)?, values })
    }

    pub(crate) fn bytes(len: usize, keep: Keep) -> usize {
        let values = if keep == Keep::Values { Memory::<f32>::bytes(len) } else { 0 };
        Memory::<Bf16>::bytes(len).saturating_add(values)
    }

    /// The values, which must be kept.
    pub(crate) fn values(&self) -> &Memory<f32> {
        self.values.as_ref().expect("an operand that keeps its values")
    }

    pub(crate) fn values_mut(&mut self) -> &mut Memory<f32> {
        self.values.as_mut().expect("an operand that keeps its values")
    }

    /// Where the values of `len` elements begin, or null where none are kept.
    pub(crate) fn values_or_null(&self, len: usize, name: &str) -> Address {
        self.values.as_ref().map_or(0, |values| values.first(len, name))
    }

    pub(crate) fn write(&mut self, values: &[f64]) {
        let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        self.rounded.write(&values.iter().map(|&x| nearest(x)).collect::<Vec<_>>());
        if let Some(kept) = &self.values {
            kept.write(&values);
        }
    }

    pub(crate) fn read(&self, n: usize) -> Vec<f32> {
        self.rounded.read(n).into_iter().map(|x| f32::from_bits(u32::from(x.0) << 16)).collect()
    }
}

/// `x` rounded to nearest even; NaN stays NaN.
fn nearest(x: f32) -> Bf16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return Bf16(0x7fff);
    }
    Bf16(((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16)
}

/// Rounds the first `n` values.
pub(crate) fn round(cuda: &Cuda, x: &mut Operand, n: usize) {
    scaled(cuda, x, None, n);
}

/// Multiplies the first `n` values by `factor`, and rounds them.
pub(crate) fn scale(cuda: &Cuda, x: &mut Operand, factor: f32, n: usize) {
    scaled(cuda, x, Some(factor), n);
}

fn scaled(cuda: &Cuda, x: &mut Operand, factor: Option<f32>, n: usize) {
    let (y, x) = (x.rounded.first(n, "x"), x.values().first(n, "x"));
    let params = Round { y, x, n: n as u64, factor: factor.unwrap_or(1.0), scaled: factor.is_some().into() };
    cuda.for_each("round_values", n.div_ceil(PACK), params);
}
