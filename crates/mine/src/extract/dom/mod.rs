//! The tree of a page, much as browsers build it: end tags that HTML leaves out are put in, misnested ones do no harm.
//!
//! Nodes lie in the order of their start tags, so an element's descendants are the nodes from it to its end: a walk is a loop,
//! and skipping an element is a jump. What is built is bounded by [`Limits`]; beyond `depth` open elements a tag is dropped, and its content stays.

mod builder;

use super::entities;
use super::tags::Tag;
use super::tokens::Attribute;
use super::{Limit, Limits};
use builder::Builder;

/// A node's place in [`Dom::nodes`].
pub(crate) type Id = usize;

/// An element or a run of text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'a> {
    pub(crate) tag: Tag,
    /// The element that it is in.
    pub(crate) parent: u32,
    /// The first node behind its descendants.
    end: u32,
    attributes: (u32, u16),
    /// Of a run of text, as it stands in the page.
    text: &'a str,
    /// Whether `text` has character references.
    references: bool,
}

/// The tree of a page. Node 0 is the document.
#[derive(Debug)]
pub(crate) struct Dom<'a> {
    pub(crate) nodes: Vec<Node<'a>>,
    attributes: Vec<Attribute<'a>>,
    /// `lang` of the element `html`.
    pub(crate) language: Option<&'a str>,
    /// The bound that ended the building.
    pub(crate) truncated: Option<Limit>,
}

impl<'a> Dom<'a> {
    /// The tree of `page`.
    pub(crate) fn parse(page: &'a str, limits: &'a Limits) -> Self {
        Builder::new(page, limits).build()
    }

    /// The tag of a node.
    pub(crate) fn tag(&self, id: Id) -> Tag {
        self.nodes[id].tag
    }

    /// The first node behind a node's descendants.
    pub(crate) fn end(&self, id: Id) -> Id {
        self.nodes[id].end as usize
    }

    /// The element that a node is in.
    pub(crate) fn parent(&self, id: Id) -> Id {
        self.nodes[id].parent as usize
    }

    /// The nodes directly inside of an element.
    pub(crate) fn children(&self, id: Id) -> impl Iterator<Item = Id> {
        let end = self.end(id);
        let mut at = id + 1;
        std::iter::from_fn(move || {
            let child = at;
            (child < end).then(|| {
                at = self.end(child);
                child
            })
        })
    }

    /// The nodes inside of an element, at any depth.
    pub(crate) fn descendants(&self, id: Id) -> std::ops::Range<Id> {
        id + 1..self.end(id)
    }

    /// The text of a run, as it stands in the page.
    pub(crate) fn raw_text(&self, id: Id) -> &'a str {
        self.nodes[id].text
    }

    /// The text of a run.
    pub(crate) fn text(&self, id: Id) -> std::borrow::Cow<'a, str> {
        let node = &self.nodes[id];
        if node.references { entities::decode(node.text) } else { node.text.into() }
    }

    /// All text inside of an element, as far as `limit` bytes.
    pub(crate) fn text_within(&self, id: Id, limit: usize) -> String {
        let mut text = String::new();
        for node in self.descendants(id) {
            if self.tag(node) == Tag::Text {
                text.push_str(&self.text(node));
            } else if self.tag(node) == Tag::Br {
                text.push('\n');
            }
            if text.len() > limit {
                break;
            }
        }
        text
    }

    /// The attributes of an element.
    pub(crate) fn attributes(&self, id: Id) -> &[Attribute<'a>] {
        let (start, count) = self.nodes[id].attributes;
        &self.attributes[start as usize..start as usize + count as usize]
    }

    /// The value of an attribute as it stands in the page.
    pub(crate) fn raw_attribute(&self, id: Id, name: &str) -> Option<&'a str> {
        self.attributes(id)
            .iter()
            .find(|attribute| attribute.name.eq_ignore_ascii_case(name))
            .map(|attribute| attribute.value)
    }

    /// The value of an attribute.
    pub(crate) fn attribute(&self, id: Id, name: &str) -> Option<std::borrow::Cow<'a, str>> {
        self.raw_attribute(id, name).map(entities::decode_attribute)
    }

    /// Whether the element has the class.
    pub(crate) fn has_class(&self, id: Id, class: &str) -> bool {
        self.classes(id).any(|name| name == class)
    }

    /// The classes of an element.
    pub(crate) fn classes(&self, id: Id) -> impl Iterator<Item = &'a str> + use<'a> {
        self.raw_attribute(id, "class").unwrap_or("").split_ascii_whitespace()
    }
}

#[cfg(test)]
mod tests;
