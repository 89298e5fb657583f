//! Whether two values are the same: exactly, by an identity, by interval arithmetic, or at sampled points.

use super::ball::{Ball, Precision};
use super::budget::{Budget, Trouble};
use super::evaluate::Point;
use super::exact;
use super::expr::{Expr, Function, Number};
use super::float::{Float, MAX_BITS};
use super::identity::{Identity, mix};
use super::numeral;
use super::units::Unit;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive, Zero};

/// Precisions of interval arithmetic, in bits.
const PRECISIONS: [u32; 3] = [64, 192, 512];

/// Constants whose difference is not told from zero at 512 bits and is at most 2^-this times their size are
/// taken as equal: 400 bits are 120 decimals.
const EQUAL_BITS: f64 = 400.0;

/// Points at which two functions must agree.
const POINTS: usize = 8;

/// Points that are tried.
const MAX_POINTS: u64 = 40;

/// The result of a comparison, and how it was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    Equal(&'static str),
    Differ(String),
    Undecided(String),
}

impl Decision {
    pub(crate) fn is_equal(&self) -> bool {
        matches!(self, Self::Equal(_))
    }

    /// The decision that a computation did not reach because of `trouble`.
    pub(crate) fn from_trouble(trouble: Trouble) -> Self {
        let why = match trouble {
            Trouble::Spent => "the budget of steps is spent",
            Trouble::Undefined => "one of the two has no value",
            Trouble::Imprecise => "512 bits do not suffice to compute and compare the two",
            Trouble::NoValue => "there is no rule to compare what they are",
        };
        Self::Undecided(why.to_owned())
    }
}

/// Compares the values of `reference` and `found`; a decimal on one side may be rounded to `precision` places.
pub(crate) fn compare(reference: &Expr, found: &Expr, precision: u32, budget: &Budget) -> Decision {
    if reference == found {
        return Decision::Equal("read as the same");
    }
    decide(reference, found, precision, budget).unwrap_or_else(Decision::from_trouble)
}

fn decide(reference: &Expr, found: &Expr, precision: u32, budget: &Budget) -> Result<Decision, Trouble> {
    if let (Expr::Number(a), Expr::Number(b)) = (reference, found) {
        if a.value == b.value {
            return Ok(Decision::Equal("exact arithmetic"));
        }
        return decimals(a, b, precision, budget);
    }
    if let Some(decision) = infinities(reference, found) {
        return Ok(decision);
    }
    let is_free = |expr: &Expr| !expr.any(&|part| matches!(part, Expr::Symbol(_) | Expr::Apply(..)));
    let constant = is_free(reference) && is_free(found);
    let mut identity = Identity::new(budget, 0);
    let mut difference = None;
    match identity.of(reference).and_then(|a| Ok((a, identity.of(found)?))) {
        Ok((a, b)) if a.equals(b) => return Ok(Decision::Equal("an identity of rational functions")),
        Ok(_) if identity.is_decisive() => {
            difference = Some("they differ: no identity of rational functions");
        }
        Ok(_) | Err(Trouble::Undefined | Trouble::Imprecise) => {}
        Err(Trouble::NoValue) => return Err(Trouble::NoValue),
        Err(Trouble::Spent) => return Err(Trouble::Spent),
    }
    if !constant {
        return match difference {
            Some(reason) => Ok(Decision::Differ(reason.to_owned())),
            None => sampled(reference, found, budget),
        };
    }
    match (as_decimal(reference), as_decimal(found)) {
        (None, None) => match difference {
            Some(_) => Ok(Decision::Differ("they differ by exact arithmetic".to_owned())),
            None => constants(reference, found, budget),
        },
        (Some(decimal), other) | (other, Some(decimal)) => {
            let exact = if as_decimal(reference).is_some() { found } else { reference };
            match (other, exact::rational(exact, budget)?) {
                (Some(other), _) => decimals(&decimal, &other, precision, budget),
                (None, Some(value)) => {
                    decimals(&decimal, &Number { value, decimals: None }, precision, budget)
                }
                (None, None) => rounded(&decimal, exact, precision, budget),
            }
        }
    }
}

