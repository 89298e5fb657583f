//! Whether an answer is a value or a computation that is left to the reader: a reward must not pay for the question.
//!
//! A value is a literal numeral, whole, decimal, scientific, mixed, percent or a fraction that is no whole number, with
//! its unit; a power of such by a whole number; and whatever has an irrational part. An operation whose operands and
//! result are rational numbers, `19 + 74` or `4!`, is none.

use super::ball::Precision;
use super::budget::{Budget, Trouble};
use super::evaluate::Point;
use super::exact;
use super::expr::{Expr, Function};
use super::region::Region;
use super::units::Unit;
use super::values::{self, Sampler};
use num_rational::BigRational;
use num_traits::One;

/// Logarithms of sizes beyond this are no plain value's.
const MAX_SIZE: f64 = 3600.0;

/// Points that are tried for one at which a function has a value.
const MAX_POINTS: u64 = 24;

/// Whether `expr`, or a part of a list or pair, is an operation on rational numbers with a rational result.
pub(crate) fn is_unevaluated(expr: &Expr, budget: &Budget) -> bool {
    let any = |parts: &[Expr]| parts.iter().any(|part| is_unevaluated(part, budget));
    match expr {
        Expr::List(parts) | Expr::Logic(_, parts) | Expr::Set(parts) => any(parts),
        Expr::Tuple { items, .. } => any(items),
        Expr::Matrix(rows) => rows.iter().any(|row| any(row)),
        Expr::Ratio(parts) => {
            any(parts)
                || matches!(parts.as_slice(), [above, below]
                    if is_whole_quotient(above, below, budget) && !below.is_integer(1))
        }
        Expr::Operation(_, a, b) | Expr::Builder(a, b) => {
            is_unevaluated(a, budget) || is_unevaluated(b, budget)
        }
        Expr::Quantity(of, _) | Expr::PlusMinus { of, .. } | Expr::Choice(_, Some(of)) => {
            is_unevaluated(of, budget)
        }
        Expr::Relation(sides, signs) => {
            let is_constant = |side: &&Expr| side.symbols().is_empty();
            let mut sides = sides.iter().filter(is_constant).peekable();
            // A chain that ends up at a value names it.
            let names = signs.iter().all(|sign| "=≈⇒".contains(*sign));
            sides.peek().is_some()
                && if names {
                    sides.all(|side| is_unevaluated(side, budget))
                } else {
                    sides.any(|side| is_unevaluated(side, budget))
                }
        }
        // A number times a matrix is a form of one; a sum or product of matrices is not.
        Expr::Sum(parts) | Expr::Product(parts) if parts.iter().any(holds_matrix) => {
            matches!(expr, Expr::Sum(_)) || parts.iter().filter(|part| holds_matrix(part)).count() > 1
        }
        Expr::Power(base, _) if holds_matrix(base) => true,
        Expr::Sum(_) | Expr::Product(_) | Expr::Power(..) | Expr::Call(..) => is_operation(expr, budget),
        _ => false,
    }
}

fn holds_matrix(expr: &Expr) -> bool {
    expr.any(&|part| matches!(part, Expr::Matrix(_)))
}

fn is_operation(expr: &Expr, budget: &Budget) -> bool {
    let is_rational_leaf = |part: &Expr| {
        !matches!(
            part,
            Expr::Symbol(_)
                | Expr::Apply(..)
                | Expr::Pi
                | Expr::E
                | Expr::I
                | Expr::Infinity
                | Expr::Opaque(_)
        ) && !matches!(part, Expr::Quantity(_, unit) if *unit != Unit::Percent)
    };
    if is_literal(expr, budget) || expr.any(&|part| !is_rational_leaf(part)) {
        return false;
    }
    match exact::rational(expr, budget) {
        Ok(Some(_)) => true,
        _ => {
            expr.any(&|part| matches!(part, Expr::Call(Function::Log | Function::Ln, _)))
                && is_near_rational(expr, budget)
        }
    }
}

/// Whether it is written as a number.
fn is_literal(expr: &Expr, budget: &Budget) -> bool {
    let is_power = |expr: &Expr| match expr {
        Expr::Number(_) => true,
        Expr::Power(base, exponent) => {
            let is_whole = exponent.as_number().is_some_and(|number| number.value.is_integer());
            is_whole && !exponent.is_integer(-1) && matches!(**base, Expr::Number(_))
        }
        _ => false,
    };
    match expr {
        Expr::Quantity(of, Unit::Percent) => is_literal(of, budget),
        Expr::Power(base, exponent) => {
            exponent.as_number().is_some_and(|number| number.value.is_integer()) && is_literal(base, budget)
        }
        Expr::Product(factors) => match factors.as_slice() {
            [minus, of] if minus.is_integer(-1) => is_literal(of, budget),
            [Expr::Number(_), Expr::Power(base, exponent)] if base.is_integer(10) => {
                exponent.as_number().is_some_and(|number| number.value.is_integer())
                    && !(exponent.is_integer(-1) && is_whole_quotient(&factors[0], base, budget))
            }
            [above, Expr::Power(below, exponent)] if exponent.is_integer(-1) => {
                is_power(above)
                    && is_power(below)
                    && !above.any(&has_point)
                    && !below.any(&has_point)
                    && !is_whole_quotient(above, below, budget)
            }
            _ => false,
        },
        expr => is_power(expr),
    }
}

