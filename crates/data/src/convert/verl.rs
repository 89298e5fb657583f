//! verl's rows: DAPO, Eurus, Skywork-OR1 and many others: a conversation in `prompt`, the reference in `reward_model.ground_truth`.

use super::Shape;
use super::row::{Made, Out, Row, messages};
use super::tests_of::Cases;
use serde_json::{Value, value::RawValue};

pub(super) const SHAPE: Shape = Shape {
    name: "verl",
    about: "verl (DAPO-Math-17k, Eurus-2-RL-Data, Skywork-OR1): prompt as messages, reward_model.ground_truth",
    is: |fields| fields.has("reward_model") && fields.is_list("prompt"),
    make: |row| problem(row),
    ..Shape::MADE
};

pub(super) const PROCESSED: Shape = Shape {
    name: "dapo-processed",
    about: "open-r1/DAPO-Math-17k-Processed: prompt, solution, source_prompt, reward_model",
    is: |fields| fields.has_all(&["reward_model", "solution"]) && fields.is_text("prompt"),
    make: |row| {
        Out::asking(row.need("prompt")?)
            .id(index(row))
            .answer(row.need("solution")?)
            .meta([("source", row.value("data_source"))])
            .one()
    },
    ..Shape::MADE
};

/// The name of a row where it has one; a number counts the rows of one of several files.
fn index(row: &Row) -> Option<Value> {
    row.value("extra_info").get("index").filter(|index| index.is_string()).cloned()
}

fn problem(row: &Row) -> Made {
    let conversation = messages(&row.value("prompt")).map_err(|what| format!("`prompt`: {what}"))?;
    let out = Out { messages: Some(conversation), id: index(row), ..Out::default() }
        .meta([("source", row.value("data_source"))]);
    let truth = row.value("reward_model").get("ground_truth").cloned().unwrap_or_default();
    match truth {
        Value::Number(number) => out.answer(number.to_string()).one(),
        Value::String(text) if text.trim().is_empty() => {
            Err("`reward_model.ground_truth` is empty".to_owned())
        }
        Value::String(text) => of_text(out, &text, row),
        Value::Object(truth) if truth.contains_key("target") && truth.contains_key("numbers") => {
            let numbers = super::countdown::numbers(&truth["numbers"])?;
            super::countdown::asked(out, &truth["target"], &numbers)
        }
        Value::Null => Err("no `reward_model.ground_truth`".to_owned()),
        other => Err(format!("`reward_model.ground_truth` is {}", crate::rows::type_of(&other))),
    }
}

fn of_text(out: Out, text: &str, row: &Row) -> Made {
    let json = serde_json::from_str::<&RawValue>(text).ok();
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(object)) if object.contains_key("inputs") || object.contains_key("assert_case") => {
            out.tests(Cases::read(json.ok_or("tests of another form")?, None)?, row.limits)?.one()
        }
        Ok(Value::Array(list)) if list.iter().any(|test| test.get("input").is_some()) => {
            out.tests(Cases::read(json.ok_or("tests of another form")?, None)?, row.limits)?.one()
        }
        // Skywork-OR1 has lists of answers.
        Ok(Value::Array(list))
            if !list.is_empty() && row.text("ability").is_none_or(|ability| ability != "code") =>
        {
            match &list[..] {
                [Value::String(answer)] => out.answer(answer).one(),
                [Value::Number(answer)] => out.answer(answer.to_string()).one(),
                list if list.len() > 1 && list.iter().all(Value::is_string) => {
                    Err("several answers, any of which is right".to_owned())
                }
                _ => out.answer(text).one(),
            }
        }
        _ => out.answer(text).one(),
    }
}
