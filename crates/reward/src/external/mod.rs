//! The verifier `external`: a program or a server of any kind says what a completion earned.
//!
//! **A request** is one JSON object, with the problem's fields and the completion's:
//!
//! ```json
//! {"id": "7#0000000001", "problem_id": "7", "prompt": "3 + 4?", "answer": "7", "completion": "It is 7.", "completion_tokens": 5, "truncated": false}
//! ```
//!
//! where `id` is of this request alone.
//!
//! **An answer** is a number, the score; `null`, not decided; or an object that has `score`, `outcome`
//! (one of the five names) or both, and may have `reason`, and the request's `id`. A score without an outcome is
//! correct from 1 up and wrong below; an outcome without a score earns what `scores` says.
//!
//! - `command = ["python3", "judge.py"]`: a program is started once for each of `workers`, and reads a line from its
//!   standard input and writes a line to its standard output for each completion. See [`process`].
//! - `url = "http://localhost:8000/judge"`: the object is posted, and the response's body is the answer. See
//!   [`http`].
//!
//! Whatever goes wrong (no answer within `timeout_s`, a program that ends, an answer that is not a score, NaN) makes the
//! verdict undecided, with the reason: the completion is masked, not punished.

pub mod http;
pub mod process;

use crate::verdict::shorten;
use crate::verifier::{Configured, Context, Sample, Verifier};
use crate::{Outcome, Verdict};
use koan_data::Problem;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A longer answer is refused, bytes.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;

/// The longest that an answer may take.
const MAX_TIMEOUT: Duration = Duration::from_secs(86_400);

/// The options of `external`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The program and its arguments; this or `url`.
    pub command: Vec<String>,
    /// The server; this or `command`.
    pub url: Option<String>,
    /// How many completions are judged at once: programs started, or requests in progress.
    pub workers: usize,
    /// How long an answer may take, seconds.
    pub timeout_s: f64,
    /// How many failures in a row it takes until a program is no longer used.
    pub max_failures: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { command: Vec::new(), url: None, workers: 1, timeout_s: 10.0, max_failures: 5 }
    }
}

/// A completion to judge, as it is sent.
struct Request {
    /// No other request has it.
    id: String,
    /// A JSON object on one line.
    line: String,
}

/// A program or a server, asked by several threads.
trait Worker: Send + Sync {
    /// The answer to `request`, or why there is none.
    fn ask(&self, request: &Request) -> Result<String, String>;

    /// How many requests it may be asked at once.
    fn max_open(&self) -> usize {
        1
    }
}

/// Judges by asking a program or a server.
pub struct External {
    workers: Vec<Box<dyn Worker>>,
    /// How many requests each of them is asked now.
    n_open: Mutex<Vec<usize>>,
    returned: Condvar,
    n_requests: AtomicU64,
}

impl Configured for External {
    type Options = Options;

    fn build(options: Options, context: &Context) -> Result<Self, String> {
        if !(1..=1024).contains(&options.workers) {
            return Err(format!("`workers` is {}; write a number from 1 to 1024", options.workers));
        }
        if options.max_failures == 0 {
            return Err("`max_failures` is 0; write at least 1".to_owned());
        }
        let timeout = Duration::try_from_secs_f64(options.timeout_s).ok();
        let timeout = timeout.filter(|timeout| !timeout.is_zero() && *timeout <= MAX_TIMEOUT).ok_or(
            "`timeout_s` is the seconds an answer may take; write a number above 0 and at most 86400, a day",
        )?;
        let workers = match (options.command.as_slice(), &options.url) {
            ([_, ..], None) => process::start(&options, timeout, context)?,
            ([], Some(url)) => http::connect(url, options.workers, timeout)?,
            _ => {
                return Err("write `command`, a program and its arguments, or `url`, and not both".to_owned());
            }
        };
        let n_open = Mutex::new(vec![0; workers.len()]);
        Ok(Self { workers, n_open, returned: Condvar::new(), n_requests: AtomicU64::new(0) })
    }
}

