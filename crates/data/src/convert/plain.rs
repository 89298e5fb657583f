//! Rows that Koan reads as they are: only their file is another (Parquet, an array), and rows that `--map` names the fields of.

use super::row::{Made, Out, Row, messages};
use super::{ConvertError, Shape};
use serde_json::{Value, json};

pub(super) const KOAN: Shape = Shape {
    name: "koan",
    about: "Koan's own problems, in any kind of file: prompt or messages, with answer or tests",
    is: |fields| {
        (fields.is_text("prompt") || fields.is_list("messages"))
            && fields.has_any(&["answer", "tests"])
            && !fields.has_any(&["reward_model", "chosen", "generations"])
    },
    make: |row| kept(row, |_| true),
    ..Shape::GENERAL
};

pub(super) const TEXT: Shape = Shape {
    name: "text",
    about: "texts to pretrain on: text",
    is: |fields| {
        fields.is_text("text") && !fields.has_any(&["label", "labels", "role", "prompt", "code", "test_list"])
    },
    make: |row| {
        row.need("text")?;
        kept(row, |name| name == "text")
    },
    ..Shape::GENERAL
};

/// The row as it is.
pub(super) fn kept(row: &Row, is_kept: impl Fn(&str) -> bool) -> Made {
    let mut out = Out::default();
    for name in row.names().filter(|name| is_kept(name)) {
        let value = row.value(name);
        match (name, value) {
            ("id", value) => out.id = Some(value),
            ("prompt", Value::String(text)) => out.prompt = Some(text),
            ("messages", value) => {
                out.messages = Some(messages(&value).map_err(|what| format!("`messages`: {what}"))?);
            }
            ("answer", Value::Array(_) | Value::Object(_) | Value::Bool(_)) => {
                return Err(format!("`answer` is {}", crate::rows::type_of(&row.value("answer"))));
            }
            ("answer", _) => out.answer = Some(row.need("answer")?),
            ("meta", Value::Object(meta)) => out.meta = meta,
            (name, value) => _ = out.other.insert(name.to_owned(), value),
        }
    }
    out.one()
}

/// Fields of Koan's rows that `--map` can fill.
const TARGETS: [&str; 12] = [
    "id",
    "prompt",
    "messages",
    "answer",
    "solution",
    "completion",
    "chosen",
    "rejected",
    "margin",
    "text",
    "tests",
    "reward",
];

/// Which field of a row becomes which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping(Vec<(String, String)>);

impl std::str::FromStr for Mapping {
    type Err = ConvertError;

    /// `prompt=problem,answer=solution`
    fn from_str(text: &str) -> Result<Self, ConvertError> {
        let wrong = |what: String| ConvertError::Mapping { mapping: text.to_owned(), what };
        let mut pairs: Vec<(String, String)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (to, from) =
                part.split_once('=').ok_or_else(|| wrong(format!("`{part}` is not FIELD=THEIRS")))?;
            let (to, from) = (to.trim(), from.trim());
            if !TARGETS.contains(&to) && !to.starts_with("meta.") {
                let known = TARGETS.join(", ");
                return Err(wrong(format!("`{to}` is no field of Koan's; use {known} or meta.NAME")));
            }
            if pairs.iter().any(|(other, _)| other == to) {
                return Err(wrong(format!("`{to}` is given twice")));
            }
            pairs.push((to.to_owned(), from.to_owned()));
        }
        if pairs.is_empty() { Err(wrong("it maps nothing".to_owned())) } else { Ok(Self(pairs)) }
    }
}

impl Mapping {
    /// The row that this makes of `row`: what it names, and `\boxed` answers as they stand.
    pub(super) fn apply(&self, row: &Row) -> Made {
        let mut out = Out::default();
        for (to, from) in &self.0 {
            // A part of a field: `reward_model.ground_truth`, `completions.0.text`.
            let value = || {
                let mut parts = from.split('.');
                let first = row.value(parts.next().unwrap_or_default());
                let item = |value: &Value, part: &str| match part.parse::<usize>() {
                    Ok(at) if value.is_array() => value.get(at).cloned(),
                    _ => value.get(part).cloned(),
                };
                parts.fold(first, |value, part| item(&value, part).unwrap_or_default())
            };
            let text = || match value() {
                _ if row.has(from) => row.need(from),
                Value::String(text) if !text.trim().is_empty() => Ok(text),
                Value::Number(number) => Ok(number.to_string()),
                Value::Null => Err(format!("no `{from}`")),
                other => Err(format!("`{from}` is {}", crate::rows::type_of(&other))),
            };
            match to.as_str() {
                "id" => out.id = Some(value()).filter(|value| value.is_string() || value.is_number()),
                "prompt" if value().is_array() => {
                    out.messages = Some(messages(&value()).map_err(|what| format!("`{from}`: {what}"))?);
                }
                "messages" => {
                    out.messages = Some(messages(&value()).map_err(|what| format!("`{from}`: {what}"))?);
                }
                "prompt" => out.prompt = Some(text()?),
                "answer" => out.answer = Some(text()?),
                "solution" => out.solution = text().ok(),
                "chosen" => out.chosen = Some(text()?),
                "rejected" => out.rejected = Some(text()?),
                "margin" => out.margin = Some(value()).filter(Value::is_number),
                "reward" => out.reward = Some(text()?),
                "tests" => {
                    let raw = row.json(from).ok_or_else(|| format!("`{from}` is no JSON"))?;
                    let tests = super::tests_of::Cases::read(&raw, None)?;
                    out = out.tests(tests, row.limits)?;
                }
                to => match to.strip_prefix("meta.") {
                    Some(name) => out = out.meta([(name, value())]),
                    None => _ = out.other.insert(to.to_owned(), json!(text()?)),
                },
            }
        }
        out.one()
    }
}
