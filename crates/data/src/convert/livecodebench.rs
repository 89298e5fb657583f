//! LiveCodeBench (arXiv:2403.07974): public tests as JSON text, private ones as JSON text or packed.

use super::Shape;
use super::pickle;
use super::row::{Made, Out, Row, with_starter};
use super::tests_of::Cases;
use serde_json::{Value, value::RawValue};

pub(super) const SHAPE: Shape = Shape {
    name: "livecodebench",
    about: "LiveCodeBench code_generation_lite: question_content, public_test_cases, private_test_cases",
    is: |fields| fields.has_all(&["question_content", "public_test_cases"]),
    make: |row| problem(row),
    ..Shape::MADE
};

fn problem(row: &Row) -> Made {
    let metadata = row.json("metadata").and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let function = metadata.as_ref().and_then(|metadata| metadata.get("func_name")?.as_str());
    let public = row.json("public_test_cases").ok_or("`public_test_cases` is no JSON")?;
    let mut cases = Cases::read(&public, function)?;
    if row.has("private_test_cases") {
        let private: Box<RawValue> = if let Some(json) = row.json("private_test_cases") {
            json
        } else {
            let json = pickle::unpack(&row.need("private_test_cases")?)?;
            serde_json::from_str(&json).map_err(|_| "private tests that can't be read (no JSON)")?
        };
        cases = cases.and(Cases::read(&private, function)?)?;
    }
    let date =
        row.text("contest_date").map(|date| date.split(['T', ' ']).next().unwrap_or_default().to_owned());
    Out::asking(with_starter(row.need("question_content")?, row.text("starter_code")))
        .id(row.id(&["question_id"]))
        .meta([
            ("level", row.value("difficulty")),
            ("source", row.value("platform")),
            ("date", date.map(Value::from).unwrap_or_default()),
        ])
        .tests(cases, row.limits)?
        .one()
}
