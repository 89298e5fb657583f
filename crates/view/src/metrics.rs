//! The lines of metrics.jsonl, as numbers by name, from where a reader stopped.

use std::collections::HashMap;

use koan_files::sha256;
use serde::Serialize;
use serde_json::{Map, Number, Value};

use std::{fs::File, io};

use crate::{
    ViewError,
    run::{Run, open_file, read_at},
};

/// Most bytes of metrics.jsonl in one part.
const MAX_PART_BYTES: u64 = 1 << 20;
/// Most names of one part; lines with further ones are not read.
const MAX_KEYS: usize = 1000;
/// Bytes before a position in metrics.jsonl whose hash tells a returning reader whether the file is still the one it read.
const MARK_BYTES: u64 = 1 << 10;

/// Lines of metrics.jsonl, from where a reader stopped.
#[derive(Debug, Serialize)]
pub struct MetricsPart {
    /// The names of the numbers: `step`, then the others; one in an object in the line is named `outer.inner`.
    pub keys: Vec<String>,
    /// The lines: their numbers in the order of `keys`.
    pub rows: Vec<Vec<Cell>>,
    /// How many lines are not objects with a `step`.
    pub unreadable: usize,
    /// Where to continue from.
    pub next: u64,
    /// A hash of what is before that place; the next request sends both.
    pub mark: String,
    /// Whether this part is from the file's start because what was read before is no longer there: a run that was resumed
    /// forgets the steps after its checkpoint.
    pub restarted: bool,
    /// Whether there is more to read.
    pub more: bool,
}

/// A number of a line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// The line does not have it.
    Absent,
    /// An integer.
    Whole(i64),
    /// A value, in the precision of a picture.
    Real(f32),
    /// A value beyond that precision's range.
    Wide(f64),
    /// It is written as null: not a number, or infinite.
    NotANumber(NotANumber),
}

/// The word for what is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NotANumber {
    /// `"NaN"`.
    NaN,
}

impl Cell {
    /// The cell of a value, if it is a number or null.
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::NotANumber(NotANumber::NaN)),
            Value::Number(number) => Some(Self::of_number(number)),
            _ => None,
        }
    }

    fn of_number(number: &Number) -> Self {
        if let Some(whole) = number.as_i64() {
            return Self::Whole(whole);
        }
        let value = number.as_f64().unwrap_or(f64::NAN);
        let real = value as f32;
        if real.is_finite() && (real != 0.0 || value == 0.0) { Self::Real(real) } else { Self::Wide(value) }
    }
}

/// Whole lines of metrics.jsonl.
pub(crate) struct Lines {
    /// The lines that are objects with a `step`.
    pub(crate) rows: Vec<Map<String, Value>>,
    pub(crate) unreadable: usize,
    /// The byte after them.
    pub(crate) next: u64,
    pub(crate) more: bool,
}

impl Run {
    /// The lines of metrics.jsonl from byte `from` on, if what is before it still has the hash `mark`; otherwise all of them.
    ///
    /// # Errors
    /// If the file can't be read; a run that has none yet has no lines.
    pub fn metrics(&self, from: u64, mark: &str) -> Result<MetricsPart, ViewError> {
        let path = self.path().join("metrics.jsonl");
        let failed = || ViewError::read(&path);
        let Some(mut file) = open_file(&path).map_err(failed())? else {
            return Ok(MetricsPart {
                keys: Vec::new(),
                rows: Vec::new(),
                unreadable: 0,
                next: 0,
                mark: String::new(),
                restarted: from > 0,
                more: false,
            });
        };
        let restarted = from > 0 && mark_before(&mut file, from).map_err(failed())?.as_deref() != Some(mark);
        let from = if restarted { 0 } else { from };
        let Lines { rows, unreadable, next, more } = lines(&mut file, from).map_err(failed())?;
        let (keys, rows, dropped) = table(&rows);
        Ok(MetricsPart {
            keys,
            rows,
            unreadable: unreadable + dropped,
            next,
            mark: mark_before(&mut file, next).map_err(failed())?.unwrap_or_default(),
            restarted,
            more,
        })
    }

