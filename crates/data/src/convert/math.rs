//! MATH (arXiv:2103.03874), its copies and MATH-500; NuminaMath-CoT and -TIR: the answer is in the last box of the solution.

use super::Shape;
use super::row::{Made, Out, Row, boxed};
use serde_json::Value;

pub(super) const SHAPE: Shape = Shape {
    name: "math",
    about: "MATH, MATH-500: problem, solution, level, type or subject; the answer is the last box",
    is: |fields| {
        fields.has_all(&["problem", "solution", "level"]) && (fields.has("type") || fields.has("subject"))
    },
    make: |row| problem(row),
    ..Shape::MADE
};

pub(super) const NUMINA_COT: Shape = Shape {
    name: "numina-cot",
    about: "NuminaMath-CoT, NuminaMath-TIR: problem, solution, messages; the answer is the last box",
    is: |fields| {
        fields.has_all(&["problem", "solution", "messages"])
            && !fields.has("answer")
            && !fields.has("verification_info")
    },
    make: |row| problem(row),
    ..Shape::MADE
};

fn problem(row: &Row) -> Made {
    let solution = row.need("solution")?;
    let answer = row.text("answer").or(boxed(&solution).map(str::to_owned));
    let answer = answer.ok_or("`solution` has no box: there is no answer to compare with")?;
    let level = match row.value("level") {
        Value::String(text) => {
            let digits = text.strip_prefix("Level ").unwrap_or(&text);
            digits.parse::<u64>().map_or(Value::Null, Value::from)
        }
        level => level,
    };
    let kind =
        [row.value("type"), row.value("subject")].into_iter().find(Value::is_string).unwrap_or_default();
    Out { solution: Some(solution), ..Out::asking(row.need("problem")?) }
        .id(row.id(&["unique_id"]))
        .answer(answer)
        .meta([("level", level), ("kind", kind), ("source", row.value("source"))])
        .one()
}
