//! Reference, completion, and whether the verifier `math` must accept: by kind of answer.

mod notations;
mod other_words;
mod reasons;
mod users;

use koan_reward::Outcome;
use koan_reward::math::{self, Options};

/// Checks every case of a table and reports all that fail.
fn check(cases: &[(&str, &str)], expected: Outcome) {
    let options = Options::default();
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|(answer, completion)| {
            let verdict = math::judge(completion, answer, &options);
            (verdict.outcome != expected).then(|| format!("{answer:?} with {completion:?}: {verdict:?}"))
        })
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} are not {expected:?}:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

fn accepts(cases: &[(&str, &str)]) {
    check(cases, Outcome::Correct);
}

/// Where operations may be left to be computed; by default they are no answer.
fn accepts_unevaluated(cases: &[(&str, &str)]) {
    let options = Options { unevaluated: true, ..Options::default() };
    for (answer, completion) in cases {
        let verdict = math::judge(completion, answer, &options);
        assert_eq!(verdict.outcome, Outcome::Correct, "{answer:?} with {completion:?}: {verdict:?}");
    }
    refuses(cases);
}

fn refuses(cases: &[(&str, &str)]) {
    check(cases, Outcome::Wrong);
}

#[test]
fn numbers() {
    accepts(&[
        ("5", "\\boxed{5}"),
        ("5", "\\boxed{5.0}"),
        ("5", "\\boxed{+5}"),
        ("-5", "\\boxed{−5}"),
        ("1234567", "$1{,}234{,}567$"),
        ("1234567", "1,234,567"),
        ("1234567", "$1\\,234\\,567$"),
        ("1234567", "$1,\\!234,\\!567$"),
        ("1 000 000", "1000000"),
        ("$12{,}345.67$", "12345.67"),
        ("0.5", ".5"),
        ("0.5", "$\\frac12$"),
        ("1/2", "\\boxed{0.5}"),
        ("1/2", "\\boxed{\\dfrac{2}{4}}"),
        ("-\\frac{1}{2}", "\\boxed{\\frac{-1}{2}}"),
        ("-\\frac{1}{2}", "\\boxed{\\frac{1}{-2}}"),
        ("7/3", "\\boxed{2\\frac{1}{3}}"),
        ("7/3", "2 1/3"),
        ("-7/3", "\\boxed{-2\\frac{1}{3}}"),
        ("1.5", "1½"),
        ("1500", "1.5e3"),
        ("1500", "$1.5\\times 10^3$"),
        ("1500", "$1.5 \\cdot 10^{3}$"),
        ("0.0015", "1.5E-3"),
        ("6.02\\times10^{23}", "6.02e23"),
        ("1/3", "\\boxed{0.\\overline{3}}"),
        ("1/6", "\\boxed{0.1\\overline{6}}"),
        ("0.333333", "\\boxed{\\frac13}"),
        ("1/3", "0.33333333"),
        ("1,22", "1.22"),
        ("1.234,5", "1234.5"),
        ("2^{10}", "1024"),
        ("1010_2", "\\boxed{1010_{2}}"),
        ("1010_2", "\\boxed{1010}"),
        ("9007199254740993", "9007199254740993"),
        ("100", "\\boxed{1e2}"),
        ("3", "\\boxed{\\text{3}}"),
        ("13", "\\boxed{\\text{13}}"),
        ("8", "\\boxed{2 \\times 4 = 8}"),
        ("3", "\\boxed{\\lfloor \\pi \\rfloor}"),
        ("4", "\\boxed{\\lceil \\pi \\rceil}"),
        ("5", "**5**"),
        ("73", "The answer is **73**."),
        ("\\$1{,}000", "\\boxed{1000}"),
    ]);
    accepts_unevaluated(&[
        ("8", "\\boxed{2\\cdot 4}"),
        ("24", "\\boxed{4!}"),
        ("10", "\\boxed{\\binom{5}{2}}"),
        ("10", "\\boxed{{5 \\choose 2}}"),
        ("48", "\\boxed{6!!}"),
        ("2", "\\boxed{17 \\bmod 5}"),
        ("6", "\\boxed{\\gcd(12, 18)}"),
        ("36", "\\boxed{\\text{lcm}(12, 18)}"),
        ("3", "\\boxed{|{-3}|}"),
        ("5", "\\boxed{|3-8|}"),
        ("7", "\\boxed{\\max(3, 7)}"),
    ]);
    refuses(&[
        ("5", "\\boxed{6}"),
        ("5", "\\boxed{-5}"),
        ("1/2", "\\boxed{2}"),
        ("32349", "\\boxed{32, 349}"),
        ("1/3", "\\boxed{0.33}"),
        ("1/3", "\\boxed{0.3334}"),
        ("0.0000001", "0.0000002"),
        ("0.0000001", "\\boxed{10^{-6}}"),
        ("10^{-17}", "\\boxed{2\\cdot 10^{-17}}"),
        ("\\frac{1}{2^{99}}", "\\boxed{\\frac{1}{2^{98}}}"),
        ("\\frac{1}{2004!}", "\\boxed{\\frac{1}{2006!}}"),
        ("1/2004!", "\\boxed{1/2003!}"),
        ("10^{10^{10}}", "\\boxed{10^{10^{10}}+1}"),
        ("5", "\\boxed{4.9999999}"),
        ("1.5", "\\boxed{1.50001}"),
        ("3", "\\boxed{3m}"),
        ("3", "\\boxed{3h}"),
        ("1500", "1.5e4"),
        ("1234", "1.234"),
        ("1234567", "1,234,568"),
        ("-7/3", "\\boxed{-1\\frac{2}{3}}"),
        ("1010_2", "\\boxed{1011_2}"),
        ("101_2", "\\boxed{101_3}"),
        ("2021", "\\boxed{\\pm 2021}"),
        ("123", "\\boxed{1, 2, 3}"),
        ("0.1", "\\boxed{0.01}"),
        ("100!", "\\boxed{101!}"),
        ("9007199254740993", "9007199254740992"),
    ]);
}

