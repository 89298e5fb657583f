//! What an answer is once it is read: one tree for values, collections, relations and text.

use super::units::Unit;
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed};

/// An answer or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expr {
    /// A literal number.
    Number(Number),
    /// π.
    Pi,
    /// Euler's number.
    E,
    /// The imaginary unit.
    I,
    /// Positive infinity.
    Infinity,
    /// A variable or a name, with its subscript: `x`, `alpha`, `x_1`.
    Symbol(String),
    /// A sum of two or more terms.
    Sum(Vec<Expr>),
    /// A product of two or more factors.
    Product(Vec<Expr>),
    /// Base and exponent; a quotient is a product with a power of -1.
    Power(Box<Expr>, Box<Expr>),
    /// A known function of its arguments.
    Call(Function, Vec<Expr>),
    /// An unknown function of its arguments: `f(x)`.
    Apply(String, Vec<Expr>),
    /// `±a`, or `∓a` where `minus_first`.
    PlusMinus {
        /// What has either sign.
        of: Box<Expr>,
        /// Whether the sign is `∓`.
        minus_first: bool,
    },
    /// A value with its unit, percent and degrees among them.
    Quantity(Box<Expr>, Unit),
    /// Digits in a stated base: `101_2`.
    Based {
        /// The digits as written, read in base ten.
        digits: Number,
        /// What they mean.
        value: BigInt,
    },
    /// Several answers whose order means nothing: `1, 2`, `x = 1 or x = 2`.
    List(Vec<Expr>),
    /// Statements of which all (`∧`) or some (`∨`) hold, where that makes a difference: `x < 0 or x > 1`, `p ∨ q`.
    Logic(char, Vec<Expr>),
    /// Items between brackets: a tuple, an interval or a vector.
    Tuple {
        /// The items; two or more.
        items: Vec<Expr>,
        /// The opening bracket: `(`, `[` or `⟨`.
        open: char,
        /// The closing bracket: `)`, `]` or `⟩`.
        close: char,
    },
    /// A finite set in braces; ∅ is the empty one.
    Set(Vec<Expr>),
    /// Rows of a matrix, all of one length.
    Matrix(Vec<Vec<Expr>>),
    /// `a < b ≤ c`: sides and what stands between them.
    Relation(Vec<Expr>, Vec<char>),
    /// `∪`, `∩` or `∖` of two sets.
    Operation(char, Box<Expr>, Box<Expr>),
    /// A set of numbers by its letter: `R`, `Z`, `N`, `Q`, `C`.
    Numbers(char),
    /// `{what | condition}`.
    Builder(Box<Expr>, Box<Expr>),
    /// `a : b : c`.
    Ratio(Vec<Expr>),
    /// A multiple-choice letter with the answer that stands beside it, if any: `(B) 5`.
    Choice(char, Option<Box<Expr>>),
    /// Words.
    Text(String),
    /// What is read but not computed, an integral say, without white space.
    Opaque(String),
}

/// A number and how it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Number {
    /// Its exact value.
    pub(crate) value: BigRational,
    /// Digits after the decimal point, less the power of ten; absent for an integer.
    pub(crate) decimals: Option<i64>,
}

/// Functions that are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Function {
    /// `Root(x, n)`: the principal nth root; the real one for a negative x and an odd n.
    Root,
    Ln,
    /// `Log(x, base)`.
    Log,
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Asin,
    Acos,
    Atan,
    Acot,
    Asec,
    Acsc,
    Sinh,
    Cosh,
    Tanh,
    Coth,
    Sech,
    Csch,
    Asinh,
    Acosh,
    Atanh,
    Abs,
    Floor,
    Ceil,
    Factorial,
    DoubleFactorial,
    Binomial,
    Gcd,
    Lcm,
    Max,
    Min,
    Mod,
    Re,
    Im,
    Conj,
    Arg,
}

impl Function {
    /// The function called `name` in LaTeX or plain text.
    pub(crate) fn named(name: &str) -> Option<Self> {
        use Function as F;
        Some(match name {
            "ln" => F::Ln,
            "log" | "lg" => F::Log,
            "sin" => F::Sin,
            "cos" => F::Cos,
            "tan" | "tg" => F::Tan,
            "cot" | "ctg" => F::Cot,
            "sec" => F::Sec,
            "csc" | "cosec" => F::Csc,
            "arcsin" | "asin" => F::Asin,
            "arccos" | "acos" => F::Acos,
            "arctan" | "atan" | "arctg" => F::Atan,
            "arccot" | "acot" => F::Acot,
            "arcsec" => F::Asec,
            "arccsc" => F::Acsc,
            "sinh" => F::Sinh,
            "cosh" => F::Cosh,
            "tanh" => F::Tanh,
            "coth" => F::Coth,
            "sech" => F::Sech,
            "csch" => F::Csch,
            "arcsinh" | "arsinh" | "asinh" => F::Asinh,
            "arccosh" | "arcosh" | "acosh" => F::Acosh,
            "arctanh" | "artanh" | "atanh" => F::Atanh,
            "abs" => F::Abs,
            "floor" => F::Floor,
            "ceil" => F::Ceil,
            "gcd" => F::Gcd,
            "lcm" => F::Lcm,
            "max" => F::Max,
            "min" => F::Min,
            "Re" => F::Re,
            "Im" => F::Im,
            "arg" => F::Arg,
            _ => return None,
        })
    }

    /// The inverse, which `f^{-1}` means for a trigonometric or hyperbolic function.
    pub(crate) fn inverse(self) -> Option<Self> {
        use Function as F;
        Some(match self {
            F::Sin => F::Asin,
            F::Cos => F::Acos,
            F::Tan => F::Atan,
            F::Cot => F::Acot,
            F::Sec => F::Asec,
            F::Csc => F::Acsc,
            F::Sinh => F::Asinh,
            F::Cosh => F::Acosh,
            F::Tanh => F::Atanh,
            _ => return None,
        })
    }
}

