//! AsciiMath to LaTeX, by the grammar of its page: `S ::= v | (E) | u S | b S S`, `I ::= S_S^S`, `E ::= I E | I/I`.

/// The LaTeX of a formula in AsciiMath.
pub(crate) fn to_latex(source: &str) -> String {
    let mut parser = Parser { rest: source.trim(), depth: 0 };
    let mut out = String::new();
    while !parser.rest.is_empty() {
        let before = parser.rest.len();
        parser.expression(&mut out);
        if parser.rest.len() == before {
            // A bracket that nothing opened.
            let token = parser.token();
            join(&mut out, &token.tex);
        }
    }
    out
}

/// Brackets in brackets that are read as such.
const DEEPEST: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Constant,
    Open,
    Close,
    Unary,
    Binary,
    Infix,
    Text,
    End,
}

struct Token {
    kind: Kind,
    tex: String,
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Kind {
        Parser { rest: self.rest, depth: 0 }.token().kind
    }

    fn expression(&mut self, out: &mut String) {
        loop {
            match self.peek() {
                Kind::End | Kind::Close => return,
                _ => {}
            }
            let left = self.intermediate();
            if self.rest.trim_start().starts_with('/') && !self.rest.trim_start().starts_with("//") {
                self.token();
                let right = self.intermediate();
                join(out, &format!("\\frac{{{}}}{{{}}}", unbracketed(&left), unbracketed(&right)));
            } else {
                join(out, &left);
            }
        }
    }

    /// A simple expression with its scripts.
    fn intermediate(&mut self) -> String {
        let mut tex = self.simple();
        for sign in ['_', '^'] {
            let next = self.rest.trim_start();
            if next.starts_with(sign) && !next.starts_with("__") && !next.starts_with("^^") {
                self.rest = &next[1..];
                let script = self.simple();
                tex.push(sign);
                tex.push('{');
                tex.push_str(unbracketed(&script));
                tex.push('}');
            }
        }
        tex
    }

    fn simple(&mut self) -> String {
        if matches!(self.peek(), Kind::End | Kind::Close) {
            return String::new();
        }
        let token = self.token();
        match token.kind {
            Kind::Open if self.depth < DEEPEST => {
                self.depth += 1;
                let mut inner = String::new();
                self.expression(&mut inner);
                self.depth -= 1;
                let close = if self.peek() == Kind::Close { self.token().tex } else { String::new() };
                matrix(&inner, &token.tex, &close).unwrap_or_else(|| format!("{}{inner}{close}", token.tex))
            }
            Kind::Unary if self.depth < DEEPEST => {
                self.depth += 1;
                let argument = self.simple();
                self.depth -= 1;
                match token.tex.as_str() {
                    "abs" => format!("|{}|", unbracketed(&argument)),
                    "floor" => format!("\\lfloor {}\\rfloor", unbracketed(&argument)),
                    "ceil" => format!("\\lceil {}\\rceil", unbracketed(&argument)),
                    "norm" => format!("\\|{}\\|", unbracketed(&argument)),
                    command => format!("{command}{{{}}}", unbracketed(&argument)),
                }
            }
            Kind::Binary if self.depth < DEEPEST => {
                self.depth += 1;
                let (first, second) = (self.simple(), self.simple());
                self.depth -= 1;
                let (first, second) = (unbracketed(&first), unbracketed(&second));
                if token.tex == "\\sqrt" {
                    format!("\\sqrt[{first}]{{{second}}}")
                } else {
                    format!("{}{{{first}}}{{{second}}}", token.tex)
                }
            }
            Kind::Text => format!("\\text{{{}}}", token.tex),
            _ => token.tex,
        }
    }

