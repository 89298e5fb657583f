//! What users hit: wrong answers that were accepted, and right ones that were not.

use super::{accepts, check, refuses};
use koan_reward::Outcome;
use koan_reward::math::{self, Options};

#[test]
fn membership_and_logic() {
    refuses(&[
        ("13824 \\notin A", "\\boxed{13824 \\in A}"),
        ("13824 \\in A", "\\boxed{13824 \\not\\in A}"),
        ("5 \\in S", "\\boxed{6 \\in S}"),
        ("5 \\in S", "\\boxed{5 \\in T}"),
        ("5 \\in S", "\\boxed{S}"),
        ("x>0 \\text{ and } x<1", "\\boxed{x>0 \\text{ or } x<1}"),
        ("x<0 \\text{ or } x>1", "\\boxed{x<0 \\text{ and } x>1}"),
        ("x>0 \\land x<1", "\\boxed{x>0 \\lor x<1}"),
        ("x>0 and x<1", "\\boxed{x>0} or \\boxed{x<1}"),
        ("p \\lor q", "\\boxed{p \\land q}"),
        ("p \\land q", "\\boxed{p \\lor q}"),
        ("p ∨ q", "\\boxed{p ∧ q}"),
        ("x=1, y=2", "\\boxed{x=1\\text{ or }y=2}"),
        ("x=k\\pi, k\\in\\mathbb{Z}", "\\boxed{x=k\\pi, k\\in\\mathbb{N}}"),
        ("x=2k, k\\in\\mathbb{N}", "\\boxed{x=2k, k\\in\\mathbb{Z}}"),
        ("A, B", "\\boxed{A \\text{ or } B}"),
    ]);
    accepts(&[
        ("13824 \\notin A", "\\boxed{13824\\notin A}"),
        ("x \\in [0,1]", "\\boxed{x\\in[0,1]}"),
        ("x>0 \\text{ and } x<1", "\\boxed{0<x<1}"),
        ("x<0 \\text{ or } x>1", "\\boxed{x>1 \\text{ or } x<0}"),
        ("p \\lor q", "\\boxed{q \\lor p}"),
        ("x=1 \\text{ or } x=2", "\\boxed{x=1 \\text{ and } x=2}"),
        ("x=1, y=2", "\\boxed{x=1\\text{ and }y=2}"),
        ("1 \\text{ or } 2", "\\boxed{1, 2}"),
        ("x=k\\pi, k\\in\\mathbb{Z}", "\\boxed{x=-k\\pi, k\\in\\mathbb{Z}}"),
    ]);
}

#[test]
fn magnitudes_and_units() {
    refuses(&[
        ("2.5", "\\boxed{2.5\\text{ million}}"),
        ("3\\text{ million}", "\\boxed{3\\text{ billion}}"),
        ("2", "\\boxed{2\\text{ dozen}}"),
        ("2.5", "The population is 2.5 million."),
        ("2.5", "The answer is 2.5 million."),
        ("3", "The answer is $3$ thousand."),
        ("3", "\\boxed{3} million"),
        ("3", "\\boxed{3\\text{ tenths}}"),
        ("2.5", "\\boxed{2.5万}"),
        ("5厘米", "\\boxed{5\\text{米}}"),
        ("5 \\text{ cm}", "\\boxed{5\\text{米}}"),
        ("12元", "\\boxed{12角}"),
        ("3小时", "\\boxed{3分钟}"),
        ("3 \\text{ horas}", "\\boxed{3 \\text{ minutos}}"),
        ("5个", "\\boxed{5件}"),
        ("60 mph", "\\boxed{60\\text{ km/h}}"),
    ]);
    accepts(&[
        ("2500000", "\\boxed{2.5\\text{ million}}"),
        ("2.5 million", "\\boxed{2500000}"),
        ("24", "\\boxed{2\\text{ dozen}}"),
        ("\\$2.5 million", "\\boxed{\\$2{,}500{,}000}"),
        ("3 million", "The answer is 3 million."),
        ("25000", "\\boxed{2.5万}"),
        ("5厘米", "\\boxed{5\\text{ cm}}"),
        ("5厘米", "\\boxed{5}"),
        ("500平方厘米", "\\boxed{500\\text{ cm}^2}"),
        ("12元", "\\boxed{120角}"),
        ("2小时", "\\boxed{120分钟}"),
        ("60 mph", "\\boxed{60\\text{ miles per hour}}"),
        ("60 mph", "\\boxed{60}"),
        ("12元", "\\boxed{12\\text{元}}"),
    ]);
}