#[test]
fn percent_money_and_units() {
    accepts(&[
        ("28\\%", "\\boxed{28}"),
        ("28\\%", "\\boxed{0.28}"),
        ("28\\%", "\\boxed{28\\%}"),
        ("28\\%", "\\boxed{28 \\text{ percent}}"),
        ("28%", "28 percent"),
        ("0.28", "\\boxed{28\\%}"),
        ("28", "\\boxed{28\\%}"),
        ("10\\%", "\\boxed{\\frac{1}{10}}"),
        ("12.5\\%", "\\boxed{1/8}"),
        ("$5", "\\boxed{\\$5}"),
        ("\\$5.50", "\\boxed{5.5}"),
        ("5 dollars", "\\boxed{\\$5}"),
        ("50 cents", "\\boxed{\\$0.50}"),
        ("12 cm", "\\boxed{12}"),
        ("12 cm", "\\boxed{12\\text{ cm}}"),
        ("12", "\\boxed{12\\text{ cm}}"),
        ("12\\text{ cm}", "\\boxed{12 \\mathrm{~cm}}"),
        ("1 m", "\\boxed{100 \\text{ cm}}"),
        ("2 hours", "\\boxed{120\\text{ minutes}}"),
        ("5 \\text{ m}^2", "\\boxed{5 \\text{ m}^{2}}"),
        ("5 \\text{ square meters}", "\\boxed{5 \\text{ m}^2}"),
        ("60 km/h", "\\boxed{60\\text{ km/h}}"),
        ("60 \\text{ miles per hour}", "\\boxed{60}"),
        ("20\\text{ m/s}", "\\boxed{72\\text{ km/h}}"),
        ("5 apples", "\\boxed{5}"),
        ("5", "\\boxed{5 \\text{ apples}}"),
        ("25\\pi \\text{ cm}^2", "\\boxed{25\\pi}"),
        ("90^\\circ", "\\boxed{90}"),
        ("90", "\\boxed{90^\\circ}"),
        ("90^{\\circ}", "\\boxed{90 \\text{ degrees}}"),
        ("45^\\circ", "\\boxed{\\frac{\\pi}{4}}"),
        ("\\frac{\\pi}{4}", "\\boxed{45^\\circ}"),
        ("1/3", "$\\frac{1}{3} \\textbf{meters}$"),
        ("0.06 \\text{ yuan}", "\\boxed{0.06}"),
        ("3 kg", "\\boxed{3000 \\text{ g}}"),
        ("7 \\text{ days}", "\\boxed{1 \\text{ week}}"),
        ("20^\\circ\\text{C}", "\\boxed{20^{\\circ}\\text{C}}"),
    ]);
    refuses(&[
        ("28\\%", "\\boxed{29\\%}"),
        ("0.28", "\\boxed{28}"),
        ("5 \\text{ kg}", "\\boxed{5 \\text{ cm}}"),
        ("5 \\text{ cm}", "\\boxed{5 \\text{ m}}"),
        ("5 \\text{ cm}", "\\boxed{5 \\text{ cm}^2}"),
        ("1 m", "\\boxed{10 \\text{ cm}}"),
        ("\\$5", "\\boxed{€5}"),
        ("45^\\circ", "\\boxed{\\frac{\\pi}{3}}"),
        ("90^\\circ", "\\boxed{91^\\circ}"),
        ("2x+3", "\\boxed{2x+3t}"),
        ("3", "\\boxed{3x}"),
        ("60 \\text{ km/h}", "\\boxed{60 \\text{ m/s}}"),
    ]);
}

