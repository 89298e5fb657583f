//! The generator `arithmetic`: tasks such as "Compute 23 + 45.", in twelve [`LEVELS`].
//!
//! | level | expressions | how many |
//! |---|---|---|
//! | 1 | `a + b`: one digit each | 100 |
//! | 2 | `a + b`: two digits and one | 900 |
//! | 3 | `a + b`: two digits each | 8,100 |
//! | 4 | `a - b`: up to two digits each, not negative | 5,050 |
//! | 5 | `a - b`: up to two digits each, negative | 4,950 |
//! | 6 | `a * b`: one digit each | 100 |
//! | 7 | `a ± b ± c`: one digit each | 4,000 |
//! | 8 | `a * b`: two digits, and one from 2 | 720 |
//! | 9 | `a ± b`: three digits each | 1,620,000 |
//! | 10 | `a ± b ± c`: two digits each | 2,916,000 |
//! | 11 | `a * b`: two digits each | 8,100 |
//! | 12 | `a ± b * c`: two digits, and twice one from 2 | 11,520 |
//!
//! **Levels share no expression, and a file repeats none**: each level's expressions are shuffled once, from
//! the seed, and problem `i` takes the next one of level `levels[i % levels.len()]`. So the levels are evenly
//! mixed, and a longer file starts with the shorter one.
//!
//! **Training and test files share no expression**, whatever their seeds: a fixed hash puts one expression in
//! ten into the test split. Operands that commute do not matter to it: `23 + 45` and `45 + 23` are on the
//! same side.

use crate::random::Random;
use crate::split::{check_levels, stable_hash};
use crate::{DataError, Problem, Split};
use serde_json::{Map, json};
use std::fmt;
use std::ops::RangeInclusive;

/// Where the expression goes in a phrasing.
pub const SLOT: &str = "{expression}";

/// The usual phrasing: of those tried on a small instruction-tuned model, the one it answers best in few tokens.
pub const DEFAULT_PHRASING: &str = "Compute {expression}. Reply with just the number.";

/// The levels, easiest first: level 1 is `LEVELS[0]`.
pub static LEVELS: [Level; 12] = [
    Level::new(&[0..=9, 0..=9], &[&[Add]], Any),
    Level::new(&[10..=99, 0..=9], &[&[Add]], Any),
    Level::new(&[10..=99, 10..=99], &[&[Add]], Any),
    Level::new(&[0..=99, 0..=99], &[&[Subtract]], NotNegative),
    Level::new(&[0..=99, 0..=99], &[&[Subtract]], Negative),
    Level::new(&[0..=9, 0..=9], &[&[Multiply]], Any),
    Level::new(&[0..=9, 0..=9, 0..=9], &[&[Add, Subtract], &[Add, Subtract]], Any),
    Level::new(&[10..=99, 2..=9], &[&[Multiply]], Any),
    Level::new(&[100..=999, 100..=999], &[&[Add, Subtract]], Any),
    Level::new(&[10..=99, 10..=99, 10..=99], &[&[Add, Subtract], &[Add, Subtract]], Any),
    Level::new(&[10..=99, 10..=99], &[&[Multiply]], Any),
    Level::new(&[10..=99, 2..=9, 2..=9], &[&[Add, Subtract], &[Multiply]], Any),
];

/// What to generate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arithmetic {
    /// How many problems.
    pub n: usize,
    /// Keys the random order of the expressions.
    pub seed: u64,
    /// The levels, from 1, which take turns; see [`parse_levels`](crate::parse_levels).
    pub levels: Vec<usize>,
    /// Which side of the split to draw from.
    pub split: Split,
    /// The question, with [`SLOT`] where the expression goes.
    pub phrasing: String,
}

impl Default for Arithmetic {
    /// A thousand training problems of levels 2 and 3.
    fn default() -> Self {
        let phrasing = DEFAULT_PHRASING.to_owned();
        Self { n: 1000, seed: 0, levels: vec![2, 3], split: Split::Train, phrasing }
    }
}

impl Arithmetic {
    /// The problems. `answer` is an integer in decimal; `meta` has `level` and `expression`.
    ///
    /// # Errors
    /// Levels that do not exist or have too few expressions; a phrasing without [`SLOT`].
    pub fn generate(&self) -> Result<Vec<Problem>, DataError> {
        if !self.phrasing.contains(SLOT) {
            return Err(DataError::Phrasing { phrasing: self.phrasing.clone() });
        }
        check_levels(&self.levels, LEVELS.len())?;
        let mut levels = Vec::new();
        for (turn, &level) in self.levels.iter().enumerate() {
            let wanted = self.n.saturating_sub(turn).div_ceil(self.levels.len());
            levels.push(self.draw(level, wanted)?);
        }
        Ok((0..self.n)
            .map(|i| {
                let turn = i % levels.len();
                self.problem(i, self.levels[turn], &levels[turn][i / levels.len()])
            })
            .collect())
    }

