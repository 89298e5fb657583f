//! The main content of an HTML page as text, its formulas as LaTeX.

mod blocks;
mod charset;
mod choose;
mod dom;
mod entities;
mod formula;
mod prune;
mod tags;
mod tokens;
mod words;

use dom::Dom;
use formula::Output;
use formula::setup::Setup;
use tags::Tag;

/// Characters of a title that are kept.
const LONGEST_TITLE: usize = 500;

/// What is known of a page beside its bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hints<'a> {
    /// The HTTP header `Content-Type`, with its charset if it names one.
    pub content_type: Option<&'a str>,
    /// Where the page was found.
    pub url: &'a str,
}

/// Bounds on the work for one page.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of HTML that are read; the rest of the page is left out.
    pub bytes: usize,
    /// Elements and runs of text that are kept.
    pub nodes: usize,
    /// Open elements; what lies deeper is put at this depth (browsers: 512).
    pub depth: usize,
    /// Attributes of one element; the rest is ignored.
    pub attributes: usize,
    /// Bytes of one formula's LaTeX; a longer one is left out.
    pub formula: usize,
    /// Tokens read and open elements looked at, all together.
    pub steps: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 8 << 20,
            nodes: 1_000_000,
            depth: 256,
            attributes: 64,
            formula: 16 << 10,
            steps: 30_000_000,
        }
    }
}

/// The bound at which the reading of a page ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// [`Limits::bytes`].
    Bytes,
    /// [`Limits::nodes`].
    Nodes,
    /// [`Limits::steps`].
    Steps,
}

/// Why a page gives no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// No bytes, or white space alone.
    #[error("the page is empty")]
    Empty,
    /// A PDF, an image, an archive: something else by its first bytes, or by bytes that no charset explains.
    #[error("the page is no text")]
    Binary,
    /// HTML whose main content has no text.
    #[error("the page has no main content")]
    NoContent,
}

/// The text of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted {
    /// The page's title.
    pub title: String,
    /// Paragraphs, headings, lists, tables and code, apart by blank lines; formulas as `$...$` and `$$...$$`.
    pub text: String,
    /// Formulas in the text.
    pub formulas: u32,
    /// The charset by which the page was read, by its name in the WHATWG standard.
    pub charset: &'static str,
    /// The bound that cut the page short.
    pub truncated: Option<Limit>,
}

/// The main content of the page `html`. Any bytes give a result, within [`Limits`].
///
/// # Errors
/// Why the page has no text to give.
pub fn extract(html: &[u8], hints: &Hints<'_>, limits: &Limits) -> Result<Extracted, Skip> {
    if html.iter().all(u8::is_ascii_whitespace) {
        return Err(Skip::Empty);
    }
    if is_binary(html) {
        return Err(Skip::Binary);
    }
    let cut = html.len() > limits.bytes;
    let html = &html[..html.len().min(limits.bytes)];
    let (page, charset) = charset::decode(html, hints.content_type, hints.url);
    let dom = Dom::parse(&page, limits);
    let setup = Setup::of(&dom);
    let content = prune::prune(&dom, &setup, limits);
    let output = Output::new(&setup, limits);
    let blocks = choose::choose(blocks::blocks(&dom, &content, &setup, output));
    let text = choose::join(&blocks);
    if text.is_empty() {
        return Err(Skip::NoContent);
    }
    let formulas = blocks.iter().map(|block| block.formulas).sum();
    let truncated = dom.truncated.or(cut.then_some(Limit::Bytes));
    Ok(Extracted { title: title(&dom), text, formulas, charset, truncated })
}

/// The first `title` of the page.
fn title(dom: &Dom<'_>) -> String {
    let title = (0..dom.nodes.len()).find(|&id| dom.tag(id) == Tag::Title);
    let text = title.map(|id| dom.text_within(id, LONGEST_TITLE)).unwrap_or_default();
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .take(LONGEST_TITLE)
        .collect()
}

/// Whether the bytes are something else than text: by how they begin, or by control characters among them.
fn is_binary(html: &[u8]) -> bool {
    const MAGIC: &[&[u8]] = &[
        b"%PDF-",
        b"\x89PNG",
        b"GIF8",
        b"\xff\xd8\xff",
        b"PK\x03\x04",
        b"\x1f\x8b",
        b"BZh",
        b"RIFF",
        b"ID3",
        b"OggS",
        b"7z\xbc\xaf",
        b"Rar!",
        b"\xd0\xcf\x11\xe0",
        b"\x00\x00\x01\x00",
        b"\x7fELF",
        b"MZ\x90",
        b"wOFF",
        b"wOF2",
        b"\xfd7zXZ",
        b"\x28\xb5\x2f\xfd",
        b"II*\x00",
        b"MM\x00*",
        b"\xca\xfe\xba\xbe",
    ];
    if MAGIC.iter().any(|magic| html.starts_with(magic)) {
        return true;
    }
    let head = &html[..html.len().min(1024)];
    let controls = head.iter().filter(|b| matches!(b, 1..=8 | 14..=26 | 28..=31)).count();
    controls * 20 > head.len()
}

#[cfg(test)]
mod tests;
