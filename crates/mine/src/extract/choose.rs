//! Which blocks are the text: those that read like it, and short ones among them.

use std::collections::HashMap;

use super::blocks::{Block, Kind, count_letters};
use super::words::is_notice;

/// Letters of a block that may be a notice.
const LONGEST_NOTICE: u32 = 160;
/// Letters of a line that, standing often in a page, is part of its frame.
const LONGEST_REPEATED: usize = 60;
/// How often it stands there at least.
const REPEATED: u32 = 3;

/// How a block reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sense {
    /// Like a sentence, or it has a formula.
    Good,
    /// Too short to say.
    Short,
    /// Like a notice, a button, a list of links.
    Bad,
}

/// The blocks that are the page's text.
pub(super) fn choose(mut blocks: Vec<Block>) -> Vec<Block> {
    let repeated = repeated(&blocks);
    let senses: Vec<Sense> = blocks
        .iter()
        .map(|block| if repeated.contains_key(&key(block)) { Sense::Bad } else { sense(block) })
        .collect();
    let good = |at: &usize| senses[*at] == Sense::Good && is_inside(&blocks[*at]);
    let first = (0..blocks.len()).find(good);
    let last = (0..blocks.len()).rev().find(good);
    let mut keep = vec![false; blocks.len()];
    let (runs, of_run) = runs(&blocks, &senses);
    match (first, last) {
        (Some(first), Some(last)) => {
            for at in 0..blocks.len() {
                keep[at] = senses[at] != Sense::Bad
                    && is_inside(&blocks[at])
                    && stays(&blocks, &senses, &runs[of_run[at]], at, first, last);
            }
        }
        // Nothing reads like a sentence: lists, tables and headings may be all there is.
        _ => (0..blocks.len()).for_each(|at| keep[at] = senses[at] != Sense::Bad && blocks[at].main),
    }
    drop_empty_headings(&blocks, &mut keep);
    let mut at = 0;
    blocks.retain(|_| {
        at += 1;
        keep[at - 1]
    });
    blocks
}

/// Whether a block is in the main part, or reads like a part of it that stands elsewhere.
fn is_inside(block: &Block) -> bool {
    let letters = count_letters(&block.text);
    block.main
        || matches!(block.kind, Kind::Heading(1))
        || block.linked == 0 && (block.formulas > 0 || letters > 300)
        // A short answer below a long question.
        || block.linked == 0 && block.kind == Kind::Paragraph && letters >= 40 && ends_sentence(&block.text)
}

fn sense(block: &Block) -> Sense {
    let letters = count_letters(&block.text);
    if block.kind == Kind::Code {
        return Sense::Short;
    }
    if block.formulas > 0 && block.linked * 2 < letters {
        return Sense::Good;
    }
    let heading = matches!(block.kind, Kind::Heading(_));
    let ends = ends_sentence(&block.text);
    // A sentence may be full of links, as those of encyclopaedias are.
    let sentence =
        block.kind == Kind::Paragraph && ends && letters >= 60 && letters - block.linked.min(letters) >= 20;
    if block.linked * 2 > letters && !sentence && !(heading && letters < LONGEST_NOTICE) {
        return Sense::Bad;
    }
    if letters < LONGEST_NOTICE && is_notice(&block.text) && !(letters > 100 && block.kind == Kind::Paragraph)
    {
        return Sense::Bad;
    }
    if heading || matches!(block.kind, Kind::Row(_)) {
        return Sense::Short;
    }
    let wide = block
        .text
        .chars()
        .filter(|c| ('\u{2e80}'..='\u{9fff}').contains(c) || ('\u{ac00}'..='\u{d7af}').contains(c))
        .count() as u32;
    // A character of Chinese says as much as a few letters.
    let length = letters + 2 * wide;
    let words = block.text.split_whitespace().count() + wide as usize / 2;
    let whole = block.kind == Kind::Paragraph && block.linked == 0 && words >= 3;
    if length >= 100 || ends && (length >= 40 || length >= 20 && words >= 4 || whole) {
        Sense::Good
    } else {
        Sense::Short
    }
}

/// Blocks of one sort, one behind the other: the items of a list, code and rows of tables.
struct Run {
    start: usize,
    end: usize,
    /// Whether one of them is good.
    good: bool,
}

impl Run {
    fn len(&self) -> usize {
        self.end - self.start
    }
}

/// The runs of the blocks, and in which of them each block is.
fn runs(blocks: &[Block], senses: &[Sense]) -> (Vec<Run>, Vec<usize>) {
    let sort = |block: &Block| match block.kind {
        Kind::Item { .. } => 1,
        Kind::Code | Kind::Row(_) => 2,
        _ => 0,
    };
    let mut runs: Vec<Run> = Vec::new();
    let mut of_run = Vec::with_capacity(blocks.len());
    for (at, block) in blocks.iter().enumerate() {
        let good = senses[at] == Sense::Good;
        match runs.last_mut() {
            Some(run) if sort(block) != 0 && sort(block) == sort(&blocks[at - 1]) => {
                run.end = at + 1;
                run.good |= good;
            }
            _ => runs.push(Run { start: at, end: at + 1, good }),
        }
        of_run.push(runs.len() - 1);
    }
    (runs, of_run)
}

