//! Values that are rational numbers, computed exactly.

use super::budget::{Budget, Trouble};
use super::expr::{Expr, Function};
use super::units::Unit;
use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};

/// Numerators and denominators of more bits are not computed.
const MAX_BITS: u64 = 40_000;

/// The value of `expr` where it is a rational number of up to [`MAX_BITS`] bits that arithmetic alone gives.
pub(crate) fn rational(expr: &Expr, budget: &Budget) -> Result<Option<BigRational>, Trouble> {
    let value = match expr {
        Expr::Number(number) => number.value.clone(),
        Expr::Based { value, .. } => BigRational::from_integer(value.clone()),
        Expr::Sum(terms) => {
            let mut sum = BigRational::zero();
            for term in terms {
                let Some(term) = rational(term, budget)? else { return Ok(None) };
                budget.spend(2 + bits(&sum) / 16)?;
                sum += term;
            }
            sum
        }
        Expr::Product(factors) => {
            let mut product = BigRational::one();
            for factor in factors {
                let Some(factor) = rational(factor, budget)? else { return Ok(None) };
                budget.spend(2 + bits(&product) * (64 + bits(&factor)) / 2048)?;
                product *= factor;
            }
            product
        }
        Expr::Power(base, exponent) => {
            let Some(exponent) = rational(exponent, budget)?.filter(BigRational::is_integer) else {
                return Ok(None);
            };
            let Some(base) = rational(base, budget)? else { return Ok(None) };
            return power(&base, exponent.numer(), budget);
        }
        Expr::Quantity(value, Unit::Percent) => match rational(value, budget)? {
            Some(value) => value / BigRational::from_integer(100.into()),
            None => return Ok(None),
        },
        Expr::Call(function, arguments) => return call(*function, arguments, budget),
        _ => return Ok(None),
    };
    Ok(Some(value).filter(|value| bits(value) <= MAX_BITS))
}

/// The integer that `expr` is, if it is one.
pub(crate) fn integer(expr: &Expr, budget: &Budget) -> Result<Option<BigInt>, Trouble> {
    Ok(rational(expr, budget)?.filter(BigRational::is_integer).map(|value| value.to_integer()))
}

fn bits(value: &BigRational) -> u64 {
    value.numer().bits() + value.denom().bits()
}

fn power(base: &BigRational, exponent: &BigInt, budget: &Budget) -> Result<Option<BigRational>, Trouble> {
    if base.is_zero() && exponent.is_negative() {
        return Err(Trouble::Undefined);
    }
    if exponent.is_zero() || base.is_one() {
        return Ok(Some(BigRational::one()));
    }
    let Some(exponent) = exponent.to_i32() else { return Ok(None) };
    let size = bits(base).saturating_mul(u64::from(exponent.unsigned_abs()));
    if size > MAX_BITS {
        return Ok(None);
    }
    budget.spend(4 + size * size / 65_536)?;
    Ok(Some(Pow::pow(base, exponent)))
}

fn call(function: Function, arguments: &[Expr], budget: &Budget) -> Result<Option<BigRational>, Trouble> {
    let mut values = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let Some(value) = rational(argument, budget)? else { return Ok(None) };
        values.push(value);
    }
    let integers: Vec<BigInt> =
        values.iter().filter(|value| value.is_integer()).map(BigRational::to_integer).collect();
    let all_integers = integers.len() == values.len();
    let whole = |value: BigInt| Ok(Some(BigRational::from_integer(value)));
    match (function, values.as_slice()) {
        (Function::Abs, [value]) => Ok(Some(value.abs())),
        (Function::Floor, [value]) => Ok(Some(value.floor())),
        (Function::Ceil, [value]) => Ok(Some(value.ceil())),
        (Function::Max, [..]) => Ok(values.into_iter().max()),
        (Function::Min, [..]) => Ok(values.into_iter().min()),
        (Function::Root, [value, index]) => Ok(root(value, index)),
        (Function::Gcd, _) if all_integers => whole(integers.iter().fold(BigInt::zero(), |a, b| a.gcd(b))),
        (Function::Lcm, _) if all_integers && integers.len() <= 16 => {
            whole(integers.iter().fold(BigInt::one(), |a, b| if b.is_zero() { b.clone() } else { a.lcm(b) }))
        }
        (Function::Mod, _) if all_integers && !integers[1].is_zero() => {
            whole(integers[0].mod_floor(&integers[1]))
        }
        (Function::Factorial, _) if all_integers => factorial(&integers[0], 1, budget),
        (Function::DoubleFactorial, _) if all_integers => factorial(&integers[0], 2, budget),
        (Function::Binomial, _) if all_integers => binomial(&integers[0], &integers[1], budget),
        _ => Ok(None),
    }
}

/// The root of that index where it is rational.
fn root(value: &BigRational, index: &BigRational) -> Option<BigRational> {
    let index = Some(index).filter(|index| index.is_integer())?.to_integer().to_u32()?;
    if index == 0 || index > 64 || value.is_negative() && index % 2 == 0 {
        return None;
    }
    let numerator = value.numer().nth_root(index);
    let denominator = value.denom().nth_root(index);
    let exact =
        Pow::pow(&numerator, index) == *value.numer() && Pow::pow(&denominator, index) == *value.denom();
    exact.then(|| BigRational::new(numerator, denominator))
}

/// `n (n - step) (n - 2 step) …`
fn factorial(n: &BigInt, step: usize, budget: &Budget) -> Result<Option<BigRational>, Trouble> {
    if n.is_negative() {
        return Err(Trouble::Undefined);
    }
    let Some(n) = n.to_u64().filter(|n| *n <= 3000) else { return Ok(None) };
    budget.spend(n * n / 100 + 1)?;
    let product = (1..=n).rev().step_by(step).fold(BigInt::one(), |product, factor| product * factor);
    Ok(Some(BigRational::from_integer(product)))
}

fn binomial(n: &BigInt, k: &BigInt, budget: &Budget) -> Result<Option<BigRational>, Trouble> {
    if k.is_negative() || n.is_negative() || k > n {
        return Ok(Some(BigRational::zero()).filter(|_| !n.is_negative()));
    }
    let k = k.min(&(n - k)).clone();
    let Some(k) = k.to_u64().filter(|k| *k <= 2000 && k * n.bits() <= MAX_BITS) else { return Ok(None) };
    budget.spend(k * k / 50 + 1)?;
    let mut value = BigInt::one();
    for factor in 1..=k {
        value = value * (n - BigInt::from(k - factor)) / factor;
    }
    Ok(Some(BigRational::from_integer(value)))
}