/// Compares where one side is ±∞.
fn infinities(a: &Expr, b: &Expr) -> Option<Decision> {
    let sign = |expr: &Expr| match expr {
        Expr::Infinity => 1,
        Expr::Product(factors) => match factors.as_slice() {
            [minus, Expr::Infinity] if minus.is_integer(-1) => -1,
            _ => 0,
        },
        _ => 0,
    };
    let (a, b) = (sign(a), sign(b));
    if a == 0 && b == 0 {
        return None;
    }
    Some(if a == b {
        Decision::Equal("both are infinite")
    } else {
        Decision::Differ("only one is infinite, or their signs differ".to_owned())
    })
}

/// The number, if `expr` is written as a decimal: its digits may be rounded.
fn as_decimal(expr: &Expr) -> Option<Number> {
    match expr {
        Expr::Number(number) if number.decimals.is_some() => Some(number.clone()),
        Expr::Quantity(value, Unit::Percent) => {
            let number = as_decimal(value)?;
            Some(Number {
                value: number.value / BigRational::from_integer(100.into()),
                decimals: number.decimals.map(|decimals| decimals + 2),
            })
        }
        Expr::Product(factors) => match factors.as_slice() {
            [minus, decimal] if minus.is_integer(-1) => {
                let number = as_decimal(decimal)?;
                Some(Number { value: -number.value, decimals: number.decimals })
            }
            _ => None,
        },
        _ => None,
    }
}

/// The decimal places to which a decimal must agree with a number of about 2^`log2`: as many as asked for,
/// and enough for three significant digits (fewer where fewer places are asked for), so that the tolerance is
/// never absolute.
fn places(log2: f64, precision: u32) -> i64 {
    let leading = (-log2 * std::f64::consts::LOG10_2).ceil();
    let significant = i64::from(precision.clamp(1, 3));
    let least = if leading.is_finite() { leading as i64 + significant - 1 } else { 0 };
    i64::from(precision).max(least)
}

/// Two rational numbers, at least one of them a decimal, that are not equal.
fn decimals(a: &Number, b: &Number, precision: u32, budget: &Budget) -> Result<Decision, Trouble> {
    budget.spend(4)?;
    let differ = || Ok(Decision::Differ("they differ by exact arithmetic".to_owned()));
    let shown = match (a.decimals, b.decimals) {
        (None, None) => return differ(),
        (Some(a), Some(b)) => a.min(b),
        (Some(shown), None) | (None, Some(shown)) => shown,
    };
    // A whole number is meant exactly.
    if a.value.is_integer() && a.decimals.is_none_or(|decimals| decimals <= 0)
        || b.value.is_integer() && b.decimals.is_none_or(|decimals| decimals <= 0)
        || a.value.is_zero()
        || b.value.is_zero()
    {
        return differ();
    }
    let log2 = |number: &Number| number.value.numer().bits() as f64 - number.value.denom().bits() as f64;
    let places = places(log2(a).min(log2(b)), precision);
    if shown < places {
        return differ();
    }
    let tolerance = numeral::power(-places.min(4000)) / BigRational::from_integer(2.into());
    if (&a.value - &b.value).abs() <= tolerance {
        Ok(Decision::Equal("exact arithmetic, rounded as a decimal is"))
    } else {
        differ()
    }
}

/// A decimal and a constant that is irrational or too large to be computed exactly.
fn rounded(decimal: &Number, exact: &Expr, precision: u32, budget: &Budget) -> Result<Decision, Trouble> {
    let differ = || Ok(Decision::Differ("they differ by interval arithmetic".to_owned()));
    let p = Precision { bits: 192, budget };
    let value = Point { values: Vec::new(), precision: p }.value(exact)?;
    if value.excludes_real() {
        return differ();
    }
    let value = value.real_part();
    let places = places(value.log2_bound() - 1.0, precision);
    if decimal.decimals.unwrap_or(0) < places {
        // Too short to be a rounding, but it can be exact: cos(π/3) is 0.5.
        return constants(&Expr::Number(decimal.clone()), exact, budget);
    }
    let tolerance = numeral::power(-places.min(4000)) / BigRational::from_integer(2.into());
    let difference = value.minus(&Ball::rational(&decimal.value, p)?, p)?.modulus(p)?;
    match Ball::rational(&tolerance, p)?.minus(&difference, p)?.sign() {
        Some(0 | 1) => Ok(Decision::Equal("interval arithmetic, rounded as a decimal is")),
        Some(_) => differ(),
        None => Err(Trouble::Imprecise),
    }
}

