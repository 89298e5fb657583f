//! Expressions to balls.

use super::ball::{Ball, Precision};
use super::budget::Trouble;
use super::exact;
use super::expr::{Expr, Function, Number};
use super::units::Unit;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive};

/// Factorials of larger numbers are not multiplied out.
const MAX_FACTORIAL: i64 = 5000;

/// Where variables have values.
pub(crate) struct Point<'a> {
    pub(crate) values: Vec<(&'a str, Ball)>,
    pub(crate) precision: Precision<'a>,
}

type Evaluated = Result<Ball, Trouble>;

impl Point<'_> {
    /// The value of `expr`.
    pub(crate) fn value(&self, expr: &Expr) -> Evaluated {
        let p = self.precision;
        match expr {
            Expr::Number(number) => Ball::rational(&number.value, p),
            Expr::Based { value, .. } => Ball::rational(&BigRational::from_integer(value.clone()), p),
            Expr::Pi => Ok(Ball::pi(p)),
            Expr::E => Ball::integer(1).exp(p),
            Expr::I => Ok(Ball::i()),
            Expr::Symbol(name) => {
                let known = self.values.iter().find(|(known, _)| known == name);
                known.map(|(_, value)| value.clone()).ok_or(Trouble::NoValue)
            }
            Expr::Sum(terms) => {
                let mut sum = Ball::integer(0);
                for term in terms {
                    sum = sum.plus(&self.value(term)?, p)?;
                }
                Ok(sum)
            }
            Expr::Product(factors) => {
                let mut product = Ball::integer(1);
                for factor in factors {
                    product = product.times(&self.value(factor)?, p)?;
                }
                Ok(product)
            }
            Expr::Power(base, exponent) => self.power(base, exponent),
            Expr::Quantity(value, Unit::Percent) => {
                self.value(value)?.times(&Ball::integer(100).inverse(p)?, p)
            }
            Expr::Quantity(value, Unit::Degree) => {
                let degree = Ball::pi(p).times(&Ball::integer(180).inverse(p)?, p)?;
                self.value(value)?.times(&degree, p)
            }
            Expr::Call(function, arguments) => self.call(*function, arguments),
            _ => Err(Trouble::NoValue),
        }
    }

    fn power(&self, base: &Expr, exponent: &Expr) -> Evaluated {
        let p = self.precision;
        if let Some(exponent) = exact::rational(exponent, p.budget)? {
            let count = exponent.numer().abs().to_u64().ok_or(Trouble::Spent)?;
            let root = if exponent.is_integer() {
                self.value(base)?
            } else {
                let index = Expr::Number(Number::integer(exponent.denom().clone()));
                self.root(base, &index)?
            };
            let power = root.power(count, p)?;
            return if exponent.is_negative() { power.inverse(p) } else { Ok(power) };
        }
        let exponent = self.value(exponent)?;
        if matches!(base, Expr::E) {
            return exponent.exp(p);
        }
        let base = self.value(base)?;
        if base.sign() == Some(0) {
            return if exponent.sign() == Some(1) { Ok(base) } else { Err(Trouble::Undefined) };
        }
        if let Some(count) = exponent.to_integer().filter(|count| count.abs() < 1 << 20) {
            let power = base.power(count.unsigned_abs(), p)?;
            return if count < 0 { power.inverse(p) } else { Ok(power) };
        }
        base.ln(p)?.times(&exponent, p)?.exp(p)
    }

    /// The principal root; the real one of a negative number where the index is odd.
    fn root(&self, of: &Expr, index: &Expr) -> Evaluated {
        let p = self.precision;
        let of = self.value(of)?;
        if index.is_integer(2) {
            return of.sqrt(p);
        }
        if of.sign() == Some(0) {
            return Ok(of);
        }
        let odd = index.as_count().is_some_and(Integer::is_odd);
        let negative = odd && of.sign() == Some(-1);
        let of = if negative { of.negated() } else { of };
        let root = of.ln(p)?.times(&self.value(index)?.inverse(p)?, p)?.exp(p)?;
        Ok(if negative { root.negated() } else { root })
    }

    fn call(&self, function: Function, arguments: &[Expr]) -> Evaluated {
        use Function as F;
        let p = self.precision;
        let [first, rest @ ..] = arguments else { return Err(Trouble::NoValue) };
        if function == F::Root {
            return self.root(first, rest.first().ok_or(Trouble::NoValue)?);
        }
        let x = self.value(first)?;
        let one = Ball::integer(1);
        match function {
            F::Ln => x.ln(p),
            F::Log => {
                let base = self.value(rest.first().ok_or(Trouble::NoValue)?)?;
                x.ln(p)?.times(&base.ln(p)?.inverse(p)?, p)
            }
            F::Sin => Ok(x.sin_cos(p)?.0),
            F::Cos => Ok(x.sin_cos(p)?.1),
            F::Tan => x.sin_cos(p).and_then(|(sin, cos)| sin.times(&cos.inverse(p)?, p)),
            F::Cot => x.sin_cos(p).and_then(|(sin, cos)| cos.times(&sin.inverse(p)?, p)),
            F::Sec => x.sin_cos(p)?.1.inverse(p),
            F::Csc => x.sin_cos(p)?.0.inverse(p),
            F::Sinh => self.hyperbolic(&x).map(|(sinh, _)| sinh),
            F::Cosh => self.hyperbolic(&x).map(|(_, cosh)| cosh),
            F::Tanh => self.hyperbolic(&x).and_then(|(sinh, cosh)| sinh.times(&cosh.inverse(p)?, p)),
            F::Coth => self.hyperbolic(&x).and_then(|(sinh, cosh)| cosh.times(&sinh.inverse(p)?, p)),
            F::Sech => self.hyperbolic(&x)?.1.inverse(p),
            F::Csch => self.hyperbolic(&x)?.0.inverse(p),
            F::Asin => self.arcsine(&x),
            F::Acos => self.quarter_turn()?.minus(&self.arcsine(&x)?, p),
            F::Atan => self.arctangent(&x),
            F::Acot => self.quarter_turn()?.minus(&self.arctangent(&x)?, p),
            F::Asec => self.quarter_turn()?.minus(&self.arcsine(&x.inverse(p)?)?, p),
            F::Acsc => self.arcsine(&x.inverse(p)?),
            F::Asinh => x.plus(&x.times(&x, p)?.plus(&one, p)?.sqrt(p)?, p)?.ln(p),
            F::Acosh => {
                let root = x.minus(&one, p)?.sqrt(p)?.times(&x.plus(&one, p)?.sqrt(p)?, p)?;
                x.plus(&root, p)?.ln(p)
            }
            F::Atanh => {
                let quotient = one.plus(&x, p)?.times(&one.minus(&x, p)?.inverse(p)?, p)?;
                quotient.ln(p)?.times(&Ball::integer(2).inverse(p)?, p)
            }
            F::Abs => x.modulus(p),
            F::Floor => Ball::rational(&BigRational::from_integer(x.floor()?), p),
            F::Ceil => Ok(Ball::rational(&BigRational::from_integer(x.negated().floor()?), p)?.negated()),
            F::Factorial => self.factorial(&x, 1),
            F::DoubleFactorial => self.factorial(&x, 2),
            F::Binomial => self.binomial(&x, rest),
            F::Max | F::Min => {
                let mut best = x;
                for other in rest {
                    let other = self.value(other)?;
                    let sign = other.minus(&best, p)?.sign().ok_or(Trouble::Imprecise)?;
                    if sign == if function == F::Max { 1 } else { -1 } {
                        best = other;
                    }
                }
                Ok(best)
            }
            F::Re => Ok(x.real_part()),
            F::Im => Ok(x.imaginary_part()),
            F::Conj => Ok(x.conjugate()),
            F::Arg => Ok(x.ln(p)?.imaginary_part()),
            F::Gcd | F::Lcm | F::Mod | F::Root => {
                let call = Expr::Call(function, arguments.to_vec());
                let value = exact::rational(&call, p.budget)?.ok_or(Trouble::NoValue)?;
                Ball::rational(&value, p)
            }
        }
    }

    fn quarter_turn(&self) -> Evaluated {
        Ball::pi(self.precision).times(&Ball::integer(2).inverse(self.precision)?, self.precision)
    }

    fn hyperbolic(&self, x: &Ball) -> Result<(Ball, Ball), Trouble> {
        let p = self.precision;
        let (up, down) = (x.exp(p)?, x.negated().exp(p)?);
        let half = Ball::integer(2).inverse(p)?;
        Ok((up.minus(&down, p)?.times(&half, p)?, up.plus(&down, p)?.times(&half, p)?))
    }

    /// -i ln(ix + √(1 - x²)); real for a real x between -1 and 1.
    fn arcsine(&self, x: &Ball) -> Evaluated {
        let p = self.precision;
        let one = Ball::integer(1);
        let rest = one.minus(&x.times(x, p)?, p)?;
        let inside = x.is_real() && matches!(rest.sign(), Some(0 | 1));
        let turned = Ball::i().times(x, p)?.plus(&rest.sqrt(p)?, p)?.ln(p)?;
        let value = turned.times(&Ball::i().negated(), p)?;
        Ok(if inside { value.real_part() } else { value })
    }

    /// (ln(1 + ix) - ln(1 - ix)) / 2i.
    fn arctangent(&self, x: &Ball) -> Evaluated {
        let p = self.precision;
        let one = Ball::integer(1);
        let turned = Ball::i().times(x, p)?;
        let difference = one.plus(&turned, p)?.ln(p)?.minus(&one.minus(&turned, p)?.ln(p)?, p)?;
        let value = difference.times(&Ball::i().negated(), p)?.times(&Ball::integer(2).inverse(p)?, p)?;
        Ok(if x.is_real() { value.real_part() } else { value })
    }

    fn factorial(&self, n: &Ball, step: usize) -> Evaluated {
        let n = n.to_integer().filter(|n| *n >= 0).ok_or(Trouble::NoValue)?;
        if n > MAX_FACTORIAL {
            return Err(Trouble::Spent);
        }
        let mut product = Ball::integer(1);
        for factor in (1..=n).rev().step_by(step) {
            product = product.times(&Ball::integer(factor), self.precision)?;
        }
        Ok(product)
    }

    fn binomial(&self, n: &Ball, rest: &[Expr]) -> Evaluated {
        let k = self.value(rest.first().ok_or(Trouble::NoValue)?)?;
        let (Some(n), Some(k)) = (n.to_integer(), k.to_integer()) else { return Err(Trouble::NoValue) };
        let call = [Expr::integer(n), Expr::integer(k)];
        let value = exact::rational(&Expr::Call(Function::Binomial, call.to_vec()), self.precision.budget)?;
        Ball::rational(&value.ok_or(Trouble::Spent)?, self.precision)
    }
}
