//! What of a page's tree is its content: formulas found, hidden parts and everything around the content left out.
//!
//! The rules ask how a page is built, not which page it is: what elements mean in HTML, how much of their text is links, what their
//! classes are called, where most of the text lies. An element that holds much of the page's text is never left out by its name alone.

use super::dom::{Dom, Id};
use super::formula::setup::Setup;
use super::formula::{self, Formula, Found};
use super::tags::Tag;
use super::{Limits, words};

/// A formula counts as so many letters of text.
const FORMULA_WEIGHT: u32 = 40;
/// Text of a run from which on it is prose: letters.
const PROSE: u32 = 40;
/// The share of a page's text, in percent, that a part left out by its name may hold.
const MOST_BY_NAME: u64 = 30;
/// The share of a page's text, in percent, that its main part holds.
const MAIN_SHARE: u64 = 85;

/// What becomes of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Keep,
    Drop,
    /// A formula, by its place in [`Content::formulas`].
    Formula(u32),
}

/// Sums over an element and all that is in it.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    /// Letters.
    text: u32,
    /// Letters in links.
    linked: u32,
    /// Letters in runs long enough to be prose, outside of links.
    prose: u32,
    links: u32,
    /// Formulas outside of links.
    formulas: u32,
    /// Whether there is a heading, and of which level.
    heading: u8,
}

impl Sums {
    fn weight(&self) -> u64 {
        u64::from(self.text - self.linked.min(self.text))
            + u64::from(self.formulas) * u64::from(FORMULA_WEIGHT)
    }

    fn add(&mut self, other: &Self) {
        self.text += other.text;
        self.linked += other.linked;
        self.prose += other.prose;
        self.links += other.links;
        self.formulas += other.formulas;
        self.heading = match (self.heading, other.heading) {
            (0, level) | (level, 0) => level,
            (a, b) => a.min(b),
        };
    }
}

/// The content of a page.
pub(super) struct Content {
    pub(super) states: Vec<State>,
    pub(super) formulas: Vec<Formula>,
    /// The element that has the main part of the page.
    pub(super) main: Id,
}

/// The content of the tree.
pub(super) fn prune(dom: &Dom<'_>, setup: &Setup, limits: &Limits) -> Content {
    let mut content = Content { states: vec![State::Keep; dom.nodes.len()], formulas: Vec::new(), main: 0 };
    let alive = content.drop_hidden(dom, setup, limits);
    let sums = content.sums(dom, setup, &alive);
    content.drop_boilerplate(dom, &sums);
    let sums = content.sums(dom, setup, &alive);
    content.main = content.find_main(dom, &sums);
    content
}

impl Content {
    /// Drops what nobody sees and finds the formulas; the nodes that stay, in order.
    fn drop_hidden(&mut self, dom: &Dom<'_>, setup: &Setup, limits: &Limits) -> Vec<Id> {
        let mut alive = Vec::with_capacity(dom.nodes.len());
        let mut id = 0;
        while id < dom.nodes.len() {
            let found = formula::find(dom, id, setup, limits);
            match found {
                Found::Formula(formula) => {
                    self.states[id] = State::Formula(self.formulas.len() as u32);
                    self.formulas.push(formula);
                    alive.push(id);
                    id = dom.end(id);
                }
                Found::Twin => {
                    self.states[id] = State::Drop;
                    id = dom.end(id);
                }
                Found::Nothing if is_hidden(dom, id) => {
                    self.states[id] = State::Drop;
                    id = dom.end(id);
                }
                Found::Nothing => {
                    alive.push(id);
                    id += 1;
                }
            }
        }
        alive
    }

    /// Sums over every element, from its nodes up.
    fn sums(&self, dom: &Dom<'_>, setup: &Setup, alive: &[Id]) -> Vec<Sums> {
        let mut sums = vec![Sums::default(); dom.nodes.len()];
        for &id in alive.iter().rev() {
            if self.states[id] == State::Drop {
                continue;
            }
            match dom.tag(id) {
                Tag::Text if self.states[id] == State::Keep => {
                    let text = dom.raw_text(id);
                    let letters = letters(text);
                    sums[id].text = letters;
                    sums[id].prose = if letters >= PROSE { letters } else { 0 };
                    sums[id].formulas = u32::from(letters > 0 && has_delimiters(text, setup));
                }
                Tag::A => {
                    let inner = sums[id];
                    if dom.raw_attribute(id, "href").is_some() {
                        sums[id] = Sums {
                            linked: inner.text,
                            prose: 0,
                            links: inner.links + 1,
                            formulas: 0,
                            ..inner
                        };
                    }
                }
                tag => {
                    if let State::Formula(_) = self.states[id] {
                        sums[id].formulas = 1;
                    } else if let Some(level) = tag.heading() {
                        sums[id].heading = level;
                    }
                }
            }
            if id > 0 {
                let own = sums[id];
                sums[dom.parent(id)].add(&own);
            }
        }
        sums
    }

