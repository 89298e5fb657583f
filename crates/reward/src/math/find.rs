//! Finds the final answer in a text. The module [`super`] documents the order.

use super::Options;
use super::commands;
use super::prose::{self, is_joiner, is_prose};
use super::token::MAX_LENGTH;
use crate::extract::{after_thinking, closed};

/// A place that may hold the answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// What is there, without delimiters of formulas.
    pub(crate) text: String,
    /// Whether nothing else is tried when this cannot be read: a box or a tag is final.
    pub(crate) commits: bool,
}

impl Candidate {
    fn loose(text: impl Into<String>) -> Self {
        Self { text: text.into(), commits: false }
    }
}

/// Boxes are one answer where this much text or less lies between them, a joining word in it.
const MAX_GAP: usize = 70;

/// Formulas are looked for in so much of the end of a text.
const TAIL: usize = 16 << 10;

/// The places of an answer in `completion`, in the order in which they are tried; or why a place that is final cannot
/// be read at all.
pub(crate) fn candidates(completion: &str, options: &Options) -> Result<Vec<Candidate>, String> {
    let text = region(completion);
    // Of a box, a tag and "final answer", the last in the text counts first.
    let mut anchored: Vec<(usize, Result<Vec<Candidate>, String>)> = Vec::new();
    if options.boxed
        && let Some((at, content)) = boxes(text, options.join_boxes)
    {
        let content = content.or_else(|reason| open_box(text).ok_or(reason));
        let negated = prose::is_negated(&text[..at]);
        let content =
            content.map(|content| if negated { format!("\\text{{not }}{content}") } else { content });
        anchored.push((at, content.map(|text| vec![Candidate { text, commits: true }])));
    }
    if options.answer_tag
        && let Some((before, content)) = text.rsplit_once("<answer>")
    {
        let content = content.split_once("</answer>").map(|(content, _)| content);
        let content = content.ok_or_else(|| "the last `<answer>` is never closed".to_owned());
        let inner = |content: &str| match boxes(content, options.join_boxes).filter(|_| options.boxed) {
            Some((_, boxed)) => boxed,
            None => Ok(content.to_owned()),
        };
        let content = content.and_then(inner);
        anchored.push((before.len(), content.map(|text| vec![Candidate { text, commits: true }])));
    }
    let lower = text.to_ascii_lowercase();
    if options.final_answer
        && let Some(at) = lower.rfind("final answer")
    {
        anchored.push((at, Ok(stated(&text[at + "final answer".len()..]))));
    }
    anchored.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let mut found = Vec::new();
    for (_, candidates) in anchored {
        match candidates {
            Ok(candidates) => found.extend(candidates),
            Err(reason) if found.is_empty() => return Err(reason),
            Err(_) => {}
        }
        if found.last().is_some_and(|candidate| candidate.commits) {
            return Ok(found);
        }
    }
    if options.answer_phrase
        && let Some(at) = phrase(&lower)
    {
        found.extend(stated(&text[at..]));
    }
    if options.hash_line
        && let Some((_, rest)) = text.rsplit_once("####")
        && let Some(line) = rest.trim_start().lines().next()
    {
        found.push(Candidate::loose(line));
    }
    let whole = text.trim();
    if options.whole_text && !whole.contains('\n') && prose::choice_with_text(whole).is_some() {
        found.push(Candidate::loose(whole));
    }
    if options.whole_text
        && whole.len() <= MAX_LENGTH
        && !is_prose(whole)
        && !prose::is_sentence_of_signs(whole)
        && !has_broken(whole)
    {
        found.push(Candidate::loose(whole));
    }
    let denied = |at: usize, content: String| {
        if prose::is_hedged(&text[..at]) { format!("\\text{{not }}{content}") } else { content }
    };
    let formula = last_formula(text).map(|(start, end, content)| (start, end, denied(start, content)));
    let tail_at = tail(text);
    let number = prose::last_run(&text[tail_at..]).filter(|_| options.last_number);
    let number = number.map(|(at, run)| (tail_at + at, denied(tail_at + at, run)));
    match (formula.filter(|_| options.last_formula), number) {
        (Some((_, end, content)), Some((start, run))) => {
            // "$x = 3$ in 2 ways", but "the volume of $ABCD$ is 120".
            let states = start >= end && prose::states(&text[end..start]);
            let mut both = [Candidate::loose(content), Candidate::loose(run)];
            if states {
                both.reverse();
            }
            found.extend(both);
        }
        (Some((.., content)), None) => found.push(Candidate::loose(content)),
        (None, Some((_, run))) => found.push(Candidate::loose(run)),
        (None, None) => {}
    }
    if options.whole_text && whole.len() <= 40 && !has_broken(whole) {
        found.push(Candidate::loose(whole));
    }
    Ok(found)
}

