//! Finds the final answer in a completion. Every search is one pass over the text.

use crate::rational::{CURRENCY, NotRational, Rational};
use crate::verdict::shorten;
use std::{iter, ops::Range};

/// The final answer, to be read as a number in whole, or why there is none. [`crate::number`] documents the
/// order.
pub(crate) fn final_answer(completion: &str) -> Result<&str, String> {
    let text = after_thinking(completion);
    if let Some(content) = committed(text) {
        return content.map(value);
    }
    stated(text).or_else(|| hashed(text)).map_or_else(|| last_number(text), Ok)
}

/// The final answer as text, or why there is none: the content of the last box, or otherwise of the last tag; otherwise what
/// follows the last "answer is" or "answer:" in its line, or, if that line ends there, the lines after it up to a blank
/// one; otherwise the last line that is not blank.
pub(crate) fn answer_text(completion: &str) -> Result<&str, String> {
    let text = after_thinking(completion);
    if let Some(content) = committed(text) {
        return content;
    }
    let is_blank =
        |line: &str| line.trim_matches(|c: char| c.is_whitespace() || ":*_".contains(c)).is_empty();
    let answer = match announced(text).map(|rest| rest.split_once('\n').unwrap_or((rest, ""))) {
        Some((line, below)) if is_blank(line) => {
            let below = below.trim_start();
            Some(below.find("\n\n").map_or(below, |end| &below[..end]))
        }
        Some((line, _)) => Some(line),
        None => text.lines().rfind(|line| !is_blank(line)),
    };
    answer.filter(|answer| !is_blank(answer)).ok_or_else(|| "the completion has no answer".to_owned())
}

/// The content of the last box, or otherwise of the last answer tag; an error if that is never closed.
fn committed(text: &str) -> Option<Result<&str, String>> {
    if let Some((_, content)) = text.rsplit_once("\\boxed{") {
        return Some(closed(content).ok_or_else(|| "the last `\\boxed{` is never closed".to_owned()));
    }
    let (_, content) = text.rsplit_once("<answer>")?;
    let content = content.split_once("</answer>").map(|(content, _)| content);
    Some(content.ok_or_else(|| "the last `<answer>` is never closed".to_owned()))
}

/// What follows the last "answer is" or "answer:".
fn announced(text: &str) -> Option<&str> {
    let lower = text.to_ascii_lowercase();
    let after = |phrase: &str| lower.rfind(phrase).map(|at| at + phrase.len());
    Some(&text[after("answer is").max(after("answer:"))?..])
}

/// `text` without white space, markup and punctuation around it.
pub(crate) fn clean(text: &str) -> &str {
    let opening = |c: char| c.is_whitespace() || is_markup(c);
    let closing = |c: char| opening(c) || ")].,;:".contains(c);
    text.trim_start_matches(opening).trim_end_matches(closing)
}

/// What follows the last `</think>`, up to a `<think>` that is opened again and so holds no answer yet.
pub(crate) fn after_thinking(completion: &str) -> &str {
    let text = completion.rsplit_once("</think>").map_or(completion, |(_, after)| after);
    text.split_once("<think>").map_or(text, |(before, _)| before)
}