impl Verifier for External {
    fn judge(&self, sample: &Sample) -> Verdict {
        let number = self.n_requests.fetch_add(1, Ordering::Relaxed) + 1;
        let worker = self.take();
        let answer = request(sample, number).and_then(|request| {
            let answer = self.workers[worker].ask(&request)?;
            read(&answer, &request.id)
        });
        self.n_open.lock().unwrap_or_else(PoisonError::into_inner)[worker] -= 1;
        self.returned.notify_all(); // a worker may have learned to take several at once
        match answer {
            Ok(verdict) => verdict,
            Err(reason) => Verdict::without_answer(Outcome::Undecided, reason),
        }
    }

    fn check(&self, _: &Problem) -> Result<(), String> {
        Ok(())
    }
}

impl External {
    /// The worker that is asked least, as soon as there is one that can be asked.
    fn take(&self) -> usize {
        let mut n_open = self.n_open.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let free = (0..n_open.len()).filter(|&i| n_open[i] < self.workers[i].max_open());
            match free.min_by_key(|&i| n_open[i]) {
                Some(worker) => {
                    n_open[worker] += 1;
                    return worker;
                }
                None => n_open = self.returned.wait(n_open).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// The object that asks about `sample`, on one line: request `number`.
fn request(sample: &Sample, number: u64) -> Result<Request, String> {
    let mut fields = match serde_json::to_value(sample.problem) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => Map::new(),
        Err(error) => return Err(format!("the problem can't be written: {error}")),
    };
    // Of one length for all requests of a problem: a run that is resumed, or has other threads, sends lines of the same length.
    let id = format!("{}#{number:010}", sample.problem.id);
    fields.entry("problem_id").or_insert_with(|| sample.problem.id.as_str().into());
    fields.insert("id".to_owned(), id.as_str().into());
    fields.insert("completion".to_owned(), sample.completion.into());
    fields.insert("completion_tokens".to_owned(), sample.tokens.into());
    fields.insert("truncated".to_owned(), sample.truncated.into());
    Ok(Request { id, line: Value::Object(fields).to_string() })
}

/// The verdict that an answer to the request `id` gives, or what is wrong with it.
fn read(answer: &str, id: &str) -> Result<Verdict, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Answer {
        score: Option<f64>,
        outcome: Option<Outcome>,
        reason: Option<String>,
        id: Option<Value>,
    }
    let shown = shorten(answer.trim());
    let wrong = |what: &str| format!("the answer `{shown}` is {what}");
    let answer = match serde_json::from_str::<Value>(answer) {
        Ok(Value::Null) => return Err("not decided, says the answer".to_owned()),
        Ok(Value::Number(score)) => Answer { score: score.as_f64(), outcome: None, reason: None, id: None },
        Ok(object @ Value::Object(_)) => {
            serde_json::from_value(object).map_err(|error| wrong(&error.to_string()))?
        }
        Ok(_) | Err(_) => {
            return Err(wrong("neither a finite number nor an object with `score` or `outcome`"));
        }
    };
    if answer.id.is_some_and(|answered| answered != id) {
        return Err(wrong("for another request"));
    }
    let score = answer.score.map(|score| score as f32);
    if score.is_some_and(|score| !score.is_finite()) {
        return Err(wrong("not a finite number"));
    }
    let reason =
        answer.reason.map_or_else(|| format!("answered {shown}"), |reason| clip(reason, MAX_REASON_BYTES));
    match (score, answer.outcome) {
        (Some(score), None) => Ok(Verdict::graded(score, 1.0, reason)),
        (score, Some(outcome)) => Ok(Verdict { score, ..Verdict::without_answer(outcome, reason) }),
        (None, None) => Err(wrong("without `score` and `outcome`")),
    }
}

/// The longest reason that is kept, bytes.
const MAX_REASON_BYTES: usize = 4096;

/// `text`, cut where it is longer than `max` bytes.
fn clip(mut text: String, max: usize) -> String {
    if text.len() > max {
        let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_answer_is_a_score_an_outcome_or_both() {
        for (answer, score, outcome, reason) in [
            ("1", Some(1.0), Outcome::Correct, "answered 1"),
            (" 0.25\n", Some(0.25), Outcome::Wrong, "answered 0.25"),
            (r#"{"score": -3}"#, Some(-3.0), Outcome::Wrong, r#"answered {"score": -3}"#),
            (r#"{"outcome": "unparsable", "reason": "no answer"}"#, None, Outcome::Unparsable, "no answer"),
            (
                r#"{"score": 0.5, "outcome": "correct", "reason": "half"}"#,
                Some(0.5),
                Outcome::Correct,
                "half",
            ),
            (r#"{"score": 1, "id": "7#1", "reason": "mine"}"#, Some(1.0), Outcome::Correct, "mine"),
            (
                r#"{"outcome": "bad_reference"}"#,
                None,
                Outcome::BadReference,
                r#"answered {"outcome": "bad_reference"}"#,
            ),
        ] {
            let verdict = read(answer, "7#1").expect(answer);
            assert_eq!(
                (verdict.score, verdict.outcome, &*verdict.reason),
                (score, outcome, reason),
                "{answer}"
            );
        }
        let long = read(&format!(r#"{{"score": 1, "reason": "{}"}}"#, "é".repeat(5000)), "7#1").expect("cut");
        assert_eq!(long.reason.len(), MAX_REASON_BYTES + '…'.len_utf8());
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for (answer, reason) in [
            ("NaN", "the answer `NaN` is neither a finite number nor an object"),
            ("", "the answer `` is neither"),
            ("1e999", "the answer `1e999` is neither"),
            ("1e300", "the answer `1e300` is not a finite number"),
            ("\"1\"", "is neither"),
            ("[1]", "is neither"),
            ("1 2", "is neither"),
            ("null", "not decided"),
            ("{}", "is without `score` and `outcome`"),
            (r#"{"score": NaN}"#, "is neither"),
            (r#"{"scroe": 1}"#, "unknown field `scroe`"),
            (r#"{"score": 1, "id": "7#2"}"#, "is for another request"),
            (r#"{"outcome": "right"}"#, "unknown variant `right`"),
        ] {
            let error = read(answer, "7#1").expect_err(answer);
            assert!(error.contains(reason), "{answer}: {error}");
        }
    }

    #[test]
    fn a_request_is_the_problem_and_the_completion_on_a_line() {
        let problem = r#"{"id": "7", "prompt": "3 + 4?", "answer": "7", "meta": {"level": 1}, "tests": []}"#;
        let problem: Problem = serde_json::from_str(problem).expect("a problem");
        let sample = Sample { tokens: Some(5), truncated: Some(false), ..Sample::new(&problem, "It is\n7.") };
        let Request { id, line } = request(&sample, 3).expect("written");
        assert_eq!(id, "7#0000000003");
        assert!(!line.contains('\n'));
        let expected = serde_json::json!({"id": "7#0000000003", "problem_id": "7", "prompt": "3 + 4?", "answer": "7", "meta": {"level": 1},
            "tests": [], "completion": "It is\n7.", "completion_tokens": 5, "truncated": false});
        assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON"), expected);
    }

    #[test]
    fn options_are_checked() {
        let command = || vec!["true".to_owned()];
        for (options, expected) in [
            (Options::default(), "write `command`"),
            (
                Options { command: command(), url: Some("http://localhost".into()), ..Options::default() },
                "not both",
            ),
            (Options { command: command(), workers: 0, ..Options::default() }, "`workers` is 0"),
            (Options { command: command(), max_failures: 0, ..Options::default() }, "`max_failures` is 0"),
            (Options { command: command(), timeout_s: 0.0, ..Options::default() }, "above 0"),
            (Options { command: command(), timeout_s: f64::NAN, ..Options::default() }, "above 0"),
        ] {
            let error = External::build(options, &Context::default()).err().expect("refused");
            assert!(error.contains(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn reading_an_answer_is_total(answer in "(?s).{0,40}|[{}\":,a-z0-9.e-]{0,40}|\\{\"score\": ?[0-9.eE-]{1,9}\\}") {
            if let Ok(verdict) = read(&answer, "7#1") {
                prop_assert!(verdict.score.is_none_or(f32::is_finite));
            }
        }
    }
}
