//! Which short items say so much that a text which holds one has it from the test.
//!
//! `Simplify √72` does. `(√21)²`, `sin² x + cos² x = 1`, `Solve for x` and `None of the above` are found in texts that never saw the test:
//! they count only where they stand alone.

use super::words::Word;

/// Words besides the item in a line where it stands alone, at most: a number before it, an answer behind it.
pub(super) const BESIDES: usize = 2;
/// Digits of an item that no text has by chance.
const DIGITS: usize = 8;
/// Words of a question that has neither digits nor letters of formulas.
const QUESTION: usize = 5;

/// Words that stand in any text, and those of answers and options.
const COMMON: &str = " a an the this that these those it its is are was be been of in on at to for from by with as and or not no yes if \
    then so we you he she they i let has have had do does can will all any both each none some above below following answer option \
    choice correct true false statement only there here where when than \
    的 了 是 在 和 或 与 有 为 则 若 设 以 上 下 都 不 对 错 正 确 其 他 答 案 选 项 个 这 那 ";
/// Names that are parts of formulas where they are not written as commands of LaTeX.
const NAMES: &str = " sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp lim max min mod gcd lcm det dim sqrt frac \
    sum prod int pi alpha beta gamma delta epsilon theta lambda mu rho sigma tau phi omega angle triangle circ deg cup cap subset \
    binom choose ";

/// Whether an item of these words, before operators are joined, is particular: whoever has it has it from the test.
pub(super) fn is_particular(item: &str, words: &[Word]) -> bool {
    let (mut digits, mut names, mut told) = (0, 0, 0);
    for word in words.iter().filter(|word| !word.is_operator) {
        let word = item.get(word.start as usize..word.end as usize).unwrap_or_default();
        let is = |list: &str| list.contains(&format!(" {} ", word.to_lowercase()));
        if word.starts_with(|c: char| c.is_numeric()) {
            digits += word.chars().filter(|c| c.is_numeric()).count();
        } else if word.chars().all(char::is_alphabetic) && is(COMMON) {
        } else if word.len() <= 2 || is(NAMES) || !word.chars().all(char::is_alphabetic) {
            names += 1; // a command of LaTeX or a sign too
        } else {
            told += 1;
        }
    }
    // A question about something; or enough digits, or words, that none is needed.
    let about = digits >= 2 || digits + names >= 3 && digits > 0 || names >= 4;
    digits >= DIGITS || told >= QUESTION || told > 0 && about
}

/// Whether the words `at` of `found` are a line of `text` with hardly anything else, which is no display of a formula: those belong to
/// the sentence around them.
pub(super) fn stands_alone(text: &str, found: &[Word], at: std::ops::Range<usize>) -> bool {
    let (start, end) = (found[at.start].start as usize, found[at.end - 1].end as usize);
    let line = text[..start].rfind('\n').map_or(0, |before| before + 1);
    let line_end = text[end..].find('\n').map_or(text.len(), |behind| end + behind);
    let before =
        found[..at.start].iter().rev().take(BESIDES + 1).take_while(|word| word.start as usize >= line);
    let behind = found[at.end..].iter().take(BESIDES + 1).take_while(|word| (word.start as usize) < line_end);
    let is_display = text[line..start].trim_start().starts_with("$$");
    (before.count() + behind.count() <= BESIDES && !is_display) || found.len() == at.len()
}

#[cfg(test)]
mod tests {
    use super::{super::words::words, *};

    #[test]
    fn questions_about_something_are_particular_and_what_any_text_says_is_not() {
        let particular = |item: &str| {
            let mut found = Vec::new();
            words(item, &mut found);
            is_particular(item, &found)
        };
        for item in [
            "Solve 2x+3=7.",
            "What is 17 × 24?",
            r"Evaluate \(\frac{3}{8}+\frac{5}{12}\).",
            "Compute 13! / 11!.",
            r"Simplify \(\sqrt{72}\).",
            "求 3x-5=16 的解。",
            "计算 125×88。",
            "What is 35% of 640?",
            "Solve |x-4|=9.",
            "What is the 15th triangular number?",
            "Expand (x+2)(x-5).",
            "Factor x² - y².",
            "54671 - 14456 - 35466 = ?",
            r"Compute $\tan 45^\circ$.",
            r"Differentiate $\sin x \cos x$.",
            "Solve x² = 9",
            "计算√50",
            "convert 40 miles into yards ?",
            "Name the smallest prime number that divides eleven factorial",
        ] {
            assert!(particular(item), "{item}");
        }
        for item in [
            "√ ( 21 ) ^ 2",
            "(sqrt 21)^2",
            "5 + 5 = 10",
            "x^2 + y^2 = 1",
            r"\(\sin^2 x + \cos^2 x = 1\)",
            "a + b = c",
            "E = mc^2",
            "f(x) = x^2",
            "None of the above",
            "true or false",
            "The answer is 5.",
            "It is 12.",
            "Solve for x.",
            "Find the value of x.",
            "1, 2, 3",
            "A B C D",
            "以上都不对",
            "x = 3 or x = 4",
            "Statement 1 is true",
            "ax^2 + bx + c = 0",
        ] {
            assert!(!particular(item), "{item}");
        }
    }
}
