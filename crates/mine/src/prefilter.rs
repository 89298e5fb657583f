//! Whether a page may hold formulas, by a look at its bytes.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

/// What pages with formulas have in their bytes: the programs that typeset them, their markup, the addresses of their images.
const MARKS: &[&str] = &[
    "mathjax",
    "katex",
    "<math",
    "mml:math",
    "math/tex",
    "math/asciimath",
    "asciimath",
    "math-container",
    "mwe-math",
    "application/x-tex",
    "codecogs",
    "latex",
    "mimetex",
    "mathtex",
    "tex.cgi",
    "class=\"tex\"",
    "equation?tex=",
    "\\begin{",
    "\\frac",
    "\\sum",
    "\\int",
    "\\sqrt",
    "\\alpha",
    "\\left",
    "\\leq",
    "\\mathbb",
    "\\cdot",
    "\\(",
    "\\[",
];

/// Whether `html`, in a charset that keeps ASCII, has the marks of formulas. Pages in UTF-16 always may.
pub fn looks_like_maths(html: &[u8]) -> bool {
    static MATCHER: LazyLock<AhoCorasick> = LazyLock::new(|| {
        AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(MARKS)
            .expect("a short list of short patterns")
    });
    html.starts_with(&[0xff, 0xfe]) || html.starts_with(&[0xfe, 0xff]) || MATCHER.is_match(html)
}