    /// The next token: the longest name that is known, a number, or one character.
    fn token(&mut self) -> Token {
        self.rest = self.rest.trim_start();
        let rest = self.rest;
        let Some(first) = rest.chars().next() else { return Token { kind: Kind::End, tex: String::new() } };
        if first == '"' {
            let inner = &rest[1..];
            let end = inner.find('"').unwrap_or(inner.len());
            self.rest = inner.get(end + 1..).unwrap_or("");
            return Token { kind: Kind::Text, tex: inner[..end].to_owned() };
        }
        if let Some(inner) = rest.strip_prefix("text(").or_else(|| rest.strip_prefix("mbox(")) {
            let end = inner.find(')').unwrap_or(inner.len());
            self.rest = inner.get(end + 1..).unwrap_or("");
            return Token { kind: Kind::Text, tex: inner[..end].to_owned() };
        }
        if first.is_ascii_digit() {
            let mut end = rest.bytes().take_while(u8::is_ascii_digit).count();
            if rest[end..].starts_with('.') && rest[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
                end += 1 + rest[end + 1..].bytes().take_while(u8::is_ascii_digit).count();
            }
            self.rest = &rest[end..];
            return Token { kind: Kind::Constant, tex: rest[..end].to_owned() };
        }
        let known =
            TABLE.iter().filter(|(name, ..)| rest.starts_with(name)).max_by_key(|(name, ..)| name.len());
        if let Some(&(name, kind, tex)) = known {
            self.rest = &rest[name.len()..];
            return Token { kind, tex: tex.to_owned() };
        }
        self.rest = &rest[first.len_utf8()..];
        let kind = match first {
            '(' | '[' | '{' => Kind::Open,
            ')' | ']' | '}' => Kind::Close,
            '/' | '^' | '_' => Kind::Infix,
            _ => Kind::Constant,
        };
        let tex = match first {
            '{' | '}' | '%' | '#' | '&' | '$' => format!("\\{first}"),
            _ => first.to_string(),
        };
        Token { kind, tex }
    }
}

/// `[[a, b], [c, d]]` is a matrix.
fn matrix(inner: &str, open: &str, close: &str) -> Option<String> {
    if !matches!(open, "[" | "(" | "\\{" | "|") || !inner.starts_with(['[', '(']) {
        return None;
    }
    let mut rows = Vec::new();
    let mut rest = inner;
    loop {
        let closer = if rest.starts_with('[') {
            ']'
        } else if rest.starts_with('(') {
            ')'
        } else {
            return None;
        };
        let mut depth = 0_i32;
        let mut cells = vec![String::new()];
        let mut end = None;
        for (at, c) in rest.char_indices() {
            match c {
                '[' | '(' | '{' => depth += 1,
                ']' | ')' | '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && c == closer {
                end = Some(at + 1);
                break;
            }
            if depth == 1 && c == ',' {
                cells.push(String::new());
            } else if at > 0
                && let Some(cell) = cells.last_mut()
            {
                cell.push(c);
            }
        }
        rows.push(cells.iter().map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
        rest = rest[end?..].trim_start();
        match rest.strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None if rest.is_empty() => break,
            None => return None,
        }
    }
    let width = rows[0].len();
    if rows.len() < 2 && width < 2 || rows.iter().any(|row| row.len() != width) || rows.len() < 2 {
        return None;
    }
    let name = match (open, close) {
        ("[", "]") => "bmatrix",
        ("(", ")") => "pmatrix",
        ("\\{", "") => "cases",
        ("|", "|") => "vmatrix",
        _ => return None,
    };
    let rows: Vec<String> = rows.iter().map(|row| row.join(" & ")).collect();
    Some(format!("\\begin{{{name}}}{}\\end{{{name}}}", rows.join(" \\\\ ")))
}

/// Without the brackets around all of it, which only grouped.
fn unbracketed(tex: &str) -> &str {
    for (open, close) in [("(", ")"), ("[", "]"), ("\\{", "\\}")] {
        if let Some(inner) = tex.strip_prefix(open).and_then(|tex| tex.strip_suffix(close)) {
            let mut depth = 0_i32;
            let balanced = inner.chars().all(|c| {
                depth += i32::from(matches!(c, '(' | '[' | '{')) - i32::from(matches!(c, ')' | ']' | '}'));
                depth >= 0
            });
            if balanced {
                return inner;
            }
        }
    }
    tex
}

fn join(out: &mut String, tex: &str) {
    let command = out.len() - out.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len();
    if command > 0
        && out[..out.len() - command].ends_with('\\')
        && tex.starts_with(|c: char| c.is_ascii_alphabetic())
    {
        out.push(' ');
    }
    out.push_str(tex);
}

use Kind::{Binary as B, Close, Constant as C, Open, Unary as U};

