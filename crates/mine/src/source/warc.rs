//! WARC (ISO 28500) and WET: records, in whatever they are packed, with their mistakes.

use std::io;

use super::{
    Form, Item, Page, Reason, Skipped,
    http::Head as HttpHead,
    stream::{Broken, Stream},
};
use crate::{
    address::bare,
    config::{Conversions, Read},
};

/// The longest head of a record, bytes.
const MAX_HEAD: usize = 64 << 10;
/// What a record begins with.
const MAGIC: &[u8] = b"WARC/";

/// The kinds of records that matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    Response,
    Resource,
    Conversion,
    Revisit,
    #[default]
    Other,
}

/// What a record's head says.
#[derive(Debug, Default)]
struct Head {
    kind: Kind,
    length: Option<u64>,
    url: String,
    content_type: String,
    payload_type: String,
    is_truncated: bool,
}

/// A file's records.
pub(super) struct Warc {
    stream: Stream,
    options: Read,
    /// Whether the stream is inside of a member.
    in_member: bool,
    /// Whether a captured page came before.
    has_pages: bool,
    records: u64,
    body: Vec<u8>,
    /// What is wrong with the record that was read last.
    pending: Option<Skipped>,
}

impl Warc {
    /// Reads `stream`, which is inside of its first member.
    pub(super) fn new(stream: Stream, options: &Read) -> Self {
        Self {
            stream,
            options: options.clone(),
            in_member: true,
            has_pages: false,
            records: 0,
            body: Vec::new(),
            pending: None,
        }
    }

    pub(super) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Records so far, of all kinds.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// The next page, or what is skipped in its place; none behind the last.
    pub(super) fn next(&mut self) -> io::Result<Option<Item>> {
        loop {
            if let Some(skipped) = self.pending.take() {
                return Ok(Some(Item::Skipped(skipped)));
            }
            match self.step() {
                Ok(Step::Item(item)) => return Ok(Some(item)),
                Ok(Step::Nothing) => {}
                Ok(Step::End) => return Ok(None),
                Err(Broken::System(error)) => return Err(error),
                Err(Broken::Damage(damage)) => {
                    let reason = if damage.is_end { Reason::FileEnds } else { Reason::Damaged };
                    self.pass_damage()?;
                    return Ok(Some(Item::Skipped(Skipped {
                        reason,
                        offset: damage.place,
                        url: String::new(),
                    })));
                }
            }
        }
    }

    fn pass_damage(&mut self) -> io::Result<()> {
        self.in_member = loop {
            match self.stream.pass_damage() {
                Ok(found) => break found,
                Err(Broken::Damage(_)) => {}
                Err(Broken::System(error)) => return Err(error),
            }
        };
        Ok(())
    }

    fn step(&mut self) -> Result<Step, Broken> {
        if !self.in_member {
            self.in_member = self.stream.next_member()?;
            if !self.in_member {
                return Ok(Step::End);
            }
        }
        self.skip_blank()?;
        let offset = self.stream.offset();
        let ahead = self.stream.peek(MAGIC.len())?;
        if ahead.is_empty() {
            self.in_member = false;
            return Ok(Step::Nothing);
        }
        if ahead != MAGIC {
            self.skip_to_record()?;
            return Ok(Step::Item(skipped(Reason::NoRecord, offset, "")));
        }
        let Some((head, length)) = self.head()? else {
            self.stream.consume(MAGIC.len());
            self.skip_to_record()?;
            return Ok(Step::Item(skipped(Reason::Head, offset, "")));
        };
        self.stream.consume(length);
        self.records += 1;
        let Some(length) = head.length else {
            self.skip_to_record()?;
            return Ok(Step::Item(skipped(Reason::Head, offset, &head.url)));
        };
        let is_cut = self.read_body(length, offset, &head.url)?;
        Ok(self.item(head, offset, is_cut))
    }

    /// The head of the record that begins here, and its length with the blank line; none if it has no end.
    fn head(&mut self) -> Result<Option<(Head, usize)>, Broken> {
        let mut wanted = 2 << 10;
        loop {
            let ahead = self.stream.peek(wanted)?;
            if let Some(found) = parse_head(ahead) {
                return Ok(Some(found));
            }
            if ahead.len() < wanted || wanted >= MAX_HEAD {
                return Ok(None);
            }
            wanted *= 4;
        }
    }

