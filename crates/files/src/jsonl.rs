//! JSON Lines: read with a bound, written whole or not at all.

use std::{
    fs,
    io::{self, BufRead, Read as _, Write},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{FilesError, NewFile};

/// Longest line that is read, bytes: a file without line ends can't fill the memory, and a completion of a hundred thousand
/// tokens with the log-probability of each is below it.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// What is wrong with a line, whatever it should hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// Not JSON, or JSON of something else.
    #[error("{message}, column {column}")]
    Json {
        /// The parser's message.
        message: String,
        /// The column, from 1.
        column: usize,
    },
}

/// A line with its number, from 1; or that it is too long.
pub type Numbered = (usize, Result<Vec<u8>, LineError>);

/// The lines of an input that are not blank.
///
/// The rest of a line that is too long is read only when the next is asked for, so that an endless one is noticed.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    number: usize,
    /// The last line was too long, and its end was not read.
    is_cut: bool,
    limit: usize,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `input`.
    pub fn new(input: R) -> Self {
        Self::with_limit(input, MAX_LINE_BYTES)
    }

    /// The lines of `input`, each of at most `limit` bytes.
    pub fn with_limit(input: R, limit: usize) -> Self {
        Self { input, number: 0, is_cut: false, limit }
    }

    /// The same, where `lines` were read before.
    #[must_use]
    pub fn after(self, lines: usize) -> Self {
        Self { number: lines, ..self }
    }

    fn read(&mut self) -> io::Result<Option<Numbered>> {
        loop {
            if self.is_cut {
                self.input.skip_until(b'\n')?;
                self.is_cut = false;
            }
            let mut line = Vec::new();
            let limit = self.limit as u64 + 1;
            if self.input.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if line.len() > self.limit {
                self.is_cut = !line.ends_with(b"\n");
                return Ok(Some((self.number, Err(LineError::TooLong))));
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some((self.number, Ok(line))));
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Numbered>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// The value of a line.
///
/// # Errors
/// [`LineError::Json`].
pub fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, LineError> {
    Ok(serde_json::from_slice(line)?)
}

/// The parser's message without its line number, which is always 1.
impl From<serde_json::Error> for LineError {
    fn from(error: serde_json::Error) -> Self {
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(before, _)| before);
        Self::Json { message: message.to_owned(), column: error.column().max(1) }
    }
}

/// Writes `value` as a line.
///
/// # Errors
/// Those of `out`.
pub fn write_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// Writes `values` to the file `path`, a line each, as [`NewFile`] does; makes its folder if there is none.
///
/// # Errors
/// If the operating system refuses.
pub fn write(path: &Path, values: impl IntoIterator<Item = impl Serialize>) -> Result<(), FilesError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(FilesError::io("write", path))?;
    }
    let mut file = NewFile::create(path)?;
    let written = values.into_iter().try_for_each(|value| write_line(&mut file, &value));
    written.map_err(FilesError::io("write", path))?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_their_numbers_whatever_is_between_them() {
        let long = " ".repeat(MAX_LINE_BYTES + 5);
        let text = format!("1\n\n  \n{long}\n[2]");
        let lines: Vec<Numbered> = Lines::new(text.as_bytes()).map(|line| line.expect("read")).collect();
        let wanted = [(1, Ok(b"1\n".to_vec())), (4, Err(LineError::TooLong)), (5, Ok(b"[2]".to_vec()))];
        assert_eq!(lines, wanted);
        // A line that fills the bound with its end is read.
        let full = format!("{}1\n2\n", " ".repeat(MAX_LINE_BYTES - 2));
        assert_eq!(
            Lines::new(full.as_bytes()).filter(|line| line.as_ref().is_ok_and(|l| l.1.is_ok())).count(),
            2
        );
        let mut endless = Lines::new(io::BufReader::new(io::repeat(b' ')));
        assert!(matches!(endless.next(), Some(Ok((1, Err(LineError::TooLong))))));
    }

    #[test]
    fn the_parsers_message_comes_without_its_line() {
        assert_eq!(parse::<u32>(b"7\n"), Ok(7));
        let error = parse::<u32>(b"[7]").expect_err("a list").to_string();
        assert_eq!(error, "invalid type: sequence, expected u32, column 1");
    }

    #[test]
    fn values_are_written_a_line_each_and_their_folder_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b/lines.jsonl");
        write(&path, ["\n", "b"]).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), "\"\\n\"\n\"b\"\n");
        assert_eq!(fs::read_dir(folder.path().join("a/b")).expect("listed").count(), 1);
    }
}
