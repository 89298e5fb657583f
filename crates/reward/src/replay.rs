//! Verdicts over a file of completions, line by line, in constant memory: what `koan verify` does.
//!
//! A line is a JSON object with `answer` (a string or a number) and `completion` (a string). `reward` names
//! the verifier of that line. All fields are kept as they stand, digit for digit, and `score` (null where
//! masked), `outcome`, `parsed` and `reason` are added, replacing fields of these names. Blank lines are
//! skipped.

use crate::error::LineError;
use crate::verdict::shorten;
use crate::{Outcome, Problem, RewardError, Rewards, Sample};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, Read as _, Write};

/// A longer line is refused, so that a file without line ends cannot fill the memory.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// Judges every line of `input`, called `file` in errors, by `rewards`, and
/// writes it with its verdict to `output`.
///
/// # Errors
/// A line that is not a completion to judge, with its number; input that cannot be read, output that cannot
/// be written.
pub fn replay(
    mut input: impl BufRead,
    file: &str,
    mut output: impl Write,
    rewards: &Rewards,
) -> Result<Summary, RewardError> {
    let write_error = |source| RewardError::Write { file: file.to_owned(), source };
    let (mut summary, mut buffer) = (Summary::default(), Vec::new());
    for line in 1.. {
        let line_error = |reason| RewardError::Line { file: file.to_owned(), line, reason };
        buffer.clear();
        let n_bytes = (&mut input)
            .take(MAX_LINE_BYTES as u64 + 1)
            .read_until(b'\n', &mut buffer)
            .map_err(|source| RewardError::Read { file: file.to_owned(), source })?;
        if n_bytes == 0 {
            break;
        }
        if n_bytes > MAX_LINE_BYTES {
            return Err(line_error(LineError::TooLong));
        }
        if buffer.trim_ascii().is_empty() {
            continue;
        }
        let (fields, outcome) = judge_line(&buffer, rewards).map_err(line_error)?;
        summary.count(outcome);
        serde_json::to_writer(&mut output, &fields).map_err(|error| write_error(error.into()))?;
        output.write_all(b"\n").map_err(write_error)?;
    }
    output.flush().map_err(write_error)?;
    Ok(summary)
}

type Fields = BTreeMap<String, Box<RawValue>>;

/// The fields of a line with those of its verdict.
fn judge_line(line: &[u8], rewards: &Rewards) -> Result<(Fields, Outcome), LineError> {
    let mut fields: Fields = serde_json::from_slice(line).map_err(json_error)?;
    let completion = string(&fields, "completion")?.ok_or(LineError::Missing { field: "completion" })?;
    let problem = problem(&fields)?;
    let bad = rewards.check(&problem).map_err(|error| LineError::Verifier(Box::new(error)))?;
    if bad.is_some() && !fields.contains_key("answer") {
        return Err(LineError::Missing { field: "answer" });
    }
    let judgement = rewards.judge(&Sample::new(&problem, &completion));
    let first = &judgement.terms[0];
    let added = [
        ("score", to_raw_value(&judgement.reward)),
        ("outcome", to_raw_value(&first.outcome)),
        ("parsed", to_raw_value(&first.parsed)),
        ("reason", to_raw_value(&first.reason)),
    ];
    for (name, value) in added {
        fields.insert(name.to_owned(), value.map_err(json_error)?);
    }
    Ok((fields, first.outcome))
}

/// The problem of a line.
fn problem(fields: &Fields) -> Result<Problem, LineError> {
    let answer = match fields.get("answer") {
        None => String::new(),
        Some(raw) if raw.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()) => raw.get().to_owned(),
        Some(raw) => text(raw, "answer", "a string or a number")?,
    };
    let mut problem = Problem { answer, reward: string(fields, "reward")?, ..Problem::default() };
    for (name, raw) in fields {
        let value = || serde_json::from_str(raw.get()).map_err(json_error);
        match name.as_str() {
            "answer" | "completion" | "reward" => {}
            "meta" => problem.meta = serde_json::from_str(raw.get()).ok(),
            _ => _ = problem.other.insert(name.clone(), value()?),
        }
    }
    Ok(problem)
}

/// The string in `field`, where that is neither absent nor null.
fn string(fields: &Fields, field: &'static str) -> Result<Option<String>, LineError> {
    fields.get(field).filter(|raw| raw.get() != "null").map(|raw| text(raw, field, "a string")).transpose()
}

fn text(raw: &RawValue, field: &'static str, expected: &'static str) -> Result<String, LineError> {
    serde_json::from_str(raw.get()).map_err(|_| LineError::Type {
        field,
        found: shorten(raw.get()),
        expected,
    })
}

