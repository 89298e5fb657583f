//! The tests of a problem, read and checked before anything is run.

use super::compare::Data;
use crate::verdict::shorten;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, value::RawValue};

/// The most tests that a problem may have.
pub const MAX_TESTS: usize = 1_000;
/// The longest time limit, in seconds of CPU time.
pub const MAX_TIME_LIMIT_S: f64 = 60.0;
/// The smallest memory limit: the interpreter itself needs some.
pub const MIN_MEMORY_LIMIT_MB: u64 = 64;
/// The largest memory limit.
pub const MAX_MEMORY_LIMIT_MB: u64 = 8_192;

/// How a problem's programs are judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Tests {
    pub(super) cases: Cases,
    /// Overrides [`Options::time_limit_s`](super::Options::time_limit_s).
    pub(super) time_limit_s: Option<f64>,
    /// Overrides [`Options::memory_limit_mb`](super::Options::memory_limit_mb).
    pub(super) memory_limit_mb: Option<u64>,
    /// The tolerance for numbers with a decimal point.
    pub(super) tolerance: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cases {
    /// The whole program, from standard input to standard output.
    Streams(Vec<Streams>),
    /// Calls of one function.
    Calls { function: String, cases: Vec<FunctionCase> },
    /// Statements of Python that use what the program defines.
    Asserts(Asserts),
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asserts {
    #[serde(rename = "asserts")]
    pub(super) statements: Vec<String>,
    /// What is run before each of them.
    #[serde(default, deserialize_with = "lines")]
    pub(super) setup: String,
    /// The function that they call `candidate`.
    #[serde(default, alias = "entry_point")]
    pub(super) function: Option<String>,
}

/// A text, or the list of its lines; null is none.
fn lines<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "`setup` is a string of Python, or a list of such strings")]
    enum Lines {
        Text(String),
        List(Vec<String>),
        Null,
    }
    Ok(match Lines::deserialize(deserializer)? {
        Lines::Text(text) => text,
        Lines::List(lines) => lines.join("\n"),
        Lines::Null => String::new(),
    })
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Streams {
    #[serde(default)]
    pub(super) stdin: String,
    pub(super) stdout: String,
}

#[derive(Clone, Debug)]
pub(super) struct FunctionCase {
    /// A JSON array, with all digits of its numbers.
    pub(super) args: Box<RawValue>,
    pub(super) returns: Data,
}

