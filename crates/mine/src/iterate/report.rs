//! What each round did, side by side.

use std::{fmt::Write as _, path::Path};

use koan_files::replace;
use serde::{Deserialize, Serialize};

use super::pool::read_json;
use crate::MineError;

const NAME: &str = "report.json";

/// A round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// From 1.
    pub round: usize,
    /// Documents of mathematics that were learnt from.
    pub positives: usize,
    /// Documents that earlier rounds' prefixes gave to them, before a sample was drawn.
    pub from_prefixes: usize,
    /// Documents of all else.
    pub negatives: usize,
    /// The least score that was kept.
    pub cut: f32,
    /// Documents that were scored.
    pub documents: u64,
    /// Documents that were kept.
    pub kept: u64,
    /// A quarter of their bytes.
    pub kept_tokens: u64,
    /// Documents that the round before did not keep.
    pub new: u64,
    /// Their share of those kept.
    pub new_share: f64,
    /// The share of the seed's held-out documents above the cut.
    pub seed_recall: f64,
    /// Domains that were judged mathematics.
    pub domains: usize,
    /// SHA-256 of the classifier.
    pub classifier: String,
}

/// All rounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// In their order.
    pub rounds: Vec<Round>,
}

impl Round {
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, MineError> {
        let path = folder.join(NAME);
        if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), MineError> {
        write(self, folder)
    }
}

impl Report {
    pub(super) fn write(&self, folder: &Path) -> Result<(), MineError> {
        write(self, folder)
    }
}

pub(super) fn write(value: &impl Serialize, folder: &Path) -> Result<(), MineError> {
    let json = serde_json::to_string_pretty(value).expect("figures are JSON") + "\n";
    Ok(replace(&folder.join(NAME), json.as_bytes())?)
}

/// The rounds as a table, a column each.
pub fn table(report: &Report) -> String {
    type Figure = fn(&Round) -> String;
    let rows: [(&str, Figure); 11] = [
        ("round", |r| r.round.to_string()),
        ("positives", |r| r.positives.to_string()),
        ("of them from prefixes", |r| r.from_prefixes.to_string()),
        ("negatives", |r| r.negatives.to_string()),
        ("documents scored", |r| r.documents.to_string()),
        ("cut", |r| format!("{:.3}", r.cut)),
        ("documents kept", |r| r.kept.to_string()),
        ("tokens kept", |r| r.kept_tokens.to_string()),
        ("new", |r| format!("{:.1}%", 100.0 * r.new_share)),
        ("recall of the seed", |r| format!("{:.3}", r.seed_recall)),
        ("domains of mathematics", |r| r.domains.to_string()),
    ];
    let mut table = String::new();
    for (name, figure) in rows {
        let _ = write!(table, "{name:<24}");
        for round in &report.rounds {
            let _ = write!(table, "{:>12}", figure(round));
        }
        table += "\n";
    }
    table
}
