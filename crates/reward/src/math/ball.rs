//! Complex numbers known to within a radius. Every operation returns a ball that holds all values its
//! operands allow, so a ball without zero is a proof that a number is not zero.

use super::budget::{Budget, Trouble};
use super::float::Float;
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::ToPrimitive;

/// A disk in the complex plane, or, where the number is known to be real, an interval.
#[derive(Clone, Debug)]
pub(crate) struct Ball {
    re: Float,
    im: Float,
    /// log2 of the radius, an upper bound; -∞ where the number is exact.
    radius: f64,
    /// Whether the number is known to be real; `im` is then zero.
    real: bool,
}

/// The precision of a computation, and what it may cost.
#[derive(Clone, Copy)]
pub(crate) struct Precision<'a> {
    pub(crate) bits: u32,
    pub(crate) budget: &'a Budget,
}

type Result = std::result::Result<Ball, Trouble>;

/// Roundings of the logarithms of radii themselves.
const SLACK: f64 = 1e-9;

/// log2(2^a + 2^b), rounded up.
fn log2_sum(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY {
        high
    } else {
        high + (low - high).exp2().ln_1p() * std::f64::consts::LOG2_E + SLACK
    }
}

impl Ball {
    pub(crate) fn rational(value: &BigRational, p: Precision) -> Result {
        p.step(1)?;
        let (re, exact) = Float::from_rational(value, p.bits);
        let radius = if exact { f64::NEG_INFINITY } else { re.log2() - f64::from(p.bits) + SLACK };
        Ok(Self { re, im: Float::zero(), radius, real: true }.rounded(p))
    }

    pub(crate) fn integer(value: i64) -> Self {
        Self::exact(Float::from_parts(value.into(), 0))
    }

    pub(crate) fn exact(re: Float) -> Self {
        Self { re, im: Float::zero(), radius: f64::NEG_INFINITY, real: true }
    }

    pub(crate) fn complex(re: Float, im: Float) -> Self {
        Self { re, im, radius: f64::NEG_INFINITY, real: false }
    }

    pub(crate) fn pi(p: Precision) -> Self {
        Self { re: Float::pi(p.bits), im: Float::zero(), radius: -f64::from(p.bits), real: true }
    }

    pub(crate) fn i() -> Self {
        Self::complex(Float::zero(), Float::from_parts(1.into(), 0))
    }

    /// Whether it is known to be real.
    pub(crate) fn is_real(&self) -> bool {
        self.real
    }

    /// Whether it is known not to be zero.
    pub(crate) fn excludes_zero(&self) -> bool {
        self.low() > self.radius
    }

    /// Whether it is known not to be real.
    pub(crate) fn excludes_real(&self) -> bool {
        !self.real && self.im.log2() > self.radius + SLACK
    }

    /// Whether it is certainly positive, certainly negative or neither.
    pub(crate) fn sign(&self) -> Option<i32> {
        if self.real && self.re.is_zero() && self.radius == f64::NEG_INFINITY {
            return Some(0);
        }
        let known = self.real && self.re.log2() > self.radius + SLACK;
        known.then(|| if self.re.is_negative() { -1 } else { 1 })
    }

    /// log2 of the largest modulus it can have.
    pub(crate) fn log2_bound(&self) -> f64 {
        log2_sum(self.high(), self.radius)
    }

    /// The largest integer that is not larger, where the ball can tell.
    pub(crate) fn floor(&self) -> std::result::Result<BigInt, Trouble> {
        if !self.real {
            return Err(Trouble::NoValue);
        }
        if self.radius == f64::NEG_INFINITY {
            return self.re.floor();
        }
        let radius = Float::from_parts(1.into(), self.radius.ceil() as i64);
        let (low, high) = (self.re.add(&radius.negated())?.floor()?, self.re.add(&radius)?.floor()?);
        if low == high { Ok(low) } else { Err(Trouble::Imprecise) }
    }

    fn high(&self) -> f64 {
        let (re, im) = (self.re.log2(), self.im.log2());
        if im == f64::NEG_INFINITY { re + SLACK } else { re.max(im) + 0.5 + SLACK }
    }

    fn low(&self) -> f64 {
        self.re.log2().max(self.im.log2()) - SLACK
    }

    fn rounded(mut self, p: Precision) -> Self {
        for part in [&mut self.re, &mut self.im] {
            let (rounded, ulp) = std::mem::replace(part, Float::zero()).rounded(p.bits);
            *part = rounded;
            if let Some(ulp) = ulp {
                self.radius = log2_sum(self.radius, ulp as f64);
            }
        }
        self
    }

    pub(crate) fn negated(&self) -> Self {
        Self { re: self.re.negated(), im: self.im.negated(), ..*self }
    }

    pub(crate) fn plus(&self, other: &Self, p: Precision) -> Result {
        p.step(1)?;
        Ok(Self {
            re: self.re.add(&other.re)?,
            im: self.im.add(&other.im)?,
            radius: log2_sum(self.radius, other.radius),
            real: self.real && other.real,
        }
        .rounded(p))
    }

