//! What people are shown: two answers to one prompt, or one, made of rows of data.
//!
//! | row | to compare | to rate |
//! |---|---|---|
//! | `prompt` or `messages`, and `completions`: texts, or objects with a `text` as `koan generate` writes them | pairs of them | each |
//! | `prompt`, and `chosen` and `rejected`, or `a` and `b` | the two | each |
//! | `chosen` and `rejected`, or `a` and `b`, two conversations that part at their last message | the two | each |
//! | `prompt` or `messages`, and `completion` | – | it |
//!
//! `prompt` is a text or a list of messages, an answer a text or a list of one message, the assistant's. Of `n` completions with
//! different texts, `pairs_per_prompt` pairs are made (all n(n − 1)/2 if that is fewer): they are put around a circle in seeded order; neighbours make pairs first, disjoint ones before the rest, then those
//! two places apart, and so on, so that each completion is in as many pairs as any other, or one more. The order depends on
//! the seed and the row's own texts: rows may be added to a file, or be put in another order, and votes still count.

use std::{collections::HashSet, sync::Arc};

use koan_data::{
    DataFiles, Message,
    error::LineError,
    preference::{Text, replies},
    rows,
};
use koan_files::sha256;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{LabelError, seeded};

/// Most bytes of text that are held to be labelled.
pub const MAX_TEXT_BYTES: usize = 1 << 30;
/// Most completions of one row.
pub const MAX_COMPLETIONS: usize = 4096;
/// Longest text that is kept of where an answer comes from, bytes; longer values are left out.
const MAX_ORIGIN_BYTES: usize = 300;
/// Fields of a row that say where its answers come from.
const ORIGIN: [&str; 4] = ["model", "seed", "source", "model_hash"];

const COMPARED: &str = "`prompt` or `messages`, and `completions` (two or more), or `chosen` and `rejected`, or `a` and `b`; single \
                        answers (`completion`) are rated, with --rate";
const RATED: &str =
    "`prompt` or `messages`, and `completion`, `completions`, `chosen` and `rejected`, or `a` and `b`";

/// What people are asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Points of the scale on which single answers are rated (2: good or bad); none: two answers are compared.
    pub rate: Option<u8>,
    /// Pairs of the completions of one row, at most.
    pub pairs_per_prompt: usize,
    /// What the orders of pairs, and of answers in them, are drawn from.
    pub seed: u64,
}

/// A pair of answers, or one.
#[derive(Clone, Debug)]
pub struct Item {
    /// A hash of prompt and answers.
    pub id: String,
    /// The row: its `id`, or else its line.
    pub row: String,
    /// The conversation up to the answers.
    pub prompt: Arc<[Message]>,
    /// Whether the prompt was one text.
    pub is_text: bool,
    /// Two to compare, or one to rate.
    pub answers: Vec<Answer>,
    /// Points of the scale on which it is rated, if it is.
    pub scale: Option<u8>,
    /// The row's `meta`.
    pub meta: Option<Arc<Value>>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What is said.
    pub message: Message,
    /// Where it comes from, as far as its row says: nobody who votes sees it.
    pub origin: Map<String, Value>,
}

/// How many rows or pairs nothing was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Rows with fewer than two different answers.
    pub alike: usize,
    /// Pairs, or answers, that an earlier row has too.
    pub repeated: usize,
}

/// All that is to be labelled.
#[derive(Debug)]
pub struct Items {
    /// The pairs, or answers, in the order of their rows.
    pub items: Vec<Item>,
    /// What is not among them.
    pub left_out: LeftOut,
}

