//! Subsets of the real line: breakpoints in order, and which of the cells between and on them belong.

use super::budget::{Budget, Trouble};
use super::expr::{Expr, Function};
use super::values::{self, infinite_sign};
use std::cmp::Ordering;

/// More breakpoints than this are not compared.
const MAX_BREAKPOINTS: usize = 64;

/// A finite union of intervals and points.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    /// Real constants in ascending order.
    breakpoints: Vec<Expr>,
    /// Before the first breakpoint, on it, between it and the next, …: one more than twice as many.
    cells: Vec<bool>,
}

impl Region {
    /// The set that `expr` describes, if it is a set of reals that can be told: an interval, a finite set, ∪,
    /// ∩ and ∖ of such, ℝ, or linear inequalities in one variable.
    pub(crate) fn of(expr: &Expr, budget: &Budget) -> Result<Self, Trouble> {
        budget.spend(10)?;
        match expr {
            Expr::Tuple { items, open, close } if items.len() == 2 && *open != '⟨' => {
                Self::interval(&items[0], &items[1], *open == '[', *close == ']', budget)
            }
            Expr::Set(points) => {
                let mut set = Self { breakpoints: Vec::new(), cells: vec![false] };
                for point in points {
                    set = set.merge(&Self::point(point), |a, b| a || b, budget)?;
                }
                Ok(set)
            }
            Expr::Numbers('R') => Ok(Self { breakpoints: Vec::new(), cells: vec![true] }),
            Expr::Operation(sign, a, b) => {
                let (a, b) = (Self::of(a, budget)?, Self::of(b, budget)?);
                match sign {
                    '∪' => a.merge(&b, |a, b| a || b, budget),
                    '∩' => a.merge(&b, |a, b| a && b, budget),
                    _ => a.merge(&b, |a, b| a && !b, budget),
                }
            }
            Expr::Builder(what, condition) => {
                let is_variable = match &**what {
                    Expr::Symbol(_) => true,
                    Expr::Relation(sides, signs) => {
                        signs == &['∈']
                            && sides[1] == Expr::Numbers('R')
                            && matches!(sides[0], Expr::Symbol(_))
                    }
                    _ => false,
                };
                if is_variable { Self::of(condition, budget) } else { Err(Trouble::NoValue) }
            }
            Expr::Relation(sides, signs) => Self::of_relation(sides, signs, budget),
            Expr::Logic(joiner, items) => {
                let either = *joiner == '∨';
                let mut all = Self { breakpoints: Vec::new(), cells: vec![!either] };
                for item in items {
                    if matches!(item, Expr::Set(_) | Expr::Tuple { .. }) {
                        return Err(Trouble::NoValue);
                    }
                    let item = Self::of(item, budget)?;
                    all = all.merge(&item, |a, b| if either { a || b } else { a && b }, budget)?;
                }
                if all.cells.contains(&true) { Ok(all) } else { Err(Trouble::NoValue) }
            }
            Expr::List(items) => {
                // "and" and "or" are both read as a comma. What cannot hold at once is meant as a union.
                let mut both = Self { breakpoints: Vec::new(), cells: vec![true] };
                let mut either = Self { breakpoints: Vec::new(), cells: vec![false] };
                for item in items {
                    if !matches!(item, Expr::Relation(..)) {
                        return Err(Trouble::NoValue);
                    }
                    let item = Self::of(item, budget)?;
                    both = both.merge(&item, |a, b| a && b, budget)?;
                    either = either.merge(&item, |a, b| a || b, budget)?;
                }
                Ok(if both.cells.contains(&true) { both } else { either })
            }
            _ => Err(Trouble::NoValue),
        }
    }

    /// Whether the two hold the same numbers.
    pub(crate) fn equals(&self, other: &Self, budget: &Budget) -> Result<bool, Trouble> {
        Ok(!self.merge(other, |a, b| a != b, budget)?.cells.contains(&true))
    }

    fn point(point: &Expr) -> Self {
        Self { breakpoints: vec![point.clone()], cells: vec![false, true, false] }
    }

    fn interval(
        low: &Expr,
        high: &Expr,
        with_low: bool,
        with_high: bool,
        budget: &Budget,
    ) -> Result<Self, Trouble> {
        let (low_sign, high_sign) = (infinite_sign(low), infinite_sign(high));
        let is_value = |expr: &Expr| !expr.any(&|part| matches!(part, Expr::Symbol(_)));
        if !is_value(low) || !is_value(high) || low_sign > 0 || high_sign < 0 {
            return Err(Trouble::NoValue);
        }
        match (low_sign, high_sign) {
            (0, 0) => match values::order(low, high, budget)? {
                Ordering::Less => Ok(Self {
                    breakpoints: vec![low.clone(), high.clone()],
                    cells: vec![false, with_low, true, with_high, false],
                }),
                Ordering::Equal if with_low && with_high => Ok(Self::point(low)),
                _ => Err(Trouble::NoValue),
            },
            (0, _) => Ok(Self { breakpoints: vec![low.clone()], cells: vec![false, with_low, true] }),
            (_, 0) => Ok(Self { breakpoints: vec![high.clone()], cells: vec![true, with_high, false] }),
            _ => Ok(Self { breakpoints: Vec::new(), cells: vec![true] }),
        }
    }

