//! A row that shows how to answer, in each of the shapes that data sets have.
//!
//! | fields | are |
//! |---|---|
//! | `messages` | a conversation that ends with the assistant's message |
//! | `prompt`, `completion` | two texts, or lists of messages, or one of each |
//! | `conversations` | ShareGPT's: `[{from, value}]`, `from` being `human`, `gpt`, `system`, `tool` or one of their synonyms; optional `system` |
//! | `instruction`, `output` | Alpaca's: optional `input`, `system`, and `history`, a list of questions with answers |
//!
//! Of all shapes, `tools`, `documents` and `chat_template_kwargs` are for the chat template.

use serde_json::{Map, Value, json};

use crate::error::LineError;
use crate::problem::Message;

/// Fields that are for the chat template.
const FOR_TEMPLATE: [&str; 3] = ["tools", "documents", "chat_template_kwargs"];

/// A conversation whose last message, the assistant's, shows how to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Demonstration {
    /// At least two messages; the last is of the role `assistant`.
    pub messages: Vec<Message>,
    /// What the row has for the chat template: `tools`, `documents`, `chat_template_kwargs`.
    pub row: Map<String, Value>,
}

impl Demonstration {
    pub(crate) const EXPECTED: &str = "`messages` that end with the assistant's, or `prompt` and `completion`, or `conversations` \
         of `from` and `value`, or `instruction` and `output`";

    /// What a row shows.
    pub(crate) fn of(mut row: Map<String, Value>) -> Result<Self, LineError> {
        row.retain(|_, value| !value.is_null());
        let has = |field| row.contains_key(field);
        let shapes =
            [has("messages"), has("prompt") && has("completion"), has("conversations"), has("instruction")];
        if shapes.iter().filter(|has| **has).count() > 1 {
            return Err(LineError::Row {
                what: "more than one of `messages`, `prompt` and `completion`, `conversations`, `instruction`; keep one".into(),
            });
        }
        let messages = match shapes {
            [true, ..] => messages(&mut row, "messages")?,
            [_, true, ..] => {
                let mut all = turns(&mut row, "prompt", "user")?;
                all.append(&mut turns(&mut row, "completion", "assistant")?);
                all
            }
            [_, _, true, _] => conversations(&mut row)?,
            [_, _, _, true] => instruction(&mut row)?,
            _ => return Err(LineError::Fields { expected: Self::EXPECTED }),
        };
        if messages.len() < 2 || messages.last().is_none_or(|last| last.role != "assistant") {
            return Err(LineError::Row {
                what: "no reply: the last of several messages must be the assistant's".into(),
            });
        }
        row.retain(|field, _| FOR_TEMPLATE.contains(&&**field));
        Ok(Self { messages, row })
    }
}

fn wrong(what: impl Into<String>) -> LineError {
    LineError::Row { what: what.into() }
}

/// The list of messages that is the field.
fn messages(row: &mut Map<String, Value>, field: &str) -> Result<Vec<Message>, LineError> {
    let Some(Value::Array(list)) = row.remove(field) else {
        return Err(wrong(format!("`{field}` is not a list of messages")));
    };
    let message = |(i, value): (usize, Value)| {
        serde_json::from_value(value).map_err(|e| wrong(format!("message {} of `{field}`: {e}", i + 1)))
    };
    list.into_iter().enumerate().map(message).collect()
}

/// The messages of a field that is a list of them, or one text by `role`.
fn turns(row: &mut Map<String, Value>, field: &str, role: &str) -> Result<Vec<Message>, LineError> {
    if row.get(field).is_some_and(Value::is_array) {
        return messages(row, field);
    }
    Ok(vec![said(role, text(row, field)?)])
}

/// The text that is the field, which is taken out.
fn text(row: &mut Map<String, Value>, field: &str) -> Result<String, LineError> {
    match row.remove(field) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(wrong(format!("`{field}` is not a text"))),
        None => Err(wrong(format!("`{field}` is missing"))),
    }
}

