//! The verifier `countdown`: an expression of given numbers that makes a target.
//!
//! The reference is one of
//!
//! - a solution, such as `(25 - 5) * 3`: its numbers are those to use, each exactly once, and its value is the
//!   target;
//! - `TARGET from 3, 5, 25`: the same without a solution;
//! - `TARGET from some of 3, 5, 25`: each number at most once.
//!
//! The answer is an expression of whole numbers with `+ - * /` and parentheses, also written `×`, `·`, `÷`,
//! `−`, `\times`, `\cdot`, `\div` or `\frac{…}{…}`; `= TARGET` may follow. It is parsed and computed exactly,
//! as a rational. There are no signs, powers, decimals or products without a sign: numbers can't be joined or
//! split. Numbers are counted as they are written. More than [`MAX_TOKENS`] symbols are wrong: no
//! puzzle has that many numbers. Values beyond 128 bits and parentheses more than [`MAX_DEPTH`] deep are
//! undecided.

use super::sentence;
use crate::extract::answer_text;
use crate::verdict::shorten;
use crate::{Outcome, Verdict};

/// The most symbols in an expression.
pub const MAX_TOKENS: usize = 500;

/// The deepest nesting of parentheses.
pub const MAX_DEPTH: usize = 50;

/// Judges the expression at the end of `completion` by the puzzle `answer`.
pub fn judge(completion: &str, answer: &str) -> Verdict {
    let puzzle = match Puzzle::parse(answer) {
        Ok(puzzle) => puzzle,
        Err(reason) => return Verdict::without_answer(Outcome::BadReference, reason),
    };
    let text = match answer_text(completion) {
        Ok(text) => trim(sentence(text)),
        Err(reason) => return Verdict::without_answer(Outcome::Unparsable, reason),
    };
    let (expression, claim) = match text.split_once('=') {
        Some((expression, claim)) => (expression, Some(claim)),
        None => (text, None),
    };
    let expression = match Expression::parse(expression) {
        Ok(expression) => expression,
        Err(NoExpression::Syntax(reason)) => return Verdict::without_answer(Outcome::Unparsable, reason),
        Err(NoExpression::TooLong(reason)) => return Verdict::new(Outcome::Wrong, text, reason),
        Err(NoExpression::TooDeep) => {
            return Verdict::new(Outcome::Undecided, text, format!("parentheses more than {MAX_DEPTH} deep"));
        }
    };
    if let Some(claim) = claim
        && Expression::parse(claim).ok().and_then(|claim| claim.plain()) != Some(puzzle.target)
    {
        let reason = format!("`= {}` is not `= {}`", shorten(claim.trim()), puzzle.target.text());
        return Verdict::new(Outcome::Wrong, text, reason);
    }
    if let Err(reason) = puzzle.allows(&expression.numbers) {
        return Verdict::new(Outcome::Wrong, text, reason);
    }
    match expression.value {
        Value::Number(value) if value == puzzle.target => {
            Verdict::new(Outcome::Correct, text, "makes the target")
        }
        Value::Number(value) => Verdict::new(
            Outcome::Wrong,
            text,
            format!("it is {}, not {}", value.text(), puzzle.target.text()),
        ),
        Value::DividesByZero => Verdict::new(Outcome::Wrong, text, "it divides by zero"),
        Value::TooLarge => Verdict::new(Outcome::Undecided, text, "a value has more than 128 bits"),
    }
}

/// `text` without white space, Markdown and TeX delimiters around it.
fn trim(text: &str) -> &str {
    let mut text = text;
    loop {
        let inner = text.trim_matches(|c: char| c.is_whitespace() || "*_`\"'$.,;:".contains(c));
        let inner = inner.strip_prefix("\\(").or(inner.strip_prefix("\\[")).unwrap_or(inner);
        let inner = inner.strip_suffix("\\)").or(inner.strip_suffix("\\]")).unwrap_or(inner);
        if inner.len() == text.len() {
            return text;
        }
        text = inner;
    }
}

struct Puzzle {
    target: Fraction,
    /// In ascending order.
    numbers: Vec<u64>,
    uses_all: bool,
}

