//! Countdown (TinyZero's Countdown-Tasks-3to4): make a number of others.

use super::Shape;
use super::row::{Made, Out, Row, Skip};
use serde_json::{Value, json};

pub(super) const SHAPE: Shape = Shape {
    name: "countdown",
    about: "Countdown-Tasks-3to4: target, nums",
    is: |fields| fields.has("target") && fields.has_any(&["nums", "numbers"]),
    make: |row| problem(row),
    ..Shape::MADE
};

fn problem(row: &Row) -> Made {
    let target = row.value("target");
    let list = if row.has("nums") { row.value("nums") } else { row.value("numbers") };
    let numbers = numbers(&list)?;
    let joined = joined(&numbers);
    let prompt = format!("Use the numbers {joined}, each exactly once, and + - * / to make {target}.");
    asked(Out::asking(prompt), &target, &numbers)
}

/// The problem `out`, of which these are the numbers.
pub(super) fn asked(out: Out, target: &Value, numbers: &[i64]) -> Made {
    if !target.is_i64() {
        return Err("the target is no whole number".to_owned());
    }
    Out { reward: Some("countdown".to_owned()), ..out }
        .answer(format!("{target} from {}", joined(numbers)))
        .meta([("kind", json!("countdown")), ("target", target.clone()), ("numbers", json!(numbers))])
        .one()
}

pub(super) fn numbers(list: &Value) -> Result<Vec<i64>, Skip> {
    let numbers = list.as_array().and_then(|list| list.iter().map(Value::as_i64).collect::<Option<Vec<_>>>());
    numbers
        .filter(|numbers| !numbers.is_empty())
        .ok_or_else(|| "the numbers are no list of whole numbers".to_owned())
}

fn joined(numbers: &[i64]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
