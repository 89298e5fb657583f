//! The fields of a file's first rows, by which its shape is known.

use super::row::Row;
use super::tests_of::Limits;
use super::{ConvertError, MAX_ROW_BYTES, repair};
use crate::DataError;
use crate::rows::{Rows, type_of};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Rows that are looked at, and about how many bytes of them.
const LOOKED_AT: (usize, usize) = (64, 4 << 20);

/// The first rows of a file.
#[derive(Debug, Default)]
pub(super) struct Fields {
    rows: Vec<Row>,
    /// Rows that are no objects.
    others: Vec<Value>,
}

impl Fields {
    pub(super) fn of(path: &Path) -> Result<Self, ConvertError> {
        let (mut fields, mut bytes, mut is_empty) = (Self::default(), 0, true);
        for row in Rows::open_up_to(path, MAX_ROW_BYTES)?.take(LOOKED_AT.0) {
            is_empty = false;
            let Ok(json) = row?.1 else { continue };
            let json = repair::repaired(&json).unwrap_or(json);
            bytes += json.len();
            match Row::new(&json, Limits::default()) {
                Some(row) => fields.rows.push(row),
                None => fields.others.extend(serde_json::from_slice::<Value>(&json)),
            }
            if bytes > LOOKED_AT.1 {
                break;
            }
        }
        if is_empty { Err(DataError::Empty { path: path.to_owned() }.into()) } else { Ok(fields) }
    }

    /// Whether a row has the field, and not null.
    pub(super) fn has(&self, field: &str) -> bool {
        self.rows.iter().any(|row| row.has(field))
    }

    pub(super) fn has_all(&self, fields: &[&str]) -> bool {
        fields.iter().all(|field| self.has(field))
    }

    pub(super) fn has_any(&self, fields: &[&str]) -> bool {
        fields.iter().any(|field| self.has(field))
    }

    /// Whether a row has the field, be it null.
    pub(super) fn knows(&self, field: &str) -> bool {
        self.rows.iter().any(|row| row.knows(field))
    }

    /// How many different fields there are.
    pub(super) fn len(&self) -> usize {
        let names: std::collections::BTreeSet<&str> = self.rows.iter().flat_map(Row::names).collect();
        names.len()
    }

    /// The names of the lists that the file's only object holds, if they are lists of objects: its rows are in there.
    pub(super) fn splits(&self) -> Vec<String> {
        let [row] = &self.rows[..] else { return Vec::new() };
        let is_rows = |name: &&str| {
            let list = row.list(name);
            !list.is_empty() && list.iter().all(Value::is_object)
        };
        row.names().filter(is_rows).map(str::to_owned).collect()
    }

    fn first(&self, field: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.has(field))
    }

    pub(super) fn is_text(&self, field: &str) -> bool {
        self.first(field).is_some_and(|row| row.is_text(field))
    }

    pub(super) fn is_list(&self, field: &str) -> bool {
        self.first(field).is_some_and(|row| row.is_list(field))
    }

    pub(super) fn is_object(&self, field: &str) -> bool {
        self.first(field).is_some_and(|row| row.is_object(field))
    }

    /// Whether most rows that have the field, and at least one, satisfy `is` by its text or JSON.
    pub(super) fn every(&self, field: &str, is: impl Fn(&str) -> bool) -> bool {
        let (mut n, mut good) = (0, 0);
        for row in self.rows.iter().filter(|row| row.has(field)) {
            let text = row.text(field).or_else(|| row.raw(field).map(str::to_owned)).unwrap_or_default();
            n += 1;
            good += usize::from(is(&text));
        }
        n > 0 && good * 2 > n
    }

    /// Whether rows are lists that satisfy `is`.
    pub(super) fn is_lists_of(&self, is: impl Fn(&Value) -> bool) -> bool {
        self.rows.is_empty() && !self.others.is_empty() && self.others.iter().all(is)
    }
}

impl fmt::Display for Fields {
    /// The fields with the types of their first values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 30;
        let mut types: BTreeMap<&str, String> = BTreeMap::new();
        for row in &self.rows {
            for name in row.names() {
                types.entry(name).or_insert_with(|| type_of(&row.value(name)));
            }
        }
        let shown: Vec<String> =
            types.iter().take(SHOWN).map(|(name, kind)| format!("`{name}` is {kind}")).collect();
        match (shown.is_empty(), self.others.first()) {
            (true, Some(other)) => write!(f, "its rows are no objects; the first is {}", type_of(other)),
            (true, None) => write!(f, "no row is a JSON object"),
            _ => write!(f, "{}", shown.join(", ")),
        }
    }
}