fn has_point(expr: &Expr) -> bool {
    expr.as_number().is_some_and(|number| number.decimals.is_some() || !number.value.is_integer())
}

fn is_whole_quotient(above: &Expr, below: &Expr, budget: &Budget) -> bool {
    let quotient = Expr::Product(vec![above.clone(), below.clone().inverted()]);
    matches!(exact::rational(&quotient, budget), Ok(Some(value)) if value.denom().is_one())
}

/// Whether its value is within 2^-100 of a rational number with a denominator of up to 12.
fn is_near_rational(expr: &Expr, budget: &Budget) -> bool {
    let near = |precision: Precision| -> Result<bool, Trouble> {
        let value = Point { values: Vec::new(), precision }.value(expr)?;
        for denominator in 1..=12_i64 {
            let scaled = value.times(&super::ball::Ball::integer(denominator), precision)?;
            let half = super::ball::Ball::rational(&BigRational::new(1.into(), 2.into()), precision)?;
            let Ok(whole) = scaled.real_part().plus(&half, precision)?.floor() else { continue };
            let whole = super::ball::Ball::rational(&BigRational::from_integer(whole), precision)?;
            if scaled.minus(&whole, precision)?.log2_bound() < -100.0 {
                return Ok(true);
            }
        }
        Ok(false)
    };
    near(Precision { bits: 192, budget }).unwrap_or(false)
}

/// Whether all that an answer holds has a value that a budget like this can compute: nothing unevaluated, undefined or
/// too large.
pub(crate) fn is_sound(expr: &Expr, budget: &Budget) -> bool {
    let all = |parts: &[Expr]| parts.iter().all(|part| is_sound(part, budget));
    match expr {
        Expr::Opaque(_) => false,
        Expr::Text(_) | Expr::Numbers(_) | Expr::Infinity | Expr::Symbol(_) | Expr::Number(_) => true,
        Expr::Choice(_, of) => of.as_ref().is_none_or(|of| is_sound(of, budget)),
        Expr::List(parts)
        | Expr::Logic(_, parts)
        | Expr::Set(parts)
        | Expr::Ratio(parts)
        | Expr::Call(Function::Mod, parts) => all(parts),
        Expr::Relation(sides, signs) => !signs.is_empty() && all(sides),
        Expr::Tuple { items, open, close } => {
            all(items)
                && (open == close
                    || *open == '(' && *close == ')'
                    || Region::of(expr, budget).is_ok()
                    || !expr.symbols().is_empty()
                    || items.len() != 2)
        }
        Expr::Matrix(rows) => rows.iter().all(|row| all(row)),
        Expr::Operation(..) | Expr::Builder(..) => Region::of(expr, budget).is_ok(),
        Expr::PlusMinus { of, .. } | Expr::Quantity(of, _) => is_sound(of, budget),
        _ => values::size(expr) <= MAX_SIZE && has_value(expr, budget),
    }
}

/// Whether it is a number that there is not: `1/0`.
pub(crate) fn is_undefined(expr: &Expr) -> bool {
    matches!(expr, Expr::Sum(_) | Expr::Product(_) | Expr::Power(..) | Expr::Call(..))
        && exact::rational(expr, &Budget::small()) == Err(Trouble::Undefined)
}

/// What is odd about an answer that is not sound, where that can be said in a word.
pub(crate) fn oddity(expr: &Expr, budget: &Budget) -> Option<&'static str> {
    if expr.any(&|part| matches!(part, Expr::Opaque(_))) {
        return None;
    }
    if expr.any(&|part| exact::rational(part, budget) == Err(Trouble::Undefined)) {
        return Some("it has no value: it divides by zero, or the like");
    }
    if expr.any(&|part| values::size(part) > MAX_SIZE) {
        return Some("it is too large to be computed");
    }
    let precision = Precision { bits: 192, budget };
    match Sampler::new([expr, expr]).point(0, precision).value(expr) {
        Err(Trouble::Undefined) => Some("it has no value: a function in it has none there"),
        Err(Trouble::Imprecise) => {
            Some("no value of it can be computed: it has none, or lies too near to where it has none")
        }
        Err(Trouble::Spent) => Some("it is too large to be computed"),
        Ok(_) | Err(Trouble::NoValue) => None,
    }
}

/// Whether `expr` has a value at some point.
fn has_value(expr: &Expr, budget: &Budget) -> bool {
    if expr.any(&|part| matches!(part, Expr::PlusMinus { .. })) {
        return true;
    }
    if expr.any(&|part| matches!(part, Expr::Apply(..))) {
        return !expr.any(&|part| matches!(part, Expr::Text(_) | Expr::Opaque(_)));
    }
    let sampler = Sampler::new([expr, expr]);
    let points = if expr.symbols().is_empty() { 1 } else { MAX_POINTS };
    let has_imaginary = expr.symbols().is_empty() || expr.any(&|part| matches!(part, Expr::I));
    (0..points).any(|n| {
        let value = sampler.point(n, Precision { bits: 192, budget }).value(expr);
        value.is_ok_and(|value| has_imaginary || value.is_real())
    })
}