#[rustfmt::skip]
const TABLE: &[(&str, Kind, &str)] = &[
    ("alpha", C, "\\alpha"), ("beta", C, "\\beta"), ("chi", C, "\\chi"), ("delta", C, "\\delta"), ("Delta", C, "\\Delta"), ("epsi", C, "\\epsilon"),
    ("epsilon", C, "\\epsilon"), ("varepsilon", C, "\\varepsilon"), ("eta", C, "\\eta"), ("gamma", C, "\\gamma"), ("Gamma", C, "\\Gamma"),
    ("iota", C, "\\iota"), ("kappa", C, "\\kappa"), ("lambda", C, "\\lambda"), ("Lambda", C, "\\Lambda"), ("lamda", C, "\\lambda"), ("mu", C, "\\mu"),
    ("nu", C, "\\nu"), ("omega", C, "\\omega"), ("Omega", C, "\\Omega"), ("phi", C, "\\phi"), ("varphi", C, "\\varphi"), ("Phi", C, "\\Phi"),
    ("pi", C, "\\pi"), ("Pi", C, "\\Pi"), ("psi", C, "\\psi"), ("Psi", C, "\\Psi"), ("rho", C, "\\rho"), ("sigma", C, "\\sigma"), ("Sigma", C, "\\Sigma"),
    ("tau", C, "\\tau"), ("theta", C, "\\theta"), ("vartheta", C, "\\vartheta"), ("Theta", C, "\\Theta"), ("upsilon", C, "\\upsilon"), ("xi", C, "\\xi"),
    ("Xi", C, "\\Xi"), ("zeta", C, "\\zeta"), ("*", C, "\\cdot"), ("**", C, "\\ast"), ("***", C, "\\star"), ("//", C, "/"), ("\\\\", C, "\\backslash"),
    ("xx", C, "\\times"), ("times", C, "\\times"), ("-:", C, "\\div"), ("@", C, "\\circ"), ("o+", C, "\\oplus"), ("ox", C, "\\otimes"), ("o.", C, "\\odot"),
    ("sum", C, "\\sum"), ("prod", C, "\\prod"), ("^^", C, "\\wedge"), ("^^^", C, "\\bigwedge"), ("vv", C, "\\vee"), ("vvv", C, "\\bigvee"),
    ("nn", C, "\\cap"), ("nnn", C, "\\bigcap"), ("uu", C, "\\cup"), ("uuu", C, "\\bigcup"), ("!=", C, "\\neq"), (":=", C, ":="), ("lt", C, "<"),
    ("<=", C, "\\leq"), ("le", C, "\\leq"), (">=", C, "\\geq"), ("ge", C, "\\geq"), ("gt", C, ">"), ("-<", C, "\\prec"), (">-", C, "\\succ"),
    ("in", C, "\\in"), ("!in", C, "\\notin"), ("sub", C, "\\subset"), ("sup", C, "\\supset"), ("sube", C, "\\subseteq"), ("supe", C, "\\supseteq"),
    ("-=", C, "\\equiv"), ("~=", C, "\\cong"), ("~~", C, "\\approx"), ("prop", C, "\\propto"), ("and", C, "\\text{ and }"), ("or", C, "\\text{ or }"),
    ("not", C, "\\neg"), ("=>", C, "\\Rightarrow"), ("if", C, "\\text{ if }"), ("<=>", C, "\\Leftrightarrow"), ("iff", C, "\\Leftrightarrow"),
    ("AA", C, "\\forall"), ("EE", C, "\\exists"), ("_|_", C, "\\perp"), ("TT", C, "\\top"), ("|--", C, "\\vdash"), ("|==", C, "\\models"),
    ("int", C, "\\int"), ("oint", C, "\\oint"), ("del", C, "\\partial"), ("grad", C, "\\nabla"), ("+-", C, "\\pm"), ("O/", C, "\\emptyset"),
    ("oo", C, "\\infty"), ("aleph", C, "\\aleph"), ("...", C, "\\ldots"), (":.", C, "\\therefore"), ("/_", C, "\\angle"), ("\\ ", C, "\\ "),
    ("quad", C, "\\quad "), ("qquad", C, "\\qquad "), ("cdots", C, "\\cdots"), ("ldots", C, "\\ldots"), ("vdots", C, "\\vdots"), ("ddots", C, "\\ddots"), ("diamond", C, "\\diamond"),
    ("square", C, "\\square"), ("CC", C, "\\mathbb{C}"), ("NN", C, "\\mathbb{N}"), ("QQ", C, "\\mathbb{Q}"), ("RR", C, "\\mathbb{R}"), ("ZZ", C, "\\mathbb{Z}"),
    ("lim", C, "\\lim"), ("Lim", C, "\\lim"), ("sin", C, "\\sin"), ("cos", C, "\\cos"), ("tan", C, "\\tan"), ("sinh", C, "\\sinh"), ("cosh", C, "\\cosh"),
    ("tanh", C, "\\tanh"), ("cot", C, "\\cot"), ("sec", C, "\\sec"), ("csc", C, "\\csc"), ("arcsin", C, "\\arcsin"), ("arccos", C, "\\arccos"),
    ("arctan", C, "\\arctan"), ("coth", C, "\\coth"), ("exp", C, "\\exp"), ("log", C, "\\log"), ("ln", C, "\\ln"), ("det", C, "\\det"), ("dim", C, "\\dim"),
    ("mod", C, "\\bmod"), ("gcd", C, "\\gcd"), ("lcm", C, "\\operatorname{lcm}"), ("min", C, "\\min"), ("max", C, "\\max"), ("uarr", C, "\\uparrow"),
    ("darr", C, "\\downarrow"), ("rarr", C, "\\rightarrow"), ("->", C, "\\to"), ("|->", C, "\\mapsto"), ("larr", C, "\\leftarrow"), ("harr", C, "\\leftrightarrow"),
    ("rArr", C, "\\Rightarrow"), ("lArr", C, "\\Leftarrow"), ("hArr", C, "\\Leftrightarrow"), ("dx", C, "dx"), ("dy", C, "dy"), ("dz", C, "dz"), ("dt", C, "dt"),
    ("sqrt", U, "\\sqrt"), ("hat", U, "\\hat"), ("bar", U, "\\overline"), ("overline", U, "\\overline"), ("vec", U, "\\vec"), ("dot", U, "\\dot"),
    ("ddot", U, "\\ddot"), ("tilde", U, "\\tilde"), ("ul", U, "\\underline"), ("underline", U, "\\underline"), ("ubrace", U, "\\underbrace"), ("obrace", U, "\\overbrace"),
    ("bb", U, "\\mathbf"), ("mathbf", U, "\\mathbf"), ("bbb", U, "\\mathbb"), ("mathbb", U, "\\mathbb"), ("cc", U, "\\mathcal"), ("mathcal", U, "\\mathcal"),
    ("fr", U, "\\mathfrak"), ("sf", U, "\\mathsf"), ("tt", U, "\\mathtt"), ("abs", U, "abs"), ("floor", U, "floor"), ("ceil", U, "ceil"), ("norm", U, "norm"), ("cancel", U, "\\cancel"),
    ("frac", B, "\\frac"), ("root", B, "\\sqrt"), ("stackrel", B, "\\stackrel"), ("overset", B, "\\overset"), ("underset", B, "\\underset"), ("binom", B, "\\binom"),
    ("(:", Open, "\\langle "), (":)", Close, "\\rangle "), ("<<", Open, "\\langle "), (">>", Close, "\\rangle "), ("{:", Open, ""), (":}", Close, ""),
    ("|_", Open, "\\lfloor "), ("_|", Close, "\\rfloor "), ("|~", Open, "\\lceil "), ("~|", Close, "\\rceil "),
];

