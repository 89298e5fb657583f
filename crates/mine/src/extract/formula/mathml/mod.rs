//! Presentation MathML to LaTeX.

mod fences;
mod scripts;

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
