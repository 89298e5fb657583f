//! Content as blocks of text: paragraphs, headings, items of lists, rows of tables, code.

mod space;
mod table;

use super::dom::{Dom, Id};
use super::formula::setup::Setup;
use super::formula::{Output, delimited, inline, shielded};
use super::prune::{Content, State};
use super::tags::Tag;
use space::{drop_bracketed_link, push_collapsed, tidy};

pub(super) use space::count_letters;

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Heading(u8),
    Paragraph,
    /// Of a list so deep, with its number if it has one; `first` is the item's first block.
    Item {
        depth: u8,
        number: Option<u32>,
        first: bool,
    },
    /// Of the table that begins at a node.
    Row(Id),
    Code,
    /// What the block behind it explains.
    Term,
    /// Text that stands in no element for paragraphs.
    Loose,
}

/// A block of text.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) kind: Kind,
    pub(super) text: String,
    pub(super) formulas: u32,
    /// Letters in links.
    pub(super) linked: u32,
    /// Whether it lies in the main part of the page.
    pub(super) main: bool,
}

/// The blocks of a page's content.
pub(super) fn blocks(dom: &Dom<'_>, content: &Content, setup: &Setup, output: Output) -> Vec<Block> {
    let mut writer = Writer {
        dom,
        content,
        setup,
        output,
        blocks: Vec::new(),
        run: String::new(),
        linked: 0,
        in_link: false,
        kind: Kind::Loose,
        lists: Vec::new(),
        cell: false,
        last: None,
        written: 0,
        start: 0,
    };
    writer.inside(0);
    writer.flush();
    writer.blocks
}

struct Writer<'a> {
    dom: &'a Dom<'a>,
    content: &'a Content,
    setup: &'a Setup,
    output: Output,
    blocks: Vec<Block>,
    /// The block that is being written.
    run: String,
    linked: u32,
    in_link: bool,
    kind: Kind,
    /// The lists that are open, with the number of the next item.
    lists: Vec<Option<u32>>,
    /// Whether a cell is being written, in which blocks are only set apart by blanks.
    cell: bool,
    /// Formulas in it, so far.
    written: u32,
    /// The last formula, and where the run ended behind it.
    last: Option<(String, usize)>,
    /// The node with which the run began.
    start: Id,
}