#[test]
fn roots_powers_and_constants() {
    accepts(&[
        ("\\frac{\\sqrt{3}}{3}", "\\boxed{\\frac{1}{\\sqrt{3}}}"),
        ("\\frac{\\sqrt3}{3}", "sqrt(3)/3"),
        ("2\\sqrt{3}", "\\boxed{\\sqrt{12}}"),
        ("\\sqrt{2}+\\sqrt{5}", "\\boxed{\\sqrt 5 + \\sqrt 2}"),
        ("\\sqrt[3]{8}", "\\boxed{2}"),
        ("\\sqrt[3]{-8}", "\\boxed{-2}"),
        ("\\sqrt[3]{2}", "\\boxed{2^{1/3}}"),
        ("\\sqrt{3+2\\sqrt{2}}", "\\boxed{1+\\sqrt{2}}"),
        ("\\frac{1}{\\sqrt{2}+1}", "\\boxed{\\sqrt{2}-1}"),
        ("4.123105625617661", "\\boxed{\\sqrt{17}}"),
        ("\\sqrt{17}", "\\boxed{4.1231056}"),
        ("e^{i\\pi}", "\\boxed{-1}"),
        ("-1", "\\boxed{e^{i\\pi}}"),
        ("\\pi", "\\boxed{3.14159265}"),
        ("3\\pi", "\\boxed{3 \\pi}"),
        ("\\frac{\\pi}{2}", "pi/2"),
        ("\\pi", "\\boxed{π}"),
        ("\\ln 8", "\\boxed{3\\ln 2}"),
        ("\\log_2 8", "\\boxed{3}"),
        ("\\log 100", "\\boxed{2}"),
        ("\\log_{2}{3}", "\\boxed{\\frac{\\ln 3}{\\ln 2}}"),
        ("\\sin 30^\\circ", "\\boxed{\\frac12}"),
        ("\\sin\\frac{\\pi}{3}", "\\boxed{\\frac{\\sqrt{3}}{2}}"),
        ("\\cos\\frac{\\pi}{5}", "\\boxed{\\frac{1+\\sqrt5}{4}}"),
        ("\\tan 45^\\circ", "\\boxed{1}"),
        ("0.5", "$\\cos\\frac{\\pi}{3}$"),
        ("$\\cos\\frac{\\pi}{3}$", "0.5"),
        ("0.5", "\\boxed{\\sin\\frac{\\pi}{6}}"),
        ("1.0", "\\boxed{\\tan\\frac\\pi4}"),
        ("-0.5", "\\boxed{\\cos 120^\\circ}"),
        ("\\arctan 1", "\\boxed{\\frac{\\pi}{4}}"),
        ("\\arcsin\\frac{1}{2}", "\\boxed{\\frac{\\pi}{6}}"),
        ("\\sin^{-1}(1)", "\\boxed{\\pi/2}"),
        ("\\sinh(\\ln 2)", "\\boxed{3/4}"),
        ("e", "\\boxed{2.71828183}"),
        ("2^{1/2}", "\\boxed{\\sqrt{2}}"),
        ("8^{2/3}", "\\boxed{4}"),
        ("2^{-3}", "\\boxed{1/8}"),
        ("10^{20}", "\\boxed{100000000000000000000}"),
        ("2^{100}", "\\boxed{4^{50}}"),
        ("10^{10^{10}}", "\\boxed{10^{10^{10}}}"),
        ("5^{5^{5^{5^{5}}}}", "\\boxed{5^{5^{5^{5^{5}}}}}"),
        ("\\frac{1+\\sqrt{5}}{2}", "(1+sqrt(5))/2"),
        ("\\sqrt{2}", "√2"),
        ("\\infty", "\\boxed{+\\infty}"),
        ("-\\infty", "\\boxed{-\\infty}"),
        ("\\frac{2+\\sqrt{3}}{1}", "\\boxed{2+\\sqrt{3}}"),
        ("10^{\\frac{-5+\\sqrt{13}}{6}}", "\\boxed{10^{\\frac{\\sqrt{13} - 5}{6}}}"),
    ]);
    refuses(&[
        ("4\\sqrt{2}", "\\boxed{4}"),
        ("4", "\\boxed{4\\sqrt(2)}"),
        ("\\sqrt{17}", "\\boxed{4.12}"),
        ("\\pi", "\\boxed{3.14}"),
        ("\\cos\\frac{\\pi}{5}", "\\boxed{0.8}"),
        ("\\sin\\frac{\\pi}{3}", "\\boxed{0.9}"),
        ("\\cos\\frac{\\pi}{3}", "\\boxed{-0.5}"),
        ("\\pi", "\\boxed{\\frac{22}{7}}"),
        ("\\sqrt{2}", "\\boxed{-\\sqrt{2}}"),
        ("\\sqrt{2}", "\\boxed{\\sqrt{3}}"),
        ("e^{\\pi\\sqrt{163}}", "\\boxed{262537412640768744}"),
        ("262537412640768744", "\\boxed{e^{\\pi\\sqrt{163}}}"),
        ("\\infty", "\\boxed{-\\infty}"),
        ("\\infty", "\\boxed{5}"),
        ("\\ln 2", "\\boxed{\\log 2}"),
        ("\\sin 30", "\\boxed{\\frac12}"),
        ("\\sqrt[3]{2}", "\\boxed{\\sqrt{2}}"),
        ("2^{99}", "\\boxed{2^{98}}"),
    ]);
}

#[test]
fn complex_numbers() {
    accepts(&[
        ("3+4i", "\\boxed{4i+3}"),
        ("3+4i", "3 + 4i"),
        ("\\frac{1}{1+i}", "\\boxed{\\frac{1-i}{2}}"),
        ("i^2", "\\boxed{-1}"),
        ("2i", "\\boxed{\\sqrt{-4}}"),
        ("e^{i\\pi/3}", "\\boxed{\\frac{1}{2}+\\frac{\\sqrt{3}}{2}i}"),
        ("\\cos\\frac{\\pi}{4}+i\\sin\\frac{\\pi}{4}", "\\boxed{\\frac{\\sqrt2}{2}(1+i)}"),
        ("5", "\\boxed{|3+4i|}"),
        ("\\pm i", "\\boxed{i, -i}"),
        ("1\\pm 2i", "\\boxed{1+2i,\\ 1-2i}"),
    ]);
    refuses(&[
        ("3+4i", "\\boxed{3-4i}"),
        ("3+4i", "\\boxed{3+4j}"),
        ("i", "\\boxed{-i}"),
        ("1+i", "\\boxed{1}"),
    ]);
}

