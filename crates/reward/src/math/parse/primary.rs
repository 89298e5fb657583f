//! The tightest level: literals, names, brackets, functions, environments.

use super::{MAX_LETTERS, Parsed, Parser, is_choice, letter, one_or};
use crate::math::expr::{Expr, Function};
use crate::math::token::Token;
use crate::math::units::Unit;

impl Parser<'_> {
    pub(super) fn primary(&mut self) -> Parsed {
        let Some(token) = self.peek() else { return Err("it ends where a value should follow".into()) };
        self.at += 1;
        match token {
            Token::Number(number) => Ok(Expr::Number(number.clone())),
            Token::Symbol(name) => self.symbol(name),
            Token::Function(function) => self.call(*function),
            Token::Word(word) if word.len() <= MAX_LETTERS => {
                Ok(one_or(word.chars().map(|c| letter(&c.to_string())).collect(), Expr::Product))
            }
            Token::Text(word) | Token::Word(word) => Ok(self.words(word)),
            Token::Command(name) => self.command(name),
            Token::Begin(name) => self.environment(name),
            Token::End => Err("an environment ends that was not begun".into()),
            Token::Sign(sign) => self.bracket(*sign),
        }
    }

    fn symbol(&mut self, name: &str) -> Parsed {
        let is_function = matches!(name, "f" | "g" | "h" | "F" | "G" | "H");
        if is_function && self.sign() == Some('(') {
            return Ok(Expr::Apply(name.to_owned(), self.arguments()?));
        }
        Ok(letter(name))
    }

    /// Words in a row.
    fn words(&mut self, first: &str) -> Expr {
        let mut text = first.to_owned();
        while let Some(Token::Text(word) | Token::Word(word)) = self.peek() {
            text.push(' ');
            text.push_str(word);
            self.at += 1;
        }
        Expr::Text(text)
    }

    fn bracket(&mut self, sign: char) -> Parsed {
        match sign {
            '(' | '[' | '⟨' => self.brackets(sign),
            ']' => self.brackets(']'),
            '⦃' => self.set(),
            '{' => {
                self.at -= 1;
                if self.peek_at(1) == Some(&Token::Sign('}')) {
                    self.at += 2;
                    return Ok(Expr::Set(Vec::new()));
                }
                self.group()
            }
            '|' | '‖' => self.bars(sign),
            '⌊' | '⌈' => {
                let close = if sign == '⌊' { '⌋' } else { '⌉' };
                let content = self.deeper(Self::sum)?;
                self.expect(close)?;
                let function = if sign == '⌊' { Function::Floor } else { Function::Ceil };
                Ok(Expr::Call(function, vec![content]))
            }
            '∞' => Ok(Expr::Infinity),
            '∅' => Ok(Expr::Set(Vec::new())),
            '∠' => Ok(Expr::Symbol("∠".into())),
            '$' | '€' | '£' | '¥' | '₹' => {
                let value = self.deeper(Self::product)?;
                Ok(match (value, Unit::parse(&sign.to_string())) {
                    (value @ Expr::Quantity(..), _) | (value, None) => value,
                    (value, Some(unit)) => Expr::Quantity(Box::new(value), unit),
                })
            }
            sign => Err(format!("`{sign}` is not expected where it stands")),
        }
    }

    /// A value in brackets, or a tuple or interval.
    fn brackets(&mut self, open: char) -> Parsed {
        self.deeper(|parser| {
            let (in_bars, in_set) = (parser.in_bars, parser.in_set);
            (parser.in_bars, parser.in_set) = (false, false);
            let outward = std::mem::replace(&mut parser.outward, open == ']');
            let content = parser.list();
            (parser.in_bars, parser.in_set, parser.outward) = (in_bars, in_set, outward);
            let content = content?;
            let close = match parser.sign() {
                Some(close @ (')' | ']' | '⟩')) => close,
                Some('[') if open == ']' => '[',
                // `⟨` and `⟩` written as `<` and `>` are not read: they are relations.
                _ => return Err(format!("a `{open}` is not closed")),
            };
            parser.at += 1;
            // French intervals open outwards: `]0, 1[` is `(0, 1)`.
            let open = if open == ']' { '(' } else { open };
            let close = if close == '[' { ')' } else { close };
            Ok(match content {
                Expr::List(items) => Expr::Tuple { items, open, close },
                _ if open == '(' && close != ')' || open == '[' && close != ']' => {
                    return Err(format!("`{open}` and `{close}` do not match"));
                }
                Expr::Symbol(name) if open == '(' && is_choice(&name) && parser.stands_first(3) => {
                    parser.choice(&name)
                }
                single => single,
            })
        })
    }

    /// Whether the token just passed is the `n`th of all.
    fn stands_first(&self, n: usize) -> bool {
        self.at == n
    }

    /// `(B) 5`: the letter and what stands behind it, if that can be read to the end.
    pub(super) fn choice(&mut self, name: &str) -> Expr {
        let letter = name.chars().next().unwrap_or_default();
        let start = self.at;
        self.accept(':');
        if self.peek().is_none() {
            return Expr::Choice(letter, None);
        }
        match self.relation() {
            // `(B) (C)` chooses twice.
            Ok(Expr::Symbol(other)) if is_choice(&other) && other != name && self.peek().is_none() => {
                Expr::List(vec![Expr::Symbol(name.to_owned()), Expr::Symbol(other)])
            }
            Ok(rest) if self.peek().is_none() => Expr::Choice(letter, Some(Box::new(rest))),
            _ => {
                self.at = start;
                Expr::Symbol(name.to_owned())
            }
        }
    }

    /// What stands between `\{` and `\}`.
    fn set(&mut self) -> Parsed {
        if self.accept('⦄') {
            return Ok(Expr::Set(Vec::new()));
        }
        if let Some(system) = self.system()? {
            return Ok(system);
        }
        self.deeper(|parser| {
            let (in_bars, in_set) = (parser.in_bars, parser.in_set);
            (parser.in_bars, parser.in_set) = (false, true);
            let content = parser.list();
            parser.in_set = false;
            let condition = match parser.sign() {
                Some('|' | ':') => {
                    parser.at += 1;
                    Some(parser.list())
                }
                _ => None,
            };
            (parser.in_bars, parser.in_set) = (in_bars, in_set);
            let content = content?;
            let condition = condition.transpose()?;
            parser.expect('⦄')?;
            Ok(match (content, condition) {
                (what, Some(condition)) => Expr::Builder(Box::new(what), Box::new(condition)),
                (Expr::List(items), None) => Expr::Set(items),
                (item, None) => Expr::Set(vec![item]),
            })
        })
    }

    /// `\left\{\begin{array}…\end{array}\right.`: relations behind a brace that is not closed.
    fn system(&mut self) -> Result<Option<Expr>, String> {
        let Some(Token::Begin(name)) = self.peek() else { return Ok(None) };
        let start = self.at;
        self.at += 1;
        let rows = self.environment(name)?;
        if self.sign() == Some('⦄') {
            self.at = start;
            return Ok(None);
        }
        Ok(Some(match rows {
            Expr::Matrix(rows) if rows.iter().flatten().any(|cell| matches!(cell, Expr::Relation(..))) => {
                one_or(rows.into_iter().flatten().collect(), Expr::List)
            }
            Expr::Matrix(_) => return Err("a `\\{` before a matrix is not closed".into()),
            lines => lines,
        }))
    }

    fn bars(&mut self, sign: char) -> Parsed {
        self.deeper(|parser| {
            let (in_bars, in_set) = (parser.in_bars, parser.in_set);
            (parser.in_bars, parser.in_set) = (true, false);
            let content = parser.sum();
            (parser.in_bars, parser.in_set) = (in_bars, in_set);
            let content = content?;
            parser.expect(sign)?;
            Ok(match content {
                Expr::Matrix(rows) => determinant(rows)?,
                value => Expr::Call(Function::Abs, vec![value]),
            })
        })
    }

    /// A function's exponent, base and arguments.
    fn call(&mut self, function: Function) -> Parsed {
        let mut exponent = None;
        let mut base = None;
        loop {
            if self.sign() == Some('^') && exponent.is_none() {
                self.at += 1;
                exponent = Some(if self.sign() == Some('{') { self.group()? } else { self.signed()? });
            } else if self.sign() == Some('_') && function == Function::Log && base.is_none() {
                self.at += 1;
                base = Some(self.argument()?);
            } else {
                break;
            }
        }
        if matches!(function, Function::Max | Function::Min)
            && exponent.is_none()
            && matches!(self.sign(), Some('=' | '≈'))
        {
            return Ok(Expr::Symbol(format!("{function:?}").to_lowercase()));
        }
        let mut function = function;
        if exponent.as_ref().is_some_and(|exponent| exponent.is_integer(-1))
            && let Some(inverse) = function.inverse()
        {
            (function, exponent) = (inverse, None);
        }
        let mut arguments = match self.sign() {
            Some('(' | '[' | '{') => self.arguments()?,
            _ => vec![self.deeper(Self::bare_argument)?],
        };
        let of_many =
            matches!(function, Function::Gcd | Function::Lcm | Function::Max | Function::Min | Function::Log);
        if arguments.len() > 1 && !of_many {
            return Err("a function has more than one argument".into());
        }
        if function == Function::Log {
            match base {
                Some(base) => arguments.push(base),
                None if arguments.len() == 1 => arguments.push(Expr::integer(10)),
                None => {}
            }
            if arguments.len() != 2 {
                return Err("a logarithm has too many arguments".into());
            }
        }
        let value = Expr::Call(function, arguments);
        Ok(match exponent {
            Some(exponent) => Expr::Power(Box::new(value), Box::new(exponent)),
            None => value,
        })
    }

    /// The argument of `\sin 2x`: factors up to the next sign or function.
    fn bare_argument(&mut self) -> Parsed {
        let negative = self.accept('-');
        let mut factors = vec![self.power()?];
        while let Some(token) = self.peek() {
            let number =
                matches!(token, Token::Number(_)) && !matches!(factors.last(), Some(Expr::Number(_)));
            let factor = self.begins_factor(token)
                && !matches!(token, Token::Function(_) | Token::Sign('(' | '[' | '|'));
            if !number && !factor {
                break;
            }
            factors.push(self.power()?);
        }
        let value = one_or(factors, Expr::Product);
        Ok(if negative { value.negated() } else { value })
    }

    fn command(&mut self, name: &str) -> Parsed {
        match name {
            "frac" => {
                let numerator = self.argument()?;
                let denominator = self.argument()?;
                Ok(Expr::Product(vec![numerator, denominator.inverted()]))
            }
            "binom" => Ok(Expr::Call(Function::Binomial, vec![self.argument()?, self.argument()?])),
            "sqrt" => {
                let index = if self.accept('[') {
                    let index = self.deeper(Self::sum)?;
                    self.expect(']')?;
                    index
                } else {
                    Expr::integer(2)
                };
                Ok(Expr::Call(Function::Root, vec![self.argument()?, index]))
            }
            "exp" => {
                let of = match self.sign() {
                    Some('(' | '[' | '{') => self.arguments()?.swap_remove(0),
                    _ => self.deeper(Self::bare_argument)?,
                };
                Ok(Expr::Power(Box::new(Expr::E), Box::new(of)))
            }
            "numbers" => match self.argument()? {
                Expr::Symbol(name) if matches!(name.as_str(), "R" | "Z" | "N" | "Q" | "C") => {
                    Ok(Expr::Numbers(name.chars().next().unwrap_or_default()))
                }
                other => Ok(other),
            },
            "bar" | "hat" | "tilde" | "dot" | "ddot" | "vec" => match self.overlined_digits() {
                Some(name) => Ok(Expr::Symbol(name)),
                None => self.accented(name),
            },
            "sum" | "prod" => Ok(match self.series(name) {
                Some(series) => series,
                None => match self.unevaluated_series(name) {
                    Some(series) => series,
                    None => self.opaque(),
                },
            }),
            "int" | "iint" | "oint" | "lim" | "partial" | "nabla" => Ok(self.opaque()),
            name => Err(format!("`\\{name}` is not expected where it stands")),
        }
    }

    /// What is read and not computed, to the end.
    fn opaque(&mut self) -> Expr {
        let tokens: Vec<&Token> = self.lexemes[self.at - 1..].iter().map(|lexeme| &lexeme.token).collect();
        self.at = self.lexemes.len();
        Expr::Opaque(format!("{tokens:?}"))
    }

    /// `\overline{abc}`, a number by its digits, as a name: it is not their product.
    fn overlined_digits(&mut self) -> Option<String> {
        let (mut name, mut has_letter) = (String::new(), false);
        let mut ahead = 1;
        loop {
            match self.peek_at(ahead)? {
                Token::Number(number) if number.decimals.is_none() => {
                    name.push_str(&number.value.to_string());
                }
                Token::Symbol(letters) | Token::Word(letters) => {
                    has_letter |= letters.bytes().any(|byte| byte.is_ascii_lowercase());
                    name.push_str(letters);
                }
                Token::Sign('}') => break,
                _ => return None,
            }
            ahead += 1;
        }
        if self.sign() != Some('{')
            || !has_letter
            || name.len() < 2
            || ahead == 2 && matches!(self.peek_at(1), Some(Token::Symbol(_)))
        {
            return None;
        }
        self.at += ahead + 1;
        Some(format!("overline {name}"))
    }

    /// What stands under an accent: a complex number's conjugate, a vector or segment with its arrow or bar left off, or
    /// another thing than without it.
    fn accented(&mut self, accent: &str) -> Parsed {
        let of = self.argument()?;
        let is_upper =
            |part: &Expr| matches!(part, Expr::Symbol(name) if name.starts_with(char::is_uppercase));
        let is_segment = matches!(&of, Expr::Product(points) if points.iter().all(is_upper));
        let is_complex = of.any(&|part| matches!(part, Expr::I))
            || matches!(of.symbols()[..], [name] if name.starts_with(['z', 'w']));
        Ok(match accent {
            "vec" => of,
            "bar" if is_complex => Expr::Call(Function::Conj, vec![of]),
            "bar" | "hat" if is_segment => of,
            accent => Expr::Apply(accent.to_owned(), vec![of]),
        })
    }

    fn environment(&mut self, name: &str) -> Parsed {
        let is_matrix = name.ends_with("matrix") || name == "array";
        let is_lines = matches!(name, "cases" | "aligned" | "align" | "gathered" | "split" | "equation");
        if !is_matrix && !is_lines {
            return Err(format!("the environment `{name}` is not known"));
        }
        self.deeper(|parser| {
            let mut rows: Vec<Vec<Expr>> = vec![Vec::new()];
            loop {
                match parser.peek() {
                    None => return Err("an environment is not closed".into()),
                    Some(Token::End) => break,
                    Some(Token::Sign('⏎')) => {
                        parser.at += 1;
                        rows.push(Vec::new());
                    }
                    Some(Token::Sign('&' | ',')) => parser.at += 1,
                    Some(_) => {
                        let cell = parser.relation()?;
                        rows.last_mut().ok_or("no row")?.push(cell);
                    }
                }
            }
            parser.at += 1;
            rows.retain(|row| !row.is_empty());
            if is_lines {
                return Ok(one_or(rows.into_iter().flatten().collect(), Expr::List));
            }
            if rows.is_empty() || rows.iter().any(|row| row.len() != rows[0].len()) {
                return Err("the rows of a matrix differ in length".into());
            }
            if name == "vmatrix" { determinant(rows) } else { Ok(Expr::Matrix(rows)) }
        })
    }
}

/// The determinant of a square matrix of up to three rows, expanded.
fn determinant(rows: Vec<Vec<Expr>>) -> Parsed {
    let product = |factors: &[(usize, usize)], negative: bool| {
        let mut factors: Vec<_> = factors.iter().map(|&(i, j)| rows[i][j].clone()).collect();
        if negative {
            factors.push(Expr::integer(-1));
        }
        Expr::Product(factors)
    };
    match (rows.len(), rows[0].len()) {
        (1, 1) => Ok(rows[0][0].clone()),
        (2, 2) => Ok(Expr::Sum(vec![product(&[(0, 0), (1, 1)], false), product(&[(0, 1), (1, 0)], true)])),
        (3, 3) => Ok(Expr::Sum(
            [[0, 1, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0], [1, 0, 2], [0, 2, 1]]
                .into_iter()
                .enumerate()
                .map(|(n, [a, b, c])| product(&[(0, a), (1, b), (2, c)], n >= 3))
                .collect(),
        )),
        _ => Err("the determinant is of more than three rows, or of a matrix that is not square".into()),
    }
}
