//! Rows of several files, by shares, in one random order.

use std::path::Path;

use koan_data::DataFiles;
use serde::Deserialize;

use super::{Row, RowsError, lot, rows_of, write};

/// The most rows of a mix.
const MAX_ROWS: usize = 100_000_000;

/// The settings of a step `mix`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mix {
    seed: u64,
    /// Rows in all; none: as many as there can be, by the shares, without a row twice.
    rows: Option<usize>,
    #[serde(rename = "part")]
    parts: Vec<Part>,
}

/// A part of a mix.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    data: DataFiles,
    /// Its share, beside those of the others: they need not sum to 1.
    share: f64,
    /// Whether its rows may come more than once, where it has too few.
    #[serde(default)]
    repeat: bool,
}

impl Mix {
    pub(super) fn check(&self) -> Result<(), RowsError> {
        let wrong = |what: String| Err(RowsError::Settings(what));
        if self.parts.is_empty() {
            return wrong("there is nothing to mix: write [[step.part]] with `data` and `share`".to_owned());
        }
        if let Some(part) = self.parts.iter().find(|part| !(part.share > 0.0 && part.share.is_finite())) {
            return wrong(format!("`share` of {} is {}: write a number above 0", part.data, part.share));
        }
        if self.rows.is_some_and(|rows| !(1..=MAX_ROWS).contains(&rows)) {
            return wrong(format!("`rows` is a number from 1 to {MAX_ROWS}"));
        }
        if self.rows.is_none() && self.parts.iter().all(|part| part.repeat) {
            return wrong("`rows` is missing: where all parts may repeat, there is no end".to_owned());
        }
        Ok(())
    }

    pub(super) fn make(&self, out: &Path) -> Result<(), RowsError> {
        let rows = self.parts.iter().map(|part| rows_of(&part.data)).collect::<Result<Vec<_>, _>>()?;
        let all: f64 = self.parts.iter().map(|part| part.share).sum();
        let shares: Vec<f64> = self.parts.iter().map(|part| part.share / all).collect();
        let scarce = self.parts.iter().zip(&rows).zip(&shares).filter(|((part, _), _)| !part.repeat);
        let most = scarce.map(|((_, rows), share)| rows.len() as f64 / share).fold(f64::INFINITY, f64::min);
        let total = self.rows.unwrap_or(most as usize);
        let counts = counts(total, &shares);
        let mut chosen: Vec<(u64, usize, usize, &Row)> = Vec::new();
        for (i, ((part, rows), count)) in self.parts.iter().zip(&rows).zip(&counts).enumerate() {
            if *count > rows.len() && !part.repeat {
                let what = format!(
                    "{count} of {total} rows are to be of {}, which has {}: lower `rows` or its `share`, or say repeat = true",
                    part.data,
                    rows.len()
                );
                return Err(RowsError::Rows(what));
            }
            let mut order: Vec<usize> = (0..rows.len()).collect();
            order.sort_by_key(|row| (lot(self.seed, [1, i as u64, *row as u64]), *row));
            for n in 0..*count {
                let row = order[n % rows.len()];
                chosen.push((lot(self.seed, [2, i as u64, n as u64]), i, n, &rows[row]));
            }
        }
        chosen.sort_by_key(|(lot, part, n, _)| (*lot, *part, *n));
        write(out, chosen.into_iter().map(|(_, _, _, row)| row))
    }
}

/// How many of `total` rows each share has: whole numbers that sum to it, the largest remainders rounded up.
pub(super) fn counts(total: usize, shares: &[f64]) -> Vec<usize> {
    let exact: Vec<f64> = shares.iter().map(|share| share * total as f64).collect();
    let mut counts: Vec<usize> = exact.iter().map(|n| n.floor() as usize).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|a, b| (exact[*b] - exact[*b].floor()).total_cmp(&(exact[*a] - exact[*a].floor())));
    let left = total.saturating_sub(counts.iter().sum());
    order.iter().cycle().take(left).for_each(|part| counts[*part] += 1);
    counts
}