/// The boxes at the end of `completion` that name a value each, `y_1 = \boxed{1}` and `y_2 = \boxed{2}`, as one list of
/// assignments; none where there are not several.
pub(crate) fn named_boxes(completion: &str) -> Option<String> {
    let text = region(completion);
    let mut end = text.len();
    let mut assignments: Vec<String> = Vec::new();
    while let Some((at, content)) = last_box(&text[..end]) {
        let content = closed(&text[content..end])?;
        let after = content.as_ptr() as usize - text.as_ptr() as usize + content.len() + 1;
        if !assignments.is_empty()
            && !prose::is_joiner(&text[after..end])
            && !text[after..end].trim_matches([' ', '$', '\n']).is_empty()
        {
            break;
        }
        let Some((start, name)) = prose::name_before(&text[..at]) else { break };
        assignments.push(format!("{name} = {content}"));
        end = start;
    }
    assignments.reverse();
    (assignments.len() > 1).then(|| assignments.join(", "))
}

/// The places of a reference answer: a box, all of it, or what a completion would be searched for.
pub(crate) fn in_reference(answer: &str) -> Result<Vec<Candidate>, String> {
    if let Some((_, content)) = boxes(answer, true) {
        return content.map(|text| vec![Candidate::loose(text)]);
    }
    let whole = answer.trim();
    let mut found = Vec::new();
    if !is_prose(whole)
        || prose::is_counted_noun(whole)
        || !whole.contains(|c: char| c.is_ascii_digit() || c == '$')
    {
        found.push(Candidate::loose(whole));
    }
    if is_prose(whole) {
        found.extend(candidates(answer, &Options::default())?);
        found.push(Candidate::loose(whole));
    }
    Ok(found)
}

/// What follows the last `</think>`, up to a token of a chat template.
pub(crate) fn region(completion: &str) -> &str {
    let mut text = after_thinking(completion);
    while let Some(at) = text.find("<|") {
        let Some(length) = text[at..].find("|>") else { break };
        if !text[..at].trim().is_empty() {
            return &text[..at];
        }
        text = &text[at + length + 2..];
    }
    text
}

/// Where the last box begins, and what it holds, with that of the boxes joined to it.
fn boxes(text: &str, join: bool) -> Option<(usize, Result<String, String>)> {
    let (mut first, content) = last_box(text)?;
    let Some(content) = closed(&text[content..]) else {
        return Some((first, Err("the last `\\boxed{` is never closed".into())));
    };
    let start = first;
    let end = content.as_ptr() as usize - text.as_ptr() as usize + content.len() + 1;
    let (mut contents, mut joiner) = (vec![content], ", ");
    while let Some((before, content)) = last_box(&text[..first]) {
        let Some(content) = closed(&text[content..first]) else { break };
        let content_end = content.as_ptr() as usize - text.as_ptr() as usize + content.len() + 1;
        if contents[contents.len() - 1] != content {
            let gap = &text[content_end..first];
            if !join || !joins(gap) {
                break;
            }
            if prose::says_or(gap) {
                joiner = " or ";
            }
            contents.push(content);
        }
        first = before;
    }
    contents.reverse();
    let mut joined = contents.join(joiner);
    joined.push_str(&prose::suffix(&text[end..]));
    Some((start, Ok(joined)))
}

/// What the last box of a completion that ends inside it holds, if nothing seems to be missing but the brace: a
/// formula alone, in one line, whose own braces are closed, and that could end where it does.
fn open_box(text: &str) -> Option<String> {
    let (first, content) = last_box(text)?;
    if let Some((before, content)) = last_box(&text[..first])
        && let Some(content) = closed(&text[content..first])
        && joins(&text[before..first][text[before..first].find(content)? + content.len() + 1..])
    {
        return None;
    }
    let mut content = text[content..].trim();
    while let Some(rest) = ["$", "\\)", "\\]"].iter().find_map(|end| content.strip_suffix(end)) {
        content = rest.trim_end();
    }
    let count = |brace| content.bytes().filter(|byte| *byte == brace).count();
    let is_line = !content.contains(['\n', '\r']) && count(b'{') == count(b'}');
    let letters = content.len() - content.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len();
    let (before, name) = content.split_at(content.len() - letters);
    let ends = if before.ends_with('\\') {
        commands::greek_name(name).is_some()
    } else {
        let awaits_more = ["and", "or", "mod", "times", "cdot", "union", "cup"];
        !awaits_more.contains(&name.to_ascii_lowercase().as_str())
            && content.ends_with(|c: char| c.is_ascii_alphanumeric() || ")]}!%π°".contains(c))
    };
    (is_line && ends && !is_prose(content)).then(|| content.to_owned())
}

