//! Binary floating-point numbers of any precision, and the elementary functions of them.

use super::budget::Trouble;
use num_bigint::{BigInt, Sign};
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};
use std::sync::OnceLock;

/// `mantissa · 2^exponent`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Float {
    mantissa: BigInt,
    exponent: i64,
}

/// Extra bits that take up the rounding of every series and squaring below.
const GUARD: u32 = 48;

/// Arguments of exp and of sin and cos beyond 2^40 are not computed.
const MAX_ARGUMENT_LOG2: f64 = 40.0;

/// Exponents further apart than this are not brought together.
const MAX_GAP: i64 = 20_000;

/// π and ln 2 are kept to this many bits, enough for [`MAX_BITS`] of any argument.
const MAX_CONSTANT_BITS: u32 = MAX_BITS + 192;

/// The highest precision, in bits.
pub(crate) const MAX_BITS: u32 = 4096;

impl Float {
    pub(crate) fn zero() -> Self {
        Self { mantissa: BigInt::zero(), exponent: 0 }
    }

    pub(crate) fn from_parts(mantissa: BigInt, exponent: i64) -> Self {
        Self { mantissa, exponent }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.mantissa.is_zero()
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.mantissa.is_negative()
    }

    /// log2 |self| to about 1e-12; -∞ for zero.
    pub(crate) fn log2(&self) -> f64 {
        let bits = self.mantissa.bits();
        if bits == 0 {
            return f64::NEG_INFINITY;
        }
        let shift = bits.saturating_sub(53);
        let top = (self.mantissa.magnitude() >> shift).to_f64().unwrap_or(1.0);
        top.log2() + (shift as i64 + self.exponent) as f64
    }

    /// It, cut to `bits`, and the exponent of a unit in the last place; an exact result has none.
    pub(crate) fn rounded(mut self, bits: u32) -> (Self, Option<i64>) {
        let excess = self.mantissa.bits() as i64 - i64::from(bits);
        if excess <= 0 {
            return (self, None);
        }
        self.mantissa >>= excess;
        self.exponent += excess;
        let ulp = self.exponent;
        (self, Some(ulp))
    }

    /// The exact sum; not computed where the exponents are more than [`MAX_GAP`] apart.
    pub(crate) fn add(&self, other: &Self) -> Result<Self, Trouble> {
        if self.is_zero() {
            return Ok(other.clone());
        }
        if other.is_zero() {
            return Ok(self.clone());
        }
        let (high, low) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        let shift = high.exponent - low.exponent;
        if shift > MAX_GAP {
            return Err(Trouble::Spent);
        }
        Ok(Self { mantissa: (&high.mantissa << shift) + &low.mantissa, exponent: low.exponent })
    }

    pub(crate) fn negated(&self) -> Self {
        Self { mantissa: -&self.mantissa, exponent: self.exponent }
    }

    pub(crate) fn times(&self, other: &Self) -> Self {
        if self.is_zero() || other.is_zero() {
            return Self::zero();
        }
        Self { mantissa: &self.mantissa * &other.mantissa, exponent: self.exponent + other.exponent }
    }

    /// The quotient to a relative error of at most 2^-bits.
    pub(crate) fn divided(&self, other: &Self, bits: u32) -> Self {
        let need = i64::from(bits) + 2 + other.mantissa.bits() as i64 - self.mantissa.bits() as i64;
        let shift = need.max(0);
        Self {
            mantissa: (&self.mantissa << shift) / &other.mantissa,
            exponent: self.exponent - shift - other.exponent,
        }
    }

    /// The square root of a number that is not negative, to a relative error of at most 2^-bits.
    pub(crate) fn sqrt(&self, bits: u32) -> Self {
        let mut shift = (2 * i64::from(bits) + 4 - self.mantissa.bits() as i64).max(0);
        shift += (self.exponent - shift).rem_euclid(2);
        Self { mantissa: (&self.mantissa << shift).sqrt(), exponent: (self.exponent - shift) / 2 }
    }

    /// The quotient `value` to a relative error of at most 2^-bits, and whether it is exact.
    pub(crate) fn from_rational(value: &BigRational, bits: u32) -> (Self, bool) {
        let numerator = Self { mantissa: value.numer().clone(), exponent: 0 };
        if value.denom().is_one() {
            return (numerator, true);
        }
        let denominator = Self { mantissa: value.denom().clone(), exponent: 0 };
        (numerator.divided(&denominator, bits), false)
    }

