//! Rows that hold a part of a test are taken out of the data that a model learns from.
//!
//! A text is contaminated if it shares `n` words one after another with an item of a test, or holds an item of 3 to n−1 words
//! whole (DeepSeekMath, arXiv:2402.03300, section 2.1). Short items that any text may have (`short.rs`) count where a line is hardly
//! anything else, and those of one or two words where a text is nothing else. What a word is says `words.rs`. The words are compared themselves, not by their hashes alone. Paraphrases and
//! translations pass.
//!
//! | module | holds |
//! |---|---|
//! | `words` | the words of a text, one notation for formulas |
//! | `index` | n-grams of test items, and where a text agrees with them |
//! | `short` | which short items any text may have |
//! | `items` | test items as files have them |

mod index;
mod items;
mod short;
mod words;

use std::{
    io::Write,
    num::NonZeroUsize,
    ops::Range,
    path::{Path, PathBuf},
    thread,
};

use koan_files::{FilesError, NewFile};
use serde::Serialize;
use serde_json::{Map, Value};

pub use index::{Index, Match, SHORT};
pub use items::Tests;
use items::{Item, texts};
pub use words::{Word, words};

use crate::{
    DataError, DataFiles,
    error::LineError,
    rows::{self, Place, Row},
};

/// The length of windows where nothing is said: DeepSeek's.
pub const NGRAM: usize = 10;
/// Fields whose texts are compared, with all that lies inside them.
pub const FIELDS: [&str; 15] = [
    "text",
    "prompt",
    "messages",
    "completion",
    "completions",
    "chosen",
    "rejected",
    "question",
    "problem",
    "solution",
    "instruction",
    "input",
    "output",
    "response",
    "conversations",
];
/// Fields inside of those that are no texts.
const NO_TEXT: [&str; 6] = ["role", "from", "name", "finish_reason", "id", "type"];
/// Matches that a report lists, at most; all are counted.
pub const MAX_LISTED: usize = 100_000;
/// Bytes of rows that are compared before any of them is written.
const BATCH_BYTES: usize = 8 << 20;
/// Characters of a match that a report shows.
const SHOWN_CHARS: usize = 200;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Decontamination {
    /// The data.
    pub files: DataFiles,
    /// The tests that must not be in it.
    pub against: DataFiles,
    /// Words that make a match.
    pub ngram: usize,
    /// Fields whose texts are compared, instead of [`FIELDS`].
    pub fields: Vec<String>,
    /// Whether lines that match are cut out of rows with `text`, instead of dropping the rows.
    pub segments: bool,
    /// On how many threads.
    pub threads: NonZeroUsize,
}

/// What was done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Words that make a match.
    pub ngram: usize,
    /// Rows that were read.
    pub rows: usize,
    /// Rows that were written.
    pub kept: usize,
    /// Rows that were dropped.
    pub removed: usize,
    /// Rows of which segments were cut out.
    pub cut: usize,
    /// Places where a row holds a short item that any text may have, and that does not stand alone there: they count for nothing.
    pub spared: usize,
    /// Bytes of the rows that were read.
    pub bytes: u64,
    /// The data, with their hashes.
    pub files: Vec<File>,
    /// The tests.
    pub against: Vec<Test>,
    /// What matched, in the order of the rows; the first [`MAX_LISTED`].
    pub matches: Vec<Found>,
}

/// A file, by its content.
#[derive(Clone, Debug, Serialize)]
pub struct File {
    /// Its name.
    pub path: PathBuf,
    /// SHA-256, hex.
    pub sha256: String,
}

/// A test, and how much of it the data hold.
#[derive(Clone, Debug, Serialize)]
pub struct Test {
    /// Its file.
    #[serde(flatten)]
    pub file: File,
    /// Its items.
    pub items: usize,
    /// Items that the data hold.
    pub found: usize,
    /// Rows that hold one of them, by the first that each was found to hold.
    pub rows: usize,
}

/// A row that matched.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Where the row is.
    pub row: String,
    /// Its `id`, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
    /// Where the test item is.
    pub item: String,
    /// Its `id`, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_id: Option<Value>,
    /// What they share, as the row has it.
    pub shared: String,
}

/// A row after it was compared.
struct Compared {
    place: Place,
    bytes: usize,
    /// What is written, if anything is.
    kept: Option<Vec<u8>>,
    id: Option<Value>,
    /// The item that it holds first, and what they share.
    found: Option<(usize, String)>,
    /// All items that it holds.
    items: Vec<usize>,
    spared: usize,
}

