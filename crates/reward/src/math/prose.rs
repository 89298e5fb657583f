//! Telling formulas from words where nothing marks them.

use super::commands;
use super::expr::Function;
use super::numeral;
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

/// Whether what joins two parts of an answer says "or".
pub(crate) fn says_or(gap: &str) -> bool {
    without_delimiters(gap).split_whitespace().any(|word| word.trim_matches(',').eq_ignore_ascii_case("or"))
}

/// Whether `before`, which leads to a box, denies it.
pub(crate) fn is_negated(before: &str) -> bool {
    let plain = before.trim_end_matches(|c: char| c.is_whitespace() || "$*_({[".contains(c));
    let plain = plain.trim_end_matches("\\text").trim_end();
    let lower = plain.get(plain.len().saturating_sub(16)..).unwrap_or_default().to_lowercase();
    ["\\ne", "\\neq", "≠", "!="].iter().any(|sign| lower.ends_with(sign))
        || [" not", "isn't", "not be", "not equal to", "不是", "不等于"]
            .iter()
            .any(|word| lower.ends_with(word))
}

/// The short name before `=` at the end of `before`, and where it begins: `y_1 = `.
pub(crate) fn name_before(before: &str) -> Option<(usize, &str)> {
    let before = before.trim_end_matches([' ', '$', '&']);
    let before = before.strip_suffix('=')?.trim_end_matches([' ', '&', '$']);
    let is_part = |c: char| c.is_alphanumeric() || "_{}\\'()".contains(c);
    let start = before
        .rfind(|c: char| !is_part(c))
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let name = &before[start..];
    (!name.is_empty() && name.len() <= 16).then_some((start, name))
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
        || numeral::magnitude(run).is_some()
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

/// Whether `text` leads up to a number in a script without spaces: `所以一共有12个`.
pub(crate) fn is_sentence_of_signs(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c >= '\u{2e80}' && c.is_alphabetic());
    begins && text.contains(|c: char| c.is_ascii_digit())
}

/// Whether `text` is at most a few words.
pub(crate) fn is_short(text: &str) -> bool {
    text.split_whitespace().count() <= 6
}

/// What belongs to an answer right behind it: a percent or degree sign, or the word for it, or a word of magnitude.
pub(crate) fn suffix(rest: &str) -> String {
    let after = rest.trim_start_matches(['$', ' ', '}']);
    let after = after.strip_prefix("\\)").unwrap_or(after).trim_start_matches(' ');
    match numeral::leading_magnitude(after) {
        Some((.., left)) if !after.starts_with("half") => {
            format!("\\text{{ {}}}", &after[..after.len() - left.len()])
        }
        _ => sign(rest).to_owned(),
    }
}

fn sign(rest: &str) -> &'static str {
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

/// The letter of a choice with which a sentence begins, and that is no word of it: `B because …`, `A. …`.
pub(crate) fn leading_choice(sentence: &str) -> Option<String> {
    let sentence = sentence.trim_start_matches(['(', '*', ' ']);
    let letter = sentence.chars().next().filter(|c| ('A'..='H').contains(c))?;
    let rest = &sentence[1..];
    let marked = rest.starts_with([')', '.', ':', ','])
        && rest[1..].trim_start_matches(['*', ')']).starts_with([' ', '$']);
    let next = rest.trim_start_matches(['*', ')']).split_whitespace().next().unwrap_or_default();
    let explained = rest.starts_with([' ', ')', '*'])
        && matches!(next, "because" | "since" | "as" | "for" | "which" | "given" | "due" | "where");
    (marked || explained).then(|| letter.to_string())
}

/// The letter of a choice and the words behind it: `E: the red one`.
pub(crate) fn choice_with_text(text: &str) -> Option<(char, &str)> {
    if text.len() > 200 {
        return None;
    }
    let text = text.trim();
    let inner = text.strip_prefix('(').unwrap_or(text);
    let letter = inner.chars().next().filter(|c| ('A'..='H').contains(c))?;
    let mark = if inner.len() < text.len() {
        ")"
    } else {
        ":).".get(..).filter(|_| inner[1..].starts_with([':', ')', '.']))?
    };
    let rest = if mark == ")" { inner[1..].strip_prefix(')')? } else { &inner[2..] };
    let is_text = rest.starts_with(' ') && is_prose(rest) && !rest.contains(['$', '\\', '=']);
    is_text.then(|| (letter, rest.trim()))
}

