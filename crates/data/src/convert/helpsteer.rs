//! HelpSteer2 (arXiv:2406.08673, 2410.01257) and HelpSteer3 (arXiv:2505.11475).

use super::Shape;
use super::preference::{difference, pair};
use super::row::{Made, Out, Row, Skip};
use crate::problem::Message;
use serde_json::{Value, json};

pub(super) const TWO: Shape = Shape {
    name: "helpsteer2",
    about: "HelpSteer2: prompt, response, helpfulness; two rows in a row share a prompt",
    is: |fields| fields.has_all(&["prompt", "response", "helpfulness"]),
    start: Some(|| Box::new(Pairs::default())),
    ..Shape::MADE
};

pub(super) const TWO_PREFERENCE: Shape = Shape {
    name: "helpsteer2-preference",
    about: "HelpSteer2-Preference: prompt, response_1, response_2, preference_strength",
    is: |fields| fields.has_all(&["prompt", "response_1", "response_2", "preference_strength"]),
    make: |row| {
        let strength = row.value("preference_strength").as_i64().ok_or("no `preference_strength`")?;
        // Above 0 the second is better.
        better(question(&row.need("prompt")?), [row.need("response_1")?, row.need("response_2")?], -strength)?
            .one()
    },
    ..Shape::MADE
};

pub(super) const THREE: Shape = Shape {
    name: "helpsteer3",
    about: "HelpSteer3: context, response1, response2, overall_preference",
    is: |fields| fields.has_all(&["context", "response1", "response2", "overall_preference"]),
    make: |row| {
        let preference = row.value("overall_preference").as_i64().ok_or("no `overall_preference`")?;
        let votes: Vec<Value> =
            row.list("individual_preference").iter().filter_map(|vote| vote.get("score").cloned()).collect();
        let votes = if votes.is_empty() { Value::Null } else { json!(votes) };
        // Below 0 the first is better.
        better(row.messages("context")?, [row.need("response1")?, row.need("response2")?], -preference)?
            .meta([("kind", row.value("domain")), ("votes", votes)])
            .one()
    },
    ..Shape::MADE
};

/// The preference for the first of `replies` by `lead`, or for the second by as much below 0.
fn better(context: Vec<Message>, replies: [String; 2], lead: i64) -> Result<Out, Skip> {
    let [first, second] = replies;
    let margin = Some(difference(lead.unsigned_abs() as f64));
    match lead {
        0 => Err("a tie: neither is preferred".to_owned()),
        1.. => pair(context, first, second, margin),
        _ => pair(context, second, first, margin),
    }
}

/// A prompt of several turns is one text with `<extra_id_1>` before each speaker's name.
fn question(prompt: &str) -> Vec<Message> {
    let mut turns = prompt.split("<extra_id_1>");
    let mut messages = vec![Message::user(turns.next().unwrap_or_default().trim())];
    for turn in turns {
        let (speaker, said) = turn.split_once('\n').unwrap_or((turn, ""));
        let is_user = speaker.trim().eq_ignore_ascii_case("user");
        messages.push(if is_user { Message::user(said.trim()) } else { Message::assistant(said.trim()) });
    }
    messages
}

/// Two rows in a row with one prompt are a pair.
#[derive(Default)]
struct Pairs {
    first: Option<(String, String, i64)>,
}

impl super::Convert for Pairs {
    fn row(&mut self, row: &Row) -> Made {
        let score = row.value("helpfulness").as_i64().ok_or("no `helpfulness`")?;
        let this = (row.need("prompt")?, row.need("response")?, score);
        match self.first.take() {
            Some(first) if first.0 == this.0 => {
                better(question(&this.0), [first.1, this.1], first.2 - this.2)?.one()
            }
            Some(_) => {
                self.first = Some(this);
                Err("a reply without a second one for its prompt".to_owned())
            }
            None => {
                self.first = Some(this);
                Ok(Vec::new())
            }
        }
    }

    fn end(&mut self) -> Vec<Result<Out, Skip>> {
        let left = self.first.take();
        left.into_iter().map(|_| Err("a reply without a second one for its prompt".to_owned())).collect()
    }
}
