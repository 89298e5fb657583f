//! The case of letters.

use super::arguments::{Arguments, tenth};
use super::constraint::{Check, Finding, counted, finding};
use super::keywords::is_word;
use crate::verdict::shorten;

/// No letter is lower case.
pub(super) fn upper(reply: &str) -> Finding {
    match reply.split_whitespace().find(|word| word.to_uppercase() != *word) {
        Some(word) => Err(format!("`{}` has a letter in lower case", shorten(word))),
        None => Ok("no letter is in lower case".to_owned()),
    }
}

/// No letter is a capital.
pub(super) fn lower(reply: &str) -> Finding {
    match reply.split_whitespace().find(|word| word.to_lowercase() != *word) {
        Some(word) => Err(format!("`{}` has a capital", shorten(word))),
        None => Ok("no letter is a capital".to_owned()),
    }
}

/// The number of words that have capitals from A to Z alone, such as `NASA` and `I`. Around N is within a tenth of it, at
/// least 1.
pub(super) fn words(arguments: &Arguments) -> Result<Check, String> {
    let (quantifier, n) = arguments.quantity()?;
    Ok(Box::new(move |reply| {
        let words = reply.split(|c| !is_word(c)).filter(|word| !word.is_empty());
        let count = words.filter(|word| word.chars().all(|c| c.is_ascii_uppercase())).count();
        let kept = quantifier.holds(count, n, tenth(n));
        finding(kept, format!("{} in capitals; {} {n} asked", counted(count, "word"), quantifier.name()))
    }))
}

#[cfg(test)]
mod tests {
    use super::super::constraint::keeps;
    use serde_json::json;

    #[test]
    fn validate_uppercase_and_lowercase_ask_for_one_case() {
        let (upper, lower) =
            (json!({"func_name": "validate_uppercase"}), json!({"func_name": "validate_lowercase"}));
        for (reply, is_upper, is_lower) in [
            ("ALL OF IT, 7 TIMES!", true, false),
            ("all of it, 7 times!", false, true),
            ("Not all", false, false),
            ("ÉTÉ", true, false),
            ("été", false, true),
            ("STRAßE", false, false),
            ("123", true, true),
        ] {
            assert_eq!((keeps(&upper, reply), keeps(&lower, reply)), (is_upper, is_lower), "{reply}");
        }
    }

    #[test]
    fn validate_frequency_capital_words_counts_words_of_capitals() {
        let of = |n: usize, quantifier: &str| json!({"func_name": "validate_frequency_capital_words", "N": n, "quantifier": quantifier});
        let three = "NASA and I met the U-boat; not A1, Été or ÉTAT";
        for (n, quantifier) in [(3, "at least"), (3, "at most"), (4, "around"), (2, "around")] {
            assert!(keeps(&of(n, quantifier), three), "{quantifier} {n}");
        }
        for (n, quantifier) in [(4, "at least"), (2, "at most"), (5, "around"), (1, "around")] {
            assert!(!keeps(&of(n, quantifier), three), "{quantifier} {n}");
        }
        assert!(keeps(&of(0, "at most"), "no capitals"));
    }
}