#[test]
fn expressions() {
    accepts(&[
        ("x^2-1", "\\boxed{(x-1)(x+1)}"),
        ("\\frac{x+2}{7}", "\\boxed{\\frac{x}{7}+\\frac{2}{7}}"),
        ("\\frac{x^2-1}{x-1}", "\\boxed{x+1}"),
        ("(a+b)^2", "\\boxed{a^2+2ab+b^2}"),
        ("2ab", "\\boxed{2ba}"),
        ("$x^{2}y$", "$yx^2$"),
        ("$xyz$", "$zyx$"),
        ("$ab^2c$", "$cab^2$"),
        ("4xy^3z", "\\boxed{4zxy^{3}}"),
        ("\\frac{mv^2}{2}", "\\boxed{\\frac{1}{2}v^2m}"),
        ("m v_0^2", "\\boxed{mv_0^2}"),
        ("n\\cdot k!", "\\boxed{nk!}"),
        ("\\sin^2 x+\\cos^2 x", "\\boxed{1}"),
        ("\\sin 2x", "\\boxed{2\\sin x\\cos x}"),
        ("\\ln x^2", "\\boxed{2\\ln x}"),
        ("\\log x+\\log y", "\\boxed{\\log(xy)}"),
        ("e^{x+1}", "\\boxed{e\\cdot e^x}"),
        ("2^{n+1}", "\\boxed{2\\cdot 2^n}"),
        ("4^n", "\\boxed{2^{2n}}"),
        ("\\sqrt{x^2}", "\\boxed{|x|}"),
        ("\\frac{n!}{(n-1)!}", "\\boxed{n}"),
        ("\\binom{n}{2}", "\\boxed{\\frac{n(n-1)}{2}}"),
        ("\\frac{n(n+1)}{2}", "n(n+1)/2"),
        ("x^{-1}", "\\boxed{\\frac1x}"),
        ("\\frac{\\pi r}{h+r}", "\\boxed{\\frac{r\\pi}{r+h}}"),
        ("x_1+x_2", "\\boxed{x_{2}+x_{1}}"),
        ("\\alpha+\\beta", "\\boxed{β+α}"),
        ("3x^2+2x-1", "3x**2 + 2x - 1"),
        ("\\frac{1}{2}x", "\\boxed{x/2}"),
        ("\\tan x", "\\boxed{\\frac{\\sin x}{\\cos x}}"),
        ("(x-1)^{20}", "\\boxed{(1-x)^{20}}"),
        ("x^{1000}-1", "\\boxed{(x^{500}-1)(x^{500}+1)}"),
        ("0.5x", "\\boxed{\\frac{x}{2}}"),
        ("-(x-y)", "\\boxed{y-x}"),
        ("\\sqrt{xy}", "\\boxed{\\sqrt{yx}}"),
        ("\\cosh x", "\\boxed{\\frac{e^x+e^{-x}}{2}}"),
        ("f(x)=x^2", "\\boxed{x^2}"),
        ("x^2+1", "\\boxed{f(x)=x^2+1}"),
        ("\\overline{AB}", "\\boxed{AB}"),
        ("(2x+1)(x-3)", "\\boxed{2x^2-5x-3}"),
    ]);
    refuses(&[
        ("x^2-1", "\\boxed{x^2+1}"),
        ("x", "\\boxed{y}"),
        ("f(x)", "\\boxed{f(y)}"),
        ("2x", "\\boxed{x^2}"),
        ("(a+5)(b+2)", "\\boxed{(+5)(b+2)}"),
        ("\\sqrt{x^2}", "\\boxed{x}"),
        ("\\sin x", "\\boxed{\\cos x}"),
        ("\\sin 2x", "\\boxed{2\\sin x}"),
        ("e^{x}", "\\boxed{e^{-x}}"),
        ("n!", "\\boxed{n}"),
        ("2^n", "\\boxed{n^2}"),
        ("x^{1000}-1", "\\boxed{(x^{500}-1)(x^{500}-1)}"),
        ("x+1", "\\boxed{x}"),
        ("ab", "\\boxed{a+b}"),
        ("x^2y^2", "\\boxed{xy^2}"),
        ("(xy)^2", "\\boxed{xy^2}"),
        ("xyz", "\\boxed{xyy}"),
        ("x^2y", "\\boxed{y^2x}"),
        ("(nk)!", "\\boxed{nk!}"),
        ("x_1", "\\boxed{x_2}"),
        ("x+10^{-30}", "\\boxed{x}"),
        ("\\sin x+10^{-9}", "\\boxed{\\sin x}"),
    ]);
}

