//! Metrics as comma-separated values (RFC 4180), made part by part as they are read.

use std::{
    collections::BTreeSet,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Bytes;
use hyper::body::{Body, Frame};
use serde_json::{Map, Value};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{
    ViewError,
    metrics::{Lines, flat},
    runs::NamedRun,
};

/// Most columns; a run with more is refused.
const MAX_COLUMNS: usize = 1000;

/// The metrics of runs as a table: a first column `run` if they are several, then `step` and the others by name.
pub(crate) struct Csv {
    runs: Vec<NamedRun>,
    columns: Vec<String>,
    /// The run that is written, and the byte of its metrics.jsonl that comes next.
    place: (usize, u64),
    head: Option<String>,
}

impl Csv {
    /// The table of these runs; only with `keys`, if there are any.
    ///
    /// # Errors
    /// If metrics can't be read, or have too many names.
    pub(crate) fn open(runs: Vec<NamedRun>, keys: &[String]) -> Result<Self, ViewError> {
        let mut columns: Vec<String> = keys.to_vec();
        if columns.is_empty() {
            columns = names(&runs)?;
        }
        columns.retain(|key| key != "step");
        let first = if runs.len() > 1 { vec!["run", "step"] } else { vec!["step"] };
        let head = first.into_iter().map(ToOwned::to_owned).chain(columns.iter().map(|key| text(key)));
        let head = Some(head.collect::<Vec<_>>().join(",") + "\r\n");
        Ok(Self { runs, columns, place: (0, 0), head })
    }

    /// What comes next; nothing after the last.
    fn part(&mut self) -> Result<Option<String>, ViewError> {
        if self.head.is_some() {
            return Ok(self.head.take());
        }
        let several = self.runs.len() > 1;
        while let Some(named) = self.runs.get(self.place.0) {
            let Lines { rows, next, more, .. } = named.run.lines(self.place.1)?;
            self.place = if more { (self.place.0, next) } else { (self.place.0 + 1, 0) };
            let run = several.then(|| text(&named.name));
            let lines: String = rows.iter().filter_map(|row| self.line(run.as_deref(), row)).collect();
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
        }
        Ok(None)
    }

    /// A row, if it has any of the columns.
    fn line(&self, run: Option<&str>, row: &Map<String, Value>) -> Option<String> {
        let values: Vec<Option<String>> = self.columns.iter().map(|key| lookup(row, key).map(cell)).collect();
        if values.iter().all(Option::is_none) {
            return None;
        }
        let step = row.get("step").map(cell);
        let cells = run.map(ToOwned::to_owned).into_iter().chain(step);
        let cells = cells.chain(values.into_iter().map(Option::unwrap_or_default));
        Some(cells.collect::<Vec<_>>().join(",") + "\r\n")
    }
}

/// All names in the metrics of runs.
fn names(runs: &[NamedRun]) -> Result<Vec<String>, ViewError> {
    let mut names = BTreeSet::new();
    for named in runs {
        let (mut from, mut more) = (0, true);
        while more {
            let lines = named.run.lines(from)?;
            (from, more) = (lines.next, lines.more);
            for row in &lines.rows {
                for (name, _) in flat(row) {
                    names.insert(name);
                }
                if names.len() > MAX_COLUMNS {
                    return Err(ViewError::TooManyColumns { run: named.name.clone(), most: MAX_COLUMNS });
                }
            }
        }
    }
    Ok(names.into_iter().collect())
}

fn lookup<'a>(row: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let inner = || {
        let nested = |(dot, _)| row.get(&key[..dot])?.as_object()?.get(&key[dot + 1..]);
        key.match_indices('.').find_map(nested)
    };
    row.get(key).filter(|value| !value.is_object()).or_else(inner)
}

/// A value: a number with every digit that metrics.jsonl has, and NaN for null.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "NaN".into(),
        Value::Number(number) => number.to_string(),
        Value::String(value) => text(value),
        other => text(&other.to_string()),
    }
}

/// Text, in quotes where it has to be; no spreadsheet takes it for a formula.
fn text(value: &str) -> String {
    let formula = value.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let value = if formula { format!("'{value}") } else { value.to_owned() };
    let plain = !value.contains([',', '"', '\r', '\n']) && value.trim() == value;
    if plain { value } else { format!("\"{}\"", value.replace('"', "\"\"")) }
}