impl PartialEq for FunctionCase {
    fn eq(&self, other: &Self) -> bool {
        self.args.get() == other.args.get() && self.returns == other.returns
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCalls {
    function: String,
    cases: Vec<RawCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    args: Box<RawValue>,
    returns: Box<RawValue>,
}

impl Tests {
    /// Reads the fields `tests`, `time_limit_s`, `memory_limit_mb` and `tolerance` of a problem; others are
    /// ignored.
    ///
    /// `tests` is an array of `{stdin, stdout}`, or `{function, cases: [{args, returns}]}`, or `{asserts: [...], setup}`,
    /// or a string that holds one of these as JSON.
    ///
    /// # Errors
    /// What is wrong with the tests, in a sentence for the author of the data: they are a bad reference.
    pub fn parse(problem: &Map<String, Value>) -> Result<Self, String> {
        let tests = problem.get("tests").ok_or("the problem has no `tests`")?;
        let cases = match tests {
            Value::String(json) => Cases::parse(json),
            other => match rounded(other, 0) {
                None => Cases::parse(&other.to_string()),
                Some(number) => Err(format!(
                    "the integer {number} is too long to be kept exactly; write `tests` as a string that holds JSON"
                )),
            },
        };
        let number = |name: &str, range: &str, is_good: fn(f64) -> bool| match problem.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64().filter(|&value| is_good(value)) {
                Some(number) => Ok(Some(number)),
                None => Err(format!("`{name}` is {}; it must be {range}", shorten(&value.to_string()))),
            },
        };
        let seconds = format!("above 0 and at most {MAX_TIME_LIMIT_S}");
        let megabytes = format!("an integer from {MIN_MEMORY_LIMIT_MB} to {MAX_MEMORY_LIMIT_MB}");
        let tests = Self {
            cases: cases.map_err(|reason| format!("`tests`: {reason}"))?,
            time_limit_s: number("time_limit_s", &seconds, is_time_limit)?,
            memory_limit_mb: number("memory_limit_mb", &megabytes, |mb| {
                mb.fract() == 0.0 && is_memory_limit(mb as u64)
            })?
            .map(|mb| mb as u64),
            tolerance: number("tolerance", "above 0 and below 1", |tolerance| {
                tolerance > 0.0 && tolerance < 1.0
            })?,
        };
        match &tests.cases {
            Cases::Streams(cases) if cases.iter().all(|case| case.stdout.trim().is_empty()) => {
                Err("`tests`: every `stdout` is empty, so an empty program would pass".to_owned())
            }
            _ => Ok(tests),
        }
    }

    /// What is wrong where a test expects more than `max` bytes, the most that a program may print or return.
    pub(super) fn too_long(&self, max: u64) -> Result<(), String> {
        let n_bytes: Vec<usize> = match &self.cases {
            Cases::Streams(cases) => cases.iter().map(|case| printed_bytes(&case.stdout)).collect(),
            Cases::Calls { cases, .. } => cases.iter().map(|case| case.returns.n_bytes()).collect(),
            Cases::Asserts(_) => Vec::new(),
        };
        match n_bytes.iter().position(|&n_bytes| n_bytes as u64 > max) {
            None => Ok(()),
            Some(i) => Err(format!(
                "`tests`: test {} expects {} bytes, and a program may write at most {max}; raise `output_limit_bytes` of the reward",
                i + 1,
                n_bytes[i]
            )),
        }
    }

    /// How many tests there are.
    pub fn n_tests(&self) -> usize {
        match &self.cases {
            Cases::Streams(cases) => cases.len(),
            Cases::Calls { cases, .. } => cases.len(),
            Cases::Asserts(asserts) => asserts.statements.len(),
        }
    }
}

/// The length of the shortest text that is printed where `expected` is: without white space at the ends of lines.
fn printed_bytes(expected: &str) -> usize {
    expected.trim_end().split('\n').map(|line| line.trim_end().len() + 1).sum::<usize>() - 1
}

/// Whether a time limit is in range.
pub(super) fn is_time_limit(seconds: f64) -> bool {
    seconds > 0.0 && seconds <= MAX_TIME_LIMIT_S
}

/// Whether a memory limit is in range.
pub(super) fn is_memory_limit(mb: u64) -> bool {
    (MIN_MEMORY_LIMIT_MB..=MAX_MEMORY_LIMIT_MB).contains(&mb)
}

impl Cases {
    fn parse(json: &str) -> Result<Self, String> {
        let words = |error: serde_json::Error| error.to_string();
        let cases = match json.trim_start().as_bytes().first() {
            Some(b'[') => Self::Streams(serde_json::from_str(json).map_err(words)?),
            Some(b'{') if has_asserts(json) => {
                let asserts: Asserts = serde_json::from_str(json).map_err(words)?;
                if let Some(function) =
                    asserts.function.as_ref().filter(|function| !is_function_name(function))
                {
                    return Err(format!(
                        "`function` is `{}`; write a name, or `Class.method`",
                        shorten(function)
                    ));
                }
                if let Some(i) = asserts.statements.iter().position(|assert| assert.trim().is_empty()) {
                    return Err(format!("assert {} is empty", i + 1));
                }
                Self::Asserts(asserts)
            }
            Some(b'{') => {
                let RawCalls { function, cases } = serde_json::from_str(json).map_err(words)?;
                if !is_function_name(&function) {
                    let name = shorten(&function);
                    return Err(format!("`function` is `{name}`; write a name, or `Class.method`"));
                }
                let cases = cases.into_iter().enumerate().map(|(i, case)| case.read(i + 1));
                Self::Calls { function, cases: cases.collect::<Result<_, _>>()? }
            }
            _ => {
                return Err(
                    "write an array of {stdin, stdout}, or {function, cases: [{args, returns}]}, or {asserts: [...], setup}"
                        .to_owned()
                );
            }
        };
        let n_cases = match &cases {
            Self::Streams(cases) => cases.len(),
            Self::Calls { cases, .. } => cases.len(),
            Self::Asserts(asserts) => asserts.statements.len(),
        };
        match n_cases {
            0 => Err("there is no test".to_owned()),
            1..=MAX_TESTS => Ok(cases),
            _ => Err(format!("there are {n_cases} tests; the most is {MAX_TESTS}")),
        }
    }
}

/// Whether `json`, an object, is of the third form.
fn has_asserts(json: &str) -> bool {
    #[derive(Deserialize)]
    struct Form {
        asserts: Option<IgnoredAny>,
    }
    serde_json::from_str::<Form>(json).is_ok_and(|form| form.asserts.is_some())
}

impl RawCase {
    fn read(self, number: usize) -> Result<FunctionCase, String> {
        let case_error = |reason: String| format!("case {number}: {reason}");
        if !matches!(Data::read(&self.args).map_err(case_error)?, Data::List(_)) {
            return Err(format!("case {number}: `args` is {}; write an array", shorten(self.args.get())));
        }
        Ok(FunctionCase { returns: Data::read(&self.returns).map_err(case_error)?, args: self.args })
    }
}

/// An identifier, or two joined by a point. (Python allows more letters; tests need not.)
fn is_function_name(name: &str) -> bool {
    let is_identifier = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    name.splitn(2, '.').all(is_identifier)
}

/// An integer that was too long for 64 bits, and so may have been rounded when the problem was read.
fn rounded(value: &Value, depth: usize) -> Option<String> {
    const MAX_DEPTH: usize = 128;
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    match value {
        Value::Number(number) if number.is_f64() => number
            .as_f64()
            .filter(|number| number.fract() == 0.0 && number.abs() >= TWO_TO_63)
            .map(|n| format!("{n}")),
        Value::Array(items) if depth < MAX_DEPTH => items.iter().find_map(|item| rounded(item, depth + 1)),
        Value::Object(items) if depth < MAX_DEPTH => items.values().find_map(|item| rounded(item, depth + 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Problem;
    use serde_json::json;

    fn parse(problem: Value) -> Result<Tests, String> {
        Tests::parse(problem.as_object().expect("an object"))
    }

    #[test]
    fn both_forms_are_read() {
        let tests =
            parse(json!({"tests": [{"stdin": "1", "stdout": "2"}, {"stdout": "3"}], "time_limit_s": 0.5,
            "memory_limit_mb": 256, "id": 7}))
            .expect("good");
        assert_eq!((tests.n_tests(), tests.time_limit_s, tests.memory_limit_mb), (2, Some(0.5), Some(256)));
        let tests =
            parse(json!({"tests": {"function": "Solution.add", "cases": [{"args": [1, 2], "returns": 3}]},
            "tolerance": 1e-6}))
            .expect("good");
        assert_eq!((tests.n_tests(), tests.tolerance), (1, Some(1e-6)));
    }

    #[test]
    fn tests_in_a_string_keep_long_integers() {
        let json = r#"{"function": "f", "cases": [{"args": [], "returns": 123456789012345678901234567890}]}"#;
        let tests = parse(json!({"tests": json})).expect("good");
        let Cases::Calls { cases, .. } = &tests.cases else { panic!("calls") };
        let raw =
            |text: &str| Data::read(&RawValue::from_string(text.to_owned()).expect("JSON")).expect("plain");
        assert!(raw("123456789012345678901234567890").is(&cases[0].returns, None));
        assert!(!raw("123456789012345678901234567891").is(&cases[0].returns, None));

        // A problem is read with every digit; what was read in another way may have lost some.
        let problem: Problem =
            serde_json::from_str(&format!("{{\"prompt\": \"p\", \"tests\": {json}}}")).expect("a problem");
        assert_eq!(Tests::parse(&problem.other).expect("good").cases, tests.cases);
        let parsed: Value = serde_json::from_str(&format!("{{\"tests\": {json}}}")).expect("JSON");
        let error = parse(parsed).expect_err("rounded");
        assert!(error.contains("too long to be kept exactly"), "{error}");
    }

    #[test]
    fn what_is_longer_than_a_program_may_write_is_found() {
        let too_long = |tests: Value, max| parse(json!({ "tests": tests })).expect("good").too_long(max);
        let streams = json!([{"stdout": "1"}, {"stdout": "12  \n34\n\n"}]);
        assert_eq!(too_long(streams.clone(), 5), Ok(()));
        let error = too_long(streams, 4).expect_err("too long");
        assert!(
            error.starts_with("`tests`: test 2 expects 5 bytes, and a program may write at most 4"),
            "{error}"
        );
        let calls = |returns: Value| json!({"function": "f", "cases": [{"args": [], "returns": returns}]});
        for (returns, written) in [
            (json!([1, 2.5, [], {}]), "[1, 2.5, [], {}]"),
            (json!({"a": null, "b": "x\n"}), r#"{"a": null, "b": "x\n"}"#),
            (json!("é𝄞"), r#""\u00e9\ud834\udd1e""#),
            (json!(true), "true"),
        ] {
            let tests = calls(returns);
            assert_eq!(too_long(tests.clone(), written.len() as u64), Ok(()), "{written}");
            assert!(too_long(tests, written.len() as u64 - 1).is_err(), "{written}");
        }
    }

    #[test]
    fn bad_tests_are_named() {
        for (problem, expected) in [
            (json!({}), "the problem has no `tests`"),
            (json!({"tests": []}), "`tests`: there is no test"),
            (json!({"tests": 3}), "`tests`: write an array of {stdin, stdout}"),
            (json!({"tests": "x"}), "`tests`: write an array of {stdin, stdout}"),
            (json!({"tests": [{"stdin": "1"}]}), "`tests`: missing field `stdout`"),
            (json!({"tests": [{"input": "1", "stdout": ""}]}), "`tests`: unknown field `input`"),
            (json!({"tests": [{"stdin": 1, "stdout": ""}]}), "`tests`: invalid type: integer `1`"),
            (json!({"tests": {"function": "f"}}), "`tests`: missing field `cases`"),
            (json!({"tests": {"function": "f", "cases": []}}), "`tests`: there is no test"),
            (
                json!({"tests": {"function": "f()", "cases": []}}),
                "`tests`: `function` is `f()`; write a name",
            ),
            (json!({"tests": {"function": "", "cases": []}}), "`tests`: `function` is ``; write a name"),
            (
                json!({"tests": {"function": "f", "cases": [{"args": {}, "returns": 1}]}}),
                "`tests`: case 1: `args` is {}; write an array",
            ),
            (
                json!({"tests": [{"stdout": ""}], "time_limit_s": 0}),
                "`time_limit_s` is 0; it must be above 0",
            ),
            (json!({"tests": [{"stdout": ""}], "time_limit_s": "1"}), "`time_limit_s` is \"1\"; it must be"),
            (
                json!({"tests": [{"stdout": ""}], "memory_limit_mb": 1.5}),
                "`memory_limit_mb` is 1.5; it must be",
            ),
            (
                json!({"tests": [{"stdout": ""}], "memory_limit_mb": 1e9}),
                "`memory_limit_mb` is 1000000000.0; it",
            ),
            (json!({"tests": [{"stdout": ""}], "tolerance": 2}), "`tolerance` is 2; it must be above 0"),
            (
                json!({"tests": [{"stdout": ""}, {"stdin": "1", "stdout": " \n"}]}),
                "`tests`: every `stdout` is empty",
            ),
            (json!({"tests": {"asserts": []}}), "`tests`: there is no test"),
            (json!({"tests": {"asserts": ["assert f(1)", " "]}}), "`tests`: assert 2 is empty"),
            (json!({"tests": {"asserts": "assert f(1)"}}), "`tests`: invalid type: string"),
            (json!({"tests": {"asserts": ["assert f(1)"], "code": ""}}), "`tests`: unknown field `code`"),
            (
                json!({"tests": {"asserts": ["assert f(1)"], "setup": 1}}),
                "`tests`: `setup` is a string of Python",
            ),
            (
                json!({"tests": {"asserts": ["assert f(1)"], "function": "f()"}}),
                "`tests`: `function` is `f()`; write a name",
            ),
        ] {
            let error = parse(problem.clone()).expect_err("bad");
            assert!(error.starts_with(expected), "{problem}: {error}");
        }
        let many = vec![json!({"stdout": ""}); MAX_TESTS + 1];
        assert_eq!(
            parse(json!({"tests": many})),
            Err("`tests`: there are 1001 tests; the most is 1000".to_owned())
        );
    }
}
