//! The next term of a sequence.

use super::text::{list, operand};
use super::{Draft, Kind};
use crate::random::Random;

pub(super) const KIND: Kind = Kind {
    name: "sequence",
    about: "the next term of a sequence",
    levels: &[
        "arithmetic: a constant difference",
        "geometric: a constant ratio",
        "quadratic: a constant second difference",
        "each term is the sum of the two before it",
        "two arithmetic sequences in turns",
        "each term is p times the one before, plus q",
        "cubic: a constant third difference",
    ],
    chance: "the commonest answer is right in less than 2%",
    draw,
};

fn draw(level: usize, random: &mut Random) -> Option<Draft> {
    let (first, shown) = (random.within(-20..=50), 6);
    let (terms, mut steps) = match level {
        1 => differences(&[first, random.signed(25)], shown),
        2 => {
            let (first, ratio) = (random.signed(60), *random.pick(&[2, 3, 4, 5, -2, -3]));
            let terms = recurrence(first, shown, |term| ratio * term);
            (terms.clone(), vec![format!("Each term is {ratio} times the one before.")])
        }
        3 => differences(&[first, random.within(-15..=15), random.signed(8)], shown),
        4 => {
            let mut terms = vec![random.within(1..=60), random.within(1..=60)];
            while terms.len() <= shown {
                terms.push(terms[terms.len() - 1] + terms[terms.len() - 2]);
            }
            (terms, vec!["Each term is the sum of the two before it.".to_owned()])
        }
        5 => {
            let (a, b) = (random.signed(12), random.signed(12));
            let second = random.within(-20..=50);
            let terms: Vec<i64> = (0..=8)
                .map(|i| if i % 2 == 0 { first + a * (i / 2) } else { second + b * (i / 2) })
                .collect();
            if a == b {
                return None;
            }
            let steps = [(0, a), (1, b)].map(|(start, difference)| {
                let every_other: Vec<_> = terms[..8].iter().skip(start).step_by(2).collect();
                format!("Every other term: {}, a difference of {difference}", list(&every_other))
            });
            (terms, steps.to_vec())
        }
        6 => {
            let (first, p, q) = (random.signed(20), *random.pick(&[2, 3, -2]), random.signed(15));
            let terms = recurrence(first, shown, |term| p * term + q);
            let rule = format!("Each term is {p} times the one before, plus {}.", operand(q));
            let next = format!("{p} * {} + {} = {}", operand(terms[shown - 1]), operand(q), terms[shown]);
            (terms, vec![rule, next])
        }
        _ => differences(&[first, random.within(-9..=9), random.within(-6..=6), random.signed(4)], shown),
    };
    let (&answer, terms) = terms.split_last()?;
    let &last = terms.last()?;
    if answer == last || terms.windows(2).all(|pair| pair[0] == pair[1]) {
        return None;
    }
    let before = terms[terms.len() - 2];
    match level {
        2 => steps.push(format!("{last} * {} = {answer}", operand(answer / last))),
        4 => steps.push(format!("{before} + {last} = {answer}")),
        5 => steps.push(format!("{before} + {} = {answer}", operand(answer - before))),
        6 => {}
        _ => steps.push(format!("{last} + {} = {answer}", operand(answer - last))),
    }
    let terms = terms.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    let question = match random.below(3) {
        0 => format!("What is the next term of the sequence {terms}, ...?"),
        1 => format!("Which number comes next: {terms}, ...?"),
        _ => format!("Continue the sequence {terms}, ... by one term."),
    };
    Some(Draft {
        key: terms,
        question: format!("{question} Answer with a whole number."),
        answer: answer.to_string(),
        reward: "number",
        steps,
        ..Draft::default()
    })
}

/// `shown` terms and the next, each made of the one before.
fn recurrence(first: i64, shown: usize, next: impl Fn(i64) -> i64) -> Vec<i64> {
    std::iter::successors(Some(first), |&term| Some(next(term))).take(shown + 1).collect()
}

/// `shown` terms and the next, by the first term, the first difference, the first second difference, …; the
/// last of these is constant. The steps are the rows of differences of what is shown, and their continuation.
fn differences(firsts: &[i64], shown: usize) -> (Vec<i64>, Vec<String>) {
    let constant = firsts[firsts.len() - 1];
    let mut rows = vec![vec![constant; shown + 2 - firsts.len()]];
    for &first in firsts.iter().rev().skip(1) {
        let mut row = vec![first];
        for difference in &rows[rows.len() - 1] {
            row.push(row[row.len() - 1] + difference);
        }
        rows.push(row);
    }
    let terms = rows.pop().unwrap_or_default();
    let mut steps = Vec::new();
    for row in rows.iter().rev() {
        steps.push(format!("Differences: {}", list(&row[..row.len() - 1])));
    }
    steps.push(format!("The last row is constant: the next difference is {constant}."));
    for pair in rows.windows(2) {
        let (below, row) = (&pair[0], &pair[1]);
        let (last, step) = (row[row.len() - 2], below[below.len() - 1]);
        steps.push(format!("{last} + {} = {}", operand(step), row[row.len() - 1]));
    }
    (terms, steps)
}
