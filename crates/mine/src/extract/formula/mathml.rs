//! Presentation MathML to LaTeX.

use super::symbols::{alphanumeric, is_function, symbol};
use crate::extract::dom::{Dom, Id};
use crate::extract::tags::Tag;

/// Letters of the longest command that is looked for.
const LONGEST_COMMAND: usize = 32;

/// The LaTeX of what is inside of `math`, at most `limit` bytes of it and some; empty where the limit was passed.
pub(crate) fn to_latex(dom: &Dom<'_>, math: Id, limit: usize) -> String {
    let mut writer = Writer { dom, out: String::new(), limit, swallow: None };
    writer.row(math);
    if writer.out.len() > limit { String::new() } else { writer.out.trim().to_owned() }
}

struct Writer<'a> {
    dom: &'a Dom<'a>,
    out: String,
    limit: usize,
    /// The closing fence that an environment before it stands for.
    swallow: Option<&'static str>,
}

impl Writer<'_> {
    /// Writes LaTeX, apart from a command before it.
    fn push(&mut self, tex: &str) {
        if tex.starts_with(|c: char| c.is_ascii_alphabetic()) && ends_with_command(&self.out) {
            self.out.push(' ');
        }
        self.out.push_str(tex);
    }

    /// The elements inside of one.
    fn parts(&self, id: Id) -> Vec<Id> {
        self.dom
            .children(id)
            .filter(|&child| !matches!(self.dom.tag(child), Tag::Text | Tag::Annotation | Tag::AnnotationXml))
            .collect()
    }

    fn row(&mut self, id: Id) {
        for child in self.dom.children(id) {
            if self.out.len() > self.limit {
                return;
            }
            self.node(child);
        }
    }

    /// An argument in braces.
    fn braced(&mut self, id: Option<Id>) {
        self.out.push('{');
        if let Some(id) = id {
            self.node(id);
        }
        while self.out.ends_with(' ') && !self.out.ends_with("\\ ") {
            self.out.pop();
        }
        self.out.push('}');
    }

    /// What a script is put on: in braces unless it is one symbol.
    fn base(&mut self, id: Option<Id>) {
        let Some(id) = id else {
            self.out.push_str("{}");
            return;
        };
        let inner = self.unwrapped(id);
        match self.dom.tag(inner) {
            Tag::Mi | Tag::Mn | Tag::Mo | Tag::Mtext => {
                let text = self.token_text(inner);
                let one = text.chars().count() <= 1 || self.dom.tag(inner) == Tag::Mn || is_function(&text);
                if one && !text.is_empty() { self.node(inner) } else { self.braced(Some(inner)) }
            }
            _ => self.braced(Some(inner)),
        }
    }

    /// The element that a chain of rows with one element each holds.
    fn unwrapped(&self, mut id: Id) -> Id {
        while matches!(self.dom.tag(id), Tag::Mrow | Tag::Mstyle | Tag::Mpadded | Tag::Semantics) {
            let mut parts = self.dom.children(id).filter(|&child| {
                !matches!(self.dom.tag(child), Tag::Annotation | Tag::AnnotationXml)
                    && (self.dom.tag(child) != Tag::Text || !self.dom.raw_text(child).trim().is_empty())
            });
            match (parts.next(), parts.next()) {
                (Some(only), None) => id = only,
                _ => break,
            }
        }
        id
    }

    fn token_text(&self, id: Id) -> String {
        let text = self.dom.text_within(id, self.limit);
        text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn node(&mut self, id: Id) {
        match self.dom.tag(id) {
            Tag::Text => {
                // Text that stands where an element should.
                let text = self.dom.text(id);
                let text = text.trim();
                if !text.is_empty() {
                    self.symbols(text);
                }
            }
            Tag::Mi => self.identifier(id),
            Tag::Mn => {
                let text = self.token_text(id).replace(' ', "");
                self.variant(id, &text);
            }
            Tag::Mo => self.operator(id),
            Tag::Mtext | Tag::Ms => self.words(id),
            Tag::Mspace => {
                if self.dom.raw_attribute(id, "linebreak") == Some("newline") {
                    self.out.push_str(" \\\\ ");
                } else if width(self.dom.raw_attribute(id, "width").unwrap_or("")) >= 0.9 {
                    self.out.push_str("\\quad ");
                } else if !self.out.is_empty() {
                    self.out.push(' ');
                }
            }
            Tag::Mfrac => self.fraction(id),
            Tag::Msqrt => {
                self.out.push_str("\\sqrt{");
                self.row(id);
                self.out.push('}');
            }
            Tag::Mroot => {
                let parts = self.parts(id);
                self.out.push_str("\\sqrt[");
                if let Some(&index) = parts.get(1) {
                    self.node(index);
                }
                self.out.push(']');
                self.braced(parts.first().copied());
            }
            Tag::Msup | Tag::Msub | Tag::Msubsup => self.scripts(id),
            Tag::Munder | Tag::Mover | Tag::Munderover => self.limits(id),
            Tag::Mmultiscripts => self.multiscripts(id),
            Tag::Mfenced => self.fenced(id),
            Tag::Menclose => self.enclosed(id),
            Tag::Mtable => self.table(id),
            Tag::Mphantom => {
                self.out.push_str("\\phantom{");
                self.row(id);
                self.out.push('}');
            }
            Tag::Semantics | Tag::Maction => {
                if let Some(&first) = self.parts(id).first() {
                    self.node(first);
                }
            }
            Tag::Annotation
            | Tag::AnnotationXml
            | Tag::Mprescripts
            | Tag::None_
            | Tag::Script
            | Tag::Style => {}
            _ => self.row(id),
        }
    }

    fn identifier(&mut self, id: Id) {
        let text = self.token_text(id);
        if is_function(&text) {
            self.push("\\");
            self.out.push_str(&text);
        } else if text.chars().count() > 1
            && text.chars().all(|c| c.is_alphabetic() || c == ' ')
            && alphanumeric(text.chars().next().unwrap_or(' ')).is_none()
        {
            let bold = self.dom.raw_attribute(id, "mathvariant").is_some_and(|variant| variant != "normal");
            if bold {
                self.variant(id, &text);
            } else {
                self.push(if text.is_ascii() { "\\operatorname{" } else { "\\text{" });
                self.out.push_str(&text);
                self.out.push('}');
            }
        } else {
            self.variant(id, &text);
        }
    }

    /// Symbols in the alphabet that the element asks for.
    fn variant(&mut self, id: Id, text: &str) {
        let command = match self.dom.raw_attribute(id, "mathvariant") {
            Some("bold" | "bold-italic") => "\\mathbf{",
            Some("double-struck") => "\\mathbb{",
            Some("script" | "bold-script" | "-tex-calligraphic" | "-tex-bold-calligraphic") => "\\mathcal{",
            Some("fraktur" | "bold-fraktur") => "\\mathfrak{",
            Some("sans-serif" | "bold-sans-serif" | "sans-serif-italic") => "\\mathsf{",
            Some("monospace") => "\\mathtt{",
            Some("normal") if !text.is_empty() && text.chars().all(|c| c.is_ascii_alphabetic()) => {
                "\\mathrm{"
            }
            _ => return self.symbols(text),
        };
        self.push(command);
        self.symbols(text);
        self.out.push('}');
    }

    fn symbols(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '{' => self.push("\\{"),
                '}' => self.push("\\}"),
                '\\' => self.push("\\backslash"),
                '%' | '#' | '&' | '$' | '_' => {
                    self.out.push('\\');
                    self.out.push(character);
                }
                ' ' => self.out.push(' '),
                _ => {
                    if let Some(tex) = symbol(character) {
                        self.push(tex);
                    } else if let Some((letter, alphabet)) = alphanumeric(character) {
                        if !alphabet.is_empty() {
                            self.push(alphabet);
                            self.out.push('{');
                        }
                        let mut buffer = [0; 4];
                        self.push(symbol(letter).unwrap_or(letter.encode_utf8(&mut buffer)));
                        if !alphabet.is_empty() {
                            self.out.push('}');
                        }
                    } else {
                        let mut buffer = [0; 4];
                        self.push(character.encode_utf8(&mut buffer));
                    }
                }
            }
        }
    }

    fn operator(&mut self, id: Id) {
        let text = self.token_text(id);
        if self.swallow.is_some_and(|fence| fence == text) {
            self.swallow = None;
            return;
        }
        if is_function(&text) {
            self.push("\\");
            self.out.push_str(&text);
        } else if text == "mod" {
            self.push("\\bmod");
        } else if text.chars().count() > 1 && text.chars().all(char::is_alphabetic) {
            self.push("\\operatorname{");
            self.out.push_str(&text);
            self.out.push('}');
        } else {
            self.symbols(&text);
        }
    }

    fn words(&mut self, id: Id) {
        let text = self.dom.text_within(id, self.limit).replace(['\u{a0}', '\n', '\t', '\r'], " ");
        if text.trim().is_empty() {
            if !text.is_empty() {
                self.out.push_str("\\ ");
            }
            return;
        }
        self.push("\\text{");
        for character in text.chars() {
            match character {
                '{' | '}' | '%' | '#' | '&' | '$' | '_' => {
                    self.out.push('\\');
                    self.out.push(character);
                }
                '\\' => self.out.push_str("\\textbackslash "),
                _ => self.out.push(character),
            }
        }
        self.out.push('}');
    }

    fn fraction(&mut self, id: Id) {
        let parts = self.parts(id);
        let (above, below) = (parts.first().copied(), parts.get(1).copied());
        let thickness = self.dom.raw_attribute(id, "linethickness").unwrap_or("").trim();
        let no_line = thickness.starts_with('0')
            && thickness.trim_start_matches(['0', '.']).chars().all(char::is_alphabetic);
        if no_line {
            if self.out.ends_with('(') && self.follows(id, ")") {
                self.drop_fence("(");
                self.swallow = Some(")");
                self.push("\\binom");
            } else {
                self.push("\\genfrac{}{}{0pt}{}");
            }
        } else {
            self.push("\\frac");
        }
        self.braced(above);
        self.braced(below);
    }

    fn drop_fence(&mut self, fence: &str) {
        let length = self.out.len() - fence.len();
        self.out.truncate(length);
    }

    /// Whether the operator `fence` comes next behind an element.
    fn follows(&self, mut id: Id, fence: &str) -> bool {
        loop {
            let parent = self.dom.parent(id);
            let end = self.dom.end(id);
            if end < self.dom.end(parent) {
                let next = (end..self.dom.end(parent)).find(|&next| {
                    matches!(
                        self.dom.tag(next),
                        Tag::Mi | Tag::Mn | Tag::Mo | Tag::Mtext | Tag::Mfrac | Tag::Mtable
                    )
                });
                if let Some(next) = next {
                    return self.dom.tag(next) == Tag::Mo && self.token_text(next) == fence;
                }
            }
            if !matches!(self.dom.tag(parent), Tag::Mrow | Tag::Mstyle | Tag::Mpadded) {
                return false;
            }
            id = parent;
        }
    }

    fn scripts(&mut self, id: Id) {
        let parts = self.parts(id);
        self.base(parts.first().copied());
        let (low, high) = match self.dom.tag(id) {
            Tag::Msub => (parts.get(1), None),
            Tag::Msup => (None, parts.get(1)),
            _ => (parts.get(1), parts.get(2)),
        };
        self.script('_', low.copied());
        self.script('^', high.copied());
    }

    fn script(&mut self, sign: char, id: Option<Id>) {
        let Some(id) = id.filter(|&id| !matches!(self.dom.tag(id), Tag::None_ | Tag::Mprescripts)) else {
            return;
        };
        let start = self.out.len();
        self.out.push(sign);
        self.braced(Some(id));
        let written = &self.out[start + 1..];
        if sign == '^' && written.len() > 2 && written[1..written.len() - 1].chars().all(|c| c == '\'') {
            let primes = written.len() - 2;
            self.out.truncate(start);
            self.out.extend(std::iter::repeat_n('\'', primes));
        } else if written == "{}" {
            self.out.truncate(start);
        } else if sign == '^' && written == "{^{\\circ}}" {
            self.out.truncate(start);
            self.out.push_str("^{\\circ}");
        }
    }

    /// Scripts above and below: limits of an operator, an accent, or something set there.
    fn limits(&mut self, id: Id) {
        let parts = self.parts(id);
        let base = parts.first().copied();
        let (low, high) = match self.dom.tag(id) {
            Tag::Munder => (parts.get(1).copied(), None),
            Tag::Mover => (None, parts.get(1).copied()),
            _ => (parts.get(1).copied(), parts.get(2).copied()),
        };
        if base.is_some_and(|base| self.takes_limits(base)) {
            self.base(base);
            self.script('_', low);
            self.script('^', high);
            return;
        }
        let accent = |writer: &Self, id: Option<Id>, over: bool| {
            let id = writer.unwrapped(id?);
            (writer.dom.tag(id) == Tag::Mo
                || writer.dom.tag(id) == Tag::Mi
                || writer.dom.tag(id) == Tag::Mtext)
                .then(|| writer.token_text(id))
                .and_then(|text| accent(&text, over))
        };
        let (above, below) = (accent(self, high, true), accent(self, low, false));
        match (above, below) {
            (Some(command), None) if low.is_none() => {
                self.push(command);
                self.braced(base);
            }
            (None, Some(command)) if high.is_none() => {
                self.push(command);
                self.braced(base);
            }
            _ => {
                if let Some(high) = high {
                    self.push(above.map_or("\\overset", |command| command));
                    if above.is_none() {
                        self.braced(Some(high));
                    }
                    self.out.push('{');
                }
                if let Some(low) = low {
                    self.push(below.map_or("\\underset", |command| command));
                    if below.is_none() {
                        self.braced(Some(low));
                    }
                    self.braced(base);
                } else if let Some(base) = base {
                    self.node(base);
                }
                if high.is_some() {
                    self.out.push('}');
                }
            }
        }
    }

    /// Whether scripts of the element are limits: a sum's, a limit's, a brace's label.
    fn takes_limits(&self, id: Id) -> bool {
        let id = self.unwrapped(id);
        match self.dom.tag(id) {
            Tag::Mo | Tag::Mi => {
                let text = self.token_text(id);
                let text = text.replace(['\u{2009}', '\u{a0}', ' '], "");
                text.chars()
                    .next()
                    .is_some_and(|c| matches!(c, '∑' | '∏' | '∐' | '∫'..='∳' | '⋀'..='⋃' | '⨀'..='⨆'))
                    || matches!(
                        text.as_str(),
                        "lim"
                            | "max"
                            | "min"
                            | "sup"
                            | "inf"
                            | "limsup"
                            | "liminf"
                            | "det"
                            | "gcd"
                            | "Pr"
                            | "argmax"
                            | "argmin"
                    )
            }
            Tag::Munder | Tag::Mover => {
                let parts = self.parts(id);
                parts.get(1).map(|&script| self.unwrapped(script)).is_some_and(|script| {
                    self.dom.tag(script) == Tag::Mo
                        && matches!(self.token_text(script).as_str(), "⏟" | "⏞" | "︸" | "︷")
                })
            }
            _ => false,
        }
    }

    fn multiscripts(&mut self, id: Id) {
        let parts = self.parts(id);
        let Some((&base, scripts)) = parts.split_first() else { return };
        let before =
            scripts.iter().position(|&part| self.dom.tag(part) == Tag::Mprescripts).unwrap_or(scripts.len());
        if let Some(prescripts) = scripts.get(before + 1..) {
            for pair in prescripts.chunks(2) {
                self.out.push_str("{}");
                self.script('_', pair.first().copied());
                self.script('^', pair.get(1).copied());
            }
        }
        self.base(Some(base));
        for (count, pair) in scripts[..before].chunks(2).enumerate() {
            if count > 0 {
                self.out.push_str("{}");
            }
            self.script('_', pair.first().copied());
            self.script('^', pair.get(1).copied());
        }
    }

    fn fenced(&mut self, id: Id) {
        let attribute = |name: &str, default: &'static str| {
            self.dom.attribute(id, name).unwrap_or(default.into()).into_owned()
        };
        let (open, close, separators) =
            (attribute("open", "("), attribute("close", ")"), attribute("separators", ","));
        let separators: Vec<char> = separators.chars().filter(|c| !c.is_whitespace()).collect();
        self.symbols(open.trim());
        for (at, part) in self.parts(id).into_iter().enumerate() {
            if at > 0
                && let Some(separator) = separators.get(at - 1).or(separators.last())
            {
                self.symbols(&separator.to_string());
            }
            self.node(part);
        }
        self.symbols(close.trim());
    }

    fn enclosed(&mut self, id: Id) {
        let notation = self.dom.raw_attribute(id, "notation").unwrap_or("longdiv");
        let command = match notation {
            "radical" => "\\sqrt{",
            "top" => "\\overline{",
            "bottom" => "\\underline{",
            _ if notation.contains("box") => "\\boxed{",
            _ if notation.contains("strike") => "\\cancel{",
            _ => "{",
        };
        self.push(command);
        self.row(id);
        self.out.push('}');
    }

    fn table(&mut self, id: Id) {
        let rows: Vec<Id> = self
            .parts(id)
            .into_iter()
            .filter(|&row| matches!(self.dom.tag(row), Tag::Mtr | Tag::Mlabeledtr))
            .collect();
        let columns = |writer: &Self, row: Id| {
            writer.parts(row).len()
                - usize::from(writer.dom.tag(row) == Tag::Mlabeledtr && !writer.parts(row).is_empty())
        };
        let widest = rows.iter().map(|&row| columns(self, row)).max().unwrap_or(0);
        let display = self.dom.raw_attribute(id, "displaystyle") == Some("true");
        let aligned = self
            .dom
            .raw_attribute(id, "columnalign")
            .is_some_and(|align| align.trim_start().starts_with("right left"));
        // A single cell is a formula with a number beside it.
        let single = rows.len() == 1 && widest == 1;
        let (environment, fence) = if single {
            ("", None)
        } else if aligned || display && widest > 1 {
            ("aligned", None)
        } else if display && widest == 1 {
            ("gathered", None)
        } else if self.out.ends_with('(') && !self.out.ends_with("\\(") && self.follows(id, ")") {
            ("pmatrix", Some(("(", ")")))
        } else if self.out.ends_with('[') && self.follows(id, "]") {
            ("bmatrix", Some(("[", "]")))
        } else if self.out.ends_with('|') && !self.out.ends_with("\\|") && self.follows(id, "|") {
            ("vmatrix", Some(("|", "|")))
        } else if self.out.ends_with("\\{") && !self.follows(id, "}") {
            ("cases", Some(("\\{", "")))
        } else {
            ("matrix", None)
        };
        if let Some((open, close)) = fence {
            self.drop_fence(open);
            self.swallow = (!close.is_empty()).then_some(close);
        }
        let swallow = self.swallow.take();
        if !single {
            self.push("\\begin{");
            self.out.push_str(environment);
            self.out.push('}');
        }
        for (at, &row) in rows.iter().enumerate() {
            if at > 0 {
                self.out.push_str(" \\\\ ");
            }
            let cells = self.parts(row);
            let labels = usize::from(self.dom.tag(row) == Tag::Mlabeledtr);
            for (at, &cell) in cells.iter().skip(labels).enumerate() {
                if at > 0 {
                    self.out.push_str(" & ");
                }
                if self.dom.tag(cell) == Tag::Mtd { self.row(cell) } else { self.node(cell) }
            }
        }
        if !single {
            self.out.push_str("\\end{");
            self.out.push_str(environment);
            self.out.push('}');
        }
        self.swallow = swallow;
    }
}

