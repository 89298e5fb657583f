//! Tulu 3's RLVR sets (arXiv:2411.15124): a conversation, its `ground_truth`, and which verifier judges it.

use super::Shape;
use super::row::{Made, Out, Row};
use serde_json::Value;

pub(super) const SHAPE: Shape = Shape {
    name: "rlvr",
    about: "Tulu 3's RLVR (RLVR-IFeval, RLVR-GSM-MATH-IF): messages, ground_truth, dataset",
    is: |fields| fields.has("ground_truth") && fields.is_list("messages"),
    make: |row| problem(row),
    ..Shape::MADE
};

fn problem(row: &Row) -> Made {
    let messages = row.messages("messages")?;
    let dataset = match row.value("dataset") {
        Value::Array(list) => list.first().and_then(Value::as_str).unwrap_or_default().to_owned(),
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    let truth = match row.value("ground_truth") {
        Value::Array(mut list) if list.len() == 1 => list.remove(0),
        other => other,
    };
    let is_ifeval = dataset.to_lowercase().contains("ifeval");
    let answer = match truth {
        Value::String(text) if !text.trim().is_empty() => text,
        Value::Number(number) => number.to_string(),
        Value::Object(object) if is_ifeval => Value::Object(object).to_string(),
        other => return Err(format!("`ground_truth` is {}", crate::rows::type_of(&other))),
    };
    let out = Out { messages: Some(messages), ..Out::default() }.id(row.id(&["id"]));
    if !is_ifeval {
        return out.answer(answer).meta([("source", dataset.into())]).one();
    }
    let constraint = serde_json::from_str::<Value>(&answer).ok();
    if constraint.is_none_or(|constraint| constraint.get("func_name").is_none_or(|name| !name.is_string())) {
        return Err("`ground_truth` of ifeval has no `func_name`".to_owned());
    }
    Out { reward: Some("ifeval".to_owned()), ..out.answer(answer) }
        .meta([("kind", row.value("constraint_type"))])
        .one()
}
