//! Rows of which conditions on their fields hold.

use std::path::Path;

use koan_data::DataFiles;
use serde::Deserialize;
use serde_json::Value;

use super::{Row, RowsError, rows_of, write};

/// The settings of a step `filter`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    data: DataFiles,
    /// All of which must hold.
    #[serde(rename = "where")]
    conditions: Vec<Condition>,
}

/// A condition on a field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    /// The field: its key, and the keys or places within it: `meta.level`, `completions.0.text`.
    field: String,
    /// The least number.
    min: Option<f64>,
    /// The largest.
    max: Option<f64>,
    /// The value, or one of several.
    equals: Option<toml::Value>,
}

impl Condition {
    fn check(&self) -> Result<(), RowsError> {
        let field = &self.field;
        let wrong = |what: &str| RowsError::Settings(format!("where, of the field `{field}`: {what}"));
        if field.is_empty() {
            return Err(wrong("`field` is empty"));
        }
        if self.min.is_none() && self.max.is_none() && self.equals.is_none() {
            return Err(wrong("write `min`, `max` or `equals`"));
        }
        let bounds = [self.min, self.max];
        if bounds.iter().flatten().any(|bound| !bound.is_finite()) {
            return Err(wrong("`min` and `max` are finite numbers"));
        }
        if let [Some(min), Some(max)] = bounds
            && min > max
        {
            return Err(wrong("`min` is above `max`: no row passes"));
        }
        Ok(())
    }

    /// The values that `equals` allows.
    fn allowed(&self) -> Option<Vec<Value>> {
        let values = match self.equals.as_ref()? {
            toml::Value::Array(values) => values.clone(),
            one => vec![one.clone()],
        };
        Some(values.into_iter().filter_map(|value| serde_json::to_value(value).ok()).collect())
    }

    fn holds(&self, value: &Value, allowed: Option<&[Value]>) -> bool {
        let number = value.as_f64();
        let is_equal = |other: &Value| match (number, other.as_f64()) {
            (Some(a), Some(b)) => a == b,
            _ => value == other,
        };
        self.min.is_none_or(|min| number.is_some_and(|n| n >= min))
            && self.max.is_none_or(|max| number.is_some_and(|n| n <= max))
            && allowed.is_none_or(|allowed| allowed.iter().any(is_equal))
    }
}

/// The value at `field` in `row`.
fn find<'a>(row: &'a Row, field: &str) -> Option<&'a Value> {
    if let Some(value) = row.get(field) {
        return Some(value);
    }
    let (first, rest) = field.split_once('.')?;
    rest.split('.').try_fold(row.get(first)?, |value, key| match value {
        Value::Array(values) => values.get(key.parse::<usize>().ok()?),
        value => value.get(key),
    })
}

impl Filter {
    pub(super) fn check(&self) -> Result<(), RowsError> {
        if self.conditions.is_empty() {
            return Err(RowsError::Settings("there is no condition: write [[step.where]]".to_owned()));
        }
        self.conditions.iter().try_for_each(Condition::check)
    }

    pub(super) fn make(&self, out: &Path) -> Result<(), RowsError> {
        let rows = rows_of(&self.data)?;
        let mut kept: Vec<&Row> = rows.iter().collect();
        for condition in &self.conditions {
            let field = &condition.field;
            if !rows.iter().any(|row| find(row, field).is_some()) {
                let has: Vec<&str> = rows[0].keys().map(|key| &**key).collect();
                let has = has.join("`, `");
                let what = format!("no row of {} has the field `{field}`; the first has `{has}`", self.data);
                return Err(RowsError::Rows(what));
            }
            let (before, allowed) = (kept.len(), condition.allowed());
            kept.retain(|row| {
                find(row, field).is_some_and(|value| condition.holds(value, allowed.as_deref()))
            });
            if kept.is_empty() {
                let what = format!("nothing is left: the condition on `{field}` refuses all {before} rows");
                return Err(RowsError::Rows(what));
            }
        }
        write(out, kept)
    }
}