/// A table as the body of an answer: a part is made when the one before it is sent, so that a slow reader costs one part.
pub(crate) struct CsvBody {
    waiting: Option<Box<Csv>>,
    at_work: Option<JoinHandle<Made>>,
}

/// The next part of a table, and the table without it.
type Made = (Box<Csv>, Result<Option<String>, ViewError>);

impl CsvBody {
    pub(crate) fn new(csv: Csv) -> Self {
        Self { waiting: Some(Box::new(csv)), at_work: None }
    }
}

impl Body for CsvBody {
    type Data = Bytes;
    type Error = ViewError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ViewError>>> {
        if let Some(mut csv) = self.waiting.take() {
            self.at_work = Some(spawn_blocking(move || {
                let part = csv.part();
                (csv, part)
            }));
        }
        let Some(work) = &mut self.at_work else { return Poll::Ready(None) };
        let done = ready!(Pin::new(work).poll(cx));
        self.at_work = None;
        Poll::Ready(match done {
            Ok((csv, Ok(Some(part)))) => {
                self.waiting = Some(csv);
                Some(Ok(Frame::data(part.into())))
            }
            Ok((_, Ok(None))) => None,
            Ok((_, Err(error))) => Some(Err(error)),
            Err(source) => Some(Err(ViewError::Work { source })),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::run::Run;

    fn table(runs: &[(&str, &str)], keys: &[&str]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let named = runs.iter().enumerate().map(|(i, (name, metrics))| {
            let path = folder.path().join(i.to_string());
            fs::create_dir(&path).expect("a folder");
            fs::write(path.join("metrics.jsonl"), metrics).expect("written");
            NamedRun { name: (*name).into(), run: Run::open(&path).expect("a run") }
        });
        let keys: Vec<String> = keys.iter().map(|&key| key.into()).collect();
        let mut csv = Csv::open(named.collect(), &keys).expect("opens");
        let mut all = String::new();
        while let Some(part) = csv.part().expect("read") {
            all += &part;
        }
        all
    }

    const METRICS: &str = "{\"step\":0,\"eval\":{\"accuracy\":0.25}}\n\
                           {\"step\":1,\"reward\":0.10000000149011612,\"loss\":null,\"note\":\"a \\\"b\\\", c\\nd\"}\n\
                           {\"step\":2,\"reward\":-1e-7,\"note\":\"=1+1\",\"ok\":true,\"list\":[1,2]}\n";

    #[test]
    fn a_run_is_a_table_with_every_digit() {
        let expected = "step,eval.accuracy,list,loss,note,ok,reward\r\n\
                        0,0.25,,,,,\r\n\
                        1,,,NaN,\"a \"\"b\"\", c\nd\",,0.10000000149011612\r\n\
                        2,,\"[1,2]\",,'=1+1,true,-1e-7\r\n";
        assert_eq!(table(&[("a", METRICS)], &[]), expected);
    }

    #[test]
    fn a_chart_is_a_table_of_its_values() {
        let expected = "step,eval.accuracy\r\n0,0.25\r\n";
        assert_eq!(table(&[("a", METRICS)], &["eval.accuracy"]), expected);
        assert_eq!(table(&[("a", METRICS)], &["none"]), "step,none\r\n");
        assert_eq!(table(&[("a", "")], &[]), "step\r\n");
    }

    #[test]
    fn several_runs_are_one_table() {
        let other = "{\"step\":1,\"reward\":2}\n";
        let expected = "run,step,reward\r\n\
                        a,1,0.10000000149011612\r\na,2,-1e-7\r\n\"b, \"\"c\"\"\",1,2\r\n";
        assert_eq!(table(&[("a", METRICS), ("b, \"c\"", other)], &["reward"]), expected);
    }

    #[test]
    fn long_metrics_come_whole() {
        let line = |i: u32| format!("{{\"step\":{i},\"x\":{i},\"pad\":\"{:080}\"}}\n", 0);
        let metrics: String = (1..=60_000).map(line).collect();
        let all = table(&[("a", &metrics)], &["x"]);
        assert_eq!(all.lines().count(), 60_001);
        assert!(all.ends_with("60000,60000\r\n"));
    }
}
