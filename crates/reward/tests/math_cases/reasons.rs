//! Reasons: what a verdict says is true of the answer.

use koan_reward::Outcome;
use koan_reward::math::{self, Options};

/// Asserts the outcome of each (reference, answer), and that its reason holds a text.
fn says(outcome: Outcome, cases: &[(&str, &str, &str)]) {
    for (reference, answer, reason) in cases {
        let verdict = math::judge(&format!("\\boxed{{{answer}}}"), reference, &Options::default());
        assert_eq!(verdict.outcome, outcome, "{answer} for {reference}: {}", verdict.reason);
        assert!(verdict.reason.contains(reason), "{answer} for {reference}: {}", verdict.reason);
    }
}

#[test]
fn what_has_no_value_is_called_so() {
    says(
        Outcome::Wrong,
        &[
            ("7", "7/0", "it has no value"),
            ("7", "\\frac{0}{0}", "it has no value"),
            ("7", "7+\\frac{1}{1-1}", "it has no value"),
            ("7", "0^{-1}", "it has no value"),
            ("7", "(-3)!", "it has no value"),
            ("7", "\\log 0", "no value"),
            ("7", "\\ln 0", "no value"),
            ("7", "\\tan\\frac{\\pi}{2}", "it has none"),
            ("7", "9^{9^{9^9}}", "too large"),
            ("7", "10^{10^{10}}", "they differ"),
            ("7", "\\int 8", "not evaluated"),
            ("7", "\\infty-\\infty", "no rule to compare"),
        ],
    );
}

#[test]
fn equal_answers_say_how() {
    says(
        Outcome::Correct,
        &[
            ("7", "7", "read as the same"),
            ("7", "seven", "read as the same"),
            ("1234567", "1\\,234\\,567", "read as the same"),
            ("0.5", "1/2", "identity"),
            ("\\{2,3\\}", "3,2", "item by item"),
            ("(1,2)", "(1,2)", "read as the same"),
            ("\\frac{\\sqrt3}{3}", "1/\\sqrt3", "identity"),
        ],
    );
}

#[test]
fn different_answers_say_why() {
    says(
        Outcome::Wrong,
        &[
            ("7", "8", "exact arithmetic"),
            ("7", "3+4", "left to be computed"),
            ("7", "7\\approx8", "two values"),
            ("7 cm", "7 kg", "different things"),
            ("2,3", "2,2,3", "3 items are not 2"),
            ("(1,2)", "(1,2,3)", "3 parts are not 2"),
            ("(1,2]", "[1,2]", "one interval holds an end"),
            ("3", "x<3", "the reference is a number, the answer a relation"),
            ("7", "\\text{none}", "the reference is a number, the answer text"),
            ("\\begin{pmatrix}1&2\\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", "different shapes"),
        ],
    );
}

#[test]
fn a_reference_without_a_value_is_bad() {
    says(Outcome::BadReference, &[("\\frac{1}{0}", "7", "has no value"), ("0^{-2}", "7", "has no value")]);
    says(Outcome::Correct, &[("x^0", "1", "identity"), ("0^5+1", "1", "identity")]);
}