/// `content` up to the brace that closes it.
pub(crate) fn closed(content: &str) -> Option<&str> {
    let mut depth = 0_usize;
    for (at, byte) in content.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(&content[..at]),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The answer in a box or tag: all of it, or the right-hand side of an equation.
fn value(content: &str) -> &str {
    let whole = clean(content);
    match whole.rsplit_once('=') {
        Some((left, right)) if !is_number(whole) && !left.ends_with(['<', '>', '!']) => clean(right),
        _ => whole,
    }
}

/// The number that directly follows the last "answer is" or "answer:", or the last `=` in that sentence.
fn stated(text: &str) -> Option<&str> {
    let line = announced(text)?.trim_start().lines().next()?;
    let sentence = line.split_once(". ").map_or(line, |(sentence, _)| sentence);
    leading_number(sentence).or_else(|| leading_number(sentence.rsplit_once('=')?.1))
}

/// The number that fills the line after the last `####` (GSM8K). A heading is not one.
fn hashed(text: &str) -> Option<&str> {
    let (_, rest) = text.rsplit_once("####")?;
    Some(clean(rest.lines().next()?)).filter(|line| is_number(line))
}

/// The last number of `text`.
fn last_number(text: &str) -> Result<&str, String> {
    let run = runs(text).last().ok_or("the completion has no number")?;
    let number = with_sign_and_percent(text, run);
    if stands_alone(text, &number) {
        Ok(&text[number])
    } else {
        Err(format!("the last number, `{}`, is part of something else", shorten(&text[number])))
    }
}

/// The number at the start of `text`, after white space and markup.
fn leading_number(text: &str) -> Option<&str> {
    let number = with_sign_and_percent(text, runs(text).next()?);
    let leads = text[..number.start].chars().all(|c| c.is_whitespace() || c == ':' || is_markup(c));
    (leads && stands_alone(text, &number)).then(|| &text[number]).filter(|number| is_number(number))
}

/// Whether `text` is written as a number, of whatever size.
fn is_number(text: &str) -> bool {
    !matches!(Rational::parse(text), Err(NotRational::Syntax))
}

/// Markdown, TeX and quotes that may touch a number.
fn is_markup(c: char) -> bool {
    "*_`\"'\\([".contains(c) || CURRENCY.contains(&c)
}

/// Digits and all that joins them into one word: `1,234.5`, `1/2`, `2e-3`, but also `3,5`, `10:30` and
/// `2024-01-05`, which must not be mistaken for their last digits.
fn runs(text: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut at = 0;
    iter::from_fn(move || {
        let start = (at..bytes.len()).find(|&i| is_digit(i) || bytes[i] == b'.' && is_digit(i + 1))?;
        at = start + 1;
        loop {
            at += match bytes.get(at) {
                Some(b'0'..=b'9') => 1,
                Some(b'.' | b',' | b'/' | b':' | b'-' | b'+' | b'*' | b'^' | b'_' | b'e' | b'E')
                    if is_digit(at + 1) =>
                {
                    2
                }
                Some(b'e' | b'E') if matches!(bytes.get(at + 1), Some(b'+' | b'-')) && is_digit(at + 2) => 3,
                _ => return Some(start..at),
            }
        }
    })
}

/// `run` with a sign before it that is not an operator, and a percent sign after it.
fn with_sign_and_percent(text: &str, run: Range<usize>) -> Range<usize> {
    let before = text[..run.start].trim_end_matches(|c| c == '\\' || CURRENCY.contains(&c));
    let start = match before.strip_suffix(['-', '\u{2212}', '+']) {
        Some(unsigned) if !unsigned.ends_with(|c: char| c.is_alphanumeric() || c == ')') => unsigned.len(),
        _ => run.start,
    };
    let after = text[run.end..].trim_start_matches([' ', '\\']);
    let end = after.strip_prefix('%').map_or(run.end, |after| text.len() - after.len());
    start..end
}

/// Whether `number` is a number by itself in its line: not part of a word (`x2`, `5x`), of a
/// formula (`\frac{1}{2}`, `3\sqrt2`, `f(2)`), an operation (`23 + 45`) or a row of numbers (`1 2`).
fn stands_alone(text: &str, number: &Range<usize>) -> bool {
    const OPERATORS: [char; 11] = ['+', '-', '\u{2212}', '*', '/', '×', '÷', '·', '^', '√', '±'];
    let is_ascii_digit = |c: char| c.is_ascii_digit();

    let before = text[..number.start].rsplit('\n').next().unwrap_or_default();
    let touching = before.trim_end_matches(is_markup);
    if touching.ends_with(|c: char| c.is_alphanumeric() || ")]{}^√±–—".contains(c)) {
        return false;
    }
    let near = touching.trim_end();
    let left = near.trim_end_matches(OPERATORS);
    let operator = &near[left.len()..];
    let is_bullet = left.trim_start().is_empty();
    let closes_bold = operator.trim_end_matches('*').is_empty()
        && !left.ends_with(|c: char| c.is_whitespace() || c.is_ascii_digit() || c == ')');
    if near.ends_with(is_ascii_digit) || !(operator.is_empty() || is_bullet || closes_bold) {
        return false;
    }

    let after = text[number.end..].split('\n').next().unwrap_or_default();
    let touching = after.trim_start_matches(['*', '_', '`']);
    if touching.starts_with(|c: char| c.is_alphanumeric() || "{}^√".contains(c)) {
        return false;
    }
    let near = touching.trim_start();
    let is_command = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_operand = |rest: &str| rest.trim_start().starts_with(is_ascii_digit);
    let word = near[..near.find(|c: char| !c.is_alphabetic()).unwrap_or(near.len())].to_ascii_lowercase();
    let is_magnitude =
        ["hundred", "thousand", "million", "billion", "trillion", "dozen"].contains(&word.as_str());
    !(is_magnitude
        || near.starts_with(['+', '/', '×', '÷', '·', '^', '√', '±'])
        || near.starts_with(is_ascii_digit)
        || near.strip_prefix('\\').is_some_and(is_command)
        || near.strip_prefix(['-', '\u{2212}', '*']).is_some_and(is_operand))
}
