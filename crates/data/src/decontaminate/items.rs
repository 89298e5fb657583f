//! Test items as files have them.

use std::{collections::HashMap, path::PathBuf};

use serde_json::{Map, Value};

use super::{FIELDS, Index, NO_TEXT, Test, hashed};
use crate::{
    DataError, DataFiles,
    error::LineError,
    rows::{self, Place},
};

/// Test items that were read, and their n-grams.
pub struct Tests {
    pub(super) index: Index,
    pub(super) items: Vec<Item>,
    pub(super) files: Vec<Test>,
}

/// An item of a test.
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) id: Option<Value>,
    /// Its file, by number.
    pub(super) test: usize,
}

impl std::fmt::Debug for Tests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tests").field("items", &self.items.len()).finish_non_exhaustive()
    }
}

impl Tests {
    /// Reads the items of `files`, for windows of `ngram` words: the texts of `fields`, or of [`FIELDS`] if none is named.
    ///
    /// # Errors
    /// Files that can't be read, and rows that are no objects or have no text.
    pub fn read(files: &DataFiles, ngram: usize, fields: &[String]) -> Result<Self, DataError> {
        let (mut index, mut items) = (Index::new(ngram), Vec::new());
        let mut tests: Vec<Test> =
            hashed(files)?.into_iter().map(|file| Test { file, items: 0, found: 0, rows: 0 }).collect();
        let numbers: HashMap<PathBuf, usize> =
            tests.iter().enumerate().map(|(i, test)| (test.file.path.clone(), i)).collect();
        rows::read(files, |place, row: Map<String, Value>| {
            let test = numbers[&*place.path];
            tests[test].items += 1;
            // Texts of one row are items of their own: a window must not go from one into the next.
            for text in texts(&row, fields)? {
                index.add(text);
                items.push(Item { place: place.clone(), id: row.get("id").cloned(), test });
            }
            Ok(())
        })?;
        Ok(Self { index, items, files: tests })
    }

    /// Where texts agree with the items, which have the numbers of [`Tests::item`].
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The files that the items are of.
    pub fn files(&self) -> &[Test] {
        &self.files
    }

    /// Where item `number` is, and its `id`, if it has one.
    pub fn item(&self, number: usize) -> (String, Option<Value>) {
        let Item { place, id, .. } = &self.items[number];
        (place.to_string(), id.clone())
    }

    /// Items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// The texts of a row.
pub(super) fn texts<'r>(row: &'r Map<String, Value>, fields: &[String]) -> Result<Vec<&'r str>, LineError> {
    let mut texts = Vec::new();
    let wanted = |field: &str| {
        if fields.is_empty() { FIELDS.contains(&field) } else { fields.iter().any(|f| f == field) }
    };
    for (_, value) in row.iter().filter(|(field, _)| wanted(field)) {
        collect(value, &mut texts);
    }
    if texts.is_empty() {
        let fields = if fields.is_empty() { FIELDS.join(", ") } else { fields.join(", ") };
        let what = format!("has no text in any of the fields {fields}; name one with --field");
        return Err(LineError::Row { what });
    }
    Ok(texts)
}

fn collect<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !NO_TEXT.contains(&name.as_str()))
            .for_each(|(_, value)| collect(value, texts)),
        _ => {}
    }
}
