//! The verifier `math` on text that means harm: it returns, within a small stack and a bound of work.

use koan_reward::Outcome;
use koan_reward::math::{self, Options};
use proptest::prelude::*;

/// Runs `test` on a thread with a stack of 512 KiB.
fn in_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(test).expect("a thread");
    thread.join().expect("no panic");
}

fn judge(completion: &str, answer: &str) -> Outcome {
    math::judge(completion, answer, &Options::default()).outcome
}

#[test]
fn deep_nesting_and_endless_repetition() {
    in_small_stack(|| {
        for unit in [
            "{",
            "(",
            "[",
            "\\{",
            "|",
            "-",
            "+",
            "\\frac{",
            "\\frac{1}{",
            "\\sqrt{",
            "^{",
            "2^",
            "\\boxed{",
            "\\text{",
            "\\left(",
            "\\sin ",
            "\\sin(",
            "$",
            "$$",
            "\\(",
            "\\[",
            "x_",
            "x_{",
            "!",
            "'",
            "1,",
            "1;",
            "\\begin{pmatrix}",
            "\\overline{",
            "a:",
            "a=",
            "a<",
            "1/",
            "1 ",
            "\\",
            "\\\\",
            "<answer>",
            "<think>",
            "</think>",
            "<|",
            "=",
            "\\pm",
            "answer is ",
            "final answer ",
            "#### ",
            "\n",
            " and ",
            "\\in ",
            "\\cup ",
            "\\binom{",
            "f(",
            "5!",
            "\\sum_{k=1}^{9}",
            "\\sum_{k=1}^{100} k,",
            "\\prod_{k=1}^{",
            "\\left\\{\\begin{array}{l}",
            "ab^",
            "\\overline{a",
            "one hundred ",
            "%",
            "…",
            "²",
        ] {
            for n in [10, 1_000, 20_000] {
                let text = unit.repeat(n);
                for completion in
                    [text.clone(), format!("\\boxed{{{text}}}"), format!("{text}5"), format!("${text}$")]
                {
                    judge(&completion, "5");
                }
                judge("\\boxed{5}", &text);
            }
        }
        for n in [10, 39, 41, 100, 1_000, 100_000] {
            let nested = format!("{}5{}", "{".repeat(n), "}".repeat(n));
            assert_ne!(judge(&format!("\\boxed{{{nested}}}"), "5"), Outcome::Wrong, "{n} braces");
            let fractions = format!("{}1{}", "\\frac{1}{".repeat(n), "}".repeat(n));
            judge(&format!("\\boxed{{{fractions}}}"), "1");
        }
    });
}

#[test]
fn huge_numbers_end_in_the_budget() {
    in_small_stack(|| {
        for expression in [
            "9^{9^{9^{9^9}}}",
            "10^{10^{10}}",
            "(10^{10^{10}})!",
            "1000000!",
            "3000!!",
            "2^{2^{2^{2^{2^{2}}}}}",
            "\\binom{10^9}{10^8}",
            "\\sqrt[1000000]{2}",
            "e^{e^{e^{e^e}}}",
            "\\sin(10^{100})",
            "\\ln(10^{-100000})",
            "(1+10^{-100})^{10^{100}}",
            "1e4000 \\cdot 1e4000 \\cdot 1e4000",
            "\\lfloor 10^{5000} \\pi \\rfloor",
            "(x+y+z+w)^{1000000}",
            "((((x+1)^{99}+1)^{99}+1)^{99}+1)^{99}",
            "x^{x^{x^{x^x}}}",
            "\\gcd(10^{4000}, 3^{8000})",
            "\\tan(\\frac{\\pi}{2})",
            "0^{-1}",
            "\\frac{1}{0}",
            "\\frac{0}{0}",
            "\\ln 0",
            "\\arcsin(10^{50})",
            "\\sum_{k=1}^{5000} k!",
            "\\prod_{k=1}^{3000} 9^{k}",
            "\\sum_{i=1}^{90} \\sum_{j=1}^{100} \\sin(ij)",
        ] {
            for other in ["5", "x+1", "\\pi", "\\{1,2\\}", "[0,1)", "1.5", expression] {
                judge(&format!("\\boxed{{{expression}}}"), other);
                judge(&format!("\\boxed{{{other}}}"), expression);
                judge(&format!("\\boxed{{{expression}+1}}"), expression);
            }
            let digits = "7".repeat(4_000);
            judge(&format!("\\boxed{{{expression}}}"), &digits);
        }
        let list = |n: usize| (0..n).map(|i| format!("\\sqrt{{{i}}}")).collect::<Vec<_>>().join(",");
        judge(&format!("\\boxed{{{}}}", list(300)), &list(299));
    });
}

