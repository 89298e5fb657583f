//! Formulas of a page as LaTeX: where they are, and which of their copies counts.

pub(crate) mod ascii_math;
pub(crate) mod delimited;
mod images;
mod mathml;
pub(crate) mod setup;
mod source;
mod symbols;
mod tex;

use super::Limits;
use super::dom::{Dom, Id};
use super::tags::Tag;
use delimited::{SHIELD, UNSHIELD, looks_like_tex};
use setup::{Setup, is_math_script};
use source::{last_line, math, script, typeset_source};
use tex::{tidy, without_delimiters};

/// A formula in LaTeX, without delimiters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Formula {
    pub(crate) tex: String,
    /// Whether it stands on a line of its own.
    pub(crate) display: bool,
}

impl Formula {
    /// A formula of what is written, unless nothing is; delimiters that are part of it say whether it is displayed.
    fn new(tex: &str, display: bool) -> Option<Self> {
        let (tex, delimited) = without_delimiters(tex.trim());
        let tex = tex.trim();
        (!tex.is_empty()).then(|| Self { tex: tex.to_owned(), display: delimited.unwrap_or(display) })
    }
}

/// What an element is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A formula, together with all that is inside of the element.
    Formula(Formula),
    /// A copy of a formula that is read elsewhere, for the eye.
    Twin,
    /// Neither.
    Nothing,
}

/// How formulas are written, and how many there were.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) formulas: u32,
    /// Bytes of the longest formula.
    pub(crate) longest: usize,
    /// Bytes that may still be searched for the ends of formulas.
    pub(crate) work: usize,
    /// Bytes at which a formula in running text may begin.
    pub(crate) may_open: Box<[bool; 256]>,
}

impl Output {
    pub(crate) fn new(setup: &Setup, limits: &Limits) -> Self {
        let mut may_open = Box::new([false; 256]);
        for byte in setup.pairs.iter().map(|pair| pair.open.as_bytes()[0]).chain([b'\\', SHIELD as u8]) {
            may_open[byte as usize] = true;
        }
        may_open[b'`' as usize] |= setup.ascii_math;
        Self { formulas: 0, longest: limits.formula, work: limits.steps, may_open }
    }

    /// Writes `$...$`, or `$$...$$` on a line of its own.
    pub(crate) fn write(&mut self, formula: &Formula, text: &mut String) {
        let tex = tidy(&formula.tex);
        if tex.is_empty() || tex.len() > self.longest {
            return;
        }
        self.formulas += 1;
        if formula.display {
            while text.ends_with(' ') {
                text.pop();
            }
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str("$$");
            text.push_str(&tex);
            text.push_str("$$\n");
        } else {
            // Where two formulas meet, `$$` would be between them.
            if text.ends_with('$') {
                text.push(' ');
            }
            text.push('$');
            text.push_str(&tex);
            text.push('$');
        }
    }
}
/// Whether an element is a formula, or shows one that is read elsewhere.
pub(crate) fn find(dom: &Dom<'_>, id: Id, setup: &Setup, limits: &Limits) -> Found {
    let found = |formula: Option<Formula>| formula.map_or(Found::Twin, Found::Formula);
    match dom.tag(id) {
        Tag::Math => found(math(dom, id, limits)),
        Tag::Img => images::formula(dom, id).map_or(Found::Nothing, Found::Formula),
        Tag::Script => {
            let kind = dom.raw_attribute(id, "type").unwrap_or("");
            if is_math_script(kind) { found(script(dom, id, kind, limits)) } else { Found::Twin }
        }
        Tag::MjxContainer => {
            let display = matches!(dom.raw_attribute(id, "display"), Some("true" | "block"));
            found(typeset_source(dom, id, display, limits))
        }
        Tag::MathRenderer | Tag::TexMath => {
            let text = dom.text_within(id, limits.formula);
            let body = text
                .split("\\begin{document}")
                .last()
                .unwrap_or("")
                .split("\\end{document}")
                .next()
                .unwrap_or("");
            let display =
                dom.has_class(id, "js-display-math") || dom.tag(id) == Tag::TexMath && body.contains("$$");
            found(Formula::new(body, display))
        }
        Tag::Text => Found::Nothing,
        _ if dom.attributes(id).is_empty() => Found::Nothing,
        _ => by_attributes(dom, id, setup, limits),
    }
}

