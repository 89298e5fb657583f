//! DeepCoder-Preview: tests as JSON text in `tests`, of two layouts.

use super::Shape;
use super::row::{Made, Out, Row, with_starter};
use super::tests_of::Cases;
use serde_json::Value;

pub(super) const SHAPE: Shape = Shape {
    name: "deepcoder",
    about: "DeepCoder-Preview: problem, tests as JSON text, starter_code",
    is: |fields| fields.has_all(&["problem", "tests"]) && fields.is_text("tests"),
    make: |row| problem(row),
    ..Shape::MADE
};

fn problem(row: &Row) -> Made {
    let metadata = row.json("metadata").and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let function = metadata.as_ref().and_then(|metadata| metadata.get("func_name")?.as_str());
    let tests = row.json("tests").ok_or("`tests` is no JSON")?;
    Out::asking(with_starter(row.need("problem")?, row.text("starter_code")))
        .id(row.id(&["problem_id", "id"]))
        .tests(Cases::read(&tests, function)?, row.limits)?
        .one()
}
