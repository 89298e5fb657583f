//! The verifier `assignment`: what each of several names is, all of them, in any order.
//!
//! The reference is `NAME: VALUES` or `NAME = VALUES`, separated by semicolons or lines, or else by commas:
//! `Ann: knight, Bo: knave`, `x = 1, y = -2`, `Ann: house 1, red; Bo: house 2, blue`. A name is one word.
//!
//! The answer is read as words; each name of the reference begins an entry, whatever is between the
//! entries: "Ann is a knight and Bo is a knave." The case of names and values does not matter (except in
//! names of one letter), nor the order of the values of a name, nor the words *a, an, and, are, has,
//! house, in, is, the*. Every name must occur once, with exactly its values: "Ann is not a knight" is wrong,
//! and so is a name that occurs twice.

use super::tokens;
use crate::extract::answer_text;
use crate::verdict::shorten;
use crate::{Outcome, Verdict};

/// Words that are ignored.
const FILLERS: [&str; 9] = ["a", "an", "and", "are", "has", "house", "in", "is", "the"];

/// A name with its values, in lower case and sorted.
type Entry = (String, Vec<String>);

/// Judges what `completion` says of the names in `answer`.
pub fn judge(completion: &str, answer: &str) -> Verdict {
    let expected = match reference(answer) {
        Ok(expected) => expected,
        Err(reason) => return Verdict::without_answer(Outcome::BadReference, reason),
    };
    let text = match answer_text(completion) {
        Ok(text) => text,
        Err(reason) => return Verdict::without_answer(Outcome::Unparsable, reason),
    };
    let name_of = |word: &str| {
        let is_same = |name: &str| name == word || name.len() > 1 && name.eq_ignore_ascii_case(word);
        expected.iter().position(|(name, _)| is_same(name))
    };
    let mut found: Vec<Option<Vec<String>>> = vec![None; expected.len()];
    let mut current = None;
    for word in tokens(text, &[':', '=']) {
        if let Some(name) = name_of(&word) {
            if found[name].is_some() {
                let reason = format!("{} is named twice", shorten(&expected[name].0));
                return Verdict::new(Outcome::Wrong, text.trim(), reason);
            }
            found[name] = Some(Vec::new());
            current = Some(name);
        } else if !is_filler(&word) {
            let Some(values) = current.and_then(|name: usize| found[name].as_mut()) else {
                let reason = format!("`{}` stands where a name should", shorten(&word));
                return Verdict::without_answer(Outcome::Unparsable, reason);
            };
            values.push(word.to_lowercase());
        }
    }
    if found.iter().all(Option::is_none) {
        return Verdict::without_answer(Outcome::Unparsable, "the final answer has no name of the reference");
    }
    for ((name, expected), found) in expected.iter().zip(found) {
        let Some(mut found) = found else {
            return Verdict::new(
                Outcome::Wrong,
                text.trim(),
                format!("nothing is said of {}", shorten(name)),
            );
        };
        found.sort_unstable();
        if found != *expected {
            let reason =
                format!("{}: {} is not {}", shorten(name), shorten(&found.join(" ")), expected.join(" "));
            return Verdict::new(Outcome::Wrong, text.trim(), reason);
        }
    }
    Verdict::new(Outcome::Correct, text.trim(), "equals the reference")
}

fn is_filler(word: &str) -> bool {
    FILLERS.iter().any(|filler| filler.eq_ignore_ascii_case(word))
}

