//! Questions with answers, under the names that data sets have for them: Big-Math, DeepScaleR, AIME, AMC, OlympiadBench, reasoning-gym.

use super::row::{Made, Out, Row, boxed};
use super::{Fields, Shape};
use serde_json::{Value, json};

/// Names of a question, and of its answer.
const QUESTIONS: [&str; 6] = ["problem", "question", "Problem", "Question", "prompt", "query"];
const ANSWERS: [&str; 7] =
    ["answer", "Answer", "final_answer", "expected_answer", "ground_truth", "gold_answer", "target"];

pub(super) const BIG_MATH: Shape = Shape {
    name: "big-math",
    about: "Big-Math-RL-Verified: problem, answer, domain, llama8b_solve_rate",
    is: |fields| fields.has_all(&["problem", "answer"]) && fields.knows("llama8b_solve_rate"),
    make: |row| {
        Out::asking(row.need("problem")?)
            .answer(row.need("answer")?)
            .meta([
                ("source", row.value("source")),
                ("kind", row.list("domain").first().cloned().unwrap_or_default()),
                ("pass_rate", row.value("llama8b_solve_rate")),
            ])
            .one()
    },
    ..Shape::MADE
};

pub(super) const DEEPSCALER: Shape = Shape {
    name: "deepscaler",
    about: "DeepScaleR-Preview: problem, answer, solution, and nothing else",
    is: |fields| fields.has_all(&["problem", "answer"]) && fields.knows("solution") && fields.len() == 3,
    make: |row| {
        Out { solution: row.text("solution"), ..Out::asking(row.need("problem")?) }
            .answer(row.need("answer")?)
            .one()
    },
    ..Shape::MADE
};

pub(super) const GYM: Shape = Shape {
    name: "reasoning-gym",
    about: "reasoning-gym: question, answer, metadata with source_dataset",
    is: |fields| {
        fields.has_all(&["question", "metadata"])
            && fields.every("metadata", |text| text.contains("source_dataset"))
    },
    make: |row| {
        let metadata = row.json("metadata").and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
        let source = metadata.and_then(|metadata| metadata.get("source_dataset").cloned());
        Out::asking(row.need("question")?)
            .answer(row.need("answer")?)
            .meta([("kind", source.unwrap_or_default())])
            .one()
    },
    ..Shape::MADE
};

pub(super) const SHAPE: Shape = Shape {
    name: "questions",
    about: "a question and its answer (AIME, AMC, OlympiadBench, Minerva): problem, question or prompt; answer, final_answer",
    is: |fields| {
        let named = |names: &[&str]| names.iter().filter(|name| fields.has(name)).count();
        let is_koan = fields.is_text("prompt") && fields.has("answer");
        named(&QUESTIONS) == 1 && named(&ANSWERS) == 1 && !is_koan && !fields.is_list("prompt")
    },
    make: |row| problem(row),
    ..Shape::GENERAL
};

/// What could be the question or the answer of an unknown file, where it is not clear.
pub(super) fn candidates(fields: &Fields) -> [Vec<&'static str>; 2] {
    let named = |names: &[&'static str]| names.iter().copied().filter(|name| fields.has(name)).collect();
    [named(&QUESTIONS), named(&ANSWERS)]
}

fn problem(row: &Row) -> Made {
    let named = |names: &[&'static str]| names.iter().copied().find(|name| row.has(name));
    let question = row.need(named(&QUESTIONS).unwrap_or("question"))?;
    let solution = row.text("solution").or(row.text("Solution"));
    let field = named(&ANSWERS).unwrap_or("answer");
    let answer = match row.value(field) {
        Value::Array(list) => match &list[..] {
            [Value::String(answer)] => Some(answer.trim_matches('$').to_owned()),
            [Value::Number(answer)] => Some(answer.to_string()),
            _ => return Err(format!("`{field}` is {}", crate::rows::type_of(&json!(list)))),
        },
        _ => row.text(field).or(solution.as_deref().and_then(boxed).map(str::to_owned)),
    };
    let answer = answer.map_or_else(|| row.need(field), Ok)?;
    Out { solution, ..Out::asking(question) }
        .id(row.id(&["id", "ID", "unique_id", "problem_id", "question_id"]))
        .answer(answer)
        .meta([("source", row.value("source")), ("level", row.value("level")), ("kind", row.value("type"))])
        .one()
}
