//! Right answers as people and data sets write them.

use super::{accepts, check, refuses};
use koan_reward::Outcome;
use koan_reward::math::{self, Options};

#[test]
fn separators_and_digits() {
    accepts(&[
        ("11111100", "\\boxed{11,\\! 111,\\! 100}"),
        ("9500", "\\boxed{9{,}500}"),
        ("1234567", "\\boxed{1\\,234\\,567}"),
        ("1234567", "\\boxed{1\u{a0}234\u{a0}567}"),
        ("1234567", "\\boxed{1\u{2009}234\u{2009}567}"),
        ("1234567", "The answer is 1\u{202f}234\u{202f}567."),
        ("1234567", "\\boxed{1'234'567}"),
        ("123", "\\boxed{１２３}"),
        ("12.5", "答案是１２．５。"),
        ("１２", "\\boxed{12}"),
        ("5/6", "\\boxed{0.8333\\ldots}"),
        ("5/6", "\\boxed{0.8\\bar3}"),
        ("5/6", "\\boxed{0.8\\bar{3}}"),
        ("1/3", "0.333..."),
        ("1/3", "\\boxed{0.(3)}"),
        ("1/7", "\\boxed{0.142857142857\\ldots}"),
        ("15.75", "1.575 x 10^1"),
        ("15.75", "\\boxed{1.575 x 10^1}"),
        ("\\frac13", "\\boxed{33\\frac13\\%}"),
        ("33\\frac13\\%", "\\boxed{\\frac13}"),
        ("1/3", "33 1/3%"),
        ("12", "\\boxed{12^{th}}"),
        ("12", "\\boxed{12^{\\text{th}}}"),
        ("3", "\\boxed{3\\text{rd}}"),
        ("3", "3rd"),
        ("3rd", "\\boxed{3}"),
        ("14", "\\boxed{\\large 14}"),
        ("14", "$\\Large 14$"),
    ]);
    refuses(&[
        ("11111100", "\\boxed{11,\\! 111,\\! 101}"),
        ("5/6", "\\boxed{0.8\\bar4}"),
        ("5/6", "\\boxed{0.8334\\ldots}"),
        ("33\\frac13", "\\boxed{34\\frac13\\%}"),
        ("12", "\\boxed{13^{th}}"),
        ("１２", "\\boxed{１３}"),
    ]);
}

#[test]
fn matrices() {
    let row_gap = "\\boxed{\\begin{pmatrix}1&2\\\\[4pt]3&4\\end{pmatrix}}";
    let doubled = "2\\begin{pmatrix}1\\\\2\\end{pmatrix}";
    accepts(&[
        ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", row_gap),
        ("x=1,y=2", "\\boxed{\\begin{cases}x=1\\\\[0.5em] y=2\\end{cases}}"),
        ("\\begin{pmatrix}2\\\\4\\end{pmatrix}", &format!("\\boxed{{{doubled}}}")),
        (doubled, "\\boxed{\\begin{pmatrix}2\\\\4\\end{pmatrix}}"),
        ("\\begin{pmatrix}1/2\\\\1\\end{pmatrix}", "\\boxed{\\frac12\\begin{pmatrix}1\\\\2\\end{pmatrix}}"),
        (
            "\\begin{pmatrix}1\\\\2\\end{pmatrix}+\\begin{pmatrix}3\\\\4\\end{pmatrix}",
            "\\boxed{\\begin{pmatrix}4\\\\6\\end{pmatrix}}",
        ),
        (
            "\\begin{pmatrix}1\\\\0\\end{pmatrix}+t\\begin{pmatrix}2\\\\1\\end{pmatrix}",
            "\\boxed{t\\begin{pmatrix}2\\\\1\\end{pmatrix}+\\begin{pmatrix}1\\\\0\\end{pmatrix}}",
        ),
    ]);
    refuses(&[
        ("\\begin{pmatrix}2\\\\5\\end{pmatrix}", &format!("\\boxed{{{doubled}}}")),
        (
            "\\begin{pmatrix}4\\\\6\\end{pmatrix}",
            "\\boxed{\\begin{pmatrix}1\\\\2\\end{pmatrix}+\\begin{pmatrix}3\\\\4\\end{pmatrix}}",
        ),
        (
            "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}",
            "\\boxed{\\begin{pmatrix}1&0\\\\0&1\\end{pmatrix}\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}}",
        ),
    ]);
}

