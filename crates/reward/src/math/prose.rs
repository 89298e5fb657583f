//! Telling formulas from words where nothing marks them.

use super::commands;
use super::expr::Function;
use super::token::MAX_LENGTH;
use super::units::Unit;

/// Words between parts of one answer.
const JOINERS: [&str; 6] = ["and", "or", "And", "Or", "as", "well"];

/// `text` without the delimiters of formulas and spacing commands.
pub(crate) fn without_delimiters(text: &str) -> String {
    let mut plain = text.replace(['$', '{', '}', '*', '~'], " ");
    for command in
        ["\\(", "\\)", "\\[", "\\]", "\\quad", "\\qquad", "\\text", "\\,", "\\;", "\\ ", "\\\\", "&"]
    {
        plain = plain.replace(command, " ");
    }
    plain
}

/// Whether `gap` does nothing but join what stands on its two sides.
pub(crate) fn is_joiner(gap: &str) -> bool {
    if gap.len() > 40 || gap.contains("\n\n") {
        return false;
    }
    let plain = without_delimiters(gap);
    let mut joins = false;
    for word in plain.split_whitespace() {
        let word = word.trim_matches([',', ';']);
        if !word.is_empty() && !JOINERS.contains(&word) {
            return false;
        }
        joins = true;
    }
    joins
}

/// Whether `text` holds words that are neither names of functions, letters or units, nor joiners. What is too
/// long to be read is prose too.
pub(crate) fn is_prose(text: &str) -> bool {
    text.len() > MAX_LENGTH || words(text).next().is_some()
}

/// The words of `text` that make it prose.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            match bytes[at] {
                b'\\' => {
                    let start = at + 1;
                    at = start;
                    while at < bytes.len() && bytes[at].is_ascii_alphabetic() {
                        at += 1;
                    }
                    let takes_words = matches!(
                        &text[start..at],
                        "text"
                            | "mathrm"
                            | "mbox"
                            | "textbf"
                            | "textit"
                            | "textrm"
                            | "operatorname"
                            | "begin"
                            | "end"
                            | "mathbf"
                            | "mathbb"
                            | "textsf"
                            | "mathsf"
                            | "hbox"
                            | "emph"
                    );
                    if takes_words
                        && let Some(length) = text[at..].strip_prefix('{').and_then(|rest| rest.find('}'))
                    {
                        at += length + 2;
                    } else if at == start {
                        at += 1;
                        while at < bytes.len() && !text.is_char_boundary(at) {
                            at += 1;
                        }
                    }
                }
                b if b.is_ascii_alphabetic() => {
                    let start = at;
                    while at < bytes.len() && bytes[at].is_ascii_alphabetic() {
                        at += 1;
                    }
                    if is_word(&text[start..at]) {
                        return Some(&text[start..at]);
                    }
                }
                _ => at += 1,
            }
        }
        None
    })
}

/// Whether a run of letters is a word rather than a part of a formula.
fn is_word(run: &str) -> bool {
    let known = run.len() < 2
        || Function::named(run).is_some()
        || commands::greek_name(run).is_some()
        || Unit::is_name(run)
        || matches!(
            run,
            "and"
                | "or"
                | "sqrt"
                | "exp"
                | "mod"
                | "frac"
                | "percent"
                | "pct"
                | "infinity"
                | "inf"
                | "oo"
                | "union"
                | "infty"
                | "cdot"
                | "times"
                | "emptyset"
        )
        || run.len() <= 4 && run.bytes().all(|byte| byte.is_ascii_uppercase())
        || run.len() == 2
            && !matches!(
                run.to_ascii_lowercase().as_str(),
                "is" | "so"
                    | "we"
                    | "it"
                    | "if"
                    | "in"
                    | "to"
                    | "of"
                    | "be"
                    | "by"
                    | "at"
                    | "on"
                    | "as"
                    | "an"
                    | "no"
                    | "he"
                    | "do"
                    | "up"
                    | "us"
                    | "my"
                    | "go"
            );
    !known
}

/// Whether `text` is a number and then a few words: `5 apples`.
pub(crate) fn is_counted_noun(text: &str) -> bool {
    if text.len() > MAX_LENGTH {
        return false;
    }
    let text = text.trim_start_matches(['$', '-', '\\', '(']);
    text.starts_with(|c: char| c.is_ascii_digit()) && words(text).count() <= 4 && !text.contains('.')
}

