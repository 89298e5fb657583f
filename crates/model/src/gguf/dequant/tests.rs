//! Each format against its formula in ggml, one element at a time, on blocks of arbitrary bytes.

use super::*;

/// A block of arbitrary bytes that starts with `d` and, if it has one, `m`.
fn block(kind: TensorType, d: f32, m: f32) -> Vec<u8> {
    let mut state = 12_345_u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut block: Vec<u8> = (0..kind.block_bytes()).map(|_| byte()).collect();
    let (d, m) = (f16::from_f32(d).to_le_bytes(), f16::from_f32(m).to_le_bytes());
    match kind {
        TensorType::Q6K => block[208..].copy_from_slice(&d),
        _ => block[..4].copy_from_slice(&[d, m].concat()),
    }
    block
}

#[track_caller]
fn check(kind: TensorType, expected: impl Fn(&[u8], usize) -> f32) {
    let bytes = [block(kind, 0.25, -1.5), block(kind, -3.0, 0.125)].concat();
    let mut values = vec![f32::NAN; 2 * kind.block_len()];
    kind.dequantize(&bytes, &mut values);
    for (i, &x) in values.iter().enumerate() {
        let (block, j) = (i / kind.block_len(), i % kind.block_len());
        assert_eq!(x, expected(&bytes[block * kind.block_bytes()..], j), "{kind:?}: value {i}");
    }
}

fn nibble(qs: &[u8], j: usize) -> u8 {
    if j < 16 { qs[j] & 0xF } else { qs[j - 16] >> 4 }
}

fn five(qh: &[u8], qs: &[u8], j: usize) -> u8 {
    let bits = u32::from_le_bytes([qh[0], qh[1], qh[2], qh[3]]);
    nibble(qs, j) + 16 * (bits >> j & 1) as u8
}

#[test]
fn plain_numbers() {
    let mut x = [0.0; 2];
    TensorType::F32.dequantize(&[0, 0, 0x20, 0x41, 0, 0, 0x80, 0xBF], &mut x);
    assert_eq!(x, [10.0, -1.0]);
    TensorType::F16.dequantize(&[0, 0x49, 0, 0xBC], &mut x);
    assert_eq!(x, [10.0, -1.0]);
    TensorType::Bf16.dequantize(&[0x20, 0x41, 0x80, 0xBF], &mut x);
    assert_eq!(x, [10.0, -1.0]);
}

#[test]
fn blocks_of_32() {
    check(TensorType::Q4_0, |b, j| f16_at(b, 0) * (f32::from(nibble(&b[2..], j)) - 8.0));
    check(TensorType::Q4_1, |b, j| f16_at(b, 0) * f32::from(nibble(&b[4..], j)) + f16_at(b, 2));
    check(TensorType::Q5_0, |b, j| f16_at(b, 0) * (f32::from(five(&b[2..], &b[6..], j)) - 16.0));
    check(TensorType::Q5_1, |b, j| f16_at(b, 0) * f32::from(five(&b[4..], &b[8..], j)) + f16_at(b, 2));
    check(TensorType::Q8_0, |b, j| f16_at(b, 0) * f32::from(b[2 + j] as i8));
}

/// The 6-bit numbers of the 12 bytes, unpacked as a whole: eight scales, eight minima.
fn k_scales(s: &[u8]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for j in 0..4 {
        scales[j] = s[j] % 64;
        mins[j] = s[j + 4] % 64;
        scales[j + 4] = s[j + 8] % 16 + s[j] / 64 * 16;
        mins[j + 4] = s[j + 8] / 16 + s[j + 4] / 64 * 16;
    }
    (scales, mins)
}

#[test]
fn blocks_of_256_with_minima() {
    let value = |b: &[u8], j: usize, q: u8| {
        let (scales, mins) = k_scales(&b[4..16]);
        let (scale, min) = (f32::from(scales[j / 32]), f32::from(mins[j / 32]));
        f16_at(b, 0) * scale * f32::from(q) - f16_at(b, 2) * min
    };
    // 64 values share 32 bytes: the first 32 have the low nibbles.
    let nibble = |qs: &[u8], j: usize| {
        let byte = qs[j / 64 * 32 + j % 32];
        if j % 64 < 32 { byte & 0xF } else { byte >> 4 }
    };
    check(TensorType::Q4K, |b, j| value(b, j, nibble(&b[16..], j)));
    check(TensorType::Q5K, |b, j| {
        let fifth = if b[16 + j % 32] & 1 << (j / 32) != 0 { 16 } else { 0 };
        value(b, j, nibble(&b[48..], j) + fifth)
    });
}

#[test]
fn blocks_of_256_without_minima() {
    check(TensorType::Q6K, |b, j| {
        // Each half of the block: 64 low bytes, 32 high bytes, 8 scales, for four quarters of 32 values.
        let (half, l) = (j / 128, j % 32);
        let (ql, qh) = (&b[64 * half..], &b[128 + 32 * half..]);
        let q = match j % 128 / 32 {
            0 => ql[l] & 0xF | (qh[l] & 3) << 4,
            1 => ql[l + 32] & 0xF | (qh[l] >> 2 & 3) << 4,
            2 => ql[l] >> 4 | (qh[l] >> 4 & 3) << 4,
            _ => ql[l + 32] >> 4 | (qh[l] >> 6 & 3) << 4,
        };
        f16_at(b, 208) * f32::from(b[192 + j / 16] as i8) * f32::from(i16::from(q) - 32)
    });
}