    /// The largest integer that is not larger.
    pub(crate) fn floor(&self) -> Result<BigInt, Trouble> {
        if self.exponent > MAX_GAP {
            return Err(Trouble::Spent);
        }
        let shift = self.exponent;
        Ok(if shift >= 0 { &self.mantissa << shift } else { &self.mantissa >> -shift })
    }

    /// Fixed point: `self · 2^scale`, rounded down.
    fn to_fixed(&self, scale: u32) -> BigInt {
        let shift = self.exponent + i64::from(scale);
        if shift >= 0 { &self.mantissa << shift } else { &self.mantissa >> -shift }
    }

    /// e^self to a relative error of at most 2^-bits.
    pub(crate) fn exp(&self, bits: u32) -> Result<Self, Trouble> {
        let scale = working_bits(self, bits)?;
        let (mantissa, twos) = exp_fixed(&self.to_fixed(scale), scale);
        Ok(Self { mantissa, exponent: twos - i64::from(scale) })
    }

    /// sin and cos of self, each to an absolute error of at most 2^-bits.
    pub(crate) fn sin_cos(&self, bits: u32) -> Result<(Self, Self), Trouble> {
        let scale = working_bits(self, bits)?;
        let (sin, cos) = sin_cos_fixed(&self.to_fixed(scale), scale);
        let exponent = -i64::from(scale);
        Ok((Self { mantissa: sin, exponent }, Self { mantissa: cos, exponent }))
    }

    /// ln of a positive number to an absolute error of at most 2^-bits.
    pub(crate) fn ln(&self, bits: u32) -> Self {
        let twos = self.mantissa.bits() as i64 + self.exponent;
        let scale = bits + GUARD + 16;
        // self = m · 2^twos with m in [1/2, 1).
        let m = Self { mantissa: self.mantissa.clone(), exponent: self.exponent - twos };
        let fixed = m.to_fixed(scale);
        let guess = (&fixed >> (scale - 52)).to_f64().unwrap_or(1.0) * 2f64.powi(-52);
        let mut y = from_f64(guess.ln(), scale);
        // Halley's step for e^y = m triples the bits that are right, from about 50.
        let mut right = 48;
        while right < scale {
            let (mantissa, twos) = exp_fixed(&y, scale);
            let power = if twos >= 0 { mantissa << twos } else { mantissa >> -twos };
            let step = ((&fixed - &power) << (scale + 1)) / (&fixed + &power);
            y += step;
            right *= 3;
        }
        let y = y + ln2(scale) * twos;
        Self { mantissa: y, exponent: -i64::from(scale) }
    }

    /// The angle of the point (x, y) to an absolute error of at most 2^-bits.
    pub(crate) fn atan2(y: &Self, x: &Self, bits: u32) -> Self {
        let scale = bits + GUARD;
        let top = y.log2().max(x.log2()).ceil() as i64;
        let place = |value: &Self| {
            Self { mantissa: value.mantissa.clone(), exponent: value.exponent - top }.to_fixed(scale)
        };
        let (y, x) = (place(y), place(x));
        let to_f64 = |value: &BigInt| (value >> (scale - 60)).to_f64().unwrap_or(0.0);
        let mut angle = from_f64(to_f64(&y).atan2(to_f64(&x)), scale);
        let mut right = 48;
        while right < scale {
            let (sin, cos) = sin_cos_fixed(&angle, scale);
            let across: BigInt = &y * &cos - &x * &sin;
            let along: BigInt = (&x * &cos + &y * &sin) >> scale;
            if along.is_zero() {
                break;
            }
            // The angle left is atan u = u - u³/3 + O(u⁵).
            let u: BigInt = across / along;
            let cube: BigInt = (((&u * &u) >> scale) * &u) >> scale;
            angle += u - cube / 3;
            right *= 5;
        }
        Self { mantissa: angle, exponent: -i64::from(scale) }
    }

    /// π to an absolute error of at most 2^-bits.
    pub(crate) fn pi(bits: u32) -> Self {
        let scale = bits + 4;
        Self { mantissa: pi(scale), exponent: -i64::from(scale) }
    }
}

