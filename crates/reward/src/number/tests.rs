use super::*;
use Outcome::{BadReference, Correct, Undecided, Unparsable, Wrong};
use proptest::prelude::*;

/// Asserts the outcome of each (completion, answer).
fn assert_all(outcome: Outcome, pairs: &[(&str, &str)]) {
    for (completion, answer) in pairs {
        let verdict = judge(completion, answer);
        assert_eq!(verdict.outcome, outcome, "`{completion}` against `{answer}`: {}", verdict.reason);
    }
}

#[test]
fn the_last_number_of_plain_text() {
    assert_all(
        Correct,
        &[
            ("68", "68"),
            ("23 + 45 = 68", "68"),
            ("23+45=68.", "68"),
            ("= -3", "-3"),
            ("So it is -$5.", "-5"),
            ("It costs $1,234.50, exactly.", "1234.5"),
            ("**68**", "68"),
            ("_68_", "68"),
            ("**Total:** 68", "68"),
            ("Sum of 23 and 45:\n- 68", "68"),
            ("=> 68!", "68"),
            ("\\(68\\)", "68"),
            ("$68$", "68"),
            ("so 50 %", "0.5"),
            ("so $50\\%$", "50%"),
            ("half, i.e. 1/2", ".5"),
            ("about 1e400", "1e400"),
            ("12", "12.000"),
            ("7.", "7."),
            ("\u{2212}5", "-5"),
            ("an even 90°", "90"),
        ],
    );
    assert_all(
        Wrong,
        &[("67", "68"), ("1/2", "2"), ("50%", "50"), ("-5", "5"), ("68 or 67", "68"), ("It is 680", "68")],
    );
}

#[test]
fn the_last_number_must_stand_alone() {
    for completion in [
        "x2",
        "2x",
        "H2O",
        "5²",
        "0x2",
        "1 2",
        "12 + 2",
        "12 +2",
        "0 * 2",
        "2 + x",
        "4 / 2",
        "-(2)2",
        "x - 2",
        "gpt-2",
        "3,2",
        "1,2,2",
        "0:2",
        "1_2",
        "2024-01-2",
        "1.2.2",
        "\\frac{1}{2}",
        "3\\sqrt2",
        "3\\sqrt{2}",
        "2\\pi",
        "x^2",
        "x_2",
        "f(2)",
        "\\sqrt[3]2",
        "√2",
        "±2",
        "–2",
        "1 1/2",
        "{2}",
        "2 \\text{ cm}",
        "10^2",
        "2 ^ 3",
        "2/x",
    ] {
        let verdict = judge(completion, "2");
        assert_eq!(verdict.outcome, Unparsable, "`{completion}`: {:?}", verdict.parsed);
        assert_eq!(verdict.parsed, None);
    }
}

#[test]
fn the_order_of_the_places() {
    assert_all(
        Correct,
        &[
            ("\\boxed{1} and \\boxed{2}, checked 3 times", "2"),
            ("<answer>1</answer> The answer is 3. \\boxed{2} #### 4", "2"),
            ("The answer is 3. <answer>1</answer><answer> 2 </answer> #### 4", "2"),
            ("The answer is 1. No, THE ANSWER IS: **2**. I tried 3 times. #### 4", "2"),
            ("Final answer: 2 apples, 3 of them red", "2"),
            ("Answer:\n\n2", "2"),
            ("The answer is 1 + 1 = 2 (2 terms, 3 signs).", "2"),
            ("The answer is x = $2$. As 1 + 1.", "2"),
            ("The answer is 2 (as x = 3).", "2"),
            ("The answer is clear. 1 + 1 = 2", "2"),
            ("1 + 1\n#### 2\nthanks 3", "2"),
            ("#### Step 2\n1 + 1 = 2", "2"),
        ],
    );
}

#[test]
fn thinking_holds_no_answer() {
    assert_all(
        Correct,
        &[("<think>3, \\boxed{3}</think> 2", "2"), ("3 </think> 4 </think>2", "2"), ("2 <think>3", "2")],
    );
    assert_all(Unparsable, &[("<think>so 2", "2"), ("<think>so \\boxed{2}</think>", "2")]);
}

#[test]
fn a_box_or_tag_commits() {
    assert_all(
        Correct,
        &[
            ("\\boxed{x = 2}", "2"),
            ("\\boxed{ \\$1,000. }", "1000"),
            ("<answer>1 + 1 = 2.</answer>", "2"),
            ("<answer>\\boxed{2}</answer>", "2"),
            ("$$\\boxed{50\\%}$$", "1/2"),
        ],
    );
    assert_all(
        Unparsable,
        &[
            ("2 \\boxed{two}", "2"),
            ("2 \\boxed{}", "2"),
            ("\\boxed{2", "2"),
            ("\\boxed{1}\\boxed{2", "1"),
            ("\\boxed{\\frac{4}{2}}", "2"),
            ("\\boxed{2, 3}", "3"),
            ("\\boxed{x \\ge 2}", "2"),
            ("\\boxed{x >= 2}", "2"),
            ("\\boxed{2!}", "2"),
            ("<answer>2 apples</answer>", "2"),
            ("<answer>2", "2"),
            ("<answer>1 2</answer>", "2"),
        ],
    );
}

