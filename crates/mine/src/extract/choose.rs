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
    match (first, last) {
        (Some(first), Some(last)) => {
            for at in 0..blocks.len() {
                keep[at] = senses[at] != Sense::Bad
                    && is_inside(&blocks[at])
                    && stays(&blocks, &senses, at, first, last);
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
    block.main
        || block.formulas > 0 && block.linked == 0
        || matches!(block.kind, Kind::Heading(1))
        || count_letters(&block.text) > 300 && block.linked == 0
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
    if block.linked * 2 > letters && !(heading && letters < LONGEST_NOTICE) {
        return Sense::Bad;
    }
    if letters < LONGEST_NOTICE && is_notice(&block.text) && !(letters > 100 && block.kind == Kind::Paragraph)
    {
        return Sense::Bad;
    }
    if heading || matches!(block.kind, Kind::Row(_)) {
        return Sense::Short;
    }
    let ends = block
        .text
        .trim_end_matches(['"', '\'', ')', ']', '”', '’', '»', '）', '」'])
        .ends_with(['.', '?', '!', ':', ';', '。', '？', '！', '：', '；', '…', '।', '؟']);
    let wide = block
        .text
        .chars()
        .filter(|c| ('\u{2e80}'..='\u{9fff}').contains(c) || ('\u{ac00}'..='\u{d7af}').contains(c))
        .count() as u32;
    // A character of Chinese says as much as a few letters.
    let length = letters + 2 * wide;
    if length >= 100
        || length >= 40 && ends
        || length >= 20 && ends && block.text.split_whitespace().count() + wide as usize / 2 >= 4
    {
        Sense::Good
    } else {
        Sense::Short
    }
}

/// Whether a block that is not bad stays: between the first and the last good one, if it belongs to what is around it.
fn stays(blocks: &[Block], senses: &[Sense], at: usize, first: usize, last: usize) -> bool {
    let block = &blocks[at];
    if senses[at] == Sense::Good {
        return true;
    }
    let beside = at + 1 >= first && at <= last + 1;
    match block.kind {
        // Titles stand before the text.
        Kind::Heading(level) => at < last && (at >= first || level <= 2 || at + 1 == first),
        // Code and tables stay with the text before them.
        Kind::Code | Kind::Row(_) => {
            at + 2 >= first && at <= last
                || at > last
                    && blocks[last..at]
                        .iter()
                        .skip(1)
                        .all(|between| matches!(between.kind, Kind::Code | Kind::Row(_)))
        }
        Kind::Paragraph => beside,
        Kind::Item { .. } => {
            let near =
                |other: usize| blocks.get(other).is_some_and(|other| matches!(other.kind, Kind::Item { .. }));
            let list_start = (0..at).rev().take_while(|&other| near(other)).last().unwrap_or(at);
            let list_end = (at + 1..blocks.len()).take_while(|&other| near(other)).last().unwrap_or(at);
            // A list among the text, or one with sentences in it.
            list_start > first && list_end < last
                || list_start > first && list_start == last + 1 && block.linked == 0 && list_end > list_start
                || (list_start..=list_end).any(|other| senses[other] == Sense::Good)
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