#[test]
fn equations_and_inequalities() {
    accepts(&[
        ("x=5", "\\boxed{5}"),
        ("5", "\\boxed{x=5}"),
        ("x=5", "\\boxed{x = 5}"),
        ("x = 11", "$x = 5+5+1 = 11$"),
        ("k=1", "$1$"),
        ("y=2x+1", "\\boxed{2x+1}"),
        ("y=2x+1", "\\boxed{2x-y+1=0}"),
        ("y=-\\frac{x}{2}+\\frac34", "\\boxed{2x+4y=3}"),
        ("2x+4y=3", "\\boxed{y=-\\frac{x}{2}+\\frac{3}{4}}"),
        ("34x+45y-20z+100=0", "$-34x-45y+20z-100=0$"),
        ("\\frac{x^2}{4}+\\frac{y^2}{9}=1", "\\boxed{9x^2+4y^2=36}"),
        ("x^2+y^2=25", "\\boxed{x^2+y^2-25=0}"),
        ("x \\neq 5", "$x != 5$"),
        ("x<1", "\\boxed{-x>-1}"),
        ("x<1", "\\boxed{1>x}"),
        ("x \\geq 5", "\\boxed{5 \\leq x}"),
        ("2x<6", "\\boxed{x<3}"),
        ("1<x<3", "\\boxed{3>x>1}"),
        ("1<x<3", "\\boxed{x \\in (1,3)}"),
        ("-2\\le x\\le 7", "\\boxed{[-2,7]}"),
        ("x>2", "\\boxed{(2,\\infty)}"),
        ("x<-1 \\text{ or } x>2", "\\boxed{(-\\infty,-1)\\cup(2,\\infty)}"),
        ("\\frac{NO}{BO}=\\frac{1}{\\sqrt{6}}", "$\\frac{1}{\\sqrt{6}}$"),
        ("V_{1}:V_{2}=11:21", "$11:21$"),
        ("AB=5", "\\boxed{5}"),
        ("\\angle ABC = 60^\\circ", "\\boxed{60^\\circ}"),
        ("P(A)=\\frac12", "\\boxed{\\frac12}"),
        ("S_{\\triangle ABC}=6", "\\boxed{6}"),
        ("\\sqrt{17}", "\\boxed{\\sqrt{17}\\approx 4.123}"),
        ("y = e^x", "\\boxed{y=e^{x}}"),
        ("y-e^x=0", "\\boxed{2y=2e^x}"),
        ("x \\equiv 3 \\pmod 5", "\\boxed{x \\equiv 8 \\pmod{5}}"),
        ("x+y=5", "\\boxed{5=y+x}"),
        ("a<b<c", "\\boxed{c>b>a}"),
        ("xy=1", "\\boxed{y=\\frac1x}"),
    ]);
    refuses(&[
        ("x=5", "\\boxed{x=6}"),
        ("x = 1/3", "$x = 5+5+1 = 1/3$"),
        ("x = 11", "$x = 5+5+1 = 1/3$"),
        ("x=5", "\\boxed{y=5}"),
        ("a+3z=0", "\\boxed{0}"),
        ("a^2+b=0", "$0$"),
        ("3x-1y+13=0", "3x+4y+14=0"),
        ("3x-1y+13=0", "$0$"),
        ("0", "\\boxed{x+y=0}"),
        ("x<1", "\\boxed{x>1}"),
        ("x<1", "\\boxed{x\\le 1}"),
        ("x<1", "\\boxed{1}"),
        ("x \\neq 5", "\\boxed{x=5}"),
        ("x>2", "\\boxed{x>3}"),
        ("[-2,7]", "\\boxed{-2\\le x\\le 7}"),
        ("y=2x+1", "\\boxed{y=2x-1}"),
        ("x \\equiv 3 \\pmod 5", "\\boxed{x \\equiv 3 \\pmod{7}}"),
        ("x \\equiv 3 \\pmod 5", "\\boxed{x \\equiv 4 \\pmod{5}}"),
        ("x^2=4", "\\boxed{x=2}"),
        ("1<x<3", "\\boxed{1<x<4}"),
        ("\\frac{x^2}{4}+\\frac{y^2}{9}=1", "\\boxed{\\frac{x^2}{9}+\\frac{y^2}{4}=1}"),
    ]);
}

