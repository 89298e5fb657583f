//! How the tree is built of a page's tokens: which tags open what, and which ends they imply.

use super::{Dom, Node};
use crate::extract::tags::Tag;
use crate::extract::tokens::{Token, Tokens};
use crate::extract::{Limit, Limits};

/// Open elements, whatever the limits say: walks over the tree call themselves for each.
const DEEPEST: usize = 512;

/// An open element.
struct Open {
    tag: Tag,
    id: u32,
    /// Whether its content is MathML or SVG.
    foreign: bool,
    /// Whether its end tag was met inside of a block: it ends with that block.
    closed: bool,
}

pub(super) struct Builder<'a> {
    tokens: Tokens<'a>,
    dom: Dom<'a>,
    open: Vec<Open>,
    /// Open elements that were too deep to open.
    too_deep: usize,
    paragraphs: usize,
    in_head: bool,
    body: bool,
    steps: usize,
    limits: &'a Limits,
}

impl<'a> Builder<'a> {
    pub(super) fn new(page: &'a str, limits: &'a Limits) -> Self {
        let nodes = Vec::with_capacity(page.len() / 24 + 16);
        let dom = Dom { nodes, attributes: Vec::new(), language: None, truncated: None };
        let tokens = Tokens::new(page, limits.attributes.min(usize::from(u16::MAX)));
        let open = Vec::with_capacity(64);
        let mut builder = Self {
            tokens,
            dom,
            open,
            too_deep: 0,
            paragraphs: 0,
            in_head: false,
            body: false,
            steps: 0,
            limits,
        };
        builder.add(Tag::Document, "", false);
        builder.push(Tag::Document);
        builder
    }

