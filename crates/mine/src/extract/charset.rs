//! The charset of a page: what its bytes prove comes first, then what is declared, and detection last.
//!
//! A declaration is not believed where the bytes contradict it; detection costs as much as all the rest, so it sees only the bytes
//! that tell charsets apart, and few of them.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{
    BIG5, Encoding, GB18030, GBK, ISO_2022_JP, ISO_8859_15, REPLACEMENT, UTF_8, UTF_16BE, UTF_16LE,
    WINDOWS_1252, X_USER_DEFINED,
};
use memchr::memmem;

/// Bytes in which a declaration in the page is looked for (browsers: 1024).
const HEAD: usize = 8192;
/// Bytes that the detector sees.
const MOST_DETECTED: usize = 32 << 10;
/// Bytes beyond ASCII from which on detection is surer than a declaration.
const FEW_BYTES: usize = 20;
/// Of a page in UTF-8, one faulty sequence among so many characters beyond ASCII is an accident.
const UTF8_CHARACTERS_PER_FAULT: usize = 10;

/// The page as text, and the name of its charset in the WHATWG standard.
pub(super) fn decode<'a>(
    html: &'a [u8],
    content_type: Option<&str>,
    url: &str,
) -> (Cow<'a, str>, &'static str) {
    let (encoding, skip) = find(html, content_type, url);
    let (text, _) = encoding.decode_without_bom_handling(&html[skip..]);
    (text, encoding.name())
}

/// The charset of a page, and the bytes of its byte-order mark.
fn find(html: &[u8], content_type: Option<&str>, url: &str) -> (&'static Encoding, usize) {
    if let Some((encoding, length)) = Encoding::for_bom(html) {
        return (encoding, length);
    }
    if let Some(encoding) = wide(html) {
        return (encoding, 0);
    }
    let declared = |label: Option<&[u8]>| {
        label
            .and_then(Encoding::for_label)
            .filter(|encoding| ![REPLACEMENT, X_USER_DEFINED, UTF_16LE, UTF_16BE].contains(encoding))
    };
    let http = declared(content_type.and_then(|value| label_in(value.as_bytes())));
    let meta = declared(in_page(&html[..html.len().min(HEAD)]));
    let faults = match std::str::from_utf8(html) {
        Ok(text) => {
            // Seven bits: UTF-8, except where escapes switch alphabets.
            let escapes = text.is_ascii() && memmem::find(html, b"\x1b$").is_some();
            let japanese =
                [http, meta].contains(&Some(ISO_2022_JP)) || escapes && (http, meta) == (None, None);
            return (if escapes && japanese { ISO_2022_JP } else { UTF_8 }, 0);
        }
        Err(_) => utf8_faults(html),
    };
    if faults {
        return (UTF_8, 0);
    }
    let claims: Vec<&'static Encoding> =
        [http, meta].into_iter().flatten().filter(|encoding| *encoding != UTF_8).collect();
    (detect(html, &claims, url), 0)
}

/// UTF-16 without a byte-order mark: every other byte of markup is zero.
fn wide(html: &[u8]) -> Option<&'static Encoding> {
    let head = &html[..html.len().min(512) & !1];
    let zeros = |odd: usize| head.iter().skip(odd).step_by(2).filter(|b| **b == 0).count();
    let half = head.len() / 2;
    if half < 4 {
        return None;
    }
    let (even, odd) = (zeros(0), zeros(1));
    if odd * 2 > half && even * 8 < half {
        Some(UTF_16LE)
    } else if even * 2 > half && odd * 8 < half {
        Some(UTF_16BE)
    } else {
        None
    }
}

/// Whether bytes that are not UTF-8 are nearly all UTF-8: a page that was cut, or pasted together.
fn utf8_faults(html: &[u8]) -> bool {
    let (mut characters, mut faults) = (0, 0);
    for chunk in html.utf8_chunks() {
        characters += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        // The end of the page may be in the middle of a character.
        faults += usize::from(!chunk.invalid().is_empty());
    }
    characters >= faults * UTF8_CHARACTERS_PER_FAULT
}