impl Puzzle {
    fn parse(answer: &str) -> Result<Self, String> {
        let error = |reason: &str| format!("the reference `{}` {reason}", shorten(answer));
        let (solution, given) = match answer.split_once("from") {
            Some((solution, given)) => (solution, Some(given.trim())),
            None => (answer, None),
        };
        let solution = Expression::parse(solution).map_err(|_| error("is not an expression"))?;
        let Value::Number(target) = solution.value else { return Err(error("has no value")) };
        let some = given.and_then(|given| given.strip_prefix("some of"));
        let mut numbers = match some.or(given) {
            None => solution.numbers,
            Some(given) => {
                let numbers = given.split([',', ' ']).filter(|number| !number.is_empty());
                numbers
                    .map(str::parse)
                    .collect::<Result<_, _>>()
                    .map_err(|_| error("has no list of numbers"))?
            }
        };
        if numbers.is_empty() {
            return Err(error("has no numbers"));
        }
        numbers.sort_unstable();
        Ok(Self { target, numbers, uses_all: some.is_none() })
    }

    /// Checks that the numbers used are those given.
    fn allows(&self, used: &[u64]) -> Result<(), String> {
        let mut left = self.numbers.clone();
        for number in used {
            let at = left.iter().position(|other| other == number);
            left.remove(at.ok_or_else(|| format!("{number} is not given, or not that often"))?);
        }
        match left.first() {
            Some(number) if self.uses_all => Err(format!("{number} is not used, or not often enough")),
            _ => Ok(()),
        }
    }
}

/// A rational in lowest terms, the denominator positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fraction {
    numerator: i128,
    denominator: i128,
}

impl Fraction {
    /// None if the denominator is 0 or a number is too large.
    fn new(numerator: i128, denominator: i128) -> Option<Self> {
        let (mut a, mut b) = (numerator.checked_abs()?, denominator.checked_abs()?);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let divisor = a.checked_mul(denominator.signum()).filter(|divisor| *divisor != 0)?;
        Some(Self { numerator: numerator / divisor, denominator: denominator / divisor })
    }

    fn text(self) -> String {
        match self.denominator {
            1 => self.numerator.to_string(),
            denominator => format!("{}/{denominator}", self.numerator),
        }
    }
}

/// The value of an expression.
#[derive(Clone, Copy, Debug)]
enum Value {
    Number(Fraction),
    DividesByZero,
    TooLarge,
}

impl Value {
    fn combine(self, operator: char, other: Self) -> Self {
        let (a, b) = match (self, other) {
            (Self::Number(a), Self::Number(b)) => (a, b),
            (Self::Number(_), other) => return other,
            (value, _) => return value,
        };
        if operator == '/' && b.numerator == 0 {
            return Self::DividesByZero;
        }
        let combined = || {
            let cross = |x: Fraction, y: Fraction| x.numerator.checked_mul(y.denominator);
            let below = || a.denominator.checked_mul(b.denominator);
            match operator {
                '+' => Fraction::new(cross(a, b)?.checked_add(cross(b, a)?)?, below()?),
                '-' => Fraction::new(cross(a, b)?.checked_sub(cross(b, a)?)?, below()?),
                '*' => Fraction::new(a.numerator.checked_mul(b.numerator)?, below()?),
                _ => Fraction::new(cross(a, b)?, cross(b, a)?),
            }
        };
        combined().map_or(Self::TooLarge, Self::Number)
    }
}

/// A parsed expression: its value, and its numbers as they are written.
struct Expression {
    value: Value,
    numbers: Vec<u64>,
}

/// Why a text is not an expression that can be judged.
#[derive(Debug)]
enum NoExpression {
    Syntax(String),
    TooLong(String),
    TooDeep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Number(u64),
    /// `+ - * / ( ) { }`
    Symbol(char),
    Frac,
}

impl Expression {
    fn parse(text: &str) -> Result<Self, NoExpression> {
        let mut parser = Parser { tokens: tokens(text)?, at: 0, numbers: Vec::new() };
        let value = parser.sum(0)?;
        match parser.tokens.get(parser.at) {
            None => Ok(Self { value, numbers: parser.numbers }),
            Some(_) => Err(parser.expected("an operator")),
        }
    }

