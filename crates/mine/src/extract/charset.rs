//! The charset of a page.

use std::borrow::Cow;

/// The page as text, and the name of its charset in the WHATWG standard.
pub(super) fn decode<'a>(html: &'a [u8], _content_type: Option<&str>) -> (Cow<'a, str>, &'static str) {
    (String::from_utf8_lossy(html), encoding_rs::UTF_8.name())
}