#[test]
fn lists_sets_and_tuples() {
    accepts(&[
        ("1, 2", "\\boxed{2, 1}"),
        ("1 and 2", "\\boxed{1,2}"),
        ("\\{1,2\\}", "\\boxed{\\{2,1\\}}"),
        ("\\{1,2\\}", "\\boxed{1, 2}"),
        ("\\{1,2\\}", "\\boxed{\\{1,2,2\\}}"),
        ("{1,2,3}", "\\boxed{1} and \\boxed{2} and \\boxed{3}"),
        ("x = 1 or x = 2", "\\boxed{x=2 \\text{ or } x=1}"),
        ("x_1=1, x_2=2", "\\boxed{1, 2}"),
        ("x=1,x=2", "\\boxed{\\{1,2\\}}"),
        ("a=4,\\,-8,\\,-10", "\\boxed{-10,-8,4}"),
        ("x=1, y=2", "\\boxed{y=2, x=1}"),
        ("x=1, y=2", "\\boxed{(1,2)}"),
        ("(x,y)=(1,2)", "\\boxed{(1,2)}"),
        ("(1,2)", "\\boxed{(1, 2)}"),
        ("(1,2)", "\\boxed{(x,y)=(1,2)}"),
        ("(1,2),(2,1)", "\\boxed{(2,1)}, \\boxed{(1,2)}"),
        ("(1,2),(2,1)", "$(2,1)$ and $(1,2)$"),
        ("(11,7)or(7,11)", "\\boxed{(7,11),\\ (11,7)}"),
        ("(\\frac12, \\sqrt2)", "\\boxed{(0.5, \\sqrt{2})}"),
        ("\\emptyset", "\\boxed{\\text{no solution}}"),
        ("\\text{no solution}", "\\boxed{\\varnothing}"),
        ("\\text{No solutions}", "\\boxed{\\{\\}}"),
        ("\\pm 3", "\\boxed{3, -3}"),
        ("\\pm\\sqrt{2}", "\\boxed{x=\\sqrt2 \\text{ or } x=-\\sqrt2}"),
        ("2\\pm\\sqrt3", "\\boxed{\\{2-\\sqrt3, 2+\\sqrt3\\}}"),
        ("5", "\\boxed{\\{5\\}}"),
        ("1, 2, 3", "The solutions are $x=1$, $x=2$, and $x=3$."),
        ("6 \\text{ and } 8", "\\boxed{6 \\text{ and } 8}"),
        ("19, 46, and 82", "$19, 46, \\text{ and } 82$"),
        ("\\langle 1,2\\rangle", "\\boxed{(1,2)}"),
        ("(1,3)", "${1,3}$"),
        ("100, 200", "\\boxed{200, 100}"),
        ("(1,2,3)", "\\boxed{[1,2,3]}"),
        ("\\frac{\\pi}{6}, \\frac{5\\pi}{6}", "\\boxed{\\frac{5\\pi}{6}, \\frac{\\pi}{6}}"),
        ("p = -1 \\text{ and } p = \\dfrac{15}{8}", "$p=-1,p=\\frac{15}{8}$"),
    ]);
    refuses(&[
        ("1, 2", "\\boxed{1}"),
        ("1, 2", "\\boxed{1, 2, 3}"),
        ("1, 2", "\\boxed{1, 3}"),
        ("(1,2)", "\\boxed{(2,1)}"),
        ("(1,2)", "\\boxed{\\{1,2\\}}"),
        ("\\{1,2\\}", "\\boxed{(1,2)}"),
        ("x=1, y=2", "\\boxed{x=2, y=1}"),
        ("x=1, y=2", "\\boxed{(2,1)}"),
        ("\\pm 3", "\\boxed{3}"),
        ("\\pm 2021", "$2021$"),
        ("(1,2),(2,1)", "\\boxed{(1,2)}"),
        ("(37,3,3),(17,3,3,7)", "\\boxed{(17,3,3,7),(37,3,3,13)}"),
        ("\\emptyset", "\\boxed{0}"),
        ("5", "\\boxed{\\text{no solution}}"),
        ("1, 2, 3", "\\boxed{1, 2}"),
        ("(1,2,3)", "\\boxed{(1,2)}"),
    ]);
}

#[test]
fn intervals() {
    accepts(&[
        ("(0,1)", "\\boxed{(0,1)}"),
        ("[0,1)", "$[0,1)$"),
        ("[0,1]\\cup[2,3]", "\\boxed{[2,3]\\cup[0,1]}"),
        ("(-\\infty, 1)\\cup(1,\\infty)", "\\boxed{\\mathbb{R}\\setminus\\{1\\}}"),
        ("\\mathbb{R}", "\\boxed{(-\\infty,\\infty)}"),
        ("(0,\\infty)", "\\boxed{\\{x|x>0\\}}"),
        ("(0,\\infty)", "\\boxed{\\{x \\mid x > 0\\}}"),
        ("(0,\\infty)", "\\boxed{\\{x\\in\\mathbb{R}: x>0\\}}"),
        ("[1,3)", "\\boxed{[1,2]\\cup(2,3)}"),
        ("(1,2)", "\\boxed{]1,2[}"),
        ("x\\in[-2,7]", "\\boxed{[-2,7]}"),
        ("[-2,7]", "\\boxed{x \\in [-2,7]}"),
        ("\\left(-\\frac12,\\sqrt{2}\\right]", "\\boxed{(-0.5, \\sqrt 2]}"),
        ("(1,2)", "\\boxed{(0,2)\\cap(1,3)}"),
        ("(1, +\\infty)", "\\boxed{(1,\\infty)}"),
        ("[1,2]\\cup\\{5\\}", "\\boxed{\\{5\\}\\cup[1,2]}"),
        ("(a, b]", "\\boxed{(a,b]}"),
    ]);
    refuses(&[
        ("(0,1)", "\\boxed{[0,1)}"),
        ("[0,1)", "\\boxed{(0,1)}"),
        ("[0,1)", "\\boxed{[0,1]}"),
        ("(0,9)", "$[0,9)$"),
        ("(0,1)", "$D = (0, 1.5)$"),
        ("1", "$-[0,1)$"),
        ("[0,1]\\cup[2,3]", "\\boxed{[0,1]}"),
        ("(0,\\infty)", "\\boxed{(-\\infty,0)}"),
        ("\\mathbb{R}", "\\boxed{\\mathbb{Z}}"),
        ("[0,1]", "\\boxed{\\{0,1\\}}"),
        ("(-\\infty,1)\\cup(1,\\infty)", "\\boxed{\\mathbb{R}}"),
        ("[0,1)", "\\boxed{5}"),
    ]);
}

