//! What `koan generate` writes, as demonstrations: a row for each completion that ended by itself.

use super::row::{Made, Row};
use super::{Shape, plain};
use crate::problem::Message;
use serde_json::{Value, json};

pub(super) const SHAPE: Shape = Shape {
    name: "generated",
    about: "what koan generate writes: prompt or messages, and completions; a row for each that was not cut",
    is: |fields| fields.has_all(&["prompt_ids", "completions"]) && fields.has_any(&["prompt", "messages"]),
    make: |row| demonstrations(row),
    ..Shape::MADE
};

/// Fields of the output that say nothing of the problem.
const OF_OUTPUT: [&str; 4] = ["completions", "completion", "prompt_ids", "rendered_prompt"];

fn demonstrations(row: &Row) -> Made {
    let asked = plain::kept(row, |name| !OF_OUTPUT.contains(&name))?.swap_remove(0);
    let completions = row.list("completions");
    let text = |completion: &Value| {
        let text = completion.get("text").and_then(Value::as_str)?;
        let is_whole = completion.get("finish_reason").is_none_or(|reason| reason == "stop");
        (is_whole && !text.trim().is_empty()).then(|| text.to_owned())
    };
    let all: Vec<String> = completions.iter().filter_map(text).collect();
    if all.is_empty() {
        return Err("all completions were cut at --max-new-tokens, or are empty".to_owned());
    }
    let (n, left_out) = (all.len(), completions.len() - all.len());
    let made = all.into_iter().enumerate().map(|(i, completion)| {
        let mut made = asked.clone();
        if n > 1 {
            made.id = made.id.map(|id| json!(format!("{}/{i}", id.as_str().unwrap_or(&id.to_string()))));
        }
        if left_out > 0 {
            made.meta.insert("completions_left_out".to_owned(), json!(left_out));
        }
        match &mut made.messages {
            Some(messages) => messages.push(Message::assistant(completion)),
            None => _ = made.other.insert("completion".to_owned(), json!(completion)),
        }
        made
    });
    Ok(made.collect())
}
