//! HTTP responses as crawlers store them: the head, chunks, content encodings.

use std::io::Read as _;

use super::inflate::{Unpacked, inflate};

/// The longest head, bytes.
const MAX_HEAD: usize = 256 << 10;
/// Encodings upon one another that are undone.
const MAX_ENCODINGS: usize = 4;
/// The longest line before a chunk, bytes.
const MAX_CHUNK_LINE: usize = 1 << 10;

/// What a response's head says of its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    /// `Content-Encoding`, in lower case.
    encodings: String,
    is_chunked: bool,
}

impl Head {
    /// That of a body without one.
    pub(super) fn none() -> Self {
        Self { status: 200, ..Self::default() }
    }

    /// The head that `block` begins with, and where the body begins. Line ends may lack their carriage return, and a head that lacks
    /// its end is all head.
    pub(super) fn parse(block: &[u8]) -> Option<(Self, usize)> {
        if !block.starts_with(b"HTTP/") {
            return None;
        }
        let mut head = Self::default();
        let mut at = 0;
        while at < block.len().min(MAX_HEAD) {
            let end = memchr::memchr(b'\n', &block[at..]).map_or(block.len(), |end| at + end + 1);
            let line = block[at..end].trim_ascii();
            let is_first = at == 0;
            at = end;
            if is_first {
                head.status = status(line);
            } else if line.is_empty() {
                break;
            } else {
                head.line(line);
            }
        }
        Some((head, at))
    }

    fn line(&mut self, line: &[u8]) {
        let Some(colon) = memchr::memchr(b':', line) else { return };
        let (name, value) = (line[..colon].trim_ascii_end(), line[colon + 1..].trim_ascii());
        let text = || String::from_utf8_lossy(value).into_owned();
        // `X-Crawler-Content-Encoding` and the like say what the crawler has undone.
        if name.eq_ignore_ascii_case(b"content-type") {
            self.content_type = self.content_type.take().or_else(|| Some(text()));
        } else if name.eq_ignore_ascii_case(b"content-encoding") {
            self.encodings = [self.encodings.as_str(), &text().to_ascii_lowercase()].join(",");
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_chunked |= text().to_ascii_lowercase().contains("chunked");
        }
    }

    /// The page in `body`, of at most `limit` bytes. What was declared falsely is taken as it is; none if it is packed and can't be
    /// unpacked.
    pub(super) fn page(&self, body: &[u8], limit: usize) -> Option<Unpacked> {
        let chunks = if self.is_chunked { unchunk(body) } else { None };
        let mut is_cut = chunks.as_ref().is_some_and(|chunks| chunks.is_cut);
        let mut bytes = chunks.map(|chunks| chunks.bytes);
        let declared: Vec<&str> =
            self.encodings.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        for encoding in declared.iter().rev().take(MAX_ENCODINGS) {
            let unpacked = unpack(encoding, bytes.as_deref().unwrap_or(body), limit);
            if let Some(unpacked) = unpacked {
                is_cut |= unpacked.is_cut;
                bytes = Some(unpacked.bytes);
            }
        }
        // Packed without a word, or once more than declared.
        if bytes.as_deref().unwrap_or(body).starts_with(&[0x1f, 0x8b, 8]) {
            let unpacked = inflate(bytes.as_deref().unwrap_or(body), limit)?;
            is_cut |= unpacked.is_cut;
            bytes = Some(unpacked.bytes);
        }
        let mut bytes = bytes.unwrap_or_else(|| body.to_vec());
        is_cut |= bytes.len() > limit;
        bytes.truncate(limit);
        Some(Unpacked { bytes, is_cut })
    }
}

fn status(line: &[u8]) -> u16 {
    let code = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).nth(1);
    code.and_then(|code| std::str::from_utf8(code).ok()).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// What lies in chunks; none if `body` begins with none. Behind a size that lies, the rest is taken as it is.
fn unchunk(body: &[u8]) -> Option<Unpacked> {
    let mut bytes = Vec::with_capacity(body.len());
    let mut at = 0;
    let is_cut = loop {
        let rest = &body[at..];
        let end = memchr::memchr(b'\n', &rest[..rest.len().min(MAX_CHUNK_LINE)]);
        let size = end.and_then(|end| {
            let line = rest[..end].split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            u64::from_str_radix(std::str::from_utf8(line).ok()?, 16).ok().filter(|_| !line.starts_with(b"+"))
        });
        let (Some(end), Some(size)) = (end, size) else {
            if at == 0 {
                return None;
            }
            bytes.extend_from_slice(rest);
            break true;
        };
        if size == 0 {
            break false;
        }
        let data = &rest[end + 1..];
        let n = usize::try_from(size).unwrap_or(usize::MAX).min(data.len());
        bytes.extend_from_slice(&data[..n]);
        if (n as u64) < size || n == data.len() {
            break true;
        }
        // The line end behind a chunk.
        let behind = &data[n..];
        at += end
            + 1
            + n
            + if behind.starts_with(b"\r\n") { 2 } else { usize::from(behind.starts_with(b"\n")) };
    };
    Some(Unpacked { bytes, is_cut })
}

/// `bytes` with one encoding undone; none if they are not so encoded, or the encoding is unknown.
fn unpack(encoding: &str, bytes: &[u8], limit: usize) -> Option<Unpacked> {
    match encoding {
        "gzip" | "x-gzip" if bytes.starts_with(&[0x1f, 0x8b]) => inflate(bytes, limit),
        "deflate" | "x-deflate" => inflate(bytes, limit),
        "br" => {
            // Few texts are Brotli by chance, none to its end: what errs is taken as Brotli only if it does not look like HTML.
            let reader = brotli_decompressor::Decompressor::new(bytes, 4096);
            read_all(reader, limit).filter(|unpacked| {
                !unpacked.is_cut || memchr::memchr(b'<', &bytes[..bytes.len().min(64)]).is_none()
            })
        }
        "zstd" if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) => {
            read_all(zstd::stream::read::Decoder::with_buffer(bytes).ok()?, limit)
        }
        _ => None,
    }
}

fn read_all(reader: impl std::io::Read, limit: usize) -> Option<Unpacked> {
    let mut bytes = Vec::new();
    let read = reader.take(limit as u64 + 1).read_to_end(&mut bytes);
    let is_cut = read.is_err() || bytes.len() > limit;
    bytes.truncate(limit);
    (!is_cut || !bytes.is_empty()).then_some(Unpacked { bytes, is_cut })
}