/// Two constants, by interval arithmetic of growing precision.
fn constants(a_expr: &Expr, b_expr: &Expr, budget: &Budget) -> Result<Decision, Trouble> {
    let mut trouble = Trouble::Imprecise;
    for bits in PRECISIONS {
        let p = Precision { bits, budget };
        let point = Point { values: Vec::new(), precision: p };
        let values = point.value(a_expr).and_then(|a| Ok((point.value(b_expr)?, a)));
        match values {
            Ok((b, a)) => {
                let difference = a.minus(&b, p)?;
                if difference.excludes_zero() {
                    return Ok(Decision::Differ(format!(
                        "they differ by interval arithmetic at {bits} bits"
                    )));
                }
                let size = a.log2_bound().max(b.log2_bound());
                if difference.log2_bound() < size - EQUAL_BITS {
                    let agreed = agree(
                        a_expr,
                        b_expr,
                        |p| Point { values: Vec::new(), precision: p },
                        EQUAL_BITS,
                        budget,
                    )?;
                    return if agreed {
                        Ok(Decision::Equal("interval arithmetic to 120 digits and more"))
                    } else {
                        Ok(Decision::Differ("they differ by interval arithmetic".to_owned()))
                    };
                }
            }
            Err(Trouble::Imprecise) => {}
            Err(other @ (Trouble::Undefined | Trouble::NoValue)) => return Err(other),
            Err(Trouble::Spent) => {
                trouble = Trouble::Spent;
                break;
            }
        }
    }
    Err(trouble)
}

/// A bound of how large `expr` is, where its variables are as large as at [`Sampler`]'s points.
fn magnitude(expr: &Expr) -> f64 {
    match expr {
        Expr::Number(number) => number.value.to_f64().map_or(f64::INFINITY, f64::abs),
        Expr::Sum(terms) => terms.iter().map(magnitude).sum(),
        Expr::Product(factors) => factors.iter().map(magnitude).product(),
        Expr::Power(base, exponent) => match (&**base, exponent.as_number().and_then(|n| n.value.to_f64())) {
            (Expr::Number(_) | Expr::Pi | Expr::E, Some(exponent)) => magnitude(base).powf(exponent),
            (_, Some(exponent)) if exponent > 0.0 => magnitude(base).max(1.0).powf(exponent),
            _ => size(expr).min(1000.0).exp2(),
        },
        Expr::I | Expr::Call(Function::Sin | Function::Cos, _) => 1.0,
        Expr::Call(Function::Ln | Function::Log, of) => of.iter().map(size).sum(),
        Expr::Call(Function::Root, of) => of.first().map_or(1.0, |of| magnitude(of).max(1.0)),
        Expr::Pi | Expr::E | Expr::Symbol(_) => 4.0,
        other => size(other).min(1000.0).exp2(),
    }
}

/// Whether `a` and `b`, which agree to `bits` at a point, do so to as many as their [`size`] asks for: `1 + 10^{-200}`
/// is not 1. An error where that is more than is computed.
fn agree<'a>(
    a: &'a Expr,
    b: &'a Expr,
    point: impl Fn(Precision<'a>) -> Point<'a>,
    bits: f64,
    budget: &'a Budget,
) -> Result<bool, Trouble> {
    let need = 64.0 + size(a) + size(b);
    if need <= bits {
        return Ok(true);
    }
    if need + 64.0 > f64::from(MAX_BITS) {
        return Err(Trouble::Imprecise);
    }
    let p = Precision { bits: need as u32 + 64, budget };
    let point = point(p);
    let (a, b) = (point.value(a)?, point.value(b)?);
    let difference = a.minus(&b, p)?;
    let size = a.log2_bound().max(b.log2_bound()).max(-64.0);
    if difference.excludes_zero() {
        return Ok(false);
    }
    if difference.log2_bound() < size - need { Ok(true) } else { Err(Trouble::Imprecise) }
}

