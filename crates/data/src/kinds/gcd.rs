//! Greatest common divisors and least common multiples, by Euclid's algorithm.

use super::text::{gcd_of, list};
use super::{Draft, Kind};
use crate::random::Random;

pub(super) const KIND: Kind = Kind {
    name: "gcd",
    about: "greatest common divisors and least common multiples",
    levels: &[
        "gcd of two numbers up to 99",
        "gcd of two numbers up to 999",
        "lcm of two numbers up to 40",
        "lcm of two numbers up to 99",
        "gcd of three numbers up to 999",
        "lcm of three numbers up to 30",
    ],
    chance: "the commonest answer is right in 46% of all of level 1 (it is 2), in 1% to 3% after",
    draw,
};

fn draw(level: usize, random: &mut Random) -> Option<Draft> {
    let (n, largest, is_lcm) =
        [(2, 99, false), (2, 999, false), (2, 40, true), (2, 99, true), (3, 999, false), (3, 30, true)]
            [level - 1];
    // Multiples of a shared factor, so that the answer is not 1 most of the time.
    let factor = random.within(2..=if largest > 100 { 60 } else { 12 });
    let mut numbers: Vec<i64> =
        (0..n).map(|_| factor * random.within(1..=(largest / factor).max(1))).collect();
    if is_lcm && random.coin() {
        numbers[0] = random.within(2..=largest);
    }
    let mut key = numbers.clone();
    key.sort_unstable();
    if key.windows(2).any(|pair| pair[1] % pair[0] == 0) || key[0] < 4 {
        return None; // one divides another: nothing to compute
    }
    let mut steps = Vec::new();
    let mut total = numbers[0];
    for &number in &numbers[1..] {
        let divisor = euclid(total, number, &mut steps);
        if is_lcm {
            let multiple = total / divisor * number;
            steps.push(format!("lcm({total}, {number}) = {total} / {divisor} * {number} = {multiple}"));
            total = multiple;
        } else {
            total = divisor;
        }
    }
    let (name, given) =
        (if is_lcm { "least common multiple" } else { "greatest common divisor" }, list(&numbers));
    let question = match random.below(2) {
        0 => format!("What is the {name} of {given}? Answer with a whole number."),
        _ => format!("Find the {name} of {given}. Answer with a whole number."),
    };
    Some(Draft {
        key: format!("{name} {key:?}"),
        question,
        answer: total.to_string(),
        reward: "number",
        steps,
        ..Draft::default()
    })
}

/// The greatest common divisor, one division per line.
fn euclid(a: i64, b: i64, steps: &mut Vec<String>) -> i64 {
    let (mut large, mut small) = (a.max(b), a.min(b));
    while small != 0 {
        steps.push(format!("{large} = {} * {small} + {}", large / small, large % small));
        (large, small) = (small, large % small);
    }
    debug_assert_eq!(large, gcd_of(a, b));
    steps.push(format!("gcd({a}, {b}) = {large}"));
    large
}
