//! Preferences: Tulu 3, UltraFeedback, Skywork-Reward, TRL's conversational and plain forms, Anthropic's HH.

use super::Shape;
use super::row::{Made, Out, Row, Skip, messages, reply};
use crate::problem::Message;
use serde_json::Value;

pub(super) const SHAPE: Shape = Shape {
    name: "preference",
    about: "preferences (Tulu 3, UltraFeedback, Skywork-Reward, TRL): chosen and rejected, as messages or texts",
    is: |fields| fields.has_all(&["chosen", "rejected"]) && !is_hh(fields),
    make: |row| preference(row),
    ..Shape::MADE
};

pub(super) const HH: Shape = Shape {
    name: "hh-rlhf",
    about: "Anthropic HH: chosen and rejected as dialogues of Human: and Assistant:",
    is: |fields| fields.has_all(&["chosen", "rejected"]) && is_hh(fields),
    make: |row| hh(row),
    ..Shape::MADE
};

const HUMAN: &str = "\n\nHuman:";
const ASSISTANT: &str = "\n\nAssistant:";

fn is_hh(fields: &super::Fields) -> bool {
    fields.is_text("chosen")
        && !fields.has("prompt")
        && fields.every("chosen", |text| text.contains(ASSISTANT))
}

fn preference(row: &Row) -> Made {
    let (context, chosen, rejected) = if row.is_list("chosen") || row.is_list("rejected") {
        let prompt = if row.is_list("prompt") { row.messages("prompt")? } else { Vec::new() };
        let whole = |field: &str| -> Result<_, Skip> {
            let mut all = prompt.clone();
            all.extend(messages(&row.value(field)).map_err(|what| format!("`{field}`: {what}"))?);
            reply(all).map_err(|what| format!("`{field}`: {what}"))
        };
        let question = row.text("prompt").map(Message::user);
        let alone = |field: &str| row.list(field).len() == 1 && prompt.is_empty();
        // TRL's form may have the prompt as text, and replies alone.
        let whole = |field: &str| match &question {
            Some(question) if alone(field) => {
                let reply = messages(&row.value(field))?.remove(0);
                Ok((vec![question.clone()], reply.content))
            }
            _ => whole(field),
        };
        let ((context, chosen), (other, rejected)) = (whole("chosen")?, whole("rejected")?);
        if context != other {
            return Err("chosen and rejected answer different conversations".to_owned());
        }
        (context, chosen, rejected)
    } else {
        let context = if row.is_list("prompt") {
            row.messages("prompt")?
        } else {
            vec![Message::user(row.need("prompt")?)]
        };
        (context, row.need("chosen")?, row.need("rejected")?)
    };
    let scores = [row.value("score_chosen").as_f64(), row.value("score_rejected").as_f64()];
    let margin = match scores {
        [Some(chosen), Some(rejected)] if chosen <= rejected => {
            let what = if chosen == rejected {
                "a tie: equal scores"
            } else {
                "the rejected reply has the higher score"
            };
            return Err(what.to_owned());
        }
        [Some(chosen), Some(rejected)] => Some(difference(chosen - rejected)),
        _ => row.value("margin").is_number().then(|| row.value("margin")),
    };
    let id = row.id(&["id", "prompt_id"]);
    pair(context, chosen, rejected, margin)?.id(id).meta([("source", row.value("source"))]).one()
}

/// A preference, unless its replies are equal.
pub(super) fn pair(
    context: Vec<Message>,
    chosen: String,
    rejected: String,
    margin: Option<Value>,
) -> Result<Out, Skip> {
    if chosen.trim() == rejected.trim() {
        return Err("a tie: equal replies".to_owned());
    }
    if chosen.trim().is_empty() || rejected.trim().is_empty() {
        return Err("an empty reply".to_owned());
    }
    Ok(Out {
        messages: Some(context),
        chosen: Some(chosen),
        rejected: Some(rejected),
        margin,
        ..Out::default()
    })
}

/// A difference as a number: whole where it is.
pub(super) fn difference(margin: f64) -> Value {
    if margin.fract() == 0.0 { Value::from(margin as i64) } else { Value::from((margin * 1e6).round() / 1e6) }
}

fn hh(row: &Row) -> Made {
    let (context, chosen) = reply(dialogue(&row.need("chosen")?)?)?;
    let (other, rejected) = reply(dialogue(&row.need("rejected")?)?)?;
    if context != other {
        return Err("chosen and rejected answer different conversations".to_owned());
    }
    pair(context, chosen, rejected, None)?.one()
}

/// The turns of a dialogue.
fn dialogue(text: &str) -> Result<Vec<Message>, Skip> {
    let mut messages = Vec::new();
    let mut rest = text;
    while let Some((at, mark)) = [HUMAN, ASSISTANT]
        .into_iter()
        .filter_map(|mark| Some((rest.find(mark)?, mark)))
        .min_by_key(|(at, _)| *at)
    {
        if messages.is_empty() && !rest[..at].trim().is_empty() {
            return Err("text before the first turn".to_owned());
        }
        let turn = &rest[at + mark.len()..];
        let end =
            [HUMAN, ASSISTANT].into_iter().filter_map(|mark| turn.find(mark)).min().unwrap_or(turn.len());
        let said = turn[..end].trim();
        messages.push(if mark == HUMAN { Message::user(said) } else { Message::assistant(said) });
        rest = &turn[end..];
    }
    if messages.is_empty() { Err("no turns of Human: and Assistant:".to_owned()) } else { Ok(messages) }
}
