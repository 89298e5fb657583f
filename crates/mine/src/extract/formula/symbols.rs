//! Characters of mathematics and their commands in LaTeX.

/// Characters in order, each with what LaTeX writes for it. An empty string is nothing: an invisible operator.
#[rustfmt::skip]
const SYMBOLS: &[(char, &str)] = &[
    ('\u{a0}', " "), ('¢', "\\text{¢}"), ('£', "\\pounds"), ('¥', "\\yen"), ('§', "\\S"), ('¬', "\\neg"), ('¯', "\\bar{}"),
    ('°', "^{\\circ}"), ('±', "\\pm"), ('·', "\\cdot"), ('Å', "\\text{Å}"), ('×', "\\times"), ('÷', "\\div"),
    ('ı', "\\imath"), ('ȷ', "\\jmath"), ('Γ', "\\Gamma"), ('Δ', "\\Delta"), ('Θ', "\\Theta"), ('Λ', "\\Lambda"),
    ('Ξ', "\\Xi"), ('Π', "\\Pi"), ('Σ', "\\Sigma"), ('Υ', "\\Upsilon"), ('Φ', "\\Phi"), ('Ψ', "\\Psi"), ('Ω', "\\Omega"),
    ('α', "\\alpha"), ('β', "\\beta"), ('γ', "\\gamma"), ('δ', "\\delta"), ('ε', "\\varepsilon"), ('ζ', "\\zeta"),
    ('η', "\\eta"), ('θ', "\\theta"), ('ι', "\\iota"), ('κ', "\\kappa"), ('λ', "\\lambda"), ('μ', "\\mu"), ('ν', "\\nu"),
    ('ξ', "\\xi"), ('ο', "o"), ('π', "\\pi"), ('ρ', "\\rho"), ('ς', "\\varsigma"), ('σ', "\\sigma"), ('τ', "\\tau"),
    ('υ', "\\upsilon"), ('φ', "\\varphi"), ('χ', "\\chi"), ('ψ', "\\psi"), ('ω', "\\omega"), ('ϑ', "\\vartheta"),
    ('ϕ', "\\phi"), ('ϖ', "\\varpi"), ('ϰ', "\\varkappa"), ('ϱ', "\\varrho"), ('ϵ', "\\epsilon"), ('\u{2009}', "\\,"),
    ('\u{200a}', ""), ('\u{200b}', ""), ('\u{200c}', ""), ('\u{200d}', ""), ('‐', "-"), ('–', "-"), ('—', "-"), ('―', "-"),
    ('‖', "\\|"), ('†', "\\dagger"), ('‡', "\\ddagger"), ('•', "\\bullet"), ('…', "\\ldots"), ('′', "'"), ('″', "''"),
    ('‴', "'''"), ('⁄', "/"), ('\u{205f}', "\\:"), ('\u{2060}', ""), ('\u{2061}', ""), ('\u{2062}', ""), ('\u{2063}', ""),
    ('\u{2064}', ""), ('ℂ', "\\mathbb{C}"), ('ℊ', "\\mathcal{g}"), ('ℋ', "\\mathcal{H}"), ('ℌ', "\\mathfrak{H}"),
    ('ℍ', "\\mathbb{H}"), ('ℎ', "h"), ('ℏ', "\\hbar"), ('ℐ', "\\mathcal{I}"), ('ℑ', "\\Im"), ('ℒ', "\\mathcal{L}"),
    ('ℓ', "\\ell"), ('ℕ', "\\mathbb{N}"), ('℘', "\\wp"), ('ℙ', "\\mathbb{P}"), ('ℚ', "\\mathbb{Q}"), ('ℛ', "\\mathcal{R}"),
    ('ℜ', "\\Re"), ('ℝ', "\\mathbb{R}"), ('ℤ', "\\mathbb{Z}"), ('℧', "\\mho"), ('ℨ', "\\mathfrak{Z}"),
    ('ℬ', "\\mathcal{B}"), ('ℭ', "\\mathfrak{C}"), ('ℯ', "e"), ('ℰ', "\\mathcal{E}"), ('ℱ', "\\mathcal{F}"),
    ('ℳ', "\\mathcal{M}"), ('ℴ', "o"), ('ℵ', "\\aleph"), ('ℶ', "\\beth"), ('ℷ', "\\gimel"), ('ℸ', "\\daleth"), ('ⅅ', "D"),
    ('ⅆ', "d"), ('ⅇ', "e"), ('ⅈ', "i"), ('←', "\\leftarrow"), ('↑', "\\uparrow"), ('→', "\\rightarrow"),
    ('↓', "\\downarrow"), ('↔', "\\leftrightarrow"), ('↕', "\\updownarrow"), ('↖', "\\nwarrow"), ('↗', "\\nearrow"),
    ('↘', "\\searrow"), ('↙', "\\swarrow"), ('↛', "\\nrightarrow"), ('↝', "\\leadsto"), ('↠', "\\twoheadrightarrow"),
    ('↣', "\\rightarrowtail"), ('↦', "\\mapsto"), ('↩', "\\hookleftarrow"), ('↪', "\\hookrightarrow"),
    ('↼', "\\leftharpoonup"), ('⇀', "\\rightharpoonup"), ('⇄', "\\rightleftarrows"), ('⇋', "\\leftrightharpoons"),
    ('⇌', "\\rightleftharpoons"), ('⇐', "\\Leftarrow"), ('⇑', "\\Uparrow"), ('⇒', "\\Rightarrow"), ('⇓', "\\Downarrow"),
    ('⇔', "\\Leftrightarrow"), ('⇝', "\\rightsquigarrow"), ('∀', "\\forall"), ('∁', "\\complement"), ('∂', "\\partial"),
    ('∃', "\\exists"), ('∄', "\\nexists"), ('∅', "\\emptyset"), ('∆', "\\Delta"), ('∇', "\\nabla"), ('∈', "\\in"),
    ('∉', "\\notin"), ('∊', "\\in"), ('∋', "\\ni"), ('∌', "\\not\\ni"), ('∎', "\\blacksquare"), ('∏', "\\prod"),
    ('∐', "\\coprod"), ('∑', "\\sum"), ('−', "-"), ('∓', "\\mp"), ('∔', "\\dotplus"), ('∕', "/"), ('∖', "\\setminus"),
    ('∗', "*"), ('∘', "\\circ"), ('∙', "\\bullet"), ('√', "\\sqrt{}"), ('∝', "\\propto"), ('∞', "\\infty"),
    ('∠', "\\angle"), ('∡', "\\measuredangle"), ('∣', "\\mid"), ('∤', "\\nmid"), ('∥', "\\parallel"), ('∦', "\\nparallel"),
    ('∧', "\\wedge"), ('∨', "\\vee"), ('∩', "\\cap"), ('∪', "\\cup"), ('∫', "\\int"), ('∬', "\\iint"), ('∭', "\\iiint"),
    ('∮', "\\oint"), ('∴', "\\therefore"), ('∵', "\\because"), ('∶', ":"), ('∷', "::"), ('∼', "\\sim"), ('∽', "\\backsim"),
    ('≀', "\\wr"), ('≁', "\\nsim"), ('≂', "\\eqsim"), ('≃', "\\simeq"), ('≄', "\\not\\simeq"), ('≅', "\\cong"),
    ('≇', "\\ncong"), ('≈', "\\approx"), ('≉', "\\not\\approx"), ('≊', "\\approxeq"), ('≍', "\\asymp"), ('≎', "\\Bumpeq"),
    ('≐', "\\doteq"), ('≔', ":="), ('≕', "=:"), ('≙', "\\stackrel{\\wedge}{=}"), ('≜', "\\triangleq"),
    ('≝', "\\stackrel{\\text{def}}{=}"), ('≟', "\\stackrel{?}{=}"), ('≠', "\\neq"), ('≡', "\\equiv"), ('≢', "\\not\\equiv"),
    ('≤', "\\leq"), ('≥', "\\geq"), ('≦', "\\leqq"), ('≧', "\\geqq"), ('≨', "\\lneqq"), ('≩', "\\gneqq"), ('≪', "\\ll"),
    ('≫', "\\gg"), ('≮', "\\nless"), ('≯', "\\ngtr"), ('≰', "\\nleq"), ('≱', "\\ngeq"), ('≲', "\\lesssim"),
    ('≳', "\\gtrsim"), ('≶', "\\lessgtr"), ('≺', "\\prec"), ('≻', "\\succ"), ('≼', "\\preceq"), ('≽', "\\succeq"),
    ('⊂', "\\subset"), ('⊃', "\\supset"), ('⊄', "\\not\\subset"), ('⊅', "\\not\\supset"), ('⊆', "\\subseteq"),
    ('⊇', "\\supseteq"), ('⊈', "\\nsubseteq"), ('⊉', "\\nsupseteq"), ('⊊', "\\subsetneq"), ('⊋', "\\supsetneq"),
    ('⊎', "\\uplus"), ('⊏', "\\sqsubset"), ('⊐', "\\sqsupset"), ('⊑', "\\sqsubseteq"), ('⊒', "\\sqsupseteq"),
    ('⊓', "\\sqcap"), ('⊔', "\\sqcup"), ('⊕', "\\oplus"), ('⊖', "\\ominus"), ('⊗', "\\otimes"), ('⊘', "\\oslash"),
    ('⊙', "\\odot"), ('⊞', "\\boxplus"), ('⊠', "\\boxtimes"), ('⊢', "\\vdash"), ('⊣', "\\dashv"), ('⊤', "\\top"),
    ('⊥', "\\perp"), ('⊧', "\\models"), ('⊨', "\\models"), ('⊩', "\\Vdash"), ('⊬', "\\nvdash"), ('⊭', "\\nvDash"),
    ('⊲', "\\vartriangleleft"), ('⊳', "\\vartriangleright"), ('⊴', "\\trianglelefteq"), ('⊵', "\\trianglerighteq"),
    ('⊸', "\\multimap"), ('⊻', "\\veebar"), ('⋀', "\\bigwedge"), ('⋁', "\\bigvee"), ('⋂', "\\bigcap"), ('⋃', "\\bigcup"),
    ('⋄', "\\diamond"), ('⋅', "\\cdot"), ('⋆', "\\star"), ('⋈', "\\bowtie"), ('⋉', "\\ltimes"), ('⋊', "\\rtimes"),
    ('⋮', "\\vdots"), ('⋯', "\\cdots"), ('⋰', "\\iddots"), ('⋱', "\\ddots"), ('⌈', "\\lceil"), ('⌉', "\\rceil"),
    ('⌊', "\\lfloor"), ('⌋', "\\rfloor"), ('⌢', "\\frown"), ('⌣', "\\smile"), ('■', "\\blacksquare"), ('□', "\\square"),
    ('▪', "\\blacksquare"), ('▫', "\\square"), ('△', "\\triangle"), ('▵', "\\triangle"), ('▹', "\\triangleright"),
    ('▽', "\\triangledown"), ('◃', "\\triangleleft"), ('◊', "\\lozenge"), ('○', "\\bigcirc"), ('◻', "\\square"),
    ('★', "\\bigstar"), ('♠', "\\spadesuit"), ('♡', "\\heartsuit"), ('♢', "\\diamondsuit"), ('♣', "\\clubsuit"),
    ('♭', "\\flat"), ('♮', "\\natural"), ('♯', "\\sharp"), ('✓', "\\checkmark"), ('⟂', "\\perp"), ('⟦', "[\\!["),
    ('⟧', "]\\!]"), ('⟨', "\\langle"), ('⟩', "\\rangle"), ('⟵', "\\longleftarrow"), ('⟶', "\\longrightarrow"),
    ('⟷', "\\longleftrightarrow"), ('⟸', "\\Longleftarrow"), ('⟹', "\\Longrightarrow"), ('⟺', "\\Longleftrightarrow"),
    ('⟼', "\\longmapsto"), ('⦁', "\\bullet"), ('⨀', "\\bigodot"), ('⨁', "\\bigoplus"), ('⨂', "\\bigotimes"),
    ('⨄', "\\biguplus"), ('⨆', "\\bigsqcup"), ('⨯', "\\times"), ('⩽', "\\leqslant"), ('⩾', "\\geqslant"),
    ('⪅', "\\lessapprox"), ('⪆', "\\gtrapprox"), ('⪯', "\\preceq"), ('⪰', "\\succeq"), ('⫅', "\\subseteqq"),
    ('⫆', "\\supseteqq"), ('〈', "\\langle"), ('〉', "\\rangle"),
];

