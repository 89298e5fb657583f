//! Modular arithmetic: remainders, powers, inverses.

use super::text::gcd_of;
use super::{Draft, Kind};
use crate::random::Random;

pub(super) const KIND: Kind = Kind {
    name: "modular",
    about: "remainders of sums, products and powers, inverses and congruences",
    levels: &[
        "a mod m: two digits and one",
        "(a + b) mod m: two digits each, m up to 20",
        "(a * b) mod m: two digits each, m up to 20",
        "(a * b + c) mod m: three digits, m up to 99",
        "a^k mod m: one digit, k up to 8, m up to 20",
        "a^k mod m: two digits, k up to 40, m up to 50",
        "the inverse of a mod m, m up to 40",
        "a x = b mod m, m up to 60",
    ],
    chance: "the commonest answer is right in 24%, 11%, 13%, 3%, 20%, 16%, 7%, 4%, by level",
    draw,
};

fn draw(level: usize, random: &mut Random) -> Option<Draft> {
    let (key, question, answer, steps) = match level {
        1..=4 => remainder(level, random),
        5 | 6 => power(level, random),
        _ => congruence(level, random)?,
    };
    Some(Draft {
        key,
        question: format!("{question} Answer with a whole number from 0 on."),
        answer: answer.to_string(),
        reward: "number",
        steps,
        ..Draft::default()
    })
}

type Parts = (String, String, i64, Vec<String>);

/// `a = q * m + r`
fn division(a: i64, m: i64) -> String {
    format!("{a} = {} * {m} + {}", a / m, a % m)
}

fn remainder(level: usize, random: &mut Random) -> Parts {
    let mut two = || random.within(10..=99);
    let (expression, value, mut steps) = match level {
        1 => {
            let a = two();
            (a.to_string(), a, vec![])
        }
        2 => {
            let (a, b) = (two(), two());
            (format!("({a} + {b})"), a + b, vec![format!("{a} + {b} = {}", a + b)])
        }
        3 => {
            let (a, b) = (two(), two());
            (format!("({a} * {b})"), a * b, vec![format!("{a} * {b} = {}", a * b)])
        }
        _ => {
            let [a, b, c] = [0; 3].map(|_| random.within(100..=999));
            let sum = a * b + c;
            let steps = vec![format!("{a} * {b} = {}", a * b), format!("{} + {c} = {sum}", a * b)];
            (format!("({a} * {b} + {c})"), sum, steps)
        }
    };
    let m = match level {
        1 => random.within(3..=9),
        2 | 3 => random.within(5..=20),
        _ => random.within(11..=99),
    };
    steps.push(division(value, m));
    let key = format!("{expression} mod {m}");
    let question = match random.below(2) {
        0 => format!("What is {key}?"),
        _ => format!("What is the remainder when {expression} is divided by {m}?"),
    };
    (key, question, value % m, steps)
}

/// By squaring: the binary digits of the exponent from the left.
fn power(level: usize, random: &mut Random) -> Parts {
    let (a, k, m) = if level == 5 {
        (random.within(2..=9), random.within(3..=8), random.within(5..=20))
    } else {
        (random.within(11..=99), random.within(9..=40), random.within(11..=50))
    };
    let base = a % m;
    let mut steps = vec![format!("{a}^1 mod {m} = {base}")];
    let (mut value, mut exponent) = (base, 1);
    for bit in (0..k.ilog2()).rev() {
        let square = value * value;
        exponent *= 2;
        steps.push(format!(
            "{a}^{exponent} mod {m} = {value} * {value} mod {m} = {square} mod {m} = {}",
            square % m
        ));
        value = square % m;
        if k >> bit & 1 == 1 {
            let product = value * base;
            exponent += 1;
            steps.push(format!(
                "{a}^{exponent} mod {m} = {value} * {base} mod {m} = {product} mod {m} = {}",
                product % m
            ));
            value = product % m;
        }
    }
    let key = format!("{a}^{k} mod {m}");
    let question = match random.below(2) {
        0 => format!("What is {key}?"),
        _ => format!("What is the remainder when {a}^{k} is divided by {m}?"),
    };
    (key, question, value, steps)
}

/// By trying multiples: `a` and `m` have no common divisor, so there is one solution.
fn congruence(level: usize, random: &mut Random) -> Option<Parts> {
    let m = random.within(5..=if level == 7 { 40 } else { 60 });
    let a = random.within(2..=m - 1);
    let b = if level == 7 { 1 } else { random.within(2..=m - 1) };
    if gcd_of(a, m) != 1 {
        return None;
    }
    let x = (1..m).find(|x| a * x % m == b)?;
    // a x = b + m t: the smallest t for which b + m t is a multiple of a
    let mut steps = Vec::new();
    for t in 0..=a * x / m {
        let value = b + m * t;
        let rest = value % a;
        steps.push(if rest == 0 {
            format!("{value} = {a} * {}", value / a)
        } else {
            format!("{value} is no multiple of {a}: remainder {rest}")
        });
    }
    let key = format!("{a} x = {b} mod {m}");
    let question = if level == 7 {
        format!("Which number x from 0 to {} satisfies {a} * x = 1 mod {m}?", m - 1)
    } else {
        format!("Solve {a} * x = {b} mod {m} for x from 0 to {}.", m - 1)
    };
    Some((key, question, x, steps))
}
