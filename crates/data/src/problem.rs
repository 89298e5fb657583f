//! The format of a problem, and files of problems.
//!
//! A file is JSON Lines: one object per line; blank lines are skipped. Fields:
//!
//! | field | is |
//! |---|---|
//! | `id` | unique in all files that are read together, a string or a number; if absent, `line-N` |
//! | `prompt` or `messages` | the question, or the conversation up to the reply wanted |
//! | `answer` | the reference answer, a string or a number; a number keeps its digits. Absent if `tests` judge |
//! | `reward` | optional: the verifier of this problem, or a list of several |
//! | `meta` | optional: an object with anything else about the problem |
//!
//! Other fields are kept and written out again. Of these, `tests` that have an integer beyond 64 bits are kept as a string that
//! holds their JSON, so that no digit is lost.

use crate::error::{DataError, LineError};
use crate::rows::{self, DataFiles};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::{Map, Value, value::RawValue};
use std::borrow::Cow;
use std::collections::{HashMap, hash_map::Entry};
use std::path::Path;

/// A question whose answer a program can check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Row")]
pub struct Problem {
    /// Unique in its file.
    pub id: String,
    /// The question, if it is one message from the user; otherwise `messages` is present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The conversation up to the reply wanted, if there is no `prompt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<Message>>,
    /// The reference answer; empty if other fields judge the problem. Verifiers that need one say so.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub answer: String,
    /// The names of the verifiers for this problem, with commas between them, if not all of the run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward: Option<String>,
    /// Anything else about the problem: its level, its source, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<Map<String, Value>>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A problem as it stands in a file.
#[derive(Deserialize)]
struct Row {
    #[serde(default, deserialize_with = "text_or_number")]
    id: String,
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    #[serde(default, deserialize_with = "text_or_number")]
    answer: String,
    reward: Option<Names>,
    meta: Option<Map<String, Value>>,
    tests: Option<Box<RawValue>>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl From<Row> for Problem {
    fn from(row: Row) -> Self {
        let Row { id, prompt, messages, answer, reward, meta, tests, mut other } = row;
        if let Some(tests) = tests {
            other.insert("tests".to_owned(), exact(&tests));
        }
        Self { id, prompt, messages, answer, reward: reward.map(Names::joined), meta, other }
    }
}

/// A name, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Several(Vec<String>),
}

impl Names {
    fn joined(self) -> String {
        match self {
            Self::One(name) => name,
            Self::Several(names) => names.join(","),
        }
    }
}

/// `raw` as a value; where it has numbers that a value would round, a string that holds it.
#[must_use]
pub fn exact(raw: &RawValue) -> Value {
    match serde_json::from_str(raw.get()) {
        Ok(value) if !has_long_integer(raw.get()) => value,
        _ => Value::String(raw.get().to_owned()),
    }
}

/// Whether `json` has an integer that 64 bits do not hold.
fn has_long_integer(json: &str) -> bool {
    let is_long = |number: &str| number.parse::<i64>().is_err() && number.parse::<u64>().is_err();
    let (mut rest, mut is_text) = (json, false);
    while let Some(at) =
        rest.find(|c: char| c == '"' || !is_text && (c == '-' || c.is_ascii_digit()) || is_text && c == '\\')
    {
        match rest.as_bytes()[at] {
            b'"' => {
                is_text = !is_text;
                rest = &rest[at + 1..];
            }
            b'\\' => {
                let mut after = rest[at + 1..].chars();
                after.next();
                rest = after.as_str();
            }
            _ => {
                let number = &rest[at..];
                let end = number.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'));
                let (number, after) = number.split_at(end.unwrap_or(number.len()));
                if !number.contains(['.', 'e', 'E']) && is_long(number) {
                    return true;
                }
                rest = after;
            }
        }
    }
    false
}

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawMessage")]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or another role that the chat template knows.
    pub role: String,
    /// What is said; empty where a message only calls tools, or its `content` is null.
    pub content: String,
    /// All other fields: `tool_calls`, `reasoning_content`, `name`, …
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A message as it stands in a file.
#[derive(Deserialize)]
struct RawMessage {
    role: String,
    content: Option<Value>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl TryFrom<RawMessage> for Message {
    type Error = String;

    fn try_from(raw: RawMessage) -> Result<Self, String> {
        let RawMessage { role, content, other } = raw;
        let says_otherwise = || {
            ["tool_calls", "reasoning_content", "reasoning", "thinking"]
                .iter()
                .any(|field| other.get(*field).is_some_and(|value| !value.is_null()))
        };
        let content = match content {
            Some(Value::String(text)) => text,
            // Parts, as APIs have them.
            Some(Value::Array(parts)) => parts.iter().map(part).collect::<Result<_, _>>()?,
            Some(Value::Null) | None if says_otherwise() => String::new(),
            None | Some(Value::Null) => return Err("it has no `content`".to_owned()),
            Some(_) => return Err("`content` is not a text".to_owned()),
        };
        Ok(Self { role, content, other })
    }
}

/// The text of a part of a message.
fn part(part: &Value) -> Result<&str, String> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
    match part.get("text").and_then(Value::as_str).or(part.as_str()) {
        Some(text) if kind == "text" => Ok(text),
        _ => Err(format!("`content` has a part of type `{kind}`; text alone is read")),
    }
}

impl Message {
    /// A message from the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".to_owned(), content: content.into(), other: Map::new() }
    }

