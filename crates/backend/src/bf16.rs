//! bf16, the upper half of an f32, rounded stochastically: to the neighbour above or below with the probabilities that keep
//! the mean (Gupta et al., arXiv:1502.02551, section 3).
//!
//! A number that moves by less than half a unit in the last place would stay for ever if it were rounded to nearest. The
//! random bits are a hash of a counter, so that the same step gives the same bits, whatever the threads, and after a resume.

/// The bits of the greatest finite bf16.
const GREATEST: u32 = 0x7f7f_0000;

/// 32 random bits for counter `i` under `key`: the finalizer of MurmurHash3 (Appleby 2011), a bijection.
#[inline(always)]
#[must_use]
pub fn random_bits(key: u32, i: u32) -> u32 {
    let mut x = key ^ i;
    x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
    x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
    x ^ (x >> 16)
}

/// The bits of the bf16 below or above `x` in magnitude, by the lower 16 bits of `random`: above for a share of them that is
/// the share of the way from the one to the other. What is beyond the greatest bf16 is cut, so that no finite number becomes
/// infinite.
#[inline(always)]
#[must_use]
pub fn round(x: f32, random: u32) -> u16 {
    let bits = x.to_bits();
    let carry = if bits & 0x7fff_ffff < GREATEST { random & 0xffff } else { 0 };
    ((bits + carry) >> 16) as u16
}

/// The number that the bits of a bf16 stand for.
#[inline(always)]
#[must_use]
pub fn to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over all random bits the mean is the number itself, exactly.
    #[test]
    fn rounding_keeps_the_mean() {
        for x in [0.0f32, 1.0, -1.0, 0.1, -std::f32::consts::PI, 1.999_999_9, 3.38e38, 1e-30, 1e-39, -7e-45] {
            let mut values: Vec<f64> = (0..1 << 16).map(|r| to_f32(round(x, r)).into()).collect();
            assert_eq!(values.iter().sum::<f64>() / 65536.0, f64::from(x), "{x:e}");
            values.dedup();
            assert!(values.len() <= 2, "{x:e}: {values:?}");
        }
    }

    #[test]
    fn nothing_finite_becomes_infinite() {
        for random in [0, 1, 0x8000, 0xffff, u32::MAX] {
            for (x, want) in [(f32::MAX, 0x7f7f), (f32::MIN, 0xff7f), (f32::INFINITY, 0x7f80)] {
                assert_eq!(round(x, random), want);
            }
            assert!(to_f32(round(f32::NAN, random)).is_nan());
        }
    }

    /// Both halves, over counters and over keys: mean, spread, and no memory of the draw before, each within five deviations.
    #[test]
    fn halves_are_uniform_over_counters_and_keys() {
        const N: usize = 1 << 16;
        let over_counters = |i: u32| random_bits(12345, i);
        let over_keys = |i: u32| random_bits(random_bits(random_bits(0, 3), i), 777);
        for draw in [&over_counters as &dyn Fn(u32) -> u32, &over_keys] {
            for shift in [0, 16] {
                let x: Vec<f64> =
                    (0..N as u32).map(|i| f64::from((draw(i) >> shift) & 0xffff) / 65536.0 - 0.5).collect();
                let mean = x.iter().sum::<f64>() / N as f64;
                let variance = x.iter().map(|x| x * x).sum::<f64>() / N as f64;
                let memory = x.windows(2).map(|x| x[0] * x[1]).sum::<f64>() / N as f64;
                let root = (N as f64).sqrt();
                assert!(mean.abs() < 5.0 * (1.0f64 / 12.0).sqrt() / root, "mean {mean}");
                assert!((variance - 1.0 / 12.0).abs() < 5.0 * (1.0f64 / 180.0).sqrt() / root, "{variance}");
                assert!(memory.abs() < 5.0 / 12.0 / root, "{memory}");
            }
        }
    }
}