/// Words that deny or bound what follows them, so that it is not stated as the answer.
const HEDGES: [&str; 40] = [
    "not",
    "isn't",
    "isn’t",
    "aren't",
    "cannot be",
    "can't be",
    "never",
    "neither",
    "nor",
    "other than",
    "except",
    "at most",
    "at least",
    "less than",
    "more than",
    "greater than",
    "fewer than",
    "smaller than",
    "larger than",
    "bigger than",
    "up to",
    "no more than",
    "no less than",
    "unequal to",
    "different from",
    "instead of",
    "rather than",
    "not equal to",
    "不是",
    "不等于",
    "至少",
    "至多",
    "最多",
    "最少",
    "不超过",
    "小于",
    "大于",
    "no es",
    "nicht",
    "n'est pas",
];

/// Whether `before`, which leads to a value, denies or bounds it: "is not", "at most".
pub(crate) fn is_hedged(before: &str) -> bool {
    let start = before.len().saturating_sub(48);
    let start = (start..=before.len()).find(|at| before.is_char_boundary(*at)).unwrap_or(0);
    let tail = before[start..].rsplit(['\n', ';']).next().unwrap_or_default();
    let plain = tail.to_lowercase().replace(['$', '*', '_', '`', '(', '{', '~', '\\'], " ");
    let plain = plain.trim_end().trim_end_matches("text").trim_end();
    let plain = ["exactly", "equal to", "be", "a", "the", "just", "simply"]
        .iter()
        .fold(plain, |plain, filler| without_last_word(plain, filler));
    HEDGES.iter().any(|hedge| {
        plain.strip_suffix(hedge).is_some_and(|left| {
            left.is_empty() || !hedge.is_ascii() || left.ends_with(|c: char| !c.is_alphanumeric())
        })
    })
}

fn without_last_word<'a>(plain: &'a str, word: &str) -> &'a str {
    match plain.strip_suffix(word) {
        Some(left) if left.ends_with(' ') => left.trim_end(),
        _ => plain,
    }
}

/// Whether words behind a value take it back or offer another.
pub(crate) fn hedges(words: &str) -> bool {
    let lower = words.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphanumeric());
    words.any(|word| matches!(word, "or" | "not" | "maybe" | "perhaps"))
        || ["at most", "at least", "or more", "or less", "or fewer"]
            .iter()
            .any(|phrase| lower.contains(phrase))
}

/// Whether an answer, its markup aside, begins by denying or bounding what it holds: `\text{at most } 3`.
pub(crate) fn is_denial(text: &str) -> bool {
    if text.len() > MAX_LENGTH {
        return false;
    }
    let Some(digit) = text.find(|c: char| c.is_ascii_digit()) else { return false };
    let before = text[..digit].replace(['}', ','], " ");
    is_hedged(&before)
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
            || c == '。'
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

/// All runs of formula words in `text` that hold a digit and a sign of operation or a unit.
pub(crate) fn runs(text: &str) -> Vec<String> {
    let words = all_words(text);
    let mut runs = Vec::new();
    let mut at = 0;
    while at < words.len() {
        if !is_formula_word(words[at].1) {
            at += 1;
            continue;
        }
        let mut end = at;
        while end + 1 < words.len() && is_formula_word(words[end + 1].1) && !ends_clause(words[end].1) {
            end += 1;
        }
        let run = run_between(text, &words, at, end);
        let run = run.trim_end_matches(['=', ' ', '?']);
        if run.len() > 2 && run.contains(|c: char| c.is_ascii_digit()) {
            runs.push(run.to_owned());
        }
        at = end + 1;
    }
    runs
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
    let mut end = end;
    while !ends_clause(words[end].1)
        && let Some((_, next)) = words.get(end + 1)
        && numeral::magnitude(next).is_some()
    {
        run.push(' ');
        run.push_str(next);
        end += 1;
    }
    if !ends_clause(words[end].1)
        && let Some((_, next)) = words.get(end + 1)
    {
        let name = next.trim_end_matches(['.', ',', ';', '*', '$', '!', '?', ')']);
        if Unit::is_name(name) || matches!(name, "percent" | "pct" | "%") {
            run.push(' ');
            run.push_str(name);
        }
    }
    let run = run
        .trim_matches(|c: char| c.is_whitespace() || "*_`\"'".contains(c))
        .trim_end_matches(['.', ',', ';', ':', '?', '*', '。', '！', '，']);
    let number = run.trim_start_matches(|c: char| c >= '\u{2e80}' && !c.is_numeric());
    let is_denied = number.len() < run.len() && is_hedged(&run[..run.len() - number.len()]);
    if is_denied { format!("\\text{{not }}{number}") } else { number.to_owned() }
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
    let inner = word.trim_matches(|c: char| "*_`\"'$.,;:?!。，！？".contains(c));
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
