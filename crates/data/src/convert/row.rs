//! A row of a published file, the row that is made of it, and why none is.

use super::tests_of::{Cases, Limits};
use crate::problem::{Message, exact};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The limits that the verifier `code` takes: Python needs more than some problems allow.
const MEMORY_LIMITS_MB: (u64, u64) = (64, 8192);
const MAX_TIME_LIMIT_S: f64 = 60.0;

/// A row of a published file: its fields as they are written, so that no digit is lost.
#[derive(Debug)]
pub(crate) struct Row {
    fields: BTreeMap<String, Box<RawValue>>,
    pub(super) limits: Limits,
}

/// Why a row, or a part of it, becomes none: the reason that it is counted under.
pub(crate) type Skip = String;

/// What becomes of a row.
pub(super) type Made = Result<Vec<Out>, Skip>;

/// A row of Koan: a problem, a demonstration or a preference.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(default)]
pub struct Out {
    /// Its name, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
    /// The question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<Message>>,
    /// The reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The tests of a code problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tests: Option<Box<RawValueEq>>,
    /// The better reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// The worse reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    /// By how much it is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<Value>,
    /// How the answer is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub solution: Option<String>,
    /// Seconds that a program may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_limit_s: Option<Value>,
    /// Memory that it may take, MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_mb: Option<u64>,
    /// What judges it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward: Option<String>,
    /// Anything else.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub meta: Map<String, Value>,
    /// Fields that are carried over as they are.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// JSON as it is written.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct RawValueEq(pub Box<RawValue>);

impl PartialEq for RawValueEq {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Row {
    /// The fields of an object; `None` of anything else.
    pub(super) fn new(json: &[u8], limits: Limits) -> Option<Self> {
        let fields = serde_json::from_slice(json).ok()?;
        Some(Self { fields, limits })
    }

    /// The names of its fields that are not null.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(|(_, raw)| raw.get() != "null").map(|(name, _)| name.as_str())
    }

    /// Whether it has a field of that name, be it null.
    pub(super) fn knows(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    pub(super) fn raw(&self, field: &str) -> Option<&str> {
        self.fields.get(field).map(|raw| raw.get()).filter(|raw| *raw != "null")
    }

    /// The value of a field; `null` if there is none.
    pub(super) fn value(&self, field: &str) -> Value {
        self.fields.get(field).map(|raw| exact(raw)).unwrap_or_default()
    }

    /// The text of a field, or a number as it is written; `None` if it is empty, or neither.
    pub(super) fn text(&self, field: &str) -> Option<String> {
        let raw = self.raw(field)?;
        let text = match raw.as_bytes()[0] {
            b'"' => serde_json::from_str(raw).ok()?,
            b'-' | b'0'..=b'9' => raw.to_owned(),
            _ => return None,
        };
        Some(text).filter(|text: &String| !text.trim().is_empty())
    }

    /// The text of a field that a row can't do without.
    pub(super) fn need(&self, field: &str) -> Result<String, Skip> {
        self.text(field).ok_or_else(|| {
            let found = crate::rows::type_of(&self.value(field));
            match self.raw(field) {
                None => format!("no `{field}`"),
                Some("\"\"") => format!("`{field}` is empty"),
                Some(raw) if raw.starts_with('"') => format!("`{field}` is blank"),
                Some(_) => format!("`{field}` is {found}"),
            }
        })
    }

    /// The list in a field; empty if there is none.
    pub(super) fn list(&self, field: &str) -> Vec<Value> {
        match self.value(field) {
            Value::Array(list) => list,
            _ => Vec::new(),
        }
    }

    /// The value of a field that holds JSON as text, or as it is.
    pub(super) fn json(&self, field: &str) -> Option<Box<RawValue>> {
        let raw = self.raw(field)?;
        if raw.starts_with('"') {
            let text: String = serde_json::from_str(raw).ok()?;
            serde_json::from_str(&text).ok()
        } else {
            serde_json::from_str(raw).ok()
        }
    }

    /// The conversation in a field.
    pub(super) fn messages(&self, field: &str) -> Result<Vec<Message>, Skip> {
        messages(&self.value(field)).map_err(|what| format!("`{field}`: {what}"))
    }

    /// A name from one of the fields, as it stands.
    pub(super) fn id(&self, fields: &[&str]) -> Option<Value> {
        fields.iter().map(|field| self.value(field)).find(|value| match value {
            Value::String(text) => !text.is_empty(),
            value => value.is_number(),
        })
    }

    /// Whether a field has any value but null.
    pub(super) fn has(&self, field: &str) -> bool {
        self.raw(field).is_some()
    }

    pub(super) fn is_text(&self, field: &str) -> bool {
        self.raw(field).is_some_and(|raw| raw.starts_with('"'))
    }

    pub(super) fn is_list(&self, field: &str) -> bool {
        self.raw(field).is_some_and(|raw| raw.starts_with('['))
    }

    pub(super) fn is_object(&self, field: &str) -> bool {
        self.raw(field).is_some_and(|raw| raw.starts_with('{'))
    }
}

/// The conversation that `value` is: objects with `role` and `content`, or `from` and `value`.
pub(super) fn messages(value: &Value) -> Result<Vec<Message>, Skip> {
    let list = value.as_array().ok_or("no list of messages")?;
    let message = |message: &Value| {
        let text = |names: [&str; 2]| names.iter().find_map(|name| message.get(name)?.as_str());
        let role = text(["role", "from"]).ok_or("a message without role")?;
        let content = text(["content", "value"]).ok_or("a message without text")?;
        let role = match role {
            "system" => "system",
            "human" | "user" | "prompter" => "user",
            "gpt" | "assistant" | "chatgpt" | "bing" | "bard" | "model" => "assistant",
            "tool" | "observation" | "function_response" => "tool",
            other => return Err(format!("the role `{}`", shorten(other))),
        };
        Ok(Message { role: role.to_owned(), content: content.to_owned(), other: Map::new() })
    };
    let messages: Vec<Message> = list.iter().map(message).collect::<Result<_, Skip>>()?;
    if messages.is_empty() { Err("an empty list of messages".to_owned()) } else { Ok(messages) }
}

/// A conversation whose last message is the assistant's, cut into what comes before and the reply.
pub(super) fn reply(mut messages: Vec<Message>) -> Result<(Vec<Message>, String), Skip> {
    match messages.pop() {
        Some(last) if last.role == "assistant" && !last.content.trim().is_empty() && !messages.is_empty() => {
            Ok((messages, last.content))
        }
        Some(last) if last.role == "assistant" => Err("an empty reply, or no question before it".to_owned()),
        _ => Err("the last message is not the assistant's".to_owned()),
    }
}

impl Out {
    /// A problem with this question.
    pub(super) fn asking(prompt: impl Into<String>) -> Self {
        Self { prompt: Some(prompt.into()), ..Self::default() }
    }

