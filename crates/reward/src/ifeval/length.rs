//! How long a reply is, in words and in sentences.

use super::arguments::{Arguments, tenth};
use super::constraint::{Check, counted, finding};
use super::keywords::is_word;

/// The number of words, cut by white space. Around N is within a tenth of it, at least 1.
pub(super) fn words(arguments: &Arguments) -> Result<Check, String> {
    let (quantifier, n) = arguments.quantity()?;
    Ok(Box::new(move |reply| {
        let count = reply.split_whitespace().count();
        let kept = quantifier.holds(count, n, tenth(n));
        finding(kept, format!("{}; {} {n} asked", counted(count, "word"), quantifier.name()))
    }))
}

/// The number of sentences. Around N is within 1 of it.
pub(super) fn sentences(arguments: &Arguments) -> Result<Check, String> {
    let (quantifier, n) = arguments.quantity()?;
    Ok(Box::new(move |reply| {
        let count = count_sentences(reply);
        let kept = quantifier.holds(count, n, 1);
        finding(kept, format!("{}; {} {n} asked", counted(count, "sentence"), quantifier.name()))
    }))
}

/// A sentence ends at `.`, `?` or `!` before white space, but not where that is the point of an abbreviation of two
/// letters (`Dr.`) or of single ones (`e.g.`).
fn count_sentences(text: &str) -> usize {
    let mut before = ['\0'; 4]; // the four characters before this one, the last one last
    let mut count = 1;
    for c in text.chars() {
        let [a, b, second, last] = before;
        let letters = is_word(a) && b == '.' && is_word(second) && last != '\n';
        let title = b.is_ascii_uppercase() && second.is_ascii_lowercase() && last == '.';
        if c.is_whitespace() && matches!(last, '.' | '?' | '!') && !letters && !title {
            count += 1;
        }
        before = [b, second, last, c];
    }
    count
}

#[cfg(test)]
mod tests {
    use super::super::constraint::keeps;
    use super::*;
    use serde_json::json;

    #[test]
    fn validate_word_constraint_counts_words_between_white_space() {
        let of = |n: usize, quantifier: &str| json!({"func_name": "validate_word_constraint", "N": n, "quantifier": quantifier});
        let text = |n: usize| vec!["well-made"; n].join(" \n");
        for (n, quantifier, fits, fails) in [
            (10, "at least", 10, 9),
            (10, "at most", 10, 11),
            (10, "around", 11, 12),
            (10, "around", 9, 8),
            (25, "around", 27, 28), // a tenth is 2.5: to the even 2
            (35, "around", 39, 40), // 3.5: to the even 4
            (3, "around", 4, 5),
        ] {
            assert!(keeps(&of(n, quantifier), &text(fits)), "{quantifier} {n}: {fits}");
            assert!(!keeps(&of(n, quantifier), &text(fails)), "{quantifier} {n}: {fails}");
        }
    }

    #[test]
    fn verify_sentence_constraint_counts_ends_of_sentences() {
        for (text, sentences) in [
            ("One. Two? Three! Four", 4),
            ("One.  Two.\n\nThree.", 3),
            ("Dr. Ann met Mr. Smith. They spoke.", 2),
            ("He met Bo. They spoke.", 1),
            ("See e.g. this. It holds.", 2),
            ("Version 1.5 is out. Really?", 2),
            ("no end", 1),
            ("Ends here.", 1),
            ("\"Who?\" she said. He left.", 2),
            ("One line\nanother line", 1),
        ] {
            assert_eq!(count_sentences(text), sentences, "{text}");
        }
        let of = |n: usize, quantifier: &str| json!({"func_name": "verify_sentence_constraint", "N": n, "quantifier": quantifier});
        let two = "One. Two.";
        for (n, quantifier) in
            [(2, "at least"), (1, "at least"), (2, "at most"), (3, "around"), (1, "around")]
        {
            assert!(keeps(&of(n, quantifier), two), "{quantifier} {n}");
        }
        for (n, quantifier) in [(3, "at least"), (1, "at most"), (4, "around"), (0, "around")] {
            assert!(!keeps(&of(n, quantifier), two), "{quantifier} {n}");
        }
    }
}
