//! The stages of `koan mine run`: pure functions of inputs and settings to files.
//!
//! | file | holds |
//! |---|---|
//! | `run` | a run directory: its plan, its lock, all stages or a shard of one |
//! | `manifest` | what a stage made of what, so that it is not made again, and damage is noticed |
//! | `texts` | documents in JSON Lines packed by zstd |
//! | `parted` | records of many parts in one file |
//! | `pages` | a file of the crawl to documents and their keys: the map |
//! | `urls` | exchange by URL: which documents were captured before |
//! | `alike` | exchange by band, and clusters: which documents are near-duplicates |
//! | `write` | documents that stay, without test items, as the corpus |
//! | `table` | the same as Parquet |
//! | `report` | what every stage kept and removed |
//!
//! A stage's work is cut into units: a file of the crawl, or a part of the keys. What a unit becomes depends on its inputs and the
//! settings alone, so it does not matter how many threads, processes or machines share the units, nor in what order they come. A shard
//! i of N is each N-th unit. A unit's files are written beside their place and renamed, its manifest last.

mod alike;
mod manifest;
mod pages;
mod parted;
mod report;
mod run;
mod table;
mod texts;
mod urls;
mod write;

use std::{fmt, str::FromStr};

pub use report::Report;
pub use run::{Progress, Run};

use crate::{MineError, config::setting};

/// A stage, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Files of the crawl to documents and their keys.
    Pages,
    /// Which documents have an URL that was captured before.
    Urls,
    /// Which documents are alike.
    Near,
    /// Which of those stay; one unit.
    Clusters,
    /// The corpus.
    Write,
    /// The report; one unit.
    Report,
}

impl Stage {
    /// All, in their order.
    pub const ALL: [Self; 6] =
        [Self::Pages, Self::Urls, Self::Near, Self::Clusters, Self::Write, Self::Report];

    /// Its name, also that of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Urls => "urls",
            Self::Near => "near",
            Self::Clusters => "clusters",
            Self::Write => "write",
            Self::Report => "report",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Stage {
    type Err = MineError;

    fn from_str(name: &str) -> Result<Self, MineError> {
        let known = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|stage| stage.name() == name);
        found.ok_or_else(|| setting("stage", format!("there is no stage `{name}`; there are {known}")))
    }
}

/// Each `of`-th unit of a stage, from `index` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which, from 0.
    pub index: usize,
    /// Of how many.
    pub of: usize,
}

impl Shard {
    /// All units.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// Whether `unit` is of this shard.
    pub fn has(self, unit: usize) -> bool {
        unit % self.of == self.index
    }
}

impl FromStr for Shard {
    type Err = MineError;

    /// Of `I/N`, with I from 0 to N - 1.
    fn from_str(text: &str) -> Result<Self, MineError> {
        let parsed =
            text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match parsed {
            Some((index, of)) if index < of => Ok(Self { index, of }),
            _ => Err(setting("shard", format!("`{text}` is no shard; give I/N, as in 0/8 to 7/8"))),
        }
    }
}

/// A document among those of a run: the unit that it is of, and its place among the unit's documents. By rising ids, documents are in
/// the order of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The file of the crawl, by its place among the inputs.
    pub unit: u32,
    /// Its place among the documents of the file.
    pub index: u32,
}

impl Id {
    fn number(self) -> u64 {
        u64::from(self.unit) << 32 | u64::from(self.index)
    }

    fn of(number: u64) -> Self {
        Self { unit: (number >> 32) as u32, index: number as u32 }
    }
}

/// Documents, by their unit and place there.
#[derive(Debug, Default)]
struct Ids(Vec<Vec<u32>>);

impl Ids {
    /// Of numbers in any order.
    fn collect(numbers: impl IntoIterator<Item = Result<u64, MineError>>) -> Result<Self, MineError> {
        let mut ids = Self::default();
        for number in numbers {
            let id = Id::of(number?);
            if ids.0.len() <= id.unit as usize {
                ids.0.resize_with(id.unit as usize + 1, Vec::new);
            }
            ids.0[id.unit as usize].push(id.index);
        }
        ids.0.iter_mut().for_each(|unit| unit.sort_unstable());
        Ok(ids)
    }

    fn has(&self, id: Id) -> bool {
        self.0.get(id.unit as usize).is_some_and(|unit| unit.binary_search(&id.index).is_ok())
    }
}

#[cfg(test)]
mod tests;
