//! Some rows to learn from, the others to measure by. Rows of one question are on one side.

use std::{collections::BTreeMap, path::Path};

use koan_data::DataFiles;
use serde::Deserialize;

use super::{Row, RowsError, letters, lot, rows_of, write};
use crate::kind::PARTS;

/// Fields by which rows ask the same, the first that a row has; without any, the whole row.
const QUESTIONS: [&str; 4] = ["prompt", "messages", "text", "prompt_ids"];

/// The settings of a step `split`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Split {
    seed: u64,
    data: DataFiles,
    /// How many rows are held out: a share below 1, or a number of rows.
    held_out: f64,
}

impl Split {
    pub(super) fn check(&self) -> Result<(), RowsError> {
        let is_share = self.held_out > 0.0 && self.held_out < 1.0;
        let is_count = self.held_out >= 1.0 && self.held_out.fract() == 0.0 && self.held_out < 1e12;
        if is_share || is_count {
            return Ok(());
        }
        let what = "write a share above 0 and below 1, or a number of rows";
        Err(RowsError::Settings(format!("`held_out` is {}: {what}", self.held_out)))
    }

    pub(super) fn make(&self, dir: &Path) -> Result<(), RowsError> {
        let rows = rows_of(&self.data)?;
        let wanted = match self.held_out {
            share if share < 1.0 => (share * rows.len() as f64).round().max(1.0) as usize,
            count => count as usize,
        };
        // Questions by lot; the first of them, with all their rows, are held out.
        let mut questions: BTreeMap<(u64, String), usize> = BTreeMap::new();
        let keys: Vec<(u64, String)> = rows.iter().map(|row| self.key(row)).collect();
        for key in &keys {
            *questions.entry(key.clone()).or_default() += 1;
        }
        let (mut held_out, mut last) = (0, None);
        for (key, n) in &questions {
            if held_out >= wanted {
                break;
            }
            held_out += n;
            last = Some(key);
        }
        if held_out >= rows.len() {
            let what = format!(
                "{wanted} of the {} rows of {} are to be held out, and nothing would be left: rows of one question stay together",
                rows.len(),
                self.data
            );
            return Err(RowsError::Rows(what));
        }
        let is_held_out = |key: &(u64, String)| last.is_some_and(|last| key <= last);
        for (part, side) in PARTS.iter().zip([false, true]) {
            let of_side = rows.iter().zip(&keys).filter(|(_, key)| is_held_out(key) == side);
            write(&dir.join(format!("{part}.jsonl")), of_side.map(|(row, _)| row))?;
        }
        Ok(())
    }

    /// The lot of a row's question, with the question.
    fn key(&self, row: &Row) -> (u64, String) {
        let question = QUESTIONS.iter().find_map(|field| row.get(*field));
        let question =
            question.map_or_else(|| serde_json::to_string(row).unwrap_or_default(), ToString::to_string);
        (lot(self.seed, letters(&question)), question)
    }
}