/// The order of two real constants, where it can be told.
pub(crate) fn order(a_expr: &Expr, b_expr: &Expr, budget: &Budget) -> Result<std::cmp::Ordering, Trouble> {
    use std::cmp::Ordering;
    let (a, b) = (a_expr, b_expr);
    match (infinite_sign(a), infinite_sign(b)) {
        (0, 0) => {}
        (a, b) => return Ok(a.cmp(&b)),
    }
    if let (Some(a), Some(b)) = (exact::rational(a, budget)?, exact::rational(b, budget)?) {
        return Ok(a.cmp(&b));
    }
    let mut identity = Identity::new(budget, 0);
    if let Ok((a, b)) = identity.of(a).and_then(|a| Ok((a, identity.of(b)?)))
        && a.equals(b)
    {
        return Ok(Ordering::Equal);
    }
    for bits in PRECISIONS {
        let p = Precision { bits, budget };
        let point = Point { values: Vec::new(), precision: p };
        let (a, b) = (point.value(a)?, point.value(b)?);
        let difference = a.minus(&b, p)?;
        match difference.sign() {
            Some(sign) => return Ok(sign.cmp(&0)),
            None if difference.log2_bound() < a.log2_bound().max(b.log2_bound()) - EQUAL_BITS
                && agree(
                    a_expr,
                    b_expr,
                    |p| Point { values: Vec::new(), precision: p },
                    EQUAL_BITS,
                    budget,
                )? =>
            {
                return Ok(Ordering::Equal);
            }
            None => {}
        }
    }
    Err(Trouble::Imprecise)
}

/// A bound of the logarithm of how large or how small any part of `expr` is, and of how far two such values that are not
/// equal lie from one another.
pub(crate) fn size(expr: &Expr) -> f64 {
    let sum = |parts: &[Expr]| parts.iter().map(size).sum::<f64>();
    // What a value is exponentiated by counts in full.
    let exponential = |of: &Expr| 2.0 * magnitude(of);
    match expr {
        Expr::Number(number) => (number.value.numer().bits() + number.value.denom().bits()) as f64,
        Expr::Sum(terms) => sum(terms) + terms.len() as f64,
        Expr::Product(factors) => sum(factors),
        Expr::Power(base, exponent) => {
            let factor = match exponent.as_number().and_then(|number| number.value.to_f64()) {
                Some(exponent) if exponent.abs() >= 1.0 => exponent.abs(),
                Some(_) => 4.0,
                None => exponential(exponent),
            };
            size(base) * factor
        }
        Expr::Call(
            Function::Sinh
            | Function::Cosh
            | Function::Tanh
            | Function::Coth
            | Function::Sech
            | Function::Csch,
            of,
        ) => 2.0 * of.iter().map(exponential).sum::<f64>(),
        Expr::Call(Function::Factorial | Function::DoubleFactorial | Function::Binomial, of) => {
            of.iter().map(|of| if of.symbols().is_empty() { exponential(of) * size(of) } else { 64.0 }).sum()
        }
        Expr::Call(Function::Root, of) => 1.5 * of.first().map_or(0.0, size),
        Expr::Call(_, of) => 2.0 * sum(of) + 4.0,
        other => 3.0 + other.children().into_iter().map(size).sum::<f64>(),
    }
}

/// 1 for ∞, -1 for -∞, 0 for what is finite.
pub(crate) fn infinite_sign(expr: &Expr) -> i32 {
    match infinities(expr, &Expr::Infinity) {
        Some(Decision::Equal(_)) => 1,
        Some(_) if matches!(expr, Expr::Product(factors) if factors.contains(&Expr::Infinity)) => -1,
        _ => 0,
    }
}

/// Seeded points at which variables have values.
pub(crate) struct Sampler<'a> {
    names: Vec<&'a str>,
    counts: Vec<&'a str>,
    complex: bool,
}