    /// Its value if it is one number.
    fn plain(&self) -> Option<Fraction> {
        match self.value {
            Value::Number(value) if self.numbers.len() == 1 => Some(value),
            _ => None,
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, NoExpression> {
    const COMMANDS: [(&str, Option<Token>); 6] = [
        ("\\times", Some(Token::Symbol('*'))),
        ("\\cdot", Some(Token::Symbol('*'))),
        ("\\div", Some(Token::Symbol('/'))),
        ("\\frac", Some(Token::Frac)),
        ("\\left", None),
        ("\\right", None),
    ];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        if tokens.len() == MAX_TOKENS {
            return Err(NoExpression::TooLong(format!("more than {MAX_TOKENS} symbols")));
        }
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (token, length) = match c {
            '0'..='9' => {
                let number = rest[..digits].parse().map_err(|_| {
                    NoExpression::TooLong(format!("{} is not given", shorten(&rest[..digits])))
                })?;
                (Some(Token::Number(number)), digits)
            }
            '+' | '-' | '*' | '/' | '(' | ')' | '{' | '}' => (Some(Token::Symbol(c)), 1),
            '×' | '·' | '⋅' => (Some(Token::Symbol('*')), c.len_utf8()),
            '÷' => (Some(Token::Symbol('/')), c.len_utf8()),
            '\u{2212}' => (Some(Token::Symbol('-')), c.len_utf8()),
            _ => match COMMANDS.iter().find(|(name, _)| rest.starts_with(name)) {
                Some((name, token)) => (*token, name.len()),
                None => return Err(NoExpression::Syntax(format!("`{c}` has no place in an expression"))),
            },
        };
        tokens.extend(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// Recursive descent: a sum of products of numbers, parentheses and fractions.
struct Parser {
    tokens: Vec<Token>,
    at: usize,
    numbers: Vec<u64>,
}

impl Parser {
    fn sum(&mut self, depth: usize) -> Result<Value, NoExpression> {
        let mut value = self.product(depth)?;
        while let Some(operator) = self.operator(['+', '-']) {
            value = value.combine(operator, self.product(depth)?);
        }
        Ok(value)
    }

    fn product(&mut self, depth: usize) -> Result<Value, NoExpression> {
        let mut value = self.factor(depth)?;
        while let Some(operator) = self.operator(['*', '/']) {
            value = value.combine(operator, self.factor(depth)?);
        }
        Ok(value)
    }

    fn factor(&mut self, depth: usize) -> Result<Value, NoExpression> {
        if depth > MAX_DEPTH {
            return Err(NoExpression::TooDeep);
        }
        self.at += 1;
        match self.tokens.get(self.at - 1) {
            Some(&Token::Number(number)) => {
                self.numbers.push(number);
                Ok(Value::Number(Fraction { numerator: i128::from(number), denominator: 1 }))
            }
            Some(Token::Symbol('(')) => self.group(')', depth),
            Some(Token::Frac) => {
                self.symbol('{')?;
                let above = self.group('}', depth)?;
                self.symbol('{')?;
                Ok(above.combine('/', self.group('}', depth)?))
            }
            _ => {
                self.at -= 1;
                Err(self.expected("a number"))
            }
        }
    }

    /// The content of a group whose opening symbol was read.
    fn group(&mut self, close: char, depth: usize) -> Result<Value, NoExpression> {
        let value = self.sum(depth + 1)?;
        self.symbol(close)?;
        Ok(value)
    }

    fn symbol(&mut self, symbol: char) -> Result<(), NoExpression> {
        if self.tokens.get(self.at) != Some(&Token::Symbol(symbol)) {
            return Err(self.expected(&format!("`{symbol}`")));
        }
        self.at += 1;
        Ok(())
    }

    fn operator(&mut self, operators: [char; 2]) -> Option<char> {
        match self.tokens.get(self.at) {
            Some(&Token::Symbol(symbol)) if operators.contains(&symbol) => {
                self.at += 1;
                Some(symbol)
            }
            _ => None,
        }
    }

    fn expected(&self, what: &str) -> NoExpression {
        let found = match self.tokens.get(self.at) {
            None => "the end".to_owned(),
            Some(Token::Number(number)) => number.to_string(),
            Some(Token::Symbol(symbol)) => format!("`{symbol}`"),
            Some(Token::Frac) => "`\\frac`".to_owned(),
        };
        NoExpression::Syntax(format!("{what} should stand where {found} is"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcome(completion: &str, answer: &str) -> Outcome {
        judge(completion, answer).outcome
    }

    #[test]
    fn accepts_every_solution_in_every_form() {
        for completion in [
            "(25 - 5) * 3",
            "3*(25-5)",
            "\\boxed{3 \\times \\left(25 - 5\\right)}",
            "\\boxed{3 \\cdot (25 − 5) = 60}",
            "<answer>(25 - 5) × 3 = 60</answer>",
            "<think>3 + 5</think>The answer is **(25 - 5) * 3**. It uses all.",
            "Answer: $((25 - (5))) * 3$.",
            "So we get\n\n\\((25 - 5) * 3\\)\n",
            "25 * 3 - 5 * 3\n\n3 * (25 - 5)",
        ] {
            assert_eq!(outcome(completion, "(25 - 5) * 3"), Outcome::Correct, "{completion}");
        }
        assert_eq!(outcome("8 / (3 - 8 / 3)", "24 from 3, 3, 8, 8"), Outcome::Correct);
        assert_eq!(outcome("\\boxed{\\frac{8}{3 - \\frac{8}{3}}}", "24 from 3 3 8 8"), Outcome::Correct);
        assert_eq!(outcome("25 - 5", "20 from some of 3, 5, 25"), Outcome::Correct);
        assert_eq!(outcome("25 - 5 * 1", "20 from 1, 5, 25"), Outcome::Correct);
    }

    #[test]
    fn refuses_what_is_wrong() {
        for completion in [
            "25 * 3 - 5",
            "(25 - 5) * 3 = 61",
            "(25 - 5) * 3 = 60 = 60",
            "(25 - 5) * 3 + 0",
            "60",
            "60 = (25 - 5) * 3",
            "25 - 5",
            "(25 - 5) * 3 * 3 / 3",
            "(25 - 5) * 3 / (5 - 5)",
            "5 * 12",
            "255 / 3",
            "(25 - 5) * 3, 3 * (25 - 5)",
        ] {
            assert_ne!(outcome(completion, "(25 - 5) * 3"), Outcome::Correct, "{completion}");
        }
        for (completion, answer) in [
            ("1.5", "15 / 10 from 1, 5"), // gluing
            ("15", "15 from 1, 5"),
            ("1 5", "15 from 1, 5"),
            ("2 ** 3", "8 from 2, 3"),
            ("2^3", "8 from 2, 3"),
            ("2(3)", "6 from 2, 3"),
            ("6 // 4", "1 from 4, 6"),
            ("-2 + 3", "1 from 2, 3"),
            ("3!", "6 from 3"),
            ("2e3", "2000 from 2, 3"),
            ("２ + 3", "5 from 2, 3"),
            ("2 + 3 + 0", "5 from 2, 3"),
            ("2 + 3 + 3", "8 from some of 2, 3"),
            ("2", "2 from 2, 3"),
            ("sqrt(4)", "2 from 4"),
            ("", "2 from 2"),
            ("()", "2 from 2"),
            ("(2", "2 from 2"),
            ("9 ** 9 ** 9 ** 9", "9 from 9, 9, 9, 9"),
        ] {
            assert_ne!(outcome(completion, answer), Outcome::Correct, "{completion}");
        }
        for answer in ["", "x", "1 /", "1 / 0", "5 from", "5 from 2, x", "5 from 2, 1.5"] {
            assert_eq!(outcome("2 + 3", answer), Outcome::BadReference, "{answer}");
        }
    }

    #[test]
    fn budgets_hold() {
        let deep = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
        assert_eq!(outcome(&deep, "1"), Outcome::Wrong);
        let nested = format!("{}1{}", "(".repeat(100), ")".repeat(100));
        assert_eq!(outcome(&nested, "1"), Outcome::Undecided);
        assert_eq!(outcome(&"9".repeat(1000), "9"), Outcome::Wrong);
        let large = ["9999999999999999999"; 9].join(" * ");
        assert_eq!(outcome(&large, &format!("1 from {}", large.replace(" *", ","))), Outcome::Undecided);
    }

    proptest! {
        #[test]
        fn is_total(completion in "[0-9+*/()={}. -]{0,30}", answer in "[0-9+*/() from,-]{0,20}", any: String) {
            judge(&completion, &answer);
            judge(&any, "1 + 2");
            judge("1 + 2", &any);
        }

        #[test]
        fn values_are_those_of_floats(numbers in prop::collection::vec(1_u64..50, 2..6), picks: u32) {
            let mut text = numbers[0].to_string();
            let mut value = numbers[0] as f64;
            for (i, &number) in numbers[1..].iter().enumerate() {
                let operator = ['+', '-', '*', '/'][(picks >> (2 * i) & 3) as usize];
                text = format!("({text}) {operator} {number}");
                value = match operator {
                    '+' => value + number as f64,
                    '-' => value - number as f64,
                    '*' => value * number as f64,
                    _ => value / number as f64,
                };
            }
            let Value::Number(exact) = Expression::parse(&text).expect("an expression").value else {
                return Err(TestCaseError::fail("no number"));
            };
            let exact = exact.numerator as f64 / exact.denominator as f64;
            prop_assert!((exact - value).abs() <= 1e-9 * value.abs().max(1.0), "{} {} {}", text, exact, value);
            prop_assert_eq!(outcome(&text, &text), Outcome::Correct);
        }
    }
}