    /// All fields: `role`, `content`, and the others.
    #[must_use]
    pub fn into_fields(self) -> Map<String, Value> {
        let said = [("role".to_owned(), self.role.into()), ("content".to_owned(), self.content.into())];
        said.into_iter().chain(self.other).collect()
    }

    /// A message from the assistant.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: "assistant".to_owned(), content: content.into(), other: Map::new() }
    }
}

impl Problem {
    /// The conversation: `messages`, or `prompt` as one message from the user.
    pub fn messages(&self) -> Cow<'_, [Message]> {
        match (&self.messages, &self.prompt) {
            (Some(messages), _) => Cow::Borrowed(messages),
            (None, Some(prompt)) => Cow::Owned(vec![Message::user(prompt)]),
            (None, None) => Cow::Borrowed(&[]),
        }
    }

    /// Checks that there is exactly one question.
    pub(crate) fn check(&self) -> Result<(), LineError> {
        match (&self.prompt, self.messages.as_deref()) {
            (Some(_), Some(_)) => Err(LineError::TwoPrompts),
            (None, None | Some([])) => Err(LineError::NoPrompt),
            _ => Ok(()),
        }
    }
}

/// Reads the problems of `files`.
///
/// # Errors
/// A file that cannot be read or has no problems; a row that is not a problem or repeats an id.
pub fn read_problems(files: &DataFiles) -> Result<Vec<Problem>, DataError> {
    Ok(read_placed_problems(files)?.into_iter().map(|(_, problem)| problem).collect())
}

/// Reads the problems of `files`, each with its place.
///
/// # Errors
/// As [`read_problems`].
pub fn read_placed_problems(files: &DataFiles) -> Result<Vec<(rows::Place, Problem)>, DataError> {
    let (mut problems, mut places) = (Vec::new(), HashMap::new());
    let is_one = files.paths()?.len() == 1;
    rows::read(files, |place, mut problem: Problem| {
        problem.check()?;
        if problem.id.is_empty() {
            problem.id = if is_one { format!("line-{}", place.number) } else { place.to_string() };
        }
        match places.entry(problem.id.clone()) {
            Entry::Occupied(first) => {
                let first: &rows::Place = first.get();
                let is_same = first.path == place.path;
                let first = if is_same { format!("line {}", first.number) } else { format!("{first}") };
                return Err(LineError::DuplicateId { id: problem.id, first });
            }
            Entry::Vacant(entry) => entry.insert(place.clone()),
        };
        problems.push((place.clone(), problem));
        Ok(())
    })?;
    Ok(problems)
}

/// Writes `problems` to `path`: all of them, or none, and then the file is as before.
///
/// # Errors
/// A file that cannot be written.
pub fn write_problems<'a>(
    path: &Path,
    problems: impl IntoIterator<Item = &'a Problem>,
) -> Result<(), DataError> {
    Ok(koan_files::jsonl::write(path, problems)?)
}