impl Decontamination {
    /// Writes the rows that hold nothing of the tests to `out`, whole or not at all; `progress` is told the rows so far.
    ///
    /// # Errors
    /// Files that can't be read, rows that are no objects or have no text to compare, and an output that can't be written.
    pub fn run(&self, out: &Path, progress: &mut dyn FnMut(usize)) -> Result<Report, DataError> {
        let mut report = Report { ngram: self.ngram, ..Report::default() };
        let Tests { index, items, files } = Tests::read(&self.against, self.ngram, &self.fields)?;
        report.against = files;
        report.files = hashed(&self.files)?;
        let mut file = NewFile::create(out)?;
        let failed = |error| DataError::from(FilesError::io("write", out)(error));
        let mut hit = vec![false; items.len()];
        let mut rows = rows::all(&self.files)?.peekable();
        while rows.peek().is_some() {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while bytes < BATCH_BYTES {
                let Some(row) = rows.next() else { break };
                let row = row?;
                bytes += row.1.as_ref().map_or(0, Vec::len);
                batch.push(row);
            }
            for compared in self.compare(&index, batch)? {
                report.rows += 1;
                report.spared += compared.spared;
                report.bytes += compared.bytes as u64;
                if let Some(kept) = &compared.kept {
                    report.kept += 1;
                    file.write_all(kept.trim_ascii_end())
                        .and_then(|()| file.write_all(b"\n"))
                        .map_err(failed)?;
                }
                compared.items.iter().for_each(|&item| hit[item] = true);
                let Some((item, shared)) = compared.found else { continue };
                *if compared.kept.is_some() { &mut report.cut } else { &mut report.removed } += 1;
                let Item { place, id, test } = &items[item];
                report.against[*test].rows += 1;
                if report.matches.len() < MAX_LISTED {
                    report.matches.push(Found {
                        row: compared.place.to_string(),
                        id: compared.id,
                        item: place.to_string(),
                        item_id: id.clone(),
                        shared,
                    });
                }
            }
            progress(report.rows);
        }
        for (item, _) in items.iter().zip(hit).filter(|(_, hit)| *hit) {
            report.against[item.test].found += 1;
        }
        file.finish()?;
        Ok(report)
    }

    /// Compares rows, on all threads; they come in their order.
    fn compare(&self, index: &Index, rows: Vec<Row>) -> Result<Vec<Compared>, DataError> {
        let share = rows.len().div_ceil(self.threads.get()).max(1);
        let mut rows = rows.into_iter();
        let parts: Vec<Vec<Row>> = std::iter::from_fn(|| {
            let part: Vec<Row> = rows.by_ref().take(share).collect();
            (!part.is_empty()).then_some(part)
        })
        .collect();
        let compare = |part: Vec<Row>| {
            let mut scratch = Vec::new();
            let row = |(place, json): Row| {
                let row = json
                    .map_err(LineError::from)
                    .and_then(|json| self.row(index, &place, json, &mut scratch));
                row.map_err(|reason| DataError::Line { place, reason })
            };
            part.into_iter().map(row).collect::<Result<Vec<_>, _>>()
        };
        thread::scope(|scope| {
            let running: Vec<_> = parts.into_iter().map(|part| scope.spawn(|| compare(part))).collect();
            let mut all = Vec::new();
            for part in running {
                all.extend(part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(all)
        })
    }

    fn row(
        &self,
        index: &Index,
        place: &Place,
        json: Vec<u8>,
        scratch: &mut Vec<Word>,
    ) -> Result<Compared, LineError> {
        let mut row: Map<String, Value> = rows::parse(&json)?;
        let (mut found, mut items, mut cut, mut spared) = (None, Vec::new(), Vec::new(), 0);
        for text in texts(&row, &self.fields)? {
            spared += index.find(text, scratch, |Match { item, range }| {
                found.get_or_insert_with(|| (item, shown(&text[range.clone()])));
                items.push(item);
                cut.push(range);
                // One match is enough to drop a row, and all are counted by their items.
                true
            });
        }
        items.dedup();
        let (bytes, id) = (json.len(), row.get("id").cloned());
        let kept = if found.is_none() {
            Some(json)
        } else if self.segments {
            let Some(Value::String(text)) = row.get("text") else {
                let what =
                    "has no `text`: --segments cuts lines out of texts; leave it out to drop whole rows";
                return Err(LineError::Row { what: what.into() });
            };
            let rest = without(text, &cut);
            let holds_text = !rest.trim().is_empty();
            row.insert("text".into(), rest.into());
            holds_text.then(|| Value::Object(row).to_string().into_bytes())
        } else {
            None
        };
        Ok(Compared { place: place.clone(), bytes, kept, id, found, items, spared })
    }
}

/// The files with their hashes; all are read twice, so that pipes are refused.
fn hashed(files: &DataFiles) -> Result<Vec<File>, DataError> {
    let file = |path: PathBuf| {
        if path.exists() && !path.is_file() {
            let remedy = "write its rows into a file: they are read twice, for its hash too".to_owned();
            return Err(DataError::Unread { path, what: "no plain file", remedy });
        }
        Ok(File { sha256: DataFiles::from(&*path).hash()?, path })
    };
    files.paths()?.into_iter().map(file).collect()
}

/// The beginning of what is shared.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

/// `text` without the lines that any of `cut` touches, bytes.
pub fn without(text: &str, cut: &[Range<usize>]) -> String {
    let mut start = 0;
    let lines = text.split_inclusive('\n').filter(|line| {
        let own = start..start + line.len();
        start = own.end;
        !cut.iter().any(|range| range.start < own.end && own.start < range.end)
    });
    lines.collect()
}

#[cfg(test)]
mod tests;
