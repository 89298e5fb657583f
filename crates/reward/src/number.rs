//! The verifier `number`: the final answer is one number, compared exactly with the reference.
//!
//! **Where the answer is looked for**, in this order, in what follows the last `</think>` (the whole text
//! if there is none; nothing after a `<think>` that is not closed again):
//!
//! 1. the last `\boxed{…}`;
//! 2. the last `<answer>…</answer>`;
//! 3. directly after the last "answer is" or "answer:", or after the last `=` of that sentence;
//! 4. the line after the last `####`, if it is a number (GSM8K);
//! 5. the last number in the text. It must stand alone: the digits of `x2`, `3,5`, `1 2`, `f(2)`,
//!    `\frac{1}{2}` or the operand of `23 + 45` are not an answer, and no earlier number is taken in their
//!    place.
//!
//! A box or a tag is final: if the last one is not closed or holds no number (or equation that ends in one,
//! `x = 5`), the completion is unparsable, whatever else it says.
//!
//! **What is a number**: integers, decimals, `1,234,567`, a sign (also U+2212), fractions `a/b`, `1.5e-3`,
//! percent, signs of currency (which are ignored), markup and a final period around it. 50% equals 0.5 and
//! differs from 50. Numbers are compared as rationals, without rounding: 0.333 is not 1/3. Beyond 1,000
//! significant digits or a power of ten beyond 1,000,000 a reference is undecided, and an answer wrong. Thousands may be
//! separated as LaTeX does it (`9{,}500`, `1\,234`) and by narrow spaces; other LaTeX within a number (`\frac`), words and
//! units are not read.

use crate::extract::{clean, final_answer};
use crate::rational::{MAX_DIGITS, MAX_EXPONENT, NotRational, Rational};
use crate::verdict::shorten;
use crate::{Outcome, Verdict};
use std::borrow::Cow;

/// Judges the final number of `completion` by comparison with the number `answer`.
pub fn judge(completion: &str, answer: &str) -> Verdict {
    let (answer, completion) = (with_commas(answer), with_commas(completion));
    let (answer, completion) = (clean(&answer), completion.as_ref());
    let expected = match Rational::parse(answer) {
        Ok(expected) => expected,
        Err(NotRational::Syntax) => {
            let reason = format!("the reference `{}` is not a number", shorten(answer));
            return Verdict::without_answer(Outcome::BadReference, reason);
        }
        Err(NotRational::TooLarge) => {
            return Verdict::without_answer(Outcome::Undecided, too_large("the reference"));
        }
    };
    let found = match final_answer(completion) {
        Ok(found) => found,
        Err(reason) => return Verdict::without_answer(Outcome::Unparsable, reason),
    };
    match Rational::parse(found) {
        Ok(number) if number == expected => Verdict::new(Outcome::Correct, found, "equals the reference"),
        Ok(_) => {
            let reason = format!("{} is not {}", shorten(found), shorten(answer));
            Verdict::new(Outcome::Wrong, found, reason)
        }
        Err(NotRational::Syntax) => {
            let reason = format!("the final answer `{}` is not a number", shorten(found));
            Verdict::without_answer(Outcome::Unparsable, reason)
        }
        // The reference is not.
        Err(NotRational::TooLarge) => Verdict::new(Outcome::Wrong, found, too_large("the final answer")),
    }
}

/// `text` with commas where LaTeX or a narrow space separates thousands:
/// `9{,}500`, `1\,234\,567`, `11,\! 111,\! 100`.
fn with_commas(text: &str) -> Cow<'_, str> {
    const SEPARATORS: [&str; 11] =
        [",\\! ", ",\\!", "{,}\\!", "{,}", "\\,", "\\!", "\\;", "\u{a0}", "\u{2009}", "\u{202f}", "\u{2007}"];
    if !text.contains(['\\', '{']) && text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after_digit = plain.ends_with(|c: char| c.is_ascii_digit());
        let separator = SEPARATORS.iter().find(|separator| after_digit && rest.starts_with(**separator));
        if let Some(behind) = separator.map(|separator| &rest[separator.len()..])
            && behind.chars().take_while(char::is_ascii_digit).count() == 3
        {
            plain.push(',');
            rest = behind;
            continue;
        }
        plain.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Cow::Owned(plain)
}

fn too_large(what: &str) -> String {
    format!("{what} has more than {MAX_DIGITS} digits or a power of ten beyond {MAX_EXPONENT}")
}

#[cfg(test)]
mod tests;