/// The parser's words without its line number, which is always 1.
fn json_error(error: serde_json::Error) -> LineError {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(words, _)| words).to_owned();
    LineError::Json { message, column: error.column().max(1) }
}

/// How many completions had each outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    counts: [usize; Outcome::ALL.len()],
}

impl Summary {
    /// Counts one more `outcome`.
    pub fn count(&mut self, outcome: Outcome) {
        self.counts[outcome as usize] += 1;
    }

    /// How many had `outcome`.
    pub fn of(&self, outcome: Outcome) -> usize {
        self.counts[outcome as usize]
    }

    /// How many were judged.
    pub fn total(&self) -> usize {
        self.counts.iter().sum()
    }
}

impl fmt::Display for Summary {
    /// `12 judged: 7 correct, 3 wrong, 2 unparsable, 0 undecided, 0 bad_reference`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = Outcome::ALL.map(|outcome| format!("{} {}", self.of(outcome), outcome.name()));
        write!(f, "{} judged: {}", self.total(), counts.join(", "))
    }
}

impl Serialize for Summary {
    /// An object with a count for each outcome's name.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Outcome::ALL.len()))?;
        for outcome in Outcome::ALL {
            map.serialize_entry(outcome.name(), &self.of(outcome))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::io;

    fn run(input: &str) -> Result<(Summary, Vec<Value>), RewardError> {
        let number = Rewards::of_kind("number").expect("in the table");
        let mut output = Vec::new();
        let summary = replay(input.as_bytes(), "in.jsonl", &mut output, &number)?;
        let lines = output.split_inclusive(|&byte| byte == b'\n');
        Ok((summary, lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()))
    }

    #[test]
    fn adds_a_verdict_and_keeps_the_rest() {
        let (summary, lines) = run(concat!(
            r#"{"id": 7, "answer": 68, "completion": "23 + 45 = 68", "score": 9, "more": [1.50]}"#,
            "\n\n",
            r#"{"answer": "x", "completion": "68"}"#,
            "\r\n",
            r#"{"answer": "68", "completion": "<think></think><answer>1</answer>", "reward": "format"}"#,
        ))
        .expect("good lines");
        let first = json!({"id": 7, "answer": 68, "completion": "23 + 45 = 68", "more": [1.5], "score": 1.0,
            "outcome": "correct", "parsed": "68", "reason": "equals the reference"});
        assert_eq!(lines[0], first);
        assert_eq!((&lines[1]["score"], &lines[1]["outcome"]), (&Value::Null, &json!("bad_reference")));
        assert_eq!(lines[2]["outcome"], "correct");
        assert_eq!(
            summary.to_string(),
            "3 judged: 2 correct, 0 wrong, 0 unparsable, 0 undecided, 1 bad_reference"
        );
        assert_eq!(serde_json::to_value(&summary).expect("counts")["correct"], 2);
    }

    #[test]
    fn numbers_keep_their_digits() {
        let answer = "123456789012345678901234567890.10";
        let (_, lines) = run(&format!(r#"{{"answer": {answer}, "completion": "{answer}"}}"#)).expect("good");
        assert_eq!(lines[0]["outcome"], "correct");
    }

    #[test]
    fn errors_name_the_line_and_the_remedy() {
        let ok = r#"{"answer": "1", "completion": "1"}"#;
        for (line, expected) in [
            ("[1]", "in.jsonl:2: not a JSON object (invalid type: sequence, expected a map, column 1)"),
            (r#"{"answer": "1"}"#, "in.jsonl:2: has no `completion`; every line needs"),
            (r#"{"completion": "1"}"#, "in.jsonl:2: has no `answer`; every line needs"),
            (
                r#"{"answer": [1], "completion": ""}"#,
                "in.jsonl:2: `answer` is [1]; write a string or a number",
            ),
            (r#"{"answer": "1", "completion": 1}"#, "in.jsonl:2: `completion` is 1; write a string"),
            (
                r#"{"answer": "1", "completion": "1", "reward": "numbr"}"#,
                "in.jsonl:2: `reward`: there is no verifier `numbr`; use one of: number, ",
            ),
        ] {
            let error = run(&format!("{ok}\n{line}\n")).expect_err(line).to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let endless = io::repeat(b' ');
        let number = Rewards::of_kind("number").expect("in the table");
        let error = replay(io::BufReader::new(endless), "in", io::sink(), &number);
        assert!(matches!(error, Err(RewardError::Line { line: 1, reason: LineError::TooLong, .. })));
    }
}