/// Whether `text` is words alone: two or more, or one too long to be a product of variables.
pub(crate) fn is_sentence(text: &str) -> bool {
    let plain = text.chars().all(|c| c.is_alphabetic() || c.is_whitespace() || ".,'!-$*".contains(c));
    plain
        && is_prose(text)
        && (text.split_whitespace().count() > 1
            || words(text).any(|word| word.len() > super::parse::MAX_LETTERS))
}

/// Whether `text` is at most a few words.
pub(crate) fn is_short(text: &str) -> bool {
    text.split_whitespace().count() <= 6
}

/// What belongs to an answer right behind it: a percent or degree sign, or the word for it.
pub(crate) fn suffix(rest: &str) -> &'static str {
    let rest = rest.trim_start_matches(['$', ' ', '}', '\n']);
    let rest = rest.strip_prefix("\\)").unwrap_or(rest).trim_start();
    let lower: String = rest.chars().take(8).flat_map(char::to_lowercase).collect();
    if lower.starts_with('%')
        || lower.starts_with("\\%")
        || lower.starts_with("percent")
        || lower.starts_with("pct")
    {
        "\\%"
    } else if lower.starts_with("^\\circ") || lower.starts_with('°') {
        "^\\circ"
    } else {
        ""
    }
}

/// `rest` without the marks and the verb that lead to what is stated.
pub(crate) fn skip_copula(rest: &str) -> &str {
    let mut rest = rest;
    loop {
        let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || ":*_`=#".contains(c));
        let verb =
            ["is", "are", "would be", "will be", "should be", "equals", "→", "therefore", "thus", "then"]
                .into_iter()
                .find(|verb| {
                    trimmed.get(..verb.len()).is_some_and(|start| {
                        start.eq_ignore_ascii_case(verb)
                            && !trimmed[verb.len()..].starts_with(char::is_alphanumeric)
                    })
                });
        match verb {
            Some(verb) => rest = &trimmed[verb.len()..],
            None => return trimmed,
        }
    }
}

/// `text` up to the end of its first sentence: a line's end, or a period, question or exclamation mark before
/// white space.
pub(crate) fn sentence(text: &str) -> &str {
    let mut end = text.len();
    let mut previous = ' ';
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let before_space = chars.peek().is_none_or(|(_, next)| next.is_whitespace());
        if c == '\n'
            || ".?".contains(c) && before_space && previous != '\\'
            || c == '!' && before_space && previous.is_alphabetic()
        {
            end = at;
            break;
        }
        previous = c;
    }
    text[..end].trim().trim_end_matches(['*', '`', '_'])
}

/// Behind the last "is", "are", "equals" or "be" of a sentence.
pub(crate) fn last_statement(sentence: &str) -> Option<usize> {
    [" is ", " are ", " equals ", " be ", " as "]
        .into_iter()
        .filter_map(|verb| sentence.rfind(verb).map(|at| at + verb.len()))
        .max()
}

/// Whether the words between a formula and a number say that the number is its value.
pub(crate) fn states(gap: &str) -> bool {
    let gap = gap.trim_end_matches(['$', '*', ' ', '\\', '(']);
    if gap.contains(". ") || gap.contains("\n\n") {
        return true;
    }
    [
        " is",
        " are",
        "=",
        " equals",
        " be",
        ":",
        " by",
        " was",
        " about",
        " approximately",
        " exactly",
        " to",
        " of",
    ]
    .iter()
    .any(|verb| gap.ends_with(verb))
}

/// Whether what stands between two dollars is the text between two amounts of money.
pub(crate) fn is_between_amounts(content: &str) -> bool {
    let money = content.starts_with(|c: char| c.is_ascii_digit());
    let mut in_words = words(content);
    money && in_words.next().is_some() && in_words.next().is_some()
}

/// What stands between single dollars that are broken across lines, if anything is.
pub(crate) fn broken(text: &str) -> Option<std::ops::Range<usize>> {
    let bytes = text.as_bytes();
    for at in 0..bytes.len() {
        if bytes[at] != b'$'
            || at > 0 && matches!(bytes[at - 1], b'$' | b'\\')
            || bytes.get(at + 1) == Some(&b'$')
        {
            continue;
        }
        if text[at + 1..].trim_start_matches(' ').starts_with('\n')
            && let Some(length) = text[at + 1..].find('$')
        {
            return Some(at..at + length + 2);
        }
    }
    None
}

