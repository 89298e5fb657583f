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
//! separated as `math` reads them: by LaTeX (`9{,}500`, `1\,234`, `11,\! 111`), narrow spaces and apostrophes, and by a plain space in a
//! box or tag. Full-width digits are digits. Other LaTeX within a number (`\frac`), words and units are not read.

use crate::extract::{clean, final_answer};
use crate::rational::{MAX_DIGITS, MAX_EXPONENT, NotRational, Rational};
use crate::separators::{ascii_digits, thousands};
use crate::verdict::shorten;
use crate::{Outcome, Verdict};
use std::borrow::Cow;

/// Judges the final number of `completion` by comparison with the number `answer`.
pub fn judge(completion: &str, answer: &str) -> Verdict {
    let (answer, completion) = (normal(answer, true), normal(completion, false));
    let answer = clean(&answer);
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
    let found = match final_answer(&completion) {
        Ok(found) => found,
        Err(reason) => return Verdict::without_answer(Outcome::Unparsable, reason),
    };
    match Rational::parse(&normal(found, true)) {
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

/// `text` with ASCII digits, and commas where something else separates thousands: `9{,}500`, `1\,234\,567`,
/// `11,\! 111,\! 100`. With `spaces`, a space does.
fn normal(text: &str, spaces: bool) -> Cow<'_, str> {
    let text = ascii_digits(text);
    if text.is_ascii() && !text.contains(['\\', '{', '~', '\'']) && !spaces {
        return text;
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    let mut digits = 0; // of the first group, and whether more may follow
    while let Some(c) = rest.chars().next() {
        let separator = (1..=3).contains(&digits).then(|| thousands(rest, spaces)).flatten();
        if let Some(length) = separator {
            plain.push(',');
            plain.push_str(&rest[length..length + 3]);
            rest = &rest[length + 3..];
            digits = 3;
            continue;
        }
        digits = if c.is_ascii_digit() { digits + 1 } else { 0 };
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
