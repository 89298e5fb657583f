//! Fractions and decimals, computed exactly.

use super::text::{Fraction, decimal, gcd_of};
use super::{Draft, Kind};
use crate::random::Random;

pub(super) const KIND: Kind = Kind {
    name: "fractions",
    about: "sums, products and quotients of fractions and decimals",
    levels: &[
        "a/n ± b/n",
        "a/m ± b/n, denominators up to 9",
        "a/m * b/n",
        "a/m divided by b/n",
        "a/m ± b/n ± c/p, denominators up to 12",
        "decimals: sums and differences, two places",
        "decimals: products, one place each",
    ],
    chance: "the commonest answer is right in 4% at level 1, in about 2% or less after",
    draw,
};

fn draw(level: usize, random: &mut Random) -> Option<Draft> {
    let (expression, answer, steps) = match level {
        6 => decimal_sum(random),
        7 => decimal_product(random),
        3 | 4 => product(level == 4, random),
        _ => sum(level, random),
    };
    if answer == "0" {
        return None; // equal terms: nothing to compute
    }
    let form = if level >= 6 { "a decimal number" } else { "a whole number or a fraction in lowest terms" };
    let question = match random.below(2) {
        0 => format!("Compute {expression}. Answer with {form}."),
        _ => format!("What is {expression}? Answer with {form}."),
    };
    Some(Draft { key: expression, question, answer, reward: "number", steps, ..Draft::default() })
}

/// A proper fraction with a denominator up to `largest`.
fn proper(largest: i64, random: &mut Random) -> Fraction {
    let denominator = random.within(2..=largest);
    Fraction::new(random.within(1..=denominator - 1), denominator)
}

fn sum(level: usize, random: &mut Random) -> (String, String, Vec<String>) {
    let mut terms: Vec<Fraction> = match level {
        1 => {
            let n = random.within(3..=30);
            (0..2).map(|_| Fraction(random.within(1..=n - 1), n)).collect()
        }
        2 => (0..2).map(|_| proper(9, random)).collect(),
        _ => (0..3).map(|_| proper(12, random)).collect(),
    };
    let mut expression = vec![terms[0].over()];
    for term in &mut terms[1..] {
        let sign = if random.coin() { '+' } else { '-' };
        expression.push(format!("{sign} {}", term.over()));
        if sign == '-' {
            term.0 = -term.0;
        }
    }
    let mut steps = Vec::new();
    let mut total = terms[0];
    for term in &terms[1..] {
        let shared = total.1 / gcd_of(total.1, term.1) * term.1;
        let (a, b) = (total.0 * (shared / total.1), term.0 * (shared / term.1));
        let sign = if b < 0 { '-' } else { '+' };
        let next = Fraction::new(a + b, shared);
        let reduced = if next.1 == shared { String::new() } else { format!(" = {}", next.text()) };
        let rewritten = format!("{a}/{shared} {sign} {}/{shared} = {}/{shared}{reduced}", b.abs(), a + b);
        let given = format!("{} {sign} {}", total.over(), Fraction(term.0.abs(), term.1).over());
        let is_given = total.1 == shared && term.1 == shared;
        steps.push(if is_given { rewritten } else { format!("{given} = {rewritten}") });
        total = next;
    }
    (expression.join(" "), total.text(), steps)
}

fn product(divides: bool, random: &mut Random) -> (String, String, Vec<String>) {
    let (a, b) = (proper(12, random), proper(12, random));
    let (symbol, factor) = if divides { ('/', Fraction(b.1, b.0)) } else { ('*', b) };
    let result = Fraction::new(a.0 * factor.0, a.1 * factor.1);
    let times = format!(
        "{} * {} = ({} * {})/({} * {}) = {}/{}",
        a.over(),
        factor.over(),
        a.0,
        factor.0,
        a.1,
        factor.1,
        a.0 * factor.0,
        a.1 * factor.1
    );
    let expression = format!("({}) {symbol} ({})", a.over(), b.over());
    let mut steps = if divides {
        vec![format!("Dividing by {} is multiplying by {}.", b.over(), factor.over()), times]
    } else {
        vec![times]
    };
    if result != Fraction(a.0 * factor.0, a.1 * factor.1) {
        steps.push(format!("{}/{} = {}", a.0 * factor.0, a.1 * factor.1, result.text()));
    }
    (expression, result.text(), steps)
}

fn decimal_sum(random: &mut Random) -> (String, String, Vec<String>) {
    let (a, b) = (random.within(101..=9999), random.within(101..=9999));
    let (symbol, result) = if random.coin() { ('+', a + b) } else { ('-', a - b) };
    let steps = vec![
        format!("In hundredths: {a} {symbol} {b} = {result}"),
        format!("{result} / 100 = {}", decimal(result, 2)),
    ];
    (format!("{} {symbol} {}", decimal(a, 2), decimal(b, 2)), decimal(result, 2), steps)
}

fn decimal_product(random: &mut Random) -> (String, String, Vec<String>) {
    let (a, b) = (random.within(11..=99), random.within(11..=99));
    let steps =
        vec![format!("In tenths: {a} * {b} = {}", a * b), format!("{} / 100 = {}", a * b, decimal(a * b, 2))];
    (format!("{} * {}", decimal(a, 1), decimal(b, 1)), decimal(a * b, 2), steps)
}
