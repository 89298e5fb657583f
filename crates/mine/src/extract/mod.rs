//! The main content of an HTML page as text, its formulas as LaTeX.

mod charset;

use memchr::memchr;

/// What is known of a page beside its bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hints<'a> {
    /// The HTTP header `Content-Type`, with its charset if it names one.
    pub content_type: Option<&'a str>,
    /// Where the page was found.
    pub url: &'a str,
}

/// Bounds on the work for one page.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    let truncated = (html.len() > limits.bytes).then_some(Limit::Bytes);
    let html = &html[..html.len().min(limits.bytes)];
    let (page, charset) = charset::decode(html, hints.content_type);
    let mut text = String::new();
    let mut rest = page.as_ref();
    while let Some(at) = memchr(b'<', rest.as_bytes()) {
        text.push_str(rest[..at].trim());
        rest = &rest[at..];
        let skip = ["script", "style"].iter().find(|name| rest[1..].starts_with(**name));
        let end = skip.and_then(|name| rest.find(&format!("</{name}"))).unwrap_or(0);
        rest = &rest[end..];
        rest = memchr(b'>', rest.as_bytes()).map_or("", |end| &rest[end + 1..]);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    text.push_str(rest.trim());
    if text.trim().is_empty() {
        return Err(Skip::NoContent);
    }
    Ok(Extracted { title: String::new(), text, formulas: 0, charset, truncated })
}
