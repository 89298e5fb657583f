//! What a data file is, by its first bytes and not by its name, and its text.

use crate::DataError;
use flate2::bufread::MultiGzDecoder;
use koan_files::{Limited, open_stream};
use ruzstd::decoding::StreamingDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek as _, SeekFrom};
use std::path::Path;

/// Decompressed data may be this much, bytes,
const EXPANDED_BYTES: u64 = if cfg!(test) { 20 << 20 } else { 256 << 20 };
/// and besides this many times the compressed file: text seldom shrinks by more than 30, what is made to fill a disk by 1000.
const EXPANSION: u64 = 256;

/// The byte-order mark in UTF-8.
pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";

/// Bytes that say what a file is.
const PREFIX: usize = 512;

/// An opened data file.
pub(super) enum Source {
    /// Text in UTF-8, decompressed, without byte-order mark.
    Text(Box<dyn BufRead + Send>),
    /// A Parquet file.
    Parquet(File),
}

/// How far `file` may expand, bytes.
pub(super) fn expansion_limit(file: &File) -> u64 {
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    EXPANDED_BYTES.saturating_add(size.saturating_mul(EXPANSION))
}

/// Opens `path`.
pub(super) fn open(path: &Path) -> Result<Source, DataError> {
    let read_error = |source| DataError::Read { path: path.to_owned(), source };
    let unread = |what, remedy: String| DataError::Unread { path: path.to_owned(), what, remedy };
    let mut file = open_stream(path).map_err(read_error)?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(unread("a folder", format!("name its files, as in '{}/*.jsonl'", path.display())));
    }
    let may_be_endless = file.metadata().is_ok_and(|metadata| !metadata.is_file());
    let prefix = prefix_of(&mut file).map_err(read_error)?;
    let limit = expansion_limit(&file);
    let rest = BufReader::with_capacity(1 << 18, Cursor::new(prefix.clone()).chain(file));
    let text: Box<dyn BufRead + Send> = if prefix.starts_with(b"PAR1") {
        let mut file = rest.into_inner().into_inner().1;
        file.seek(SeekFrom::Start(0))
            .map_err(|_| unread("Parquet in a pipe", "write it to a file first".to_owned()))?;
        return Ok(Source::Parquet(file));
    } else if prefix.starts_with(&[0x1f, 0x8b]) {
        Box::new(BufReader::with_capacity(1 << 18, Bounded { from: MultiGzDecoder::new(rest), left: limit }))
    } else if is_zstd(&prefix) {
        let frames = ZstdFrames { state: Some(Frame::Between(Box::new(rest))) };
        Box::new(BufReader::with_capacity(1 << 18, Bounded { from: frames, left: limit }))
    } else {
        Box::new(rest)
    };
    let mut text =
        if may_be_endless { Box::new(BufReader::with_capacity(1 << 18, Limited::new(text))) } else { text };
    let prefix = prefix_of(&mut text).map_err(|source| super::read_error(path, 0, source))?;
    if let Some((what, remedy)) = unreadable(&prefix, path) {
        return Err(unread(what, remedy));
    }
    let skip = if prefix.starts_with(BOM) { BOM.len() } else { 0 };
    Ok(Source::Text(Box::new(Cursor::new(prefix[skip..].to_vec()).chain(text))))
}

/// The first [`PREFIX`] bytes, or all there are.
fn prefix_of(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut prefix = Vec::new();
    from.take(PREFIX as u64).read_to_end(&mut prefix)?;
    Ok(prefix)
}

fn is_zstd(prefix: &[u8]) -> bool {
    prefix.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || matches!(prefix, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]) // a frame to skip
}