#[test]
fn matrices() {
    accepts(&[
        (
            "\\begin{pmatrix}1 & 2 \\\\ 3 & 4\\end{pmatrix}",
            "\\boxed{\\begin{bmatrix}1 & 2 \\\\ 3 & 4\\end{bmatrix}}",
        ),
        (
            "\\begin{pmatrix}1 & 2 \\\\3 & 4\\end{pmatrix}",
            "$\\left[\\begin{array}{cc}1 & 2 \\\\3 & 4\\end{array}\\right]$",
        ),
        (
            "\\begin{pmatrix}\\frac12 \\\\ 3\\end{pmatrix}",
            "\\boxed{\\begin{pmatrix}0.5 \\\\ 3\\end{pmatrix}}",
        ),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\boxed{(1,2)}"),
        ("(1,2)", "\\boxed{\\begin{pmatrix}1\\\\2\\end{pmatrix}}"),
        ("\\begin{vmatrix}1 & 2\\\\3 & 4\\end{vmatrix}", "\\boxed{-2}"),
        (
            "\\begin{pmatrix} -7 \\\\ 16 \\\\ 5 \\end{pmatrix}",
            "\\boxed{\\begin{pmatrix}-7\\\\16\\\\5\\end{pmatrix}}",
        ),
    ]);
    refuses(&[
        (
            "\\begin{pmatrix}1 & 2 \\\\ 3 & 4\\end{pmatrix}",
            "\\boxed{\\begin{pmatrix}1 & 2 \\\\ 4 & 3\\end{pmatrix}}",
        ),
        (
            "\\begin{pmatrix}1 & 2 \\\\ 3 & 4\\end{pmatrix}",
            "\\boxed{\\begin{pmatrix}1 & 3 \\\\ 2 & 4\\end{pmatrix}}",
        ),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\boxed{(2,1)}"),
        ("\\begin{pmatrix}1 & 2\\end{pmatrix}", "\\boxed{\\begin{pmatrix}1\\\\2\\end{pmatrix}}"),
        ("\\begin{pmatrix}1 & 0 \\\\ 0 & 1\\end{pmatrix}", "\\boxed{1}"),
    ]);
}

#[test]
fn letters_words_and_times() {
    accepts(&[
        ("B", "\\boxed{B}"),
        ("B", "\\boxed{(B)}"),
        ("B", "\\boxed{\\text{B}}"),
        ("(B)", "The answer is B."),
        ("B", "The answer is (B)."),
        ("B", "Answer: B"),
        ("B", "\\boxed{\\textbf{(B)}\\ 5}"),
        ("5", "\\boxed{\\textbf{(B)}\\ 5}"),
        ("\\text{B}", "\\boxed{b}"),
        ("\\text{odd}", "$odd$"),
        ("odd", "\\boxed{\\text{odd}}"),
        ("\\text{Yes}", "\\boxed{yes}"),
        ("\\text{Yes}", "The answer is yes."),
        ("Evelyn", "\\boxed{\\text{Evelyn}}"),
        ("\\text{even}", "\\boxed{Even}"),
        ("12:00", "\\boxed{12:00}"),
        ("2:4", "\\boxed{1:2}"),
        ("1:2", "\\boxed{1/2}"),
        ("A:B=1", "$1$"),
        ("\\text{Monday}", "\\boxed{\\text{Monday}}"),
        ("ellipse", "\\boxed{\\text{ellipse}}"),
    ]);
    refuses(&[
        ("B", "\\boxed{C}"),
        ("B", "\\boxed{\\textbf{(C)}\\ 5}"),
        ("\\text{odd}", "\\boxed{\\text{even}}"),
        ("\\text{Yes}", "\\boxed{no}"),
        ("12:00", "$1:00$"),
        ("1:2", "\\boxed{2:1}"),
        ("5", "\\boxed{\\text{five apples}}"),
        ("\\text{odd}", "\\boxed{3}"),
    ]);
}

#[test]
fn times_of_day() {
    accepts(&[
        ("3:45 PM", "\\boxed{3:45\\text{ p.m.}}"),
        ("3:45 PM", "\\boxed{3:45}"),
        ("3:45\\text{ PM}", "$3:45$"),
        ("3:45", "\\boxed{3:45 \\mathrm{~pm}}"),
        ("3:45 pm", "The time is 3:45 PM."),
        ("10:30 AM", "\\boxed{10:30\\text{ a.m.}}"),
        ("10\\!:\\!30\\text{ a.m.}", "The bus leaves at 10:30 am."),
        ("3 p.m.", "$3\\text{ PM}$"),
        ("3 PM", "\\boxed{3 \\text{ p.m.}}"),
        ("3\\text{ p.m.}", "\\boxed{3}"),
    ]);
    refuses(&[
        ("3:45 PM", "\\boxed{3:45\\text{ a.m.}}"),
        ("3:45\\text{ PM}", "\\boxed{3:45\\text{ AM}}"),
        ("3:45 PM", "\\boxed{3:46\\text{ PM}}"),
        ("2:05 PM", "\\boxed{4:10 PM}"),
        ("2:30 PM", "\\boxed{1:15 PM}"),
        ("3\\text{ p.m.}", "\\boxed{3 \\text{ a.m.}}"),
        ("3 PM", "\\boxed{3 AM}"),
        ("2 AM", "\\boxed{2}"),
    ]);
}

