//! What a file of data holds: its format, fields, lengths and repetitions, read in one pass.
//!
//! Rows may be of any format of the project, and each is read as the stage that learns from it would: problems as `rl` does,
//! demonstrations as `sft`, texts as `pretrain`. A row that it would refuse is counted and named, with its reason; it is not
//! an error here. Memory is bounded, except for 32 bytes per row: hashes of what it asks and of its id.

use crate::error::LineError;
use crate::rows::{self, Rows};
use crate::{DataError, Demonstration, Document, Message, Problem};
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
    /// Rows that can be read.
    pub rows: usize,
    /// Rows by what they look like: `problem`, `code problem`, `prompt`, `generate output`, `judged completion`,
    /// `preference`, `labelled completion`, `SFT`, `text`, `unknown`.
    pub formats: Counts,
    /// Rows that have each field.
    pub fields: Counts,
    /// Lengths of `prompt`, `answer`, `completion`, `solution`, `chosen`, `rejected` and `text`. In tokens a prompt has those of
    /// the chat template too, and `demonstration` is what `sft` compares with `max_tokens`.
    pub lengths: BTreeMap<&'static str, Lengths>,
    /// Rows whose prompt (or text, where there is no prompt) is exactly that of an earlier row.
    pub repeated: usize,
    /// Rows by `reward`, by `outcome`, and by `kind` and `level` of `meta`.
    pub counts: BTreeMap<&'static str, Counts>,
    /// Rows that are refused.
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

/// Counts tokens as a model's stages do. An error is a sentence: the row is refused.
pub trait CountTokens {
    /// Of a text as it stands.
    ///
    /// # Errors
    /// If the tokenizer refuses.
    fn text(&mut self, text: &str) -> Result<usize, String>;

    /// Of a prompt, as `rl`, `eval` and `generate` put it to the model; `row` is what else its row has for the template.
    ///
    /// # Errors
    /// If the tokenizer or the chat template refuses.
    fn prompt(&mut self, messages: &[Message], row: &Map<String, Value>) -> Result<usize, String>;

    /// Of a demonstration, as `sft` learns from it.
    ///
    /// # Errors
    /// If the tokenizer or the chat template refuses, or `sft` would.
    fn demonstration(&mut self, demonstration: &Demonstration) -> Result<usize, String>;
}

/// Reads `path`; `tokens` counts tokens, if that is wanted.
///
/// # Errors
/// A file that cannot be read.
pub fn stats(path: &Path, mut tokens: Option<&mut dyn CountTokens>) -> Result<Stats, DataError> {
    let mut stats = Stats { file: path.to_owned(), ..Stats::default() };
    let mut seen = Seen::default();
    let mut is_empty = true;
    for row in Rows::open(path)? {
        let (place, json) = row?;
        is_empty = false;
        let added = json.map_err(LineError::from).and_then(|json| {
            let row: Map<String, Value> = rows::parse(&json)?;
            let reading = Reading::of(&row, &json, &mut seen)?;
            stats.add(&row, &reading, &mut seen, &mut tokens)
        });
        if let Err(reason) = added {
            stats.add_bad(place.number, reason);
        }
    }
    if is_empty { Err(DataError::Empty { path: path.to_owned() }) } else { Ok(stats) }
}

/// Hashes of what was seen before.
#[derive(Default)]
struct Seen {
    prompts: HashSet<u64>,
    ids: HashSet<u64>,
}

/// A row as the stage that learns from it reads it.
enum Reading {
    /// `rl`, `eval` and `generate`.
    Problem(Box<Problem>),
    /// `sft`.
    Demonstration(Demonstration),
    /// Another, or `pretrain`.
    Other,
}

impl Reading {
    fn of(row: &Map<String, Value>, json: &[u8], seen: &mut Seen) -> Result<Self, LineError> {
        match format(row) {
            "problem" | "code problem" | "prompt" => {
                let problem: Problem = rows::parse(json)?;
                problem.check()?;
                if !problem.id.is_empty() && !seen.ids.insert(hash(&problem.id)) {
                    let first = "an earlier row".to_owned();
                    return Err(LineError::DuplicateId { id: problem.id, first });
                }
                Ok(Self::Problem(Box::new(problem)))
            }
            "SFT" => rows::parse(json)
                .map_err(|e: LineError| e.expecting(Demonstration::EXPECTED))
                .and_then(Demonstration::of)
                .map(Self::Demonstration),
            "text" => Document::of(rows::parse(json)).map(|_| Self::Other),
            _ => Ok(Self::Other),
        }
    }

