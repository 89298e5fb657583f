//! An expression of whole numbers with its value. It has parentheses where another order would be computed
//! without them, also where that makes no difference.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}
use Operator::{Add, Divide, Multiply, Subtract};

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Add => "+",
            Subtract => "-",
            Multiply => "*",
            Divide => "/",
        })
    }
}

/// How tightly the outermost part of an expression binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Sum,
    Product,
    Atom,
}

#[derive(Clone, Debug)]
pub(super) struct Term {
    pub(super) text: String,
    pub(super) value: i64,
    binding: Binding,
}

impl Term {
    pub(super) fn number(value: i64) -> Self {
        Self { text: value.to_string(), value, binding: Binding::Atom }
    }

    /// `self operator other`; none where a division leaves a remainder.
    pub(super) fn join(&self, operator: Operator, other: &Self) -> Option<Self> {
        let (a, b) = (self.value, other.value);
        let (value, binding) = match operator {
            Add => (a + b, Binding::Sum),
            Subtract => (a - b, Binding::Sum),
            Multiply => (a * b, Binding::Product),
            Divide if b != 0 && a % b == 0 => (a / b, Binding::Product),
            Divide => return None,
        };
        let left = self.within(self.binding < binding);
        let right = other.within(other.binding <= binding);
        Some(Self { text: format!("{left} {operator} {right}"), value, binding })
    }

    /// The same in parentheses.
    pub(super) fn grouped(&self) -> Self {
        Self { text: self.within(true), value: self.value, binding: Binding::Atom }
    }

    fn within(&self, parentheses: bool) -> String {
        if parentheses { format!("({})", self.text) } else { self.text.clone() }
    }
}

/// `a operator b = value`: a line of a worked solution.
pub(super) fn step(a: i64, operator: Operator, b: i64, value: i64) -> String {
    format!("{a} {operator} {b} = {value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parentheses_stand_where_they_must() {
        let [a, b, c] = [8, 4, 2].map(Term::number);
        let difference = b.join(Subtract, &c).expect("a difference");
        let quotient = b.join(Divide, &c).expect("a quotient");
        for (operator, right, text, value) in [
            (Add, &difference, "8 + (4 - 2)", 10),
            (Subtract, &difference, "8 - (4 - 2)", 6),
            (Multiply, &difference, "8 * (4 - 2)", 16),
            (Multiply, &quotient, "8 * (4 / 2)", 16),
            (Divide, &quotient, "8 / (4 / 2)", 4),
            (Subtract, &quotient, "8 - 4 / 2", 6),
        ] {
            let term = a.join(operator, right).expect("a whole number");
            assert_eq!((term.text.as_str(), term.value), (text, value));
        }
        assert_eq!(difference.join(Multiply, &a).expect("a product").text, "(4 - 2) * 8");
        assert!(c.join(Divide, &a).is_none());
    }
}
