//! Expressions as prompts write them, computed without the library: exact fractions, and propositional logic.

/// A fraction in lowest terms, the denominator positive.
pub(crate) type Fraction = (i128, i128);

pub(crate) fn fraction(numerator: i128, denominator: i128) -> Fraction {
    assert_ne!(denominator, 0, "a division by zero");
    let (mut divisor, mut rest) = (denominator, numerator);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    let divisor = divisor.abs() * denominator.signum();
    (numerator / divisor, denominator / divisor)
}

/// The value of an expression such as `4(x + 1) - 3/2 * 1.5`, where each of `unknowns` has a value.
pub(crate) fn value(text: &str, unknowns: &[(char, i128, i128)]) -> Fraction {
    let mut reader = Reader { rest: text, unknowns };
    let value = reader.sum();
    assert_eq!(reader.rest.trim(), "", "all of `{text}` is read");
    value
}

struct Reader<'a> {
    rest: &'a str,
    unknowns: &'a [(char, i128, i128)],
}

impl Reader<'_> {
    fn take(&mut self, symbols: &[char]) -> Option<char> {
        let symbol = self.peek().filter(|symbol| symbols.contains(symbol))?;
        self.rest = &self.rest.trim_start()[symbol.len_utf8()..];
        Some(symbol)
    }

    fn peek(&self) -> Option<char> {
        self.rest.trim_start().chars().next()
    }

    fn sum(&mut self) -> Fraction {
        let mut total = self.product();
        while let Some(sign) = self.take(&['+', '-']) {
            let (a, b) = self.product();
            total = fraction(total.0 * b + if sign == '+' { a } else { -a } * total.1, total.1 * b);
        }
        total
    }

    fn product(&mut self) -> Fraction {
        let mut total = self.factor();
        loop {
            let is_implied = self.peek().is_some_and(|c| c == '(' || c.is_ascii_alphabetic());
            match self.take(&['*', '/']) {
                Some('/') => {
                    let (a, b) = self.factor();
                    total = fraction(total.0 * b, total.1 * a);
                }
                None if !is_implied => return total,
                _ => {
                    let (a, b) = self.factor();
                    total = fraction(total.0 * a, total.1 * b);
                }
            }
        }
    }

    fn factor(&mut self) -> Fraction {
        if self.take(&['-']).is_some() {
            let (a, b) = self.factor();
            return (-a, b);
        }
        if self.take(&['(']).is_some() {
            let value = self.sum();
            self.take(&[')']).expect("a closed parenthesis");
            return value;
        }
        self.rest = self.rest.trim_start();
        if let Some(&(name, a, b)) = self.unknowns.iter().find(|(name, ..)| self.rest.starts_with(*name)) {
            self.rest = &self.rest[name.len_utf8()..];
            return (a, b);
        }
        let end = self.rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest;
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let digits: i128 = format!("{whole}{decimals}").parse().expect("a number");
        fraction(digits, 10_i128.pow(decimals.len() as u32))
    }
}

/// The truth value of a formula of `and`, `or`, `not`, `->`, `<->` and parentheses, at most one of the two-part
/// words at each level.
pub(crate) fn truth(formula: &str, of: &dyn Fn(&str) -> bool) -> bool {
    let spaced = formula.replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    truth_of(&words, of)
}

fn truth_of(words: &[&str], of: &dyn Fn(&str) -> bool) -> bool {
    let mut depth = 0;
    for (at, &word) in words.iter().enumerate() {
        match word {
            "(" => depth += 1,
            ")" => depth -= 1,
            "and" | "or" | "->" | "<->" if depth == 0 => {
                let (a, b) = (truth_of(&words[..at], of), truth_of(&words[at + 1..], of));
                return match word {
                    "and" => a && b,
                    "or" => a || b,
                    "->" => !a || b,
                    _ => a == b,
                };
            }
            _ => {}
        }
    }
    match words {
        ["not", rest @ ..] => !truth_of(rest, of),
        ["(", inside @ .., ")"] => truth_of(inside, of),
        [variable] => of(variable),
        _ => panic!("no formula: {words:?}"),
    }
}