    /// Tokens of parts that are put through the chat template: the name of the part, and how many.
    fn templated(&self, tokens: &mut dyn CountTokens) -> Result<Vec<(&'static str, usize)>, String> {
        match self {
            Self::Problem(problem) => {
                Ok(vec![("prompt", tokens.prompt(&problem.messages(), &problem.other)?)])
            }
            Self::Demonstration(demonstration) => {
                let (_, before) = demonstration.messages.split_last().ok_or("there is no message")?;
                let all = tokens.demonstration(demonstration)?;
                Ok(vec![("prompt", tokens.prompt(before, &demonstration.row)?), ("demonstration", all)])
            }
            Self::Other => Ok(Vec::new()),
        }
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Stats {
    fn add(
        &mut self,
        row: &Map<String, Value>,
        reading: &Reading,
        seen: &mut Seen,
        tokens: &mut Option<&mut dyn CountTokens>,
    ) -> Result<(), LineError> {
        let refused = |what: String| LineError::FieldType { what };
        let parts = parts(row);
        let mut counted = Vec::new();
        if let Some(tokens) = tokens {
            counted = reading.templated(*tokens).map_err(refused)?;
            let is_templated = !counted.is_empty();
            for (part, text) in parts.iter().filter(|(part, _)| *part != "prompt" || !is_templated) {
                counted.push((*part, tokens.text(text).map_err(refused)?));
            }
        }
        for (part, n) in counted {
            self.lengths.entry(part).or_default().tokens.add(n);
        }
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
        for (part, text) in &parts {
            self.lengths.entry(part).or_default().characters.add(text.chars().count());
        }
        let asked = |name| parts.iter().find(|(part, _)| *part == name);
        if let Some((_, question)) = asked("prompt").or_else(|| asked("text")) {
            self.repeated += usize::from(!seen.prompts.insert(hash(question)));
        }
        Ok(())
    }

    /// Whether no row could be read, or none is of a format that is known.
    pub fn has_no_rows(&self) -> bool {
        self.rows == self.formats.get("unknown").copied().unwrap_or(0)
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
        () if asks && has("completion") && has("label") => "labelled completion",
        () if asks && has("completion") || ends_with_reply(row) => "SFT",
        () if has("conversations") || has("instruction") && has("output") => "SFT",
        () if asks => "prompt",
        () if has("text") || has("token_ids") => "text",
        () => "unknown",
    }
}

/// Whether the last of a row's messages is the assistant's.
fn ends_with_reply(row: &Map<String, Value>) -> bool {
    let messages = row.get("messages").and_then(Value::as_array);
    messages.and_then(|messages| messages.last()?.get("role")).is_some_and(|role| role == "assistant")
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
        stats(&path, Some(&mut Words)).expect("readable")
    }

    /// Words, and one for each turn of a conversation.
    struct Words;

    impl CountTokens for Words {
        fn text(&mut self, text: &str) -> Result<usize, String> {
            Ok(text.split_whitespace().count())
        }

        fn prompt(&mut self, messages: &[Message], _: &Map<String, Value>) -> Result<usize, String> {
            messages.iter().map(|message| Ok(1 + self.text(&message.content)?)).sum()
        }

        fn demonstration(&mut self, demonstration: &Demonstration) -> Result<usize, String> {
            let refused = demonstration.messages.iter().any(|message| message.role == "tool");
            if refused {
                Err("the template knows no tool".to_owned())
            } else {
                self.prompt(&demonstration.messages, &demonstration.row)
            }
        }
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
            (json!({"messages": []}), "prompt"),
            (json!({"messages": [{"role": "user", "content": "u"}]}), "prompt"),
            (json!({"messages": [{"role": "assistant", "content": "u"}]}), "SFT"),
            (json!({"prompt": "p"}), "prompt"),
            (json!({"token_ids": [1]}), "text"),
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
        assert_eq!((prompt.tokens.max(), stats.lengths["answer"].characters.max()), (4, 2), "with its turn");
        assert_eq!(stats.lengths["demonstration"].tokens.max(), 5);
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
    fn what_the_stages_refuse_is_bad_with_their_reason() {
        let stats = of(concat!(
            r#"{"id": "a", "prompt": "p", "answer": "1"}"#,
            "\n",
            r#"{"id": "a", "prompt": "q", "answer": "1"}"#,
            "\n",
            r#"{"prompt": [1], "answer": "1"}"#,
            "\n",
            r#"{"messages": [{"role": "assistant", "content": "hi"}]}"#,
            "\n",
            r#"{"messages": [{"role": "tool", "content": "hi"}, {"role": "assistant", "content": "hi"}]}"#,
            "\n",
            r#"{"text": "a", "token_ids": [1]}"#,
        )
        .as_bytes());
        assert_eq!((stats.rows, stats.bad), (1, 5));
        for ((line, reason), (expected, part)) in stats.bad_lines.iter().zip([
            (2, "has the id `a` of an earlier row"),
            (3, "`prompt` is a list of numbers"),
            (4, "no reply: the last of several messages"),
            (5, "the template knows no tool"),
            (6, "`text`, or `token_ids`"),
        ]) {
            assert!(*line == expected && reason.contains(part), "{line}: {reason}");
        }
        assert!(of(b"{\"txt\": 1}\n").has_no_rows(), "of no known format");
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
