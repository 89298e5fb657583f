//! Numbers in other bases.

use super::{Draft, Kind};
use crate::random::Random;

pub(super) const KIND: Kind = Kind {
    name: "bases",
    about: "numbers in binary, hexadecimal and other bases",
    levels: &[
        "binary to decimal, up to 1023",
        "decimal to binary, up to 1023",
        "base 3 to 9 to decimal, up to 999",
        "decimal to base 3 to 9, up to 999",
        "hexadecimal to decimal, up to 4095",
        "decimal to hexadecimal, up to 4095",
        "base 2 to 16 to another, up to 9999",
    ],
    chance: "the commonest answer is right in less than 0.3%",
    draw,
};

const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];

/// `value` in `base`.
fn digits(mut value: i64, base: i64) -> String {
    let mut digits = Vec::new();
    while value > 0 || digits.is_empty() {
        digits.push(DIGITS[(value % base) as usize]);
        value /= base;
    }
    digits.iter().rev().collect()
}

fn draw(level: usize, random: &mut Random) -> Option<Draft> {
    let value = random.within(match level {
        1 | 2 => 4..=1023,
        3 | 4 => 10..=999,
        5 | 6 => 16..=4095,
        _ => 100..=9999,
    });
    let (from, to) = match level {
        1 => (2, 10),
        2 => (10, 2),
        3 => (random.within(3..=9), 10),
        4 => (10, random.within(3..=9)),
        5 => (16, 10),
        6 => (10, 16),
        _ => (random.within(2..=16), random.within(2..=16)),
    };
    if from == to || level == 7 && (from == 10 || to == 10) {
        return None;
    }
    let (given, answer) = (digits(value, from), digits(value, to));
    if given == answer {
        return None; // its digits are too few to tell the bases apart
    }
    let mut steps = Vec::new();
    if from != 10 {
        let mut sum = 0;
        for digit in given.chars() {
            let digit = i64::from(digit.to_digit(16)?);
            if sum != 0 {
                steps.push(format!("{sum} * {from} + {digit} = {}", sum * from + digit));
            }
            sum = sum * from + digit;
        }
    }
    if to != 10 {
        let mut left = value;
        while left > 0 {
            let digit = DIGITS[(left % to) as usize];
            steps.push(format!("{left} = {} * {to} + {}, digit {digit}", left / to, left % to));
            left /= to;
        }
        steps.push("The digits from the last to the first.".to_owned());
    }
    let question = match random.below(3) {
        0 => format!("Convert {given} from base {from} to base {to}."),
        1 => format!("What is the base {from} number {given} in base {to}?"),
        _ => format!("Write the number {given}, which is in base {from}, in base {to}."),
    };
    Some(Draft {
        key: format!("{given} {from} {to}"),
        question: format!("{question} Answer with its digits only."),
        answer,
        reward: "words",
        steps,
        ..Draft::default()
    })
}