#[test]
fn negated_and_bounded_phrases() {
    refuses(&[
        ("3", "The answer is not 3."),
        ("3", "The answer isn't 3."),
        ("3", "The answer is not $3$."),
        ("3", "at most 3"),
        ("3", "The answer is at most 3."),
        ("3", "The answer is at least $3$."),
        ("3", "\\boxed{\\text{at most }3}"),
        ("3", "\\boxed{\\text{not }3}"),
        ("3", "The answer is not \\boxed{3}."),
        ("3", "The final answer is not 3."),
        ("3", "It is less than 3."),
        ("12", "答案不是12。"),
    ]);
    accepts(&[
        ("3", "The answer is 3, not 4."),
        ("4", "The answer is not 3 but 4."),
        ("4", "The answer is not 3. It is 4."),
        ("3", "There are at most \\boxed{3} of them."),
        ("\\text{at most } 3", "\\boxed{\\text{at most } 3}"),
    ]);
}

#[test]
fn intervals_lists_and_marks() {
    refuses(&[
        ("[1,2)", "\\boxed{1,2}"),
        ("[1,2]", "\\boxed{1,2}"),
        ("1,2", "\\boxed{(1,2]}"),
        ("\\overline{A}", "\\boxed{A}"),
        ("A", "\\boxed{\\overline{A}}"),
        ("\\dot{x}=1", "\\boxed{x=1}"),
        ("\\hat{p}", "\\boxed{p}"),
        ("\\tilde{x}+1", "\\boxed{x+1}"),
        ("f'(x)=2", "\\boxed{f(x)=2}"),
        ("x'", "\\boxed{x}"),
        ("f^{\\prime}", "\\boxed{f}"),
        ("f^\\prime", "\\boxed{f}"),
        ("\\bar{x}", "\\boxed{\\hat{x}}"),
        ("3-4i", "\\boxed{\\overline{3-4i}}"),
    ]);
    accepts(&[
        ("\\overline{A}", "\\boxed{\\bar{A}}"),
        ("\\dot{x}=1", "\\boxed{\\dot x=1}"),
        ("\\overline{AB}", "\\boxed{AB}"),
        ("\\vec{a}=(1,2)", "\\boxed{(1,2)}"),
        ("\\bar{x}=5", "\\boxed{5}"),
        ("f'(x)=2x", "\\boxed{f^{\\prime}(x)=2x}"),
        ("3+4i", "\\boxed{\\overline{3-4i}}"),
    ]);
}

