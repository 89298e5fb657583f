//! What is set beside, over and under a base: indices, exponents, limits, accents.

use super::Writer;
use crate::extract::dom::Id;
use crate::extract::tags::Tag;

impl Writer<'_> {
    pub(super) fn scripts(&mut self, id: Id) {
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
    pub(super) fn limits(&mut self, id: Id) {
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

    pub(super) fn multiscripts(&mut self, id: Id) {
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