    /// Reads a record's body, of which `max_page_bytes` and a head's length are kept; whether its end is missing. What is wrong is left
    /// in `pending`.
    fn read_body(&mut self, length: u64, offset: u64, url: &str) -> Result<bool, Broken> {
        self.body.clear();
        let limit = self.options.max_page_bytes.saturating_add(MAX_HEAD);
        let mut left = length;
        let wrong = |reason| Some(Skipped { reason, offset, url: url.to_owned() });
        let mut is_short = false;
        while left > 0 {
            let bytes = match self.stream.fill() {
                Ok(bytes) => bytes,
                Err(Broken::Damage(damage)) if damage.is_end => {
                    self.pending = wrong(Reason::FileEnds);
                    self.in_member = false;
                    return Ok(!self.give_back_records());
                }
                Err(error) => return Err(error),
            };
            if bytes.is_empty() {
                // Some writers cut members where they like; a record of ours begins one.
                self.in_member = self.stream.next_member()?;
                if !self.in_member || self.stream.peek(MAGIC.len())? == MAGIC {
                    is_short = true;
                    break;
                }
                continue;
            }
            let n = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let room = limit - self.body.len();
            if n > room && room > 0 {
                // About to throw bytes away: a length that is too long is noticed while what follows can be given back.
                self.body.extend_from_slice(&bytes[..room]);
                self.stream.consume(room);
                left -= room as u64;
                if self.give_back_records() {
                    self.pending = wrong(Reason::Length);
                    return Ok(true);
                }
                continue;
            }
            if room > 0 {
                self.body.extend_from_slice(&bytes[..n]);
            }
            self.stream.consume(n);
            left -= n as u64;
        }
        if is_short {
            let is_last = !self.in_member;
            let is_found = is_last && self.give_back_records();
            self.in_member |= is_found;
            self.pending = wrong(if is_last && !is_found { Reason::FileEnds } else { Reason::Length });
            return Ok(true);
        }
        // Behind a body are blank lines, and then another record or the end of the member.
        let ahead = self.stream.peek(2 + 2 + MAGIC.len())?.trim_ascii_start();
        if !ahead.is_empty() && !MAGIC.starts_with(&ahead[..ahead.len().min(MAGIC.len())]) {
            self.pending = wrong(Reason::Length);
            if !self.give_back_records() {
                // The first bytes of the next record may be in the body.
                if length <= limit as u64 {
                    let tail = self.body.len().saturating_sub(16);
                    self.stream.unread(&self.body[tail..]);
                }
                self.skip_to_record()?;
            }
            return Ok(true);
        }
        Ok(length > limit as u64)
    }

    /// Puts back what of the body is another record, and so was taken by a length that is too long; whether there was any.
    fn give_back_records(&mut self) -> bool {
        let found = memchr::memmem::find_iter(&self.body, b"\nWARC/")
            .map(|at| at + 1)
            .find(|at| is_record(&self.body[*at..]));
        if let Some(at) = found {
            self.stream.unread(&self.body[at..]);
            let end = self.body[..at].trim_ascii_end().len();
            self.body.truncate(end);
        }
        found.is_some()
    }

    /// Passes blank lines.
    fn skip_blank(&mut self) -> Result<(), Broken> {
        loop {
            let bytes = self.stream.fill()?;
            let n = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let all = bytes.len();
            self.stream.consume(n);
            if n < all || all == 0 {
                return Ok(());
            }
        }
    }

    /// Passes all up to a line that begins a record, or to the end of the member.
    fn skip_to_record(&mut self) -> Result<(), Broken> {
        loop {
            let bytes = self.stream.peek(64 << 10)?;
            if bytes.is_empty() {
                return Ok(());
            }
            let found = memchr::memmem::find_iter(bytes, b"\nWARC/")
                .map(|at| at + 1)
                .find(|at| is_record(&bytes[*at..]));
            // A line may be cut by the end of what is ahead.
            let n = found.unwrap_or(bytes.len().saturating_sub(16).max(1));
            let is_last = found.is_none() && bytes.len() < 64 << 10;
            let n = if is_last { bytes.len() } else { n };
            self.stream.consume(n);
            if found.is_some() || is_last {
                return Ok(());
            }
        }
    }

