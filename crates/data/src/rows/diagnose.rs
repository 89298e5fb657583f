//! Which field of a row is at fault, and what to do: the types that fields of Koan's files have.

use crate::error::LineError;
use serde_json::{Map, Value};

/// What a field holds.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    TextOrNumber,
    Messages,
    Object,
    Numbers,
}

/// The fields that have one meaning in all files.
const FIELDS: [(&str, Kind); 14] = [
    ("id", Kind::TextOrNumber),
    ("prompt", Kind::Text),
    ("messages", Kind::Messages),
    ("answer", Kind::TextOrNumber),
    ("completion", Kind::Text),
    ("chosen", Kind::Text),
    ("rejected", Kind::Text),
    ("text", Kind::Text),
    ("reward", Kind::Text),
    ("meta", Kind::Object),
    ("token_ids", Kind::Numbers),
    ("prompt_ids", Kind::Numbers),
    ("completion_ids", Kind::Numbers),
    ("logprobs", Kind::Numbers),
];

/// What is wrong with the row `json`, if it is an object with a field of the wrong type, or something else than an object.
pub(super) fn wrong_field(json: &[u8]) -> Option<LineError> {
    let row = match serde_json::from_slice(json).ok()? {
        Value::Object(row) => row,
        other => return Some(LineError::NoObject { found: type_of(&other) }),
    };
    FIELDS.iter().find_map(|&(field, kind)| {
        let wrong = wrong(field, row.get(field)?, kind, &row)?;
        Some(LineError::FieldType { what: wrong })
    })
}

fn wrong(field: &str, value: &Value, kind: Kind, row: &Map<String, Value>) -> Option<String> {
    let is = |remedy: &str| Some(format!("`{field}` is {}; {remedy}", type_of(value)));
    match (kind, value) {
        (Kind::Text, Value::String(_))
        | (Kind::TextOrNumber, Value::String(_) | Value::Number(_))
        | (Kind::Object, Value::Object(_))
        | (Kind::Object | Kind::Numbers | Kind::Messages, Value::Null) => None,
        (Kind::Text, Value::Null) if field != "completion" => None,
        (Kind::Text, _) if is_messages(value) && field == "prompt" && !row.contains_key("messages") => {
            is("rename it `messages`, or use `koan data convert`")
        }
        (Kind::Text, _) if is_messages(value) => is("write the text of its last message"),
        (Kind::Text, _) => is("write a string"),
        (Kind::TextOrNumber, Value::Null) => is("write a string or a number, or leave it out"),
        (Kind::TextOrNumber, _) => is("write a string or a number"),
        (Kind::Object, _) => is("write an object"),
        (Kind::Numbers, Value::Array(list)) => {
            let other = list.iter().find(|value| !value.is_number())?;
            Some(format!("`{field}` has {}; write a list of numbers", type_of(other)))
        }
        (Kind::Numbers, _) => is("write a list of numbers"),
        (Kind::Messages, Value::Array(messages)) => {
            messages.iter().enumerate().find_map(|(i, message)| wrong_message(i, message))
        }
        (Kind::Messages, Value::String(_)) => is("use `prompt`, or write a list of {\"role\", \"content\"}"),
        (Kind::Messages, _) => is("write a list of {\"role\", \"content\"}"),
    }
}

fn wrong_message(i: usize, message: &Value) -> Option<String> {
    let Some(message) = message.as_object() else {
        return Some(format!("`messages[{i}]` is {}; write {{\"role\", \"content\"}}", type_of(message)));
    };
    if message.contains_key("from") && message.contains_key("value") {
        return Some(format!(
            "`messages[{i}]` has `from` and `value`, as ShareGPT has them; use `koan data convert --from sharegpt`"
        ));
    }
    ["role", "content"].into_iter().find_map(|field| match message.get(field) {
        Some(Value::String(_)) => None,
        Some(value) => Some(format!("`messages[{i}].{field}` is {}; write a string", type_of(value))),
        None => Some(format!("`messages[{i}]` has no `{field}`; write {{\"role\", \"content\"}}")),
    })
}

fn is_messages(value: &Value) -> bool {
    let is_message = |value: &Value| value.get("role").is_some() && value.get("content").is_some();
    value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(is_message))
}

/// What `value` is, in words.
pub(crate) fn type_of(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(list) if list.is_empty() => "an empty list".to_owned(),
        Value::Array(_) if is_messages(value) => "a list of messages".to_owned(),
        Value::Array(list) if list.iter().all(Value::is_string) => "a list of strings".to_owned(),
        Value::Array(list) if list.iter().all(Value::is_number) => "a list of numbers".to_owned(),
        Value::Array(list) if list.iter().all(Value::is_object) => "a list of objects".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
