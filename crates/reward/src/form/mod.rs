//! Terms of form: how a completion is written, whatever its answer.
//!
//! | term | score | source |
//! |---|---|---|
//! | [`mod@format`] | 1 if the think and answer blocks are as asked for, otherwise 0 or a part | DeepSeek-R1, arXiv:2501.12948 |
//! | [`language`] | share of the reasoning's words in the target language, which may be [the problem's](problem_language), 0 to 1 | DeepSeek-R1 |
//! | [`length`] | overlong penalty, −1 to 0; or the cosine reward | DAPO, arXiv:2503.14476; arXiv:2502.03373 |
//! | [`repetition`] | repeated n-grams, −1 to 0 | arXiv:2502.03373 |
//!
//! All are linear in the text, and none reads the reference answer.

pub mod format;
pub mod language;
pub mod length;
pub mod problem_language;
pub mod repetition;

/// The reasoning of a completion: the text before the last `</think>`, without the tag that opens it; the whole
/// completion if there is no such tag.
pub fn reasoning(completion: &str) -> &str {
    let thinking = completion.rsplit_once("</think>").map_or(completion, |(before, _)| before);
    let thinking = thinking.trim_start();
    thinking.strip_prefix("<think>").unwrap_or(thinking)
}

/// Whether a character is written without spaces between words, so that it counts as a word, as in
/// Unicode's word boundaries (UAX #29): Han and kana.
pub(crate) fn is_word_alone(c: char) -> bool {
    is_han(c) || is_kana(c)
}

/// Han: the unified ideographs with their extensions and compatibility forms, and the marks that represent one.
pub(crate) fn is_han(c: char) -> bool {
    matches!(c, '\u{3005}'..='\u{3007}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Hiragana and katakana.
pub(crate) fn is_kana(c: char) -> bool {
    matches!(c, '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fc}' | '\u{ff66}'..='\u{ff9d}')
}
