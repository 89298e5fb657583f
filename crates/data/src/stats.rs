//! What a file of data holds: its format, fields, lengths and repetitions, read in one pass.
//!
//! Lines may be of any format of the project; a line that is not a JSON object is counted and named; it is not an
//! error. Memory is bounded, except for 16 bytes per row: the hash of what it asks.

use crate::DataError;
use crate::error::LineError;
use crate::rows;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

/// How many different fields and values are counted by name; the rest are counted together as [`OTHERS`].
pub const MAX_NAMES: usize = 200;

/// The name for everything beyond [`MAX_NAMES`].
pub const OTHERS: &str = "(others)";

/// Bad lines whose reason is kept.
pub const MAX_BAD_LINES: usize = 20;

/// How often each name occurs.
pub type Counts = BTreeMap<String, usize>;

/// What a file holds.
#[derive(Debug, Default, Serialize)]
pub struct Stats {
    /// The file.
    pub file: PathBuf,
    /// Lines that are JSON objects.
    pub rows: usize,
    /// Rows by what they look like: `problem`, `code problem`, `generate output`, `judged completion`,
    /// `preference`, `SFT`, `text`, `unknown`.
    pub formats: Counts,
    /// Rows that have each field.
    pub fields: Counts,
    /// Lengths of `prompt`, `answer`, `completion`, `solution`, `chosen`, `rejected` and `text`.
    pub lengths: BTreeMap<&'static str, Lengths>,
    /// Rows whose prompt (or text, where there is no prompt) is exactly that of an earlier row.
    pub repeated: usize,
    /// Rows by `reward`, by `outcome`, and by `kind` and `level` of `meta`.
    pub counts: BTreeMap<&'static str, Counts>,
    /// Lines that are not JSON objects.
    pub bad: usize,
    /// The first [`MAX_BAD_LINES`] of them: number and reason.
    pub bad_lines: Vec<(usize, String)>,
}

/// Lengths of one part.
#[derive(Debug, Default, Serialize)]
pub struct Lengths {
    /// In characters.
    pub characters: Histogram,
    /// In tokens, if they are counted.
    #[serde(skip_serializing_if = "Histogram::is_empty")]
    pub tokens: Histogram,
}

/// Reads `path`; `count_tokens` gives the length of a text in tokens, if that is wanted.
///
/// # Errors
/// A file that cannot be read.
pub fn stats(
    path: &Path,
    mut count_tokens: Option<&mut dyn FnMut(&str) -> usize>,
) -> Result<Stats, DataError> {
    let mut stats = Stats { file: path.to_owned(), ..Stats::default() };
    let mut asked = HashSet::new();
    rows::read_all(&path.into(), |place, row: Result<Map<String, Value>, LineError>| {
        match row {
            Ok(row) => stats.add(&row, &mut asked, &mut count_tokens),
            Err(reason) => stats.add_bad(place.number, reason),
        }
        Ok(())
    })?;
    Ok(stats)
}

impl Stats {
    fn add(
        &mut self,
        row: &Map<String, Value>,
        asked: &mut HashSet<u64>,
        count_tokens: &mut Option<&mut dyn FnMut(&str) -> usize>,
    ) {
        self.rows += 1;
        count(&mut self.formats, format(row));
        for field in row.keys() {
            count(&mut self.fields, field);
        }
        let meta = |name| row.get("meta").and_then(|meta| meta.get(name));
        for (name, value) in [
            ("reward", row.get("reward")),
            ("outcome", row.get("outcome")),
            ("kind", meta("kind")),
            ("level", meta("level")),
        ] {
            if let Some(value) = value.and_then(plain) {
                count(self.counts.entry(name).or_default(), &value);
            }
        }
        let mut question = None;
        for (part, text) in parts(row) {
            let lengths = self.lengths.entry(part).or_default();
            lengths.characters.add(text.chars().count());
            if let Some(count_tokens) = count_tokens {
                lengths.tokens.add(count_tokens(&text));
            }
            if part == "prompt" || part == "text" && question.is_none() {
                question = Some(text);
            }
        }
        if let Some(question) = question {
            let mut hasher = DefaultHasher::new();
            question.hash(&mut hasher);
            self.repeated += usize::from(!asked.insert(hasher.finish()));
        }
    }

    /// Whether no row could be read.
    pub fn has_no_rows(&self) -> bool {
        self.rows == 0
    }

