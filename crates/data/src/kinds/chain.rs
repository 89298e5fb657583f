//! Long chains of small steps: `((3 + 4) * 5 - (2 * 6)) * 2`.
//!
//! Every step takes one operator, its operands have one digit, except for results of earlier steps, and every
//! value on the way is in 0..=99. So only the number of steps grows with the level; the
//! worked solution has a line for each.

use super::term::{Operator, Term, step};
use super::{Draft, Kind};
use crate::random::Random;
use Operator::{Add, Multiply, Subtract};

/// How many steps each level takes.
const STEPS: [usize; 10] = [2, 3, 4, 6, 8, 12, 16, 24, 32, 48];

pub(super) const KIND: Kind = Kind {
    name: "chain",
    about: "long chains of small sums, differences and products, every value in 0..=99",
    levels: &[
        "2 steps", "3 steps", "4 steps", "6 steps", "8 steps", "12 steps", "16 steps", "24 steps",
        "32 steps", "48 steps",
    ],
    chance: "the commonest answer is right in 2% to 5%",
    draw,
};

fn draw(level: usize, random: &mut Random) -> Option<Draft> {
    let n_steps = STEPS[level - 1];
    let mut chain = Term::number(random.within(1..=9));
    let mut steps = Vec::with_capacity(n_steps);
    while steps.len() < n_steps {
        let mut line = None;
        let mut operand = Term::number(random.within(1..=9));
        if steps.len() + 2 <= n_steps && random.below(4) == 0 {
            let (right, operator) =
                (Term::number(random.within(1..=9)), *random.pick(&[Add, Subtract, Multiply]));
            let pair = operand.join(operator, &right)?;
            line = Some(step(operand.value, operator, right.value, pair.value));
            operand = pair.grouped();
        }
        let operator = *random.pick(&[Add, Subtract, Multiply]);
        let next = chain.join(operator, &operand)?;
        let is_idle = operator == Multiply && (chain.value <= 1 || operand.value == 1);
        let is_small = (0..=99).contains(&operand.value) && (0..=99).contains(&next.value);
        if is_small && !is_idle {
            steps.extend(line);
            steps.push(step(chain.value, operator, operand.value, next.value));
            chain = next;
        }
    }
    Some(Draft {
        question: format!("Compute {}. Answer with a whole number.", chain.text),
        answer: chain.value.to_string(),
        reward: "number",
        steps,
        meta: vec![("expression", chain.text.clone().into())],
        key: chain.text,
    })
}
