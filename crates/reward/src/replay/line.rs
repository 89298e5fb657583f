//! A line of completions: read, judged, written.

use super::Judged;
use crate::error::LineError;
use crate::verdict::shorten;
use crate::{Judgement, NoModels, Problem, Rewards, Sample, Unsettled};
use koan_data::exact;
use koan_files::jsonl;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

type Fields = BTreeMap<String, Box<RawValue>>;

/// Fields of a line that are not fields of its problem, and may be long.
const RESERVED_FIELDS: [&str; 14] = [
    "answer",
    "completion",
    "completions",
    "reward",
    "rewards",
    "prompt",
    "messages",
    "meta",
    "prompt_ids",
    "completion_ids",
    "token_ids",
    "token_texts",
    "logprobs",
    "verifier",
];

/// Judges all completions of a line.
pub(super) fn judge(number: usize, line: &[u8], rewards: &Rewards) -> Result<Vec<Judged>, LineError> {
    let mut fields: Fields = jsonl::parse(line)?;
    let problem = problem(number, &fields)?;
    let found = rewards.find(&problem, None).map_err(|error| LineError::Verifier(Box::new(error)))?;
    if !fields.contains_key("answer")
        && let Ok(Some(reason)) = rewards.check(&problem)
    {
        let needs_answer =
            found.first().is_none_or(|reward| !reward.reads_tests()) && !fields.contains_key("tests");
        return Err(if needs_answer {
            LineError::Missing { field: "answer" }
        } else {
            LineError::Reference(reason)
        });
    }
    let completions = match (present(&fields, "completion"), present(&fields, "completions")) {
        (Some(raw), None) => vec![Attempt {
            text: text(raw, "completion", "a string")?,
            completion_tokens: value(&fields, "completion_tokens", "a whole number")?,
            token_ids: length(&fields, "token_ids")?.or(length(&fields, "completion_ids")?),
            finish_reason: string(&fields, "finish_reason")?,
        }],
        (None, Some(_)) => {
            let completions = value(&fields, "completions", "a list of objects with `text`")?;
            fields.retain(|name, _| !["completions", "prompt_ids"].contains(&name.as_str()));
            completions.unwrap_or_default()
        }
        (Some(_), Some(_)) => return Err(LineError::TwoCompletions),
        (None, None) => return Err(LineError::Missing { field: "completion" }),
    };
    let is_list = !fields.contains_key("completion");
    let expected = value(&fields, "expected", "true or false")?;
    // A line of rollouts has the step that it was sampled in.
    let step = if fields.contains_key("rewards") {
        value(&fields, "step", "a whole number").ok().flatten()
    } else {
        None
    };
    let samples = completions.iter().map(|completion| Sample {
        problem: &problem,
        completion: &completion.text,
        tokens: completion.tokens(),
        truncated: completion.finish_reason.as_deref().map(|reason| reason == "length"),
        answered: None,
        step,
    });
    let mut judged: Vec<(Sample, Judgement, Duration)> = samples
        .map(|sample| {
            let start = Instant::now();
            let judgement = rewards.judge(&sample);
            (sample, judgement, start.elapsed())
        })
        .collect();
    if rewards.asks_models() {
        let start = Instant::now();
        let mut unsettled: Vec<Unsettled> = judged
            .iter_mut()
            .map(|(sample, judgement, _)| Unsettled { sample: *sample, group: 0, judgement })
            .collect();
        rewards
            .settle(&NoModels, &mut unsettled, false)
            .map_err(|error| LineError::Models(error.to_string()))?;
        for (_, _, took) in &mut judged {
            *took += start.elapsed();
        }
    }
    let judged: Vec<(Judgement, Duration)> =
        judged.into_iter().map(|(_, judgement, took)| (judgement, took)).collect();
    let write = |((i, completion), (judgement, took)): ((usize, Attempt), (Judgement, Duration))| {
        let sample = is_list.then_some(i);
        let json = write(&fields, sample, &completion, &judgement).map_err(jsonl::LineError::from)?;
        let (problem, completion) = (problem.clone(), completion.text);
        Ok(Judged { line: number, sample, problem, completion, judgement, expected, json, took })
    };
    completions.into_iter().enumerate().zip(judged).map(write).collect()
}

/// A completion of a line.
#[derive(Deserialize)]
struct Attempt {
    text: String,
    completion_tokens: Option<usize>,
    /// How many there are.
    #[serde(default, deserialize_with = "count")]
    token_ids: Option<usize>,
    finish_reason: Option<String>,
}

impl Attempt {
    fn tokens(&self) -> Option<usize> {
        self.completion_tokens.or(self.token_ids)
    }
}

