//! Verifiers of puzzles, whose answers are not numbers.
//!
//! | module | verifier | the answer is |
//! |---|---|---|
//! | [`countdown`] | `countdown` | an expression: `(1 + 2) * 3` |
//! | [`assignment`] | `assignment` | what each of several names is: `Ann: knight, Bo: knave` |
//! | [`words`] | `words` | words in order: `apple, pear`, or one: `Monday` |
//!
//! **Where the answer is looked for**, in this order, in what follows the last `</think>` (the whole text
//! if there is none; nothing after a `<think>` that is not closed again):
//!
//! 1. the last `\boxed{…}`;
//! 2. the last `<answer>…</answer>`;
//! 3. what follows the last "answer is" or "answer:" in its line, or below it up to a blank line where it ends
//!    its line;
//! 4. the last line that is not blank.
//!
//! What is found there must be the answer and nothing else.

pub mod assignment;
pub mod countdown;
pub mod words;

/// `text` up to the end of its first sentence: a full stop and white space.
fn sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(sentence, _)| sentence)
}

/// The words of `text`: separated by white space, commas, brackets, quotes, signs of products, arrows, and
/// the characters in `also`; without punctuation and Markdown around them. TeX commands (`\text`, `\times`) are
/// left out. Anything else joins: `1.5`, `2^3` and `a-b` are one word each.
fn tokens<'a>(text: &'a str, also: &'a [char]) -> impl Iterator<Item = String> + 'a {
    const SEPARATORS: &[char] =
        &[',', ';', '"', '`', '*', '×', '·', '(', ')', '[', ']', '{', '}', '<', '>', '|', '→', '“', '”'];
    let separates = |c: char| c.is_whitespace() || SEPARATORS.contains(&c) || also.contains(&c);
    let words = text.split(separates).filter(|word| !is_command(word));
    let words = words.map(|word| word.trim_matches(['.', ':', '\'', '’', '_', '$', '!', '?', '\\']));
    words.filter(|word| word.contains(char::is_alphanumeric)).map(|word| word.replace('\u{2212}', "-"))
}

/// A TeX command: a backslash and letters.
fn is_command(word: &str) -> bool {
    word.strip_prefix('\\')
        .is_some_and(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic()))
}