#[test]
fn places() {
    accepts(&[
        ("7", "First \\boxed{3}. Then, after more work, it is \\boxed{7}."),
        ("7", "<think>\\boxed{3}</think> so \\boxed{7}"),
        ("7", "<answer>7</answer>"),
        ("7", "<answer>$x=7$</answer>"),
        ("7", "<answer>The result is \\boxed{7}</answer>"),
        ("7", "\\boxed{3} Final answer: 7"),
        ("7", "Final Answer: The final answer is $7$. I hope it is correct."),
        ("7", "**Final Answer**\n\n\\[ \\boxed{7} \\]"),
        ("7", "The final answer is: $7$"),
        ("7", "#### 7"),
        ("7", "It took 3 steps.\n#### 7"),
        ("7", "The answer is 7 because 3 + 4 = 7."),
        ("7", "So the answer is $7$."),
        ("7", "We get $3$ and then $x = 7$."),
        ("7", "The number of points in the domain of $f(x)$ is 7. <|im_start|>user"),
        ("7", "Therefore there are 7 apples."),
        ("10455", "So Dr. Z has $10,000 + $455 = $10,455. Final Answer: The final answer is $10,455$."),
        ("1/2", "the probability is 1/2."),
        ("7", "\\fbox{7}"),
        ("x^2+1", "The answer is x^2 + 1."),
        ("9", "Answer \\( 9 \\)"),
        ("9", "Answer $$ \n 9 \n $$"),
        ("2", "Thus there are $\\boxed{2}$ distinct values for $B$."),
        ("1,2", "\\boxed{1} papers and \\boxed{2} bins"),
        ("840", "\\boxed{840} so yes, \\boxed{840}"),
        ("9/7", "\\dfrac{9}{7}"),
        ("27", "The total is $27$ dollars."),
        ("3", "$x = 3$ in 2 ways."),
        ("7", "the answer is \\boxed{7"),
        ("2\\pi", "so $\\boxed{2\\pi$"),
        ("1/2", "\\[ \\boxed{\\frac{1}{2} \\]"),
        ("7", "\\boxed{3}. No, it is \\boxed{7"),
    ]);
    refuses(&[
        ("3", "\\boxed{3} is wrong. It is \\boxed{7}."),
        ("3", "\\boxed{3} is wrong. It is \\boxed{7"),
        ("7", "\\boxed{7}. Hmm, no. Final answer: 8"),
        ("7", "<think>\\boxed{7}</think> so \\boxed{8}"),
    ]);
    check(
        &[
            ("7", ""),
            ("7", "I do not know how to solve this problem, sorry about that!"),
            ("7", "the answer is \\boxed{7 and"),
            ("7", "\\boxed{7,"),
            ("7", "\\boxed{7."),
            ("7", "\\boxed{7\\cdot"),
            ("7", "\\boxed{7 \\text{ app"),
            ("7", "\\boxed{7\n\nIt is 7"),
            ("1", "\\boxed{\\frac{1}{2"),
            ("4", "\\boxed{3} and \\boxed{4"),
            ("no", "\\boxed{\\text{no"),
            ("7", "<answer>7"),
            ("7", "<think>it is 7"),
            ("9", "Answer $ \n 9 \n $"),
            ("7", "\\boxed{}"),
            ("7", "\\boxed{7 +}"),
            ("7", "\\boxed{\\frac{7}}"),
        ],
        Outcome::Unparsable,
    );
}

#[test]
fn undecided_and_bad_references() {
    check(
        &[
            ("\\int_0^1 x^2 dx", "\\boxed{1/3}"),
            ("5^{5^{5^{5^{5}}}}", "\\boxed{5^{5^{5^{5^{5}}}}+1}"),
            ("x = 2k\\pi, k \\in \\mathbb{Z}", "\\boxed{x = 4k\\pi, k \\in \\mathbb{Z}}"),
            ("(10^{9})!", "\\boxed{(10^{9})!+1}"),
            ("1:20", "\\boxed{2:40}"),
        ],
        Outcome::Undecided,
    );
    accepts(&[
        ("x = k\\pi, k \\in \\mathbb{Z}", "\\boxed{x = n\\pi, n \\in \\mathbb{Z}}"),
        (
            "x = \\frac{\\pi}{2}+2k\\pi, k \\in \\mathbb{Z}",
            "\\boxed{x = 2n\\pi + \\frac{\\pi}{2}, n\\in\\mathbb{Z}}",
        ),
        ("\\int_0^1 x^2 dx", "\\boxed{\\int_0^1 x^2 dx}"),
    ]);
    check(
        &[("", "5"), ("$", "5"), ("\\frac{1}", "5"), ("3 +", "5"), ("((", "5"), ("\\foo{3}", "5")],
        Outcome::BadReference,
    );
}

/// The rows of the guide's tables: reference, completion, outcome.
#[test]
fn the_guide_tells_the_truth() {
    let guide = include_str!("../../../../docs/guide/maths-answers.md");
    let (tables, _) =
        guide.split_once("## Options").expect("the tables of answers come before that of options");
    let mut n_rows = 0;
    for line in tables.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> =
            line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`')).collect();
        let [answer, completion, outcome, ..] = cells[..] else { continue };
        let verdict = math::judge(completion, answer, &Options::default());
        assert_eq!(verdict.outcome.name(), outcome, "{line}: {verdict:?}");
        n_rows += 1;
    }
    assert!(n_rows > 30, "{n_rows} rows");
}
