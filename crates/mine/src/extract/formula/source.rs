//! The source of a formula that a page typesets: an annotation, an attribute, a script, or MathML alone.

use super::{Formula, ascii_math, mathml, symbols};
use crate::extract::Limits;
use crate::extract::dom::{Dom, Id};
use crate::extract::tags::Tag;

/// The formula of a script whose type says that it is one.
pub(super) fn script(dom: &Dom<'_>, id: Id, kind: &str, limits: &Limits) -> Option<Formula> {
    let text = dom.descendants(id).map(|inner| dom.raw_text(inner)).next().unwrap_or("").trim();
    let text = text.trim_start_matches('%').trim_start();
    let text = text.strip_prefix("<![CDATA[").unwrap_or(text).trim_end();
    let text = text.strip_suffix("]]>").unwrap_or(text).trim_end().trim_end_matches('%');
    let display = kind.contains("display");
    let kind = kind.to_ascii_lowercase();
    if kind.contains("asciimath") {
        return Formula::new(&ascii_math::to_latex(text.get(..limits.formula).unwrap_or(text)), display);
    }
    if kind.contains("mml") || kind.contains("mathml") {
        return mathml_source(text, display, limits);
    }
    Formula::new(text, display)
}

/// The formula of MathML that stands as text in an attribute or a script.
fn mathml_source(source: &str, display: bool, limits: &Limits) -> Option<Formula> {
    let inner = Dom::parse(source, limits);
    let root = (0..inner.nodes.len()).find(|&id| inner.tag(id) == Tag::Math)?;
    math(&inner, root, limits).map(|formula| Formula { display: formula.display || display, ..formula })
}

/// The source that a typeset formula has with it: MathML for readers aloud, or LaTeX in an attribute.
pub(super) fn typeset_source(dom: &Dom<'_>, id: Id, display: bool, limits: &Limits) -> Option<Formula> {
    let mut formula = None;
    for inner in std::iter::once(id).chain(dom.descendants(id)) {
        match dom.tag(inner) {
            Tag::Text => {}
            Tag::Math => {
                formula = math(dom, inner, limits);
                if formula.is_some() {
                    break;
                }
            }
            Tag::MjxMath => {
                if let Some(tex) = dom.attribute(inner, "data-latex") {
                    formula = Formula::new(&tex, display);
                    break;
                }
            }
            Tag::Annotation if is_tex_annotation(dom, inner) => {
                formula = Formula::new(&dom.text_within(inner, limits.formula), display);
                break;
            }
            _ => {
                if let Some(source) = dom.attribute(inner, "data-mathml") {
                    formula = mathml_source(&source, display, limits);
                    break;
                }
            }
        }
    }
    formula.map(|formula| Formula { display: formula.display || display, ..formula })
}

/// The source of a formula by KaTeX whose MathML was made text: its last line is the annotation.
pub(super) fn last_line(dom: &Dom<'_>, id: Id, display: bool, limits: &Limits) -> Option<Formula> {
    let source = dom.descendants(id).find(|&inner| dom.has_class(inner, "katex-mathml"))?;
    let text = dom.text_within(source, limits.formula);
    Formula::new(text.trim().lines().last()?, display)
}

fn is_tex_annotation(dom: &Dom<'_>, id: Id) -> bool {
    dom.raw_attribute(id, "encoding").is_some_and(|encoding| {
        let encoding = encoding.to_ascii_lowercase();
        encoding.contains("tex") && !encoding.starts_with("text/")
            || encoding == "text/x-tex"
            || encoding == "text/latex"
    })
}

/// The formula of an element `math`: its annotation in TeX, its alternative text, or what its elements say.
pub(super) fn math(dom: &Dom<'_>, id: Id, limits: &Limits) -> Option<Formula> {
    let display = matches!(dom.raw_attribute(id, "display"), Some("block"))
        || dom.raw_attribute(id, "mode") == Some("display");
    if let Some(annotation) =
        dom.descendants(id).find(|&inner| dom.tag(inner) == Tag::Annotation && is_tex_annotation(dom, inner))
        && let Some(formula) = Formula::new(&dom.text_within(annotation, limits.formula), display)
    {
        return Some(Formula { display, ..formula });
    }
    for name in ["data-latex", "alttext", "tex", "latex"] {
        if let Some(tex) = dom.attribute(id, name)
            && !tex.trim().is_empty()
            && tex.len() <= limits.formula
            && !is_spoken(&tex)
        {
            return Formula::new(&tex, display).map(|formula| Formula { display, ..formula });
        }
    }
    Formula::new(&mathml::to_latex(dom, id, limits.formula), display)
}

/// Whether an alternative text is words for reading aloud: "x squared plus y".
fn is_spoken(text: &str) -> bool {
    if text.contains(['\\', '^', '_', '{']) {
        return false;
    }
    text.split_whitespace()
        .filter(|word| {
            word.chars().count() > 2 && word.chars().all(char::is_alphabetic) && !symbols::is_function(word)
        })
        .count()
        > 0
}