fn said(role: &str, content: String) -> Message {
    Message { role: role.to_owned(), content, other: Map::new() }
}

/// The message of a `system` field that says something.
fn system(row: &mut Map<String, Value>) -> Result<Option<Message>, LineError> {
    if !row.contains_key("system") {
        return Ok(None);
    }
    Ok(Some(text(row, "system")?).filter(|text| !text.trim().is_empty()).map(|text| said("system", text)))
}

fn conversations(row: &mut Map<String, Value>) -> Result<Vec<Message>, LineError> {
    let mut all = Vec::from_iter(system(row)?);
    let Some(Value::Array(list)) = row.remove("conversations") else {
        return Err(wrong("`conversations` is not a list of messages"));
    };
    for (i, value) in list.into_iter().enumerate() {
        let wrong = |what: &str| wrong(format!("message {} of `conversations`: {what}", i + 1));
        let Value::Object(mut fields) = value else { return Err(wrong("no object")) };
        for (theirs, ours) in [("from", "role"), ("value", "content")] {
            if let Some(value) = fields.remove(theirs) {
                fields.insert(ours.to_owned(), value);
            }
        }
        let role = fields.get("role").and_then(Value::as_str).unwrap_or_default().to_owned();
        let role = match &*role {
            "system" => "system",
            "human" | "user" => "user",
            "gpt" | "assistant" | "chatgpt" | "bing" | "bard" | "model" => "assistant",
            "tool" | "observation" | "function_response" | "function_output" | "ipython" => "tool",
            "function_call" => {
                let call = fields
                    .remove("content")
                    .as_ref()
                    .and_then(Value::as_str)
                    .map(serde_json::from_str::<Value>);
                let Some(Ok(call @ Value::Object(_))) = call else {
                    return Err(wrong("`function_call` is not a call in JSON, with `name` and `arguments`"));
                };
                fields.insert("content".to_owned(), "".into());
                fields.insert("tool_calls".to_owned(), json!([{"type": "function", "function": call}]));
                "assistant"
            }
            "" => return Err(wrong("it has no `from`")),
            other => {
                return Err(wrong(&format!("`from` is `{other}`; human, gpt, system and tool are known")));
            }
        };
        fields.insert("role".to_owned(), role.into());
        all.push(serde_json::from_value(Value::Object(fields)).map_err(|e| wrong(&e.to_string()))?);
    }
    Ok(all)
}

