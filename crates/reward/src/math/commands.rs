//! The commands of LaTeX that answers use, and what each means to the reader.

use super::expr::Function;

/// What a command means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Known {
    /// White space.
    Space,
    /// Size or font: nothing.
    Drop,
    /// Nothing, like its argument.
    DropWithArgument,
    Sign(char),
    Symbol(&'static str),
    Function(Function),
    /// What the parser knows by name.
    Command(&'static str),
    /// Its argument is text.
    Text,
    Begin,
    End,
    Not,
}

const GREEK: [&str; 36] = [
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu",
    "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta",
    "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega", "ell", "hbar",
];

/// The Greek letter called `name`.
pub(crate) fn greek_name(name: &str) -> Option<&'static str> {
    GREEK.into_iter().find(|greek| *greek == name)
}

/// The name of a Greek letter.
pub(crate) fn greek_letter(c: char) -> Option<&'static str> {
    const LETTERS: &str = "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ";
    let at = LETTERS.chars().position(|letter| letter == c);
    match c {
        'ϕ' => Some("phi"),
        'ϵ' => Some("epsilon"),
        'ℓ' => Some("ell"),
        _ => GREEK.get(at?).copied(),
    }
}

/// What `\name` means, if it is known.
pub(crate) fn lookup(name: &str) -> Option<Known> {
    use Known::{Begin, Command, Drop, DropWithArgument, End, Not, Sign, Space, Symbol, Text};
    Some(match name {
        "quad" | "qquad" | "thinspace" | "enspace" | "space" | "newline" | "hfill" | "medspace" => Space,
        "left" | "right" | "big" | "Big" | "bigg" | "Bigg" | "bigl" | "bigr" | "Bigl" | "Bigr" | "biggl"
        | "biggr" | "middle" | "displaystyle" | "textstyle" | "scriptstyle" | "limits" | "nolimits"
        | "mathbf" | "mathit" | "mathcal" | "mathfrak" | "mathscr" | "boldsymbol" | "bm" | "pmb" | "rm"
        | "bf" | "it" | "boxed" | "fbox" | "underline" | "therefore" | "displaylimits" | "large"
        | "Large" | "LARGE" | "huge" | "Huge" | "normalsize" | "small" | "footnotesize" | "scriptsize"
        | "tiny" | "mathnormal" | "mathtt" | "ensuremath" | "nonumber" | "strut" | "scriptscriptstyle"
        | "sf" | "tt" | "sc" | "em" | "unboldmath" | "boldmath" => Drop,
        "hspace" | "vspace" | "phantom" | "label" | "tag" | "color" | "textcolor" | "hphantom" => {
            DropWithArgument
        }
        "le" | "leq" | "leqslant" | "leqq" => Sign('≤'),
        "ge" | "geq" | "geqslant" | "geqq" => Sign('≥'),
        "lt" => Sign('<'),
        "gt" => Sign('>'),
        "ne" | "neq" => Sign('≠'),
        "approx" | "simeq" | "cong" | "sim" | "thickapprox" | "approxeq" | "doteq" => Sign('≈'),
        "equiv" => Sign('≡'),
        "in" => Sign('∈'),
        "notin" => Sign('∉'),
        "implies" | "Rightarrow" | "to" | "rightarrow" | "Longrightarrow" | "iff" | "Leftrightarrow"
        | "longrightarrow" => Sign('⇒'),
        "times" | "cdot" | "ast" | "cdotp" | "bullet" => Sign('*'),
        "div" => Sign('/'),
        "pm" => Sign('±'),
        "mp" => Sign('∓'),
        "cup" | "bigcup" => Sign('∪'),
        "cap" | "bigcap" => Sign('∩'),
        "setminus" | "backslash" | "smallsetminus" => Sign('∖'),
        "circ" | "degree" | "textdegree" => Sign('°'),
        "prime" => Sign('\''),
        "colon" => Sign(':'),
        "mid" | "vert" | "lvert" | "rvert" => Sign('|'),
        "Vert" | "lVert" | "rVert" => Sign('‖'),
        "ldots" | "dots" | "cdots" | "dotsc" | "dotsb" | "dotsm" => Sign('…'),
        "infty" => Sign('∞'),
        "emptyset" | "varnothing" | "O" => Sign('∅'),
        "lfloor" => Sign('⌊'),
        "rfloor" => Sign('⌋'),
        "lceil" => Sign('⌈'),
        "rceil" => Sign('⌉'),
        "langle" => Sign('⟨'),
        "rangle" => Sign('⟩'),
        "lbrace" => Sign('⦃'),
        "rbrace" => Sign('⦄'),
        "lbrack" => Sign('['),
        "rbrack" => Sign(']'),
        "lparen" => Sign('('),
        "rparen" => Sign(')'),
        "land" | "wedge" => Sign('∧'),
        "lor" | "vee" => Sign('∨'),
        "euro" => Sign('€'),
        "pounds" => Sign('£'),
        "yen" => Sign('¥'),
        "angle" | "measuredangle" | "triangle" | "arc" => Sign('∠'),
        "varphi" => Symbol("phi"),
        "varepsilon" => Symbol("epsilon"),
        "vartheta" => Symbol("theta"),
        "varrho" => Symbol("rho"),
        "frac" | "dfrac" | "tfrac" | "cfrac" => Command("frac"),
        "sqrt" => Command("sqrt"),
        "binom" | "dbinom" | "tbinom" => Command("binom"),
        "choose" => Command("choose"),
        "exp" => Command("exp"),
        "mathbb" | "Bbb" => Command("numbers"),
        "bar" | "overline" => Command("bar"),
        "hat" | "widehat" => Command("hat"),
        "tilde" | "widetilde" => Command("tilde"),
        "dot" => Command("dot"),
        "ddot" => Command("ddot"),
        "vec" | "overrightarrow" => Command("vec"),
        "bmod" | "mod" => Command("mod"),
        "pmod" => Command("pmod"),
        "sum" => Command("sum"),
        "prod" => Command("prod"),
        "int" => Command("int"),
        "iint" => Command("iint"),
        "oint" => Command("oint"),
        "lim" => Command("lim"),
        "partial" => Command("partial"),
        "nabla" => Command("nabla"),
        "text" | "mbox" | "textbf" | "textit" | "textrm" | "textsf" | "texttt" | "mathrm" | "mathsf"
        | "operatorname" | "hbox" | "emph" | "mathop" | "textnormal" => Text,
        "begin" => Begin,
        "end" => End,
        "not" => Not,
        _ => match greek_name(name) {
            Some(greek) => Symbol(greek),
            None => Known::Function(Function::named(name)?),
        },
    })
}
