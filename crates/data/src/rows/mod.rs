//! Rows of data files, whatever the files' format: JSON Lines, one JSON array, Parquet; plain, or in gzip or zstd.
//!
//! | module | holds |
//! |---|---|
//! | `paths` | which files: names and patterns, their hash |
//! | `input` | what a file is by its first bytes; decompression within a limit; the byte-order mark |
//! | `values` | the values of a JSON array, or of objects that span lines, one by one |
//! | `parquet` | rows of Parquet files as JSON |
//! | `diagnose` | which field of a row is of the wrong type |
//!
//! A row is the bytes of its JSON, so that a reader decides what becomes of numbers and unknown fields. Files are streams: what
//! is in memory is a row, and of Parquet a page of each column.

mod diagnose;
mod input;
mod parquet;
mod paths;
mod values;

pub(crate) use diagnose::type_of;
pub use paths::DataFiles;

use crate::error::{DataError, LineError};
use input::Source;
use koan_files::jsonl::{self, Lines, MAX_LINE_BYTES};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fmt;
use std::io::{self, BufRead, Cursor, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a row is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its file.
    pub path: Arc<Path>,
    /// Its line, or its row where the file has no lines; from 1.
    pub number: usize,
    /// Whether the number is that of a line.
    pub is_line: bool,
}

impl fmt::Display for Place {
    /// `a.jsonl:3`, or `a.parquet, row 3`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.is_line { ":" } else { ", row " };
        write!(f, "{}{separator}{}", self.path.display(), self.number)
    }
}

/// A row with its place, or why it can't be one.
pub type Row = (Place, Result<Vec<u8>, jsonl::LineError>);

/// The rows of a file. After an error there are no more.
pub struct Rows {
    path: Arc<Path>,
    format: Format,
    is_over: bool,
    /// Rows so far.
    read: usize,
}

enum Format {
    Lines(Lines<Box<dyn BufRead + Send>>),
    Values(values::Values<Box<dyn BufRead + Send>>),
    Parquet(Box<parquet::Rows>),
}

impl Rows {
    /// The rows of the file `path`, each of at most [`MAX_LINE_BYTES`].
    ///
    /// # Errors
    /// A file that cannot be read, or is of a format that is not read.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        Self::open_up_to(path, MAX_LINE_BYTES)
    }

    /// The same, with rows of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Rows::open`].
    pub fn open_up_to(path: &Path, limit: usize) -> Result<Self, DataError> {
        match input::open(path)? {
            Source::Text(text) => Self::of_text(path, text, limit),
            Source::Parquet(file) => {
                let rows = parquet::Rows::open(file, limit).map_err(|what| damaged(path, None, what))?;
                Ok(Self::new(path, Format::Parquet(Box::new(rows))))
            }
        }
    }

    /// The rows of a text of JSON, which errors name `path`.
    ///
    /// # Errors
    /// A text that cannot be read.
    pub fn of_text(path: &Path, mut text: Box<dyn BufRead + Send>, limit: usize) -> Result<Self, DataError> {
        let (mut first, mut skipped) = (Vec::new(), 0);
        loop {
            text.by_ref()
                .take(limit as u64 + 1)
                .read_until(b'\n', &mut first)
                .map_err(|source| read_error(path, 0, source))?;
            if !(first.ends_with(b"\n") && first.trim_ascii().is_empty()) {
                break;
            }
            first.clear();
            skipped += 1;
        }
        if skipped == 0 && first.starts_with(input::BOM) {
            first.drain(..input::BOM.len());
        }
        let is_cut = first.len() > limit;
        let is_whole = !is_cut && values::is_whole(&first);
        let is_array = first.trim_ascii_start().starts_with(b"[");
        let ends_open = matches!(first.trim_ascii_end().last(), Some(b'{' | b'[' | b',' | b':'));
        let more = !is_cut && has_more(&mut text).map_err(|source| read_error(path, 0, source))?;
        let is_object = first.trim_ascii_start().starts_with(b"{");
        let whole: Box<dyn BufRead + Send> = Box::new(Cursor::new(first).chain(text));
        let format = if is_array && !(is_whole && more) {
            Format::Values(values::Values::array(whole, limit))
        } else if is_object && !is_whole && ends_open && more {
            Format::Values(values::Values::objects(whole, limit))
        } else {
            Format::Lines(Lines::with_limit(whole, limit).after(skipped))
        };
        Ok(Self::new(path, format))
    }

    fn new(path: &Path, format: Format) -> Self {
        Self { path: path.into(), format, is_over: false, read: 0 }
    }

    /// Whether a row is a line of its file.
    fn has_lines(&self) -> bool {
        matches!(self.format, Format::Lines(_))
    }

    fn read(&mut self) -> Result<Option<jsonl::Numbered>, DataError> {
        let (path, read) = (&self.path, self.read);
        match &mut self.format {
            Format::Lines(lines) => lines.next().transpose().map_err(|source| read_error(path, read, source)),
            Format::Values(values) => values.next().transpose().map_err(|error| match error {
                values::Wrong::Read(source) => read_error(path, read, source),
                values::Wrong::Json(what) => damaged(path, Some(read), what),
            }),
            Format::Parquet(rows) => {
                let row = rows.next().transpose().map_err(|what| damaged(path, Some(read), what))?;
                Ok(row.map(|row| (read + 1, row)))
            }
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Row, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let row = self.read().transpose();
        self.is_over = !matches!(row, Some(Ok(_)));
        self.read += 1;
        let (path, is_line) = (Arc::clone(&self.path), self.has_lines());
        Some(row?.map(|(number, json)| (Place { path, number, is_line }, json)))
    }
}

