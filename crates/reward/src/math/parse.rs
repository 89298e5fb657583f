//! Tokens to an expression, by precedence climbing. From the loosest binding to the tightest:
//!
//! | level | signs |
//! |---|---|
//! | [`Parser::list`] | `,` `;` "and" "or" |
//! | [`Parser::relation`] | `=` `≠` `<` `≤` `>` `≥` `≈` `≡` `∈` `∉` `⇒` |
//! | [`Parser::ratio`] | `:` |
//! | [`Parser::sets`] | `∪` `∩` `∖` |
//! | [`Parser::sum`] | `+` `-` `±` `∓` |
//! | [`Parser::product`] | `*` `/`, juxtaposition, units |
//! | [`Parser::signed`] | unary `-` `+` `±` |
//! | [`Parser::power`] | `^` `!` `%` `°` `'` `_` |
//! | [`Parser::primary`] | literals, names, brackets, functions |

mod primary;
mod series;

use super::expr::{Expr, Function, Number};
use super::numeral;
use super::prose;
use super::token::{Lexeme, Token, tokens};
use super::units::Unit;
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive};

/// Brackets, fractions, roots and exponents within one another are read this deep.
const MAX_DEPTH: usize = 40;

/// A run of letters up to this long can be a product of variables.
pub(crate) const MAX_LETTERS: usize = 4;

/// The expression that fills all of `text`, or why there is none.
pub(crate) fn parse(text: &str) -> Result<Expr, String> {
    let lexemes = tokens(text)?;
    let mut parser = Parser {
        lexemes: &lexemes,
        at: 0,
        depth: 0,
        n_written_out: 0,
        in_bars: false,
        in_set: false,
        outward: false,
    };
    while matches!(parser.peek(), Some(Token::Sign(',' | ';' | '⏎' | ':' | '⇒' | '∧' | '∨'))) {
        parser.at += 1;
    }
    if parser.peek().is_none() {
        return Err("it is empty".into());
    }
    let expr = match (parser.peek(), parser.peek_at(1)) {
        (Some(Token::Symbol(name)), Some(Token::Sign(')'))) if is_choice(name) => {
            parser.at += 2;
            parser.choice(name)
        }
        _ => parser.list()?,
    };
    match parser.peek() {
        None => Ok(expr),
        Some(token) => Err(format!("{} is not expected where it stands", describe(token))),
    }
}

struct Parser<'a> {
    lexemes: &'a [Lexeme],
    at: usize,
    depth: usize,
    /// Parts of the sums and products written out so far.
    n_written_out: usize,
    /// Whether `|` closes an absolute value.
    in_bars: bool,
    /// Whether `|` and `:` separate the parts of a set-builder.
    in_set: bool,
    /// Whether `[` closes an interval that `]` opened.
    outward: bool,
}

