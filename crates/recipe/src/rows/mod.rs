//! Steps that choose rows and change none:
//!
//! - `filter`: the rows of which conditions on their fields hold,
//! - `mix`: rows of several files, by shares,
//! - `split`: some rows to learn from, the others to measure by.

mod filter;
mod mix;
mod split;

use std::path::Path;

use koan_data::{DataError, DataFiles, rows, stable_hash};
use koan_files::{FilesError, jsonl};
use koan_train::config::with_nearest_name;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use toml::Table;

use self::{filter::Filter, mix::Mix, split::Split};
use crate::Kind;

/// A row.
type Row = Map<String, Value>;

/// Why rows could not be chosen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowsError {
    /// The settings make no sense.
    #[error("{0}")]
    Settings(String),
    /// The rows are not as they must be.
    #[error("{0}")]
    Rows(String),
    /// They could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// They could not be written.
    #[error(transparent)]
    Files(#[from] FilesError),
}

/// Whether steps of `kind` are such.
pub fn is_one(kind: Kind) -> bool {
    matches!(kind, Kind::Filter | Kind::Mix | Kind::Split)
}

/// Refuses settings that make no sense.
///
/// # Errors
/// Unknown keys, with the nearest that is known, and values.
pub fn check(kind: Kind, settings: &Table) -> Result<(), RowsError> {
    match kind {
        Kind::Filter => read::<Filter>(settings)?.check(),
        Kind::Mix => read::<Mix>(settings)?.check(),
        _ => read::<Split>(settings)?.check(),
    }
}

/// Chooses rows as `settings` say, and writes them into directory `dir`, whole.
///
/// # Errors
/// Settings that make no sense, rows that can't be read or written, and rows of which nothing is left.
pub fn make(kind: Kind, settings: &Table, dir: &Path) -> Result<(), RowsError> {
    check(kind, settings)?;
    match kind {
        Kind::Filter => read::<Filter>(settings)?.make(&dir.join("data.jsonl")),
        Kind::Mix => read::<Mix>(settings)?.make(&dir.join("data.jsonl")),
        _ => read::<Split>(settings)?.make(dir),
    }
}

fn read<T: DeserializeOwned>(settings: &Table) -> Result<T, RowsError> {
    settings
        .clone()
        .try_into()
        .map_err(|e: toml::de::Error| RowsError::Settings(with_nearest_name(&e.to_string(), &[])))
}

/// All rows of `files`.
fn rows_of(files: &DataFiles) -> Result<Vec<Row>, DataError> {
    let mut all = Vec::new();
    rows::read(files, |_, row: Row| {
        all.push(row);
        Ok(())
    })?;
    Ok(all)
}

fn write<'a>(path: &Path, rows: impl IntoIterator<Item = &'a Row>) -> Result<(), RowsError> {
    Ok(jsonl::write(path, rows)?)
}

/// A number that `words` decide, the same in every version and on every machine: what chance is made of.
fn lot(seed: u64, words: impl IntoIterator<Item = u64>) -> u64 {
    stable_hash(std::iter::once(seed).chain(words))
}

fn letters(text: &str) -> impl Iterator<Item = u64> {
    text.bytes().map(u64::from)
}

#[cfg(test)]
mod tests;
