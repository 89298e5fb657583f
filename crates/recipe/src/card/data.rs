//! The data of a model: which files and steps it came from, how many rows, of which kind.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use koan_data::{DataFiles, rows};
use serde_json::{Map, Value};

use super::{
    markdown::{code, hash, plain, table},
    records::{Made, Records, Role, step_of},
};
use crate::MadeOf;

/// Rows whose fields are looked at.
const LOOKED_AT: usize = 10_000;
/// Values of a field that are named.
const NAMED: usize = 12;

/// Rows that a step read.
#[derive(Debug)]
pub(super) struct Rows {
    /// The step that made them as `@NAME`, or the file.
    pub(super) from: String,
    pub(super) sha256: String,
    /// The steps that read them.
    pub(super) read_by: Vec<String>,
    /// Where they come from, in words of Markdown.
    pub(super) source: String,
    /// How many; none: it is not recorded, and the file is not what was read.
    pub(super) count: Option<u64>,
    /// What they are.
    pub(super) about: About,
}

/// What the first rows of a file say of themselves.
#[derive(Debug, Default)]
pub(super) struct About {
    /// Problems, demonstrations, preferences, …
    pub(super) shape: Option<&'static str>,
    /// What their `category`, `source` or `meta.kind` says, with how many rows.
    pub(super) subjects: BTreeMap<String, usize>,
    /// Codes of the languages that they name.
    pub(super) languages: BTreeSet<String>,
    /// Whether they name who judged them.
    pub(super) has_annotators: bool,
}

/// All rows that the steps on the way to the model read to learn from or to pass on.
pub(super) fn all(records: &Records) -> Vec<Rows> {
    let mut all: Vec<Rows> = Vec::new();
    for made in records.way() {
        for input in made.reads(Role::Data) {
            let name = made.state.name.clone();
            match all.iter_mut().find(|rows| rows.from == input.from && rows.sha256 == input.sha256) {
                Some(rows) if rows.read_by.contains(&name) => {}
                Some(rows) => rows.read_by.push(name),
                None => all.push(Rows::of(records, input, name)),
            }
        }
    }
    all
}

impl Rows {
    fn of(records: &Records, input: &MadeOf, reader: String) -> Self {
        let maker = records.maker(input);
        let path = match maker {
            Some(maker) => {
                maker.state.outputs.iter().find(|o| o.sha256 == input.sha256).map(|o| maker.place_of(o))
            }
            None => Some(PathBuf::from(&input.from)),
        };
        let files = path.map(DataFiles::from);
        // What is there now says something only if it is what was read.
        let files = files.filter(|files| files.hash().is_ok_and(|hash| hash == input.sha256));
        let recorded = maker.and_then(|maker| {
            let part = input.from.split_once('.').map(|(_, part)| format!("rows_{part}"));
            maker.state.figures.get(part.as_deref().unwrap_or("rows"))?.as_u64()
        });
        let (about, counted) = files.as_ref().map(look).unwrap_or_default();
        Self {
            from: input.from.clone(),
            sha256: input.sha256.clone(),
            read_by: vec![reader],
            source: maker.map_or_else(|| "given".to_owned(), source),
            count: recorded.or(counted),
            about,
        }
    }

    /// Whether they come from outside.
    pub(super) fn is_given(&self) -> bool {
        step_of(&self.from).is_none()
    }

    fn kind(&self) -> String {
        let shape = self.about.shape.unwrap_or("not known").to_owned();
        let subjects = &self.about.subjects;
        if !(1..=NAMED).contains(&subjects.len()) {
            return shape;
        }
        let names: Vec<String> = subjects.keys().map(|name| plain(name)).collect();
        format!("{shape}: {}", names.join(", "))
    }
}

/// How a step made its rows.
fn source(made: &Made) -> String {
    let setting = |key: &str| made.state.settings.get(key).and_then(Value::as_str);
    let of = |role| {
        let names: BTreeSet<String> = made.reads(role).map(|input| code(&input.from)).collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    };
    let data = of(Role::Data);
    match &*made.state.kind {
        "problems" => format!("drawn by the generator {}", code(setting("generator").unwrap_or("not named"))),
        "reject" => format!("answers of {} to {data}, chosen by rewards", of(Role::Model)),
        "generate" => format!("answers of {} to {data}", of(Role::Model)),
        "label" => format!("people's votes on {data}"),
        "world" => format!("written by the world {}", code(setting("world").unwrap_or("not named"))),
        "vote" => format!("votes on {data} by a stated rule, which stands in for people"),
        "decontaminate" => format!("{data} without what {} holds", of(Role::Test)),
        kind if data.is_empty() => format!("made by a step of kind {}", code(kind)),
        kind => format!("{} of {data}", code(kind)),
    }
}