#[test]
fn an_answer_names_one_value() {
    for joiner in [
        "\\approx",
        "\\sim",
        "\\simeq",
        "\\cong",
        "\\doteq",
        "≈",
        "∼",
        "≃",
        "≅",
        "=",
        "\\to",
        "\\Rightarrow",
        "\\equiv",
        "\\iff",
    ] {
        for (chain, values) in [
            (format!("\\boxed{{7{joiner} 8}}"), ["7", "8"]),
            (format!("\\boxed{{x=7{joiner} 8}}"), ["7", "x=8"]),
            (format!("\\boxed{{(7{joiner} 8, 2)}}"), ["(7,2)", "(8,2)"]),
            (format!("\\boxed{{\\{{7{joiner} 8, 2\\}}}}"), ["\\{7,2\\}", "\\{8,2\\}"]),
            (format!("\\boxed{{7{joiner} 8{joiner} 7}}"), ["7", "8"]),
            (format!("\\boxed{{\\sqrt2 {joiner} \\sqrt3}}"), ["\\sqrt2", "\\sqrt3"]),
        ] {
            for value in values {
                let outcome = math::judge(&chain, value, &Options::default()).outcome;
                assert!(
                    matches!(outcome, Outcome::Wrong | Outcome::Unparsable),
                    "{chain} for {value}: {outcome:?}"
                );
            }
        }
    }
    refuses(&[
        ("8", "\\boxed{8=7}"),
        ("7", "\\boxed{8=7}"),
        ("2", "\\boxed{x=2=1}"),
        ("1", "\\boxed{x=2=1}"),
        ("7.6", "\\boxed{7.6\\approx 8}"),
        ("x^2", "\\boxed{f(x)=x^2=x^3}"),
        ("B", "\\boxed{A=B}"),
        ("A", "\\boxed{A=B}"),
        ("x=1, y=2", "\\boxed{(y,x)=(1,2)}"),
        ("(1,2)", "\\boxed{y=1, x=2}"),
        ("a=1,b=2;a=2,b=1", "\\boxed{a=1,b=1;a=2,b=2}"),
        ("x=3", "\\boxed{2x+4=10}"),
        ("x=3", "\\boxed{2x=6}"),
    ]);
    for text in [
        "\\boxed{\\text{(B) (C)}}",
        "\\boxed{(B)(C)}",
        "\\boxed{B, C}",
        "\\boxed{\\text{B or C}}",
        "\\boxed{7\\text{ (or 8)}}",
        "\\boxed{7\\text{ or maybe }8}",
    ] {
        for value in ["B", "C", "7", "8"] {
            let outcome = math::judge(text, value, &Options::default()).outcome;
            assert!(
                matches!(outcome, Outcome::Wrong | Outcome::Unparsable),
                "{text} for {value}: {outcome:?}"
            );
        }
    }
    accepts(&[
        ("0.5", "\\boxed{1/2 = 0.5}"),
        ("\\frac{70}{9}", "\\boxed{\\frac{70}{9}\\approx 7.78}"),
        ("7.78", "\\boxed{\\frac{70}{9}\\approx 7.78}"),
        ("\\sqrt{17}", "\\boxed{\\sqrt{17}\\approx 4.123}"),
        ("8", "\\boxed{7.6\\approx 8}"),
        ("x=3", "\\boxed{2x=6 \\Rightarrow x=3}"),
        ("5", "\\boxed{5=x}"),
        ("x=y=3", "\\boxed{x=y=3}"),
        ("x=1, y=2", "\\boxed{(y,x)=(2,1)}"),
        ("(1,2)", "\\boxed{y=2, x=1}"),
        ("(5,2),(7,2)", "\\boxed{p=5,q=2;p=7,q=2}"),
        ("p=5,q=2;p=7,q=2", "\\boxed{(7,2),(5,2)}"),
        ("x=1,y=2 \\text{ or } x=2,y=1", "\\boxed{(1,2),(2,1)}"),
        ("60^\\circ", "\\boxed{60^\\circ=\\frac{\\pi}{3}}"),
        ("1 m", "\\boxed{1\\text{ m}=100\\text{ cm}}"),
    ]);
}

#[test]
fn an_operation_is_no_value() {
    refuses(&[
        ("93", "19 + 74"),
        ("93", "\\boxed{19+74}"),
        ("93", "19 + 74 = 19 + 74 ="),
        ("93", "Compute 19 + 74."),
        ("5/6", "\\boxed{\\frac12+\\frac13}"),
        ("24", "\\boxed{4!}"),
        ("12", "\\boxed{84/7}"),
        ("12", "\\boxed{\\frac{84}{7}}"),
        ("4", "\\boxed{\\sqrt{16}}"),
        ("3", "\\boxed{\\log_2 8}"),
        ("0.5", "\\boxed{\\frac{1.5}{3}}"),
        ("(2,3)", "\\boxed{(1+1,3)}"),
        ("\\{2,3\\}", "\\boxed{\\{1+1,3\\}}"),
        ("x=7", "\\boxed{x=3+4}"),
        ("12 cm", "\\boxed{(5+7)\\text{ cm}}"),
        ("72", "\\boxed{2^3\\cdot 3^2}"),
        ("10", "\\boxed{20\\%\\cdot 50}"),
    ]);
    accepts(&[
        ("15.75", "\\boxed{1.575 \\times 10^1}"),
        ("\\sqrt5+\\sqrt2", "\\boxed{\\sqrt2+\\sqrt5}"),
        ("1+i", "\\boxed{1+i}"),
        ("1267650600228229401496703205376", "\\boxed{2^{100}}"),
        ("2\\sqrt3", "\\boxed{\\sqrt{12}}"),
        ("1/2", "\\boxed{\\frac{2}{4}}"),
        ("-1/2", "\\boxed{-\\frac{1}{2}}"),
        ("7/3", "\\boxed{2\\frac13}"),
        ("0.28", "\\boxed{28\\%}"),
        ("93", "\\boxed{19+74=93}"),
        ("2^3\\cdot 3^2", "\\boxed{3^2\\cdot 2^3}"),
        ("4!", "\\boxed{2\\cdot 12}"),
    ]);
}

