//! Fractions, tables and what stands between fences: a matrix and its brackets are one environment, as are a binomial and its parentheses.

use super::Writer;
use crate::extract::dom::Id;
use crate::extract::tags::Tag;

impl Writer<'_> {
    pub(super) fn fraction(&mut self, id: Id) {
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

    pub(super) fn fenced(&mut self, id: Id) {
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

    pub(super) fn enclosed(&mut self, id: Id) {
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

    pub(super) fn table(&mut self, id: Id) {
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
