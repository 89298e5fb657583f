//! JSON Lines of texts or of HTML, as other tools write them: `text` or `html`, and `url`.

use std::io;

use koan_files::jsonl::MAX_LINE_BYTES;
use serde::Deserialize;

use super::{
    Form, Item, Page, Reason, Skipped,
    stream::{Broken, Stream},
};

/// A row: ours, FineWeb's, or datatrove's, which has the URL among its metadata.
#[derive(Deserialize)]
struct Row {
    text: Option<String>,
    html: Option<String>,
    url: Option<String>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    url: Option<String>,
}

/// A file's rows.
pub(super) struct Rows {
    stream: Stream,
    limit: usize,
    count: u64,
    /// Where the next line begins in the text, bytes.
    place: u64,
    line: Vec<u8>,
}

/// How a line ended.
enum End {
    Line,
    /// Of more than [`MAX_LINE_BYTES`] only the first were kept.
    TooLong,
    File,
}

impl Rows {
    /// Reads `stream`, which is inside of its first member.
    pub(super) fn new(stream: Stream, limit: usize) -> Self {
        Self { stream, limit, count: 0, place: 0, line: Vec::new() }
    }

    pub(super) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Lines so far.
    pub(super) fn records(&self) -> u64 {
        self.count
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Item>> {
        loop {
            let offset = self.place;
            let skip =
                |reason, offset| Ok(Some(Item::Skipped(Skipped { reason, offset, url: String::new() })));
            match self.read_line() {
                Ok(End::File) => return Ok(None),
                Ok(End::TooLong) => return skip(Reason::LongLine, offset),
                Ok(End::Line) if self.line.trim_ascii().is_empty() => {}
                Ok(End::Line) => {
                    self.count += 1;
                    return match self.page(offset) {
                        Ok(page) => Ok(Some(Item::Page(page))),
                        Err(reason) => skip(reason, offset),
                    };
                }
                Err(Broken::System(error)) => return Err(error),
                Err(Broken::Damage(damage)) => {
                    // The line that the damage tears is lost; what comes behind it begins with a line's end.
                    if self.pass_damage()? {
                        let _ = self.read_line();
                    }
                    return skip(
                        if damage.is_end { Reason::FileEnds } else { Reason::Damaged },
                        damage.place,
                    );
                }
            }
        }
    }

    fn pass_damage(&mut self) -> io::Result<bool> {
        loop {
            match self.stream.pass_damage() {
                Ok(found) => return Ok(found),
                Err(Broken::Damage(_)) => {}
                Err(Broken::System(error)) => return Err(error),
            }
        }
    }

    /// Reads a line, wherever members end.
    fn read_line(&mut self) -> Result<End, Broken> {
        self.line.clear();
        let (mut is_long, mut is_any) = (false, false);
        loop {
            let bytes = self.stream.fill()?;
            if bytes.is_empty() {
                if self.stream.next_member()? {
                    continue;
                }
                return Ok(if is_long {
                    End::TooLong
                } else if is_any {
                    End::Line
                } else {
                    End::File
                });
            }
            is_any = true;
            let end = memchr::memchr(b'\n', bytes);
            let n = end.map_or(bytes.len(), |end| end + 1);
            is_long |= self.line.len() + n > MAX_LINE_BYTES;
            if !is_long {
                self.line.extend_from_slice(&bytes[..n]);
            }
            self.stream.consume(n);
            self.place += n as u64;
            if end.is_some() {
                return Ok(if is_long { End::TooLong } else { End::Line });
            }
        }
    }

    fn page(&self, offset: u64) -> Result<Page, Reason> {
        let row: Row = serde_json::from_slice(&self.line).map_err(|_| Reason::Json)?;
        let url = row.url.or(row.metadata.and_then(|metadata| metadata.url)).unwrap_or_default();
        let (form, payload) = match (row.text, row.html) {
            (_, Some(html)) => (Form::Html, html),
            (Some(text), None) => (Form::Text, text),
            (None, None) => return Err(Reason::NoText),
        };
        if payload.trim().is_empty() {
            return Err(Reason::Empty);
        }
        let is_cut = payload.len() > self.limit;
        let mut end = payload.len().min(self.limit);
        while !payload.is_char_boundary(end) {
            end -= 1;
        }
        let payload = payload.as_bytes()[..end].to_vec();
        let content_type = (form == Form::Html).then(|| "text/html; charset=utf-8".to_owned());
        Ok(Page { url, form, content_type, offset, payload, is_cut })
    }
}
