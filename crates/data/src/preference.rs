//! What people, or a rule, prefer: pairs of replies, and replies that are each good or bad.
//!
//! | fields | hold |
//! |---|---|
//! | `prompt`, `chosen`, `rejected` | a question and two replies to it, as texts |
//! | the same, as messages | `prompt`, or `messages`, a list of messages, `chosen` and `rejected` each a list of one, the assistant's |
//! | `chosen`, `rejected` | two conversations that part at their last message, the assistant's; a `prompt` beside them is not needed and not read |
//! | `prompt`, `completion`, `label` | a question, a reply as text or as a list of one message, and whether it is good |
//! | `messages`, `label` | a conversation that ends with the assistant's, and whether that is good |
//!
//! A pair's `margin`, a number of 0 or more, says by how much the chosen reply is better; `category`, in the row or in its `meta`, what kind
//! of row it is. Other fields are not read.

use crate::error::{DataError, LineError};
use crate::problem::Message;
use crate::rows::{self, DataFiles};
use serde::Deserialize;
use serde_json::Value;

/// A prompt with a reply that was chosen, and one that was rejected.
#[derive(Clone, Debug, PartialEq)]
pub struct Preference {
    /// The conversation up to the replies; at least one message.
    pub prompt: Vec<Message>,
    /// The better reply, the assistant's.
    pub chosen: Message,
    /// The worse one.
    pub rejected: Message,
    /// By how much the first is better, where the row says so; 0 or more.
    pub margin: Option<f64>,
    /// What kind of pair it is, where the row says so.
    pub category: Option<String>,
}

/// A prompt with a reply that is good or bad.
#[derive(Clone, Debug, PartialEq)]
pub struct Rated {
    /// The conversation up to the reply; at least one message.
    pub prompt: Vec<Message>,
    /// The reply, the assistant's.
    pub completion: Message,
    /// Whether it is good.
    pub good: bool,
    /// What kind of row it is, where it says so.
    pub category: Option<String>,
}