    /// Lines of metrics.jsonl from byte `from` on, without a look at what is before it.
    ///
    /// # Errors
    /// If the file can't be read.
    pub(crate) fn lines(&self, from: u64) -> Result<Lines, ViewError> {
        let path = self.path().join("metrics.jsonl");
        match open_file(&path).map_err(ViewError::read(&path))? {
            Some(mut file) => lines(&mut file, from).map_err(ViewError::read(&path)),
            None => Ok(Lines { rows: Vec::new(), unreadable: 0, next: from, more: false }),
        }
    }
}

/// The values of a line by name, one level deep: `outer.inner`.
pub(crate) fn flat(row: &Map<String, Value>) -> impl Iterator<Item = (String, &Value)> {
    row.iter().flat_map(|(key, value)| match value {
        Value::Object(inner) => {
            inner.iter().map(|(name, value)| (format!("{key}.{name}"), value)).collect::<Vec<_>>()
        }
        value => vec![(key.clone(), value)],
    })
}

/// Lines as numbers by name, and how many were left out for having too many names.
fn table(lines: &[Map<String, Value>]) -> (Vec<String>, Vec<Vec<Cell>>, usize) {
    let mut keys = vec!["step".to_owned()];
    let mut places = HashMap::from([("step".to_owned(), 0)]);
    let (mut rows, mut dropped) = (Vec::new(), 0);
    for line in lines {
        let mut row = vec![Cell::Absent; keys.len()];
        let mut fits = true;
        for (key, value) in flat(line) {
            let Some(cell) = Cell::of(value) else { continue };
            match places.get(&key) {
                Some(&place) => row[place] = cell,
                None if keys.len() < MAX_KEYS => {
                    places.insert(key.clone(), keys.len());
                    keys.push(key);
                    row.push(cell);
                }
                None => fits = false,
            }
        }
        if fits { rows.push(row) } else { dropped += 1 }
    }
    (keys, rows, dropped)
}

fn lines(file: &mut File, from: u64) -> io::Result<Lines> {
    let bytes = read_at(file, from, MAX_PART_BYTES)?;
    let full = bytes.len() as u64 == MAX_PART_BYTES;
    let whole = match bytes.iter().rposition(|&byte| byte == b'\n') {
        Some(end) => end + 1,
        // No line is that long: skip it.
        None if full => bytes.len(),
        None => 0,
    };
    let (mut rows, mut unreadable) = (Vec::new(), 0);
    for line in bytes[..whole].split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        match parse(line) {
            Some(row) => rows.push(row),
            None => unreadable += 1,
        }
    }
    Ok(Lines { rows, unreadable, next: from + whole as u64, more: full })
}

/// A line, if it is an object with a `step`. Python's bare `NaN` and `Infinity`, which are no JSON, are read as null.
fn parse(line: &[u8]) -> Option<Map<String, Value>> {
    let read = |line: &[u8]| serde_json::from_slice::<Map<String, Value>>(line);
    let row = read(line).or_else(|e| {
        let text = String::from_utf8_lossy(line);
        let mended = ["-Infinity", "Infinity", "NaN"]
            .iter()
            .fold(text.into_owned(), |text, word| text.replace(word, "null"));
        read(mended.as_bytes()).map_err(|_| e)
    });
    row.ok().filter(|row| row.get("step").is_some_and(Value::is_u64))
}

