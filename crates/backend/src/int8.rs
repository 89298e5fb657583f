//! Weights in 8 bits, in blocks like those of GGUF's Q8_0: of each row of a matrix, 32 weights one after the other share a scale.
//!
//! A weight of a block whose largest magnitude is `amax` becomes `q · d`, with `d = amax / 127` and `q` the integer nearest to `w / d`. `d` is kept
//! to 16 binary digits, so that `q · d` is exact, and rounding again changes nothing; Q8_0 keeps eleven, so weights that were in that format stay
//! what they are.

/// Weights that share a scale.
pub const BLOCK: usize = 32;
/// The largest code.
const MAX: f32 = 127.0;

/// The scale of a block: 0 where all weights are zero or too small for one, NaN where one is NaN or infinite.
#[must_use]
pub fn scale(block: &[f32]) -> f32 {
    // Magnitudes are ordered as their bits are, and NaN is above all.
    let amax = f32::from_bits(block.iter().fold(0, |most, w| most.max(w.to_bits() & 0x7fff_ffff)));
    let d = amax / MAX;
    if !d.is_finite() {
        f32::NAN
    } else if d < f32::MIN_POSITIVE {
        0.0
    } else {
        f32::from_bits((d.to_bits() + 0x80) & !0xff)
    }
}

/// The code of `w` in a block of scale `d`.
#[inline(always)]
#[must_use]
pub fn code(w: f32, d: f32) -> i8 {
    // Numbers around 1.5 · 2²³ are spaced by 1: the sum is rounded to nearest, ties to even, without a call of a library. NaN becomes 0, and 0 / 0
    // is NaN.
    const SHIFT: f32 = 12_582_912.0;
    ((w / d + SHIFT) - SHIFT) as i8
}

/// Rounds the rows, of `len` weights each, in place.
pub fn round(rows: &mut [f32], len: usize) {
    if len == 0 {
        return;
    }
    for block in rows.chunks_exact_mut(len).flat_map(|row| row.chunks_mut(BLOCK)) {
        let d = scale(block);
        for w in block {
            *w = f32::from(code(*w, d)) * d;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_block_by_hand() {
        let mut w = [0.0; 40];
        (w[0], w[1], w[2], w[3]) = (127.0, -1.4, 0.5, 1.5);
        w[32] = 2.54; // another block
        round(&mut w, 40);
        assert_eq!(w[..4], [127.0, -1.0, 0.0, 2.0]);
        assert!((w[32] - 2.54).abs() < 1e-4 && w[33] == 0.0);
        let mut odd = [f32::MIN_POSITIVE, f32::NAN, 127.0, f32::INFINITY];
        round(&mut odd, 1);
        assert!(odd[0] == 0.0 && odd[1].is_nan() && odd[2] == 127.0 && odd[3].is_nan(), "{odd:?}");
        round(&mut [], 0);
    }

    #[test]
    fn weights_of_q8_0_stay() {
        // f16's eleven digits, and a code of 127 in each block.
        for d in [1.0 + 1.0 / 1024.0, 1.0 / 8192.0, 0.75] {
            let w: Vec<f32> = (-127..=128).step_by(8).map(|q| (q as f32).min(127.0) * d).collect();
            let mut rounded = w.clone();
            round(&mut rounded, w.len());
            assert_eq!(rounded, w);
        }
    }

    proptest! {
        #[test]
        fn the_error_is_half_a_step_and_rounding_again_changes_nothing(
            w in prop::collection::vec(-1e3f32..1e3, 1..100), power in -30i32..30
        ) {
            let w: Vec<f32> = w.into_iter().map(|w| w * 2f32.powi(power)).collect();
            let mut once = w.clone();
            round(&mut once, w.len());
            let mut twice = once.clone();
            round(&mut twice, w.len());
            prop_assert_eq!(&once, &twice);
            for (w, once) in w.chunks(BLOCK).zip(once.chunks(BLOCK)) {
                let d = scale(w);
                for (w, once) in w.iter().zip(once) {
                    prop_assert!((w - once).abs() <= 0.501 * d + f32::MIN_POSITIVE, "{} {} {}", w, once, d);
                }
            }
        }
    }
}