/// A JSON string, or a JSON number as it is written.
fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    if raw.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return Ok(raw.get().to_owned());
    }
    serde_json::from_str(raw.get()).map_err(|_| D::Error::custom("`id` and `answer` are strings or numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    /// What reading a file that holds `text` gives.
    fn read(text: &str) -> Result<Vec<Problem>, DataError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("problems.jsonl");
        fs::write(&path, text).expect("written");
        read_problems(&path.clone().into())
    }

    #[test]
    fn reads_both_forms_and_keeps_what_it_does_not_know() {
        let problems = read(concat!(
            r#"{"id": 7, "prompt": "1 + 1?", "answer": 2.50, "solution": "easy", "meta": {"level": 1}}"#,
            "\r\n\n",
            r#"{"messages": [{"role": "system", "content": "s"}, "#,
            r#"{"role": "user", "content": "u", "name": "n"}], "answer": "x", "reward": "format"}"#,
        ))
        .expect("good lines");
        assert_eq!((problems[0].id.as_str(), problems[0].answer.as_str()), ("7", "2.50"));
        assert_eq!(problems[0].other["solution"], "easy");
        assert_eq!(problems[0].messages().as_ref(), [Message::user("1 + 1?")]);
        assert_eq!((problems[1].id.as_str(), problems[1].messages().len()), ("line-3", 2));
        assert_eq!(problems[1].messages()[1].other["name"], "n");
    }

    #[test]
    fn tests_keep_every_digit() {
        let long = r#"{"function": "f", "cases": [{"args": ["1", -123456789012345678901], "returns": 1}]}"#;
        let kept = [
            r#"[{"stdin": "123456789012345678901234567890 \"9", "stdout": "1"}]"#,
            r#"{"function": "f", "cases": [{"args": [18446744073709551615, -9223372036854775808], "returns": 1.5e300}]}"#,
            "null",
        ];
        for tests in kept {
            let problem = &read(&format!(r#"{{"prompt": "p", "tests": {tests}}}"#)).expect("good")[0];
            let value = problem.other.get("tests").cloned().unwrap_or_default();
            assert_eq!(value, serde_json::from_str::<Value>(tests).expect("JSON"));
        }
        for long in [long, "[18446744073709551616]", "[1e999]"] {
            let problem = read(&format!(r#"{{"prompt": "p", "tests": {long}}}"#)).expect("good").remove(0);
            assert_eq!(problem.other["tests"], Value::from(long));
            let again = serde_json::to_string(&problem).expect("written");
            assert_eq!(serde_json::from_str::<Problem>(&again).expect("read"), problem);
        }
    }

    #[test]
    fn errors_name_file_line_and_remedy() {
        let good = r#"{"id": "a", "prompt": "p", "answer": "1"}"#;
        for (line, expected) in [
            ("{", ":2: not a problem: EOF while parsing an object, column"),
            ("7", ":2: no JSON object: the row is the number 7; write an object"),
            (r#"{"prompt": "p", "answer": null}"#, ":2: `answer` is null; write a string or a number"),
            (r#"{"prompt": ["p"], "answer": "1"}"#, ":2: `prompt` is a list of strings; write a string"),
            (r#"{"answer": "1"}"#, ":2: has neither `prompt` nor `messages`; add one of them"),
            (r#"{"messages": [], "answer": "1"}"#, ":2: has neither"),
            (r#"{"prompt": "p", "messages": [], "answer": "1"}"#, ":2: has both"),
            (good, ":2: has the id `a` of line 1; make ids unique"),
        ] {
            let error = read(&format!("{good}\n{line}\n")).expect_err(line).to_string();
            assert!(error.contains("problems.jsonl") && error.contains(expected), "{line}: {error}");
        }
        for empty in ["", "\n \n"] {
            assert!(matches!(read(empty), Err(DataError::Empty { .. })));
        }
    }

    #[test]
    fn an_interrupted_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("problems.jsonl");
        let problem = Problem { prompt: Some("p".to_owned()), ..Problem::default() };
        write_problems(&path, [&problem]).expect("written");
        let interrupted = std::panic::catch_unwind(|| {
            write_problems(&path, [&problem].into_iter().chain(std::iter::from_fn(|| panic!("stop"))))
        });
        assert!(interrupted.is_err());
        assert_eq!(read_problems(&path.clone().into()).expect("the old file").len(), 1);
        assert!(write_problems(&path.join("problems.jsonl"), [&problem]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))] // each writes a file

        #[test]
        fn what_is_written_is_read(rows in prop::collection::vec(any::<(String, String, bool)>(), 1..8)) {
            let problem = |(i, (text, answer, chat)): (usize, (String, String, bool))| Problem {
                id: i.to_string(),
                prompt: (!chat).then(|| text.clone()),
                messages: chat.then(|| vec![Message::user(&text)]),
                answer,
                ..Problem::default()
            };
            let problems: Vec<Problem> = rows.into_iter().enumerate().map(problem).collect();
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("problems.jsonl");
            write_problems(&path, &problems).expect("written");
            prop_assert_eq!(read_problems(&path.clone().into()).expect("read"), problems);
        }

        #[test]
        fn reading_is_total(text in "[\\[\\]{}:,\"a-z0-9 \n]{0,80}") {
            _ = read(&text);
        }
    }
}