#[cfg(test)]
mod tests {
    use super::to_latex;

    #[test]
    fn expressions_of_every_form() {
        for (source, tex) in [
            ("x^2+y_1^2=r^2", "x^{2}+y_{1}^{2}=r^{2}"),
            ("(a+b)/(c+d)", "\\frac{a+b}{c+d}"),
            ("sum_(i=1)^n i^3=((n(n+1))/2)^2", "\\sum_{i=1}^{n}i^{3}=(\\frac{n(n+1)}{2})^{2}"),
            ("sqrt(x) <= root(3)(x)", "\\sqrt{x}\\leq\\sqrt[3]{x}"),
            ("[[a,b],[c,d]]", "\\begin{bmatrix}a & b \\\\ c & d\\end{bmatrix}"),
            ("abs(x) -> oo", "|x|\\to\\infty"),
            ("AA x in RR \"if\" x != 0", "\\forall x\\in\\mathbb{R}\\text{if}x\\neq0"),
            ("int_0^1 f(x)dx", "\\int_{0}^{1}f(x)dx"),
            ("hat(ab) bar(xy)", "\\hat{ab}\\overline{xy}"),
            ("sin^-1 x", "\\sin^{-}1x"),
            (")(", ")("),
            ("", ""),
        ] {
            assert_eq!(to_latex(source), tex, "{source}");
        }
        assert!(to_latex(&"(".repeat(5000)).len() <= 5000);
    }
}
