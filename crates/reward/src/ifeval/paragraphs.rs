//! Paragraphs: how many there are, and how one of them starts.

use super::arguments::Arguments;
use super::constraint::{Check, counted, finding};
use super::keywords::is_word;
use crate::verdict::shorten;

/// N paragraphs between the dividers `* * *`, none of them empty.
pub(super) fn between_dividers(arguments: &Arguments) -> Result<Check, String> {
    let n = arguments.count("N", 1)?;
    Ok(Box::new(move |reply| {
        let paragraphs = reply.split("* * *");
        let (count, empty) = paragraphs.fold((0, 0), |(count, empty), paragraph| {
            (count + 1, empty + usize::from(paragraph.trim().is_empty()))
        });
        if empty > 0 {
            return Err(format!("{} between dividers, {empty} of them empty", counted(count, "paragraph")));
        }
        finding(count == n, format!("{} between dividers; {n} asked", counted(count, "paragraph")))
    }))
}

/// N paragraphs between blank lines, and the i-th, counted from 1, starts with a word.
pub(super) fn first_word(arguments: &Arguments) -> Result<Check, String> {
    let (n, i, word) = (arguments.count("N", 1)?, arguments.count("i", 1)?, arguments.text("first_word")?);
    if i > n {
        return Err(format!("`validate_paragraphs` asks for the first word of paragraph {i} of {n}"));
    }
    Ok(Box::new(move |reply| {
        let paragraphs: Vec<&str> =
            reply.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()).collect();
        if paragraphs.len() != n {
            return Err(format!("{}; {n} asked", counted(paragraphs.len(), "paragraph")));
        }
        let rest = paragraphs[i - 1].strip_prefix(word.as_str());
        let starts = rest.is_some_and(|rest| !(word.ends_with(is_word) && rest.starts_with(is_word)));
        let does = if starts { "starts" } else { "does not start" };
        finding(starts, format!("paragraph {i} of {n} {does} with `{}`", shorten(&word)))
    }))
}

#[cfg(test)]
mod tests {
    use super::super::constraint::{Constraint, keeps};
    use serde_json::json;

    #[test]
    fn verify_paragraph_count_cuts_at_dividers() {
        let of = |n: usize| json!({"func_name": "verify_paragraph_count", "N": n});
        assert!(keeps(&of(2), "First.\n* * *\nSecond.\n\nStill the second."));
        assert!(keeps(&of(3), "a\n  * * *  \nb\n* * *\nc"));
        assert!(keeps(&of(1), "one paragraph"));
        for (n, reply) in
            [(2, "a"), (2, "a\n* * *"), (2, "* * *\na"), (3, "a\n* * *\n\n* * *\nb"), (2, "a\n***\nb")]
        {
            assert!(!keeps(&of(n), reply), "{reply}");
        }
    }

    #[test]
    fn validate_paragraphs_asks_for_a_first_word() {
        let of = |i: usize| json!({"func_name": "validate_paragraphs", "N": 2, "first_word": "The", "i": i});
        assert!(keeps(&of(1), "The sun rose.\n\nIt was warm."));
        assert!(keeps(&of(2), "It was warm.\n\n\n\nThe, well, sun rose."));
        for (i, reply) in [
            (1, "Therefore.\n\nIt was warm."), // a longer word
            (1, "the sun.\n\nIt was warm."),
            (2, "The sun.\n\nIt was warm."),
            (1, "The sun.\nIt was warm."),
            (1, "The sun.\n\nIt was warm.\n\nThe end."),
        ] {
            assert!(!keeps(&of(i), reply), "{reply}");
        }
        for i in [0, 3] {
            assert!(
                Constraint::read(of(i).as_object().expect("an object").clone()).is_err(),
                "there is no paragraph {i}"
            );
        }
    }
}