/// Whether a text ends as sentences do.
fn ends_sentence(text: &str) -> bool {
    let mut text = text.trim_end_matches(['"', '\'', ')', '”', '’', '»', '）', '」']);
    // Behind the full stop of an encyclopaedia is the number of a reference.
    while let Some(rest) = text.strip_suffix(']') {
        let before = rest.trim_end_matches(|c: char| c.is_ascii_digit()).strip_suffix('[');
        text = before.unwrap_or(rest);
    }
    text.ends_with(['.', '?', '!', ':', ';', '。', '？', '！', '：', '；', '…', '।', '؟'])
}

/// Whether a block that is not bad stays: between the first and the last good one, if it belongs to what is around it.
fn stays(blocks: &[Block], senses: &[Sense], run: &Run, at: usize, first: usize, last: usize) -> bool {
    let block = &blocks[at];
    if senses[at] == Sense::Good {
        return true;
    }
    let beside = at + 1 >= first && at <= last + 1;
    match block.kind {
        // Titles stand before the text.
        Kind::Heading(level) => at < last && (at >= first || level <= 2 || at + 1 == first),
        // Code and tables stay with the text before them.
        Kind::Code | Kind::Row(_) => at + 2 >= first && at <= last || at > last && run.start <= last + 1,
        Kind::Paragraph => beside,
        Kind::Term => at + 1 >= first && senses.get(at + 1) == Some(&Sense::Good),
        Kind::Item { .. } => {
            // A list among the text, or one with sentences in it.
            run.start > first && run.end <= last
                || run.start > first && run.start == last + 1 && block.linked == 0 && run.len() > 1
                || run.good
        }
        Kind::Loose => {
            let words = block.text.split_whitespace().count();
            let sentence = block.text.ends_with(['.', ':', '?', '!', '。', '：', ',', ';']);
            at > first
                && at < last
                && (sentence
                    || words >= 5 && block.linked == 0
                    || count_letters(&block.text) > 40 && block.linked == 0)
        }
    }
}

/// A line with its numbers made one, as `Posts: 17`.
fn key(block: &Block) -> String {
    if block.formulas > 0
        || block.text.len() > LONGEST_REPEATED
        || !matches!(block.kind, Kind::Loose | Kind::Item { .. })
    {
        return String::new();
    }
    let mut key = String::with_capacity(block.text.len());
    for character in block.text.chars() {
        if !character.is_ascii_digit() {
            key.push(character);
        } else if !key.ends_with('0') {
            key.push('0');
        }
    }
    // A number alone may be a result.
    if key.chars().any(char::is_alphabetic) { key } else { String::new() }
}

/// Short lines that stand again and again: labels of posts, buttons.
fn repeated(blocks: &[Block]) -> HashMap<String, u32> {
    let mut counts = HashMap::new();
    for key in blocks.iter().map(key).filter(|key| !key.is_empty()) {
        *counts.entry(key).or_insert(0) += 1;
    }
    counts.retain(|_, count| *count >= REPEATED);
    counts
}

/// A heading with nothing under it goes, unless it is the page's title.
fn drop_empty_headings(blocks: &[Block], keep: &mut [bool]) {
    let mut below = 7;
    for at in (0..blocks.len()).rev() {
        if !keep[at] {
            continue;
        }
        match blocks[at].kind {
            Kind::Heading(level) => {
                // What comes next is a heading as high, or the end.
                if below <= level || below == 7 && at > 0 {
                    keep[at] = false;
                } else {
                    below = level;
                }
            }
            _ => below = 8,
        }
    }
}

/// The text of blocks: apart by empty lines, but items of a list and rows of a table by lines.
pub(super) fn join(blocks: &[Block]) -> String {
    let mut text = String::with_capacity(blocks.iter().map(|block| block.text.len() + 8).sum());
    let mut last: Option<Kind> = None;
    for block in blocks {
        if let Some(last) = last {
            let close = match (last, block.kind) {
                (Kind::Row(table), Kind::Row(next)) => table == next,
                (Kind::Item { .. }, Kind::Item { .. }) => true,
                _ => false,
            };
            text.push_str(if close { "\n" } else { "\n\n" });
        }
        last = Some(block.kind);
        match block.kind {
            Kind::Heading(level) => {
                text.extend(std::iter::repeat_n('#', usize::from(level)));
                text.push(' ');
                text.push_str(&block.text.replace('\n', " "));
            }
            Kind::Item { depth, number, first } => {
                let indent = "  ".repeat(usize::from(depth));
                text.push_str(&indent);
                match (first, number) {
                    (true, Some(number)) => {
                        text.push_str(&number.to_string());
                        text.push_str(". ");
                    }
                    (true, None) => text.push_str("- "),
                    (false, _) => text.push_str("  "),
                }
                text.push_str(&block.text.replace('\n', &format!("\n{indent}  ")));
            }
            Kind::Code => {
                let fence = if block.text.contains("```") { "````" } else { "```" };
                text.push_str(fence);
                text.push('\n');
                text.push_str(&block.text);
                text.push('\n');
                text.push_str(fence);
            }
            _ => text.push_str(&block.text),
        }
    }
    text
}