impl Number {
    /// An integer.
    pub(crate) fn integer(value: impl Into<BigInt>) -> Self {
        Self { value: BigRational::from_integer(value.into()), decimals: None }
    }
}

impl Expr {
    /// The integer `value`.
    pub(crate) fn integer(value: i64) -> Self {
        Self::Number(Number::integer(value))
    }

    /// Its negative; a literal keeps being one.
    pub(crate) fn negated(self) -> Self {
        match self {
            Self::Number(Number { value, decimals }) => Self::Number(Number { value: -value, decimals }),
            Self::Quantity(value, unit) => Self::Quantity(Box::new(value.negated()), unit),
            other => Self::Product(vec![Self::integer(-1), other]),
        }
    }

    /// 1 divided by it.
    pub(crate) fn inverted(self) -> Self {
        Self::Power(Box::new(self), Box::new(Self::integer(-1)))
    }

    /// The difference `self - other`.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        Self::Sum(vec![self.clone(), other.clone().negated()])
    }

    /// The value of a literal number.
    pub(crate) fn as_number(&self) -> Option<&Number> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }

    /// The value of a literal non-negative integer.
    pub(crate) fn as_count(&self) -> Option<&BigInt> {
        let number = self.as_number()?;
        let whole = number.value.is_integer() && number.decimals.is_none() && !number.value.is_negative();
        whole.then(|| number.value.numer())
    }

    /// Whether it is the literal number `value`.
    pub(crate) fn is_integer(&self, value: i64) -> bool {
        self.as_number().is_some_and(|number| {
            number.value.denom().is_one() && *number.value.numer() == BigInt::from(value)
        })
    }

    /// The parts of which it consists directly.
    pub(crate) fn children(&self) -> Vec<&Self> {
        match self {
            Self::Sum(of)
            | Self::Product(of)
            | Self::List(of)
            | Self::Logic(_, of)
            | Self::Set(of)
            | Self::Ratio(of)
            | Self::Call(_, of)
            | Self::Apply(_, of)
            | Self::Relation(of, _) => of.iter().collect(),
            Self::Tuple { items, .. } => items.iter().collect(),
            Self::Matrix(rows) => rows.iter().flatten().collect(),
            Self::Power(a, b) | Self::Operation(_, a, b) | Self::Builder(a, b) => vec![a, b],
            Self::PlusMinus { of, .. } | Self::Quantity(of, _) | Self::Choice(_, Some(of)) => vec![of],
            _ => Vec::new(),
        }
    }

    /// It, with every part rewritten by `rewrite`, the innermost first.
    pub(crate) fn map(&self, rewrite: &mut impl FnMut(Self) -> Self) -> Self {
        let mut each = |of: &[Self]| of.iter().map(|part| part.map(rewrite)).collect::<Vec<_>>();
        let mapped = match self {
            Self::Sum(of) => Self::Sum(each(of)),
            Self::Product(of) => Self::Product(each(of)),
            Self::List(of) => Self::List(each(of)),
            Self::Logic(joiner, of) => Self::Logic(*joiner, each(of)),
            Self::Set(of) => Self::Set(each(of)),
            Self::Ratio(of) => Self::Ratio(each(of)),
            Self::Call(function, of) => Self::Call(*function, each(of)),
            Self::Apply(name, of) => Self::Apply(name.clone(), each(of)),
            Self::Relation(of, signs) => Self::Relation(each(of), signs.clone()),
            Self::Tuple { items, open, close } => {
                Self::Tuple { items: each(items), open: *open, close: *close }
            }
            Self::Matrix(rows) => Self::Matrix(rows.iter().map(|row| each(row)).collect()),
            Self::Power(a, b) => Self::Power(Box::new(a.map(rewrite)), Box::new(b.map(rewrite))),
            Self::Operation(sign, a, b) => {
                Self::Operation(*sign, Box::new(a.map(rewrite)), Box::new(b.map(rewrite)))
            }
            Self::Builder(a, b) => Self::Builder(Box::new(a.map(rewrite)), Box::new(b.map(rewrite))),
            Self::PlusMinus { of, minus_first } => {
                Self::PlusMinus { of: Box::new(of.map(rewrite)), minus_first: *minus_first }
            }
            Self::Quantity(of, unit) => Self::Quantity(Box::new(of.map(rewrite)), unit.clone()),
            other => other.clone(),
        };
        rewrite(mapped)
    }

    /// It, with the parts of its sums and products in an order that does not depend on how they were written.
    pub(crate) fn ordered(&self) -> Self {
        let sorted = |mut parts: Vec<Self>| {
            parts.sort_by_cached_key(|part| format!("{part:?}"));
            parts
        };
        self.map(&mut |part| match part {
            Self::Sum(parts) => Self::Sum(sorted(parts)),
            Self::Product(parts) => Self::Product(sorted(parts)),
            other => other,
        })
    }

    /// Whether `test` holds for it or any part of it.
    pub(crate) fn any(&self, test: &impl Fn(&Self) -> bool) -> bool {
        test(self) || self.children().into_iter().any(|part| part.any(test))
    }

    /// The names of its variables, each once, in the order of their first appearance.
    pub(crate) fn symbols(&self) -> Vec<&str> {
        fn collect<'a>(expr: &'a Expr, names: &mut Vec<&'a str>) {
            if let Expr::Symbol(name) = expr
                && !names.contains(&name.as_str())
            {
                names.push(name);
            }
            for part in expr.children() {
                collect(part, names);
            }
        }
        let mut names = Vec::new();
        collect(self, &mut names);
        names
    }
}