    /// `a < x ≤ b`, `2x + 1 > 0`, `x ∈ (0, 1)`.
    fn of_relation(sides: &[Expr], signs: &[char], budget: &Budget) -> Result<Self, Trouble> {
        // `0 < f(x) < 1`: a function's value is a variable like another.
        let sides: Vec<Expr> = sides
            .iter()
            .map(|side| {
                side.map(&mut |part| match part {
                    Expr::Apply(name, _) => Expr::Symbol(format!("{name}(…)")),
                    other => other,
                })
            })
            .collect();
        let mut region = Self { breakpoints: Vec::new(), cells: vec![true] };
        for (pair, sign) in sides.windows(2).zip(signs) {
            let next = match sign {
                '∈' => Self::of(&pair[1], budget)?,
                _ => Self::half_line(&pair[0], *sign, &pair[1], budget)?,
            };
            region = region.merge(&next, |a, b| a && b, budget)?;
        }
        Ok(region)
    }

    /// Where `left sign right` holds, which is linear in one variable.
    fn half_line(left: &Expr, sign: char, right: &Expr, budget: &Budget) -> Result<Self, Trouble> {
        if let Some(region) = Self::distance(left, sign, right, budget)? {
            return Ok(region);
        }
        let difference = left.minus(right);
        let [variable] = difference.symbols()[..] else { return Err(Trouble::NoValue) };
        let at = |value: i64| {
            difference.map(&mut |part| match part {
                Expr::Symbol(name) if name == variable => Expr::integer(value),
                other => other,
            })
        };
        let (at_0, at_1, at_2) = (at(0), at(1), at(2));
        let slope = at_1.minus(&at_0);
        let twice = Expr::Product(vec![Expr::integer(2), slope.clone()]);
        if !values::compare(&at_2.minus(&at_0), &twice, 0, budget).is_equal() {
            return Err(Trouble::NoValue);
        }
        let rising = values::sign(&slope, budget)?;
        if rising == 0 {
            return Err(Trouble::NoValue);
        }
        let root = Expr::Product(vec![at_0.negated(), slope.inverted()]);
        let (below, on, above) = match sign {
            '<' => (true, false, false),
            '≤' => (true, true, false),
            '>' => (false, false, true),
            '≥' => (false, true, true),
            '≠' => (true, false, true),
            '=' => (false, true, false),
            _ => return Err(Trouble::NoValue),
        };
        let cells = if rising > 0 { vec![below, on, above] } else { vec![above, on, below] };
        Ok(Self { breakpoints: vec![root], cells })
    }

    /// `|x - a| < c` and its like: between two bounds or beyond them; none where there is no absolute value.
    fn distance(left: &Expr, sign: char, right: &Expr, budget: &Budget) -> Result<Option<Self>, Trouble> {
        let mirrored = |sign: char| match sign {
            '<' => '>',
            '>' => '<',
            '≤' => '≥',
            '≥' => '≤',
            other => other,
        };
        let (of, sign, bound) = match (left, right) {
            (Expr::Call(Function::Abs, of), bound) if bound.symbols().is_empty() => (&of[0], sign, bound),
            (bound, Expr::Call(Function::Abs, of)) if bound.symbols().is_empty() => {
                (&of[0], mirrored(sign), bound)
            }
            _ => return Ok(None),
        };
        if values::sign(bound, budget)? < 0 {
            return Err(Trouble::NoValue);
        }
        let above = Self::half_line(of, sign, bound, budget)?;
        let below = Self::half_line(of, mirrored(sign), &bound.clone().negated(), budget)?;
        let either = matches!(sign, '>' | '≥' | '=');
        above.merge(&below, |a, b| if either { a || b } else { a && b }, budget).map(Some)
    }

    /// The set of which a number is a member as `member` says from its membership in the two.
    fn merge(
        &self,
        other: &Self,
        member: impl Fn(bool, bool) -> bool,
        budget: &Budget,
    ) -> Result<Self, Trouble> {
        let (a, b) = (&self.breakpoints, &other.breakpoints);
        if a.len() + b.len() > MAX_BREAKPOINTS {
            return Err(Trouble::Spent);
        }
        let (mut i, mut j) = (0, 0);
        let mut merged = Self { breakpoints: Vec::new(), cells: vec![member(self.cells[0], other.cells[0])] };
        while i < a.len() || j < b.len() {
            let order = match (a.get(i), b.get(j)) {
                (Some(a), Some(b)) => values::order(a, b, budget)?,
                (Some(_), None) => Ordering::Less,
                _ => Ordering::Greater,
            };
            let (with_a, with_b) = (order.is_le(), order.is_ge());
            merged.breakpoints.push(if with_a { a[i].clone() } else { b[j].clone() });
            let on_a = self.cells[2 * i + usize::from(with_a)];
            let on_b = other.cells[2 * j + usize::from(with_b)];
            merged.cells.push(member(on_a, on_b));
            i += usize::from(with_a);
            j += usize::from(with_b);
            merged.cells.push(member(self.cells[2 * i], other.cells[2 * j]));
        }
        Ok(merged)
    }
}