/// Names that LaTeX has commands for.
const FUNCTIONS: &[&str] = &[
    "Pr", "arccos", "arcsin", "arctan", "arg", "cos", "cosh", "cot", "coth", "csc", "deg", "det", "dim",
    "exp", "gcd", "hom", "inf", "ker", "lg", "lim", "liminf", "limsup", "ln", "log", "max", "min", "sec",
    "sin", "sinh", "sup", "tan", "tanh",
];

/// What LaTeX writes for a character that it does not take as it is.
pub(crate) fn symbol(character: char) -> Option<&'static str> {
    SYMBOLS.binary_search_by_key(&character, |(known, _)| *known).ok().map(|at| SYMBOLS[at].1)
}

/// Whether `\name` is a command of LaTeX that prints the name.
pub(crate) fn is_function(name: &str) -> bool {
    FUNCTIONS.binary_search(&name).is_ok()
}

/// The letter or digit, and the command for its alphabet, of a character among the mathematical alphanumerics of Unicode.
pub(crate) fn alphanumeric(character: char) -> Option<(char, &'static str)> {
    let code = character as u32;
    match code {
        0x1d400..=0x1d6a3 => {
            const ALPHABETS: [&str; 13] = [
                "\\mathbf",
                "",
                "\\mathbf",
                "\\mathcal",
                "\\mathcal",
                "\\mathfrak",
                "\\mathbb",
                "\\mathfrak",
                "\\mathsf",
                "\\mathsf",
                "\\mathsf",
                "\\mathsf",
                "\\mathtt",
            ];
            let offset = code - 0x1d400;
            let letter = offset % 52;
            let letter = if letter < 26 { b'A' + letter as u8 } else { b'a' + letter as u8 - 26 };
            Some((letter as char, ALPHABETS[(offset / 52) as usize]))
        }
        0x1d6a8..=0x1d7c9 => {
            const GREEK: &str = "ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡϴΣΤΥΦΧΨΩ∇αβγδεζηθικλμνξοπρςστυφχψω∂ϵϑϰϕϱϖ";
            const ALPHABETS: [&str; 5] = ["\\mathbf", "", "\\mathbf", "\\mathsf", "\\mathsf"];
            let offset = code - 0x1d6a8;
            Some((GREEK.chars().nth((offset % 58) as usize)?, ALPHABETS[(offset / 58) as usize]))
        }
        0x1d7ce..=0x1d7ff => {
            const ALPHABETS: [&str; 5] = ["\\mathbf", "\\mathbb", "\\mathsf", "\\mathsf", "\\mathtt"];
            let offset = code - 0x1d7ce;
            Some(((b'0' + (offset % 10) as u8) as char, ALPHABETS[(offset / 10) as usize]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{FUNCTIONS, SYMBOLS, alphanumeric, is_function, symbol};

    #[test]
    fn tables_are_in_order() {
        for pair in SYMBOLS.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} {}", pair[0].0, pair[1].0);
        }
        assert!(FUNCTIONS.is_sorted());
        assert_eq!(symbol('≤'), Some("\\leq"));
        assert!(is_function("sin") && !is_function("sing"));
    }

    #[test]
    fn letters_of_other_alphabets_are_told() {
        assert_eq!(alphanumeric('𝐀'), Some(('A', "\\mathbf")));
        assert_eq!(alphanumeric('𝑥'), Some(('x', "")));
        assert_eq!(alphanumeric('𝛼'), Some(('α', "")));
        assert_eq!(alphanumeric('𝟙'), Some(('1', "\\mathbb")));
        assert_eq!(alphanumeric('𝕂'), Some(('K', "\\mathbb")));
    }
}
