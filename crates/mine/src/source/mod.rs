//! Pages of a crawl in: of WARC and WET files and JSON Lines, packed or not, whatever their names.

use serde::{Deserialize, Serialize};

/// Where the bytes of a page are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The file, as the config names it.
    pub file: String,
    /// Where the record begins, bytes: of its member in a packed file, else of itself. In JSON Lines, of the line in the text.
    pub offset: u64,
    /// The SHA-256 of the page's bytes, unpacked, in hex behind `sha256:`.
    pub digest: String,
}

/// What a page's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// HTML in some charset.
    Html,
    /// Text in UTF-8, extracted before.
    Text,
}

/// A page, as it was captured, with transfer and content encodings undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its URL, as the crawl has it.
    pub url: String,
    /// What its bytes are.
    pub form: Form,
    /// The `Content-Type` that the server declared, with its charset.
    pub content_type: Option<String>,
    /// Where the record begins; see [`Source::offset`].
    pub offset: u64,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// Whether an end of it is missing: cut by the crawler, by a damaged file, or to `read.max_page_bytes`.
    pub is_cut: bool,
}
