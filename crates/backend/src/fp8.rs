//! FP8 as DeepSeek-V3 was trained in (arXiv:2412.19437, section 3.3): E4M3 codes of one sign bit, four exponent bits and three
//! mantissa bits (arXiv:2209.05433), with one f32 scale for every block of [`BLOCK`] elements.
//!
//! E4M3 holds the multiples of 2⁻⁹ up to 2⁻⁶, and from there three digits after the leading one, up to [`MAX`]. It has no
//! infinity; the codes 0x7f and 0xff are NaN. A number `x` of a block whose largest magnitude is `amax` is kept as the code
//! of `x / scale`, with `scale = amax / 448`, and is read back as `code · scale`.

/// The largest number of E4M3.
pub const MAX: f32 = 448.0;
/// Elements that share a scale: of a row of activations, or the side of a square of a weight matrix.
pub const BLOCK: usize = 128;
/// The smallest number with all three digits. Below it, E4M3 holds the multiples of 2⁻⁹.
const MIN_NORMAL: f32 = 1.0 / 64.0;

/// `x` rounded to the nearest number of E4M3, of two equally near ones to that with an even last digit. What is beyond
/// [`MAX`] becomes `MAX`; the sign of zero and NaN stay.
#[inline(always)]
#[must_use]
pub fn round(x: f32) -> f32 {
    const EXPONENT: u32 = 0x7f80_0000;
    let clamped = x.clamp(-MAX, MAX);
    // 2ᵉ ≤ |x| < 2ᵉ⁺¹. Numbers around 1.5 · 2ᵉ⁺²⁰ are spaced by 2ᵉ⁻³, as E4M3 is there: the sum is rounded to it.
    let power = f32::from_bits(clamped.to_bits() & EXPONENT).max(MIN_NORMAL);
    let shift = power * (1.5 * (1 << 20) as f32);
    ((clamped + shift) - shift).copysign(x)
}

/// The code of `x`, rounded as [`round`] does.
#[inline(always)]
#[must_use]
pub fn to_bits(x: f32) -> u8 {
    let rounded = round(x);
    let sign = (rounded.to_bits() >> 24 & 0x80) as u8;
    let magnitude = rounded.abs();
    if magnitude.is_nan() {
        sign | 0x7f
    } else if magnitude < MIN_NORMAL {
        sign | (magnitude * 512.0) as u8
    } else {
        // The exponent's bias is 127 in f32, 7 here.
        sign | ((magnitude.to_bits() >> 20) - (120 << 3)) as u8
    }
}

/// The number that a code stands for.
#[inline(always)]
#[must_use]
pub const fn from_bits(code: u8) -> f32 {
    let (exponent, mantissa) = ((code >> 3 & 15) as u32, (code & 7) as u32);
    let magnitude = match (exponent, mantissa) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa as f32 / 512.0,
        _ => f32::from_bits((exponent + 120) << 23 | mantissa << 20),
    };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The scale of a block whose largest magnitude is `amax`: `amax / 448`, or 1 where all are zero. It is a normal number, so
/// that to divide by it loses no digits. NaN stays.
#[inline(always)]
#[must_use]
pub fn scale(amax: f32) -> f32 {
    if amax == 0.0 { 1.0 } else { (amax / MAX).clamp(f32::MIN_POSITIVE, f32::INFINITY) }
}

/// The largest magnitude of `x`, 0 of nothing, NaN where one is.
#[inline(always)]
#[must_use]
pub fn largest(x: &[f32]) -> f32 {
    // Magnitudes are ordered as their bits are, and NaN is above all.
    f32::from_bits(x.iter().fold(0, |most, x| most.max(x.to_bits() & 0x7fff_ffff)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All finite magnitudes by the definition, ascending: the index is the code.
    fn magnitudes() -> Vec<f64> {
        let of = |code: u32| match (code >> 3, f64::from(code & 7)) {
            (0, m) => m * 2f64.powi(-9),
            (e, m) => (1.0 + m / 8.0) * 2f64.powi(e as i32 - 7),
        };
        (0..127).map(of).collect()
    }

    #[test]
    fn all_codes_stand_for_what_the_definition_says_and_come_back() {
        for (code, magnitude) in magnitudes().into_iter().enumerate() {
            let code = code as u8;
            for (code, value) in [(code, magnitude), (code | 0x80, -magnitude)] {
                assert_eq!(f64::from(from_bits(code)), value, "{code:#x}");
                assert_eq!(to_bits(from_bits(code)), code, "{code:#x}: the sign of zero too");
                assert_eq!(round(from_bits(code)).to_bits(), from_bits(code).to_bits(), "{code:#x}");
            }
        }
        for code in [0x7f, 0xff] {
            assert!(from_bits(code).is_nan() && round(from_bits(code)).is_nan());
            assert_eq!(to_bits(f32::NAN) & 0x7f, 0x7f);
        }
    }

    #[test]
    fn rounding_is_to_nearest_and_of_two_equally_near_to_even() {
        let all = magnitudes();
        for (code, pair) in all.windows(2).enumerate() {
            let [low, high] = [pair[0], pair[1]];
            let middle = f64::midpoint(low, high);
            let even = if code % 2 == 0 { low } else { high };
            let below = (middle as f32).next_down();
            let above = (middle as f32).next_up();
            assert_eq!(f64::from(middle as f32), middle, "a middle is an f32");
            for sign in [1.0, -1.0] {
                let wanted = [(below, low), (middle as f32, even), (above, high), (low as f32, low)];
                for (x, wanted) in wanted {
                    assert_eq!(f64::from(round(sign * x)), f64::from(sign) * wanted, "{x}");
                    assert_eq!(from_bits(to_bits(sign * x)), round(sign * x), "{x}");
                }
            }
        }
    }

    #[test]
    fn what_is_beyond_the_largest_is_the_largest() {
        for x in [448.0, 448.000_03, 464.0, 465.0, 1e10, f32::MAX, f32::INFINITY] {
            assert_eq!((round(x), round(-x)), (448.0, -448.0));
            assert_eq!((to_bits(x), to_bits(-x)), (0x7e, 0xfe));
        }
    }

    #[test]
    fn scales_are_positive_and_bring_the_largest_to_the_end_of_the_range() {
        assert_eq!((scale(0.0), scale(448.0), scale(-0.0)), (1.0, 1.0, 1.0));
        assert!(scale(f32::NAN).is_nan());
        for amax in [1e-45, f32::MIN_POSITIVE, 1e-30, 0.3, 7.0, f32::MAX] {
            let scale = scale(amax);
            assert!(scale.is_normal() && scale > 0.0, "{amax:e}");
            if amax >= 448.0 * f32::MIN_POSITIVE {
                assert_eq!(round(amax / scale), MAX, "{amax:e}");
            }
        }
        assert_eq!(largest(&[]), 0.0);
        assert_eq!(largest(&[1.0, -3.5, 2.0, -0.0]), 3.5);
        assert!(largest(&[1.0, f32::NAN, f32::INFINITY]).is_nan());
    }
}