/// What a file is that holds no rows that Koan reads, and what to do.
fn unreadable(prefix: &[u8], path: &Path) -> Option<(&'static str, String)> {
    let name = path.display();
    let python = |reader: &str| {
        format!(
            "make Parquet of it: python -c \"import pandas; pandas.{reader}('{name}').to_parquet('{name}.parquet')\""
        )
    };
    let to_utf8 = |from: &str| format!("make UTF-8 of it: iconv -f {from} -t UTF-8 '{name}' > '{name}.utf8'");
    let unpack = |with: &str| format!("unpack it first: {with} '{name}'");
    let starts = |magic: &[u8]| prefix.starts_with(magic);
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    Some(match () {
        () if starts(b"PAR1") => ("Parquet in a compressed file", unpack("gunzip")),
        () if starts(b"PARE") => ("encrypted Parquet", "write it without encryption".to_owned()),
        () if starts(b"ARROW1") => ("an Arrow file", python("read_feather")),
        () if starts(&[0xff, 0xff, 0xff, 0xff]) => (
            "an Arrow stream",
            "make Parquet of it with pyarrow: pq.write_table(pa.ipc.open_stream(FILE).read_all(), OUT)"
                .to_owned(),
        ),
        () if starts(b"PK\x03\x04") => ("a ZIP archive", unpack("unzip")),
        () if starts(b"BZh") => ("in bzip2", unpack("bunzip2")),
        () if starts(b"\xfd7zXZ\0") => ("in xz", unpack("unxz")),
        () if starts(&[0x04, 0x22, 0x4d, 0x18]) => ("in LZ4", unpack("unlz4")),
        () if prefix.get(257..262) == Some(b"ustar") => ("a tar archive", unpack("tar xf")),
        () if starts(b"SQLite format 3") => ("an SQLite database", "export its tables as JSON".to_owned()),
        () if starts(&[0x80]) && matches!(prefix.get(1), Some(2..=5)) => (
            "a Python pickle, which can run code when it is read",
            "write its rows as JSON Lines where it was made".to_owned(),
        ),
        () if starts(b"version https://git-lfs") => (
            "a Git LFS pointer in place of the file",
            "fetch the file: git lfs pull, or koan data pull".to_owned(),
        ),
        () if starts(&[0xff, 0xfe, 0, 0]) || starts(&[0, 0, 0xfe, 0xff]) => ("in UTF-32", to_utf8("UTF-32")),
        () if starts(&[0xff, 0xfe]) || starts(&[0xfe, 0xff]) => ("in UTF-16", to_utf8("UTF-16")),
        () if matches!(prefix, [b'{' | b'[', 0, ..]) => ("in UTF-16", to_utf8("UTF-16LE")),
        () if matches!(prefix, [0, b'{' | b'[', ..]) => ("in UTF-16", to_utf8("UTF-16BE")),
        () if extension == "csv" => ("CSV", python("read_csv")),
        () if starts(b"<!DOCTYPE") || starts(b"<!doctype") || starts(b"<html") => {
            ("a web page", "fetch the file itself; a hub's page is not the file".to_owned())
        }
        () => return None,
    })
}

/// Decompressed bytes, of which there may be `left` more.
struct Bounded<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(out)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            let what = format!(
                "it expands to more than {EXPANSION} times its size and {} MiB; unpack it by hand if you trust it",
                EXPANDED_BYTES >> 20
            );
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
        Ok(n)
    }
}

/// The contents of zstd frames, one after another; `ruzstd` reads one.
struct ZstdFrames {
    state: Option<Frame>,
}

type Compressed = Box<dyn BufRead + Send>;

enum Frame {
    Between(Compressed),
    In(Box<StreamingDecoder<Compressed, ruzstd::decoding::FrameDecoder>>),
}

impl Read for ZstdFrames {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.state.take() {
                None => return Ok(0),
                Some(Frame::Between(mut from)) => {
                    if from.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    if skip_frame(&mut from)? {
                        self.state = Some(Frame::Between(from));
                        continue;
                    }
                    let decoder = StreamingDecoder::new(from).map_err(invalid)?;
                    self.state = Some(Frame::In(Box::new(decoder)));
                }
                Some(Frame::In(mut decoder)) => match decoder.read(out).map_err(invalid)? {
                    0 if !out.is_empty() => self.state = Some(Frame::Between(decoder.into_inner())),
                    n => {
                        self.state = Some(Frame::In(decoder));
                        return Ok(n);
                    }
                },
            }
        }
    }
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("zstd: {error}"))
}

/// Skips a frame that is to be skipped, if there is one (RFC 8878, 3.1.2).
fn skip_frame(from: &mut Compressed) -> io::Result<bool> {
    if !matches!(from.fill_buf()?, [0x50..=0x5f, ..]) {
        return Ok(false);
    }
    let mut head = [0; 8];
    from.read_exact(&mut head)?;
    let length = u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
    if head[1..4] != [0x2a, 0x4d, 0x18]
        || io::copy(&mut from.by_ref().take(length), &mut io::sink())? != length
    {
        return Err(invalid("a frame is cut"));
    }
    Ok(true)
}
