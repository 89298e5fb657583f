//! OpenR1-Math: problems, or the generations that were found correct and complete.

use super::Shape;
use super::row::{Made, Out, Row};
use crate::problem::Message;
use serde_json::{Value, json};

fn is(fields: &super::Fields) -> bool {
    fields.has_all(&["problem", "answer", "generations"])
        && fields.has_any(&["correctness_math_verify", "correctness_llama"])
}

pub(super) const SHAPE: Shape = Shape {
    name: "openr1",
    about: "OpenR1-Math: problem, answer, generations; its problems",
    is,
    make: |row| problem(row),
    ..Shape::MADE
};

pub(super) const SFT: Shape = Shape {
    name: "openr1-sft",
    about: "OpenR1-Math: its generations that are correct and complete, as demonstrations",
    make: |row| demonstrations(row),
    ..Shape::MADE
};

fn problem(row: &Row) -> Made {
    Out::asking(row.need("problem")?)
        .id(row.id(&["uuid"]))
        .answer(row.need("answer")?)
        .meta([("kind", row.value("problem_type")), ("source", row.value("source"))])
        .one()
}

fn demonstrations(row: &Row) -> Made {
    let prompt = row.need("problem")?;
    let id = row.text("uuid");
    let truth = |field: &str| row.list(field);
    let (verified, judged, whole) =
        (truth("correctness_math_verify"), truth("correctness_llama"), truth("is_reasoning_complete"));
    let is = |list: &[Value], i: usize| list.get(i).is_some_and(|value| value == true);
    let mut made = Vec::new();
    for (i, generation) in row.list("generations").iter().enumerate() {
        let Some(text) = generation.as_str() else { continue };
        // The lists are parallel, and absent where nothing was computed.
        if (is(&verified, i) || is(&judged, i)) && (whole.is_empty() || is(&whole, i)) {
            let id = id.as_ref().map(|id| json!(format!("{id}/{i}")));
            let messages = vec![Message::user(&prompt), Message::assistant(text)];
            made.push(Out { id, messages: Some(messages), ..Out::default() });
        }
    }
    if made.is_empty() { Err("no generation is correct and complete".to_owned()) } else { Ok(made) }
}
