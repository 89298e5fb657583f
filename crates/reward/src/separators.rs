//! Separators of thousands and full-width digits, as data sets and people write them: what `math` and `number` share.

use std::borrow::Cow;

/// What stands between groups of three digits and can mean nothing else.
const TIGHT: [&str; 21] = [
    ",\\! ", ",\\!", ",\\,", ",\\ ", "{,}\\!", "{,}", "{\\,}", "{ }", "\\,", "\\!", "\\;", "\\:", "\\ ", "~",
    "\u{202f}", "\u{a0}", "\u{2009}", "\u{2007}", "\u{2008}", "'", "’",
];

/// The length of the separator of thousands that `text`, what follows a digit, begins with: three digits stand behind it.
/// Without `plain`, a comma or a space alone is none.
pub(crate) fn thousands(text: &str, plain: bool) -> Option<usize> {
    if !text.starts_with(|c: char| ",{\\ ~'’".contains(c) || !c.is_ascii()) {
        return None;
    }
    let followed = |length: usize| {
        let digits = text[length..].bytes().take_while(u8::is_ascii_digit).count();
        (digits == 3).then_some(length)
    };
    let tight = TIGHT.into_iter().find(|separator| text.starts_with(separator));
    let plain =
        plain.then_some([",", " "]).into_iter().flatten().find(|separator| text.starts_with(separator));
    tight.or(plain).and_then(|separator| followed(separator.len())).or_else(|| followed(loose(text)?))
}

/// The length of a comma in braces or before `\!`, with spaces around either: ` {, }`, `, \! `.
fn loose(text: &str) -> Option<usize> {
    let spaces = |text: &str| text.len() - text.trim_start_matches(' ').len();
    let mut at = spaces(text);
    let in_braces = text[at..].starts_with('{');
    at += usize::from(in_braces);
    at += spaces(&text[at..]);
    at += text[at..].strip_prefix(',').map(|_| 1)?;
    at += spaces(&text[at..]);
    at += text[at..]
        .strip_prefix(if in_braces { "}" } else { "\\!" })
        .map(|rest| text.len() - at - rest.len())?;
    while text[at..].starts_with("\\!") {
        at += 2;
    }
    Some(at + spaces(&text[at..]))
}

/// `text` with full-width digits, and the signs that stand with them, as ASCII ones.
pub(crate) fn ascii_digits(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || !text.contains(|c| ('０'..='９').contains(&c)) {
        return Cow::Borrowed(text);
    }
    let ascii = |c: char| match c {
        '０'..='９' => char::from_u32(c as u32 - '０' as u32 + '0' as u32).unwrap_or(c),
        '．' => '.',
        '，' => ',',
        '－' => '-',
        '％' => '%',
        '／' => '/',
        other => other,
    };
    Cow::Owned(text.chars().map(ascii).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_stand_before_three_digits() {
        for text in [
            "{,}500",
            " {, }500",
            "{, } 500",
            ",\\! 500",
            ", \\! 500",
            "\\,500",
            "\u{2009}500",
            "'500",
            ",\\!\\!500",
        ] {
            assert_eq!(thousands(text, false), Some(text.len() - 3), "{text}");
        }
        for text in [",500", " 500"] {
            assert_eq!((thousands(text, true), thousands(text, false)), (Some(1), None), "{text}");
        }
        for text in [
            ", 500",
            " , 500",
            "{,}50",
            "{,}5000",
            "{, 500",
            ",\\quad 500",
            "",
            "500",
            ", \\, 500",
            "\u{3000}500",
        ] {
            assert_eq!(thousands(text, true), None, "{text}");
        }
    }

    #[test]
    fn full_width_digits_are_digits() {
        assert_eq!(ascii_digits("－１，２３４．５％"), "-1,234.5%");
        assert_eq!(ascii_digits("－，"), "－，", "no digits");
    }
}