/// The kind that a row, or its `meta`, says it is of.
fn category_of(category: Option<Value>, meta: Option<&Value>) -> Option<String> {
    match category.or_else(|| meta?.get("category").cloned())? {
        Value::String(name) if !name.is_empty() => Some(name),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A prompt, reply or conversation as it stands in a file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// A text: a prompt from the user, or a reply of the assistant's.
    Plain(String),
    /// A list of messages.
    Messages(Vec<Message>),
}

impl Text {
    /// The conversation that a prompt is.
    #[must_use]
    pub fn into_prompt(self) -> Vec<Message> {
        match self {
            Self::Plain(text) => vec![Message::user(text)],
            Self::Messages(messages) => messages,
        }
    }

    /// The messages before the last, and the last, if that is the assistant's.
    #[must_use]
    pub fn into_reply(self) -> Option<(Vec<Message>, Message)> {
        let mut messages = match self {
            Self::Plain(text) => vec![Message::assistant(text)],
            Self::Messages(messages) => messages,
        };
        let reply = messages.pop().filter(|last| last.role == "assistant")?;
        Some((messages, reply))
    }
}

/// The prompt of two replies, and these: `prompt` with two replies, or two conversations that part at their last message.
/// `None` if they are neither.
#[must_use]
pub fn replies(prompt: Option<Text>, one: Text, other: Text) -> Option<(Vec<Message>, [Message; 2])> {
    let (before, one) = one.into_reply()?;
    let (also, other) = other.into_reply()?;
    let prompt = if before.is_empty() && also.is_empty() {
        prompt?.into_prompt()
    } else {
        (before == also).then_some(before)?
    };
    (!prompt.is_empty()).then_some((prompt, [one, other]))
}

const PAIR: &str = "`prompt`, `chosen` and `rejected`, as texts or messages; or two conversations `chosen` and `rejected` that part at their \
     last message";
const REPLIES: &str = "a prompt and replies to it: `chosen` and `rejected`, `completion`, `completions`, or `messages` that end with the assistant's";
const RATED: &str = "`prompt`, `completion` and `label` (true or false); or `messages` and `label`";

/// Reads the pairs of `files`.
///
/// # Errors
/// A file that cannot be read or has no pairs; a line that is none.
pub fn read_preferences(files: &DataFiles) -> Result<Vec<Preference>, DataError> {
    #[derive(Deserialize)]
    struct Line {
        prompt: Option<Text>,
        messages: Option<Text>,
        chosen: Option<Text>,
        rejected: Option<Text>,
        margin: Option<f64>,
        category: Option<Value>,
        meta: Option<Value>,
    }
    read(files, PAIR, |line: Line| {
        let (prompt, [chosen, rejected]) =
            replies(line.prompt.or(line.messages), line.chosen?, line.rejected?)?;
        let margin = line.margin;
        let sensible = margin.is_none_or(|margin| margin.is_finite() && margin >= 0.0);
        sensible.then(|| Preference {
            prompt,
            chosen,
            rejected,
            margin,
            category: category_of(line.category, line.meta.as_ref()),
        })
    })
}

/// Reads the labelled replies of `files`.
///
/// # Errors
/// A file that cannot be read or has none; a line that is none.
pub fn read_rated(files: &DataFiles) -> Result<Vec<Rated>, DataError> {
    #[derive(Deserialize)]
    struct Line {
        prompt: Option<Text>,
        completion: Option<Text>,
        messages: Option<Vec<Message>>,
        label: Option<bool>,
        category: Option<Value>,
        meta: Option<Value>,
    }
    read(files, RATED, |line: Line| {
        let good = line.label?;
        let (prompt, completion) = match (line.messages, line.prompt, line.completion) {
            (Some(messages), None, None) => Text::Messages(messages).into_reply()?,
            (None, Some(prompt), Some(completion)) => {
                let (before, completion) = completion.into_reply()?;
                before.is_empty().then(|| (prompt.into_prompt(), completion))?
            }
            _ => return None,
        };
        let category = category_of(line.category, line.meta.as_ref());
        (!prompt.is_empty()).then_some(Rated { prompt, completion, good, category })
    })
}

/// Reads replies of any kind, each with its conversation: of pairs both, of labelled rows, demonstrations, rollouts and what `koan
/// generate` writes all.
///
/// # Errors
/// A file that cannot be read or has none; a line that is none.
pub fn read_replies(files: &DataFiles) -> Result<Vec<(Vec<Message>, Message)>, DataError> {
    #[derive(Deserialize)]
    struct Generated {
        text: String,
    }
    #[derive(Deserialize)]
    struct Line {
        prompt: Option<Text>,
        messages: Option<Vec<Message>>,
        chosen: Option<Text>,
        rejected: Option<Text>,
        completion: Option<Text>,
        completions: Option<Vec<Generated>>,
    }
    let of_line = |line: Line| {
        if let (Some(chosen), Some(rejected)) = (line.chosen, line.rejected) {
            return replies(line.prompt.or(line.messages.map(Text::Messages)), chosen, rejected)
                .map(|(prompt, [chosen, rejected])| vec![(prompt.clone(), chosen), (prompt, rejected)]);
        }
        let generated =
            |all: Vec<Generated>| all.into_iter().map(|one| Message::assistant(one.text)).collect();
        let replies: Option<Vec<Message>> = match (line.completion, line.completions) {
            (Some(one), None) => Some(vec![one.into_reply().filter(|(before, _)| before.is_empty())?.1]),
            (None, Some(all)) => Some(generated(all)),
            (None, None) => None,
            (Some(_), Some(_)) => return None,
        };
        let prompt = line.prompt.map(Text::into_prompt);
        let Some(replies) = replies else {
            let (before, reply) = Text::Messages(line.messages.filter(|_| prompt.is_none())?).into_reply()?;
            return (!before.is_empty()).then(|| vec![(before, reply)]);
        };
        let prompt = prompt.or(line.messages).filter(|prompt| !prompt.is_empty())?;
        Some(replies.into_iter().map(|reply| (prompt.clone(), reply)).collect())
    };
    Ok(read(files, REPLIES, of_line)?.into_iter().flatten().collect())
}

/// Reads the rows of `files` that `row` makes of its lines; an error, that a line should have the fields `expected`, where it
/// makes none.
fn read<L: serde::de::DeserializeOwned, T>(
    files: &DataFiles,
    expected: &'static str,
    row: impl Fn(L) -> Option<T>,
) -> Result<Vec<T>, DataError> {
    let mut rows = Vec::new();
    rows::read_all(files, |_, line: Result<L, LineError>| {
        let line = line.map_err(|e| e.expecting(expected))?;
        rows.push(row(line).ok_or(LineError::Fields { expected })?);
        Ok(())
    })?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &tempfile::TempDir, text: &str) -> DataFiles {
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, text).expect("written");
        path.into()
    }

    #[test]
    fn pairs_are_read_in_every_form() {
        let folder = tempfile::tempdir().expect("a folder");
        let (user, good, bad) = (
            r#"{"role": "user", "content": "p"}"#,
            r#"{"role": "assistant", "content": "a"}"#,
            r#"{"role": "assistant", "content": "b"}"#,
        );
        let lines = [
            r#"{"prompt": "p", "chosen": "a", "rejected": "b", "margin": 2}"#.to_owned(),
            format!(r#"{{"prompt": [{user}], "chosen": [{good}], "rejected": [{bad}], "margin": 2.0}}"#),
            format!(r#"{{"chosen": [{user}, {good}], "rejected": [{user}, {bad}], "margin": 2}}"#),
            format!(r#"{{"messages": [{user}], "chosen": "a", "rejected": "b", "margin": 2}}"#), // `koan data convert` writes it so
            format!(
                r#"{{"prompt": "p", "chosen": [{user}, {good}], "rejected": [{user}, {bad}], "margin": 2}}"#
            ),
        ];
        let read = read_preferences(&file(&folder, &lines.join("\n"))).expect("five pairs");
        let want = Preference {
            prompt: vec![Message::user("p")],
            chosen: Message::assistant("a"),
            rejected: Message::assistant("b"),
            margin: Some(2.0),
            category: None,
        };
        assert_eq!(read, vec![want; 5]);
    }

    #[test]
    fn labelled_replies_are_read_in_every_form() {
        let folder = tempfile::tempdir().expect("a folder");
        let lines = concat!(
            "{\"prompt\": \"p\", \"completion\": \"a\", \"label\": true}\n",
            "{\"prompt\": [{\"role\": \"user\", \"content\": \"p\"}], \"completion\": [{\"role\": \"assistant\", \"content\": \"a\"}], \"label\": true}\n",
            "{\"messages\": [{\"role\": \"user\", \"content\": \"p\"}, {\"role\": \"assistant\", \"content\": \"a\"}], \"label\": true}\n",
        );
        let read = read_rated(&file(&folder, lines)).expect("three rows");
        let (prompt, completion) = (vec![Message::user("p")], Message::assistant("a"));
        assert_eq!(read, vec![Rated { prompt, completion, good: true, category: None }; 3]);
    }

    #[test]
    fn a_category_stands_in_the_row_or_in_its_meta() {
        let folder = tempfile::tempdir().expect("a folder");
        let row = |more: &str| format!("{{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"{more}}}");
        let mores = [
            r#", "category": "maths""#,
            r#", "meta": {"category": "chat"}"#,
            r#", "category": 3"#,
            r#", "meta": {"level": 1}"#,
            r#", "category": null, "meta": "x""#,
            r#", "category": ["a"]"#,
        ];
        let rows = read_preferences(&file(&folder, &mores.map(row).join("\n"))).expect("pairs");
        let categories: Vec<_> = rows.iter().map(|row| row.category.as_deref()).collect();
        assert_eq!(categories, [Some("maths"), Some("chat"), Some("3"), None, None, None]);
        let rated = r#"{"prompt": "p", "completion": "a", "label": true, "category": "safe"}"#;
        assert_eq!(read_rated(&file(&folder, rated)).expect("a row")[0].category.as_deref(), Some("safe"));
    }

    #[test]
    fn replies_are_read_from_rows_of_every_kind() {
        let folder = tempfile::tempdir().expect("a folder");
        let lines = [
            r#"{"prompt": "p", "chosen": "a", "rejected": "b"}"#,
            r#"{"prompt": "p", "completion": "a", "label": false}"#,
            r#"{"prompt": [{"role": "user", "content": "p"}], "completion": "b", "reward": 1.5}"#,
            r#"{"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}]}"#,
            r#"{"messages": [{"role": "user", "content": "p"}], "completions": [{"text": "b", "token_ids": [1]}, {"text": "a"}]}"#,
        ];
        let read = read_replies(&file(&folder, &lines.join("\n"))).expect("replies");
        let replies: String = read.iter().map(|(_, reply)| &*reply.content).collect();
        assert_eq!(replies, "abababa");
        assert!(read.iter().all(|(prompt, _)| *prompt == [Message::user("p")]));
    }

    #[test]
    fn rows_that_are_none_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        for line in [
            "{}",
            r#"{"prompt": "p", "chosen": "a"}"#,
            r#"{"chosen": "a", "rejected": "b"}"#,
            r#"{"prompt": "p", "chosen": 1, "rejected": "b"}"#,
            r#"{"prompt": "p", "chosen": "a", "rejected": "b", "margin": -1}"#,
            r#"{"chosen": [{"role": "user", "content": "p"}], "rejected": [{"role": "user", "content": "p"}]}"#,
            r#"{"chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]}"#,
        ] {
            let error = read_preferences(&file(&folder, line)).expect_err(line).to_string();
            let named = error.contains("`rejected`") || error.contains("`chosen`");
            assert!(error.contains("a.jsonl:1: ") && named, "{error}");
        }
        for line in
            [r#"{"prompt": "p", "completion": "a"}"#, r#"{"prompt": "p", "completion": "a", "label": "yes"}"#]
        {
            let error = read_rated(&file(&folder, line)).expect_err(line).to_string();
            assert!(error.contains("a.jsonl:1: ") && error.contains("`label`"), "{error}");
        }
        assert!(matches!(read_rated(&file(&folder, "\n")), Err(DataError::Empty { .. })));
    }
}
