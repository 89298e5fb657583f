//! APPS (arXiv:2105.09938) and TACO (arXiv:2312.14852): tests as JSON text in `input_output`.

use super::Shape;
use super::row::{Made, Out, Row, with_starter};
use super::tests_of::Cases;
use serde_json::json;

pub(super) const SHAPE: Shape = Shape {
    name: "apps",
    about: "APPS: question, input_output as JSON text, starter_code",
    is: |fields| fields.has_all(&["question", "input_output"]) && !is_taco(fields),
    make: |row| problem(row),
    ..Shape::MADE
};

pub(super) const TACO: Shape = Shape {
    name: "taco",
    about: "TACO: as APPS, with time_limit, memory_limit, tags",
    is: |fields| fields.has_all(&["question", "input_output"]) && is_taco(fields),
    make: |row| problem(row),
    ..Shape::MADE
};

fn is_taco(fields: &super::Fields) -> bool {
    fields.has_any(&["time_limit", "memory_limit", "raw_tags", "skill_types"])
}

fn problem(row: &Row) -> Made {
    let prompt = with_starter(row.need("question")?, row.text("starter_code"));
    let tests = row.json("input_output").ok_or("no tests")?;
    let mut out = Out::asking(prompt)
        .id(row.id(&["problem_id", "id"]))
        .meta([("level", row.value("difficulty")), ("source", row.value("source"))]);
    // "2.0 seconds", "256.0 megabytes"
    let number = |field: &str| row.text(field)?.split_whitespace().next()?.parse::<f64>().ok();
    out.time_limit_s = number("time_limit").filter(|&s| s > 0.0).map(|s| json!(s));
    out.memory_limit_mb = number("memory_limit").filter(|&mb| mb >= 1.0).map(|mb| mb as u64);
    out.tests(Cases::read(&tests, None)?, row.limits)?.one()
}
