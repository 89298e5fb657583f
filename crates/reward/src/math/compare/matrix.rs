//! Sums and products of matrices, and matrices times numbers, computed.

use crate::math::expr::Expr;

/// Matrices with more cells are not multiplied.
const MAX_CELLS: usize = 64;

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

/// The matrix that `expr` is once it is computed, itself where there is nothing to compute; none where shapes do not fit.
pub(super) fn value(expr: &Expr) -> Option<Expr> {
    if !is_composed(expr) {
        return Some(expr.clone());
    }
    rows(expr).map(Expr::Matrix)
}

type Rows = Vec<Vec<Expr>>;

fn rows(expr: &Expr) -> Option<Rows> {
    match expr {
        Expr::Matrix(rows) => Some(rows.clone()),
        Expr::Sum(terms) => {
            let mut terms = terms.iter().map(rows);
            let first = terms.next()??;
            terms.try_fold(first, |sum, term| plus(&sum, &term?))
        }
        Expr::Product(factors) => {
            let (matrices, scalars): (Vec<&Expr>, Vec<&Expr>) =
                factors.iter().partition(|factor| matches!(factor, Expr::Matrix(_)) || is_composed(factor));
            let mut matrices = matrices.into_iter().map(rows);
            let first = matrices.next()??;
            let product = matrices.try_fold(first, |product, factor| times(&product, &factor?))?;
            if scalars.is_empty() {
                return Some(product);
            }
            let scaled = |cell: &Expr| {
                Expr::Product(scalars.iter().map(|scalar| (*scalar).clone()).chain([cell.clone()]).collect())
            };
            Some(product.iter().map(|row| row.iter().map(scaled).collect()).collect())
        }
        Expr::Power(base, exponent) if exponent.is_integer(2) => {
            let base = rows(base)?;
            times(&base, &base)
        }
        _ => None,
    }
}

fn plus(a: &Rows, b: &Rows) -> Option<Rows> {
    if a.len() != b.len() || a[0].len() != b[0].len() {
        return None;
    }
    let cell = |(a, b): (&Expr, &Expr)| Expr::Sum(vec![a.clone(), b.clone()]);
    Some(a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(cell).collect()).collect())
}

fn times(a: &Rows, b: &Rows) -> Option<Rows> {
    if a[0].len() != b.len() || a.len() * a[0].len() * b[0].len() > MAX_CELLS * 4 {
        return None;
    }
    let cell = |row: &[Expr], at: usize| {
        let terms =
            row.iter().zip(b).map(|(left, right)| Expr::Product(vec![left.clone(), right[at].clone()]));
        Expr::Sum(terms.collect())
    };
    Some(a.iter().map(|row| (0..b[0].len()).map(|at| cell(row, at)).collect()).collect())
}
