//! Tests of code problems: the published forms, made Koan's, and how many are kept.
//!
//! | published | becomes |
//! |---|---|
//! | `{inputs, outputs}`, `[{input, output}]`: texts | `[{stdin, stdout}]`; an input that is a list of lines is joined |
//! | the same with `fn_name`: inputs are lists of arguments, outputs values | `{function, cases: [{args, returns}]}` |
//! | LiveCodeBench's functional tests: a JSON value a line | the same |
//! | statements of Python | `{asserts, setup, function}` |

use super::row::Skip;
use crate::split::stable_hash;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Largest tests of a problem that are kept where nothing is said, bytes: a row of Koan has room for them.
pub const MAX_TEST_BYTES: usize = 8 << 20;

/// Most tests of a problem that `code` runs.
pub const MAX_TESTS: usize = 1000;

/// How many tests of a problem are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tests, at most.
    pub tests: usize,
    /// Bytes of all tests of a problem together, at most.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { tests: MAX_TESTS, bytes: MAX_TEST_BYTES }
    }
}

/// The tests of a problem: JSON of the input and of what is expected, each.
#[derive(Debug)]
pub(super) enum Cases {
    Streams(Vec<(String, String)>),
    Calls { function: String, cases: Vec<(Vec<Box<RawValue>>, Box<RawValue>)> },
    Asserts { asserts: Vec<String>, setup: String, function: Option<String> },
}

/// Tests as one object of lists.
#[derive(Deserialize)]
struct Lists {
    inputs: Vec<Box<RawValue>>,
    outputs: Vec<Box<RawValue>>,
    #[serde(default)]
    fn_name: Option<String>,
}

/// A test as an object.
#[derive(Deserialize)]
struct Pair {
    input: Box<RawValue>,
    output: Box<RawValue>,
    #[serde(default, alias = "type")]
    testtype: Option<String>,
    #[serde(default)]
    fn_name: Option<String>,
}

impl Cases {
    /// The tests in `json`: an object of lists, or a list of objects; `function` is called if they name none and are of calls.
    pub(super) fn read(json: &RawValue, function: Option<&str>) -> Result<Self, Skip> {
        let wrong = |error: serde_json::Error| format!("tests of another form ({error})");
        if json.get().starts_with('[') {
            let pairs: Vec<Pair> = serde_json::from_str(json.get()).map_err(wrong)?;
            let named = pairs.iter().find_map(|pair| pair.fn_name.clone());
            let is_call = |pair: &Pair| {
                matches!(pair.testtype.as_deref(), Some("functional" | "function_call" | "function"))
            };
            if !pairs.iter().any(is_call) && named.is_none() {
                return Ok(Self::Streams(
                    pairs
                        .iter()
                        .map(|pair| Ok((stream(&pair.input)?, stream(&pair.output)?)))
                        .collect::<Result<_, Skip>>()?,
                ));
            }
            let function =
                named.or(function.map(str::to_owned)).ok_or("tests call a function without a name")?;
            // A text of JSON, a value a line, is LiveCodeBench's.
            let is_text = pairs.iter().any(|pair| pair.output.get().starts_with('"'));
            let cases = pairs.iter().map(|pair| Ok((arguments(&pair.input)?, returned(&pair.output)?)));
            let cases = cases.collect::<Result<_, Skip>>()?;
            return Ok(if is_text { Self::Calls { function, cases } } else { Self::calls(function, cases) });
        }
        let Lists { inputs, outputs, fn_name } = serde_json::from_str(json.get()).map_err(wrong)?;
        if inputs.len() != outputs.len() {
            return Err("as many inputs as outputs are not there".to_owned());
        }
        let pairs = inputs.iter().zip(&outputs);
        match fn_name.filter(|name| !name.is_empty()) {
            Some(function) => {
                let cases = pairs.map(|(input, output)| Ok((arguments(input)?, output.clone())));
                Ok(Self::calls(function, cases.collect::<Result<_, Skip>>()?))
            }
            None => Ok(Self::Streams(
                pairs
                    .map(|(input, output)| Ok((stream(input)?, stream(output)?)))
                    .collect::<Result<_, Skip>>()?,
            )),
        }
    }

    /// Calls of `function`. Where every expected value stands in a list of its own, as in APPS, it is taken out.
    fn calls(function: String, mut cases: Vec<(Vec<Box<RawValue>>, Box<RawValue>)>) -> Self {
        let inner = |raw: &RawValue| {
            let mut list: Vec<Box<RawValue>> = serde_json::from_str(raw.get()).ok()?;
            (list.len() == 1).then(|| list.pop()).flatten()
        };
        if let Some(unwrapped) = cases.iter().map(|(_, returns)| inner(returns)).collect::<Option<Vec<_>>>() {
            cases.iter_mut().zip(unwrapped).for_each(|((_, returns), inner)| *returns = inner);
        }
        Self::Calls { function, cases }
    }

