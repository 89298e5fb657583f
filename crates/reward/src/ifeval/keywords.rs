//! Words and letters that a reply must have, must not have, or must have so many times.

use super::arguments::Arguments;
use super::constraint::{Check, counted, finding};
use crate::verdict::shorten;

/// Every keyword occurs, in any case and within longer words too.
pub(super) fn all(arguments: &Arguments) -> Result<Check, String> {
    let keywords = arguments.texts("keyword_list")?;
    Ok(Box::new(move |reply| {
        let lower = reply.to_lowercase();
        match keywords.iter().find(|keyword| !lower.contains(&keyword.to_lowercase())) {
            Some(missing) => Err(format!("`{}` does not occur", shorten(missing))),
            None => Ok(format!("{} of {} occur", keywords.len(), counted(keywords.len(), "keyword"))),
        }
    }))
}

/// A word, or several in a row, occurs exactly N times, in any case and not within longer words.
pub(super) fn frequency(arguments: &Arguments) -> Result<Check, String> {
    let (word, n) = (arguments.text("word")?.to_lowercase(), arguments.count("N", 0)?);
    Ok(Box::new(move |reply| {
        let count = whole_words(&reply.to_lowercase(), &word);
        finding(count == n, format!("`{}` occurs {}; {n} asked", shorten(&word), counted(count, "time")))
    }))
}

/// No forbidden word occurs, in any case and not within longer words either.
pub(super) fn forbidden(arguments: &Arguments) -> Result<Check, String> {
    let words = arguments.texts("forbidden_words")?;
    Ok(Box::new(move |reply| {
        let lower = reply.to_lowercase();
        match words.iter().find(|word| lower.contains(&word.to_lowercase())) {
            Some(found) => Err(format!("`{}` occurs", shorten(found))),
            None => Ok("no forbidden word occurs".to_owned()),
        }
    }))
}

/// A letter occurs exactly N times, in the case in which it is given.
pub(super) fn letter(arguments: &Arguments) -> Result<Check, String> {
    let (letter, n) = (arguments.letter("letter")?, arguments.count("N", 0)?);
    Ok(Box::new(move |reply| {
        let count = reply.chars().filter(|c| *c == letter).count();
        finding(count == n, format!("`{letter}` occurs {}; {n} asked", counted(count, "time")))
    }))
}

/// Whether a character is part of a word.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `phrase` occurs in `text` from byte `from` on, with no letter or digit of a longer word beside it: its start.
pub(super) fn find_whole(text: &str, phrase: &str, mut from: usize) -> Option<usize> {
    let (opens, closes) = (phrase.starts_with(is_word), phrase.ends_with(is_word));
    loop {
        let at = from + text[from..].find(phrase)?;
        let inside = opens && text[..at].ends_with(is_word)
            || closes && text[at + phrase.len()..].starts_with(is_word);
        if !inside {
            return Some(at);
        }
        from = at + phrase.chars().next()?.len_utf8();
    }
}

/// How often `phrase` occurs in `text` as whole words.
fn whole_words(text: &str, phrase: &str) -> usize {
    let (mut count, mut from) = (0, 0);
    while let Some(at) = find_whole(text, phrase, from) {
        count += 1;
        from = at + phrase.len();
    }
    count
}

#[cfg(test)]
mod tests {
    use super::super::constraint::keeps;
    use super::*;
    use serde_json::json;

    #[test]
    fn verify_keywords_asks_for_each() {
        let both = json!({"func_name": "verify_keywords", "keyword_list": ["Tea", "green cup"]});
        for reply in ["Tea in a green cup.", "the STEAM from a GREEN CUP"] {
            assert!(keeps(&both, reply), "{reply}");
        }
        for reply in ["tea", "a green cup", "green tea, a cup", "-"] {
            assert!(!keeps(&both, reply), "{reply}");
        }
    }

    #[test]
    fn verify_keyword_frequency_counts_whole_words() {
        let of = |word: &str, n: i64| json!({"func_name": "verify_keyword_frequency", "word": word, "N": n});
        for (word, n, reply) in [
            ("cat", 2, "A cat. Cat!"),
            ("cat", 0, "concatenate cats cat_1 cat2"),
            ("CAT", 1, "(cat)"),
            ("ice cream", 2, "Ice cream or ice cream, no ice creams"),
            ("well-being", 1, "well-being"),
            ("café", 1, "un Café"),
            ("a a", 1, "a a a"),
            ("C++", 2, "C++ and c++."),
        ] {
            assert!(keeps(&of(word, n), reply), "{word}: {reply}");
            assert!(!keeps(&of(word, n + 1), reply), "{word}: {reply}");
        }
        assert!(!keeps(&of("cat", 1), "cat cat"));
    }

    #[test]
    fn validate_forbidden_words_looks_within_words_too() {
        let none = json!({"func_name": "validate_forbidden_words", "forbidden_words": ["rain", "Snow"]});
        assert!(keeps(&none, "A sunny day."));
        for reply in ["It may RAIN.", "a train", "snow", "sunny, no snowman"] {
            assert!(!keeps(&none, reply), "{reply}");
        }
    }

    #[test]
    fn verify_letter_frequency_minds_the_case() {
        let of =
            |letter: &str, n: i64| json!({"func_name": "verify_letter_frequency", "letter": letter, "N": n});
        assert!(keeps(&of("l", 3), "hello world"));
        assert!(keeps(&of("L", 0), "hello world"));
        assert!(keeps(&of("!", 2), "a!b!"));
        assert!(!keeps(&of("l", 2), "hello world"));
        assert!(!keeps(&of("l", 4), "hello worLd l"));
    }

    #[test]
    fn overlaps_are_counted_once() {
        assert_eq!(whole_words("a a a a", "a a"), 2);
        assert_eq!(whole_words("", "a"), 0);
    }
}