    pub(crate) fn minus(&self, other: &Self, p: Precision) -> Result {
        self.plus(&other.negated(), p)
    }

    pub(crate) fn times(&self, other: &Self, p: Precision) -> Result {
        p.step(if self.real && other.real { 1 } else { 4 })?;
        // |ab - (a+α)(b+β)| ≤ |a|β + |b|α + αβ
        let radius = log2_sum(
            log2_sum(self.high() + other.radius, other.high() + self.radius),
            self.radius + other.radius,
        );
        let radius = if radius.is_nan() { f64::NEG_INFINITY } else { radius };
        Ok(Self {
            re: self.re.times(&other.re).add(&self.im.times(&other.im).negated())?,
            im: self.re.times(&other.im).add(&self.im.times(&other.re))?,
            radius,
            real: self.real && other.real,
        }
        .rounded(p))
    }

    pub(crate) fn inverse(&self, p: Precision) -> Result {
        p.step(6)?;
        if !self.excludes_zero() {
            let exact = self.radius == f64::NEG_INFINITY;
            return Err(if exact { Trouble::Undefined } else { Trouble::Imprecise });
        }
        let (low, bits) = (self.low(), p.bits + 4);
        // |1/a - 1/(a+α)| ≤ α / (|a| (|a| - α)), and the roundings of the quotients.
        let distance = (1.0 - (self.radius - low).exp2()).log2();
        let radius = if self.radius == f64::NEG_INFINITY {
            f64::NEG_INFINITY
        } else {
            self.radius - 2.0 * low - distance + SLACK
        };
        let radius = log2_sum(radius, 1.0 - low - f64::from(bits));
        if self.im.is_zero() {
            let re = Float::from_parts(1.into(), 0).divided(&self.re, bits);
            return Ok(Self { re, im: Float::zero(), radius, real: self.real }.rounded(p));
        }
        let square = self.re.times(&self.re).add(&self.im.times(&self.im))?;
        Ok(Self {
            re: self.re.divided(&square, bits),
            im: self.im.negated().divided(&square, bits),
            radius,
            real: false,
        }
        .rounded(p))
    }

    pub(crate) fn power(&self, mut exponent: u64, p: Precision) -> Result {
        let mut power = Self::integer(1);
        let mut square = self.clone();
        while exponent > 0 {
            if exponent & 1 == 1 {
                power = power.times(&square, p)?;
            }
            exponent >>= 1;
            if exponent > 0 {
                square = square.times(&square, p)?;
            }
            let high = square.high();
            if high > 1e15 || high < -1e15 && !square.re.is_zero() {
                return Err(Trouble::Spent);
            }
        }
        Ok(power)
    }

    /// The principal square root.
    pub(crate) fn sqrt(&self, p: Precision) -> Result {
        p.step(8)?;
        if !self.excludes_zero() {
            if self.radius == f64::NEG_INFINITY {
                return Ok(Self::integer(0));
            }
            // |√z| ≤ √(|a| + α)
            let radius = self.log2_bound() / 2.0 + SLACK;
            return Ok(Self { re: Float::zero(), im: Float::zero(), radius, real: false });
        }
        let bits = p.bits + 4;
        // |√z - √a| ≤ α / √|a| in one half-plane.
        let radius = log2_sum(self.radius - self.low() / 2.0, self.high() / 2.0 - f64::from(bits) + 2.0);
        if self.im.is_zero() && (self.real || !self.re.is_negative()) {
            let root = self.re.abs_sqrt(bits);
            return Ok(if self.re.is_negative() {
                Self { re: Float::zero(), im: root, radius, real: false }
            } else {
                Self { re: root, im: Float::zero(), radius, real: self.real }
            }
            .rounded(p));
        }
        self.beside_branch()?;
        // √(x + iy): r = √(x² + y²), the larger of √((r ± x)/2) first, the other from y.
        let wide = 2 * p.bits + 16;
        let modulus = self.re.times(&self.re).add(&self.im.times(&self.im))?.sqrt(wide);
        let absolute = if self.re.is_negative() { self.re.negated() } else { self.re.clone() };
        let half = Float::from_parts(1.into(), -1);
        let large = modulus.add(&absolute)?.times(&half).sqrt(bits);
        let small = self.im.times(&half).divided(&large, bits);
        let (re, im) = match (self.re.is_negative(), self.im.is_negative()) {
            (false, _) => (large, small),
            (true, false) => (small, large),
            (true, true) => (small.negated(), large.negated()),
        };
        Ok(Self { re, im, radius, real: false }.rounded(p))
    }

    /// Fails where the ball meets the negative real axis, on whose two sides roots and logarithms differ.
    fn beside_branch(&self) -> std::result::Result<(), Trouble> {
        let meets = self.re.is_negative() && self.im.log2() <= self.radius + SLACK;
        if meets { Err(Trouble::Imprecise) } else { Ok(()) }
    }