impl Writer<'_> {
    fn inside(&mut self, id: Id) {
        let dom = self.dom;
        for child in dom.children(id) {
            self.node(child);
        }
    }

    fn node(&mut self, id: Id) {
        match self.content.states[id] {
            State::Drop => return,
            State::Formula(at) => return self.formula(at as usize, id),
            State::Keep => {}
        }
        let tag = self.dom.tag(id);
        match tag {
            Tag::Text => {
                let text = self.dom.text(id);
                self.text(&text, id);
            }
            Tag::Br => self.line_break(),
            Tag::Hr => self.flush(),
            Tag::Wbr | Tag::Img | Tag::Input => {}
            Tag::Pre | Tag::Listing | Tag::Xmp if !self.cell => self.code(id),
            Tag::Code | Tag::Kbd | Tag::Samp | Tag::Tt => self.inline_code(id),
            Tag::Sup | Tag::Sub => self.script(id, if tag == Tag::Sup { '^' } else { '_' }),
            // The sign beside a heading by which it is linked to.
            Tag::A if matches!(self.kind, Kind::Heading(_)) && self.is_anchor(id) => {}
            Tag::A => {
                let outer = self.in_link;
                self.in_link |= self.dom.raw_attribute(id, "href").is_some();
                self.inside(id);
                self.in_link = outer;
            }
            Tag::Table if !self.cell && self.is_data(id) => self.table(id),
            Tag::Ul | Tag::Ol | Tag::Menu | Tag::Dir if !self.cell => {
                self.flush();
                let start = self.dom.raw_attribute(id, "start").and_then(|start| start.trim().parse().ok());
                self.lists.push((tag == Tag::Ol).then(|| start.unwrap_or(1)));
                let outer = std::mem::replace(&mut self.kind, Kind::Loose);
                self.inside(id);
                self.flush();
                self.kind = outer;
                self.lists.pop();
            }
            Tag::Li if !self.cell => {
                let number = self.lists.last_mut().and_then(|list| {
                    list.as_mut().map(|next| {
                        let number = *next;
                        *next = next.saturating_add(1);
                        number
                    })
                });
                let depth = self.lists.len().saturating_sub(1).min(8) as u8;
                self.block(id, Kind::Item { depth, number, first: true });
            }
            _ if self.cell && tag.is_block() => {
                self.space();
                self.inside(id);
                self.space();
            }
            _ if tag.heading().is_some() => self.block(id, Kind::Heading(tag.heading().unwrap_or(6))),
            Tag::Dt if !matches!(self.kind, Kind::Item { .. }) => self.block(id, Kind::Term),
            Tag::P | Tag::Blockquote | Tag::Figcaption | Tag::Caption | Tag::Summary => {
                let kind = match self.kind {
                    Kind::Item { .. } => self.kind,
                    _ => Kind::Paragraph,
                };
                self.block(id, kind);
            }
            _ if tag.is_block() => {
                let kind = match self.kind {
                    Kind::Item { .. } => self.kind,
                    _ => Kind::Loose,
                };
                self.block(id, kind);
            }
            _ => self.inside(id),
        }
    }

    /// An element that is a block of its own.
    fn block(&mut self, id: Id, kind: Kind) {
        self.flush();
        let outer = std::mem::replace(&mut self.kind, kind);
        self.inside(id);
        self.flush();
        self.kind = match (outer, self.kind) {
            // What follows in the item is no new item.
            (Kind::Item { depth, number, first }, Kind::Item { depth: inner, first: unwritten, .. })
                if inner == depth =>
            {
                Kind::Item { depth, number, first: first && unwritten }
            }
            _ => outer,
        };
    }

    /// Whether a link leads to the heading that it is in: `¶`, `#`.
    fn is_anchor(&self, id: Id) -> bool {
        self.dom.raw_attribute(id, "href").is_some_and(|address| address.contains('#'))
            && !self.dom.text_within(id, 64).chars().any(char::is_alphanumeric)
    }

    fn begin(&mut self, id: Id) {
        if self.run.is_empty() {
            self.start = id;
        }
    }

    fn text(&mut self, text: &str, id: Id) {
        self.begin(id);
        let before = self.run.len();
        push_collapsed(&mut self.run, text);
        if self.in_link {
            self.linked += count_letters(&self.run[before.min(self.run.len())..]);
        }
    }

    fn space(&mut self) {
        if !self.run.is_empty() && !self.run.ends_with([' ', '\n']) {
            self.run.push(' ');
        }
    }

    fn line_break(&mut self) {
        if self.cell {
            return self.space();
        }
        while self.run.ends_with(' ') {
            self.run.pop();
        }
        if !self.run.is_empty() && !self.run.ends_with("\n\n") {
            self.run.push('\n');
        }
    }

    fn formula(&mut self, at: usize, id: Id) {
        self.begin(id);
        let formula = &self.content.formulas[at];
        // Two copies of one formula, side by side.
        if let Some((tex, end)) = &self.last
            && self.run.len() <= end + 1
            && self.run.trim_end().len() <= *end
            && *tex == formula.tex
            && (self.dom.tag(id) == Tag::Img || self.dom.tag(id) == Tag::Math)
        {
            return;
        }
        let mut written = String::new();
        let in_cell = self.cell || self.in_link || matches!(self.kind, Kind::Heading(_));
        if in_cell && formula.display {
            self.output.write(&inline(formula), &mut written);
        } else {
            self.output.write(formula, &mut written);
        }
        if written.is_empty() {
            return;
        }
        self.written += 1;
        if written.starts_with("$$") {
            while self.run.ends_with(' ') {
                self.run.pop();
            }
            if !self.run.is_empty() && !self.run.ends_with('\n') {
                self.run.push('\n');
            }
        }
        let newline = written.ends_with('\n');
        shielded(written.trim_end(), &mut self.run);
        self.last = Some((formula.tex.clone(), self.run.len()));
        if newline {
            self.run.push('\n');
        }
    }

    fn inline_code(&mut self, id: Id) {
        self.begin(id);
        let mut text = String::new();
        for inner in self.dom.descendants(id) {
            match self.content.states[inner] {
                // Formulas in code are what the code is about.
                State::Keep if self.dom.tag(inner) == Tag::Text => {
                    push_collapsed(&mut text, &self.dom.text(inner));
                }
                _ => {}
            }
        }
        let blank = text.ends_with(' ');
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if self.in_link {
            self.linked += count_letters(text);
        }
        shielded(text, &mut self.run);
        if blank {
            self.run.push(' ');
        }
    }

    fn code(&mut self, id: Id) {
        self.flush();
        let mut text = String::new();
        for inner in self.dom.descendants(id) {
            match (self.content.states[inner], self.dom.tag(inner)) {
                (State::Keep, Tag::Text) => text.push_str(&self.dom.text(inner)),
                (State::Keep, Tag::Br) => text.push('\n'),
                (State::Formula(at), _) => {
                    let tex = &self.content.formulas[at as usize].tex;
                    text.push('$');
                    text.push_str(tex);
                    text.push('$');
                    self.output.formulas += 1;
                }
                _ => {}
            }
        }
        let text: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
        let text = text.trim_matches('\n').trim_end();
        // Numbers of lines beside a listing are no listing.
        if text.trim().is_empty()
            || text.split_whitespace().all(|word| word.bytes().all(|b| b.is_ascii_digit()))
                && text.contains('\n')
        {
            return;
        }
        self.blocks.push(Block {
            kind: Kind::Code,
            text: text.to_owned(),
            formulas: 0,
            linked: 0,
            main: self.is_in_main(id),
        });
    }

    /// `x<sup>2</sup>` is x^2; `1<sup>st</sup>` is not.
    fn script(&mut self, id: Id, sign: char) {
        let start = self.run.len();
        let raised = self
            .run
            .chars()
            .next_back()
            .is_some_and(|c| c.is_alphanumeric() || matches!(c, ')' | ']' | '|' | '}' | '!'));
        self.inside(id);
        if start > self.run.len() || !raised {
            return;
        }
        let text = self.run[start..].trim();
        let mathematical = !text.is_empty()
            && text.len() <= 24
            && !text.contains(['[', '\n', delimited::SHIELD])
            && !matches!(
                text,
                "st" | "nd"
                    | "rd"
                    | "th"
                    | "er"
                    | "e"
                    | "ème"
                    | "o"
                    | "a"
                    | "TM"
                    | "®"
                    | "©"
                    | "*"
                    | "†"
                    | "‡"
                    | "?"
            )
            && text.chars().any(char::is_alphanumeric)
            && text.chars().filter(|c| c.is_alphabetic()).count() <= 4;
        if mathematical
            && !self.in_link
            && !self.dom.descendants(id).any(|inner| self.dom.tag(inner) == Tag::A)
        {
            let text = text.to_owned();
            self.run.truncate(start);
            self.run.push(sign);
            if text.chars().count() > 1 && !text.chars().all(|c| c.is_ascii_digit()) {
                self.run.push('{');
                self.run.push_str(&text);
                self.run.push('}');
            } else {
                self.run.push_str(&text);
            }
        }
    }

    fn is_in_main(&self, id: Id) -> bool {
        let main = self.content.main;
        id >= main && id < self.dom.end(main)
    }

    /// Ends the block.
    fn flush(&mut self) {
        if self.cell {
            return self.space();
        }
        self.last = None;
        let linked = std::mem::take(&mut self.linked);
        if self.run.trim().is_empty() {
            self.run.clear();
            self.written = 0;
            return;
        }
        let before = self.output.formulas;
        let text = delimited::typeset(self.run.trim(), self.setup, &mut self.output);
        self.run.clear();
        let mut text = tidy(&text);
        if matches!(self.kind, Kind::Heading(_)) {
            drop_bracketed_link(&mut text, linked);
        }
        if text.is_empty() {
            return;
        }
        let formulas = self.output.formulas - before + std::mem::take(&mut self.written);
        let main = self.is_in_main(self.start);
        self.blocks.push(Block { kind: self.kind, text, formulas, linked, main });
        if let Kind::Item { first, .. } = &mut self.kind {
            *first = false;
        }
    }
}
