//! Countdown: make a target from given numbers, each used exactly once. Solvable by construction: numbers
//! are joined at random until one is left, which is the target.

use super::term::{Operator, Term, step};
use super::text::list;
use super::{Draft, Kind};
use crate::random::Random;
use Operator::{Add, Divide, Multiply, Subtract};
use std::ops::RangeInclusive;

pub(super) const KIND: Kind = Kind {
    name: "countdown",
    about: "make a target from given numbers with + - * / and parentheses",
    levels: &[
        "3 numbers up to 9, + and -, target up to 30",
        "3 numbers up to 12, + - *, target up to 50",
        "4 numbers up to 13, + - * /, target 24",
        "4 numbers up to 25, + - * /, target 10 to 100",
        "5 numbers up to 50, + - * /, target 10 to 200",
        "6 numbers up to 100, + - * /, target 100 to 999",
    ],
    chance: "a random expression of the given numbers is right in 21%, 6%, 0.7%, 1%, 0.2%, 0.04%, by level",
    draw,
};

/// No value on the way is larger.
const MAX_VALUE: i64 = 9999;

/// Trees tried for one problem.
const MAX_TREES: usize = 60;

struct Level {
    n_numbers: usize,
    largest: i64,
    operators: &'static [Operator],
    targets: RangeInclusive<i64>,
}

const fn level(n_numbers: usize, largest: i64, n_operators: usize, targets: RangeInclusive<i64>) -> Level {
    const OPERATORS: &[Operator] = &[Add, Subtract, Multiply, Divide];
    Level { n_numbers, largest, operators: OPERATORS.split_at(n_operators).0, targets }
}

static LEVELS: [Level; 6] = [
    level(3, 9, 2, 1..=30),
    level(3, 12, 3, 1..=50),
    level(4, 13, 4, 24..=24),
    level(4, 25, 4, 10..=100),
    level(5, 50, 4, 10..=200),
    level(6, 100, 4, 100..=999),
];

fn draw(level: usize, random: &mut Random) -> Option<Draft> {
    let level = &LEVELS[level - 1];
    let (mut numbers, solution, steps) = (0..MAX_TREES).find_map(|_| tree(level, random))?;
    let target = solution.value;
    random.shuffle(&mut numbers, level.n_numbers);
    let given = list(&numbers);
    let symbols = level.operators.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let question = match random.below(3) {
        0 => format!(
            "Use the numbers {given}, each exactly once, with {symbols} and parentheses, to make {target}."
        ),
        1 => format!(
            "Make {target} from the numbers {given}. Use each number exactly once, and only {symbols} and parentheses."
        ),
        _ => format!(
            "Find an expression equal to {target} that uses each of {given} exactly once. You may use {symbols} and parentheses."
        ),
    };
    let mut key = numbers.clone();
    key.sort_unstable();
    Some(Draft {
        key: format!("{key:?} {target}"),
        question: format!("{question} Answer with one expression, such as (1 + 2) - 3."),
        answer: solution.text,
        reward: "countdown",
        steps,
        meta: vec![("numbers", numbers.into()), ("target", target.into())],
    })
}

/// Random numbers, joined two by two until one is left: none unless that is a target and every step helps.
fn tree(level: &Level, random: &mut Random) -> Option<(Vec<i64>, Term, Vec<String>)> {
    let numbers: Vec<i64> = (0..level.n_numbers).map(|_| random.within(1..=level.largest)).collect();
    let mut terms: Vec<Term> = numbers.iter().map(|&number| Term::number(number)).collect();
    let mut steps = Vec::new();
    while terms.len() > 1 {
        let a = terms.swap_remove(random.below(terms.len()));
        let b = terms.swap_remove(random.below(terms.len()));
        let operator = *random.pick(level.operators);
        let joined = a.join(operator, &b)?;
        let is_idle = matches!(operator, Multiply | Divide) && (a.value == 1 || b.value == 1);
        if is_idle || !(1..=MAX_VALUE).contains(&joined.value) {
            return None;
        }
        steps.push(step(a.value, operator, b.value, joined.value));
        terms.push(joined);
    }
    let solution = terms.pop()?;
    level.targets.contains(&solution.value).then_some((numbers, solution, steps))
}
