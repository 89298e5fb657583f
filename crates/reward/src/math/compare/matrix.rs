//! Sums, products and powers of matrices, and matrices times numbers, computed.

use crate::math::budget::Budget;
use crate::math::exact;
use crate::math::expr::{Expr, Number};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

/// Matrices whose product takes more multiplications are not multiplied.
const MAX_MULTIPLICATIONS: usize = 256;

/// Higher powers are not computed.
const MAX_POWER: u64 = 1_000_000;

/// Powers of matrices that hold variables are multiplied out to so many terms of a cell.
const MAX_TERMS: usize = 1024;

/// Numbers of cells with more bits are not computed.
const MAX_BITS: u64 = 20_000;

/// Why a matrix is not computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Shapes that cannot be added or multiplied, or an inverse that there is not: it has no value.
    Undefined(&'static str),
    /// A power that is not a number, or a result that is too large.
    NotComputed,
}

/// Whether it is a sum, product or power that holds a matrix as a part.
pub(super) fn is_composed(expr: &Expr) -> bool {
    match expr {
        Expr::Sum(parts) | Expr::Product(parts) => {
            parts.iter().any(|part| matches!(part, Expr::Matrix(_)) || is_composed(part))
        }
        Expr::Power(base, _) => matches!(**base, Expr::Matrix(_)) || is_composed(base),
        _ => false,
    }
}

/// The matrix that `expr` is once it is computed, itself where there is nothing to compute.
pub(super) fn value(expr: &Expr, budget: &Budget) -> Result<Expr, Trouble> {
    if is_composed(expr) { rows(expr, budget).map(Expr::Matrix) } else { Ok(expr.clone()) }
}

type Rows = Vec<Vec<Expr>>;

const SHAPES: Trouble = Trouble::Undefined("the matrices are not of shapes that can be added or multiplied");

fn rows(expr: &Expr, budget: &Budget) -> Result<Rows, Trouble> {
    match expr {
        Expr::Matrix(rows) => Ok(rows.clone()),
        Expr::Sum(terms) => {
            let mut terms = terms.iter().map(|term| rows(term, budget));
            let first = terms.next().ok_or(SHAPES)??;
            terms.try_fold(first, |sum, term| plus(&sum, &term?))
        }
        Expr::Product(factors) => {
            let (matrices, scalars): (Vec<&Expr>, Vec<&Expr>) =
                factors.iter().partition(|factor| matches!(factor, Expr::Matrix(_)) || is_composed(factor));
            let mut matrices = matrices.into_iter().map(|factor| rows(factor, budget));
            let first = matrices.next().ok_or(SHAPES)??;
            let product = matrices.try_fold(first, |product, factor| times(&product, &factor?))?;
            if scalars.is_empty() {
                return Ok(product);
            }
            let scaled = |cell: &Expr| {
                Expr::Product(scalars.iter().map(|scalar| (*scalar).clone()).chain([cell.clone()]).collect())
            };
            Ok(product.iter().map(|row| row.iter().map(scaled).collect()).collect())
        }
        Expr::Power(base, exponent) => power(&rows(base, budget)?, exponent, budget),
        _ => Err(SHAPES),
    }
}

fn plus(a: &Rows, b: &Rows) -> Result<Rows, Trouble> {
    if a.len() != b.len() || a[0].len() != b[0].len() {
        return Err(SHAPES);
    }
    let cell = |(a, b): (&Expr, &Expr)| Expr::Sum(vec![a.clone(), b.clone()]);
    Ok(a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(cell).collect()).collect())
}

fn times(a: &Rows, b: &Rows) -> Result<Rows, Trouble> {
    if a[0].len() != b.len() {
        return Err(SHAPES);
    }
    if a.len() * a[0].len() * b[0].len() > MAX_MULTIPLICATIONS {
        return Err(Trouble::NotComputed);
    }
    let cell = |row: &[Expr], at: usize| {
        let terms =
            row.iter().zip(b).map(|(left, right)| Expr::Product(vec![left.clone(), right[at].clone()]));
        Expr::Sum(terms.collect())
    };
    Ok(a.iter().map(|row| (0..b[0].len()).map(|at| cell(row, at)).collect()).collect())
}

