//! Values to ggml's blocks, for the types that are written. Formulas: the reference quantisation of ggml's
//! `ggml-quants.c`, whose bytes these are.

use half::{bf16, f16};
use rayon::prelude::*;

use super::dequant::TensorType;

/// Values that one task converts: whole blocks.
const TASK_LEN: usize = 1 << 16;

impl TensorType {
    /// The bytes of `values`, which are whole blocks.
    ///
    /// # Panics
    /// For a type that is only read.
    pub(super) fn quantize(self, values: &[f32]) -> Vec<u8> {
        let encode = match self {
            Self::F32 => |x: &[f32], out: &mut [u8]| out.copy_from_slice(&x[0].to_le_bytes()),
            Self::F16 => |x: &[f32], out: &mut [u8]| out.copy_from_slice(&f16::from_f32(x[0]).to_le_bytes()),
            Self::Bf16 => {
                |x: &[f32], out: &mut [u8]| out.copy_from_slice(&bf16::from_f32(x[0]).to_le_bytes())
            }
            Self::Q8_0 => q8_0,
            Self::Q4_0 => q4_0,
            other => unreachable!("{other:?} is only read"),
        };
        let mut bytes = vec![0; self.n_bytes(values.len())];
        let tasks = bytes.par_chunks_mut(self.n_bytes(TASK_LEN)).zip(values.par_chunks(TASK_LEN));
        tasks.for_each(|(bytes, values)| {
            let blocks = values.chunks_exact(self.block_len());
            bytes.chunks_exact_mut(self.block_bytes()).zip(blocks).for_each(|(out, x)| encode(x, out));
        });
        bytes
    }
}

/// `1 / d`, or 0 for a block of zeros.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { d.recip() }
}

/// `d, qs[32]` of i8: d = max |x| / 127, q = x / d rounded, halves away from zero.
fn q8_0(x: &[f32], out: &mut [u8]) {
    let d = x.iter().fold(0.0, |max: f32, x| max.max(x.abs())) / 127.0;
    let inverse = inverse(d);
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    out[2..].iter_mut().zip(x).for_each(|(q, x)| *q = ((x * inverse).round() as i8).cast_unsigned());
}

/// `d, qs[16]`: d = x / −8 for the x of greatest magnitude, q = x / d + 8 rounded, at most 15; the first half in low
/// nibbles, the second in high.
fn q4_0(x: &[f32], out: &mut [u8]) {
    let greatest = x.iter().fold(0.0, |max: f32, &x| if x.abs() > max.abs() { x } else { max });
    let d = greatest / -8.0;
    let inverse = inverse(d);
    let q = |x: f32| (x * inverse + 8.5) as u8; // towards zero, and not below it
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (j, byte) in out[2..].iter_mut().enumerate() {
        *byte = q(x[j]).min(15) | q(x[j + 16]).min(15) << 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::random;

    #[test]
    fn what_is_written_reads_back_within_half_a_step() {
        let values: Vec<f32> =
            (0..3 * TASK_LEN as u64 / 2).map(|i| random(1, i) * (0.6 + random(2, i / 32))).collect();
        for kind in [TensorType::F32, TensorType::F16, TensorType::Bf16, TensorType::Q8_0, TensorType::Q4_0] {
            let bytes = kind.quantize(&values);
            let mut again = vec![0.0; values.len()];
            kind.dequantize(&bytes, &mut again);
            for (x, y) in values.chunks(32).zip(again.chunks(32)) {
                let greatest = x.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
                let step = match kind {
                    TensorType::F32 => 0.0,
                    TensorType::F16 => greatest / 1024.0 + 1e-7,
                    TensorType::Bf16 => greatest / 128.0,
                    TensorType::Q8_0 => greatest / 125.0,
                    _ => greatest / 4.0, // of 16 steps, the one at the far end is cut
                };
                let error = x.iter().zip(y).fold(0.0, |max: f32, (x, y)| max.max((x - y).abs()));
                assert!(error <= 0.6 * step, "{kind:?}: {error} of {greatest}");
            }
            assert_eq!(kind.quantize(&again), bytes, "{kind:?}: what was read is written as it was");
        }
    }
}
