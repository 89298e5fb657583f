//! The verifier `format`: `<think>…</think>`, then `<answer>…</answer>`, as in R1-Zero (arXiv:2501.12948
//! §2.2.2).
//!
//! Each of the four tags stands exactly once and in this order; nothing but white space stands before,
//! between or after the two blocks. What the blocks hold is not looked at, and the reference answer is not
//! used. Where a prompt itself ends in `<think>`, the caller puts that tag before the completion.

use crate::{Outcome, Verdict};

const TAGS: [&str; 4] = ["<think>", "</think>", "<answer>", "</answer>"];

/// Judges the format of `completion`; `_answer` plays no part. `parsed` is what the answer block holds.
pub fn judge(completion: &str, _answer: &str) -> Verdict {
    match answer_block(completion) {
        Ok(answer) => Verdict::new(Outcome::Correct, answer.trim(), "one think block, then one answer block"),
        Err(reason) => Verdict::without_answer(Outcome::Wrong, reason),
    }
}

/// What the answer block holds, or what is wrong with the format.
fn answer_block(completion: &str) -> Result<&str, String> {
    let mut parts = [""; 4]; // what stands before each tag
    let mut rest = completion;
    for (part, tag) in parts.iter_mut().zip(TAGS) {
        match completion.matches(tag).count() {
            1 => {}
            0 => return Err(format!("`{tag}` is missing")),
            n => return Err(format!("`{tag}` stands {n} times")),
        }
        (*part, rest) = rest.split_once(tag).ok_or_else(|| format!("`{tag}` is out of order"))?;
    }
    let [before, _thinking, between, answer] = parts;
    for (text, place) in [(before, "before"), (between, "between"), (rest, "after")] {
        if !text.trim().is_empty() {
            return Err(format!("there is text {place} the blocks"));
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_two_blocks_and_white_space() {
        for good in [
            "<think>2 + 3 = 5</think><answer>5</answer>",
            "\n<think>\na\nb\n</think>\n\n<answer>\n5\n</answer>\n",
            "<think></think><answer>5</answer>",
        ] {
            let verdict = judge(good, "7");
            assert_eq!((verdict.outcome, verdict.parsed.as_deref()), (Outcome::Correct, Some("5")), "{good}");
        }
    }

    #[test]
    fn refuses_all_else_and_says_why() {
        for (bad, reason) in [
            ("", "`<think>` is missing"),
            ("<think>a</think>5", "`<answer>` is missing"),
            ("<think>a</think><answer>5", "`</answer>` is missing"),
            ("<think>a<think>b</think><answer>5</answer>", "`<think>` stands 2 times"),
            ("<answer>5</answer><think>a</think>", "`<answer>` is out of order"),
            ("so <think>a</think><answer>5</answer>", "there is text before the blocks"),
            ("<think>a</think> so <answer>5</answer>", "there is text between the blocks"),
            ("<think>a</think><answer>5</answer>.", "there is text after the blocks"),
        ] {
            let verdict = judge(bad, "5");
            assert_eq!((verdict.outcome, verdict.reason.as_str()), (Outcome::Wrong, reason), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn is_total(choices in prop::collection::vec(0..=TAGS.len(), 0..9)) {
            let pieces = choices.into_iter().map(|choice| TAGS.get(choice).unwrap_or(&"é "));
            judge(&pieces.copied().collect::<String>(), "");
        }
    }
}