#[test]
fn words() {
    accepts(&[
        ("\\text{no solution}", "There is no solution"),
        ("\\emptyset", "There are no real solutions."),
        ("\\emptyset", "\\boxed{\\text{There is no solution}}"),
        ("\\infty", "\\boxed{\\text{infinity}}"),
        ("\\infty", "infinity"),
        ("B", "Answer: B because 3 is prime."),
        ("B", "The answer is B. It follows from 2 + 2."),
        ("E", "E: the red one"),
        ("E: the red one", "\\boxed{E}"),
        ("C", "(C) all of the above"),
        ("3", "答案是3。"),
        ("12", "La respuesta es 12."),
        ("12", "所以一共有12个苹果。"),
        ("5", "We add: $2+3=5$. So it is \\boxed{5}."),
        ("We add $2+3$ and get $\\boxed{5}$ apples, not 6.", "5"),
    ]);
    refuses(&[
        ("\\text{no solution}", "There is one solution"),
        ("\\infty", "\\boxed{\\text{negative infinity}}"),
        ("B", "Answer: C because 3 is prime."),
        ("E", "D: the red one"),
        ("3", "答案是4。"),
        ("12", "La respuesta es 13."),
        ("We add $2+3$ and get $\\boxed{5}$ apples, not 6.", "6"),
    ]);
}

#[test]
fn regions_and_lists() {
    accepts(&[
        ("(-3,-1)\\cup(1,3)", "\\boxed{\\{x : 1<|x|<3\\}}"),
        ("1<|z|<3", "\\boxed{(-3,-1)\\cup(1,3)}"),
        ("|x-2|<3", "\\boxed{(-1,5)}"),
        ("|x|\\ge 2", "\\boxed{(-\\infty,-2]\\cup[2,\\infty)}"),
        ("0<f(x)<1", "\\boxed{(0,1)}"),
        ("x=1, x=1, x=2", "\\boxed{x=1, x=2}"),
        ("(1,2),(2,1)", "\\boxed{(1,2),(2,1),(1,2)}"),
        ("\\sum_{k=1}^{n} a_k b_k", "\\boxed{\\sum_{k=1}^{n} b_k a_k}"),
        ("\\sum_{k=1}^{n} k x^k", "\\boxed{\\sum_{k=1}^n x^k k}"),
        ("y_1=1, y_2=2", "$y_1 = \\boxed{1}$, $y_2 = \\boxed{2}$"),
        ("1, 2", "$y_1 = \\boxed{1}$ and $y_2 = \\boxed{2}$"),
        ("x=1, y=2", "$x = \\boxed{1}$, $y = \\boxed{2}$"),
        ("x = -5, p = \\frac{14}{3}", "\\boxed{-5, \\frac{14}{3}}"),
        ("2", "$x = \\boxed{1}$, $y = \\boxed{2}$"),
    ]);
    refuses(&[
        ("|x-2|<3", "\\boxed{(-1,4)}"),
        ("2,2,3", "\\boxed{2,3}"),
        ("1,2", "\\boxed{1,2,2,3}"),
        ("1, 3", "$y_1 = \\boxed{1}$ and $y_2 = \\boxed{2}$"),
        ("x=1, y=2", "$x = \\boxed{2}$, $y = \\boxed{1}$"),
    ]);
}