    /// What a record gives.
    fn item(&mut self, head: Head, offset: u64, is_cut: bool) -> Step {
        let Head { kind, url, content_type, payload_type, is_truncated, .. } = head;
        let limit = self.options.max_page_bytes;
        let is_cut = is_cut || is_truncated;
        let skip = |reason| Step::Item(skipped(reason, offset, &url));
        let page = |form, content_type, mut payload: Vec<u8>, mut is_cut| {
            if payload.trim_ascii().is_empty() {
                return skip(Reason::Empty);
            }
            is_cut |= payload.len() > limit;
            payload.truncate(limit);
            Step::Item(Item::Page(Page { url: url.clone(), form, content_type, offset, payload, is_cut }))
        };
        match kind {
            Kind::Other => Step::Nothing,
            Kind::Revisit => skip(Reason::Revisit),
            Kind::Conversion => match self.options.conversions {
                Conversions::Auto if self.has_pages => skip(Reason::Conversion),
                Conversions::Skip => skip(Reason::Conversion),
                Conversions::Auto | Conversions::Read => match media_type(&content_type) {
                    "text/plain" | "" => {
                        page(Form::Text, Some(content_type), std::mem::take(&mut self.body), is_cut)
                    }
                    "text/html" => {
                        page(Form::Html, Some(content_type), std::mem::take(&mut self.body), is_cut)
                    }
                    _ => skip(Reason::NotHtml),
                },
            },
            Kind::Resource => {
                if !is_html(&payload_type, Some(&content_type), &self.body) {
                    return skip(Reason::NotHtml);
                }
                self.has_pages = true;
                page(Form::Html, Some(content_type), std::mem::take(&mut self.body), is_cut)
            }
            Kind::Response => {
                // Some crawlers of old stored bodies alone.
                let (head, at) = HttpHead::parse(&self.body).unwrap_or((HttpHead::none(), 0));
                self.has_pages = true;
                if !(200..300).contains(&head.status) {
                    return skip(Reason::Status);
                }
                let body = &self.body[at..];
                if body.is_empty() {
                    return skip(Reason::Empty);
                }
                // Told by what is declared before anything is unpacked, where that is enough.
                if !may_be_html(&payload_type, head.content_type.as_deref()) {
                    return skip(Reason::NotHtml);
                }
                let Some(unpacked) = head.page(body, limit) else { return skip(Reason::Encoding) };
                if !is_html(&payload_type, head.content_type.as_deref(), &unpacked.bytes) {
                    return skip(Reason::NotHtml);
                }
                page(Form::Html, head.content_type, unpacked.bytes, is_cut || unpacked.is_cut)
            }
        }
    }
}

enum Step {
    Item(Item),
    /// A record of no interest.
    Nothing,
    End,
}

fn skipped(reason: Reason, offset: u64, url: &str) -> Item {
    Item::Skipped(Skipped { reason, offset, url: url.to_owned() })
}

/// Whether a record begins with `bytes`: its magic and a version.
fn is_record(bytes: &[u8]) -> bool {
    bytes.strip_prefix(MAGIC).is_some_and(|rest| matches!(rest, [b'0' | b'1', b'.', b'0'..=b'9', ..]))
}

/// A head and its length; none if `bytes` hold no blank line.
fn parse_head(bytes: &[u8]) -> Option<(Head, usize)> {
    let mut head = Head::default();
    let mut at = memchr::memchr(b'\n', bytes)? + 1;
    loop {
        let end = at + memchr::memchr(b'\n', &bytes[at..])? + 1;
        let line = bytes[at..end].trim_ascii_end();
        at = end;
        if line.is_empty() {
            return Some((head, at));
        }
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (line[..colon].trim_ascii_end(), line[colon + 1..].trim_ascii());
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let text = || String::from_utf8_lossy(value).into_owned();
        match name.len() {
            9 if is("WARC-Type") => head.kind = kind(value),
            14 if is("Content-Length") => {
                head.length = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
            }
            15 if is("WARC-Target-URI") => bare(&text()).clone_into(&mut head.url),
            12 if is("Content-Type") => head.content_type = text(),
            28 if is("WARC-Identified-Payload-Type") => head.payload_type = text(),
            14 if is("WARC-Truncated") => head.is_truncated = true,
            _ => {}
        }
    }
}

fn kind(value: &[u8]) -> Kind {
    match value.to_ascii_lowercase().as_slice() {
        b"response" => Kind::Response,
        b"resource" => Kind::Resource,
        b"conversion" => Kind::Conversion,
        b"revisit" => Kind::Revisit,
        _ => Kind::Other,
    }
}

/// A media type without its parameters.
fn media_type(declared: &str) -> &str {
    declared.split([';', ',']).next().unwrap_or_default().trim()
}

fn is_html_type(declared: &str) -> bool {
    let is = |known: &str| media_type(declared).eq_ignore_ascii_case(known);
    is("text/html") || is("application/xhtml+xml") || is("application/vnd.wap.xhtml+xml")
}

/// Whether what is declared leaves HTML possible. What a crawler found in the bytes counts before what the server says.
fn may_be_html(payload_type: &str, content_type: Option<&str>) -> bool {
    const VAGUE: [&str; 7] = [
        "",
        "*/*",
        "unknown/unknown",
        "application/octet-stream",
        "application/xml",
        "text/xml",
        "text/plain",
    ];
    let declared = if payload_type.is_empty() { content_type.unwrap_or_default() } else { payload_type };
    is_html_type(declared) || VAGUE.iter().any(|vague| media_type(declared).eq_ignore_ascii_case(vague))
}

/// Whether a page is HTML: by what is declared, or else by its first bytes.
fn is_html(payload_type: &str, content_type: Option<&str>, bytes: &[u8]) -> bool {
    let declared = if payload_type.is_empty() { content_type.unwrap_or_default() } else { payload_type };
    is_html_type(declared)
        || may_be_html(payload_type, content_type) && {
            let head = bytes[..bytes.len().min(1024)].to_ascii_lowercase();
            [&b"<!doctype html"[..], b"<html", b"<head", b"<body"]
                .iter()
                .any(|mark| memchr::memmem::find(&head, mark).is_some())
        }
}