    /// Both, one after the other.
    pub(super) fn and(self, more: Self) -> Result<Self, Skip> {
        match (self, more) {
            (Self::Streams(mut all), Self::Streams(more)) => {
                all.extend(more);
                Ok(Self::Streams(all))
            }
            (Self::Calls { function, mut cases }, Self::Calls { cases: more, .. }) => {
                cases.extend(more);
                Ok(Self::Calls { function, cases })
            }
            (all, Self::Streams(more)) if more.is_empty() => Ok(all),
            (Self::Streams(none), more) if none.is_empty() => Ok(more),
            _ => Err("tests of programs and of functions in one problem".to_owned()),
        }
    }

    /// The tests as Koan has them, within `limits`, and how many were left out. Tests that repeat are left out too; those that
    /// contradict one another make no problem.
    pub(super) fn written(self, limits: Limits) -> Result<(Box<RawValue>, usize), Skip> {
        let words = |error: serde_json::Error| format!("tests that can't be written ({error})");
        let raw = |value: &Value| to_raw_value(value).map_err(words);
        match self {
            Self::Asserts { asserts, setup, function } => {
                let mut tests = json!({"asserts": asserts});
                if !setup.is_empty() {
                    tests["setup"] = setup.into();
                }
                if let Some(function) = function {
                    tests["function"] = function.into();
                }
                if asserts.is_empty() { Err("no tests".to_owned()) } else { Ok((raw(&tests)?, 0)) }
            }
            Self::Streams(streams) => {
                let pairs = streams.into_iter().map(|(stdin, stdout)| {
                    let json = json!({"stdin": stdin, "stdout": stdout}).to_string();
                    (stdin, stdout.trim_end().to_owned(), json)
                });
                let (kept, left_out) = kept(pairs.collect(), limits)?;
                let list = format!("[{}]", kept.join(","));
                Ok((RawValue::from_string(list).map_err(words)?, left_out))
            }
            Self::Calls { function, cases } => {
                let text = |(args, returns): (Vec<Box<RawValue>>, Box<RawValue>)| {
                    let args: Vec<&str> = args.iter().map(|arg| arg.get()).collect();
                    let (args, returns) = (args.join(","), returns.get().to_owned());
                    let json = format!("{{\"args\":[{args}],\"returns\":{returns}}}");
                    (args, returns, json)
                };
                let (kept, left_out) = kept(cases.into_iter().map(text).collect(), limits)?;
                let tests = format!("{{\"function\":{},\"cases\":[{}]}}", json!(function), kept.join(","));
                Ok((RawValue::from_string(tests).map_err(words)?, left_out))
            }
        }
    }
}

/// Of tests (input, output, JSON) those that are kept, and how many are left out for the limits: the smallest half, and of the
/// others a sample that is the same every time.
fn kept(tests: Vec<(String, String, String)>, limits: Limits) -> Result<(Vec<String>, usize), Skip> {
    let mut outputs: HashMap<&str, &str> = HashMap::new();
    let mut different = Vec::new();
    for (i, (input, output, json)) in tests.iter().enumerate() {
        match outputs.insert(input, output) {
            None => different.push((i, json)),
            Some(before) if before == output => {}
            Some(_) => return Err("two tests with one input and two outputs".to_owned()),
        }
    }
    if different.is_empty() {
        return Err("no tests".to_owned());
    }
    let all = different.len();
    let total: usize = different.iter().map(|(_, json)| json.len() + 1).sum();
    if all > limits.tests || total > limits.bytes {
        different.sort_by_key(|(i, json)| (json.len(), *i));
        let smallest = different.len().min(limits.tests).div_ceil(2);
        different[smallest..].sort_by_key(|(i, _)| stable_hash([*i as u64]));
        let mut left = limits.bytes;
        let mut n = 0;
        different.retain(|(_, json)| {
            let fits = n < limits.tests && json.len() < left;
            if fits {
                n += 1;
                left -= json.len() + 1;
            }
            fits
        });
        if different.is_empty() {
            return Err(format!("no test is smaller than {} bytes", limits.bytes));
        }
        different.sort_by_key(|(i, _)| *i);
    }
    let left_out = all - different.len();
    Ok((different.into_iter().map(|(_, json)| json.clone()).collect(), left_out))
}

/// A text, or a list of lines.
fn stream(raw: &RawValue) -> Result<String, Skip> {
    match serde_json::from_str(raw.get()) {
        Ok(Value::String(text)) => Ok(text),
        Ok(Value::Array(lines)) if lines.iter().all(Value::is_string) => {
            Ok(lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n"))
        }
        _ => Err("the input or output of a program is no text".to_owned()),
    }
}

/// The arguments of a call: a list of them, or a text with a JSON value a line.
fn arguments(raw: &RawValue) -> Result<Vec<Box<RawValue>>, Skip> {
    let wrong = || "the arguments of a call are no list".to_owned();
    if raw.get().starts_with('"') {
        let text: String = serde_json::from_str(raw.get()).map_err(|_| wrong())?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        return lines.map(|line| serde_json::from_str(line).map_err(|_| wrong())).collect();
    }
    serde_json::from_str(raw.get()).map_err(|_| wrong())
}

/// What a call returns: a value, or a text of its JSON.
fn returned(raw: &RawValue) -> Result<Box<RawValue>, Skip> {
    if raw.get().starts_with('"') {
        let text: String = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
        return serde_json::from_str(&text).map_err(|_| "what a call returns is no JSON".to_owned());
    }
    Ok(raw.to_owned())
}
