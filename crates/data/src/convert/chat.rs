//! Conversations to imitate: ShareGPT's form, `messages` (TRL, Tulu 3 SFT, Mixture-of-Thoughts), Alpaca's, prompt and completion.

use super::Shape;
use super::row::{Made, Out, Row, Skip, messages};
use crate::problem::Message;
use serde_json::Value;

pub(super) const SHAREGPT: Shape = Shape {
    name: "sharegpt",
    about: "ShareGPT, OpenHermes, OpenThoughts, SlimOrca: conversations of from and value",
    is: |fields| fields.is_list("conversations") || fields.is_list("conversation"),
    make: |row| {
        let field = if row.has("conversations") { "conversations" } else { "conversation" };
        demonstration(row, field)
    },
    ..Shape::GENERAL
};

pub(super) const MESSAGES: Shape = Shape {
    name: "messages",
    about: "conversations (TRL, Tulu 3 SFT, Mixture-of-Thoughts): messages of role and content",
    is: |fields| {
        fields.is_list("messages")
            && !fields.has_any(&["answer", "tests", "chosen", "ground_truth", "completions"])
    },
    make: |row| demonstration(row, "messages"),
    ..Shape::GENERAL
};

pub(super) const ALPACA: Shape = Shape {
    name: "alpaca",
    about: "Alpaca: instruction, input, output, optional system and history",
    is: |fields| fields.has_all(&["instruction", "output"]),
    make: |row| alpaca(row),
    ..Shape::GENERAL
};

pub(super) const COMPLETION: Shape = Shape {
    name: "prompt-completion",
    about: "TRL's prompt and completion, as texts or messages",
    is: |fields| fields.has_all(&["prompt", "completion"]) && !fields.has_any(&["answer", "label"]),
    make: |row| completion(row),
    ..Shape::GENERAL
};

fn demonstration(row: &Row, field: &str) -> Made {
    let mut all = messages(&row.value(field)).map_err(|what| format!("`{field}`: {what}"))?;
    if row.list(field).iter().any(|turn| turn.get("weight").and_then(Value::as_f64) == Some(0.0)) {
        return Err("a turn of weight 0, which would be learned".to_owned());
    }
    if let Some(system) = row.text("system").filter(|_| all[0].role != "system") {
        all.insert(0, Message { role: "system".to_owned(), ..Message::user(system) });
    }
    made(all, row, &["id", "prompt_id", "uuid"])
}

/// A demonstration of a conversation: without a reply that answers nothing, and with turns that take turns.
fn made(mut all: Vec<Message>, row: &Row, ids: &[&str]) -> Made {
    let first = all.iter().position(|message| message.role != "system").unwrap_or(0);
    if all.get(first).is_some_and(|message| message.role == "assistant") {
        all.remove(first);
    }
    let turns = all.iter().filter(|message| message.role != "system");
    if turns.clone().zip(turns.clone().skip(1)).any(|(a, b)| a.role == b.role && a.role != "tool") {
        return Err("two turns of one role in a row".to_owned());
    }
    while all.last().is_some_and(|message| message.role != "assistant") {
        all.pop();
    }
    if all.len() < 2 || turns_of(&all, "user") == 0 {
        return Err("no question with a reply".to_owned());
    }
    if all.iter().any(|message| message.role == "assistant" && message.content.trim().is_empty()) {
        return Err("an empty reply".to_owned());
    }
    Out { messages: Some(all), ..Out::default() }
        .id(row.id(ids))
        .meta([("source", row.value("source"))])
        .one()
}

fn turns_of(messages: &[Message], role: &str) -> usize {
    messages.iter().filter(|message| message.role == role).count()
}

fn alpaca(row: &Row) -> Made {
    let instruction = row.need("instruction")?;
    let question = match row.text("input") {
        Some(input) => format!("{instruction}\n\n{input}"),
        None => instruction,
    };
    let mut all: Vec<Message> = Vec::new();
    if let Some(system) = row.text("system") {
        all.push(Message { role: "system".to_owned(), ..Message::user(system) });
    }
    for turn in row.list("history") {
        let texts: Option<Vec<&str>> =
            turn.as_array().and_then(|turn| turn.iter().map(Value::as_str).collect());
        let [said, replied] = texts.as_deref().unwrap_or_default() else {
            return Err("`history` is no list of pairs of texts".to_owned());
        };
        all.extend([Message::user(*said), Message::assistant(*replied)]);
    }
    all.extend([Message::user(question), Message::assistant(row.need("output")?)]);
    made(all, row, &["id"])
}

fn completion(row: &Row) -> Made {
    let turns = |field: &str, of: fn(String) -> Message| -> Result<Vec<Message>, Skip> {
        if row.is_list(field) { row.messages(field) } else { Ok(vec![of(row.need(field)?)]) }
    };
    let mut all = turns("prompt", Message::user)?;
    all.extend(turns("completion", Message::assistant)?);
    made(all, row, &["id"])
}