impl<'a> Sampler<'a> {
    /// Points for the variables of `expressions`.
    pub(crate) fn new(expressions: [&'a Expr; 2]) -> Self {
        let mut names = Vec::new();
        let mut counts = Vec::new();
        for expr in expressions {
            for name in expr.symbols() {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            counted(expr, &mut counts);
        }
        let complex = expressions.iter().any(|expr| {
            expr.any(&|part| {
                matches!(part, Expr::Call(Function::Conj | Function::Re | Function::Im | Function::Arg, _))
            })
        });
        Self { names, counts, complex }
    }

    /// The `n`th point: positive in turn with points of any sign, of sizes from 1/64 to 4.
    pub(crate) fn point(&self, n: u64, precision: Precision<'a>) -> Point<'a> {
        let values = self.names.iter().enumerate().map(|(at, name)| {
            let random = mix(mix(n) ^ (at as u64 + 1));
            if self.counts.contains(name) {
                return (*name, Ball::integer((random % 11) as i64 + 2 + at as i64));
            }
            let scale = [-20, -18, -19][(n % 3) as usize];
            let negative = n % 2 == 1 && random >> 63 == 1 || n % 4 == 3 && at == 0;
            let magnitude = ((random >> 8) % (1 << 20)) as i64 + 1;
            let re = Float::from_parts((if negative { -magnitude } else { magnitude }).into(), scale);
            let im = Float::from_parts((((random >> 32) % (1 << 20)) as i64 + 1).into(), -20);
            (*name, if self.complex { Ball::complex(re, im) } else { Ball::exact(re) })
        });
        Point { values: values.collect(), precision }
    }
}

/// Collects the variables of which a factorial or binomial is taken: they stand for whole numbers.
fn counted<'a>(expr: &'a Expr, names: &mut Vec<&'a str>) {
    if let Expr::Call(
        Function::Factorial | Function::DoubleFactorial | Function::Binomial | Function::Mod,
        arguments,
    ) = expr
    {
        names.extend(arguments.iter().flat_map(Expr::symbols));
    }
    for part in expr.children() {
        counted(part, names);
    }
}

/// Two functions, at points where both are real; where there are none, at points where both have a value.
fn sampled(a: &Expr, b: &Expr, budget: &Budget) -> Result<Decision, Trouble> {
    let sampler = Sampler::new([a, b]);
    let (mut real, mut complex, mut complex_difference, mut verified) = (0, 0, false, false);
    for n in 0..MAX_POINTS {
        let mut agreed = None;
        for bits in [96, 320] {
            let p = Precision { bits, budget };
            let point = sampler.point(n, p);
            let values = point.value(a).and_then(|a| Ok((point.value(b)?, a)));
            let (b, a) = match values {
                Ok(values) => values,
                Err(Trouble::Undefined) => break,
                Err(Trouble::Imprecise) => continue,
                Err(other) => return Err(other),
            };
            let difference = a.minus(&b, p)?;
            let size = a.log2_bound().max(b.log2_bound()).max(-64.0);
            let both_real = a.is_real() && b.is_real();
            if difference.excludes_zero() {
                if both_real || sampler.complex {
                    return Ok(Decision::Differ("they differ at a sampled point".to_owned()));
                }
                // A point outside the real domain of one of the two says nothing.
                complex_difference |= a.excludes_real() && b.excludes_real();
                break;
            }
            if difference.log2_bound() < size - 48.0 {
                agreed = Some(both_real || sampler.complex);
                break;
            }
        }
        if agreed.is_some() && !verified {
            verified = agree(a, b, |p| sampler.point(n, p), 48.0, budget)?;
            if !verified {
                return Ok(Decision::Differ("they differ at a sampled point".to_owned()));
            }
        }
        match agreed {
            Some(true) => real += 1,
            Some(false) => complex += 1,
            None => {}
        }
        if real == POINTS {
            return Ok(Decision::Equal("agreement at 8 sampled points"));
        }
    }
    if real >= POINTS / 2 && complex_difference || real + complex >= POINTS && !complex_difference {
        return Ok(Decision::Equal("agreement at sampled points"));
    }
    if complex_difference && real == 0 {
        return Ok(Decision::Differ("they differ at sampled points".to_owned()));
    }
    Ok(Decision::Undecided("too few points are in the domain of both".to_owned()))
}

/// How `a` and `b`, each compared with zero, relate: as a constant multiple, whose sign it is.
pub(crate) fn constant_ratio(a: &Expr, b: &Expr, budget: &Budget) -> Result<Option<i32>, Trouble> {
    let mut prints = Vec::new();
    let (mut decisive, mut below) = (true, false);
    for salt in 0..3 {
        let mut identity = Identity::new(budget, salt);
        prints.push((identity.of(a)?, identity.of(b)?));
        decisive &= identity.is_decisive();
        below |= identity.has_variable_denominator();
    }
    if prints.iter().any(|(a, b)| a.is_zero() || b.is_zero()) {
        let both = prints.iter().all(|(a, b)| a.is_zero() == b.is_zero());
        return if both { Ok(Some(1)) } else { Ok(None) };
    }
    let sampler = Sampler::new([a, b]);
    let (a0, b0) = prints[0];
    if prints[1..].iter().all(|(a, b)| a.has_ratio_of(*b, a0, b0)) {
        let cleared = below && !prints[1..].iter().all(|(a, b)| same_ratio((*a, *b), (a0, b0)));
        return Ok(Some(if cleared { 0 } else { sign_of_ratio(&sampler, a, b, budget) }));
    }
    if decisive {
        return if below { Err(Trouble::NoValue) } else { Ok(None) };
    }
    // With functions: a(x) b(y) = a(y) b(x) at sampled x and y.
    let p = Precision { bits: 192, budget };
    let mut values: Vec<(Ball, Ball)> = Vec::new();
    for n in 0..MAX_POINTS {
        let point = sampler.point(n, p);
        match point.value(a).and_then(|a| Ok((a, point.value(b)?))) {
            Ok(pair) if pair.0.is_real() && pair.1.is_real() => values.push(pair),
            Ok(_) | Err(Trouble::Undefined | Trouble::Imprecise) => {}
            Err(other) => return Err(other),
        }
        if values.len() == POINTS {
            break;
        }
    }
    if values.len() < 4 {
        return Err(Trouble::NoValue);
    }
    let (a0, b0) = &values[0];
    for (a, b) in &values[1..] {
        if a.times(b0, p)?.minus(&a0.times(b, p)?, p)?.excludes_zero() {
            return Ok(None);
        }
    }
    Ok(Some(sign_of_ratio(&sampler, a, b, budget)))
}

fn same_ratio(
    (a, b): (super::identity::Fingerprint, super::identity::Fingerprint),
    (a0, b0): (super::identity::Fingerprint, super::identity::Fingerprint),
) -> bool {
    a.times(b0).equals(a0.times(b))
}

/// The sign of a / b, which is constant, at a point where it has one; 0 where it is not real.
fn sign_of_ratio(sampler: &Sampler, a: &Expr, b: &Expr, budget: &Budget) -> i32 {
    for n in 0..MAX_POINTS {
        let point = sampler.point(n, Precision { bits: 96, budget });
        if let Ok((a, b)) = point.value(a).and_then(|a| Ok((a, point.value(b)?)))
            && let (Some(a @ (1 | -1)), Some(b @ (1 | -1))) = (a.sign(), b.sign())
        {
            return a * b;
        }
    }
    0
}

/// Whether a number is certainly positive, negative or zero, by its sign.
pub(crate) fn sign(expr: &Expr, budget: &Budget) -> Result<i32, Trouble> {
    if let Some(value) = exact::rational(expr, budget)? {
        return Ok(value.numer().signum().to_i32().unwrap_or(0));
    }
    Ok(order(expr, &Expr::integer(0), budget)? as i32)
}

/// `value` in units of which one is `scale` of its own; a decimal keeps being one.
pub(crate) fn scaled(value: &Expr, scale: &BigRational) -> Expr {
    match value {
        Expr::Number(number) => {
            Expr::Number(Number { value: &number.value * scale, decimals: number.decimals })
        }
        other => {
            let scale = Expr::Number(Number { value: scale.clone(), decimals: None });
            Expr::Product(vec![other.clone(), scale])
        }
    }
}