    pub(crate) fn exp(&self, p: Precision) -> Result {
        p.step(40)?;
        if self.radius > 0.0 {
            return Err(Trouble::Imprecise);
        }
        let bits = p.bits + 4;
        let modulus = self.re.exp(bits)?;
        // |e^z - e^a| ≤ |e^a| (e^α - 1) ≤ 2α |e^a| for α ≤ 1
        let size = modulus.log2() + SLACK;
        let radius = log2_sum(size + self.radius + 1.0, size + 2.0 - f64::from(bits));
        if self.im.is_zero() {
            return Ok(Self { re: modulus, im: Float::zero(), radius, real: self.real }.rounded(p));
        }
        p.step(40)?;
        let (sin, cos) = self.im.sin_cos(bits)?;
        Ok(Self { re: modulus.times(&cos), im: modulus.times(&sin), radius, real: false }.rounded(p))
    }

    /// The principal logarithm.
    pub(crate) fn ln(&self, p: Precision) -> Result {
        p.step(120)?;
        if !self.excludes_zero() {
            let exact = self.radius == f64::NEG_INFINITY;
            return Err(if exact { Trouble::Undefined } else { Trouble::Imprecise });
        }
        let relative = self.radius - self.low();
        if relative > -1.0 {
            return Err(Trouble::Imprecise);
        }
        let bits = p.bits + 4;
        // |ln z - ln a| ≤ -ln(1 - α/|a|) ≤ 2α/|a| for α ≤ |a|/2
        let radius = log2_sum(relative + 1.0, 2.0 - f64::from(bits));
        let positive = !self.re.is_negative();
        if self.im.is_zero() && (self.real || positive) {
            let re = if positive { self.re.ln(bits) } else { self.re.negated().ln(bits) };
            let im = if positive { Float::zero() } else { Float::pi(bits) };
            return Ok(Self { re, im, radius, real: self.real && positive }.rounded(p));
        }
        self.beside_branch()?;
        let square = self.re.times(&self.re).add(&self.im.times(&self.im))?;
        let re = square.ln(bits).times(&Float::from_parts(1.into(), -1));
        let im = Float::atan2(&self.im, &self.re, bits);
        Ok(Self { re, im, radius, real: false }.rounded(p))
    }

    pub(crate) fn sin_cos(&self, p: Precision) -> std::result::Result<(Self, Self), Trouble> {
        if self.real {
            p.step(40)?;
            let (sin, cos) = self.re.sin_cos(p.bits)?;
            let radius = log2_sum(self.radius, -f64::from(p.bits));
            let ball = |re| Self { re, im: Float::zero(), radius, real: true }.rounded(p);
            return Ok((ball(sin), ball(cos)));
        }
        let up = self.times(&Self::i(), p)?.exp(p)?;
        let down = self.times(&Self::i().negated(), p)?.exp(p)?;
        let half = Self::exact(Float::from_parts(1.into(), -1));
        let cos = up.plus(&down, p)?.times(&half, p)?;
        let sin = up.minus(&down, p)?.times(&half, p)?.times(&Self::i().negated(), p)?;
        Ok((sin, cos))
    }

    pub(crate) fn modulus(&self, p: Precision) -> Result {
        p.step(4)?;
        if self.real {
            let re = if self.re.is_negative() { self.re.negated() } else { self.re.clone() };
            return Ok(Self { re, ..self.clone() });
        }
        let square = self.re.times(&self.re).add(&self.im.times(&self.im))?;
        let re = square.sqrt(p.bits);
        let radius = log2_sum(self.radius, re.log2() - f64::from(p.bits) + SLACK);
        Ok(Self { re, im: Float::zero(), radius, real: true }.rounded(p))
    }

    /// The real part, known to be real.
    pub(crate) fn real_part(&self) -> Self {
        Self { re: self.re.clone(), im: Float::zero(), radius: self.radius, real: true }
    }

    /// The imaginary part, known to be real.
    pub(crate) fn imaginary_part(&self) -> Self {
        if self.real {
            return Self::integer(0);
        }
        Self { re: self.im.clone(), im: Float::zero(), radius: self.radius, real: true }
    }

    pub(crate) fn conjugate(&self) -> Self {
        Self { im: self.im.negated(), ..self.clone() }
    }

    /// The integer it is, where it is exact.
    pub(crate) fn to_integer(&self) -> Option<i64> {
        let exact = self.real && self.radius == f64::NEG_INFINITY;
        let floor = exact.then(|| self.re.floor().ok())??;
        let whole =
            Float::from_parts(floor.clone(), 0).add(&self.re.negated()).is_ok_and(|rest| rest.is_zero());
        floor.to_i64().filter(|_| whole)
    }
}

impl Float {
    fn abs_sqrt(&self, bits: u32) -> Self {
        if self.is_negative() { self.negated().sqrt(bits) } else { self.sqrt(bits) }
    }
}

impl Precision<'_> {
    fn step(self, operations: u64) -> std::result::Result<(), Trouble> {
        let words = u64::from(self.bits) / 64;
        self.budget.spend(operations * (4 + words * words / 2))
    }
}