/// A row as it stands in a file.
#[derive(Deserialize)]
struct Row {
    id: Option<Value>,
    prompt: Option<Text>,
    messages: Option<Vec<Message>>,
    completions: Option<Vec<Completion>>,
    completion: Option<Text>,
    chosen: Option<Text>,
    rejected: Option<Text>,
    a: Option<Text>,
    b: Option<Text>,
    meta: Option<Value>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// A completion as it stands in a row.
#[derive(Deserialize)]
#[serde(untagged)]
enum Completion {
    Plain(String),
    Object {
        text: String,
        #[serde(flatten)]
        other: Map<String, Value>,
    },
}

impl Items {
    /// Those of the rows of `files`.
    ///
    /// # Errors
    /// Rows that can't be read, that have no answers, or too much text.
    pub fn read(files: &DataFiles, settings: &Settings) -> Result<Self, LabelError> {
        let expected = if settings.rate.is_some() { RATED } else { COMPARED };
        let (mut items, mut left_out, mut seen) = (Vec::new(), LeftOut::default(), HashSet::new());
        let (mut bytes, mut rows) = (0, 0);
        rows::read_all(files, |place, row: Result<Row, LineError>| {
            rows += 1;
            if bytes > MAX_TEXT_BYTES {
                return Ok(());
            }
            let row = row.map_err(|error| match error {
                LineError::Json { message, column } => LineError::Object { message, column, expected },
                error => error,
            })?;
            let name = match &row.id {
                Some(Value::String(id)) => id.clone(),
                Some(Value::Number(id)) => id.to_string(),
                None | Some(Value::Null) => format!("line-{}", place.number),
                Some(_) => {
                    return Err(LineError::FieldType { what: "`id` is neither text nor number".into() });
                }
            };
            let is_single = row.completion.is_some();
            let answered = row.answered(expected)?;
            if is_single && settings.rate.is_none() {
                return Err(LineError::Fields { expected });
            }
            let made = answered.items(&name, settings);
            left_out.alike += usize::from(made.is_empty());
            for item in made {
                if seen.insert(item.id.clone()) {
                    bytes += item.answers.iter().map(|answer| answer.message.content.len()).sum::<usize>();
                    items.push(item);
                } else {
                    left_out.repeated += 1;
                }
            }
            Ok(())
        })?;
        if bytes > MAX_TEXT_BYTES {
            return Err(LabelError::TooLarge { limit: MAX_TEXT_BYTES });
        }
        if items.is_empty() {
            let why = format!(
                "none of its {rows} rows has two different answers; sample several with `koan generate --n 4`, or rate single ones with --rate"
            );
            return Err(LabelError::Nothing { file: files.to_string(), why });
        }
        Ok(Self { items, left_out })
    }
}

/// A row's prompt and answers.
struct Answered {
    prompt: Vec<Message>,
    is_text: bool,
    answers: Vec<Answer>,
    meta: Option<Value>,
}

impl Row {
    fn answered(self, expected: &'static str) -> Result<Answered, LineError> {
        let wrong = || LineError::Fields { expected };
        if self.prompt.is_some() && self.messages.is_some() {
            return Err(LineError::TwoPrompts);
        }
        let is_text = matches!(self.prompt, Some(Text::Plain(_)));
        let asked = self.prompt.or(self.messages.map(Text::Messages));
        let origin = origin(&self.other, &ORIGIN);
        let of = |message: Message, more: Map<String, Value>| Answer {
            message,
            origin: origin.clone().into_iter().chain(more).collect(),
        };
        let two = match (self.chosen, self.rejected, self.a, self.b) {
            (Some(one), Some(other), None, None) => Some((["chosen", "rejected"], one, other)),
            (None, None, Some(one), Some(other)) => Some((["a", "b"], one, other)),
            (None, None, None, None) => None,
            _ => return Err(wrong()),
        };
        let (prompt, answers) = match (two, self.completions, self.completion) {
            (Some((names, one, other)), None, None) => {
                let (prompt, messages) = replies(asked, one, other).ok_or_else(wrong)?;
                let answers = names.iter().zip(messages).map(|(name, message)| {
                    let mut more = Map::from_iter([("field".to_owned(), Value::from(*name))]);
                    for key in ["model", "source"] {
                        for given in
                            [format!("{name}_{key}"), format!("{name}-{key}"), format!("{key}_{name}")]
                        {
                            more.extend(kept(&self.other, &given).map(|value| (key.to_owned(), value)));
                        }
                    }
                    of(message, more)
                });
                (prompt, answers.collect())
            }
            (None, Some(completions), None) => {
                if completions.len() > MAX_COMPLETIONS {
                    let what = format!("has more than {MAX_COMPLETIONS} completions; keep fewer");
                    return Err(LineError::Row { what });
                }
                let answers = completions.into_iter().enumerate().map(|(i, completion)| {
                    let (text, mut more) = match completion {
                        Completion::Plain(text) => (text, Map::new()),
                        Completion::Object { text, other } => {
                            let keys: Vec<&str> = other.keys().map(String::as_str).collect();
                            (text, self::origin(&other, &keys))
                        }
                    };
                    more.insert("completion".to_owned(), i.into());
                    of(Message::assistant(text), more)
                });
                (asked.ok_or(LineError::NoPrompt)?.into_prompt(), answers.collect())
            }
            (None, None, Some(completion)) => {
                let (before, message) = completion.into_reply().ok_or_else(wrong)?;
                if !before.is_empty() {
                    return Err(wrong());
                }
                let keys = ["sample", "step", "reward", "finish_reason"];
                let more = self::origin(&self.other, &keys);
                (asked.ok_or(LineError::NoPrompt)?.into_prompt(), vec![of(message, more)])
            }
            _ => return Err(wrong()),
        };
        if prompt.is_empty() {
            return Err(LineError::NoPrompt);
        }
        Ok(Answered { prompt, is_text, answers, meta: self.meta })
    }
}

impl Answered {
    /// The items of the row; none if all its answers are alike and two are to be compared.
    fn items(self, row: &str, settings: &Settings) -> Vec<Item> {
        let mut texts = HashSet::new();
        let answers: Vec<Answer> =
            self.answers.into_iter().filter(|answer| texts.insert(said(&answer.message))).collect();
        let places = if settings.rate.is_some() {
            (0..answers.len()).map(|i| vec![i]).collect()
        } else {
            let texts: Vec<String> = answers.iter().map(|answer| said(&answer.message)).collect();
            let of = sha256(texts.join("\n"));
            pairs(&seeded::order(settings.seed, &of, answers.len()), settings.pairs_per_prompt)
        };
        let (prompt, meta): (Arc<[Message]>, _) = (self.prompt.into(), self.meta.map(Arc::new));
        let asked: Vec<String> =
            prompt.iter().map(|message| format!("{}\n{}", message.role, said(message))).collect();
        places
            .into_iter()
            .map(|mut places: Vec<usize>| {
                places.sort_unstable();
                let answers: Vec<Answer> = places.iter().map(|&place| answers[place].clone()).collect();
                let hashed =
                    (settings.rate, &asked, answers.iter().map(|a| said(&a.message)).collect::<Vec<_>>());
                let id = sha256(serde_json::to_vec(&hashed).unwrap_or_default())[..16].to_owned();
                let (prompt, meta) = (Arc::clone(&prompt), meta.clone());
                let (row, is_text, scale) = (row.to_owned(), self.is_text, settings.rate);
                Item { id, row, prompt, is_text, answers, scale, meta }
            })
            .collect()
    }
}

/// The pairs of those who stand around a circle, at most `most`: neighbours first, disjoint pairs before the rest.
fn pairs(circle: &[usize], most: usize) -> Vec<Vec<usize>> {
    let n = circle.len();
    let mut found = Vec::new();
    for apart in 1..=n / 2 {
        let starts = if 2 * apart == n { 0..n / 2 } else { 0..n };
        let (first, rest): (Vec<usize>, Vec<usize>) =
            starts.partition(|start| start / apart % 2 == 0 && start + apart < n);
        for start in first.into_iter().chain(rest) {
            if found.len() == most {
                return found;
            }
            found.push(vec![circle[start], circle[(start + apart) % n]]);
        }
    }
    found
}

/// A message as its reader sees it: thinking that is in a field of its own stands before the answer.
pub(crate) fn said(message: &Message) -> String {
    let thought = ["reasoning_content", "reasoning", "thinking"]
        .iter()
        .find_map(|field| message.other.get(*field).and_then(Value::as_str).filter(|text| !text.is_empty()));
    match thought {
        Some(thought) => format!("<think>{thought}</think>{}", message.content),
        None => message.content.clone(),
    }
}

/// What `fields` say of where an answer comes from.
fn origin(fields: &Map<String, Value>, keys: &[&str]) -> Map<String, Value> {
    keys.iter().filter_map(|key| kept(fields, key).map(|value| ((*key).to_owned(), value))).collect()
}

/// A field that is short.
fn kept(fields: &Map<String, Value>, key: &str) -> Option<Value> {
    fields.get(key).cloned().filter(|value| match value {
        Value::String(text) => text.len() <= MAX_ORIGIN_BYTES,
        Value::Number(_) | Value::Bool(_) => true,
        _ => false,
    })
}