    fn add_bad(&mut self, line: usize, reason: LineError) {
        self.bad += 1;
        if self.bad_lines.len() < MAX_BAD_LINES {
            let reason = match reason {
                LineError::Json { message, column } => format!("no JSON object: {message}, column {column}"),
                other => other.to_string(),
            };
            self.bad_lines.push((line, reason));
        }
    }
}

/// Counts `name`, or [`OTHERS`] where there are too many names.
fn count(counts: &mut Counts, name: &str) {
    let name = if counts.len() < MAX_NAMES || counts.contains_key(name) { name } else { OTHERS };
    *counts.entry(name.to_owned()).or_default() += 1;
}

/// A string, or a number or truth value as it is written.
fn plain(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(_) | Value::Bool(_) => Some(Cow::Owned(value.to_string())),
        _ => None,
    }
}

/// What a row looks like, by the fields that only one format has.
fn format(row: &Map<String, Value>) -> &'static str {
    let has = |field| row.contains_key(field);
    let asks = has("prompt") || has("messages");
    match () {
        () if has("chosen") && has("rejected") => "preference",
        () if has("completions") => "generate output",
        () if has("completion") && has("answer") => "judged completion",
        () if asks && has("tests") => "code problem",
        () if asks && has("answer") => "problem",
        () if has("messages") || asks && has("completion") => "SFT",
        () if has("text") => "text",
        () => "unknown",
    }
}

/// The texts of a row, each with the part that it is.
fn parts(row: &Map<String, Value>) -> Vec<(&'static str, Cow<'_, str>)> {
    let mut parts = Vec::new();
    for part in ["prompt", "answer", "completion", "solution", "chosen", "rejected", "text"] {
        let text = match row.get(part) {
            Some(Value::Array(messages)) => Some(Cow::Owned(contents(messages))),
            value => value.and_then(plain),
        };
        parts.extend(text.map(|text| (part, text)));
    }
    if let Some(Value::Array(messages)) = row.get("messages") {
        let is_reply = |message: &Value| message.get("role").is_some_and(|role| role == "assistant");
        match messages.split_last() {
            Some((reply, rest)) if is_reply(reply) => {
                parts.push(("prompt", Cow::Owned(contents(rest))));
                parts.push(("completion", Cow::Owned(contents(std::slice::from_ref(reply)))));
            }
            _ => parts.push(("prompt", Cow::Owned(contents(messages)))),
        }
    }
    let completions = row.get("completions").and_then(Value::as_array).into_iter().flatten();
    let texts = completions.filter_map(|completion| completion.get("text").and_then(Value::as_str));
    parts.extend(texts.map(|text| ("completion", Cow::Borrowed(text))));
    parts
}

/// What the messages say, one line each.
fn contents(messages: &[Value]) -> String {
    let texts = messages.iter().filter_map(|message| message.get("content").and_then(Value::as_str));
    texts.collect::<Vec<_>>().join("\n")
}

/// Lengths that occurred. Quantiles are exact below 128 and at most 1.6% too small above.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: BTreeMap<usize, usize>,
    n: usize,
    sum: usize,
    min: usize,
    max: usize,
}

impl Histogram {
    fn add(&mut self, length: usize) {
        let dropped = (usize::BITS - length.leading_zeros()).saturating_sub(7); // seven bits are kept
        *self.counts.entry(length >> dropped << dropped).or_default() += 1;
        self.min = if self.n == 0 { length } else { self.min.min(length) };
        self.max = self.max.max(length);
        self.n += 1;
        self.sum += length;
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// How many there are.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The smallest.
    pub fn min(&self) -> usize {
        self.min
    }

    /// The largest.
    pub fn max(&self) -> usize {
        self.max
    }

    /// The mean; 0 if there are none.
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.n.max(1) as f64
    }

    /// The smallest length that at least `percent` of 100 do not exceed.
    pub fn percentile(&self, percent: usize) -> usize {
        let rank = (self.n * percent).div_ceil(100);
        let mut below = 0;
        let at = self.counts.iter().find(|(_, count)| {
            below += **count;
            below >= rank
        });
        at.map_or(0, |(length, _)| (*length).max(self.min))
    }
}

impl Serialize for Histogram {
    /// `{n, min, mean, p50, p95, max}`
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (p50, p95) = (self.percentile(50), self.percentile(95));
        let summary = serde_json::json!({
            "n": self.n, "min": self.min, "mean": self.mean(), "p50": p50, "p95": p95, "max": self.max
        });
        summary.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    fn of(text: &[u8]) -> Stats {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data.jsonl");
        fs::write(&path, text).expect("written");
        let mut words = |text: &str| text.split_whitespace().count();
        stats(&path, Some(&mut words)).expect("readable")
    }

