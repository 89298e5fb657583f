//! NuminaMath-1.5: only what is valid, has an answer, and shows its choices where it asks for one.

use super::Shape;
use super::row::{Made, Out, Row};
use serde_json::Value;

pub(super) const SHAPE: Shape = Shape {
    name: "numina-1.5",
    about: "NuminaMath-1.5: problem, answer, question_type, problem_is_valid",
    is: |fields| fields.has_all(&["problem", "answer", "question_type", "problem_is_valid"]),
    make: |row| problem(row),
    ..Shape::MADE
};

fn problem(row: &Row) -> Made {
    let (prompt, answer) = (row.need("problem")?, row.need("answer")?);
    let kind = row.text("question_type").unwrap_or_default();
    if kind.eq_ignore_ascii_case("proof") || answer.trim().eq_ignore_ascii_case("proof") {
        return Err("a proof: no program checks it".to_owned());
    }
    if answer.trim().eq_ignore_ascii_case("notfound") {
        return Err("`answer` is notfound".to_owned());
    }
    for field in ["problem_is_valid", "solution_is_valid"] {
        let is_valid = match row.value(field) {
            Value::String(text) => text.eq_ignore_ascii_case("yes"),
            value => value != false,
        };
        if !is_valid {
            return Err(format!("`{field}` is not Yes"));
        }
    }
    if kind.eq_ignore_ascii_case("mcq") && !has_choices(&prompt) {
        return Err("a choice whose options are not in the problem".to_owned());
    }
    Out::asking(prompt)
        .answer(answer)
        .meta([
            ("kind", row.value("problem_type")),
            ("source", row.value("source")),
            ("question_type", row.value("question_type")),
        ])
        .one()
}

/// Whether options A and B are in a problem: `(A)`, `A)`, `A.` or `A:`.
fn has_choices(problem: &str) -> bool {
    ["A", "B"]
        .iter()
        .all(|letter| [")", ".", ":", "}"].iter().any(|mark| problem.contains(&format!("{letter}{mark}"))))
}
