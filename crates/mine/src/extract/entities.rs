//! Character references: `&lt;`, `&#8804;`, `&nbsp` without its semicolon.

use std::borrow::Cow;

use memchr::memchr;

/// The longest name in the standard's table.
const LONGEST_NAME: usize = 32;
/// The longest name that counts without a semicolon.
const LONGEST_LEGACY: usize = 6;

/// `raw` with its character references replaced, as in text.
pub(crate) fn decode(raw: &str) -> Cow<'_, str> {
    decode_with(raw, false)
}

/// `raw` with its character references replaced, as in an attribute's value, where `&copy=` is part of an address.
pub(crate) fn decode_attribute(raw: &str) -> Cow<'_, str> {
    decode_with(raw, true)
}

fn decode_with(raw: &str, attribute: bool) -> Cow<'_, str> {
    let Some(first) = memchr(b'&', raw.as_bytes()) else { return Cow::Borrowed(raw) };
    let mut text = String::with_capacity(raw.len());
    text.push_str(&raw[..first]);
    let mut rest = &raw[first..];
    loop {
        let length = if let Some((characters, length)) = reference(&rest[1..], attribute) {
            text.extend(characters.into_iter().flatten());
            1 + length
        } else {
            text.push('&');
            1
        };
        rest = &rest[length..];
        let next = memchr(b'&', rest.as_bytes());
        text.push_str(&rest[..next.unwrap_or(rest.len())]);
        match next {
            Some(next) => rest = &rest[next..],
            None => return Cow::Owned(text),
        }
    }
}

/// The characters of the reference whose text after `&` begins `rest`, and the bytes that it takes.
fn reference(rest: &str, attribute: bool) -> Option<([Option<char>; 2], usize)> {
    if let Some(digits) = rest.strip_prefix('#') {
        let (character, length) = numeric(digits)?;
        return Some(([Some(character), None], 1 + length));
    }
    let bytes = rest.as_bytes();
    let end = bytes.iter().take(LONGEST_NAME).take_while(|b| b.is_ascii_alphanumeric()).count();
    if bytes.get(end) == Some(&b';')
        && let Some(characters) = named(&rest[..=end])
    {
        return Some((characters, end + 1));
    }
    let (length, characters) =
        (2..=end.min(LONGEST_LEGACY)).rev().find_map(|length| Some((length, named(&rest[..length])?)))?;
    let next = bytes.get(length);
    if attribute && next.is_some_and(|&b| b == b'=' || b.is_ascii_alphanumeric()) {
        return None;
    }
    Some((characters, length))
}

fn named(name: &str) -> Option<[Option<char>; 2]> {
    let &(first, second) = web_atoms::NAMED_ENTITIES.get(name)?;
    // Prefixes of names are in the table too, as zeros.
    (first != 0).then(|| [char::from_u32(first), (second != 0).then(|| char::from_u32(second)).flatten()])
}

/// The character of a number, and the bytes that it takes.
fn numeric(digits: &str) -> Option<(char, usize)> {
    let (radix, skip) = if digits.starts_with(['x', 'X']) { (16, 1) } else { (10, 0) };
    let bytes = &digits.as_bytes()[skip..];
    let count = bytes.iter().take_while(|b| (**b as char).is_digit(radix)).count();
    if count == 0 {
        return None;
    }
    let code = bytes[..count].iter().fold(0_u32, |code, &b| {
        code.saturating_mul(radix).saturating_add((b as char).to_digit(radix).unwrap_or(0))
    });
    let semicolon = usize::from(bytes.get(count) == Some(&b';'));
    let character = match code {
        0 => char::REPLACEMENT_CHARACTER,
        // Pages of old mean windows-1252.
        0x80..=0x9f => {
            encoding_rs::WINDOWS_1252.decode_without_bom_handling(&[code as u8]).0.chars().next()?
        }
        code => char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
    };
    Some((character, skip + count + semicolon))
}

#[cfg(test)]
mod tests {
    use super::{decode, decode_attribute};

    #[test]
    fn references_are_replaced() {
        for (raw, text) in [
            ("a &lt; b &amp;&amp; c", "a < b && c"),
            ("&#8804;&#x2264;&le;", "≤≤≤"),
            ("&nbsp&copy2 &notit; &notin;", "\u{a0}©2 ¬it; ∉"),
            ("&#150; &#0; &#xD800; &#99999999999;", "– \u{fffd} \u{fffd} \u{fffd}"),
            ("AT&T &; &# &#x; & &unknown;", "AT&T &; &# &#x; & &unknown;"),
            ("&NotEqualTilde;", "≂̸"),
        ] {
            assert_eq!(decode(raw), text, "{raw}");
        }
        assert_eq!(decode_attribute("?a=1&copy=2&lt;&reg"), "?a=1&copy=2<®");
    }
}
