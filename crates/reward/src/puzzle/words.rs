//! The verifier `words`: a list of words in the right order, or one word.
//!
//! Words are separated by white space, commas, semicolons, brackets, quotes, `*`, `×`, `|` or arrows; the case
//! of ASCII letters, Markdown, punctuation around a word and an "and" in the list do not matter. Everything
//! else does: `apple-pear` is one word, `2^3` and `1.5` are not two numbers, and another word, one too many or
//! one too few is wrong. After "answer is" a list ends with its sentence.

use super::{sentence, tokens};
use crate::extract::answer_text;
use crate::verdict::shorten;
use crate::{Outcome, Verdict};

/// Judges the words at the end of `completion` by those of `answer`.
pub fn judge(completion: &str, answer: &str) -> Verdict {
    let expected: Vec<String> = tokens(answer, &[]).collect();
    if expected.is_empty() {
        return Verdict::without_answer(Outcome::BadReference, "the reference has no words");
    }
    let text = match answer_text(completion) {
        Ok(text) => sentence(text),
        Err(reason) => return Verdict::without_answer(Outcome::Unparsable, reason),
    };
    let is_word = |word: &String| word != "and" || expected.contains(word);
    let found: Vec<String> = tokens(text, &[]).filter(is_word).collect();
    if found.is_empty() {
        return Verdict::without_answer(Outcome::Unparsable, "the final answer has no words");
    }
    let shown = found.join(", ");
    if found.len() != expected.len() {
        let reason = format!("{} words where the reference has {}", found.len(), expected.len());
        return Verdict::new(Outcome::Wrong, &shown, reason);
    }
    match found.iter().zip(&expected).position(|(found, expected)| !found.eq_ignore_ascii_case(expected)) {
        None => Verdict::new(Outcome::Correct, &shown, "equals the reference"),
        Some(at) => {
            let reason =
                format!("word {} is {}, not {}", at + 1, shorten(&found[at]), shorten(&expected[at]));
            Verdict::new(Outcome::Wrong, &shown, reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcome(completion: &str, answer: &str) -> Outcome {
        judge(completion, answer).outcome
    }

    #[test]
    fn accepts_lists_however_they_are_written() {
        for completion in [
            "apple, pear, fig",
            "Apple Pear Fig",
            "so\n\napple; pear; and fig.",
            "[\"apple\", \"pear\", \"fig\"]",
            "**apple** → **pear** → **fig**",
            "<think>fig</think>\\boxed{\\text{apple, pear, fig}}",
            "\\boxed{\\text{apple}, \\text{pear}, \\text{fig}}",
            "<answer>apple\npear\nfig</answer>",
            "**Answer:**\n- apple\n- pear\n- fig\n\nDone.",
            "The answer is apple, pear, fig. That is sorted.",
        ] {
            assert_eq!(outcome(completion, "apple, pear, fig"), Outcome::Correct, "{completion}");
        }
        assert_eq!(outcome("The answer is **Monday**.", "Monday"), Outcome::Correct);
        assert_eq!(outcome("$2 \\times 2 \\cdot 3$", "2, 2, 3"), Outcome::Correct);
        assert_eq!(outcome("2024-02-29", "2024-02-29"), Outcome::Correct);
        assert_eq!(outcome("\u{2212}3", "-3"), Outcome::Correct);
    }

    #[test]
    fn refuses_all_else() {
        for completion in [
            "apple, fig, pear",
            "apple, pear",
            "apple, pear, fig, fig",
            "apple, pear, figs",
            "apple-pear-fig",
            "applepearfig",
            "apple.pear.fig",
            "apple, pear, fig\nor pear, apple, fig",
            "\\boxed{apple, pear, fig} or \\boxed{pear, fig, apple}",
        ] {
            assert_eq!(outcome(completion, "apple, pear, fig"), Outcome::Wrong, "{completion}");
        }
        for (completion, answer) in [
            ("2^3", "2, 3"),
            ("2.3", "2, 3"),
            ("2/3", "2, 3"),
            ("23", "2, 3"),
            ("２, ３", "2, 3"),
            ("Ｍonday", "Monday"),
        ] {
            assert_eq!(outcome(completion, answer), Outcome::Wrong, "{completion}");
        }
        for completion in
            ["", " \n", "...", "<think>apple", "\\boxed{apple", "<answer>apple", "\\boxed{}", "answer:"]
        {
            assert_eq!(outcome(completion, "apple"), Outcome::Unparsable, "{completion}");
        }
        assert_eq!(outcome("apple", ""), Outcome::BadReference);
    }

    proptest! {
        #[test]
        fn is_total(completion: String, answer: String) {
            judge(&completion, &answer);
            prop_assert_ne!(outcome("", &answer), Outcome::Correct);
        }
    }
}