/// Whether an element's classes or data say that it is a formula.
fn by_attributes(dom: &Dom<'_>, id: Id, setup: &Setup, limits: &Limits) -> Found {
    for name in [
        "data-tex",
        "data-latex",
        "data-formula",
        "data-katex",
        "data-math",
        "data-equation",
        "data-math-content",
        "data-expr",
    ] {
        if let Some(tex) = dom.attribute(id, name) {
            let tex = tex.trim();
            if !tex.is_empty() && looks_like_tex(without_delimiters(tex).0, true) {
                let display = is_display(dom, id);
                return Formula::new(tex, display).map_or(Found::Nothing, Found::Formula);
            }
        }
    }
    let mut marked = false;
    for class in dom.classes(id) {
        match class {
            "MathJax_Preview" | "MJX_Assistive_MathML_copy" => return Found::Twin,
            "MathJax"
            | "MathJax_Display"
            | "MathJax_SVG"
            | "MathJax_SVG_Display"
            | "MathJax_CHTML"
            | "MathJax_MathML"
            | "MathJax_PHTML"
            | "MathJax_PlainSource"
            | "mjx-chtml"
            | "MJXc-display"
            | "MathJax_FullWidth" => {
                if setup.math_scripts {
                    return Found::Twin;
                }
                return typeset_source(dom, id, class.ends_with("isplay"), limits)
                    .map_or(Found::Nothing, Found::Formula);
            }
            "katex" => {
                let display = dom.has_class(dom.parent(id), "katex-display");
                if let Some(formula) = typeset_source(dom, id, display, limits) {
                    return Found::Formula(formula);
                }
                if let Some(formula) = last_line(dom, id, display, limits) {
                    return Found::Formula(formula);
                }
                marked = true;
            }
            "katex-error" => {
                return Formula::new(&dom.text_within(id, limits.formula), false)
                    .map_or(Found::Nothing, Found::Formula);
            }
            "mwe-math-element" => {
                let source = typeset_source(dom, id, false, limits).or_else(|| {
                    dom.descendants(id)
                        .filter(|&inner| dom.tag(inner) == Tag::Img)
                        .find_map(|image| images::formula(dom, image))
                });
                if let Some(mut formula) = source {
                    let block = |inner: Id| {
                        dom.raw_attribute(inner, "class").is_some_and(|class| class.contains("-display"))
                    };
                    formula.display |= dom.descendants(id).any(block);
                    return Found::Formula(formula);
                }
            }
            _ => marked |= is_formula_class(class),
        }
    }
    if marked { marked_text(dom, id, limits) } else { Found::Nothing }
}

/// Whether a class is one by which pages mark the LaTeX of a formula.
fn is_formula_class(class: &str) -> bool {
    matches!(
        class,
        "math"
            | "tex"
            | "latex"
            | "math-inline"
            | "math-display"
            | "math-block"
            | "inline-math"
            | "display-math"
            | "math-container"
            | "math-tex"
            | "arithmatex"
            | "language-math"
            | "js-render-math"
            | "katex-eq"
            | "katex-inline"
            | "katex-block"
            | "equation"
            | "formula"
            | "tex2jax_process"
            | "mathjax"
            | "mathjax-inline"
            | "mathjax-block"
            | "latex-inline"
            | "latex-display"
            | "nolink"
            | "inline-formula"
            | "display-formula"
            | "mathjax_process"
            | "tex-render"
            | "texmath"
            | "eqn"
            | "math-formula"
            | "ltx_Math"
    )
}

/// An element that holds a formula's LaTeX and nothing else.
fn marked_text(dom: &Dom<'_>, id: Id, limits: &Limits) -> Found {
    // Elements inside, as of a typeset formula, mean that this is no plain source.
    if dom.descendants(id).any(|inner| {
        !matches!(dom.tag(inner), Tag::Text | Tag::Br | Tag::Code | Tag::Wbr | Tag::Em | Tag::Span)
    }) {
        return Found::Nothing;
    }
    if dom.descendants(id).any(|inner| dom.tag(inner) == Tag::Span && !dom.attributes(inner).is_empty()) {
        return Found::Nothing;
    }
    let text = dom.text_within(id, limits.formula);
    let text = text.trim();
    let (inner, delimited) = without_delimiters(text);
    let exact = dom.classes(id).any(|class| {
        matches!(
            class,
            "math"
                | "language-math"
                | "js-render-math"
                | "katex"
                | "katex-eq"
                | "katex-inline"
                | "katex-block"
                | "math-inline"
                | "math-display"
                | "math-block"
        )
    });
    let display = is_display(dom, id);
    match delimited {
        Some(_) => Formula::new(text, display).map_or(Found::Nothing, Found::Formula),
        // Text among which formulas stand has delimiters of its own.
        None if text.contains("\\(") || text.contains("\\[") || text.contains('$') || inner.contains('`') => {
            Found::Nothing
        }
        None if looks_like_tex(inner, exact)
            && (exact || inner.contains('\\') || inner.contains('^') || inner.contains('_')) =>
        {
            Formula::new(inner, display).map_or(Found::Nothing, Found::Formula)
        }
        None => Found::Nothing,
    }
}

/// Whether an element's name, class or attributes set it on a line of its own.
fn is_display(dom: &Dom<'_>, id: Id) -> bool {
    matches!(dom.tag(id), Tag::Div | Tag::P | Tag::Pre | Tag::Center)
        || dom.tag(dom.parent(id)) == Tag::Pre
        || matches!(dom.raw_attribute(id, "display"), Some("block" | "true"))
        || matches!(dom.raw_attribute(id, "data-display"), Some("true" | "block"))
        || dom.classes(id).any(|class| class.contains("display") || class.contains("block"))
}

/// The formula in its line.
pub(crate) fn inline(formula: &Formula) -> Formula {
    Formula { tex: formula.tex.clone(), display: false }
}

/// Text in which delimiters do not count.
pub(crate) fn shielded(text: &str, out: &mut String) {
    out.push(SHIELD);
    out.push_str(text);
    out.push(UNSHIELD);
}
