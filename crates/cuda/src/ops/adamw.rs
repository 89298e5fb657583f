//! AdamW, and sums of squares.

use koan_backend::{AdamWStep, MomentType, OutOfMemory};

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    memory::{Bf16, Memory},
    ops::rows::PACK,
};

/// Elements whose squares a block sums: CHUNK of the kernels.
const CHUNK: usize = 16_384;
/// Threads of a block that sums squares, and bytes of shared memory that it takes.
const SUMMING: (usize, usize) = (256, 256 * size_of::<f64>());

/// A moment of AdamW.
#[derive(Debug)]
pub enum Moment {
    /// As it was computed.
    F32(Memory<f32>),
    /// Rounded stochastically.
    Bf16(Memory<Bf16>),
}

impl Moment {
    pub(crate) fn zeros(cuda: &Cuda, len: usize, kind: MomentType) -> Result<Self, OutOfMemory> {
        Ok(match kind {
            MomentType::F32 => Self::F32(Memory::zeros(&cuda.device, len)?),
            MomentType::Bf16 => Self::Bf16(Memory::zeros(&cuda.device, len)?),
        })
    }

    /// Kept in bf16, it holds the upper half of each value.
    pub(crate) fn upload(cuda: &Cuda, values: &[f32], kind: MomentType) -> Result<Self, OutOfMemory> {
        Ok(match kind {
            MomentType::F32 => Self::F32(Memory::upload(&cuda.device, values)?),
            MomentType::Bf16 => {
                let upper: Vec<_> = values.iter().map(|x| Bf16((x.to_bits() >> 16) as u16)).collect();
                Self::Bf16(Memory::upload(&cuda.device, &upper)?)
            }
        })
    }

    pub(crate) fn read(&self) -> Vec<f32> {
        match self {
            Self::F32(x) => x.read(x.len()),
            Self::Bf16(x) => {
                x.read(x.len()).into_iter().map(|x| f32::from_bits(u32::from(x.0) << 16)).collect()
            }
        }
    }
}

params! {
    /// One step; `rounded` where moments are bf16.
    struct AdamW {
        w: Address, m: Address, v: Address, g: Address, n: u64,
        lr: f32, beta1: f32, beta2: f32, rest1: f32, rest2: f32, eps: f32, weight_decay: f32, grad_scale: f32,
        correction1: f32, correction2: f32, rounding_key: u32, rounded: u32,
    }
}
params! {
    /// Sums of each buffer and of each chunk; the table holds addresses, lengths and first chunks of `count` buffers.
    struct Squares { sums: Address, chunks: Address, table: Address, count: u64 }
}

/// Σ x² of each buffer, in f64: of chunks of elements, then of their sums. One wait, for all.
pub(crate) fn sums_of_squares(cuda: &Cuda, buffers: &[&Memory<f32>]) -> Vec<f64> {
    let mut chunks = 0;
    let starts: Vec<u64> = std::iter::once(0)
        .chain(buffers.iter().map(|buffer| {
            chunks += buffer.len().div_ceil(CHUNK);
            chunks as u64
        }))
        .collect();
    let (addresses, lengths) = (buffers.iter().map(|x| x.at(0)), buffers.iter().map(|x| x.len() as u64));
    let table: Vec<u64> = addresses.chain(lengths).chain(starts).collect();
    let on_device = cuda.scratch::<u64>(table.len());
    on_device.write(&table);
    let (sums, parts) = (cuda.scratch::<f64>(buffers.len()), cuda.scratch::<f64>(chunks));
    let params = Squares {
        sums: sums.at(0),
        chunks: parts.at(0),
        table: on_device.at(0),
        count: buffers.len() as u64,
    };
    let (threads, shared) = SUMMING;
    cuda.launch("squares_of_chunks", [chunks, 1, 1], threads, shared, params);
    cuda.launch("sums_of_chunks", [buffers.len(), 1, 1], threads, shared, params);
    sums.read(buffers.len())
}

/// One step on `w` and its moments, all as long as `g`.
pub(crate) fn step(
    cuda: &Cuda,
    w: &mut Memory<f32>,
    m: &mut Moment,
    v: &mut Moment,
    g: &Memory<f32>,
    step: AdamWStep,
) {
    let n = g.len();
    assert_eq!(w.len(), n, "weights and gradient of one length");
    let (m, v, rounded) = match (m, v) {
        (Moment::F32(m), Moment::F32(v)) => (m.first(n, "m"), v.first(n, "v"), false),
        (Moment::Bf16(m), Moment::Bf16(v)) => (m.first(n, "m"), v.first(n, "v"), true),
        _ => panic!("moments of two types"),
    };
    let params = AdamW {
        w: w.at(0),
        m,
        v,
        g: g.at(0),
        n: n as u64,
        lr: step.lr,
        beta1: step.beta1,
        beta2: step.beta2,
        rest1: 1.0 - step.beta1,
        rest2: 1.0 - step.beta2,
        eps: step.eps,
        weight_decay: step.weight_decay,
        grad_scale: step.grad_scale,
        correction1: step.bias_correction1,
        correction2: step.bias_correction2,
        rounding_key: step.rounding_key,
        rounded: rounded.into(),
    };
    cuda.for_each("adamw_step", n.div_ceil(PACK), params);
}