/// The entries of the reference, or what is wrong with it.
fn reference(answer: &str) -> Result<Vec<Entry>, String> {
    let separator = if answer.contains([';', '\n']) { &[';', '\n'][..] } else { &[','] };
    let mut entries: Vec<Entry> = Vec::new();
    for part in answer.split(separator).filter(|part| !part.trim().is_empty()) {
        let error = || format!("`{}` in the reference is not a name with its values", shorten(part.trim()));
        let (name, values) = part.split_once([':', '=']).ok_or_else(error)?;
        let name = tokens(name, &[]).next().filter(|word| word == name.trim()).ok_or_else(error)?;
        let values =
            tokens(values, &[':', '=']).filter(|word| !is_filler(word)).map(|word| word.to_lowercase());
        let mut values: Vec<String> = values.collect();
        values.sort_unstable();
        if values.is_empty() {
            return Err(error());
        }
        entries.push((name, values));
    }
    let is_name = |word: &str| entries.iter().filter(|(name, _)| name.eq_ignore_ascii_case(word)).count();
    if entries.is_empty() {
        return Err("the reference has no names".to_owned());
    }
    for (name, values) in &entries {
        if let Some(name) =
            values.iter().find(|value| is_name(value) > 0).or((is_name(name) > 1).then_some(name))
        {
            return Err(format!("the reference has the name {} twice", shorten(name)));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcome(completion: &str, answer: &str) -> Outcome {
        judge(completion, answer).outcome
    }

    const KNIGHTS: &str = "Ann: knight, Bo: knave";

    #[test]
    fn accepts_every_usual_form() {
        for completion in [
            "Ann: knight, Bo: knave",
            "bo: knave; ANN: Knight",
            "\\boxed{\\text{Ann is a knight and Bo is a knave.}}",
            "The answer is that\n<answer>Ann = knight\nBo = knave</answer>",
            "**Answer:**\n- **Ann** is a knight.\n- **Bo** is a knave.\n\nWe are done.",
            "The answer is Ann is a knight. Bo is a knave.",
            "Ann is a knight, and Bo a knave",
            "Ann → knight, Bo → knave",
            "Ann - knight, Bo – knave",
        ] {
            assert_eq!(outcome(completion, KNIGHTS), Outcome::Correct, "{completion}");
        }
        for completion in ["A is a knight, B is a knave", "B: knave, A: knight"] {
            assert_eq!(outcome(completion, "A: knight, B: knave"), Outcome::Correct, "{completion}");
        }
        let zebra = "Ann: house 1, red, cat; Bo: house 2, blue, dog";
        for completion in [
            "Bo: dog, house 2, blue; Ann: red, cat, 1",
            "Ann: house 1, red, cat\nor\\boxed{Ann: 1 red cat, Bo: 2 blue dog}",
        ] {
            assert_eq!(outcome(completion, zebra), Outcome::Correct, "{completion}");
        }
        for completion in ["x=1,y=-2", "$y = -2$ and $x = 1$", "y = \u{2212}2, x = 1"] {
            assert_eq!(outcome(completion, "x = 1, y = -2"), Outcome::Correct, "{completion}");
        }
    }

    #[test]
    fn refuses_all_else() {
        for completion in [
            "Ann: knave, Bo: knight",
            "Ann: knight",
            "Ann: knight, Bo:",
            "Ann: knight, Bo: knave, Ann: knave",
            "Ann: knight or knave, Bo: knave",
            "Ann is not a knight, Bo is a knave",
            "Ann: knight, Bo: not knave",
            "Ann: knight, Bo: knave or Ann: knave, Bo: knight",
            "Ann and Bo: knight knave",
            "Ann: knight, Bo: knave, Cy: knight",
            "Ann-knight, Bo: knave",
        ] {
            assert_ne!(outcome(completion, KNIGHTS), Outcome::Correct, "{completion}");
        }
        for completion in
            ["", "knight, knave", "Either Ann: knight, Bo: knave", "\\boxed{Ann: knight, Bo: knave"]
        {
            assert_eq!(outcome(completion, KNIGHTS), Outcome::Unparsable, "{completion}");
        }
        for (completion, answer) in [
            ("x = 12", "x = 1, y = 2"),
            ("x = 1, y = 2.0", "x = 1, y = 2"),
            ("x = １, y = 2", "x = 1, y = 2"),
            ("X = 1, y = 2", "x = 1, y = 2"),
        ] {
            assert_ne!(outcome(completion, answer), Outcome::Correct, "{completion}");
        }
        for answer in
            ["", "Ann", "Ann: ", "Ann: knight, Ann: knave", "Ann: Bo, Bo: knave", "Ann B: knight", ": knight"]
        {
            assert_eq!(outcome("Ann: knight", answer), Outcome::BadReference, "{answer}");
        }
    }

    proptest! {
        #[test]
        fn is_total(completion: String, answer: String) {
            judge(&completion, &answer);
            judge(&completion, KNIGHTS);
            judge(KNIGHTS, &answer);
        }
    }
}