/// The command that sets `accent` over or under its argument.
fn accent(accent: &str, over: bool) -> Option<&'static str> {
    Some(match (accent, over) {
        ("^" | "ˆ" | "\u{302}", true) => "\\hat",
        ("~" | "˜" | "∼" | "\u{303}", true) => "\\tilde",
        ("¯" | "‾" | "_" | "―" | "—" | "–" | "-" | "−" | "\u{304}" | "\u{305}", true) => {
            "\\overline"
        }
        ("→" | "⇀" | "\u{20d7}", true) => "\\vec",
        ("." | "˙" | "\u{307}", true) => "\\dot",
        (".." | "¨" | "\u{308}", true) => "\\ddot",
        ("˘" | "\u{306}", true) => "\\breve",
        ("ˇ" | "\u{30c}", true) => "\\check",
        ("´" | "\u{301}", true) => "\\acute",
        ("`" | "\u{300}", true) => "\\grave",
        ("⏞" | "︷", true) => "\\overbrace",
        ("⏟" | "︸", false) => "\\underbrace",
        ("_" | "¯" | "‾" | "―" | "\u{332}" | "\u{331}", false) => "\\underline",
        _ => return None,
    })
}

/// A width in em.
fn width(value: &str) -> f32 {
    let value = value.trim();
    value.strip_suffix("em").and_then(|number| number.trim().parse().ok()).unwrap_or(0.0)
}

/// Whether `tex` ends with a command of letters.
fn ends_with_command(tex: &str) -> bool {
    let letters = tex.bytes().rev().take(LONGEST_COMMAND).take_while(u8::is_ascii_alphabetic).count();
    letters > 0 && tex[..tex.len() - letters].ends_with('\\') && !tex[..tex.len() - letters].ends_with("\\\\")
}
