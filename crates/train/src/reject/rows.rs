//! The rows that a run makes: demonstrations for `koan sft`, or pairs for `koan prefer`.
//!
//! ```text
//! {"id": …, "prompt": "…", "completion": "<think>…", "answer": …, "origin": {"model_sha256": …, "problem": …, "data": …, "seed": …,
//!  "step": …, "sample": …, "completion_tokens": …, "reward": …, "verdicts": […], "pass_rate": …}}
//! {"id": …, "prompt": "…", "chosen": "…", "rejected": "…", "margin": …, "answer": …, "origin": {…, "chosen": {…}, "rejected": {…}}}
//! ```
//!
//! A row has all fields of its problem. A problem of `messages`, or one that was asked with `rollout.system`, becomes `messages`
//! with the assistant's at their end; in a pair, the prompt is a list of messages then, and each reply a list of one. Where the
//! prompt opened the thinking, the completion begins with what opened it.

use koan_data::{Message, Problem};
use serde_json::{Map, Value, json};

use super::{record::Recorded, sources::Source};

/// Names that say something else in a row than in a problem, or make it a row of another shape.
const RESERVED: [&str; 12] = [
    "prompt",
    "messages",
    "completion",
    "conversations",
    "instruction",
    "output",
    "chosen",
    "rejected",
    "margin",
    "label",
    "text",
    "origin",
];

/// The row that shows how to answer `problem`.
pub(super) fn demonstration(problem: &Problem, source: &Source, line: &Recorded) -> Map<String, Value> {
    let completion = source.completion(problem, &line.completion);
    let asked = match conversation(problem, source) {
        None => vec![("prompt", json!(problem.prompt)), ("completion", json!(completion))],
        Some(mut messages) => {
            messages.push(Message::assistant(completion));
            vec![("messages", json!(messages))]
        }
    };
    let mut origin = source.origin(problem, line);
    origin.extend(verdicts(line));
    row(problem, asked, origin)
}

/// The row that prefers `chosen` to `rejected`.
pub(super) fn preference(
    problem: &Problem,
    source: &Source,
    chosen: &Recorded,
    rejected: &Recorded,
    margin: f64,
) -> Map<String, Value> {
    let [c, r] = [chosen, rejected].map(|line| source.completion(problem, &line.completion));
    let asked = match conversation(problem, source) {
        None => vec![("prompt", json!(problem.prompt)), ("chosen", json!(c)), ("rejected", json!(r))],
        Some(messages) => {
            let reply = |text| json!([Message::assistant(text)]);
            vec![("prompt", json!(messages)), ("chosen", reply(c)), ("rejected", reply(r))]
        }
    };
    let asked = asked.into_iter().chain([("margin", json!(margin))]).collect();
    let mut origin = source.origin(problem, chosen);
    for (name, line) in [("chosen", chosen), ("rejected", rejected)] {
        origin.insert(name.to_owned(), Value::Object(verdicts(line)));
    }
    row(problem, asked, origin)
}

/// The conversation as the model was asked, unless it is the problem's `prompt` alone.
fn conversation(problem: &Problem, source: &Source) -> Option<Vec<Message>> {
    let messages = problem.messages();
    let has_system = messages.iter().any(|message| message.role == "system");
    match source.system.filter(|_| !has_system) {
        Some(system) => {
            let system = Message { role: "system".to_owned(), ..Message::user(system) };
            Some(std::iter::once(system).chain(messages.iter().cloned()).collect())
        }
        None => problem.messages.clone(),
    }
}

fn row(problem: &Problem, asked: Vec<(&str, Value)>, origin: Map<String, Value>) -> Map<String, Value> {
    let mut row = Map::from_iter([("id".to_owned(), json!(problem.id))]);
    row.extend(asked.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let Value::Object(mut rest) = json!(problem) else { return row };
    rest.retain(|name, _| name != "id" && !RESERVED.contains(&&**name));
    row.extend(rest);
    row.insert("origin".to_owned(), Value::Object(origin));
    row
}

/// What judged a completion, and how.
fn verdicts(line: &Recorded) -> Map<String, Value> {
    let all = [
        ("sample", json!(line.sample)),
        ("completion_tokens", json!(line.completion_tokens)),
        ("reward", json!(line.reward)),
        ("verdicts", line.rewards.clone()),
    ];
    all.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}