fn instruction(row: &mut Map<String, Value>) -> Result<Vec<Message>, LineError> {
    let mut all = Vec::from_iter(system(row)?);
    match row.remove("history") {
        None => {}
        Some(Value::Array(history)) => {
            for turn in history {
                let Ok([question, answer]) = serde_json::from_value::<[String; 2]>(turn) else {
                    return Err(wrong("`history` is not a list of questions with answers"));
                };
                all.extend([said("user", question), said("assistant", answer)]);
            }
        }
        Some(_) => return Err(wrong("`history` is not a list of questions with answers")),
    }
    let mut question = text(row, "instruction")?;
    if row.contains_key("input") {
        let input = text(row, "input")?;
        if !input.trim().is_empty() {
            question = format!("{question}\n\n{input}");
        }
    }
    all.extend([said("user", question), said("assistant", text(row, "output")?)]);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(row: Value) -> Result<Vec<(String, String)>, String> {
        let Value::Object(row) = row else { panic!("an object") };
        let shown = Demonstration::of(row).map_err(|e| e.to_string())?;
        Ok(shown.messages.into_iter().map(|m| (m.role, m.content)).collect())
    }

    fn turns(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|&(role, content)| (role.to_owned(), content.to_owned())).collect()
    }

    #[test]
    fn every_shape_is_a_conversation() {
        let (u, a) = (("user", "1 + 1?"), ("assistant", "2"));
        let user = json!({"role": "user", "content": "1 + 1?"});
        let assistant = json!({"role": "assistant", "content": "2"});
        for row in [
            json!({"messages": [user, assistant], "id": 1}),
            json!({"prompt": "1 + 1?", "completion": "2", "messages": null}),
            json!({"prompt": [user], "completion": [assistant]}),
            json!({"prompt": [user], "completion": "2"}),
            json!({"conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2", "weight": null}]}),
            json!({"conversations": [user, assistant], "system": ""}),
            json!({"instruction": "1 + 1?", "input": "", "output": "2"}),
            json!({"instruction": "1 + 1?", "output": "2", "history": [], "system": null}),
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]}, assistant]}),
        ] {
            assert_eq!(of(row.clone()), Ok(turns(&[u, a])), "{row}");
        }
        let s = ("system", "Be brief.");
        assert_eq!(
            of(
                json!({"system": "Be brief.", "conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}]})
            ),
            Ok(turns(&[s, u, a]))
        );
        assert_eq!(
            of(
                json!({"system": "Be brief.", "instruction": "Add.", "input": "1 + 1?", "output": "2", "history": [["1 + 1?", "2"]]})
            ),
            Ok(turns(&[s, u, a, ("user", "Add.\n\n1 + 1?"), a]))
        );
    }

    #[test]
    fn calls_of_functions_and_fields_for_the_template_are_kept() {
        let row = json!({"conversations": [
            {"from": "human", "value": "1 + 1?"},
            {"from": "function_call", "value": "{\"name\": \"add\", \"arguments\": {\"b\": 1, \"a\": 1}}"},
            {"from": "observation", "value": "2"},
            {"from": "gpt", "value": "It is 2."},
        ], "tools": [{"type": "function"}], "source": "x"});
        let Value::Object(row) = row else { panic!("an object") };
        let shown = Demonstration::of(row).expect("one");
        assert_eq!(shown.messages[1].other["tool_calls"][0]["function"]["name"], "add");
        assert_eq!((&*shown.messages[1].content, &*shown.messages[2].role), ("", "tool"));
        assert_eq!(shown.row.keys().collect::<Vec<_>>(), ["tools"]);
        let arguments = shown.messages[1].other["tool_calls"][0]["function"]["arguments"].to_string();
        assert_eq!(arguments, r#"{"b":1,"a":1}"#, "keys keep their order");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let user = json!({"role": "user", "content": "a"});
        for (row, expected) in [
            (json!({"text": "a"}), "`conversations`"),
            (json!({"prompt": "a"}), "`completion`"),
            (json!({"messages": "a"}), "`messages` is not a list"),
            (json!({"messages": [user]}), "the last of several messages must be the assistant's"),
            (json!({"messages": [user, user]}), "must be the assistant's"),
            (
                json!({"messages": [user, {"role": "assistant"}]}),
                "message 2 of `messages`: it has no `content`",
            ),
            (json!({"messages": [user, {"role": "assistant", "content": 7}]}), "`content` is not a text"),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "image"}]}, user]}),
                "a part of type `image`",
            ),
            (json!({"messages": [user], "prompt": "a", "completion": "b"}), "more than one of"),
            (json!({"prompt": 7, "completion": "b"}), "`prompt` is not a text"),
            (json!({"conversations": [{"from": "robot", "value": "a"}]}), "`from` is `robot`"),
            (json!({"conversations": [{"value": "a"}]}), "no `from`"),
            (json!({"conversations": [{"from": "function_call", "value": "add(1)"}]}), "not a call in JSON"),
            (json!({"instruction": "a"}), "`output` is missing"),
            (json!({"instruction": "a", "output": "b", "history": [["a"]]}), "`history`"),
        ] {
            let error = of(row.clone()).expect_err("refused");
            assert!(error.contains(expected), "{row}: {error}");
        }
    }
}
