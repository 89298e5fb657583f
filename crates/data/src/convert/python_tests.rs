//! Tests that are Python: MBPP (arXiv:2108.07732), HumanEval (arXiv:2107.03374), KodCode (arXiv:2503.02951), and their kin.

use super::Shape;
use super::row::{Made, Out, Row};
use super::tests_of::Cases;
use serde_json::Value;

pub(super) const MBPP: Shape = Shape {
    name: "mbpp",
    about: "MBPP, MBPP+: text or prompt, test_list of asserts; the first assert is added to the prompt",
    is: |fields| fields.has("test_list") && fields.has_any(&["text", "prompt"]),
    make: |row| mbpp(row),
    ..Shape::MADE
};

pub(super) const HUMANEVAL: Shape = Shape {
    name: "humaneval",
    about: "HumanEval, HumanEval+: prompt, entry_point, test that defines check(candidate)",
    is: |fields| fields.has_all(&["prompt", "entry_point", "test"]),
    make: |row| humaneval(row),
    ..Shape::MADE
};

pub(super) const KODCODE: Shape = Shape {
    name: "kodcode",
    about: "KodCode: question, test as a pytest file",
    is: |fields| {
        fields.has("question")
            && fields.is_text("test")
            && fields.has_any(&["test_info", "gpt_difficulty", "style", "subset"])
    },
    make: |row| kodcode(row),
    ..Shape::MADE
};

fn mbpp(row: &Row) -> Made {
    let texts = |field: &str| -> Vec<String> {
        let list = row.list(field);
        list.iter()
            .filter_map(Value::as_str)
            .filter(|text| !text.trim().is_empty())
            .map(str::to_owned)
            .collect()
    };
    let asserts = texts("test_list");
    let first = asserts.first().ok_or("no tests")?;
    let text = row.text("text").map_or_else(|| row.need("prompt"), Ok)?;
    // Only a test says what the function is called.
    let prompt = format!("{text}\n\nYour code should pass this test:\n\n{first}");
    let mut setup = texts("test_imports");
    setup.extend(row.text("test_setup_code"));
    Out::asking(prompt)
        .id(row.id(&["task_id"]))
        .tests(Cases::Asserts { setup: setup.join("\n"), function: None, asserts }, row.limits)?
        .one()
}

fn humaneval(row: &Row) -> Made {
    let test = row.need("test")?;
    if !test.contains("def check(") {
        return Err("`test` defines no check(candidate)".to_owned());
    }
    let function = Some(row.need("entry_point")?);
    Out::asking(row.need("prompt")?)
        .id(row.id(&["task_id"]))
        .tests(Cases::Asserts { asserts: vec![test], setup: String::new(), function }, row.limits)?
        .one()
}

fn kodcode(row: &Row) -> Made {
    let test = row.need("test")?;
    if !test.contains("def test") && !test.contains("assert") {
        return Err("`test` is no pytest file".to_owned());
    }
    let info = row.list("test_info");
    let declared = info.iter().find_map(|info| info.get("function_declaration")?.as_str());
    let question = row.need("question")?;
    // The name that tests call, unless the question has it.
    let name = info.iter().find_map(|info| info.get("function_name")?.as_str()).unwrap_or_default();
    let prompt = match declared {
        Some(declared) if !declared.is_empty() && !question.contains(name) => {
            format!("{question}\n\n{declared}")
        }
        _ => question,
    };
    let share = row.value("gpt_pass_percentage");
    Out::asking(prompt)
        .id(row.id(&["question_id"]))
        .meta([("level", row.value("gpt_difficulty")), ("source", row.value("subset")), ("pass_rate", share)])
        .tests(Cases::Asserts { asserts: vec![test], setup: String::new(), function: None }, row.limits)?
        .one()
}