/// The label behind `charset=`.
fn label_in(text: &[u8]) -> Option<&[u8]> {
    let lower = text.to_ascii_lowercase();
    let mut at = memmem::find(&lower, b"charset")? + "charset".len();
    while text.get(at).is_some_and(|b| b.is_ascii_whitespace() || *b == b'=') {
        at += 1;
    }
    if matches!(text.get(at), Some(b'"' | b'\'')) {
        at += 1;
    }
    let rest = &text[at.min(text.len())..];
    let end = rest
        .iter()
        .position(|b| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b';' | b'>' | b'/' | b','))
        .unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

/// The label that a `meta` or the XML declaration names.
fn in_page(head: &[u8]) -> Option<&[u8]> {
    if head.starts_with(b"<?xml") {
        let end = memchr::memchr(b'>', head).unwrap_or(head.len());
        if let Some(at) = memmem::find(&head[..end], b"encoding=") {
            let rest = &head[at + "encoding=".len() + 1..end.max(at + "encoding=".len() + 1)];
            let length = rest.iter().position(|b| matches!(b, b'"' | b'\'' | b'?')).unwrap_or(rest.len());
            return Some(&rest[..length]);
        }
    }
    let mut from = 0;
    while let Some(open) = memchr::memchr(b'<', &head[from..]) {
        let tag = &head[from + open..];
        from += open + 1;
        if tag.starts_with(b"<!--") {
            from += memmem::find(tag, b"-->").unwrap_or(0);
        } else if tag.len() > 5 && tag[1..5].eq_ignore_ascii_case(b"meta") {
            let tag = &tag[..memchr::memchr(b'>', tag).unwrap_or(tag.len())];
            if let Some(label) = label_in(tag) {
                return Some(label);
            }
        } else if tag.len() > 5 && tag[1..5].eq_ignore_ascii_case(b"body") {
            break;
        }
    }
    None
}