/// `base` to a whole power; `T` transposes.
fn power(base: &Rows, exponent: &Expr, budget: &Budget) -> Result<Rows, Trouble> {
    if matches!(exponent, Expr::Symbol(name) if name == "T") {
        return Ok((0..base[0].len()).map(|at| base.iter().map(|row| row[at].clone()).collect()).collect());
    }
    let whole = exact::integer(exponent, budget).ok().flatten().ok_or(Trouble::NotComputed)?;
    let size = base.len();
    if base[0].len() != size {
        return Err(SHAPES);
    }
    let times_itself = whole.magnitude().to_u64().filter(|n| *n <= MAX_POWER).ok_or(Trouble::NotComputed)?;
    if size * size * size > MAX_MULTIPLICATIONS {
        return Err(Trouble::NotComputed);
    }
    if let Some(numbers) = Numbers::of(base, budget) {
        let base = if whole.is_negative() { numbers.inverse()? } else { numbers };
        return Ok(base.power(times_itself, budget)?.rows());
    }
    let terms = u32::try_from(times_itself).ok().and_then(|n| size.checked_pow(n));
    if whole.is_negative() || terms.is_none_or(|terms| terms > MAX_TERMS) || times_itself > 16 {
        return Err(Trouble::NotComputed);
    }
    (0..times_itself).try_fold(Numbers::one(size).rows(), |product, _| times(&product, base))
}

/// A square matrix of rational numbers.
#[derive(Clone)]
struct Numbers(Vec<Vec<BigRational>>);

impl Numbers {
    /// The numbers in `rows`, if that is what all cells are.
    fn of(rows: &Rows, budget: &Budget) -> Option<Self> {
        let row = |row: &Vec<Expr>| row.iter().map(|cell| exact::rational(cell, budget).ok()?).collect();
        rows.iter().map(row).collect::<Option<_>>().map(Self)
    }

    fn one(size: usize) -> Self {
        let cell = |at, other| BigRational::from_integer(BigInt::from(i32::from(at == other)));
        Self((0..size).map(|at| (0..size).map(|other| cell(at, other)).collect()).collect())
    }

    fn rows(self) -> Rows {
        let cell = |value| Expr::Number(Number { value, decimals: None });
        self.0.into_iter().map(|row| row.into_iter().map(cell).collect()).collect()
    }

    fn times(&self, other: &Self, budget: &Budget) -> Result<Self, Trouble> {
        let bits = |value: &BigRational| value.numer().bits() + value.denom().bits();
        let most = |matrix: &Self| matrix.0.iter().flatten().map(bits).max().unwrap_or(0);
        let (left, right) = (most(self), most(other));
        if left + right > MAX_BITS {
            return Err(Trouble::NotComputed);
        }
        let size = self.0.len() as u64;
        let steps = size.pow(3) * (8 + (left + 64) * (right + 64) / 1024);
        budget.spend(steps).map_err(|_| Trouble::NotComputed)?;
        let cell = |row: &[BigRational], at: usize| {
            row.iter().zip(&other.0).fold(BigRational::zero(), |sum, (left, right)| sum + left * &right[at])
        };
        Ok(Self(self.0.iter().map(|row| (0..row.len()).map(|at| cell(row, at)).collect()).collect()))
    }

    /// By squaring.
    fn power(&self, mut exponent: u64, budget: &Budget) -> Result<Self, Trouble> {
        let (mut result, mut square) = (Self::one(self.0.len()), self.clone());
        while exponent > 0 {
            if exponent % 2 == 1 {
                result = result.times(&square, budget)?;
            }
            exponent /= 2;
            if exponent > 0 {
                square = square.times(&square, budget)?;
            }
        }
        Ok(result)
    }

    /// By Gauss and Jordan's elimination.
    fn inverse(mut self) -> Result<Self, Trouble> {
        let size = self.0.len();
        let mut inverse = Self::one(size);
        for at in 0..size {
            let pivot = (at..size)
                .find(|row| !self.0[*row][at].is_zero())
                .ok_or(Trouble::Undefined("one of the matrices has no inverse"))?;
            self.0.swap(at, pivot);
            inverse.0.swap(at, pivot);
            let factor = BigRational::one() / &self.0[at][at];
            for matrix in [&mut self, &mut inverse] {
                matrix.0[at].iter_mut().for_each(|cell| *cell *= &factor);
            }
            for row in (0..size).filter(|row| *row != at) {
                let factor = self.0[row][at].clone();
                for matrix in [&mut self, &mut inverse] {
                    for column in 0..size {
                        let part = &matrix.0[at][column] * &factor;
                        matrix.0[row][column] -= part;
                    }
                }
            }
        }
        Ok(inverse)
    }
}
