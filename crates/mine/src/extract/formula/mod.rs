//! Formulas of a page as LaTeX: where they are, and which of their copies counts.

pub(crate) mod ascii_math;
pub(crate) mod delimited;
mod images;
mod mathml;
pub(crate) mod setup;
mod symbols;

use super::Limits;
use super::dom::{Dom, Id};
use super::tags::Tag;
use delimited::{SHIELD, UNSHIELD, looks_like_tex};
use setup::{Setup, is_math_script};

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

/// LaTeX on one line, without comments and the marks that pages put around it.
fn tidy(tex: &str) -> String {
    let mut lines = String::with_capacity(tex.len());
    for line in tex.split('\n') {
        let mut end = line.len();
        for (at, _) in line.match_indices('%') {
            if !line[..at].ends_with('\\') {
                // A comment ends with its line; a formula that came on one line has none.
                if tex.contains('\n') {
                    end = at;
                }
                break;
            }
        }
        for word in line[..end].split_whitespace() {
            if !lines.is_empty() {
                lines.push(' ');
            }
            lines.push_str(word);
        }
    }
    lines.retain(|c| !c.is_control());
    let tex = lines.trim();
    // `\` at the end of what was trimmed is a blank that was escaped.
    let tex =
        if tex.ends_with('\\') && !tex.ends_with("\\\\") { tex[..tex.len() - 1].trim_end() } else { tex };
    let tex = in_display_style(tex).unwrap_or(tex);
    if lone_dollar(tex) { String::new() } else { tex.to_owned() }
}

/// What is inside of `{\\displaystyle ...}`, as encyclopaedias write around every formula.
fn in_display_style(tex: &str) -> Option<&str> {
    let inner = tex.strip_prefix("{\\displaystyle")?.strip_suffix('}')?;
    let mut depth = 0_usize;
    let mut escaped = false;
    for byte in inner.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            // The brace at the beginning ends before the end.
            b'}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    (depth == 0 && inner.starts_with([' ', '{', '\\'])).then_some(inner.trim())
}

/// Whether a dollar in the formula would end it: one outside of braces that is not escaped.
fn lone_dollar(tex: &str) -> bool {
    let mut depth = 0_usize;
    let mut escaped = false;
    for byte in tex.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b'$' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// `tex` without delimiters around all of it, and whether these display it.
fn without_delimiters(tex: &str) -> (&str, Option<bool>) {
    for (open, close, display) in [
        ("$$", "$$", true),
        ("\\[", "\\]", true),
        ("\\(", "\\)", false),
        ("$", "$", false),
        ("\\begin{equation}", "\\end{equation}", true),
        ("\\begin{equation*}", "\\end{equation*}", true),
        ("\\begin{displaymath}", "\\end{displaymath}", true),
        ("\\begin{math}", "\\end{math}", false),
    ] {
        if let Some(inner) = tex.strip_prefix(open).and_then(|tex| tex.strip_suffix(close)) {
            // `\(a\) and \(b\)` is no formula as a whole.
            if !inner.contains(close) {
                return (inner, Some(display));
            }
        }
    }
    (tex, None)
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

/// The formula of a script whose type says that it is one.
fn script(dom: &Dom<'_>, id: Id, kind: &str, limits: &Limits) -> Option<Formula> {
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
fn typeset_source(dom: &Dom<'_>, id: Id, display: bool, limits: &Limits) -> Option<Formula> {
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
fn last_line(dom: &Dom<'_>, id: Id, display: bool, limits: &Limits) -> Option<Formula> {
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
fn math(dom: &Dom<'_>, id: Id, limits: &Limits) -> Option<Formula> {
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