    /// `wanted` expressions of `level`: the first of a Fisher-Yates shuffle, whose beginning does not depend
    /// on `wanted`.
    fn draw(&self, level: usize, wanted: usize) -> Result<Vec<Expression>, DataError> {
        let space = &LEVELS[level - 1];
        let mut left: Vec<u32> = (0..space.n_codes())
            .filter(|&code| space.decode(code).is_some_and(|expression| self.split.holds(expression.hash())))
            .collect();
        if wanted > left.len() {
            return Err(DataError::Exhausted { level, split: self.split, available: left.len(), wanted });
        }
        let drawn = Random::stream(self.seed, level as u64).shuffle(&mut left, wanted);
        Ok(drawn.iter().filter_map(|&code| space.decode(code)).collect())
    }

    fn problem(&self, i: usize, level: usize, expression: &Expression) -> Problem {
        let text = expression.to_string();
        let meta = [("expression", json!(text)), ("level", json!(level))];
        Problem {
            id: format!("arithmetic-{}-{}-{i:06}", self.split, self.seed),
            prompt: Some(self.phrasing.replace(SLOT, &text)),
            answer: expression.value().to_string(),
            meta: Some(Map::from_iter(meta.map(|(name, value)| (name.to_owned(), value)))),
            ..Problem::default()
        }
    }
}

/// A set of expressions of like difficulty.
#[derive(Clone, Debug)]
pub struct Level {
    /// What each operand may be.
    operands: &'static [RangeInclusive<u32>],
    /// The operators that may be between them: one list for each gap.
    operators: &'static [&'static [Operator]],
    /// What the value may be.
    sign: Sign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Any,
    Negative,
    NotNegative,
}
use Sign::{Any, Negative, NotNegative};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
}
use Operator::{Add, Multiply, Subtract};

impl Level {
    const fn new(
        operands: &'static [RangeInclusive<u32>],
        operators: &'static [&'static [Operator]],
        sign: Sign,
    ) -> Self {
        Self { operands, operators, sign }
    }

    /// How many ways there are to choose operands and operators, whatever the value's sign.
    fn n_codes(&self) -> u32 {
        let operands = self.operands.iter().map(|range| range.end() - range.start() + 1);
        operands.chain(self.operators.iter().map(|choices| choices.len() as u32)).product()
    }

    /// The expression of a code below `n_codes`, if its value has the right sign. The code is a number in
    /// mixed radix whose digits are the choices.
    fn decode(&self, mut code: u32) -> Option<Expression> {
        let mut choose = |n: u32| {
            let choice = code % n;
            code /= n;
            choice
        };
        let operands = self
            .operands
            .iter()
            .map(|range| range.start() + choose(range.end() - range.start() + 1))
            .collect();
        let operators =
            self.operators.iter().map(|choices| choices[choose(choices.len() as u32) as usize]).collect();
        let expression = Expression { operands, operators };
        let fits = match self.sign {
            Any => true,
            Negative => expression.value() < 0,
            NotNegative => expression.value() >= 0,
        };
        fits.then_some(expression)
    }
}

/// `a + b * c`: operands with an operator between each two.
#[derive(Clone, Debug)]
struct Expression {
    operands: Vec<u32>,
    operators: Vec<Operator>,
}

impl Expression {
    /// The value; products come before sums.
    fn value(&self) -> i64 {
        let mut operands = self.operands.iter().map(|&operand| i64::from(operand));
        let (mut sum, mut term) = (0, operands.next().unwrap_or(0));
        for (operator, operand) in self.operators.iter().zip(operands) {
            if *operator == Multiply {
                term *= operand;
            } else {
                sum += term;
                term = if *operator == Add { operand } else { -operand };
            }
        }
        sum + term
    }

    /// The same for every order of operands that commute.
    fn hash(&self) -> u64 {
        let mut operands = self.operands.clone();
        if self.operators.iter().all(|&operator| operator == Add)
            || self.operators.iter().all(|&operator| operator == Multiply)
        {
            operands.sort_unstable();
        }
        let operators = self.operators.iter().map(|&operator| operator as u32);
        stable_hash(operands.into_iter().chain(operators).map(u64::from))
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut operands = self.operands.iter();
        if let Some(first) = operands.next() {
            write!(f, "{first}")?;
        }
        for (operator, operand) in self.operators.iter().zip(operands) {
            let sign = match operator {
                Add => '+',
                Subtract => '-',
                Multiply => '*',
            };
            write!(f, " {sign} {operand}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
