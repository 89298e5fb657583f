//! White space, and letters that are none, in the text of a block.

/// Drops `[edit]` at the end of a heading: letters in brackets, all of them linked and nothing else.
pub(super) fn drop_bracketed_link(text: &mut String, linked: u32) {
    if linked > 0
        && text.ends_with(']')
        && let Some(open) = text.rfind('[')
        && open > 0
        && count_letters(&text[open + 1..text.len() - 1]) == linked
    {
        text.truncate(open);
        text.truncate(text.trim_end().len());
    }
}

/// Text without blanks at the ends of its lines, and at most one empty line between two.
pub(super) fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split('\n').map(str::trim) {
        if line.is_empty() {
            if !out.is_empty() && !out.ends_with("\n\n") {
                out.push('\n');
            }
            continue;
        }
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str(line);
    }
    out.truncate(out.trim_end().len());
    out
}

/// Appends text with its white space made single blanks, without characters that nobody sees.
pub(super) fn push_collapsed(run: &mut String, text: &str) {
    let mut words = text.split(|c: char| c.is_whitespace() || c == '\u{feff}');
    let mut first = true;
    for word in &mut words {
        if !first && !run.is_empty() && !run.ends_with([' ', '\n']) {
            run.push(' ');
        }
        first = false;
        if word.bytes().all(|b| b > b' ' && b < 0x7f) {
            run.push_str(word);
        } else {
            run.extend(word.chars().filter(|c| {
                !c.is_control()
                    && !matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{202a}'..='\u{202e}')
            }));
        }
    }
}

/// Letters without blanks.
pub(crate) fn count_letters(text: &str) -> u32 {
    text.bytes().filter(|&b| b > b' ' && !(0x80..0xc0).contains(&b)).count() as u32
}
