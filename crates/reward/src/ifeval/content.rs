//! What must stand in a reply, or must not: a postscript, placeholders, a title, a choice, no commas.

use super::arguments::Arguments;
use super::constraint::{Check, Finding, counted, finding};
use super::keywords::find_whole;
use crate::verdict::shorten;

/// The marker of a postscript occurs, with text after it.
pub(super) fn postscript(arguments: &Arguments) -> Result<Check, String> {
    let marker = arguments.text("postscript_marker")?;
    Ok(Box::new(move |reply| match reply.split_once(marker.as_str()) {
        None => Err(format!("there is no `{}`", shorten(&marker))),
        Some((_, after)) if after.trim().is_empty() => Err(format!("nothing follows `{}`", shorten(&marker))),
        Some(_) => Ok(format!("text follows `{}`", shorten(&marker))),
    }))
}

/// At least N placeholders: text in square brackets, on one line.
pub(super) fn placeholders(arguments: &Arguments) -> Result<Check, String> {
    let n = arguments.count("N", 1)?;
    Ok(Box::new(move |reply| {
        let count = count_between(reply, "[", "]");
        finding(count >= n, format!("{}; at least {n} asked", counted(count, "placeholder")))
    }))
}

/// A title: text in double angular brackets, on one line.
pub(super) fn title(reply: &str) -> Finding {
    let titled = count_between(reply, "<<", ">>") > 0;
    finding(titled, format!("there is {} title in << and >>", if titled { "a" } else { "no" }))
}

/// Exactly one of the options is named, as whole words. An option within a longer one that is named is not named itself.
pub(super) fn choice(arguments: &Arguments) -> Result<Check, String> {
    let mut options = arguments.texts("options")?;
    options.sort_by_key(|option| std::cmp::Reverse(option.len()));
    Ok(Box::new(move |reply| {
        let named = named(reply, &options);
        match named[..] {
            [] => Err("no option is named".to_owned()),
            [one] => Ok(format!("the option `{}` is named", shorten(one))),
            [one, other, ..] => {
                Err(format!("several options are named: `{}`, `{}`", shorten(one), shorten(other)))
            }
        }
    }))
}

/// No comma.
pub(super) fn no_commas(reply: &str) -> Finding {
    match reply.matches(',').count() {
        0 => Ok("there is no comma".to_owned()),
        n => Err(format!("there {} {}", if n == 1 { "is" } else { "are" }, counted(n, "comma"))),
    }
}

/// How often `open`, something that is not blank, and `close` follow one another on a line.
fn count_between(text: &str, open: &str, close: &str) -> usize {
    let in_line = |line: &str| {
        let (mut count, mut rest) = (0, line);
        while let Some((inside, after)) = rest.split_once(open).and_then(|(_, from)| from.split_once(close)) {
            count += usize::from(!inside.trim().is_empty());
            rest = after;
        }
        count
    };
    text.lines().map(in_line).sum()
}

/// The options that `text` names; `options` are sorted, the longest first.
fn named<'a>(text: &str, options: &'a [String]) -> Vec<&'a str> {
    let mut text = text.to_owned();
    let mut named = Vec::new();
    for option in options {
        let (mut from, mut rest) = (0, String::new());
        while let Some(at) = find_whole(&text, option, from) {
            rest.push_str(&text[from..at]);
            rest.push('\n');
            from = at + option.len();
        }
        if from > 0 {
            named.push(option.as_str());
            rest.push_str(&text[from..]);
            text = rest;
        }
    }
    named.dedup();
    named
}

#[cfg(test)]
mod tests {
    use super::super::constraint::keeps;
    use serde_json::json;

    #[test]
    fn verify_postscript_asks_for_text_behind_the_marker() {
        let ps = json!({"func_name": "verify_postscript", "postscript_marker": "P.S."});
        assert!(keeps(&ps, "Dear Ann\n\nP.S. I am well"));
        assert!(keeps(&ps, "P.S.x"));
        for reply in ["Dear Ann", "Dear Ann\nP.S.", "Dear Ann\nPS I am well", "p.s. I am well"] {
            assert!(!keeps(&ps, reply), "{reply}");
        }
    }

    #[test]
    fn validate_placeholders_counts_what_is_in_brackets() {
        let two = json!({"func_name": "validate_placeholders", "N": 2});
        for reply in ["Dear [name] of [city]", "[a][b][c]", "[a] x\n[b]"] {
            assert!(keeps(&two, reply), "{reply}");
        }
        for reply in ["Dear [name]", "[] [ ] [a]", "[a\n] [b]", "[[a]", "a] b]"] {
            assert!(!keeps(&two, reply), "{reply}");
        }
    }

    #[test]
    fn validate_title_asks_for_a_title() {
        let title = json!({"func_name": "validate_title"});
        for reply in ["<<poem of joy>>\nO joy", "text <<a>> text"] {
            assert!(keeps(&title, reply), "{reply}");
        }
        for reply in ["poem of joy", "<<>>", "<< >>", "<poem>", "<<poem\nof joy>>", "<<poem"] {
            assert!(!keeps(&title, reply), "{reply}");
        }
    }

    #[test]
    fn validate_choice_wants_one_option_named() {
        let letters = json!({"func_name": "validate_choice", "options": ["A", "B", "C"]});
        for reply in ["A", "The answer is (B).", "C, since C is the largest", "**A**"] {
            assert!(keeps(&letters, reply), "{reply}");
        }
        for reply in ["Apple", "a", "A or B", "A, B, C", "D", "none"] {
            assert!(!keeps(&letters, reply), "{reply}");
        }
        let phrases = json!({"func_name": "validate_choice",
            "options": ["My answer is yes.", "My answer is no.", "yes", "My answer is yes. Surely."]});
        assert!(keeps(&phrases, "My answer is yes."));
        assert!(keeps(&phrases, "My answer is yes. Surely."));
        assert!(!keeps(&phrases, "My answer is yes. My answer is no."));
        assert!(!keeps(&phrases, "My answer is unknown."));
    }

    #[test]
    fn validate_no_commas_asks_for_none() {
        let none = json!({"func_name": "validate_no_commas"});
        assert!(keeps(&none, "One; two and three."));
        assert!(!keeps(&none, "One, two"));
        assert!(!keeps(&none, "1,000"));
    }
}