/// What the rows of `files` are, and how many; nothing of files that are no rows.
fn look(files: &DataFiles) -> (About, Option<u64>) {
    let (mut about, mut n) = (About::default(), 0);
    let Ok(all) = rows::all(files) else { return (about, None) };
    for row in all {
        let Ok((_, Ok(bytes))) = row else { return (about, None) };
        if n < LOOKED_AT as u64
            && let Ok(row) = serde_json::from_slice::<Map<String, Value>>(&bytes)
        {
            about.add(&row);
        }
        n += 1;
    }
    (about, Some(n))
}

impl About {
    fn add(&mut self, row: &Map<String, Value>) {
        self.shape = self.shape.or_else(|| shape(row));
        let meta = |key: &str| row.get("meta").and_then(|meta| meta.get(key));
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let subject =
            text(row.get("category")).or_else(|| text(meta("category"))).or_else(|| text(meta("kind")));
        let subject = subject.or_else(|| text(row.get("source"))).or_else(|| text(meta("source")));
        if let Some(subject) = subject
            && (self.subjects.len() <= NAMED || self.subjects.contains_key(&subject))
        {
            *self.subjects.entry(subject).or_default() += 1;
        }
        let language =
            text(row.get("language")).or_else(|| text(meta("language"))).or_else(|| text(meta("lang")));
        self.languages.extend(language.filter(|code| is_language(code)));
        self.has_annotators |= row.contains_key("annotators");
    }
}

/// Whether this is a code of ISO 639.
pub(super) fn is_language(code: &str) -> bool {
    (2..=3).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_lowercase())
}

/// What a row is by its fields.
fn shape(row: &Map<String, Value>) -> Option<&'static str> {
    let has = |key: &str| row.get(key).is_some_and(|value| !value.is_null());
    let ends_in_answer = || {
        let last = row.get("messages")?.as_array()?.last()?;
        Some(last.get("role")?.as_str()? == "assistant")
    };
    Some(match () {
        () if has("chosen") && has("rejected") => "preferences",
        () if has("label") && has("completion") => "answers with labels",
        () if has("completions") => "prompts with a model's answers",
        () if has("completion") || ends_in_answer() == Some(true) => "demonstrations",
        () if has("answer") || has("reward") || has("tests") => "problems with answers",
        () if has("text") => "text",
        () if has("prompt") || has("messages") => "prompts",
        () => return None,
    })
}

/// The section.
pub(super) fn section(records: &Records, all: &[Rows]) -> String {
    if all.is_empty() {
        return "No data is recorded.\n".to_owned();
    }
    let row = |rows: &Rows| {
        let readers: Vec<String> = rows.read_by.iter().map(|name| code(name)).collect();
        let n = rows.count.map_or_else(|| "not recorded".to_owned(), |n| n.to_string());
        vec![code(&rows.from), rows.kind(), rows.source.clone(), n, hash(&rows.sha256), readers.join(", ")]
    };
    let mut text = table(
        &["data", "kind", "where from", "rows", "SHA-256", "read by"],
        &all.iter().map(row).collect::<Vec<_>>(),
    );
    let held_out: BTreeSet<String> = records
        .way()
        .iter()
        .flat_map(|made| made.reads(Role::HeldOut))
        .map(|input| format!("{} ({})", code(&input.from), hash(&input.sha256)))
        .collect();
    if !held_out.is_empty() {
        let names: Vec<String> = held_out.into_iter().collect();
        writeln!(text, "\nOnly measured by while training: {}.", names.join(", ")).expect("a string");
    }
    text
}

/// A name for a data set on the hub: that of its file.
pub(super) fn dataset_name(from: &str) -> String {
    let name = Path::new(from).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut stem = &*name;
    for ending in [".gz", ".zst", ".jsonl", ".json", ".parquet", ".txt"] {
        stem = stem.strip_suffix(ending).unwrap_or(stem);
    }
    super::front::hub_word(stem)
}
