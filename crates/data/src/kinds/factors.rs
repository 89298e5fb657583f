//! Prime factors, by trial division.

use super::{Draft, Kind};
use crate::random::Random;

pub(super) const KIND: Kind = Kind {
    name: "factors",
    about: "prime factors",
    levels: &["numbers from 4 to 200", "up to 1,000", "up to 10,000", "up to 100,000"],
    chance: "the commonest answer is right in less than 1%",
    draw,
};

fn draw(level: usize, random: &mut Random) -> Option<Draft> {
    let range = [4..=200, 201..=1000, 1001..=10_000, 10_001..=100_000][level - 1].clone();
    let number = random.within(range);
    let mut steps = Vec::new();
    let mut primes: Vec<i64> = Vec::new();
    let (mut left, mut divisor) = (number, 2);
    while divisor * divisor <= left {
        if left % divisor == 0 {
            steps.push(format!("{left} = {divisor} * {}", left / divisor));
            primes.push(divisor);
            left /= divisor;
        } else {
            divisor += 1;
        }
    }
    primes.push(left);
    steps.push(match left.isqrt() {
        1 => format!("{left} is prime."),
        root => format!("{left} has no divisor from 2 to {root}: it is prime."),
    });
    if primes.len() == 1 && random.below(4) != 0 {
        return None; // few primes: they have nothing to split
    }
    let answer = primes.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    let question = match random.below(2) {
        0 => format!("Find the prime factors of {number}."),
        _ => format!("Into which primes does {number} split?"),
    };
    let form = "Answer with the primes in ascending order, each as often as it divides the number, separated by commas.";
    Some(Draft {
        key: number.to_string(),
        question: format!("{question} {form}"),
        answer,
        reward: "words",
        steps,
        ..Draft::default()
    })
}