/// The charset of bytes that are not UTF-8: a claim that the bytes bear out, or what a detector says.
fn detect(html: &[u8], claims: &[&'static Encoding], url: &str) -> &'static Encoding {
    let sample = telling(html);
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(&sample, true);
    let host = url.split("://").nth(1).unwrap_or(url).split(['/', ':', '?', '#']).next().unwrap_or("");
    let domain = host
        .rsplit('.')
        .next()
        .map(str::to_ascii_lowercase)
        .filter(|domain| !domain.is_empty() && domain.bytes().all(|b| b.is_ascii_alphabetic()));
    let guess = detector.guess(domain.as_deref().map(str::as_bytes), Utf8Detection::Deny);
    for &claim in claims {
        if same_family(claim, guess) && !is_wrong(claim, &sample) {
            return refined(claim, guess, &sample);
        }
    }
    // Few bytes say little: then a declaration stands that they do not contradict. So it does among the charsets of one alphabet,
    // except for that which servers declare without asking.
    let few = sample.iter().filter(|b| !b.is_ascii()).count() < FEW_BYTES;
    let pairs = comes_in_pairs(&sample);
    let stands = |claim: &'static Encoding| {
        few || is_latin(guess)
            && (claim != WINDOWS_1252 && is_latin(claim) || pairs && !claim.is_single_byte())
    };
    if let Some(&claim) = claims.iter().find(|claim| stands(claim) && !is_wrong(claim, &sample)) {
        return refined(claim, guess, &sample);
    }
    refined(guess, guess, &sample)
}

/// The bytes that tell one charset from another: those beyond ASCII, with the words around them; without most of the markup.
fn telling(html: &[u8]) -> Vec<u8> {
    let mut sample = Vec::with_capacity(html.len().min(MOST_DETECTED));
    let mut at = 0;
    while at < html.len() && sample.len() < MOST_DETECTED {
        let Some(next) = html[at..].iter().position(|b| !b.is_ascii()) else { break };
        let next = at + next;
        // From the beginning of the word, to the next tag or line.
        let start = html[at..next]
            .iter()
            .rposition(|b| matches!(b, b'<' | b'>' | b'\n' | b' '))
            .map_or(at, |p| at + p + 1);
        // Bytes of a character of two, where the second is ASCII, must stay together: a space ends no character in any charset.
        let end =
            html[next..].iter().position(|b| matches!(b, b'\n' | b' ')).map_or(html.len(), |p| next + p);
        let end = end.min(next + 4096);
        sample.extend_from_slice(&html[start..end]);
        sample.push(b' ');
        at = end.max(next + 1);
    }
    sample
}

/// Whether bytes beyond ASCII come together, as those of Chinese do: in Latin text each is alone among letters.
fn comes_in_pairs(sample: &[u8]) -> bool {
    let beyond = sample.iter().filter(|b| !b.is_ascii()).count();
    let together = sample.windows(2).filter(|pair| !pair[0].is_ascii() && !pair[1].is_ascii()).count();
    together * 10 >= beyond * 7
}

/// Whether the charset is one byte a character, for languages in Latin letters.
fn is_latin(encoding: &'static Encoding) -> bool {
    ["windows-1250", "windows-1252", "windows-1254", "windows-1257", "windows-1258", "macintosh"]
        .contains(&encoding.name())
        || [
            "ISO-8859-2",
            "ISO-8859-3",
            "ISO-8859-4",
            "ISO-8859-10",
            "ISO-8859-13",
            "ISO-8859-14",
            "ISO-8859-15",
            "ISO-8859-16",
        ]
        .contains(&encoding.name())
}

/// Whether two names mean one charset, or one that has the other in it.
fn same_family(claim: &'static Encoding, guess: &'static Encoding) -> bool {
    claim == guess
        || [claim, guess].iter().all(|encoding| *encoding == GBK || *encoding == GB18030)
        || [claim, guess].iter().all(|encoding| *encoding == WINDOWS_1252 || *encoding == ISO_8859_15)
        || claim.name().starts_with("KOI8") && guess.name().starts_with("KOI8")
        || claim == BIG5 && guess == BIG5
}

/// Whether the bytes cannot be in the charset.
fn is_wrong(encoding: &'static Encoding, sample: &[u8]) -> bool {
    let (text, _) = encoding.decode_without_bom_handling(sample);
    let (mut beyond, mut wrong) = (0, 0);
    for character in text.chars().filter(|c| !c.is_ascii()) {
        beyond += 1;
        // A byte that the charset leaves open becomes a control character.
        wrong += usize::from(
            character == char::REPLACEMENT_CHARACTER || ('\u{80}'..='\u{9f}').contains(&character),
        );
    }
    wrong * 20 > beyond
}

/// `encoding`, or its later form where the bytes have what only that has.
fn refined(encoding: &'static Encoding, guess: &'static Encoding, sample: &[u8]) -> &'static Encoding {
    if encoding == WINDOWS_1252 && guess == WINDOWS_1252 && is_latin_9(sample) {
        return ISO_8859_15;
    }
    encoding
}

/// Whether bytes that Latin-1 takes for fractions stand in words, as `½` for `œ` in `cœur`, or `¤` for `€` beside numbers.
fn is_latin_9(sample: &[u8]) -> bool {
    if sample.iter().any(|b| (0x80..0xa0).contains(b)) {
        return false;
    }
    sample.windows(3).any(|window| {
        let letter = |b: u8| b.is_ascii_alphabetic() || b >= 0xc0;
        match window[1] {
            0xbc | 0xbd | 0xa6 | 0xa8 | 0xb4 | 0xb8 | 0xbe => {
                letter(window[0]) && window[0] != 0xc3 && letter(window[2])
            }
            _ => false,
        }
    })
}
