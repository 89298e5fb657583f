//! Lists of words to be put in order.

use super::words::WORDS;
use super::{Draft, Kind};
use crate::random::Random;

pub(super) const KIND: Kind = Kind {
    name: "sort",
    about: "words to be sorted",
    levels: &[
        "3 words, alphabetically",
        "5 words, alphabetically",
        "8 words, alphabetically",
        "8 words, in reverse order",
        "8 words, shortest first, those of one length alphabetically",
        "16 words, alphabetically",
    ],
    chance: "1 in n! for n words: 1 in 6 at level 1, 1 in 120 at level 2, below 1 in 40,000 from level 3",
    draw,
};

fn draw(level: usize, random: &mut Random) -> Option<Draft> {
    let given = random.sample(WORDS, [3, 5, 8, 8, 8, 16][level - 1]);
    let (order, compare): (_, fn(&str, &str) -> _) = match level {
        4 => ("in reverse alphabetical order", |a, b| b.cmp(a)),
        5 => ("by length, the shortest first, and those of one length alphabetically", |a, b| {
            a.len().cmp(&b.len()).then_with(|| a.cmp(b))
        }),
        _ => ("alphabetically", str::cmp),
    };
    let mut sorted: Vec<&str> = Vec::new();
    let mut steps = Vec::new();
    for word in &given {
        let place = sorted.partition_point(|earlier| compare(earlier, word).is_lt());
        sorted.insert(place, word);
        steps.push(sorted.join(", "));
    }
    if sorted == given {
        return None;
    }
    let listed = given.join(", ");
    let question = match random.below(3) {
        0 => format!("Sort these words {order}: {listed}."),
        1 => format!("Write the words {listed} sorted {order}."),
        _ => format!("Here are some words: {listed}. Arrange them {order}."),
    };
    let mut key = sorted.join(" ");
    key += order;
    Some(Draft {
        key,
        question: format!("{question} Answer with the words separated by commas."),
        answer: sorted.join(", "),
        reward: "words",
        steps,
        ..Draft::default()
    })
}
