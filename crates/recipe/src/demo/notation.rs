//! How a question and its answers are written, explained on one example before any is shown.

/// A question.
pub const QUESTION: &str = "a-2 b+9 c-4:7?";

/// What it means.
pub const MEANING: &str = "A counter starts at 7, the number after the colon. Its moves have letters: a subtracts 2, b adds 9, c \
                           subtracts 4. Where does it end? (At 10.)";

/// The ways to answer it: name, answer, what is good and bad about it.
pub const WAYS: [(&str, &str, &str); 3] = [
    ("blurted", "Answer: 11", "a guess: short, and mostly a little wrong"),
    (
        "worked out",
        "a-2=5\nb+9=14\nc-4=10\nAnswer: 10",
        "a line per move, with the counter after it; after a slip all that follows is wrong",
    ),
    (
        "checked",
        "a-2=6 wait\na-2=5 ok\nb+9=14 ok\nc-4=10 ok\nAnswer: 10",
        "worked out, with a word on each line: ok if it is right; wait if it is not, and the line again",
    ),
];

/// What the numbers of a report are.
pub const TERMS: [(&str, &str); 3] = [
    ("right", "share of its answers that end where the counter ends"),
    ("tokens", "how long an answer is: here a token is a character or a word"),
    ("entropy", "how undecided the model is about the next token; at 0 it always says the same"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_are_told_apart_as_the_measure_does() {
        let [blurted, worked, checked] =
            WAYS.map(|(_, answer, _)| (answer.contains('='), answer.contains(" ok")));
        assert_eq!([blurted, worked, checked], [(false, false), (true, false), (true, true)]);
        assert!(WAYS[1].1.ends_with("Answer: 10") && WAYS[2].1.ends_with("Answer: 10"));
    }
}
