//! Whether chains of equalities are true. An answer that names two values is wrong, whatever joins them.

use super::names::{is_name, settle};
use super::{Comparer, is_constant};
use crate::math::ball::{Ball, Precision};
use crate::math::evaluate::Point;
use crate::math::expr::{Expr, Number};
use crate::math::numeral;
use crate::math::parse::kind;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive};

/// A part of a chain between arrows: the name of which it speaks, and the values that it gives it.
struct Segment<'a> {
    name: Option<&'a Expr>,
    values: Vec<(char, &'a Expr)>,
}

impl Comparer<'_> {
    /// Why an answer names more than one value, where it does: a chain of equalities in it is not true.
    pub(super) fn false_chain(&self, found: &Expr) -> Option<String> {
        match found {
            Expr::Relation(sides, signs) => self.falsehood(sides, signs),
            Expr::Number(_) | Expr::Builder(..) => None,
            other => other.children().into_iter().find_map(|part| self.false_chain(part)),
        }
    }

    fn falsehood(&self, sides: &[Expr], signs: &[char]) -> Option<String> {
        if !signs.iter().all(|sign| "=≈≡⇒".contains(*sign)) {
            return None;
        }
        let segments: Vec<Segment> = segments(sides, signs);
        for segment in &segments {
            for pair in segment.values.windows(2) {
                let ((_, left), (sign, right)) = (pair[0], pair[1]);
                if !self.holds(left, sign, right) {
                    return Some(format!(
                        "it names two values, {} and {}, that are not one",
                        kind(left),
                        kind(right)
                    ));
                }
            }
        }
        let (last, before) = segments.split_last()?;
        let (_, value) = last.values.last()?;
        for segment in before {
            let same_name = segment.name.is_none() || last.name.is_none() || segment.name == last.name;
            if let Some((_, other)) = segment.values.last().filter(|_| same_name)
                && !self.holds(other, '=', value)
            {
                return Some("it names two values, one behind an arrow".to_owned());
            }
        }
        None
    }

    fn holds(&self, left: &Expr, sign: char, right: &Expr) -> bool {
        self.settled(&settle(left), &settle(right)).is_equal() || self.rounds(left, sign, right)
    }

    /// Whether `right` is a decimal to which `left` rounds.
    fn rounds(&self, left: &Expr, sign: char, right: &Expr) -> bool {
        match (left, right) {
            (Expr::Quantity(left, unit), Expr::Quantity(right, other)) => {
                return unit == other && self.rounds(left, sign, right);
            }
            (Expr::Quantity(left, _), right) => return self.rounds(left, sign, right),
            (left, Expr::Quantity(right, _)) => return self.rounds(left, sign, right),
            _ => {}
        }
        let Some(decimal) = shown(right) else { return false };
        let decimals = decimal.decimals.unwrap_or(0);
        if sign == '=' && (decimals <= 0 || matches!(left, Expr::Number(_))) {
            return false;
        }
        let p = Precision { bits: 192, budget: self.budget };
        let unit = numeral::power(-decimals.clamp(-1000, 1000));
        let two = BigRational::from_integer(2.into());
        // Two digits and more may also be cut off rather than rounded; a large round number is a rough one.
        let mut tolerance = if decimals >= 2 { unit } else { unit / &two };
        let tenth = &decimal.value / BigRational::from_integer(10.into());
        if decimals == 0 && tenth.is_integer() {
            tolerance = tolerance.max(decimal.value.abs() / BigRational::from_integer(200.into()));
        }
        let within = || {
            let value = Point { values: Vec::new(), precision: p }.value(left)?;
            let difference = value.minus(&Ball::rational(&decimal.value, p)?, p)?.modulus(p)?;
            Ball::rational(&tolerance, p)?.minus(&difference, p).map(|left| left.sign())
        };
        matches!(within(), Ok(Some(0 | 1)))
    }
}

/// The segments of a chain. One in which a side is an equation's rather than a value gives no values.
fn segments<'a>(sides: &'a [Expr], signs: &[char]) -> Vec<Segment<'a>> {
    let mut segments = Vec::new();
    let mut start = 0;
    for at in 0..sides.len() {
        if signs.get(at).is_some_and(|sign| *sign != '⇒') {
            continue;
        }
        let of = &sides[start..=at];
        let name = of.first().filter(|side| is_name(side));
        let is_stated = name.is_some() || of.iter().all(is_constant);
        let values =
            of.iter().enumerate().skip(usize::from(name.is_some())).filter(|(_, side)| !is_name(side));
        let values = values.map(|(i, side)| (if i == 0 { '=' } else { signs[start + i - 1] }, side));
        let values = if is_stated { values.collect() } else { Vec::new() };
        segments.push(Segment { name, values });
        start = at + 1;
    }
    segments
}

/// A number as its digits show it: a decimal, or a number times a power of ten.
fn shown(expr: &Expr) -> Option<Number> {
    match expr {
        Expr::Number(number) => Some(number.clone()),
        Expr::Product(factors) => match factors.as_slice() {
            [minus, of] if minus.is_integer(-1) => {
                let Number { value, decimals } = shown(of)?;
                Some(Number { value: -value, decimals })
            }
            [Expr::Number(number), Expr::Power(base, exponent)] if base.is_integer(10) => {
                let power = exponent.as_number().filter(|power| power.value.is_integer())?;
                let power = power.value.to_i64().filter(|power| power.abs() <= 1000)?;
                let value = &number.value * numeral::power(power);
                Some(Number { value, decimals: Some(number.decimals.unwrap_or(0) - power) })
            }
            _ => None,
        },
        _ => None,
    }
}