/// Where the last `\boxed{` or `\fbox{` begins, and where its content does.
fn last_box(text: &str) -> Option<(usize, usize)> {
    let mut end = text.len();
    loop {
        let start = text[..end].rfind("box")?;
        end = start;
        let (before, rest) = (&text[..start], &text[start + 3..]);
        let (command, rest) = match rest.strip_prefix("ed") {
            Some(after) if before.ends_with('\\') => (start - 1, after),
            _ if before.ends_with("\\f") => (start - 2, rest),
            _ => continue,
        };
        if let Some(content) = rest.trim_start().strip_prefix('{') {
            return Some((command, text.len() - content.len()));
        }
    }
}

/// Whether the text between two boxes makes them one answer.
fn joins(gap: &str) -> bool {
    if gap.len() > MAX_GAP || gap.contains("\n\n") {
        return false;
    }
    let plain = prose::without_delimiters(gap);
    if plain.chars().all(|c| c.is_whitespace() || ",;".contains(c)) {
        return true;
    }
    let sentence_ends =
        plain.contains(['.', '=', '?', '!', ':']) || plain.contains(|c: char| c.is_ascii_digit());
    !sentence_ends && plain.split(|c: char| !c.is_alphabetic()).any(|word| matches!(word, "and" | "or"))
}

/// Behind the last "answer is", "answer:" or the like.
fn phrase(lower: &str) -> Option<usize> {
    const PHRASES: [&str; 11] = [
        "option is",
        "choice is",
        "answer is",
        "answer:",
        "answers are",
        "answer**:",
        "answer:**",
        "answer would be",
        "answer =",
        "solution is",
        "solutions are",
    ];
    const FOREIGN: [&str; 14] = [
        "答案是",
        "答案为",
        "答案：",
        "答案:",
        "答えは",
        "la respuesta es",
        "respuesta:",
        "la réponse est",
        "réponse :",
        "die antwort ist",
        "die antwort lautet",
        "antwort:",
        "ответ:",
        "a resposta é",
    ];
    let ascii = PHRASES.into_iter();
    // Each of the others holds one of these.
    let is_foreign = !lower.is_ascii() || lower.contains("respuesta") || lower.contains("antwort");
    let foreign = FOREIGN.into_iter().filter(|_| is_foreign);
    ascii.chain(foreign).filter_map(|phrase| lower.rfind(phrase).map(|at| at + phrase.len())).max()
}

/// What is stated right behind a phrase, up to the end of the sentence.
fn stated(rest: &str) -> Vec<Candidate> {
    let rest = beginning(prose::skip_copula(rest));
    let mut found = Vec::new();
    if let Some((end, _)) = formula_here(rest) {
        let (content, end) = joined_from(rest, end);
        let suffix = prose::suffix(&rest[end..]);
        found.push(Candidate::loose(format!("{content}{suffix}")));
        if suffix.is_empty() && !prose::sentence(&rest[end..]).trim().is_empty() {
            let sentence = prose::sentence(rest);
            if !is_prose(sentence) {
                found.insert(0, Candidate::loose(sentence));
            }
        }
        return found;
    }
    let sentence = prose::sentence(rest);
    if sentence.trim().is_empty() {
        return found;
    }
    if let Some(letter) = prose::leading_choice(sentence) {
        found.push(Candidate::loose(letter));
    }
    if !is_prose(sentence) {
        found.push(Candidate::loose(sentence));
    }
    if prose::is_denial(sentence) {
        return Vec::new();
    }
    if let Some(at) = prose::last_statement(sentence) {
        found.extend(stated_value(&sentence[at..]));
    }
    if let Some(leading) = prose::leading_run(sentence) {
        found.push(Candidate::loose(leading));
    }
    let formula = last_formula(sentence);
    let run = prose::last_run(sentence);
    match (formula, run) {
        (Some((_, end, content)), Some((start, run)))
            if start < end || !prose::states(&sentence[end..start]) =>
        {
            found.push(Candidate::loose(content));
            found.push(Candidate::loose(run));
        }
        (_, Some((_, run))) => found.push(Candidate::loose(run)),
        (Some((.., content)), None) => found.push(Candidate::loose(content)),
        (None, None) if prose::is_short(sentence) => found.push(Candidate::loose(sentence)),
        (None, None) => {}
    }
    found
}

/// What follows "is" in a sentence.
fn stated_value(rest: &str) -> Vec<Candidate> {
    let rest = rest.trim_start();
    if let Some((end, _)) = formula_here(rest) {
        let (content, end) = joined_from(rest, end);
        return vec![Candidate::loose(format!("{content}{}", prose::suffix(&rest[end..])))];
    }
    if !is_prose(rest) { vec![Candidate::loose(rest)] } else { Vec::new() }
}