type Parsed = Result<Expr, String>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.lexemes.get(self.at).map(|lexeme| &lexeme.token)
    }

    fn peek_at(&self, ahead: usize) -> Option<&'a Token> {
        self.lexemes.get(self.at + ahead).map(|lexeme| &lexeme.token)
    }

    fn sign(&self) -> Option<char> {
        if let Some(Token::Sign(sign)) = self.peek() { Some(*sign) } else { None }
    }

    fn accept(&mut self, sign: char) -> bool {
        let found = self.sign() == Some(sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: char) -> Result<(), String> {
        if self.accept(sign) { Ok(()) } else { Err(format!("a `{sign}` is missing")) }
    }

    /// Runs `parse` one level deeper.
    fn deeper(&mut self, parse: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        if self.depth == MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} deep"));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// Items between separators; one alone is itself.
    fn list(&mut self) -> Parsed {
        // Alternatives behind each `∨`, of items behind `,` or `∧`.
        let mut alternatives = vec![vec![self.relation()?]];
        let (mut has_and, mut has_comma) = (false, false);
        while let Some(',' | ';' | '⏎' | '∧' | '∨') = self.sign() {
            let mut joiner = ',';
            while let Some(sign @ (',' | ';' | '⏎' | '∧' | '∨')) = self.sign() {
                if "∧∨".contains(sign) {
                    joiner = sign;
                }
                self.at += 1;
            }
            if matches!(self.peek(), None | Some(Token::End | Token::Sign(')' | ']' | '}' | '⦄'))) {
                break;
            }
            let item = self.relation()?;
            (has_and, has_comma) = (has_and || joiner == '∧', has_comma || joiner == ',');
            match alternatives.last_mut() {
                Some(items) if joiner != '∨' => items.push(item),
                _ => alternatives.push(vec![item]),
            }
        }
        Ok(joined(alternatives, has_and, has_comma))
    }

    fn relation(&mut self) -> Parsed {
        const RELATIONS: &str = "=≠<≤>≥≈≡∈∉⇒";
        let first = if self.defines_function() { self.applied()? } else { self.ratio()? };
        let (mut sides, mut signs) = (vec![first], Vec::new());
        while let Some(sign) = self.sign().filter(|sign| RELATIONS.contains(*sign)) {
            self.at += 1;
            // `= -3` after a line break, `≥ 0`; a dangling `=` at the end says nothing.
            if self.peek().is_none() {
                break;
            }
            signs.push(sign);
            sides.push(self.ratio()?);
        }
        if let Some(modulus) = self.modulus()?
            && let Some(last) = sides.pop()
        {
            sides.push(Expr::Call(Function::Mod, vec![last, modulus]));
        }
        Ok(if signs.is_empty() { sides.swap_remove(0) } else { Expr::Relation(sides, signs) })
    }

    /// The modulus of `\\pmod m` or `(mod m)`.
    fn modulus(&mut self) -> Result<Option<Expr>, String> {
        let in_brackets = self.sign() == Some('(') && self.peek_at(1) == Some(&Token::Command("mod"));
        if in_brackets {
            self.at += 2;
            let modulus = self.deeper(Self::sum)?;
            self.expect(')')?;
            return Ok(Some(modulus));
        }
        if self.peek() == Some(&Token::Command("pmod")) {
            self.at += 1;
            return self.argument().map(Some);
        }
        Ok(None)
    }

    /// Whether `f(x)` stands next and `=` behind it.
    fn defines_function(&self) -> bool {
        if !matches!((self.peek(), self.peek_at(1)), (Some(Token::Symbol(_)), Some(Token::Sign('(')))) {
            return false;
        }
        let mut depth = 0_usize;
        for ahead in 1.. {
            match self.peek_at(ahead) {
                Some(Token::Sign('(')) => depth += 1,
                Some(Token::Sign(')')) => depth -= 1,
                None => return false,
                _ => {}
            }
            if depth == 0 {
                return self.peek_at(ahead + 1) == Some(&Token::Sign('='));
            }
        }
        false
    }

    /// A name and its arguments.
    fn applied(&mut self) -> Parsed {
        let Some(Token::Symbol(name)) = self.peek() else { return Err("a name is missing".into()) };
        self.at += 1;
        Ok(Expr::Apply(name.clone(), self.arguments()?))
    }

    fn ratio(&mut self) -> Parsed {
        let mut parts = vec![self.sets()?];
        while self.sign() == Some(':') && !self.in_set && self.peek_at(1).is_some() {
            self.at += 1;
            parts.push(self.sets()?);
        }
        Ok(one_or(parts, Expr::Ratio))
    }

    fn sets(&mut self) -> Parsed {
        let mut left = self.sum()?;
        while let Some(sign @ ('∪' | '∩' | '∖')) = self.sign() {
            self.at += 1;
            let right = self.sum()?;
            left = Expr::Operation(sign, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Parsed {
        let mut terms = vec![self.product()?];
        while let Some(sign @ ('+' | '-' | '±' | '∓')) = self.sign() {
            self.at += 1;
            let term = self.product()?;
            terms.push(match sign {
                '+' => term,
                '-' => term.negated(),
                _ => Expr::PlusMinus { of: Box::new(term), minus_first: sign == '∓' },
            });
        }
        Ok(one_or(terms, Expr::Sum))
    }

    fn product(&mut self) -> Parsed {
        if let Some(sign @ ('-' | '+' | '±' | '∓')) = self.sign() {
            // Several signs in a row are passed in a loop, so that they take no stack.
            let mut negative = false;
            let mut plus_minus = None;
            while let Some(sign @ ('-' | '+' | '±' | '∓')) = self.sign() {
                self.at += 1;
                negative ^= sign == '-';
                if "±∓".contains(sign) {
                    plus_minus = Some(sign == '∓');
                }
            }
            if sign == '+' && matches!(self.peek(), None | Some(Token::Sign(')'))) {
                return Err("a `+` stands alone".into());
            }
            let of = self.product()?;
            let of = if negative { of.negated() } else { of };
            return Ok(match plus_minus {
                Some(minus_first) => Expr::PlusMinus { of: Box::new(of), minus_first },
                None => of,
            });
        }
        let first = self.power()?;
        if self.sign() == Some('(') && matches!(first, Expr::Choice(..)) {
            return Ok(first);
        }
        let mut factors = vec![first];
        loop {
            match self.peek() {
                Some(Token::Sign('*')) => {
                    self.at += 1;
                    if self.peek().is_none() {
                        break;
                    }
                    let factor = self.signed()?;
                    factors.push(factor);
                }
                Some(Token::Sign('/')) => {
                    self.at += 1;
                    if let Some(unit) = self.unit_after_slash(&factors) {
                        return Ok(unit);
                    }
                    let divisor = self.signed()?;
                    factors.push(divisor.inverted());
                }
                Some(Token::Command("mod")) => {
                    self.at += 1;
                    let modulus = self.signed()?;
                    let value = one_or(std::mem::take(&mut factors), Expr::Product);
                    factors.push(Expr::Call(Function::Mod, vec![value, modulus]));
                }
                Some(Token::Command("choose")) => {
                    self.at += 1;
                    let below = self.product()?;
                    let above = one_or(std::mem::take(&mut factors), Expr::Product);
                    factors.push(Expr::Call(Function::Binomial, vec![above, below]));
                }
                Some(Token::Text(_)) => return self.quantity(factors),
                Some(Token::Word(word))
                    if Unit::is_name(word) && ends_in_number(&factors)
                        || numeral::magnitude(word).is_some()
                        || word.len() > MAX_LETTERS =>
                {
                    return self.quantity(factors);
                }
                Some(Token::Symbol(name)) if self.is_unit_letter(name, &factors) => {
                    return self.quantity(factors);
                }
                Some(Token::Number(_)) => {
                    if let Some(mixed) = self.mixed_number(&factors) {
                        factors = vec![self.marked(mixed)?];
                    } else if matches!(factors.last(), Some(Expr::Number(_))) {
                        return Err("two numbers stand side by side".into());
                    } else {
                        let factor = self.power()?;
                        factors.push(factor);
                    }
                }
                Some(Token::Command("frac")) if matches!(factors.as_slice(), [Expr::Number(_)]) => {
                    let fraction = self.deeper(Self::primary)?;
                    match (factors[0].as_count(), proper_fraction(&fraction)) {
                        // `33\frac13\%`: what follows marks the mixed number.
                        (Some(whole), Some(part)) if self.sign() != Some('^') => {
                            let value = BigRational::from_integer(whole.clone()) + part;
                            factors = vec![self.marked(Expr::Number(Number { value, decimals: None }))?];
                        }
                        _ => {
                            let fraction = self.marked(fraction)?;
                            factors.push(fraction);
                        }
                    }
                }
                // `3rd`, and `1.5 x 10^3`.
                Some(Token::Word(word)) if self.is_ordinal(word, &factors) => self.at += 1,
                Some(Token::Symbol(name)) if self.is_times(name, &factors) => {
                    self.at += 1;
                    let factor = self.signed()?;
                    factors.push(factor);
                }
                Some(Token::Sign('(')) if self.peek_at(1) == Some(&Token::Command("mod")) => break,
                Some(token) if self.begins_factor(token) => {
                    let factor = self.power()?;
                    factors.push(factor);
                }
                _ => break,
            }
        }
        Ok(literal(factors))
    }

    /// Whether `word`, right behind a whole number, makes an ordinal of it.
    fn is_ordinal(&self, word: &str, factors: &[Expr]) -> bool {
        matches!(word, "st" | "nd" | "rd" | "th")
            && !self.lexemes[self.at].spaced
            && matches!(factors, [number] if number.as_count().is_some())
    }

    /// Whether `name` is a sign of multiplication: a letter between a number and a power of ten.
    fn is_times(&self, name: &str, factors: &[Expr]) -> bool {
        let is_ten = |token: Option<&Token>| matches!(token, Some(Token::Number(number)) if Expr::Number(number.clone()).is_integer(10));
        matches!(name, "x" | "X")
            && matches!(factors, [Expr::Number(_)])
            && is_ten(self.peek_at(1))
            && self.peek_at(2) == Some(&Token::Sign('^'))
    }

    /// Whether `token` can follow a factor without a sign between them.
    fn begins_factor(&self, token: &Token) -> bool {
        match token {
            Token::Symbol(_) | Token::Function(_) | Token::Word(_) | Token::Begin(_) => true,
            Token::Command(name) => !matches!(*name, "mod" | "choose" | "pmod"),
            Token::Sign('|') => !self.in_bars && !self.in_set,
            Token::Sign('[') => !self.outward,
            Token::Sign(sign) => "({[⌊⌈∞∠$€£¥₹".contains(*sign),
            _ => false,
        }
    }

    /// Whether a letter after a number is a unit: a space stands before it and a power or nothing after it,
    /// or it is squared or cubed by a raised digit at the end. `3m` is a product.
    fn is_unit_letter(&self, name: &str, factors: &[Expr]) -> bool {
        if !(matches!(name, "m" | "g" | "s" | "h" | "L" | "l") && matches!(factors, [Expr::Number(_)])) {
            return false;
        }
        let decimal = factors[0].as_number().is_some_and(|number| number.decimals.is_some());
        match self.lexemes.get(self.at + 1..) {
            Some([]) => self.lexemes[self.at].spaced,
            Some([hat, .., close]) if hat.token == Token::Sign('^') && close.token == Token::Sign('}') => {
                self.lexemes.len() == self.at + 5 && (decimal || self.lexemes[self.at].spaced)
            }
            _ => false,
        }
    }

    /// `1 1/2`: the fraction after a whole number, with which it makes a mixed number.
    fn mixed_number(&mut self, factors: &[Expr]) -> Option<Expr> {
        let [whole] = factors else { return None };
        let whole = whole.as_count()?;
        let Some(Token::Number(numerator)) = self.peek() else { return None };
        if numerator.decimals.is_some() {
            return None;
        }
        let mut part = numerator.value.clone();
        let mut length = 1;
        if part.is_integer() {
            let Some(Token::Number(denominator)) = self.peek_at(2) else { return None };
            if self.peek_at(1) != Some(&Token::Sign('/')) || !denominator.value.is_positive() {
                return None;
            }
            part /= &denominator.value;
            length = 3;
        }
        if part >= BigRational::from_integer(1.into()) {
            return None;
        }
        self.at += length;
        Some(Expr::Number(Number { value: BigRational::from_integer(whole.clone()) + part, decimals: None }))
    }

    /// `60 km` with `/ h` behind it is one unit; a value before a slash and a unit too: `5 / \text{kg}`.
    fn unit_after_slash(&mut self, factors: &[Expr]) -> Option<Expr> {
        let Some(Token::Text(text)) = self.peek() else { return None };
        let unit = Unit::parse(text)?;
        self.at += 1;
        Some(Expr::Quantity(Box::new(literal(factors.to_vec())), unit.power(-1)))
    }

    /// The value `factors` with the unit that follows it, and any words behind.
    fn quantity(&mut self, factors: Vec<Expr>) -> Parsed {
        let mut text = String::new();
        loop {
            match self.peek() {
                Some(Token::Text(word) | Token::Word(word) | Token::Symbol(word)) => {
                    text.push(' ');
                    text.push_str(word);
                    self.at += 1;
                }
                Some(Token::Sign('^')) => match self.peek_at(1) {
                    Some(Token::Number(power)) => {
                        text.push('^');
                        text.push_str(&power.value.to_string());
                        self.at += 2;
                    }
                    Some(Token::Sign('{')) => {
                        let mut power = String::new();
                        let mut ahead = 2;
                        while let Some(token) = self.peek_at(ahead) {
                            ahead += 1;
                            match token {
                                Token::Number(number) => power.push_str(&number.value.to_string()),
                                Token::Sign('-') => power.push('-'),
                                Token::Sign('}') => break,
                                _ => return Err("the power of a unit is not a number".into()),
                            }
                        }
                        text.push('^');
                        text.push_str(&power);
                        self.at += ahead;
                    }
                    _ => break,
                },
                Some(Token::Sign('/'))
                    if matches!(
                        self.peek_at(1),
                        Some(Token::Text(_) | Token::Word(_) | Token::Symbol(_))
                    ) =>
                {
                    text.push('/');
                    self.at += 1;
                }
                Some(Token::Sign('*'))
                    if matches!(self.peek_at(1), Some(Token::Text(_) | Token::Word(_))) =>
                {
                    text.push('*');
                    self.at += 1;
                }
                Some(Token::Sign('{')) if matches!(self.peek_at(1), Some(Token::Sign('}'))) => self.at += 2,
                _ => break,
            }
        }
        let mut value = literal(factors);
        let mut text = text.as_str();
        while let Some((scale, exponent, rest)) = numeral::leading_magnitude(text) {
            value = magnified(value, scale, exponent);
            text = rest.trim_start().strip_prefix("of ").unwrap_or(rest);
        }
        // `7 (or 8)` names two values, and `7 at most` none.
        if text.contains(|c: char| c.is_ascii_digit() && !text.contains('^')) || prose::hedges(text) {
            return Err(format!("`{}` is no unit", text.trim()));
        }
        Ok(match Unit::parse(text) {
            Some(unit) => Expr::Quantity(Box::new(value), unit),
            None => value,
        })
    }

    /// A factor that may have a sign of its own: the exponent of `2^-1`, the divisor of `1/-2`.
    fn signed(&mut self) -> Parsed {
        let mut negative = false;
        while let Some(sign @ ('-' | '+')) = self.sign() {
            self.at += 1;
            negative ^= sign == '-';
        }
        let of = self.power()?;
        Ok(if negative { of.negated() } else { of })
    }

    /// A primary with what is raised, lowered or marked behind it.
    fn power(&mut self) -> Parsed {
        self.deeper(Self::power_inner)
    }

    fn power_inner(&mut self) -> Parsed {
        let run = match self.peek() {
            Some(Token::Word(word)) if word.len() <= MAX_LETTERS => Some(word),
            _ => None,
        };
        let base = self.primary()?;
        if let Some(run) = run
            && self.marks_last_letter(run)
            && let Expr::Product(mut factors) = base
        {
            let last = factors.pop().ok_or("a run of letters is empty")?;
            factors.push(self.marked(last)?);
            return Ok(Expr::Product(factors));
        }
        self.marked(base)
    }

    /// Whether the sign behind the letters of `run` belongs to the last of them: `ab^2` is a b². Two capitals
    /// are the name of a segment, which is raised as a whole, and a longer run with an index is one name.
    fn marks_last_letter(&self, run: &str) -> bool {
        let is_segment = run.len() == 2 && run.bytes().all(|byte| byte.is_ascii_uppercase());
        match self.sign() {
            Some('!' | '\'') => true,
            Some('^') => !is_segment,
            Some('_') => !is_segment && run.len() == 2,
            _ => false,
        }
    }

    /// `base` with the powers, indices and other signs that follow it.
    fn marked(&mut self, mut base: Expr) -> Parsed {
        loop {
            match self.sign() {
                Some('^') => {
                    self.at += 1;
                    base = self.raised(base)?;
                }
                Some('_') => {
                    self.at += 1;
                    base = self.lowered(base)?;
                }
                Some('!') => {
                    self.at += 1;
                    let double = self.accept('!');
                    let function = if double { Function::DoubleFactorial } else { Function::Factorial };
                    base = Expr::Call(function, vec![base]);
                }
                Some('%') => {
                    self.at += 1;
                    base = Expr::Quantity(Box::new(base), Unit::Percent);
                }
                Some('°') => {
                    self.at += 1;
                    base = self.degrees(base);
                }
                Some('\'') => {
                    self.at += 1;
                    base = primed(base)?;
                }
                Some('$' | '€' | '£' | '¥' | '₹') if matches!(base, Expr::Number(_)) => {
                    let unit = Unit::parse(&self.sign().unwrap_or_default().to_string());
                    self.at += 1;
                    base = match unit {
                        Some(unit) => Expr::Quantity(Box::new(base), unit),
                        None => base,
                    };
                }
                _ => return Ok(base),
            }
        }
    }

    /// `base` to the power that follows `^`.
    fn raised(&mut self, base: Expr) -> Parsed {
        if self.accept('°') {
            return Ok(self.degrees(base));
        }
        if self.sign() == Some('{') && self.peek_at(1) == Some(&Token::Sign('°')) {
            self.at += 2;
            while let Some(Token::Symbol(_) | Token::Text(_) | Token::Word(_)) = self.peek() {
                self.at += 1;
            }
            self.expect('}')?;
            return Ok(self.degrees(base));
        }
        if let (Some(Token::Sign('{')), Some(Token::Sign('\''))) = (self.peek(), self.peek_at(1)) {
            self.at += 2;
            let mut base = primed(base)?;
            while self.accept('\'') {
                base = primed(base)?;
            }
            self.expect('}')?;
            return Ok(base);
        }
        if self.accept('\'') {
            return primed(base);
        }
        // `12^{th}`
        let is_ordinal = |token: Option<&Token>| matches!(token, Some(Token::Word(word) | Token::Text(word)) if matches!(word.as_str(), "st" | "nd" | "rd" | "th"));
        if base.as_count().is_some() {
            if is_ordinal(self.peek()) {
                self.at += 1;
                return Ok(base);
            }
            if self.sign() == Some('{')
                && is_ordinal(self.peek_at(1))
                && self.peek_at(2) == Some(&Token::Sign('}'))
            {
                self.at += 3;
                return Ok(base);
            }
        }
        let exponent = if self.sign() == Some('{') { self.group()? } else { self.signed()? };
        Ok(Expr::Power(Box::new(base), Box::new(exponent)))
    }

    /// `base` in degrees, of arc or of temperature.
    fn degrees(&mut self, base: Expr) -> Expr {
        let scale = match self.peek() {
            Some(Token::Symbol(name) | Token::Text(name)) if matches!(name.as_str(), "C" | "F") => {
                self.at += 1;
                Unit::parse(if name == "C" { "°c" } else { "°f" })
            }
            _ => None,
        };
        Expr::Quantity(Box::new(base), scale.unwrap_or(Unit::Degree))
    }

    /// `base` with the index that follows `_`: a longer name, or the base of a number's digits.
    fn lowered(&mut self, base: Expr) -> Parsed {
        let start = self.at;
        if self.accept('{') {
            let mut depth = 1_usize;
            while depth > 0 {
                match self.peek() {
                    Some(Token::Sign('{')) => depth += 1,
                    Some(Token::Sign('}')) => depth -= 1,
                    None => return Err("a `}` is missing".into()),
                    _ => {}
                }
                self.at += 1;
            }
        } else {
            self.peek().ok_or("an index is missing")?;
            self.at += 1;
        }
        let mut index = String::new();
        for lexeme in &self.lexemes[start..self.at] {
            match &lexeme.token {
                Token::Number(number) => index.push_str(&number.value.to_string()),
                Token::Symbol(text) | Token::Word(text) | Token::Text(text) => index.push_str(text),
                Token::Sign('{' | '}') => {}
                Token::Function(function) => index.push_str(&format!("{function:?}").to_lowercase()),
                Token::Sign(sign) => index.push(*sign),
                _ => return Err("an index is not read".into()),
            }
        }
        match base {
            Expr::Symbol(name) => Ok(Expr::Symbol(format!("{name}_{index}"))),
            Expr::E => Ok(Expr::Symbol(format!("e_{index}"))),
            Expr::I => Ok(Expr::Symbol(format!("i_{index}"))),
            Expr::Number(digits) => based(digits, &index),
            Expr::Product(factors) if factors.iter().all(|f| matches!(f, Expr::Symbol(_))) => {
                let name: String = factors.iter().flat_map(Expr::symbols).collect();
                Ok(Expr::Symbol(format!("{name}_{index}")))
            }
            other => Err(format!("an index stands after {}", kind(&other))),
        }
    }

    /// `{…}`: what it holds; several items are a list.
    fn group(&mut self) -> Parsed {
        self.expect('{')?;
        self.deeper(|parser| {
            let (in_bars, in_set) = (parser.in_bars, parser.in_set);
            (parser.in_bars, parser.in_set) = (false, false);
            let content = parser.list();
            (parser.in_bars, parser.in_set) = (in_bars, in_set);
            let content = content?;
            parser.expect('}')?;
            Ok(content)
        })
    }

    /// The argument of a command: a group, or the one token that follows.
    fn argument(&mut self) -> Parsed {
        if self.sign() == Some('{') { self.group() } else { self.deeper(Self::primary) }
    }

    /// `(a, b)`: the arguments of a function.
    fn arguments(&mut self) -> Result<Vec<Expr>, String> {
        let close = match self.sign() {
            Some('(') => ')',
            Some('[') => ']',
            Some('{') => '}',
            _ => return Err("the arguments of a function are missing".into()),
        };
        self.at += 1;
        let content = self.deeper(|parser| {
            let (in_bars, in_set) = (parser.in_bars, parser.in_set);
            (parser.in_bars, parser.in_set) = (false, false);
            let content = parser.list();
            (parser.in_bars, parser.in_set) = (in_bars, in_set);
            content
        })?;
        self.expect(close)?;
        Ok(if let Expr::List(items) = content { items } else { vec![content] })
    }
}

/// The only item, or `many` of them.
fn one_or(mut items: Vec<Expr>, many: impl Fn(Vec<Expr>) -> Expr) -> Expr {
    if items.len() == 1 { items.swap_remove(0) } else { many(items) }
}

/// Items joined by commas, "and" and "or", as a list where it is all one what joins them.
fn joined(alternatives: Vec<Vec<Expr>>, has_and: bool, has_comma: bool) -> Expr {
    let has_or = alternatives.len() > 1;
    // "x = 1, x = 2, or x = 3": the comma says what the last joiner says.
    if !has_or || has_comma && !has_and {
        let items: Vec<Expr> = alternatives.into_iter().flatten().collect();
        let joiner = if has_or { '∨' } else { '∧' };
        let matters = (has_or || has_and) && joiner_matters(&items, joiner);
        return one_or(items, |items| if matters { Expr::Logic(joiner, items) } else { Expr::List(items) });
    }
    let items: Vec<Expr> =
        alternatives.into_iter().map(|items| joined(vec![items], has_and, has_comma)).collect();
    if joiner_matters(&items, '∨') { Expr::Logic('∨', items) } else { Expr::List(items) }
}

/// Whether it matters that `joiner` stands between `items`: it does not between values, or values of one name.
fn joiner_matters(items: &[Expr], joiner: char) -> bool {
    let is_inequality = |item: &Expr| match item {
        Expr::Logic(..) => true,
        Expr::Relation(_, signs) => signs.iter().any(|sign| "<>≤≥≠".contains(*sign)),
        _ => false,
    };
    if joiner == '∧' {
        return items.iter().any(is_inequality);
    }
    let name = |item: &Expr| match item {
        Expr::Relation(sides, signs) if signs.iter().all(|sign| "=≈".contains(*sign)) => {
            match sides.first() {
                Some(Expr::Symbol(name)) => Ok(Some(name.split('_').next().unwrap_or_default().to_owned())),
                _ => Ok(None),
            }
        }
        Expr::Logic(..)
        | Expr::Text(_)
        | Expr::Symbol(_)
        | Expr::Choice(..)
        | Expr::List(_)
        | Expr::Relation(..) => Err(()),
        _ => Ok(None),
    };
    let Ok(names) = items.iter().map(name).collect::<Result<Vec<_>, _>>() else { return true };
    let mut known = names.into_iter().flatten();
    known.next().is_some_and(|first| known.any(|name| name != first))
}

/// A product; where it is a number times a power of ten, the number, which keeps its digits.
fn literal(mut factors: Vec<Expr>) -> Expr {
    if let [Expr::Number(number), Expr::Power(base, exponent)] = factors.as_slice()
        && number.decimals.is_some()
        && base.is_integer(10)
        && let Some(power) = exponent.as_number().filter(|power| power.value.is_integer())
        && let Some(power) = power.value.to_i64().filter(|power| power.abs() <= 1000)
    {
        return Expr::Number(Number {
            value: &number.value * numeral::power(power),
            decimals: number.decimals.map(|decimals| decimals - power),
        });
    }
    if factors.len() == 1 { factors.swap_remove(0) } else { Expr::Product(factors) }
}

/// `value` times a word of magnitude; a decimal keeps its digits.
fn magnified(value: Expr, scale: BigRational, exponent: Option<i64>) -> Expr {
    match value {
        Expr::Number(number) => Expr::Number(Number {
            value: number.value * scale,
            decimals: number.decimals.and_then(|decimals| exponent.map(|exponent| decimals - exponent)),
        }),
        Expr::Quantity(value, unit) => Expr::Quantity(Box::new(magnified(*value, scale, exponent)), unit),
        other => Expr::Product(vec![other, Expr::Number(Number { value: scale, decimals: None })]),
    }
}

/// A name with a prime, which makes it another.
fn primed(base: Expr) -> Parsed {
    match base {
        Expr::Symbol(name) => Ok(Expr::Symbol(name + "'")),
        Expr::Number(_) | Expr::Quantity(..) => Err("a prime stands after a number".into()),
        Expr::E | Expr::I | Expr::Pi => Err("a prime stands after a constant".into()),
        other => Ok(Expr::Apply("'".to_owned(), vec![other])),
    }
}

/// What one letter, or one Greek name, stands for.
fn letter(name: &str) -> Expr {
    match name {
        "e" => Expr::E,
        "i" => Expr::I,
        "pi" => Expr::Pi,
        _ => Expr::Symbol(name.to_owned()),
    }
}

fn is_choice(name: &str) -> bool {
    matches!(name, "A" | "B" | "C" | "D" | "E" | "F" | "G" | "H")
}

fn ends_in_number(factors: &[Expr]) -> bool {
    matches!(factors, [.., Expr::Number(_)])
}

/// The value of `\frac{a}{b}` with literal integers, 0 < a < b.
fn proper_fraction(expr: &Expr) -> Option<BigRational> {
    let Expr::Product(factors) = expr else { return None };
    let [numerator, Expr::Power(denominator, exponent)] = factors.as_slice() else { return None };
    let (numerator, denominator) = (numerator.as_count()?, denominator.as_count()?);
    let proper = exponent.is_integer(-1) && numerator.is_positive() && numerator < denominator;
    proper.then(|| BigRational::new(numerator.clone(), denominator.clone()))
}

/// `101_2`: what the digits mean in base `index`.
fn based(digits: Number, index: &str) -> Parsed {
    let index = index.trim_start_matches('(').trim_end_matches(')');
    let base = index.parse::<u32>().ok().filter(|base| (2..=36).contains(base));
    let base = base.ok_or_else(|| format!("`{index}` is not the base of a number"))?;
    let text = digits.value.to_string();
    let value = BigInt::parse_bytes(text.as_bytes(), base);
    let value = value.ok_or_else(|| format!("{text} has a digit that base {base} lacks"))?;
    Ok(Expr::Based { digits, value })
}

fn describe(token: &Token) -> String {
    match token {
        Token::Number(number) => format!("the number {}", number.value),
        Token::Symbol(name) | Token::Word(name) | Token::Text(name) => format!("`{name}`"),
        Token::Function(_) => "a function".into(),
        Token::Sign(sign) => format!("`{sign}`"),
        Token::Command(name) => format!("`{name}`"),
        Token::Begin(_) | Token::End => "an environment".into(),
    }
}

/// What `expr` is, in words.
pub(crate) fn kind(expr: &Expr) -> &'static str {
    match expr {
        Expr::List(_) | Expr::Logic(..) => "a list",
        Expr::Tuple { open: '(', close: ')', .. } | Expr::Tuple { open: '⟨', .. } => "a tuple",
        Expr::Tuple { .. } => "an interval or vector",
        Expr::Set(_) | Expr::Builder(..) | Expr::Operation(..) | Expr::Numbers(_) => "a set",
        Expr::Matrix(_) => "a matrix",
        Expr::Relation(_, signs) if signs.iter().all(|sign| "=≈".contains(*sign)) => "an equation",
        Expr::Relation(..) => "a relation",
        Expr::Ratio(_) => "a ratio",
        Expr::Choice(..) => "a choice",
        Expr::Text(_) => "text",
        Expr::Opaque(_) => "an unevaluated expression",
        Expr::Number(_) => "a number",
        _ => "an expression",
    }
}
