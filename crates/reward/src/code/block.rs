//! Finds the program in a completion.

use crate::extract::after_thinking;
use std::borrow::Cow;

/// Names of the language after a fence.
const PYTHON: [&str; 3] = ["python", "python3", "py"];

/// The last fenced block of Python, after the thinking; or why there is none.
///
/// Fences are CommonMark's: a line of three or more backticks or tildes, closed by a line of at least as many and nothing
/// else. Lines may end in CR LF. A fence may be indented, or follow the mark of a list item; as much white space as there
/// is before it is no part of its lines. Where that is more than three columns, as in a list, no line may have less.
pub(super) fn program(completion: &str) -> Result<Cow<'_, str>, &'static str> {
    let text = after_thinking(completion);
    let mut found = Err("the completion has no fenced `python` block");
    let (mut rest, mut n_false) = (text, 0);
    while !rest.is_empty() && n_false < MAX_FALSE_FENCES {
        let (line, after) = split_line(rest);
        rest = after;
        let Some(fence) = Fence::open(line) else { continue };
        match fence.body(after) {
            Body::Closed { body, after } => {
                if fence.is_python {
                    found = Ok(fence.unindented(body));
                }
                rest = after;
            }
            Body::NotIndented => n_false += 1,
            Body::Open if fence.is_python => return Err("the last `python` block is never closed"),
            Body::Open => return found,
        }
    }
    found
}

/// The line at the start of `text`, and what follows it.
fn split_line(text: &str) -> (&str, &str) {
    text.split_at(text.find('\n').map_or(text.len(), |end| end + 1))
}

/// A line that opens a block.
struct Fence {
    mark: char,
    n_marks: usize,
    /// Characters before it.
    indent: usize,
    is_python: bool,
}

/// What follows a fence.
enum Body<'a> {
    Closed {
        body: &'a str,
        after: &'a str,
    },
    /// It ends with the text.
    Open,
    /// A line is less indented than a fence that is indented more than three columns: it is no fence.
    NotIndented,
}

impl Fence {
    fn open(line: &str) -> Option<Self> {
        let unindented = line.trim_start_matches([' ', '\t']);
        let start = after_list_mark(unindented).filter(|rest| marks(rest).is_some()).unwrap_or(unindented);
        let (mark, n_marks) = marks(start)?;
        let info = start[n_marks..].trim();
        if mark == '`' && info.contains('`') {
            return None;
        }
        let name =
            info.trim_start_matches(['{', '.']).split([' ', ',', '{', ':', '}']).next().unwrap_or_default();
        let is_python = PYTHON.contains(&name.to_ascii_lowercase().as_str());
        Some(Self { mark, n_marks, indent: line.len() - start.len(), is_python })
    }

    fn closes(&self, line: &str) -> bool {
        let is_deeper = indent(line) > self.indent + MAX_INDENT;
        let line = line.trim();
        !is_deeper && line.len() >= self.n_marks && line.chars().all(|c| c == self.mark)
    }

    /// What stands in the block that this fence opens, and after it.
    fn body<'a>(&self, text: &'a str) -> Body<'a> {
        let mut rest = text;
        while !rest.is_empty() {
            let (line, after) = split_line(rest);
            if self.closes(line) {
                return Body::Closed { body: &text[..text.len() - rest.len()], after };
            }
            if self.indent > MAX_INDENT && !line.trim().is_empty() && indent(line) < self.indent {
                return Body::NotIndented;
            }
            rest = after;
        }
        Body::Open
    }

    /// `body` without the white space that its fence has before it.
    fn unindented<'a>(&self, body: &'a str) -> Cow<'a, str> {
        if self.indent == 0 {
            return Cow::Borrowed(body);
        }
        body.split_inclusive('\n')
            .map(|line| &line[indent(line).min(self.indent)..])
            .collect::<String>()
            .into()
    }
}

/// The widest indentation of a fence that is in no list.
const MAX_INDENT: usize = 3;

/// What follows so many indented fences that are none is not looked at: each may be looked for to the end.
const MAX_FALSE_FENCES: usize = 100;

/// How many blanks and tabs `line` starts with.
fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t']).len()
}

/// The backticks or tildes that `text` starts with, if they are a fence's.
fn marks(text: &str) -> Option<(char, usize)> {
    let mark = text.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let n_marks = text.len() - text.trim_start_matches(mark).len();
    (n_marks >= 3).then_some((mark, n_marks))
}

/// What follows the mark of a list item: `- `, `* `, `+ `, `1. ` or `1) `.
fn after_list_mark(line: &str) -> Option<&str> {
    let after = line.strip_prefix(['-', '*', '+']).or_else(|| {
        let after = line.trim_start_matches(|c: char| c.is_ascii_digit());
        after.strip_prefix(['.', ')']).filter(|_| after.len() < line.len())
    })?;
    let rest = after.trim_start_matches(' ');
    (rest.len() < after.len()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_block_after_the_thinking_counts() {
        for (completion, expected) in [
            ("```python\na\n```", Ok("a\n")),
            ("```python\na\n```\n```python\nb\n```\ndone", Ok("b\n")),
            ("```python\na\n```\n```text\nb\n```", Ok("a\n")),
            ("<think>```python\na\n```</think>\n```Python3 title=x\nb\n```", Ok("b\n")),
            ("```py\r\na\r\n```\r\n", Ok("a\r\n")),
            ("````python\na\n```\nb\n````", Ok("a\n```\nb\n")),
            ("   ```python\na\n  ```", Ok("a\n")),
            ("```python\n```", Ok("")),
            ("```python\na = '''\n``` \n", Ok("a = '''\n")),
            (
                "1. So:\n\n   ```python\n   if a:\n       b\n\n   c\n   ```\n2. Done",
                Ok("if a:\n    b\n\nc\n"),
            ),
            (
                "* x\n    * y\n\n        ```python\n        if a:\n          b\n        ```",
                Ok("if a:\n  b\n"),
            ),
            ("- x\n\n\t```python\n\tif a:\n\t\tb\n\t```", Ok("if a:\n\tb\n")),
            ("- ```python\n  a\n    b\n  ```", Ok("a\n  b\n")),
            ("10. ```python\n    a\n    ```", Ok("a\n")),
            ("  ```python\na\n b\n   c\n  ```", Ok("a\nb\n c\n")),
            ("     ```python\n     a\n```", Ok("a\n")),
            ("~~~python\na\n```\nb\n~~~", Ok("a\n```\nb\n")),
            ("```python\na = '''\n    ```\n'''\n```", Ok("a = '''\n    ```\n'''\n")),
            ("```{python}\na\n```", Ok("a\n")),
            ("```{.python .numberLines}\na\n```", Ok("a\n")),
        ] {
            assert_eq!(program(completion).as_deref(), expected.as_ref().copied(), "{completion:?}");
        }
    }

    #[test]
    fn no_block_no_program() {
        for completion in [
            "",
            "print(1)",
            "```\na\n```",
            "```rust\na\n```",
            "```python a```",
            "    ```python\na\n```",
            "<think>```python\na\n```",
            "<think>```python\na\n```</think> done",
            "```pythonic\na\n```",
        ] {
            assert_eq!(
                program(completion),
                Err("the completion has no fenced `python` block"),
                "{completion:?}"
            );
        }
        let cut = "```python\na\n```\n```python\nb = ";
        assert_eq!(program(cut), Err("the last `python` block is never closed"));
    }

    proptest! {
        #[test]
        fn any_text_is_searched(text in "[- `~.1\\t\\n\\rpyt hon<>/k]{0,80}") {
            let _ = program(&text);
        }
    }
}
