//! SYNTHETIC-1 and -2, its parts, and open-r1's verifiable-coding-problems-python: `verification_info`, as JSON text or a struct.

use super::Shape;
use super::row::{Made, Out, Row};
use super::tests_of::Cases;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

pub(super) const SHAPE: Shape = Shape {
    name: "synthetic-1",
    about: "SYNTHETIC-1, verifiable-math-problems, verifiable-coding-problems: verification_info",
    is: |fields| fields.has("verification_info"),
    make: |row| problem(row),
    ..Shape::MADE
};

#[derive(Deserialize)]
struct Info {
    ground_truth: Option<Value>,
    test_cases: Option<Box<RawValue>>,
    language: Option<String>,
}

fn problem(row: &Row) -> Made {
    let info = row.json("verification_info").ok_or("`verification_info` is no JSON")?;
    let info: Info = serde_json::from_str(info.get()).map_err(|_| "`verification_info` of another form")?;
    let prompt =
        ["prompt", "problem", "problem_statement", "question"].iter().find_map(|field| row.text(field));
    let difficulty = row.json("metadata").and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let difficulty = difficulty.and_then(|metadata| metadata.get("difficulty").cloned()).unwrap_or_default();
    let out = Out::asking(prompt.ok_or("no `prompt`")?)
        .id(row.id(&["problem_id"]))
        .meta([("source", row.value("source")), ("difficulty", difficulty)]);
    if let Some(tests) = info.test_cases {
        if info.language.as_deref().is_some_and(|language| !language.to_lowercase().starts_with("python")) {
            return Err("a program in another language than Python".to_owned());
        }
        return out.tests(Cases::read(&tests, None)?, row.limits)?.one();
    }
    match info.ground_truth {
        Some(Value::String(text)) if !text.trim().is_empty() => out.answer(text).one(),
        Some(Value::Number(number)) => out.answer(number.to_string()).one(),
        _ => Err("`verification_info` has neither `ground_truth` nor `test_cases`".to_owned()),
    }
}