#[test]
fn powers_of_matrices() {
    let m = |cells: &str| format!("\\begin{{pmatrix}}{cells}\\end{{pmatrix}}");
    let boxed = |cells: &str| format!("\\boxed{{{}}}", m(cells));
    let cases = [
        (format!("{}^2", m("1&2\\\\3&4")), boxed("7&10\\\\15&22"), boxed("7&10\\\\15&23")),
        (format!("{}^3", m("1&2\\\\3&4")), boxed("37&54\\\\81&118"), boxed("1&8\\\\27&64")),
        (format!("{}^{{100}}", m("1&1\\\\0&1")), boxed("1&100\\\\0&1"), boxed("1&101\\\\0&1")),
        (format!("{}^{{-1}}", m("1&2\\\\3&4")), boxed("-2&1\\\\\\frac32&-\\frac12"), boxed("2&1\\\\3&-1")),
        (format!("{}^{{-2}}", m("0&2\\\\1&0")), boxed("\\frac12&0\\\\0&\\frac12"), boxed("2&0\\\\0&2")),
        (format!("{}^0", m("1&2\\\\3&4")), boxed("1&0\\\\0&1"), boxed("0&0\\\\0&0")),
        (format!("{}^3", m("a&0\\\\0&b")), boxed("a^3&0\\\\0&b^3"), boxed("a^3&0\\\\0&b^2")),
        (format!("{}^T", m("1&2\\\\3&4")), boxed("1&3\\\\2&4"), boxed("1&2\\\\3&4")),
        (format!("2{}^3", m("1&0\\\\0&2")), boxed("2&0\\\\0&16"), boxed("8&0\\\\0&64")),
    ];
    for (reference, right, wrong) in &cases {
        accepts(&[(reference, right)]);
        refuses(&[(reference, wrong)]);
    }
    // A power that is left to be computed is no answer, and one that is not there is wrong.
    refuses(&[
        (&m("7&10\\\\15&22"), &format!("\\boxed{{{}^2}}", m("1&2\\\\3&4"))),
        (&m("1&0\\\\0&1"), &format!("\\boxed{{{}^{{-1}}}}", m("1&2\\\\2&4"))),
    ]);
    let undecided = format!("{}^n", m("1&1\\\\0&1"));
    check(&[(&undecided, &boxed("1&n\\\\0&1"))], Outcome::Undecided);
}

#[test]
fn solutions_are_a_set_where_the_question_asks_for_them() {
    let judge = |prompt, answer, completion: &str| {
        math::judge_asked(completion, answer, Some(prompt), &Options::default()).outcome
    };
    let solve = "Solve $(x-2)^2(x-3)=0$.";
    let roots = "What are the roots of $x^3-7x^2+16x-12$?";
    for prompt in [solve, roots] {
        assert_eq!(judge(prompt, "2,3", "\\boxed{2,2,3}"), Outcome::Correct);
        assert_eq!(judge(prompt, "2,2,3", "\\boxed{2,3}"), Outcome::Correct);
        assert_eq!(judge(prompt, "2,3", "\\boxed{2,2,3,4}"), Outcome::Wrong);
        assert_eq!(judge(prompt, "2,3", "\\boxed{2,2}"), Outcome::Wrong);
    }
    for prompt in
        ["Factor 12 into primes.", "List the roots with their multiplicities.", "Write the digits of 223."]
    {
        assert_eq!(judge(prompt, "2,2,3", "\\boxed{2,3}"), Outcome::Wrong, "{prompt}");
    }
    assert_eq!(judge(solve, "(2,3)", "\\boxed{(2,2,3)}"), Outcome::Wrong, "a tuple is no list");
}

#[test]
fn separators_with_spaces() {
    accepts(&[
        ("14916", "The final answer is $14 {, }916$. I hope it is correct."),
        ("14916", "\\boxed{14 {, } 916}"),
        ("11111100", "\\boxed{11, \\! 111, \\! 100}"),
    ]);
    refuses(&[("11111100", "\\boxed{11, 111, 100}"), ("11,111,100", "\\boxed{11, 111}")]);
}
