//! Open-Reasoner-Zero: an array of arrays, each a question and the value of its answer.

use super::row::{Made, Out, Skip};
use serde_json::Value;

pub(super) const NAME: &str = "orz";
pub(super) const ABOUT: &str =
    "Open-Reasoner-Zero: rows are lists of two messages, the second with ground_truth.value";

/// Whether a row, which is a list, is of this shape.
pub(super) fn is(row: &Value) -> bool {
    row.as_array().is_some_and(|list| list.len() >= 2 && list[1].get("ground_truth").is_some())
}

pub(super) fn problem(row: &Value) -> Made {
    let wrong = |what: &str| -> Skip { what.to_owned() };
    let list = row.as_array().ok_or_else(|| wrong("the row is no list"))?;
    let question = list.iter().find(|message| message.get("from").is_some_and(|from| from == "human"));
    let question = question.and_then(|message| message.get("value")?.as_str());
    let answer = list.iter().find_map(|message| message.get("ground_truth")?.get("value"));
    let answer = match answer {
        Some(Value::String(text)) if !text.trim().is_empty() => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => return Err(wrong("no `ground_truth.value`")),
    };
    Out::asking(question.ok_or_else(|| wrong("no question"))?).answer(answer).one()
}