/// A hash of what lies before byte `at`; none if the file is shorter.
fn mark_before(file: &mut File, at: u64) -> io::Result<Option<String>> {
    if file.metadata()?.len() < at {
        return Ok(None);
    }
    let from = at.saturating_sub(MARK_BYTES);
    Ok(Some(sha256(read_at(file, from, at - from)?)[..16].to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn run_of(metrics: &str) -> (tempfile::TempDir, Run) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("metrics.jsonl"), metrics).expect("written");
        let run = Run::open(folder.path()).expect("a run");
        (folder, run)
    }

    fn steps(part: &MetricsPart) -> Vec<i64> {
        let step = |row: &Vec<Cell>| match row[0] {
            Cell::Whole(step) => Some(step),
            _ => None,
        };
        part.rows.iter().filter_map(step).collect()
    }

    #[test]
    fn metrics_go_on_where_a_reader_left_off() {
        let (folder, run) = run_of("{\"step\":1}\nnonsense\n[3]\n{\"step\":2}\n{\"st");
        let first = run.metrics(0, "").expect("read");
        assert_eq!((steps(&first), first.restarted, first.more), (vec![1, 2], false, false));
        assert_eq!(first.unreadable, 2);
        let again = run.metrics(first.next, &first.mark).expect("read");
        assert_eq!((steps(&again), again.next, again.restarted), (vec![], first.next, false));
        let path = folder.path().join("metrics.jsonl");
        let text = fs::read_to_string(&path).expect("read");
        fs::write(&path, text + "ep\":3}\n").expect("written");
        let more = run.metrics(first.next, &first.mark).expect("read");
        assert_eq!((steps(&more), more.restarted), (vec![3], false));

        // Resumed after step 1: shorter, then as long as before, but other steps.
        for text in ["{\"step\":1}\n", "{\"step\":1}\n{\"step\":2, \"remade\": true, \"longer\": \"than\"}\n"]
        {
            fs::write(&path, text).expect("written");
            let part = run.metrics(more.next, &more.mark).expect("read");
            assert!(part.restarted && steps(&part)[0] == 1, "{part:?}");
        }
        fs::remove_file(&path).expect("removed");
        let gone = run.metrics(more.next, &more.mark).expect("none");
        assert!(gone.restarted && gone.next == 0 && gone.rows.is_empty());
    }

    #[test]
    fn long_metrics_come_in_parts() {
        let line = |i: usize| format!("{{\"step\":{i},\"x\":\"{}\"}}\n", "y".repeat(1000));
        let text: String = (1..=5000).map(line).collect();
        let (_folder, run) = run_of(&text);
        let (mut all, mut part) = (Vec::new(), run.metrics(0, "").expect("read"));
        while part.more {
            all.extend(steps(&part));
            part = run.metrics(part.next, &part.mark).expect("read");
            assert!(!part.restarted);
        }
        all.extend(steps(&part));
        assert_eq!(all, (1..=5000).collect::<Vec<_>>());
    }

    #[test]
    fn lines_become_rows_of_numbers() {
        let (_folder, run) = run_of(
            "{\"step\":0,\"eval\":{\"accuracy\":0.25,\"note\":\"x\"}}\n\
             {\"step\":1,\"loss\":null,\"reward\":0.1,\"name\":\"x\",\"tokens\":3000000000}\n\
             {\"step\":2,\"loss\":NaN,\"reward\":-Infinity,\"huge\":1e300}\n",
        );
        let part = run.metrics(0, "").expect("read");
        let text = serde_json::to_value(&part).expect("JSON");
        assert_eq!(
            text["keys"],
            serde_json::json!(["step", "eval.accuracy", "loss", "reward", "tokens", "huge"])
        );
        let rows = serde_json::to_string(&part.rows).expect("JSON");
        assert_eq!(rows, "[[0,0.25],[1,null,\"NaN\",0.1,3000000000],[2,null,\"NaN\",\"NaN\",null,1e+300]]");
    }

    #[test]
    fn names_are_bounded() {
        let many: Vec<String> = (0..2 * MAX_KEYS).map(|i| format!("\"k{i}\":1")).collect();
        let (_folder, run) = run_of(&format!("{{\"step\":1}}\n{{\"step\":2,{}}}\n", many.join(",")));
        let part = run.metrics(0, "").expect("read");
        assert_eq!((part.keys.len(), part.rows.len(), part.unreadable), (MAX_KEYS, 1, 1));
    }
}
