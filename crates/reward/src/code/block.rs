//! Finds the program in a completion.

use crate::extract::after_thinking;

/// Names of the language after a fence.
const PYTHON: [&str; 3] = ["python", "python3", "py"];

/// The last fenced block of Python, after the thinking; or why there is none.
///
/// Fences are CommonMark's: a line of three or more backticks, indented by at most three spaces, closed by a line
/// of at least as many and nothing else. Lines may end in CR LF.
pub(super) fn program(completion: &str) -> Result<&str, &'static str> {
    let text = after_thinking(completion);
    let mut found = Err("the completion has no fenced `python` block");
    let mut open: Option<(usize, bool, usize)> = None; // backticks, whether it is Python, where its text starts
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let Some((n_ticks, info)) = fence(line) else { continue };
        match open {
            None if !info.contains('`') => {
                let name = info.split([' ', ',', '{', ':']).next().unwrap_or_default();
                open = Some((n_ticks, PYTHON.contains(&name.to_ascii_lowercase().as_str()), at));
            }
            Some((n_open, is_python, body)) if n_ticks >= n_open && info.is_empty() => {
                if is_python {
                    found = Ok(&text[body..start]);
                }
                open = None;
            }
            _ => {}
        }
    }
    match open {
        Some((_, true, _)) => Err("the last `python` block is never closed"),
        _ => found,
    }
}

/// How many backticks a fence has, and what follows them; none if `line` is not a fence.
fn fence(line: &str) -> Option<(usize, &str)> {
    let unindented = line.trim_start_matches(' ');
    let info = unindented.trim_start_matches('`');
    let n_ticks = unindented.len() - info.len();
    (n_ticks >= 3 && line.len() - unindented.len() <= 3).then(|| (n_ticks, info.trim()))
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
        ] {
            assert_eq!(program(completion), expected, "{completion:?}");
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
        fn any_text_is_searched(text in "[ `~\\n\\rpyt hon<>/k]{0,80}") {
            let _ = program(&text);
        }
    }
}
