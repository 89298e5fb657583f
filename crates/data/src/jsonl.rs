//! Lines of JSON, read with errors that name the file and the line.

use crate::error::{DataError, LineError};
use koan_files::jsonl::{Lines, parse};
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// Calls `each` with the number (from 1) and the value of every line of `path` that is not blank.
///
/// # Errors
/// A file that cannot be read, a line that is not such a value, and what `each` returns.
pub fn read<T: DeserializeOwned>(
    path: &Path,
    mut each: impl FnMut(usize, T) -> Result<(), LineError>,
) -> Result<(), DataError> {
    read_all(path, |line, value| each(line, value?))
}

/// The same, except that `each` also gets the lines that are not such values.
///
/// # Errors
/// A file that cannot be read, and what `each` returns.
pub fn read_all<T: DeserializeOwned>(
    path: &Path,
    mut each: impl FnMut(usize, Result<T, LineError>) -> Result<(), LineError>,
) -> Result<(), DataError> {
    let read_error = |source| DataError::Read { path: path.to_owned(), source };
    for line in Lines::new(BufReader::new(File::open(path).map_err(read_error)?)) {
        let (line, bytes) = line.map_err(read_error)?;
        let value = bytes.and_then(|bytes| parse(&bytes)).map_err(LineError::from);
        each(line, value).map_err(|reason| DataError::Line { path: path.to_owned(), line, reason })?;
    }
    Ok(())
}