fn count<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    Ok(Option::<Vec<u32>>::deserialize(deserializer)?.map(|ids| ids.len()))
}

/// The problem of line `number`.
fn problem(number: usize, fields: &Fields) -> Result<Problem, LineError> {
    let answer = match fields.get("answer") {
        None => String::new(),
        Some(raw) => text_or_number(raw, "answer")?,
    };
    let id = present(fields, "id").map_or(Ok(format!("line-{number}")), |raw| text_or_number(raw, "id"))?;
    // In rollouts, `reward` is the sum of rewards, and `verifier` the problem's own reward.
    let reward = match present(fields, "reward").filter(|raw| !is_number(raw)) {
        Some(raw) => match serde_json::from_str::<Vec<String>>(raw.get()) {
            Ok(names) => Some(names.join(",")),
            Err(_) => Some(text(raw, "reward", "a string, or a list of strings")?),
        },
        None => string(fields, "verifier")?,
    };
    let mut problem = Problem { id, answer, reward, ..Problem::default() };
    // A prompt of several messages may have either name.
    for name in ["prompt", "messages"] {
        let Some(raw) = present(fields, name) else { continue };
        match serde_json::from_str(raw.get()) {
            Ok(messages) => problem.messages = Some(messages),
            Err(_) => problem.prompt = Some(text(raw, name, "a string or a list of messages")?),
        }
    }
    problem.meta = value(fields, "meta", "an object")?;
    for (name, raw) in fields {
        if !RESERVED_FIELDS.contains(&name.as_str()) && name != "id" {
            let value = if name == "tests" { exact(raw) } else { jsonl::parse(raw.get().as_bytes())? };
            problem.other.insert(name.clone(), value);
        }
    }
    Ok(problem)
}

/// The line of output.
fn write(
    fields: &Fields,
    sample: Option<usize>,
    completion: &Attempt,
    judgement: &Judgement,
) -> Result<Vec<u8>, serde_json::Error> {
    let first = &judgement.terms[0];
    let mut added = vec![
        ("score", to_raw_value(&judgement.reward)?),
        ("outcome", to_raw_value(&first.outcome)?),
        ("parsed", to_raw_value(&first.parsed)?),
        ("reason", to_raw_value(&first.reason)?),
    ];
    if judgement.terms.len() > 1 {
        added.push(("rewards", to_raw_value(&judgement.terms)?));
    }
    if let Some(sample) = sample {
        added.push(("sample", to_raw_value(&sample)?));
        added.push(("completion", to_raw_value(&completion.text)?));
        added.push(("completion_tokens", to_raw_value(&completion.tokens())?));
        added.push(("finish_reason", to_raw_value(&completion.finish_reason)?));
    }
    let mut line: BTreeMap<&str, &RawValue> =
        fields.iter().map(|(name, raw)| (name.as_str(), &**raw)).collect();
    line.extend(added.iter().map(|(name, raw)| (*name, &**raw)));
    serde_json::to_vec(&line)
}

/// The value of `field`, if it is neither absent nor null.
fn present<'a>(fields: &'a Fields, field: &str) -> Option<&'a RawValue> {
    fields.get(field).map(|raw| &**raw).filter(|raw| raw.get() != "null")
}

fn string(fields: &Fields, field: &'static str) -> Result<Option<String>, LineError> {
    present(fields, field).map(|raw| text(raw, field, "a string")).transpose()
}

fn text(raw: &RawValue, field: &'static str, expected: &'static str) -> Result<String, LineError> {
    serde_json::from_str(raw.get()).map_err(|_| wrong_type(raw, field, expected))
}

/// A string, or a number as it is written.
fn text_or_number(raw: &RawValue, field: &'static str) -> Result<String, LineError> {
    if is_number(raw) { Ok(raw.get().to_owned()) } else { text(raw, field, "a string or a number") }
}

fn is_number(raw: &RawValue) -> bool {
    raw.get().starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

fn value<T: for<'de> Deserialize<'de>>(
    fields: &Fields,
    field: &'static str,
    expected: &'static str,
) -> Result<Option<T>, LineError> {
    let read = |raw: &RawValue| serde_json::from_str(raw.get()).map_err(|_| wrong_type(raw, field, expected));
    present(fields, field).map(read).transpose()
}

/// How long the list in `field` is.
fn length(fields: &Fields, field: &'static str) -> Result<Option<usize>, LineError> {
    Ok(value::<Vec<u32>>(fields, field, "a list of token ids")?.map(|ids| ids.len()))
}

fn wrong_type(raw: &RawValue, field: &'static str, expected: &'static str) -> LineError {
    LineError::Type { field, found: shorten(raw.get()), expected }
}