    pub(super) fn answer(self, answer: impl Into<String>) -> Self {
        Self { answer: Some(answer.into()), ..self }
    }

    /// Adds what is there to `meta`.
    pub(super) fn meta<const N: usize>(mut self, parts: [(&str, Value); N]) -> Self {
        let there = parts.into_iter().filter(|(_, value)| !value.is_null() && value != "");
        self.meta.extend(there.map(|(name, value)| (name.to_owned(), value)));
        self
    }

    pub(super) fn id(self, id: Option<Value>) -> Self {
        Self { id, ..self }
    }

    /// A code problem with these tests, and limits that the sandbox can keep.
    pub(super) fn tests(mut self, cases: Cases, limits: Limits) -> Result<Self, Skip> {
        self.memory_limit_mb =
            self.memory_limit_mb.map(|mb| mb.clamp(MEMORY_LIMITS_MB.0, MEMORY_LIMITS_MB.1));
        if self
            .time_limit_s
            .as_ref()
            .and_then(Value::as_f64)
            .is_some_and(|seconds| seconds > MAX_TIME_LIMIT_S)
        {
            self.time_limit_s = Some(json!(MAX_TIME_LIMIT_S));
        }
        let (tests, left_out) = cases.written(limits)?;
        self.tests = Some(Box::new(RawValueEq(tests)));
        self.reward = Some("code".to_owned());
        let left_out = if left_out > 0 { json!(left_out) } else { Value::Null };
        Ok(self.meta([("tests_left_out", left_out)]))
    }

    #[expect(clippy::unnecessary_wraps, reason = "it ends a function that may skip a row")]
    pub(super) fn one(self) -> Made {
        Ok(vec![self])
    }
}

/// `text` followed by starter code, if there is any.
pub(super) fn with_starter(text: String, starter: Option<String>) -> String {
    match starter {
        Some(code) => format!("{text}\n\n{code}"),
        None => text,
    }
}

/// The first characters of `text`.
pub(super) fn shorten(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// What the last `\boxed` or `\fbox` of a solution holds.
pub(super) fn boxed(solution: &str) -> Option<&str> {
    let (at, command) =
        ["\\boxed", "\\fbox"].iter().filter_map(|name| Some((solution.rfind(name)?, name))).max()?;
    let rest = &solution[at + command.len()..];
    let Some(inner) = rest.trim_start().strip_prefix('{') else {
        // `\boxed 7`
        let word = rest.strip_prefix(' ')?;
        let end = word.find(|c: char| c.is_whitespace() || c == '$').unwrap_or(word.len());
        return Some(word[..end].trim_end_matches('.')).filter(|word| !word.is_empty());
    };
    let (mut depth, mut escaped) = (1, false);
    for (i, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(inner[..i].trim()).filter(|answer| !answer.is_empty());
                }
            }
            _ => {}
        }
    }
    None
}