#[test]
fn a_verdict_is_never_correct_for_one_more() {
    for n in 0..500_i64 {
        assert_eq!(judge(&format!("\\boxed{{{}}}", n + 1), &n.to_string()), Outcome::Wrong);
    }
}

/// An expression as LaTeX, as plain text, and whether it holds variables.
fn expression() -> impl Strategy<Value = (String, String)> {
    let leaf = prop_oneof![
        (1_i64..50).prop_map(|n| (n.to_string(), n.to_string())),
        Just(("x".to_owned(), "x".to_owned())),
        Just(("y".to_owned(), "y".to_owned())),
        Just(("\\pi".to_owned(), "pi".to_owned())),
    ];
    leaf.prop_recursive(4, 24, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| {
                (format!("\\left({}+{}\\right)", a.0, b.0), format!("({} + {})", a.1, b.1))
            }),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| (format!("({}-{})", a.0, b.0), format!("({}-{})", a.1, b.1))),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| (format!("({}) \\cdot {{{}}}", a.0, b.0), format!("({})*({})", a.1, b.1))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| (
                format!("\\frac{{{}}}{{{}}}", a.0, b.0),
                format!("(({})/({}))", a.1, b.1)
            )),
            (inner.clone(), 2_u32..4)
                .prop_map(|(a, n)| (format!("({})^{{{n}}}", a.0), format!("({})^{n}", a.1))),
            inner.prop_map(|a| (format!("\\sqrt{{{}}}", a.0), format!("sqrt({})", a.1))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn an_expression_equals_itself_in_every_notation((latex, plain) in expression()) {
        // What divides by zero has no value, and so no verdict.
        for (completion, answer) in [
            (format!("\\boxed{{{latex}}}"), &latex),
            (format!("The answer is ${latex}$."), &latex),
        ] {
            prop_assert_eq!(judge(&completion, answer), Outcome::Correct, "{}", completion);
        }
        let outcome = judge(&format!("\\boxed{{{plain}}}"), &latex);
        prop_assert!(matches!(outcome, Outcome::Correct | Outcome::Undecided), "{:?} {}", outcome, latex);
    }

    #[test]
    fn one_more_is_never_correct((latex, plain) in expression()) {
        let outcome = judge(&format!("\\boxed{{{plain} + 1}}"), &latex);
        prop_assert!(outcome != Outcome::Correct, "{}", latex);
    }

    #[test]
    fn equality_is_symmetric((a, _) in expression(), (b, _) in expression()) {
        let there = judge(&format!("\\boxed{{{a}}}"), &b) == Outcome::Correct;
        let back = judge(&format!("\\boxed{{{b}}}"), &a) == Outcome::Correct;
        prop_assert_eq!(there, back);
    }

    #[test]
    fn decimals_equal_their_fractions(n in -99_999_i64..99_999, places in 0_u32..5) {
        let power = 10_i64.pow(places);
        let decimal = format!("{}{}.{:0width$}", if n < 0 { "-" } else { "" }, n.abs() / power, n.abs() % power, width = places as usize);
        let decimal = decimal.trim_end_matches('.');
        prop_assert_eq!(judge(decimal, &format!("\\frac{{{n}}}{{{power}}}")), Outcome::Correct, "{}", decimal);
    }

    #[test]
    fn total_on_any_text(completion in ".{0,200}", answer in ".{0,40}") {
        judge(&completion, &answer);
    }

    #[test]
    fn total_on_random_latex(pieces in prop::collection::vec(prop::sample::select(vec![
        "\\frac", "{", "}", "(", ")", "[", "]", "\\{", "\\}", "|", "^", "_", "1", "23", "0.5", "x", "y", "\\pi", "e", "i", "+",
        "-", "*", "/", "=", "<", "\\le", "\\in", "\\cup", ",", " and ", "\\sqrt", "\\sin", "\\log", "\\pm", "!", "%", "\\circ",
        "\\text{cm}", "\\mathbb{R}", "\\infty", "\\begin{pmatrix}", "\\end{pmatrix}", "&", "\\\\", "$", "\\boxed{", ":", "is",
        "\\binom", "\\int", "\\sum_{k=1}^{9}", "\\prod", "ab", "k", "\\emptyset", "'", "…", "°",
    ]), 0..24)) {
        let text: String = pieces.concat();
        judge(&text, "5");
        judge("\\boxed{x}", &text);
        judge(&format!("\\boxed{{{text}}}"), &text);
    }
}
