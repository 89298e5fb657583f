//! Counting letters and words.

use super::words::WORDS;
use super::{Draft, Kind};
use crate::random::Random;

pub(super) const KIND: Kind = Kind {
    name: "count",
    about: "counting letters in words and words in lists",
    levels: &[
        "a letter in a word",
        "a letter in four words",
        "the words of a list of up to 30",
        "how often a word stands in a list of 12",
        "how many words of a list of 10 have a letter",
        "a letter in twelve words",
    ],
    chance: "the commonest answer is right in 51%, 29%, 4%, 26%, 17%, 11%, by level",
    draw,
};

fn draw(level: usize, random: &mut Random) -> Option<Draft> {
    let (key, question, count, steps) = match level {
        1 => letter(1, random)?,
        2 => letter(4, random)?,
        3 => length(random),
        4 => word(random),
        5 => having(random),
        _ => letter(12, random)?,
    };
    Some(Draft {
        key,
        question: format!("{question} Answer with a whole number."),
        answer: count.to_string(),
        reward: "number",
        steps,
        ..Draft::default()
    })
}

type Parts = (String, String, usize, Vec<String>);

/// A letter of one of `words`.
fn letter_of(words: &[&str], random: &mut Random) -> char {
    let letters: Vec<char> = random.pick(words).chars().collect();
    *random.pick(&letters)
}

fn letter(n: usize, random: &mut Random) -> Option<Parts> {
    let words = random.sample(WORDS, n);
    let letter = letter_of(&words, random);
    let (mut total, mut steps) = (0, Vec::new());
    for word in &words {
        let places: Vec<String> = (1..)
            .zip(word.chars())
            .filter(|(_, c)| *c == letter)
            .map(|(place, _)| place.to_string())
            .collect();
        let spelled: Vec<String> = word.chars().map(String::from).collect();
        let places_text = if places.is_empty() { "none".to_owned() } else { places.join(", ") };
        total += places.len();
        steps.push(format!("{}: at {places_text}, so {total} in all", spelled.join(" ")));
    }
    if n == 1 && total == 1 && !words[0].starts_with(letter) {
        return None; // of single letters only the first, or most answers would be 1
    }
    let text = words.join(" ");
    let question = match random.below(2) {
        0 => format!("How often does the letter \"{letter}\" occur in \"{text}\"?"),
        _ => format!("Count the letter \"{letter}\" in \"{text}\"."),
    };
    Some((format!("{letter} {text}"), question, total, steps))
}

fn length(random: &mut Random) -> Parts {
    let n = random.within(3..=30) as usize;
    let words = random.sample(WORDS, n);
    let listed = words.join(", ");
    let numbered: Vec<String> = (1..).zip(&words).map(|(place, word)| format!("{place} {word}")).collect();
    (listed.clone(), format!("How many words are in this list: {listed}?"), n, vec![numbered.join(", ")])
}

fn word(random: &mut Random) -> Parts {
    let choices = random.sample(WORDS, 4);
    let words: Vec<&str> = (0..12).map(|_| *random.pick(&choices)).collect();
    let (word, listed) = (*random.pick(&choices), words.join(", "));
    let mut count = 0;
    let marks: Vec<String> = words
        .iter()
        .map(|&other| {
            count += usize::from(other == word);
            if other == word { format!("{other} ({count})") } else { other.to_owned() }
        })
        .collect();
    let question = format!("How often does the word \"{word}\" occur in this list: {listed}?");
    (format!("{word} {listed}"), question, count, vec![marks.join(", ")])
}

fn having(random: &mut Random) -> Parts {
    let words = random.sample(WORDS, 10);
    let (letter, listed) = (letter_of(&words, random), words.join(", "));
    let found: Vec<&str> = words.iter().copied().filter(|word| word.contains(letter)).collect();
    let question = format!("How many of these words have the letter \"{letter}\" in them: {listed}?");
    let step = format!("With \"{letter}\": {}", found.join(", "));
    (format!("{letter} {listed}"), question, found.len(), vec![step])
}