    #[test]
    fn every_format_is_recognised_by_its_fields() {
        for (row, expected) in [
            (json!({"prompt": "p", "answer": 1}), "problem"),
            (json!({"messages": [], "answer": "a", "meta": {}}), "problem"),
            (json!({"prompt": "p", "answer": "", "tests": []}), "code problem"),
            (json!({"prompt": "p", "tests": []}), "code problem"),
            (json!({"prompt": "p", "answer": "a", "completions": []}), "generate output"),
            (json!({"answer": "a", "completion": "c"}), "judged completion"),
            (json!({"prompt": "p", "chosen": "a", "rejected": "b"}), "preference"),
            (json!({"prompt": "p", "completion": "c"}), "SFT"),
            (json!({"messages": []}), "SFT"),
            (json!({"text": "t"}), "text"),
            (json!({"txt": "t"}), "unknown"),
        ] {
            assert_eq!(format(row.as_object().expect("an object")), expected, "{row}");
        }
    }

    #[test]
    fn rows_are_counted_and_measured() {
        let stats = of(concat!(
            r#"{"prompt": "a b c", "answer": 12, "reward": "number", "meta": {"kind": "chain", "level": 2}}"#,
            "\n\n",
            r#"{"prompt": "a b c", "answer": "é", "meta": {"kind": "chain", "level": 3}}"#,
            "\n[1]\n{\n",
            r#"{"messages": [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "d"}]}"#,
            "\n",
            r#"{"prompt": "x", "completions": [{"text": "one two"}, {"text": "three"}]}"#,
        )
        .as_bytes());
        assert_eq!((stats.rows, stats.repeated, stats.bad), (4, 1, 2));
        assert_eq!((stats.formats["problem"], stats.formats["SFT"], stats.fields["prompt"]), (2, 1, 3));
        assert_eq!((stats.counts["kind"]["chain"], stats.counts["level"]["3"]), (2, 1));
        let prompt = &stats.lengths["prompt"];
        assert_eq!((prompt.characters.n(), prompt.characters.min(), prompt.characters.max()), (4, 1, 5));
        assert_eq!((prompt.tokens.max(), stats.lengths["answer"].characters.max()), (3, 2));
        let completion = &stats.lengths["completion"].tokens;
        assert_eq!((completion.n(), completion.mean()), (3, 4.0 / 3.0));
        assert_eq!((stats.bad_lines[0].0, stats.bad_lines[1].0), (4, 5));
        assert!(
            stats.bad_lines[0].1.starts_with("no JSON object: the row is a list of numbers"),
            "{stats:?}"
        );
        let json = serde_json::to_value(&stats).expect("JSON");
        assert_eq!(json["lengths"]["answer"]["characters"]["p50"], 1);
    }

    #[test]
    fn a_long_line_is_bad_and_the_next_is_read() {
        let mut text = vec![b' '; koan_files::jsonl::MAX_LINE_BYTES + 5];
        text.extend(b"\n{\"text\": \"t\"}\n");
        let stats = of(&text);
        assert_eq!((stats.rows, stats.bad_lines[0].0), (1, 1));
        assert!(stats.bad_lines[0].1.starts_with("longer than"), "{stats:?}");
    }

    #[test]
    fn names_are_bounded() {
        let rows = (0..500).map(|i| format!("{{\"f{i}\": 1}}\n"));
        let stats = of(rows.collect::<String>().as_bytes());
        assert_eq!((stats.fields.len(), stats.fields[OTHERS]), (MAX_NAMES + 1, 300));
    }

    #[test]
    fn percentiles_are_those_of_a_sorted_list() {
        let mut histogram = Histogram::default();
        (1..=100).rev().for_each(|length| histogram.add(length));
        assert_eq!([1, 50, 95, 100].map(|percent| histogram.percentile(percent)), [1, 50, 95, 100]);
        let mut long = Histogram::default();
        (0..1000).for_each(|i| long.add(100_000 + i * 100));
        let median = long.percentile(50) as f64;
        assert!((0.984..=1.0).contains(&(median / 149_900.0)), "{median}");
        assert_eq!(Histogram::default().percentile(50), 0);
    }
}
