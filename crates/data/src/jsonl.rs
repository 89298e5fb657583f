//! Files of lines: read with a bound, written in whole or not at all.

use crate::error::{DataError, LineError};
use crate::problem::MAX_LINE_BYTES;
use serde::{Serialize, de::DeserializeOwned};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Write};
use std::path::Path;

/// Calls `each` with the number (from 1) and the value of every line of `path` that is not blank.
///
/// # Errors
/// A file that cannot be read, a line that is no such value, and what `each` returns.
pub fn read<T: DeserializeOwned>(
    path: &Path,
    mut each: impl FnMut(usize, T) -> Result<(), LineError>,
) -> Result<(), DataError> {
    read_all(path, |line, value| each(line, value?))
}

/// The same, where `each` also hears of lines that are no such value.
///
/// # Errors
/// A file that cannot be read, and what `each` returns.
pub fn read_all<T: DeserializeOwned>(
    path: &Path,
    mut each: impl FnMut(usize, Result<T, LineError>) -> Result<(), LineError>,
) -> Result<(), DataError> {
    let read_error = |source| DataError::Read { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(read_error)?);
    let mut buffer = Vec::new();
    for line in 1.. {
        buffer.clear();
        let limit = MAX_LINE_BYTES as u64 + 1;
        let value = match (&mut file).take(limit).read_until(b'\n', &mut buffer).map_err(read_error)? {
            0 => break,
            n_bytes if n_bytes > MAX_LINE_BYTES => Err(LineError::TooLong),
            _ if buffer.trim_ascii().is_empty() => continue,
            _ => serde_json::from_slice(&buffer).map_err(json_error),
        };
        let is_cut = matches!(value, Err(LineError::TooLong)) && !buffer.ends_with(b"\n");
        each(line, value).map_err(|reason| DataError::Line { path: path.to_owned(), line, reason })?;
        if is_cut {
            file.skip_until(b'\n').map_err(read_error)?;
        }
    }
    Ok(())
}

/// The parser's words without its line number, which is always 1.
fn json_error(error: serde_json::Error) -> LineError {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(words, _)| words).to_owned();
    LineError::Json { message, column: error.column().max(1) }
}

/// Writes `values` to `path`, a line each. The file is written beside its place, synced and renamed, so that a
/// reader sees the old file or the whole new one; a pipe or device is written directly.
///
/// # Errors
/// A file that cannot be written.
pub fn write(path: &Path, values: impl IntoIterator<Item = impl Serialize>) -> Result<(), DataError> {
    let is_special = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
    let written = if is_special { write_lines(path, values).map(drop) } else { replace(path, values) };
    written.map_err(|source| DataError::Write { path: path.to_owned(), source })
}

fn replace(path: &Path, values: impl IntoIterator<Item = impl Serialize>) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = folder.join(format!(".{}.{}.tmp", name.display(), std::process::id()));
    let written = write_lines(&beside, values).and_then(|file| {
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(folder)?.sync_all() // the rename itself is on disk only with its folder
    });
    if written.is_err() {
        _ = fs::remove_file(&beside); // the first error is the one to report
    }
    written
}

fn write_lines(path: &Path, values: impl IntoIterator<Item = impl Serialize>) -> io::Result<File> {
    let mut file = BufWriter::new(File::create(path)?);
    for value in values {
        serde_json::to_writer(&mut file, &value)?;
        file.write_all(b"\n")?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)
}
