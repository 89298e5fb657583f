//! Markdown of texts that are not trusted: names, paths and settings come out of files, and show as what they are.

/// Characters of a text that are shown.
const SHOWN: usize = 160;
/// ASCII punctuation that means something to Markdown or to what renders it: HTML, links, formulas, mentions.
const ESCAPED: &str = "\\`*_{}[]<>()#+!~&$@:^";

/// A text as it stands: nothing in it is markup, on one line, of at most [`SHOWN`] characters.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::new();
    let line = on_one_line(text);
    for (i, c) in line.char_indices() {
        match c {
            '|' => out.push_str("&#124;"),
            // A list, or a rule.
            '-' | '=' if i == 0 => out.extend(['\\', c]),
            // The end of `www`, which alone would be a link, and of a list's number.
            '.' if line[..i].to_ascii_lowercase().ends_with("www")
                || line[..i].bytes().all(|b| b.is_ascii_digit()) =>
            {
                out.push_str("\\.");
            }
            c if ESCAPED.contains(c) => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// A name, a path or a setting as code.
pub(super) fn code(text: &str) -> String {
    let line = on_one_line(text);
    // In a table a bar ends a cell even within code.
    if line.is_empty() || line.contains(['`', '|', '\\']) || line.starts_with(' ') || line.ends_with(' ') {
        return plain(&line);
    }
    format!("`{line}`")
}

/// The first characters of a SHA-256, as code.
pub(super) fn hash(sha256: &str) -> String {
    code(sha256.get(..12).unwrap_or(sha256))
}

/// A text of several lines as a block of code.
pub(super) fn block(language: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(3.max(longest + 1));
    let text: String = text.chars().map(|c| if c == '\n' || c == '\t' { c } else { visible(c) }).collect();
    format!("{fence}{language}\n{}\n{fence}\n", text.trim_end())
}

/// A table; cells are Markdown.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head_cells: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rule = "|---".repeat(head.len());
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{rule}|\n{rows}", line(&head_cells))
}

fn on_one_line(text: &str) -> String {
    let mut line: String = text.chars().take(SHOWN).map(visible).collect();
    if text.chars().nth(SHOWN).is_some() {
        line.push('…');
    }
    line
}

/// A character, unless it is one that can't be seen or changes how others are seen: of those the sign for an unknown one.
fn visible(c: char) -> char {
    match c {
        '\n' | '\r' | '\t' => ' ',
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
            '\u{fffd}'
        }
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        for (text, shown) in [
            ("a|b", "a&#124;b"),
            ("<script>alert(1)</script>", "\\<script\\>alert\\(1\\)\\</script\\>"),
            ("[x](http://evil)", "\\[x\\]\\(http\\://evil\\)"),
            ("www.evil.com a@b.c", "www\\.evil.com a\\@b.c"),
            ("line\nnext\u{202e}", "line next\u{fffd}"),
            ("# title", "\\# title"),
            ("- item", "\\- item"),
            ("1. item", "1\\. item"),
            ("$x$ &amp; ![i](u)", "\\$x\\$ \\&amp; \\!\\[i\\]\\(u\\)"),
        ] {
            assert_eq!(plain(text), shown);
        }
        assert_eq!(code("optim.lr = 1e-5"), "`optim.lr = 1e-5`");
        assert_eq!(code("a`b"), "a\\`b");
        assert_eq!(code("a|b"), "a&#124;b");
        assert_eq!(plain(&"x".repeat(1000)).chars().count(), SHOWN + 1);
    }

    #[test]
    fn a_block_ends_where_it_is_closed() {
        assert_eq!(block("toml", "a = '''\n```\n'''\n"), "````toml\na = '''\n```\n'''\n````\n");
        assert_eq!(block("", "x"), "```\nx\n```\n");
    }

    #[test]
    fn a_table_has_its_cells() {
        assert_eq!(table(&["a", "b"], &[vec!["1".into(), "2".into()]]), "| a | b |\n|---|---|\n| 1 | 2 |\n");
    }
}