/// The bits after the point in which a function of `x` is computed.
fn working_bits(x: &Float, bits: u32) -> Result<u32, Trouble> {
    let size = x.log2();
    if size > MAX_ARGUMENT_LOG2 {
        return Err(Trouble::Spent);
    }
    Ok(bits + GUARD + size.max(0.0).ceil() as u32)
}

fn from_f64(value: f64, scale: u32) -> BigInt {
    let mantissa = BigInt::from((value * 2f64.powi(52)) as i64);
    if scale >= 52 { mantissa << (scale - 52) } else { mantissa >> (52 - scale) }
}

/// e^x as a mantissa in fixed point and a power of two.
fn exp_fixed(x: &BigInt, scale: u32) -> (BigInt, i64) {
    let ln2 = ln2(scale);
    let twos = round_quotient(x, &ln2);
    let halvings = (f64::from(scale).sqrt() / 2.0) as u32;
    let reduced = (x - &ln2 * &twos) >> halvings;
    let one = BigInt::one() << scale;
    let (mut sum, mut term) = (one.clone(), one);
    for n in 1_u32.. {
        term = ((term * &reduced) >> scale) / n;
        if term.bits() <= 1 {
            break;
        }
        sum += &term;
    }
    for _ in 0..halvings {
        sum = (&sum * &sum) >> scale;
    }
    (sum, twos.to_i64().unwrap_or(0))
}

fn sin_cos_fixed(x: &BigInt, scale: u32) -> (BigInt, BigInt) {
    let quarter = pi(scale) >> 1;
    let turns = round_quotient(x, &quarter);
    let halvings = (f64::from(scale).sqrt() / 3.0) as u32;
    let reduced: BigInt = (x - &quarter * &turns) >> halvings;
    let square: BigInt = (&reduced * &reduced) >> scale;
    let one = BigInt::one() << scale;
    let (mut cos, mut sin) = (one.clone(), reduced.clone());
    let (mut even, mut odd) = (one, reduced);
    for n in 1_u32.. {
        even = -((even * &square) >> scale) / ((2 * n - 1) * (2 * n));
        odd = -((odd * &square) >> scale) / ((2 * n) * (2 * n + 1));
        if even.bits() <= 1 {
            break;
        }
        cos += &even;
        sin += &odd;
    }
    for _ in 0..halvings {
        let double: BigInt = (&sin * &cos) >> (scale - 1);
        cos = (&cos * &cos - &sin * &sin) >> scale;
        sin = double;
    }
    match (turns % 4_u32 + 4_u32).to_u32().unwrap_or(0) % 4 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

fn round_quotient(a: &BigInt, b: &BigInt) -> BigInt {
    let double: BigInt = a * 2 + b;
    let divisor: BigInt = b * 2;
    num_integer::Integer::div_floor(&double, &divisor)
}

fn pi(scale: u32) -> BigInt {
    static PI: OnceLock<BigInt> = OnceLock::new();
    // Machin: π = 16 atan(1/5) - 4 atan(1/239).
    let full = PI.get_or_init(|| {
        let bits = MAX_CONSTANT_BITS + 32;
        (series(5, bits, true) * 16 - series(239, bits, true) * 4) >> 32
    });
    full >> (MAX_CONSTANT_BITS - scale.min(MAX_CONSTANT_BITS))
}

fn ln2(scale: u32) -> BigInt {
    static LN2: OnceLock<BigInt> = OnceLock::new();
    let full = LN2.get_or_init(|| {
        let bits = MAX_CONSTANT_BITS + 32;
        let sum =
            series(26, bits, false) * 18 - series(4801, bits, false) * 2 + series(8749, bits, false) * 8;
        sum >> 32
    });
    full >> (MAX_CONSTANT_BITS - scale.min(MAX_CONSTANT_BITS))
}

/// atan(1/n) or, not alternating, atanh(1/n), in fixed point.
fn series(n: u32, bits: u32, alternating: bool) -> BigInt {
    let square = BigInt::from(n) * n;
    let mut power = (BigInt::one() << bits) / n;
    let mut sum = BigInt::zero();
    for k in 0_u32.. {
        let term = &power / (2 * k + 1);
        if term.sign() == Sign::NoSign {
            return sum;
        }
        sum += if alternating && k % 2 == 1 { -term } else { term };
        power /= &square;
    }
    sum
}