    /// Drops what is around the content: navigation, notices, forms, lists of links.
    fn drop_boilerplate(&mut self, dom: &Dom<'_>, sums: &[Sums]) {
        let total = sums[0].weight();
        let mut id = 1;
        while id < dom.nodes.len() {
            match self.states[id] {
                State::Keep if dom.tag(id) != Tag::Text && is_boilerplate(dom, id, &sums[id], total) => {
                    self.states[id] = State::Drop;
                    id = dom.end(id);
                }
                State::Keep => id += 1,
                _ => id = dom.end(id),
            }
        }
    }

    /// The innermost element that still has nearly all of the page's text.
    fn find_main(&self, dom: &Dom<'_>, sums: &[Sums]) -> Id {
        let total = sums[0].weight();
        let mut main = 0;
        loop {
            let next = dom.children(main).find(|&child| {
                self.states[child] == State::Keep
                    && matches!(
                        dom.tag(child),
                        Tag::Body
                            | Tag::Div
                            | Tag::Main
                            | Tag::Article
                            | Tag::Section
                            | Tag::Center
                            | Tag::Form
                            | Tag::Table
                            | Tag::Tbody
                            | Tag::Tr
                            | Tag::Td
                            | Tag::Font
                            | Tag::Span
                            | Tag::Fieldset
                            | Tag::Other
                    )
                    && sums[child].weight() * 100 >= total * MAIN_SHARE
                    && sums[child].weight() > 0
            });
            match next {
                Some(child) => main = child,
                None => return main,
            }
        }
    }
}

/// Letters of a text as it stands in the page, without blanks.
fn letters(text: &str) -> u32 {
    let mut count = 0;
    for byte in text.bytes() {
        count += u32::from(byte > b' ' && !(0x80..0xc0).contains(&byte));
    }
    count
}

/// Whether a run of text has what a formula begins with.
fn has_delimiters(text: &str, setup: &Setup) -> bool {
    let bytes = text.as_bytes();
    if memchr::memmem::find(bytes, b"\\(").is_some()
        || memchr::memmem::find(bytes, b"\\[").is_some()
        || memchr::memmem::find(bytes, b"\\begin{").is_some()
    {
        return true;
    }
    setup.loaded && setup.pairs.iter().any(|pair| memchr::memmem::find(bytes, pair.open.as_bytes()).is_some())
        || setup.ascii_math && text.contains('`')
}

/// Whether nobody sees an element, or it is no text at all.
fn is_hidden(dom: &Dom<'_>, id: Id) -> bool {
    match dom.tag(id) {
        Tag::Style
        | Tag::Script
        | Tag::Template
        | Tag::Noscript
        | Tag::Iframe
        | Tag::Noembed
        | Tag::Noframes
        | Tag::Head
        | Tag::Title
        | Tag::Svg
        | Tag::Canvas
        | Tag::Audio
        | Tag::Video
        | Tag::Select
        | Tag::Datalist
        | Tag::Textarea
        | Tag::Button
        | Tag::Dialog
        | Tag::Option_
        | Tag::Progress
        | Tag::Rp
        | Tag::Rt
        | Tag::Input => return true,
        Tag::Text | Tag::Document => return false,
        _ => {}
    }
    for attribute in dom.attributes(id) {
        let hides = match attribute.name.len() {
            6 if attribute.name.eq_ignore_ascii_case("hidden") => {
                !attribute.value.eq_ignore_ascii_case("until-found")
            }
            5 if attribute.name.eq_ignore_ascii_case("style") => hides(attribute.value),
            11 if attribute.name.eq_ignore_ascii_case("aria-hidden") => {
                attribute.value.eq_ignore_ascii_case("true") && dom.tag(id) != Tag::Body
            }
            5 if attribute.name.eq_ignore_ascii_case("class") => {
                attribute.value.split_ascii_whitespace().any(|class| {
                    matches!(
                        class,
                        "sr-only"
                            | "visually-hidden"
                            | "visuallyhidden"
                            | "screen-reader-text"
                            | "screenreader-text"
                            | "d-none"
                            | "hidden"
                            | "is-hidden"
                            | "display-none"
                            | "katex-html"
                            | "offscreen"
                    )
                })
            }
            _ => false,
        };
        if hides {
            return true;
        }
    }
    false
}

