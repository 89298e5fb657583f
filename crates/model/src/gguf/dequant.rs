//! ggml's tensor types: how a block of bytes becomes values. Formulas: ggml's `ggml-quants.c`.
//!
//! Layouts are little-endian; `d`, `m` and `dmin` are f16. Products are rounded to f32 in ggml's order, so
//! the values equal those of ggml's own dequantisation bit for bit.

use half::{bf16, f16};

/// The types that are read, for messages.
pub(super) const NAMES: &str = "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K";

/// How the values of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TensorType {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

impl TensorType {
    /// The type with ggml's number `code`.
    pub(super) fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// ggml's number of the type.
    pub(super) fn code(self) -> u32 {
        (0..=30).find(|&code| Self::from_code(code) == Some(self)).unwrap_or(0)
    }

    /// Values of a block.
    pub(super) fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub(super) fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of `n_values` values, which are whole blocks. Never more than 4 a value.
    pub(super) fn n_bytes(self, n_values: usize) -> usize {
        n_values / self.block_len() * self.block_bytes()
    }

    /// Writes the values of `bytes` to `out`, which has room for exactly them.
    pub(super) fn dequantize(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(self.n_bytes(out.len()), bytes.len(), "{self:?}: bytes for {} values", out.len());
        let decode = match self {
            Self::F32 => |b: &[u8], x: &mut [f32]| x[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            Self::F16 => |b: &[u8], x: &mut [f32]| x[0] = f16_at(b, 0),
            Self::Bf16 => |b: &[u8], x: &mut [f32]| x[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            Self::Q4_0 => q4_0,
            Self::Q4_1 => q4_1,
            Self::Q5_0 => q5_0,
            Self::Q5_1 => q5_1,
            Self::Q8_0 => q8_0,
            Self::Q4K => q4_k,
            Self::Q5K => q5_k,
            Self::Q6K => q6_k,
        };
        let blocks = bytes.chunks_exact(self.block_bytes());
        blocks.zip(out.chunks_exact_mut(self.block_len())).for_each(|(block, out)| decode(block, out));
    }
}

fn f16_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The low nibbles of all bytes, then their high nibbles.
fn nibbles(packed: &[u8]) -> impl Iterator<Item = u8> {
    packed.iter().map(|b| b & 15).chain(packed.iter().map(|b| b >> 4))
}

/// 5-bit numbers: nibbles, with the fifth bit of the j-th in bit j of `high`.
fn fives(high: &[u8], packed: &[u8]) -> impl Iterator<Item = u8> {
    nibbles(packed).enumerate().map(|(j, low)| low | (high[j / 8] >> (j % 8) & 1) << 4)
}

/// `d, qs[16]`: x = d (q - 8).
fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    out.iter_mut().zip(nibbles(&block[2..])).for_each(|(x, q)| *x = d * (f32::from(q) - 8.0));
}

/// `d, m, qs[16]`: x = d q + m.
fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    out.iter_mut().zip(nibbles(&block[4..])).for_each(|(x, q)| *x = d * f32::from(q) + m);
}

/// `d, qh[4], qs[16]`: x = d (q - 16).
fn q5_0(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    out.iter_mut().zip(fives(&block[2..6], &block[6..])).for_each(|(x, q)| *x = d * (f32::from(q) - 16.0));
}

/// `d, m, qh[4], qs[16]`: x = d q + m.
fn q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    out.iter_mut().zip(fives(&block[4..8], &block[8..])).for_each(|(x, q)| *x = d * f32::from(q) + m);
}

/// `d, qs[32]` of i8: x = d q.
fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    out.iter_mut().zip(&block[2..]).for_each(|(x, q)| *x = d * f32::from(q.cast_signed()));
}

/// The 6-bit scale and minimum of sub-block `j` of eight, packed into 12 bytes.
fn scale_and_min(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
    };
    (scale.into(), min.into())
}

/// `d, dmin, scales[12], qs[128]`, in sub-blocks of 32: x = (d scale) q - dmin min.
/// Each 32 bytes of `qs` hold two sub-blocks: low nibbles, then high nibbles.
fn q4_k(block: &[u8], out: &mut [f32]) {
    k_quants(block, out, |j| block[16 + j / 64 * 32..][..32][j % 32] >> (j / 32 % 2 * 4) & 15);
}

/// `d, dmin, scales[12], qh[32], qs[128]`: as `q4_k`; the fifth bit of value l of sub-block s is bit s of
/// `qh[l]`.
fn q5_k(block: &[u8], out: &mut [f32]) {
    k_quants(block, out, |j| {
        block[48 + j / 64 * 32..][..32][j % 32] >> (j / 32 % 2 * 4) & 15
            | (block[16 + j % 32] >> (j / 32) & 1) << 4
    });
}

/// What `q4_k` and `q5_k` share; `quant` gives the j-th number.
fn k_quants(block: &[u8], out: &mut [f32], quant: impl Fn(usize) -> u8) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    for (s, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(&block[4..16], s);
        let (scale, min) = (d * scale, dmin * min);
        out.iter_mut().enumerate().for_each(|(l, x)| *x = scale * f32::from(quant(32 * s + l)) - min);
    }
}

/// `ql[128], qh[64], scales[16]` of i8, `d`, in sub-blocks of 16: x = (d scale) (q - 32). Half h of the block
/// has `ql[64 h..]`, `qh[32 h..]`; its quarter k has the low four bits of value l in nibble k / 2 of `ql[l +
/// 32 (k % 2)]` and the high two in bits 2 k, 2 k + 1 of `qh[l]`.
fn q6_k(block: &[u8], out: &mut [f32]) {
    let (ql, qh, scales, d) = (&block[..128], &block[128..192], &block[192..208], f16_at(block, 208));
    for (i, x) in out.iter_mut().enumerate() {
        let (h, k, l) = (i / 128, i / 32 % 4, i % 32);
        let low = ql[64 * h + 32 * (k % 2) + l] >> (k / 2 * 4) & 15;
        let q = low | (qh[32 * h + l] >> (2 * k) & 3) << 4;
        *x = d * f32::from(scales[i / 16].cast_signed()) * (f32::from(q) - 32.0);
    }
}

#[cfg(test)]
mod tests;