/// The last run of words that can be a formula and holds a digit, and where it begins.
pub(crate) fn last_run(text: &str) -> Option<(usize, String)> {
    if let Some(range) = broken(text)
        && !text[range.end..].contains(|c: char| c.is_ascii_digit())
    {
        return None;
    }
    let words: Vec<(usize, &str)> = last_words(text);
    let last = words.iter().rposition(|(_, word)| word.contains(|c: char| c.is_ascii_digit()))?;
    if !is_formula_word(words[last].1) {
        return None;
    }
    Some(run_around(text, &words, last))
}

/// The run of formula words at the start of `text`, if it holds a digit.
pub(crate) fn leading_run(text: &str) -> Option<String> {
    let words = all_words(text);
    let first = words.first()?;
    if !is_formula_word(first.1) {
        return None;
    }
    let mut end = 0;
    while end + 1 < words.len() && is_formula_word(words[end + 1].1) && !ends_clause(words[end].1) {
        end += 1;
    }
    let run = run_between(text, &words, 0, end);
    run.contains(|c: char| c.is_ascii_digit()).then_some(run)
}

fn run_around(text: &str, words: &[(usize, &str)], last: usize) -> (usize, String) {
    let is_number =
        |at: usize| is_formula_word(words[at].1) && words[at].1.contains(|c: char| c.is_ascii_digit());
    let (mut start, mut joined) = (last, false);
    while start > 0 {
        let before = words[start - 1].1;
        if is_formula_word(before) && !ends_clause(before)
            || joined && before.ends_with(',') && is_number(start - 1)
        {
            start -= 1;
        } else if start > 1 && matches!(before, "and" | "or") && is_number(start - 2) {
            start -= 2;
            joined = true;
        } else {
            break;
        }
    }
    let mut end = last;
    while end + 1 < words.len() && is_formula_word(words[end + 1].1) && !ends_clause(words[end].1) {
        end += 1;
    }
    (words[start].0, run_between(text, words, start, end))
}

/// The words from `start` to `end`, with a unit behind them.
fn run_between(text: &str, words: &[(usize, &str)], start: usize, end: usize) -> String {
    let stop = words[end].0 + words[end].1.len();
    let mut run = text[words[start].0..stop].to_owned();
    if !ends_clause(words[end].1)
        && let Some((_, next)) = words.get(end + 1)
    {
        let name = next.trim_end_matches(['.', ',', ';', '*', '$', '!', '?', ')']);
        if Unit::is_name(name) || matches!(name, "percent" | "pct" | "%") {
            run.push(' ');
            run.push_str(name);
        }
    }
    run.trim_matches(|c: char| c.is_whitespace() || "*_`\"'".contains(c))
        .trim_end_matches(['.', ',', ';', ':', '?', '*'])
        .to_owned()
}

/// The words of the last few lines of `text` that hold one with a digit.
fn last_words(text: &str) -> Vec<(usize, &str)> {
    let Some(digit) = text.rfind(|c: char| c.is_ascii_digit()) else { return Vec::new() };
    let start = text[..digit].rfind('\n').map_or(0, |at| at + 1);
    let end = text[digit..].find('\n').map_or(text.len(), |at| digit + at);
    all_words(&text[start..end]).into_iter().map(|(at, word)| (start + at, word)).collect()
}

fn all_words(text: &str) -> Vec<(usize, &str)> {
    let offset = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    text.split_whitespace().map(|word| (offset(word), word)).collect()
}

/// Whether a mark at the end of `word` separates it from what follows.
fn ends_clause(word: &str) -> bool {
    word.ends_with(['.', ';', ':', '?', '!']) || word.ends_with(',') && !word.starts_with(['(', '[', '{'])
}

/// Whether a word can be a part of a formula: letters stand alone or are names of functions.
fn is_formula_word(word: &str) -> bool {
    let inner = word.trim_matches(|c: char| "*_`\"'$.,;:?!".contains(c));
    if inner.is_empty() {
        return word.chars().all(|c| "+-*/=<>".contains(c));
    }
    if matches!(inner, "a" | "A" | "I") || is_prose(inner) {
        return false;
    }
    if Unit::is_name(inner) || matches!(inner, "and" | "or" | "And" | "Or") {
        return false;
    }
    inner
        .chars()
        .all(|c| c.is_alphanumeric() || "+-*/^=().,<>≤≥≠π√²³⁴°%{}[]\\|!_:\u{2212}×·÷±∞$€£¥".contains(c))
}