/// Whether a style hides: `display: none`, `visibility: hidden` and what amounts to them.
fn hides(style: &str) -> bool {
    style.split(';').any(|declaration| {
        let Some((property, value)) = declaration.split_once(':') else { return false };
        let value = value.trim().trim_end_matches("!important").trim();
        let is = |name: &str| property.trim().eq_ignore_ascii_case(name);
        is("display") && value.eq_ignore_ascii_case("none")
            || is("visibility")
                && (value.eq_ignore_ascii_case("hidden") || value.eq_ignore_ascii_case("collapse"))
            || is("font-size") && matches!(value, "0" | "0px" | "0pt" | "0em")
            || is("opacity") && matches!(value, "0" | "0.0" | "0%")
            || is("text-indent") && value.starts_with("-9")
            || is("left") && value.starts_with("-999")
    })
}

/// Whether an element is around the content.
fn is_boilerplate(dom: &Dom<'_>, id: Id, sums: &Sums, total: u64) -> bool {
    let tag = dom.tag(id);
    if matches!(tag, Tag::Body | Tag::Main) || tag == Tag::Br {
        return false;
    }
    let small = sums.weight() * 100 <= total * MOST_BY_NAME;
    let role = dom.raw_attribute(id, "role").unwrap_or("");
    let by_meaning = match tag {
        Tag::Nav | Tag::Footer | Tag::Menu | Tag::Search | Tag::Form => true,
        Tag::Aside => !is_note(dom, id),
        Tag::Header => {
            sums.heading != 1 && sums.heading != 2 || sums.linked * 2 > sums.text && sums.prose == 0
        }
        _ => matches!(
            role,
            "navigation"
                | "banner"
                | "contentinfo"
                | "search"
                | "complementary"
                | "dialog"
                | "alertdialog"
                | "menu"
                | "menubar"
                | "tablist"
                | "toolbar"
        ),
    };
    if by_meaning && small && (sums.formulas == 0 || matches!(tag, Tag::Nav | Tag::Footer)) {
        return true;
    }
    let named = |name: &str| dom.raw_attribute(id, name).is_some_and(words::names_boilerplate);
    if small
        && sums.formulas == 0
        && tag != Tag::Article
        && tag.heading().is_none()
        && (named("class") || named("id"))
    {
        return true;
    }
    sums.formulas == 0 && is_link_list(tag, sums)
}

/// Whether an element is hardly more than links.
fn is_link_list(tag: Tag, sums: &Sums) -> bool {
    // A title that is a link to its page is no list.
    if sums.links == 0 || sums.text == 0 || sums.heading == 1 {
        return false;
    }
    let container = matches!(
        tag,
        Tag::Div
            | Tag::Ul
            | Tag::Ol
            | Tag::Dl
            | Tag::Table
            | Tag::Section
            | Tag::Tbody
            | Tag::Tr
            | Tag::Td
            | Tag::Aside
            | Tag::Center
            | Tag::Header
            | Tag::Form
            | Tag::P
            | Tag::Span
            | Tag::Dir
    );
    if !container {
        return false;
    }
    let besides = sums.text - sums.linked.min(sums.text);
    match tag {
        // A link in a sentence is inside of a span or a cell of its own now and then.
        Tag::Span | Tag::Td | Tag::P => sums.links >= 3 && besides * 4 < sums.text,
        _ if sums.links == 1 => besides * 10 < sums.text,
        _ => {
            besides * 3 < sums.text
                || sums.prose == 0
                    && sums.links >= 3
                    && besides * 5 < sums.text * 3
                    && besides < sums.links * 20
        }
    }
}

/// Whether an `aside` is a note to the text beside it.
fn is_note(dom: &Dom<'_>, id: Id) -> bool {
    dom.classes(id).any(|class| {
        let class = class.to_ascii_lowercase();
        [
            "note",
            "admonition",
            "callout",
            "tip",
            "warning",
            "definition",
            "theorem",
            "example",
            "exercise",
            "remark",
            "proof",
            "hint",
            "important",
            "caution",
        ]
        .iter()
        .any(|mark| class.contains(mark))
    })
}