/// Whether anything but blanks is next. Nothing is read.
fn has_more(text: &mut impl BufRead) -> io::Result<bool> {
    Ok(!text.fill_buf()?.iter().all(u8::is_ascii_whitespace))
}

/// An error of reading; where decompression or the limit on it is at fault, it says so.
fn read_error(path: &Path, read: usize, source: io::Error) -> DataError {
    match source.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
            damaged(path, Some(read), source.to_string())
        }
        _ => DataError::Read { path: path.to_owned(), source },
    }
}

fn damaged(path: &Path, read: Option<usize>, what: String) -> DataError {
    DataError::Damaged { path: path.to_owned(), read: read.unwrap_or(0), what }
}

/// Calls `each` with the place and the value of every row of `files`.
///
/// # Errors
/// A file that cannot be read or has no rows, a row that is not such a value, and what `each` returns.
pub fn read<T: DeserializeOwned>(
    files: &DataFiles,
    mut each: impl FnMut(&Place, T) -> Result<(), LineError>,
) -> Result<(), DataError> {
    read_all(files, |place, value| each(place, value?))
}

/// The same, except that `each` also gets the rows that are not such values.
///
/// # Errors
/// A file that cannot be read or has no rows, and what `each` returns.
pub fn read_all<T: DeserializeOwned>(
    files: &DataFiles,
    mut each: impl FnMut(&Place, Result<T, LineError>) -> Result<(), LineError>,
) -> Result<(), DataError> {
    for path in files.paths()? {
        read_rows(Rows::open(&path)?, &mut each)?;
    }
    Ok(())
}

/// The same, of the rows of one file.
///
/// # Errors
/// As [`read_all`].
pub fn read_rows<T: DeserializeOwned>(
    rows: Rows,
    mut each: impl FnMut(&Place, Result<T, LineError>) -> Result<(), LineError>,
) -> Result<(), DataError> {
    let (path, mut is_empty) = (rows.path.to_path_buf(), true);
    for row in rows {
        is_empty = false;
        let (place, json) = row?;
        let value = json.map_err(LineError::from).and_then(|json| parse(&json));
        each(&place, value).map_err(|reason| DataError::Line { place, reason })?;
    }
    if is_empty { Err(DataError::Empty { path }) } else { Ok(()) }
}

/// The value of a row that was read as an object; if it is no such value, which field is at fault.
///
/// # Errors
/// [`LineError`] of the field.
pub fn value<T: DeserializeOwned>(row: Map<String, Value>) -> Result<T, LineError> {
    let json = serde_json::to_vec(&row).expect("an object of plain values");
    parse(&json)
}

/// The value of a row; if it is no such value, which field is at fault.
pub(crate) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, LineError> {
    jsonl::parse(json).map_err(|error| diagnose::wrong_field(json).unwrap_or_else(|| error.into()))
}

/// The text of the file `path`, decompressed and without byte-order mark, if it has at most `limit` bytes.
///
/// # Errors
/// A file that cannot be read, or is of a format that is not read, or larger.
pub fn read_text(path: &Path, limit: u64) -> Result<Vec<u8>, DataError> {
    let Source::Text(text) = input::open(path)? else {
        let remedy = "give its rows as they are, in a file named .parquet".to_owned();
        return Err(DataError::Unread { path: path.to_owned(), what: "Parquet, not text", remedy });
    };
    let mut bytes = Vec::new();
    text.take(limit + 1).read_to_end(&mut bytes).map_err(|source| read_error(path, 0, source))?;
    if bytes.len() as u64 > limit {
        let why = format!("over {limit} bytes; cut it into lines of a .jsonl file");
        return Err(DataError::Read {
            path: path.to_owned(),
            source: io::Error::new(io::ErrorKind::FileTooLarge, why),
        });
    }
    Ok(bytes)
}

/// The rows of all `files`, one file after the other.
///
/// # Errors
/// If a pattern matches no file.
pub fn all(files: &DataFiles) -> Result<impl Iterator<Item = Result<Row, DataError>>, DataError> {
    let paths: Vec<PathBuf> = files.paths()?;
    Ok(paths.into_iter().flat_map(|path| match Rows::open(&path) {
        Ok(rows) => Box::new(rows) as Box<dyn Iterator<Item = _>>,
        Err(error) => Box::new(std::iter::once(Err(error))),
    }))
}

#[cfg(test)]
mod tests;
