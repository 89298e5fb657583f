//! Sums and products with constant whole bounds, written out.

use super::{Parser, one_or};
use crate::math::expr::Expr;
use crate::math::token::Token;
use num_traits::ToPrimitive;

/// All sums and products of an answer may have so many parts when they are written out.
const MAX_PARTS: usize = 10_000;

impl Parser<'_> {
    /// The terms of `\\sum_{k=a}^{b} …` or the factors of `\\prod_{k=a}^{b} …`, behind the command; none, and
    /// nothing read, where the bounds are not constant, there is no term or too many, or where what follows
    /// leaves open how far the body goes.
    pub(super) fn series(&mut self, name: &str) -> Option<Expr> {
        let (start, n_written_out) = (self.at, self.n_written_out);
        let written_out = self.written_out(name == "sum").ok().flatten();
        if written_out.is_none() {
            (self.at, self.n_written_out) = (start, n_written_out);
        }
        written_out
    }

    /// A sum or product that is not written out and fills the rest of the answer, as text that is the same for another
    /// name of its index and another order of factors; none, and nothing read, where it is not of this form.
    pub(super) fn unevaluated_series(&mut self, name: &str) -> Option<Expr> {
        let start = self.at;
        let read = self.header_and_body(name);
        if read.is_none() || self.peek().is_some() {
            self.at = start;
            return None;
        }
        read
    }

    fn header_and_body(&mut self, name: &str) -> Option<Expr> {
        let (
            Some(Token::Sign('_')),
            Some(Token::Sign('{')),
            Some(Token::Symbol(index)),
            Some(Token::Sign('=')),
        ) = (self.peek(), self.peek_at(1), self.peek_at(2), self.peek_at(3))
        else {
            return None;
        };
        self.at += 4;
        let from = self.deeper(Self::sum).ok()?;
        if !(self.accept('}') && self.accept('^')) {
            return None;
        }
        let to = self.argument().ok()?;
        let body = self.deeper(Self::product).ok()?;
        let body = body.map(&mut |part| match part {
            Expr::Symbol(name) if name == *index => Expr::Symbol("#".to_owned()),
            Expr::Symbol(name) => Expr::Symbol(match name.split_once('_') {
                Some((base, lower)) if lower == index => format!("{base}_#"),
                _ => name,
            }),
            other => other,
        });
        Some(Expr::Opaque(format!("{name} {from:?} {to:?} {:?}", body.ordered())))
    }

    fn written_out(&mut self, is_sum: bool) -> Result<Option<Expr>, String> {
        let (
            Some(Token::Sign('_')),
            Some(Token::Sign('{')),
            Some(Token::Symbol(index)),
            Some(Token::Sign('=')),
        ) = (self.peek(), self.peek_at(1), self.peek_at(2), self.peek_at(3))
        else {
            return Ok(None);
        };
        self.at += 4;
        let from = self.deeper(Self::sum)?;
        if !(self.accept('}') && self.accept('^')) {
            return Ok(None);
        }
        let to = self.argument()?;
        let body_at = self.at;
        if self.peek().is_none() {
            return Ok(None);
        }
        let body = self.deeper(Self::product)?;
        // The body of a sum ends before `+`, and that of a product before `·`, but not everyone means it so.
        let is_open = matches!(self.sign(), Some('+' | '-' | '±' | '∓'))
            || self.has_top_level(body_at, |token| match token {
                Token::Sign('*' | '/') => !is_sum,
                Token::Command(name) => *name == "mod",
                _ => false,
            });
        let bound = |expr: &Expr| {
            let number = expr.as_number().filter(|number| number.decimals.is_none())?;
            number.value.is_integer().then(|| number.value.to_i64()).flatten()
        };
        let is_open = is_open || body.any(&|part| hides(part, index));
        let (false, Some(from), Some(to)) = (is_open, bound(&from), bound(&to)) else { return Ok(None) };
        let n_terms = to.checked_sub(from).filter(|last| (0..MAX_PARTS as i64).contains(last));
        let Some(n_terms) = n_terms.map(|last| last as usize + 1) else { return Ok(None) };
        self.n_written_out = self.n_written_out.saturating_add(n_terms.saturating_mul(parts(&body)));
        if self.n_written_out > MAX_PARTS {
            return Ok(None);
        }
        let terms = (from..=to).map(|value| at_index(&body, index, value)).collect();
        Ok(Some(one_or(terms, if is_sum { Expr::Sum } else { Expr::Product })))
    }

    /// Whether `test` holds for a token between `start` and here that stands in no bracket.
    fn has_top_level(&self, start: usize, test: impl Fn(&Token) -> bool) -> bool {
        let mut depth = 0_i32;
        self.lexemes[start..self.at].iter().any(|lexeme| {
            match lexeme.token {
                Token::Sign('(' | '[' | '{') => depth += 1,
                Token::Sign(')' | ']' | '}') => depth -= 1,
                _ => {}
            }
            depth == 0 && test(&lexeme.token)
        })
    }
}

/// `body` where the variable `index` is `value`.
fn at_index(body: &Expr, index: &str, value: i64) -> Expr {
    body.map(&mut |part| match &part {
        Expr::Symbol(name) if name == index => Expr::integer(value),
        Expr::I if index == "i" => Expr::integer(value),
        Expr::E if index == "e" => Expr::integer(value),
        _ => part,
    })
}

/// Whether the variable `index` can stand in `part` without being a part of its own, as in `a_k`.
fn hides(part: &Expr, index: &str) -> bool {
    match part {
        Expr::Symbol(name) => name != index && name.contains(index),
        Expr::Apply(name, _) => name.contains(index),
        Expr::Text(_) | Expr::Opaque(_) | Expr::Relation(..) | Expr::List(_) => true,
        _ => false,
    }
}

/// How many parts `expr` has, itself counted.
fn parts(expr: &Expr) -> usize {
    1 + expr.children().into_iter().map(parts).sum::<usize>()
}
