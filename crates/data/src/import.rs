//! Problem files in other formats, converted to ours.

use crate::DataError;
use crate::error::LineError;
use crate::problem::Problem;
use crate::rows;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A format of problems that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// GSM8K's own (arXiv:2110.14168): JSON Lines of `question` and `answer`, a solution with calculations in `<<…>>`,
    /// whose last line is `#### NUMBER`.
    Gsm8k,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gsm8k => f.write_str("gsm8k"),
        }
    }
}

impl FromStr for Format {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        match text {
            "gsm8k" => Ok(Self::Gsm8k),
            _ => Err(DataError::Format { format: text.to_owned() }),
        }
    }
}

/// Reads the problems of `path`. Their ids are the file's name and the line; `solution` is what comes before the answer.
///
/// # Errors
/// A file that cannot be read or has no problems; a line that is not of this format.
pub fn import(path: &Path, format: Format) -> Result<Vec<Problem>, DataError> {
    let Format::Gsm8k = format;
    let name = path.file_stem().unwrap_or_default().display().to_string();
    let mut problems = Vec::new();
    rows::read(&path.into(), |place, row: Map<String, Value>| {
        let row: Gsm8k = serde_json::from_value(Value::Object(row))
            .map_err(|error| LineError::NotGsm8k { what: error.to_string() })?;
        problems.push(row.problem(format!("{name}-{}", place.number))?);
        Ok(())
    })?;
    Ok(problems)
}

#[derive(Deserialize)]
struct Gsm8k {
    question: String,
    answer: String,
}

impl Gsm8k {
    fn problem(self, id: String) -> Result<Problem, LineError> {
        let (solution, answer) =
            self.answer.rsplit_once("####").filter(|(_, answer)| !answer.trim().is_empty()).ok_or_else(
                || LineError::NotGsm8k { what: "`answer` has no `####`, or nothing after it".to_owned() },
            )?;
        let solution = Value::String(without_calculations(solution.trim()));
        Ok(Problem {
            id,
            prompt: Some(self.question),
            answer: answer.trim().to_owned(),
            other: Map::from_iter([("solution".to_owned(), solution)]),
            ..Problem::default()
        })
    }
}

/// `text` without `<<…>>`: calculator annotations, which repeat the text beside them.
fn without_calculations(text: &str) -> String {
    let mut parts = text.split("<<");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(">>").map_or(part, |(_, after)| after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(text: &str) -> Result<Vec<Problem>, DataError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mine.jsonl");
        fs::write(&path, text).expect("written");
        import(&path, Format::Gsm8k)
    }

    #[test]
    fn gsm8k_becomes_problems() {
        let problems = read(concat!(
            r##"{"question": "A cat has 4 kittens twice. How many?", "answer": "It has 4*2=<<4*2=8>>8 kittens.\nThat is 8.\n#### 8"}"##,
            "\n\n",
            r##"{"question": "Half of 2,160?", "answer": "2160/2 = 1080\n#### 1,080 ", "more": 1}"##,
        ))
        .expect("good lines");
        let [cat, half] = &problems[..] else { panic!("two problems, not {}", problems.len()) };
        assert_eq!((cat.id.as_str(), cat.answer.as_str()), ("mine-1", "8"));
        assert_eq!(cat.prompt.as_deref(), Some("A cat has 4 kittens twice. How many?"));
        assert_eq!(cat.other["solution"], "It has 4*2=8 kittens.\nThat is 8.");
        assert_eq!((half.id.as_str(), half.answer.as_str()), ("mine-3", "1,080"));
    }

    #[test]
    fn what_is_not_gsm8k_is_refused() {
        for (line, expected) in [
            (
                r#"{"prompt": "p", "answer": "1"}"#,
                "mine.jsonl:1: not a line of GSM8K: missing field `question`",
            ),
            (r#"{"question": "q", "answer": "1"}"#, ":1: not a line of GSM8K: `answer` has no `####`"),
            (r#"{"question": "q", "answer": "so #### "}"#, "or nothing after it"),
            (r#"{"question": 7, "answer": "1 #### 1"}"#, "invalid type: integer `7`"),
            ("", "has no lines"),
        ] {
            let error = read(line).expect_err(line).to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
        let error = "gsm9k".parse::<Format>().expect_err("unknown").to_string();
        assert_eq!(error, "format `gsm9k`: use gsm8k");
        assert_eq!(Format::Gsm8k.to_string().parse::<Format>().expect("its name"), Format::Gsm8k);
    }

    #[test]
    fn marks_that_are_not_closed_stay_text() {
        assert_eq!(without_calculations("a <<1+1=2>>2 b <<3"), "a 2 b 3");
        assert_eq!(without_calculations(""), "");
    }
}
