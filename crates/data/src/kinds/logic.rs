//! Propositional logic: truth values, tautologies, and how many assignments satisfy a formula.

use super::text::list;
use super::{Draft, Kind};
use crate::random::Random;
use std::fmt;

pub(super) const KIND: Kind = Kind {
    name: "logic",
    about: "truth values, tautologies and models of propositional formulas",
    levels: &[
        "the truth value of a formula, 2 variables",
        "the truth value of a larger formula, 3 variables",
        "tautology, contradiction or contingent, 2 variables",
        "tautology, contradiction or contingent, 3 variables",
        "how many assignments satisfy it, 3 variables",
        "how many assignments satisfy it, 4 variables",
    ],
    chance: "the commonest answer is right in 53%, 51%, 35%, 34%, 20%, 13%, by level",
    draw,
};

/// Formulas tried for one problem.
const MAX_TRIES: usize = 300;

const VARIABLES: [&str; 4] = ["p", "q", "r", "s"];

/// Displayed with parentheses around every formula of two parts, but not around the whole.
enum Formula {
    Variable(usize),
    Not(Box<Formula>),
    Two(Connective, Box<Formula>, Box<Formula>),
}

#[derive(Clone, Copy)]
enum Connective {
    And,
    Or,
    If,
    Iff,
}
use Connective::{And, If, Iff, Or};

impl Formula {
    /// A formula of `n` variables whose longest branch has `depth` connectives.
    fn random(n: usize, depth: usize, random: &mut Random) -> Self {
        let mut part = |depth| Box::new(Self::random(n, depth, random));
        if depth == 0 {
            return Self::Variable(random.below(n));
        }
        let (deep, other) = (part(depth - 1), part(depth.saturating_sub(2)));
        let (first, second) = if random.coin() { (deep, other) } else { (other, deep) };
        if random.below(5) == 0 {
            return Self::Not(Box::new(Self::Two(*random.pick(&[And, Or]), first, second)));
        }
        let second = if random.below(3) == 0 { Box::new(Self::Not(second)) } else { second };
        Self::Two(*random.pick(&[And, Or, If, Iff]), first, second)
    }

    /// The value where bit `i` of `truths` is that of variable `i`; calls `each` with every part and its value,
    /// inner ones first.
    fn value(&self, truths: usize, each: &mut impl FnMut(&Self, bool)) -> bool {
        let value = match self {
            Self::Variable(variable) => truths >> variable & 1 == 1,
            Self::Not(part) => !part.value(truths, each),
            Self::Two(connective, a, b) => {
                let (a, b) = (a.value(truths, each), b.value(truths, each));
                match connective {
                    And => a && b,
                    Or => a || b,
                    If => !a || b,
                    Iff => a == b,
                }
            }
        };
        each(self, value);
        value
    }

    fn holds(&self, truths: usize) -> bool {
        self.value(truths, &mut |_, _| {})
    }

    /// A part: in parentheses where it has two.
    fn part(&self) -> String {
        if matches!(self, Self::Two(..)) { format!("({self})") } else { self.to_string() }
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(variable) => f.write_str(VARIABLES[*variable]),
            Self::Not(part) => write!(f, "not {}", part.part()),
            Self::Two(connective, a, b) => {
                let symbol = match connective {
                    And => "and",
                    Or => "or",
                    If => "->",
                    Iff => "<->",
                };
                write!(f, "{} {symbol} {}", a.part(), b.part())
            }
        }
    }
}

/// `p is true, q is false`
fn assignment(n: usize, truths: usize) -> String {
    let values: Vec<String> =
        (0..n).map(|i| format!("{} is {}", VARIABLES[i], truths >> i & 1 == 1)).collect();
    list(&values)
}

fn draw(level: usize, random: &mut Random) -> Option<Draft> {
    let (n, depth) = [(2, 2), (3, 4), (2, 3), (3, 3), (3, 3), (4, 4)][level - 1];
    match level {
        1 | 2 => truth_value(n, depth, random),
        3 | 4 => class(n, depth, random),
        _ => count(n, depth, random),
    }
}

/// What the symbols mean.
const SYMBOLS: &str = "Here \"->\" means \"if ... then\" and \"<->\" means \"if and only if\".";

/// A formula that has every variable.
fn formula(n: usize, depth: usize, random: &mut Random) -> Option<Formula> {
    let formula = Formula::random(n, depth, random);
    let mut used = 0;
    formula.value(0, &mut |part, _| {
        if let Formula::Variable(variable) = part {
            used |= 1 << variable;
        }
    });
    (used == (1 << n) - 1).then_some(formula)
}

/// The value of the formula in each row of its truth table.
fn rows(formula: &Formula, n: usize) -> Vec<String> {
    (0..1 << n).map(|row| format!("{}: {}", assignment(n, row), formula.holds(row))).collect()
}

fn truth_value(n: usize, depth: usize, random: &mut Random) -> Option<Draft> {
    let wanted = random.coin();
    let truths = random.below(1 << n);
    let formula = (0..MAX_TRIES)
        .find_map(|_| formula(n, depth, random).filter(|formula| formula.holds(truths) == wanted))?;
    let mut steps = Vec::new();
    formula.value(truths, &mut |part, value| {
        let step = format!("{part} is {value}");
        if !steps.contains(&step) {
            steps.push(step);
        }
    });
    let given = assignment(n, truths);
    Some(Draft {
        key: format!("{formula} {given}"),
        question: format!("{SYMBOLS} If {given}, is {formula} true or false? Answer true or false."),
        answer: wanted.to_string(),
        reward: "words",
        steps,
        ..Draft::default()
    })
}

fn class(n: usize, depth: usize, random: &mut Random) -> Option<Draft> {
    let wanted = random.below(3);
    let class = |formula: &Formula| match (0..1 << n).filter(|&row| formula.holds(row)).count() {
        0 => 0,
        n_models if n_models == 1 << n => 1,
        _ => 2,
    };
    let formula =
        (0..MAX_TRIES).find_map(|_| formula(n, depth, random).filter(|formula| class(formula) == wanted))?;
    let answer = ["contradiction", "tautology", "contingent"][wanted];
    Some(Draft {
        key: formula.to_string(),
        question: format!(
            "{SYMBOLS} Is the formula {formula} a tautology (always true), a contradiction (never true) or \
             contingent (neither)? Answer with one word: tautology, contradiction or contingent."
        ),
        answer: answer.to_owned(),
        reward: "words",
        steps: rows(&formula, n),
        ..Draft::default()
    })
}

fn count(n: usize, depth: usize, random: &mut Random) -> Option<Draft> {
    let formula = formula(n, depth, random)?;
    let n_models = (0..1 << n).filter(|&row| formula.holds(row)).count();
    if n_models == 0 || n_models == 1 << n {
        return None;
    }
    let variables = list(&VARIABLES[..n]);
    Some(Draft {
        key: format!("models {formula}"),
        question: format!(
            "{SYMBOLS} How many assignments of true and false to {variables} make {formula} true? Answer with a \
             whole number."
        ),
        answer: n_models.to_string(),
        reward: "number",
        steps: rows(&formula, n),
        ..Draft::default()
    })
}