#[test]
fn no_number_bad_reference_and_budget() {
    assert_all(Unparsable, &[("", "2"), ("two", "2"), ("1/0", "2"), ("…٢", "2")]);
    assert_all(BadReference, &[("2", ""), ("2", "two"), ("2", "1 2"), ("2", "1/0"), ("two", "x")]);
    let long = "7".repeat(MAX_DIGITS + 1);
    // What is too large as an answer is so by its own oddity.
    assert_all(Wrong, &[(&long, "7")]);
    assert_all(Undecided, &[(&long, &long), ("7", &long), ("1e9999999", "1e9999999")]);
}

#[test]
fn reports_are_short() {
    let verdict = judge(&format!("\\boxed{{{}}}", "é".repeat(500)), "2");
    assert!(verdict.reason.chars().count() < 150, "{}", verdict.reason);
}

/// The places and dresses in which a number may come.
fn dressed() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "{}",
        "So {}.",
        "<think>12</think> {}",
        "\\boxed{{}}",
        "<answer> {} </answer>",
        "the answer is {}.",
        "1 + 1\n#### {}",
        "**{}**",
        "${}$",
        "a = {}",
        "- {}\n",
        "({})",
    ])
}

/// `n` with thousands separators.
fn grouped(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let (head, rest) = digits.split_at((digits.len() - 1) % 3 + 1);
    let groups = rest.as_bytes().chunks(3).map(|group| str::from_utf8(group).expect("digits"));
    let sign = if n < 0 { "-" } else { "" };
    sign.to_owned() + &std::iter::once(head).chain(groups).collect::<Vec<_>>().join(",")
}

proptest! {
    #[test]
    fn total_on_any_text(completion: String, answer: String) {
        judge(&completion, &answer);
        judge(&completion, "2");
    }

    #[test]
    fn total_on_hostile_pieces(pieces in prop::collection::vec(prop::sample::select(vec![
        "\\boxed{", "}", "{", "<answer>", "</answer>", "<think>", "</think>", "answer is", "answer:",
        "####", "=", "-", "\u{2212}", "1", "23", ",", ".", "/", "e", "%", "$", "\\", " ", "\n", "é", "×", "*",
    ]), 0..24)) {
        let verdict = judge(&pieces.concat(), "1");
        prop_assert_eq!(verdict.parsed.is_some(), matches!(verdict.outcome, Correct | Wrong | Undecided));
    }

    #[test]
    fn a_number_equals_its_spellings(n: i64, dress in dressed(), zeros in 0_usize..4) {
        let tail = "0".repeat(zeros);
        for spelling in [n.to_string(), grouped(n), format!("{n}.{tail}"), format!("{n}{tail}e-{zeros}")] {
            let verdict = judge(&dress.replace("{}", &spelling), &n.to_string());
            prop_assert_eq!(verdict.outcome, Correct, "{} in {}: {}", spelling, dress, verdict.reason);
        }
    }

    #[test]
    fn a_fraction_equals_itself(a: i64, b in 1_i64.., dress in dressed()) {
        let fraction = format!("{a}/{b}");
        prop_assert_eq!(judge(&dress.replace("{}", &fraction), &fraction).outcome, Correct);
    }

    #[test]
    fn different_integers_are_never_equal(a in -1200_i64..1200, b in -1200_i64..1200, dress in dressed()) {
        let outcome = judge(&dress.replace("{}", &grouped(a)), &b.to_string()).outcome;
        prop_assert_eq!(outcome, if a == b { Correct } else { Wrong });
    }
}

#[test]
fn thousands_as_data_sets_separate_them() {
    assert_all(
        Correct,
        &[
            ("\\boxed{11,\\! 111,\\! 100}", "11111100"),
            ("\\boxed{9{,}500}", "9500"),
            ("The answer is 1\\,234\\,567.", "1234567"),
            ("1\u{a0}234\u{a0}567", "1234567"),
            ("1\u{2009}234", "1234"),
            ("9500", "9{,}500"),
        ],
    );
    assert_all(Wrong, &[("\\boxed{9{,}501}", "9500")]);
}

#[test]
fn thousands_are_separated_as_in_mathematics() {
    assert_all(
        Correct,
        &[
            ("\\boxed{11,\\! 111,\\! 100}", "11111100"),
            ("\\boxed{11, \\! 111, \\! 100}", "11111100"),
            ("The answer is 9{,}500.", "9500"),
            ("The answer is $14 {, }916$.", "14916"),
            ("$1\\,234\\,567$", "1234567"),
            ("It is 1\u{2009}234\u{2009}567.", "1234567"),
            ("It is 1\u{a0}234", "1234"),
            ("It is 1'234'567", "1234567"),
            ("\\boxed{1 234 567}", "1234567"),
            ("<answer>1 234.5</answer>", "1234.5"),
            ("１２３４", "1234"),
            ("答えは －１，２３４．５", "-1234.5"),
            ("\\boxed{５０％}", "0.5"),
            ("7", "７"),
            ("1234", "1 234"),
        ],
    );
    assert_all(
        Wrong,
        &[("\\boxed{1 234}", "234"), ("１２３", "124"), ("\\boxed{9{,}500}", "500"), ("It is 1'234", "234")],
    );
    // A row of numbers is none: nor is one that a space may separate.
    assert_all(
        Unparsable,
        &[("It is 12 345", "12345"), ("\\boxed{1 2345}", "12345"), ("\\boxed{1, 234, 567}", "1234567")],
    );
}