#[test]
fn the_question_is_no_answer() {
    let options = Options::default();
    let outcome = |prompt: &str, answer: &str, completion: &str| {
        math::judge_asked(completion, answer, Some(prompt), &options).outcome
    };
    for (prompt, answer, echo) in [
        ("Expand $(x+1)(x+2)$.", "x^2+3x+2", "\\boxed{(x+1)(x+2)}"),
        ("Expand $(x+1)(x+2)$.", "x^2+3x+2", "\\boxed{(x+2)(x+1)}"),
        ("Factor $x^2-1$.", "(x-1)(x+1)", "$x^2-1$"),
        ("Simplify $\\sqrt{12}$.", "2\\sqrt3", "\\boxed{\\sqrt{12}}"),
        ("Simplify \\(\\frac{4}{8}\\).", "\\frac12", "\\boxed{\\frac48}"),
        ("Write 50% as a decimal.", "0.5", "\\boxed{50\\%}"),
        ("Find $\\cos\\frac{\\pi}{3}$.", "\\frac12", "\\boxed{\\cos\\frac{\\pi}{3}}"),
        ("Compute $2^{10}$.", "1024", "\\boxed{2^{10}}"),
        ("Solve $2x+4=10$.", "x=3", "\\boxed{2x+4=10}"),
        ("What is the largest of 3, 9 and 12?", "12", "What is the largest of 3, 9 and 12?"),
        ("Think hard.\nWhich is the largest of 3, 9 and 12?", "12", "Which is the largest of 3, 9 and 12?"),
    ] {
        assert_eq!(outcome(prompt, answer, echo), Outcome::Wrong, "{prompt}: {echo}");
    }
    for (prompt, answer, right) in [
        ("Expand $(x+1)(x+2)$.", "x^2+3x+2", "\\boxed{2+3x+x^2}"),
        ("Simplify $\\sqrt{12}$.", "2\\sqrt3", "\\boxed{2\\sqrt3}"),
        ("Simplify $x+1$.", "x+1", "\\boxed{x+1}"),
        ("There are 5 apples and 3 pears. How many apples?", "5", "5"),
        ("Which? (A) 5 (B) 6", "B", "(B) 6"),
        ("Is it 1/2 or 2/4 of them?", "0.5", "\\boxed{\\frac12}"),
    ] {
        assert_eq!(outcome(prompt, answer, right), Outcome::Correct, "{prompt}: {right}");
    }
    let old = Options { unevaluated: true, ..Options::default() };
    let verdict = math::judge_asked("\\boxed{19+74}", "93", Some("Compute 19 + 74."), &old);
    assert_eq!(verdict.outcome, Outcome::Correct);
}

#[test]
fn what_the_answer_itself_makes_undecidable_is_wrong() {
    for reference in ["7", "\\frac13", "2\\sqrt3", "x^2+1", "(1,2)", "[0,1]", "\\{1,2\\}"] {
        for found in [
            "\\int 8",
            "0/0",
            "\\frac{7}{0}",
            "9^{9^{9^9}}",
            "7\\nabla",
            "\\int_0^1 x^2 dx",
            "\\lim_{x\\to0} x",
            "\\sum_{k=1}^{3} k + 1",
            "(10^9)!",
            "e^{e^{e^{e^e}}}",
            "\\ln 0",
            "7+\\frac{0}{0}",
            "x+\\frac{1}{0}",
            "7 \\equiv 8",
            "\\sqrt{-x^2-1}",
            "1e4000\\cdot 1e4000 \\cdot x",
        ] {
            let verdict = math::judge(&format!("\\boxed{{{found}}}"), reference, &Options::default());
            assert!(
                matches!(verdict.outcome, Outcome::Wrong | Outcome::Unparsable),
                "{found} for {reference}: {verdict:?}"
            );
        }
    }
    refuses(&[
        ("\\sin x", "\\boxed{\\sin x+10^{-30}}"),
        ("\\sin x", "\\boxed{\\sin x+10^{-300}}"),
        ("\\sin x", "\\boxed{\\sin x+e^{-100}}"),
        ("1", "\\boxed{\\tanh 200}"),
        ("1", "\\boxed{\\sqrt{1+10^{-200}}}"),
        ("1", "\\boxed{\\tanh 2000}"),
    ]);
    check(&[("\\int_0^1 x^2 dx", "\\boxed{1/3}"), ("1:20", "\\boxed{2:40}")], Outcome::Undecided);
}
