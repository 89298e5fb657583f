//! Votes as Label Studio's JSON of tasks, for its `Pairwise` and `Choices` (or `Rating`) tags.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use super::{
    InForce, LabelError,
    items::{Item, said},
    votes::{Choice, Vote, Word},
};

/// Writes one task an item, with its votes as annotations; returns how many annotations there are.
pub(super) fn export(path: &Path, items: &[Item], votes: &[InForce]) -> Result<usize, LabelError> {
    let mut of: BTreeMap<usize, Vec<&Vote>> = BTreeMap::new();
    for in_force in votes {
        of.entry(in_force.item).or_default().push(&in_force.vote);
    }
    let tasks = items.iter().enumerate().map(|(place, item)| {
        let votes = of.get(&place).map(Vec::as_slice).unwrap_or_default();
        let annotations: Vec<Value> = votes.iter().map(|vote| annotation(vote)).collect();
        json!({"id": place + 1, "data": data(item), "annotations": annotations, "predictions": []})
    });
    let text = serde_json::to_vec_pretty(&tasks.collect::<Vec<_>>()).map_err(|error| LabelError::Io {
        what: "write",
        path: path.into(),
        source: error.into(),
    })?;
    koan_files::replace(path, &text)?;
    Ok(votes.len())
}

fn data(item: &Item) -> Value {
    let prompt: Vec<String> = match &item.prompt[..] {
        [only] => vec![said(only)],
        messages => messages.iter().map(|message| format!("{}: {}", message.role, said(message))).collect(),
    };
    let mut data = json!({"prompt": prompt.join("\n\n"), "item": item.id, "row": item.row});
    let names: &[&str] = if item.answers.len() == 1 { &["completion"] } else { &["a", "b"] };
    for (name, answer) in names.iter().zip(&item.answers) {
        data[*name] = said(&answer.message).into();
    }
    data
}

/// `a` is Label Studio's left, `b` its right, in whatever order they were shown; what is neither is a choice.
fn annotation(vote: &Vote) -> Value {
    let result = |from: &str, kind: &str, value: Value| json!({"id": format!("vote-{}-{from}", vote.n), "from_name": from, "to_name": "answers", "type": kind, "value": value});
    let mut results = match vote.vote {
        Choice::Word(Word::A) => vec![result("preference", "pairwise", json!({"selected": "left"}))],
        Choice::Word(Word::B) => vec![result("preference", "pairwise", json!({"selected": "right"}))],
        Choice::Word(Word::Skip | Word::Undo) => Vec::new(),
        Choice::Word(_) => vec![result("verdict", "choices", json!({"choices": [vote.vote.name()]}))],
        Choice::Rating(rating) => vec![result("rating", "rating", json!({"rating": rating}))],
    };
    if let Some(comment) = &vote.comment {
        results.push(result("comment", "textarea", json!({"text": [comment]})));
    }
    json!({
        "id": vote.n, "completed_by": {"email": vote.annotator}, "created_at": vote.at, "lead_time": vote.seconds,
        "was_cancelled": vote.vote == Choice::Word(Word::Skip), "result": results,
    })
}