/// The formula that ends at `end`, the first of `text`, and those joined to it; and where they end.
fn joined_from(text: &str, end: usize) -> (String, usize) {
    let mut content = formula_here(text).map_or("", |(_, content)| content).to_owned();
    let mut end = end;
    while let Some((start, next_end, next)) = formula_at(text, end) {
        if !is_joiner(&text[end..start]) || content.len() > MAX_LENGTH {
            break;
        }
        content.push_str(if prose::says_or(&text[end..start]) { " or " } else { ", " });
        content.push_str(next);
        end = next_end;
    }
    (content, end)
}

/// The last formula of `text` with those joined to it, and where they begin and end.
fn last_formula(text: &str) -> Option<(usize, usize, String)> {
    let mut last: Option<(usize, usize, String)> = None;
    let mut at = tail(text);
    while let Some((start, end, content)) = formula_at(text, at) {
        at = end;
        match &mut last {
            Some((_, last_end, joined)) if is_joiner(&text[*last_end..start]) && joined.len() < 2000 => {
                joined.push_str(if prose::says_or(&text[*last_end..start]) { " or " } else { ", " });
                joined.push_str(content);
                *last_end = end;
            }
            _ => last = Some((start, end, content.to_owned())),
        }
    }
    let (start, end, mut content) = last?;
    content.push_str(&prose::suffix(&text[end..]));
    Some((start, end, content))
}

/// The formula with which `text` begins: where it ends, and what it holds.
fn formula_here(text: &str) -> Option<(usize, &str)> {
    let begins = text.starts_with(['$', '\\']);
    let (start, end, content) = formula_at(beginning(text), 0).filter(|_| begins)?;
    (start == 0).then_some((end, content))
}

/// The formulas of `text`: those that are marked, and the runs of plain text that hold a digit or a letter and a sign.
pub(crate) fn formulas(text: &str) -> Vec<String> {
    let mut formulas = Vec::new();
    let mut plain = String::new();
    let mut at = 0;
    while let Some((start, end, content)) = formula_at(text, at) {
        formulas.push(content.trim().trim_end_matches(['.', ',', '?', '=', ' ']).to_owned());
        plain.push_str(&text[at..start]);
        plain.push_str(" the ");
        at = end;
    }
    plain.push_str(&text[at..]);
    formulas.extend(prose::runs(&plain));
    formulas
}

/// The first bytes of `text`, more than a formula may have.
fn beginning(text: &str) -> &str {
    let most = text.len().min(MAX_LENGTH + 8);
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

/// The first formula of `text` from `from` on: where it begins, where it ends, and what it holds.
fn formula_at(text: &str, from: usize) -> Option<(usize, usize, &str)> {
    let bytes = text.as_bytes();
    let mut at = from;
    while at < bytes.len() {
        let rest = &text[at..];
        let (opening, closing) = match bytes[at] {
            b'\\' if rest.starts_with("\\(") => (2, "\\)"),
            b'\\' if rest.starts_with("\\[") => (2, "\\]"),
            b'\\' if bytes.len() > at + 1 && text.is_char_boundary(at + 2) => {
                at += 2;
                continue;
            }
            b'$' if rest.starts_with("$$") => (2, "$$"),
            b'$' => (1, "$"),
            _ => {
                at += 1;
                while at < bytes.len() && !text.is_char_boundary(at) {
                    at += 1;
                }
                continue;
            }
        };
        let Some(length) = closing_at(&rest[opening..], closing) else {
            at += opening;
            continue;
        };
        let content = &rest[opening..opening + length];
        let end = at + opening + length + closing.len();
        if closing == "$" && (content.contains("\n\n") || prose::is_between_amounts(content)) {
            at += 1;
            continue;
        }
        if closing == "$" && is_broken(content) {
            at = end;
            continue;
        }
        if !content.trim().is_empty() {
            return Some((at, end, content));
        }
        at = end;
    }
    None
}

/// Where the last [`TAIL`] bytes of `text` begin.
fn tail(text: &str) -> usize {
    let start = text.len().saturating_sub(TAIL);
    (start..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Where `closing` stands in `text`, escaped characters aside, if not too far on.
fn closing_at(text: &str, closing: &str) -> Option<usize> {
    let end = (0..=text.len().min(MAX_LENGTH)).rev().find(|at| text.is_char_boundary(*at))?;
    let text = &text[..end];
    let mut at = 0;
    loop {
        let next = at + text[at..].find(closing)?;
        let escaped = closing.starts_with('$') && text[..next].ends_with('\\');
        if !escaped {
            return Some(next);
        }
        at = next + 1;
    }
}

/// Whether a line ends directly inside a pair of single dollars: that is neither a formula nor plain text.
fn is_broken(content: &str) -> bool {
    content.trim_start_matches(' ').starts_with('\n') || content.trim_end_matches(' ').ends_with('\n')
}

/// Whether a formula between single dollars is broken across lines.
fn has_broken(text: &str) -> bool {
    prose::broken(text).is_some()
}