    pub(super) fn build(mut self) -> Dom<'a> {
        while let Some(token) = self.tokens.next() {
            self.steps += 1;
            if self.dom.nodes.len() >= self.limits.nodes.min(u32::MAX as usize) {
                self.dom.truncated = Some(Limit::Nodes);
                break;
            }
            if self.steps >= self.limits.steps {
                self.dom.truncated = Some(Limit::Steps);
                break;
            }
            match token {
                Token::Text(text) => self.text(text, text.contains('&')),
                Token::Raw(text) => self.text(text, false),
                Token::Start { tag, self_closing } => self.start(tag, self_closing),
                Token::End(tag) => self.end(tag),
            }
            self.tokens.cdata = self.top().foreign;
        }
        self.pop_to(0);
        let end = self.dom.nodes.len() as u32;
        self.dom.nodes[0].end = end;
        self.dom
    }

    fn top(&self) -> &Open {
        self.open.last().expect("the document is never closed")
    }

    fn add(&mut self, tag: Tag, text: &'a str, references: bool) {
        let parent = self.open.last().map_or(0, |open| open.id);
        let end = self.dom.nodes.len() as u32 + 1;
        let start = self.dom.attributes.len() as u32;
        let count = if tag == Tag::Text { 0 } else { self.tokens.attributes.len() as u16 };
        if count > 0 {
            self.dom.attributes.append(&mut self.tokens.attributes);
        }
        self.dom.nodes.push(Node { tag, parent, end, attributes: (start, count), text, references });
    }

    /// Opens the node that was added last.
    fn push(&mut self, tag: Tag) {
        let id = self.dom.nodes.len() as u32 - 1;
        let inherited = self.open.last().is_some_and(|open| open.foreign);
        let foreign = matches!(tag, Tag::Math | Tag::Svg) || inherited && !tag.is_integration_point();
        self.open.push(Open { tag, id, foreign, closed: false });
        self.paragraphs += usize::from(tag == Tag::P);
    }

    /// Closes open elements until `length` are left, and those whose end tag came earlier.
    fn pop_to(&mut self, length: usize) {
        let end = self.dom.nodes.len() as u32;
        while self.open.len() > length.max(1) || self.open.len() > 1 && self.top().closed {
            let Some(open) = self.open.pop() else { break };
            self.dom.nodes[open.id as usize].end = end;
            self.paragraphs -= usize::from(open.tag == Tag::P);
            self.steps += 1;
        }
    }

    /// The last open element that `is` one of those sought, unless one of `stop` is around the present place before it.
    fn find(&mut self, is: impl Fn(Tag) -> bool, stop: impl Fn(Tag) -> bool) -> Option<usize> {
        for (at, open) in self.open.iter().enumerate().rev() {
            self.steps += 1;
            if is(open.tag) && !open.closed {
                return Some(at);
            }
            if stop(open.tag) {
                return None;
            }
        }
        None
    }

    fn close(&mut self, is: impl Fn(Tag) -> bool, stop: impl Fn(Tag) -> bool) {
        if let Some(at) = self.find(is, stop) {
            self.pop_to(at);
        }
    }

    fn close_paragraph(&mut self) {
        if self.paragraphs > 0 {
            self.close(|tag| tag == Tag::P, |tag| tag.is_scope() || tag == Tag::Button);
        }
    }

    fn text(&mut self, text: &'a str, references: bool) {
        if self.in_head && self.top().tag == Tag::Head {
            if text.trim_ascii().is_empty() {
                return;
            }
            self.leave_head();
        }
        self.add(Tag::Text, text, references);
    }

    fn leave_head(&mut self) {
        if self.in_head {
            self.in_head = false;
            self.close(|tag| tag == Tag::Head, |_| false);
        }
    }

    fn start(&mut self, tag: Tag, self_closing: bool) {
        if self.top().foreign {
            if !breaks_out(tag) {
                self.add(tag, "", false);
                if !self_closing {
                    self.open_last(tag);
                }
                return;
            }
            let html = self.open.iter().rposition(|open| !open.foreign).unwrap_or(0);
            self.pop_to(html + 1);
        }
        match tag {
            Tag::Html => {
                let language = self
                    .tokens
                    .attributes
                    .iter()
                    .find(|attribute| attribute.name.eq_ignore_ascii_case("lang"));
                self.dom.language = self.dom.language.or(language.map(|attribute| attribute.value));
                return;
            }
            Tag::Head if self.in_head || self.body || self.open.len() > 1 => return,
            Tag::Head => self.in_head = true,
            Tag::Body | Tag::Frameset => {
                self.leave_head();
                if self.body || self.open.len() > 1 {
                    return;
                }
                self.body = true;
            }
            _ if !tag.is_in_head() => self.leave_head(),
            _ => {}
        }
        self.imply_ends(tag);
        self.add(tag, "", false);
        let empty = tag.is_void() || self_closing && matches!(tag, Tag::Math | Tag::Svg);
        if !empty {
            self.open_last(tag);
        }
    }

    /// Opens the node that was added last, unless too many are open.
    fn open_last(&mut self, tag: Tag) {
        // Content of a raw element is text alone, so it needs no room.
        if self.open.len() >= self.limits.depth.clamp(2, DEEPEST) && !tag.is_raw() {
            self.too_deep += 1;
        } else {
            self.push(tag);
        }
    }

    /// Closes what a start tag closes although no end tag says so.
    fn imply_ends(&mut self, tag: Tag) {
        if tag.closes_paragraph() {
            self.close_paragraph();
        }
        let list =
            |tag: Tag| tag.is_scope() || matches!(tag, Tag::Ul | Tag::Ol | Tag::Menu | Tag::Dir | Tag::Dl);
        match tag {
            Tag::Li => self.close(|tag| tag == Tag::Li, list),
            Tag::Dd | Tag::Dt => self.close(|tag| matches!(tag, Tag::Dd | Tag::Dt), list),
            Tag::Option_ | Tag::Optgroup if self.top().tag == Tag::Option_ => {
                self.pop_to(self.open.len() - 1);
            }
            Tag::A => self.end_formatting(Tag::A),
            Tag::Nobr => self.end_formatting(Tag::Nobr),
            Tag::Button => self.close(|tag| tag == Tag::Button, Tag::is_scope),
            Tag::Rt | Tag::Rp if matches!(self.top().tag, Tag::Rt | Tag::Rp) => {
                self.pop_to(self.open.len() - 1);
            }
            Tag::Td | Tag::Th => {
                self.close(|tag| matches!(tag, Tag::Td | Tag::Th | Tag::Caption), |tag| tag == Tag::Table);
            }
            Tag::Tr => self.close(|tag| matches!(tag, Tag::Tr | Tag::Caption), |tag| tag == Tag::Table),
            Tag::Tbody | Tag::Thead | Tag::Tfoot | Tag::Caption | Tag::Colgroup => self.close(
                |tag| matches!(tag, Tag::Tbody | Tag::Thead | Tag::Tfoot | Tag::Caption | Tag::Colgroup),
                |tag| tag == Tag::Table,
            ),
            _ if tag.heading().is_some() && self.top().tag.heading().is_some() => {
                self.pop_to(self.open.len() - 1);
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: Tag) {
        if self.too_deep > 0 && !tag.is_raw() {
            self.too_deep -= 1;
            return;
        }
        match tag {
            Tag::Head => self.leave_head(),
            Tag::Br => {
                self.tokens.attributes.clear();
                self.add(Tag::Br, "", false);
            }
            Tag::Html | Tag::Body | Tag::Document | Tag::Text => {}
            Tag::P => match self.find(|tag| tag == Tag::P, |tag| tag.is_scope() || tag == Tag::Button) {
                Some(at) => self.pop_to(at),
                // Without a start tag it is an empty paragraph.
                None if !self.top().foreign => {
                    self.tokens.attributes.clear();
                    self.add(Tag::P, "", false);
                }
                None => {}
            },
            _ if tag.is_void() => {}
            _ if tag.heading().is_some() => self.close(|open| open.heading().is_some(), Tag::is_scope),
            _ if self.top().tag == tag => self.pop_to(self.open.len() - 1),
            _ if tag.is_formatting() => self.end_formatting(tag),
            Tag::Table
            | Tag::Math
            | Tag::Svg
            | Tag::Template
            | Tag::Object
            | Tag::Applet
            | Tag::Marquee
            | Tag::ForeignObject => {
                self.close(|open| open == tag, |_| false);
            }
            Tag::Td
            | Tag::Th
            | Tag::Tr
            | Tag::Tbody
            | Tag::Thead
            | Tag::Tfoot
            | Tag::Caption
            | Tag::Colgroup => {
                self.close(|open| open == tag, |open| open == Tag::Table);
            }
            _ if tag.is_block() || matches!(tag, Tag::Button | Tag::Select) || self.top().foreign => {
                self.close(|open| open == tag, |open| open != tag && open.is_scope());
            }
            // Any other end tag ends nothing that a block is in.
            _ => self.close(|open| open == tag, |open| open.is_block() || open.is_scope()),
        }
    }

    /// Ends `<b>`, `<a>` and the like: at once, or with the block inside of it that is still open.
    fn end_formatting(&mut self, tag: Tag) {
        let Some(at) = self.find(|open| open == tag, Tag::is_scope) else { return };
        if self.open[at + 1..].iter().any(|open| open.tag.is_block()) {
            self.open[at].closed = true;
        } else {
            self.pop_to(at);
        }
        self.steps += self.open.len().saturating_sub(at);
    }
}

/// Whether the start tag ends MathML and SVG around it: an HTML element that stands in them by mistake.
fn breaks_out(tag: Tag) -> bool {
    tag.heading().is_some()
        || matches!(
            tag,
            Tag::B
                | Tag::Big
                | Tag::Blockquote
                | Tag::Body
                | Tag::Br
                | Tag::Center
                | Tag::Code
                | Tag::Dd
                | Tag::Div
                | Tag::Dl
                | Tag::Dt
                | Tag::Em
                | Tag::Embed
                | Tag::Head
                | Tag::Hr
                | Tag::I
                | Tag::Img
                | Tag::Li
                | Tag::Listing
                | Tag::Menu
                | Tag::Meta
                | Tag::Nobr
                | Tag::Ol
                | Tag::P
                | Tag::Pre
                | Tag::Ruby
                | Tag::S
                | Tag::Small
                | Tag::Span
                | Tag::Strong
                | Tag::Strike
                | Tag::Sub
                | Tag::Sup
                | Tag::Table
                | Tag::Tt
                | Tag::U
                | Tag::Ul
                | Tag::Var
        )
}
