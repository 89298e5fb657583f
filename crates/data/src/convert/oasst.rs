//! OpenAssistant: trees of messages, nested or as rows of messages; the best reply against the worst, or the path of the best.

use super::preference::pair;
use super::row::{Made, Out, Row, Skip};
use super::{Convert, Shape};
use crate::problem::Message;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Deepest thread that is followed.
const MAX_DEPTH: usize = 64;

/// Most messages of a file of messages: they are held in memory.
const MAX_MESSAGES: usize = 5_000_000;

pub(super) const TREES: Shape = Shape {
    name: "oasst",
    about: "OpenAssistant's trees: prompt with replies; the best reply against the worst",
    is: is_trees,
    make: |row| preferences(row),
    ..Shape::MADE
};

pub(super) const TREES_SFT: Shape = Shape {
    name: "oasst-sft",
    about: "OpenAssistant's trees: the best replies, as demonstrations",
    make: |row| demonstrations(row),
    ..Shape::MADE
};

pub(super) const MESSAGES: Shape = Shape {
    name: "oasst-messages",
    about: "OpenAssistant's messages: message_id, parent_id, text, role; the best reply against the worst",
    is: |fields| fields.has_all(&["message_id", "text", "role"]),
    start: Some(|| Box::new(Flat { nodes: Vec::new(), sft: false })),
    ..Shape::MADE
};

pub(super) const MESSAGES_SFT: Shape = Shape {
    name: "oasst-messages-sft",
    about: "OpenAssistant's messages: the best replies, as demonstrations",
    start: Some(|| Box::new(Flat { nodes: Vec::new(), sft: true })),
    ..Shape::MADE
};

fn is_trees(fields: &super::Fields) -> bool {
    fields.is_object("prompt") && fields.has_any(&["message_tree_id", "tree_state"])
}

/// A message and what answers it.
#[derive(Clone, Deserialize)]
struct Node {
    message_id: String,
    #[serde(default)]
    parent_id: Option<String>,
    text: String,
    role: String,
    #[serde(default)]
    deleted: Option<bool>,
    #[serde(default)]
    review_result: Option<bool>,
    #[serde(default)]
    rank: Option<f64>,
    #[serde(default)]
    replies: Vec<Node>,
}

impl Node {
    fn is_kept(&self) -> bool {
        self.deleted != Some(true) && self.review_result != Some(false) && !self.text.trim().is_empty()
    }

    fn message(&self) -> Message {
        if self.role == "assistant" { Message::assistant(&self.text) } else { Message::user(&self.text) }
    }

    /// The assistant's replies that are kept and ranked, the best first.
    fn ranked(&self) -> Vec<&Node> {
        let is_ranked = |node: &&Node| node.role == "assistant" && node.is_kept() && node.rank.is_some();
        let mut ranked: Vec<&Node> = self.replies.iter().filter(is_ranked).collect();
        ranked.sort_by(|a, b| a.rank.unwrap_or_default().total_cmp(&b.rank.unwrap_or_default()));
        ranked
    }
}

fn tree(row: &Row) -> Result<Node, Skip> {
    let raw = row.json("prompt").ok_or("no `prompt`")?;
    serde_json::from_str(raw.get()).map_err(|error| format!("a tree of another form ({error})"))
}

fn preferences(row: &Row) -> Made {
    let mut made = Vec::new();
    compare(&tree(row)?, &mut Vec::new(), &mut made);
    if made.is_empty() { Err("no message with two ranked replies".to_owned()) } else { Ok(made) }
}

fn demonstrations(row: &Row) -> Made {
    let mut made = Vec::new();
    follow(&tree(row)?, &mut Vec::new(), &mut made);
    if made.is_empty() { Err("no ranked reply".to_owned()) } else { Ok(made) }
}

/// Adds the preferences below `node`.
fn compare(node: &Node, before: &mut Vec<Message>, made: &mut Vec<Out>) {
    if !node.is_kept() || before.len() >= MAX_DEPTH {
        return;
    }
    before.push(node.message());
    if node.role != "assistant"
        && let [best, .., worst] = &node.ranked()[..]
        && let Ok(out) = pair(before.clone(), best.text.clone(), worst.text.clone(), None)
    {
        made.push(out.id(Some(json!(node.message_id))));
    }
    node.replies.iter().for_each(|reply| compare(reply, before, made));
    before.pop();
}

/// Adds the conversation that takes the best reply each time, and every prompter's message that follows it.
fn follow(node: &Node, before: &mut Vec<Message>, made: &mut Vec<Out>) {
    if !node.is_kept() || before.len() >= MAX_DEPTH {
        return;
    }
    before.push(node.message());
    if node.role == "assistant" {
        let mut goes_on = false;
        for reply in node.replies.iter().filter(|reply| !reply.ranked().is_empty() && reply.is_kept()) {
            goes_on = true;
            follow(reply, before, made);
        }
        if !goes_on {
            let messages = Some(before.clone());
            made.push(Out { id: Some(json!(node.message_id)), messages, ..Out::default() });
        }
    } else if let Some(best) = node.ranked().first() {
        follow(best, before, made);
    }
    before.pop();
}

/// Messages that are a row each: trees are made of them at the end.
struct Flat {
    nodes: Vec<Node>,
    sft: bool,
}

impl Convert for Flat {
    fn row(&mut self, row: &Row) -> Made {
        if self.nodes.len() == MAX_MESSAGES {
            return Err(format!("more than {MAX_MESSAGES} messages"));
        }
        let bool_of = |field: &str| row.value(field).as_bool();
        self.nodes.push(Node {
            message_id: row.need("message_id")?,
            parent_id: row.text("parent_id"),
            text: row.need("text")?,
            role: row.need("role")?,
            deleted: bool_of("deleted"),
            review_result: bool_of("review_result"),
            rank: match row.value("rank") {
                Value::Number(rank) => rank.as_f64(),
                _ => None,
            },
            replies: Vec::new(),
        });
        Ok(Vec::new())
    }

    fn end(&mut self) -> Vec<Result<Out, Skip>> {
        let mut children: HashMap<String, Vec<Node>> = HashMap::new();
        let mut roots = Vec::new();
        for node in self.nodes.drain(..) {
            match &node.parent_id {
                Some(parent) => children.entry(parent.clone()).or_default().push(node),
                None => roots.push(node),
            }
        }
        let mut made = Vec::new();
        for mut root in roots {
            adopt(&mut root, &mut children, 0);
            if self.sft {
                follow(&root, &mut Vec::new(), &mut made);
            } else {
                compare(&root, &mut Vec::new(), &mut made);
            }
        }
        let mut all: Vec<_> = made.into_iter().map(Ok).collect();
        all.extend(
            children.into_values().flatten().map(|_| Err("a message whose parent is not there".to_owned())),
        );
        all
    }
}

fn adopt(node: &mut Node, children: &mut HashMap<String, Vec<Node>>, depth: usize) {
    if depth < MAX_DEPTH {
        node.replies = children.remove(&node.message_id).unwrap_or_default();
        node.replies.iter_mut().for_each(|reply| adopt(reply, children, depth + 1));
    }
}
