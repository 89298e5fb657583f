//! Pages of a crawl in: of WARC and WET files and JSON Lines, packed or not, whatever their names.
//!
//! | file | holds |
//! |---|---|
//! | `paths` | files, patterns and lists of them |
//! | `raw`, `stream`, `inflate`, `whole` | a file's bytes, unpacked member by member, and what to do behind damage |
//! | `warc` | records of WARC and WET |
//! | `http` | heads, chunks, content encodings |
//! | `jsonl` | rows of JSON Lines |
//!
//! Nothing in a file stops its reading: what can't be read is counted with its reason, and reading goes on behind it.

mod http;
mod inflate;
mod jsonl;
mod paths;
mod raw;
mod stream;
mod warc;
mod whole;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use paths::files;

use serde::{Deserialize, Serialize};

use self::{
    jsonl::Rows,
    stream::{Broken, Stream},
    warc::Warc,
};
use crate::{MineError, config};

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

/// Why a record gives no page, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A status other than 2xx: an error, a redirection.
    Status,
    /// Something else than HTML.
    NotHtml,
    /// No body.
    Empty,
    /// A `revisit`: the same page as captured before.
    Revisit,
    /// The text of a page, beside captured pages; see [`config::Conversions`].
    Conversion,
    /// A content encoding that can't be undone.
    Encoding,
    /// A member that can't be unpacked, or whose checksum is wrong.
    Damaged,
    /// The file ends inside of a record.
    FileEnds,
    /// A record whose length is wrong. What it has is still read.
    Length,
    /// A record's head without end or length.
    Head,
    /// Bytes where a record should begin.
    NoRecord,
    /// A line of JSON Lines that is no object.
    Json,
    /// A line without `text` and `html`.
    NoText,
    /// A line that is too long.
    LongLine,
}

/// What a reader skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Why.
    pub reason: Reason,
    /// Where the record begins; see [`Source::offset`].
    pub offset: u64,
    /// Its URL, if it is known.
    pub url: String,
}

/// What a reader met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A page.
    Page(Page),
    /// Something else.
    Skipped(Skipped),
}

/// A file's pages.
pub struct Reader {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    Warc(Box<Warc>),
    Rows(Box<Rows>),
    Nothing(Box<Stream>),
}

/// Bytes that tell what a file is.
const HEAD: usize = 512;

impl Reader {
    /// Opens a file: WARC, WET or JSON Lines, plain or packed by gzip, zstd or LZ4, by its first bytes.
    ///
    /// # Errors
    /// If it can't be read, or is of another kind.
    pub fn open(path: &Path, options: &config::Read) -> Result<Self, MineError> {
        let read = MineError::read(path);
        let mut stream = match Stream::open(path) {
            Ok(stream) => stream,
            Err(error) => return Err(read(error)),
        };
        let head = stream.next_member().and_then(|_| Ok(stream.peek(HEAD)?.to_vec()));
        let head = match head {
            Ok(head) => head,
            Err(Broken::System(error)) => return Err(read(error)),
            // A WARC file whose first member is damaged is read behind it.
            Err(Broken::Damage(_)) => {
                stream.restart().map_err(read)?;
                return Ok(Self {
                    path: path.into(),
                    kind: Kind::Warc(Box::new(Warc::new(stream, options))),
                });
            }
        };
        let text = head.trim_ascii_start();
        let kind = if text.is_empty() && head.len() < HEAD {
            Kind::Nothing(Box::new(stream))
        } else if text.starts_with(b"WARC/") {
            Kind::Warc(Box::new(Warc::new(stream, options)))
        } else if text.starts_with(b"{") || text.starts_with(b"\xef\xbb\xbf{") {
            Kind::Rows(Box::new(Rows::new(stream, options.max_page_bytes)))
        } else {
            let (what, remedy) = other(text);
            return Err(MineError::Kind { path: path.into(), what, remedy });
        };
        Ok(Self { path: path.into(), kind })
    }

    /// The next page, or what is skipped in its place; none behind the last. What follows is read when it is asked for.
    ///
    /// # Errors
    /// If the operating system refuses.
    #[allow(clippy::should_implement_trait, reason = "an iterator that errs would invite to go on")]
    pub fn next(&mut self) -> Result<Option<Item>, MineError> {
        let item = match &mut self.kind {
            Kind::Warc(warc) => warc.next(),
            Kind::Rows(rows) => rows.next(),
            Kind::Nothing(_) => Ok(None),
        };
        item.map_err(MineError::read(&self.path))
    }

    /// Records or rows read so far, of all kinds.
    pub fn records(&self) -> u64 {
        match &self.kind {
            Kind::Warc(warc) => warc.records(),
            Kind::Rows(rows) => rows.records(),
            Kind::Nothing(_) => 0,
        }
    }

    /// Bytes of the file read so far, packed.
    pub fn place(&mut self) -> u64 {
        match &mut self.kind {
            Kind::Warc(warc) => warc.stream().raw().place(),
            Kind::Rows(rows) => rows.stream().raw().place(),
            Kind::Nothing(stream) => stream.raw().place(),
        }
    }

    /// The digest of the file: 128 bits of xxh3, in hex. Reads what was not read.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn digest(self) -> Result<String, MineError> {
        let stream = match self.kind {
            Kind::Warc(warc) => warc.into_stream(),
            Kind::Rows(rows) => rows.into_stream(),
            Kind::Nothing(stream) => *stream,
        };
        let digest: io::Result<String> = stream.digest();
        digest.map_err(MineError::read(&self.path))
    }
}

/// What a file is that is not read, and what to do.
fn other(head: &[u8]) -> (&'static str, &'static str) {
    let starts = |magic: &[u8]| head.starts_with(magic);
    match () {
        () if starts(b"filedesc:") => {
            ("ARC, the format before WARC", "convert it first, as with `warcio recompress`")
        }
        () if starts(b"PAR1") => ("Parquet", "write its rows as JSON Lines with `text` and `url` first"),
        () if starts(b"[") => ("a JSON array", "write an object a line: jq -c '.[]' FILE"),
        () if starts(b"BZh") => ("packed by bzip2", "unpack it first: bunzip2"),
        () if starts(b"\xfd7zXZ") => ("packed by xz", "unpack it first: unxz"),
        () if starts(b"PK\x03\x04") => {
            ("a ZIP archive (or WACZ)", "unpack it first: unzip; WACZ has its WARC files in archive/")
        }
        () if starts(b"<") => {
            ("HTML", "only WARC, WET and JSON Lines are read; put pages into rows with `html` and `url`")
        }
        () if starts(b"version https://git-lfs") => {
            ("a Git LFS pointer in place of the file", "fetch the file: git lfs pull")
        }
        () => {
            ("neither WARC, WET nor JSON Lines", "only these are read, plain or packed by gzip, zstd or LZ4")
        }
    }
}

#[cfg(test)]
mod tests;
