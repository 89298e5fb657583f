//! Judging by asserts: statements of Python that call what the program defines and say what must hold of it.
//!
//! They are run apart from the program, in a sandbox of their own (`asserts.py`), where what the program defines is only
//! known by name. Where an assert calls it, that call is carried over as a step; the program's process takes all steps of
//! an assert from its start, and what each gave goes back, as a value of a built-in type. This is repeated until
//! the assert has all that it asks for. So what it expects never enters the program's process, and the program shares no
//! process with the code that compares: all that it can do is to claim what a call returned.
//!
//! An object that is no such value stays with the program, and the assert has only a reference: it can be called, passed
//! back and asked for its parts, and equals nothing else.

use super::Judge;
use super::judge::{Place, bad_end, fails, passes};
use super::problem::Asserts;
use crate::{Outcome, Verdict};
use koan_sandbox::{Call, Entry, Limits, Program, SandboxError, VALUES};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// An assert that asks for further steps after so many rounds is given up.
const MAX_ROUNDS: usize = 64;

/// What a program gave is not read where it is nested deeper.
const MAX_DEPTH: usize = 256;

static RUNNER: LazyLock<String> = LazyLock::new(|| format!("{VALUES}\n{}", include_str!("asserts.py")));

/// What comes of an assert.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Found {
    Passes,
    Fails(String),
    /// Steps for the program, all from its start.
    Needs(Box<RawValue>),
    /// The assert itself is at fault.
    Bad(String),
}

/// What is known of an assert's steps, by their `id`.
type Known = BTreeMap<String, Box<RawValue>>;

/// Why asserts could not be run.
enum Failure {
    /// How they ended.
    Ended(String),
    Lost(SandboxError),
}

impl Judge {
    /// Judges `source` by `asserts`.
    pub(super) fn judge_by_asserts(&self, source: &str, asserts: &Asserts, limits: &Limits) -> Verdict {
        let n = asserts.statements.len();
        let lost = |error: SandboxError| Verdict::new(Outcome::Undecided, source, error.to_string());
        let mut place = self.take();
        let mut known = vec![Known::new(); n];
        for round in 0..MAX_ROUNDS {
            let found = match run(&mut place, asserts, &known, limits) {
                Ok(found) => found,
                Err(Failure::Lost(error)) => return lost(error),
                Err(Failure::Ended(how)) if round == 0 => return bad(&how),
                Err(Failure::Ended(how)) => {
                    return fails(source, 0, n, &format!("what it returns can't be compared: {how}"));
                }
            };
            let mut is_done = true;
            for (i, found) in found.into_iter().enumerate() {
                match found {
                    Found::Bad(reason) => return bad(&named(i, &reason)),
                    Found::Fails(how) if is_done => return fails(source, i, n, &how),
                    // Those before it may still fail: the first that does is named.
                    Found::Fails(_) | Found::Passes => {}
                    Found::Needs(steps) => {
                        is_done = false;
                        let program = Program { source, stdin: b"", entry: Entry::Script(&steps) };
                        let ended = match place.run(&program, limits) {
                            Ok(ended) => ended,
                            Err(error) => return lost(error),
                        };
                        let given = match bad_end(&ended, limits) {
                            Some(how) => Err(how),
                            None => given(&ended.result, &steps, &mut known[i]),
                        };
                        if let Err(how) = given {
                            return fails(source, i, n, &how);
                        }
                    }
                }
            }
            if is_done {
                return passes(source, n);
            }
        }
        let reason = format!("its asserts ask for more after {MAX_ROUNDS} rounds");
        Verdict::new(Outcome::Undecided, source, reason)
    }

    /// Whether every assert can be run, and asks something of the program.
    pub(super) fn check_asserts(&self, asserts: &Asserts, limits: &Limits) -> Result<(), String> {
        let mut place = self.take();
        match run(&mut place, asserts, &vec![Known::new(); asserts.statements.len()], limits) {
            Err(Failure::Ended(how)) => Err(format!("`tests`: the asserts can't be run: {how}")),
            Err(Failure::Lost(_)) => Ok(()), // not theirs
            Ok(found) => match found.into_iter().enumerate().find_map(|(i, found)| match found {
                Found::Bad(reason) => Some(named(i, &reason)),
                _ => None,
            }) {
                Some(reason) => Err(format!("`tests`: {reason}")),
                None => Ok(()),
            },
        }
    }
}

fn named(i: usize, reason: &str) -> String {
    format!("assert {}: {reason}", i + 1)
}

fn bad(reason: &str) -> Verdict {
    Verdict::without_answer(Outcome::BadReference, format!("`tests`: {reason}"))
}

/// Runs all asserts, each with what is known of its steps: a JSON object.
fn run(
    place: &mut Place,
    asserts: &Asserts,
    known: &[Known],
    limits: &Limits,
) -> Result<Vec<Found>, Failure> {
    let args = to_raw_value(&(&asserts.statements, &asserts.setup, &asserts.function));
    let args = args.map_err(|error| Failure::Ended(error.to_string()))?;
    let line = |known: &Known| {
        let json = serde_json::to_string(known).map_err(|error| Failure::Ended(error.to_string()))?;
        // Within a text there is no end of a line, and between values it is white space.
        Ok(json.replace(['\n', '\r'], " "))
    };
    let stdin = known.iter().map(line).collect::<Result<Vec<_>, _>>()?.join("\n");
    let call = Call { function: "judge", args: &args };
    let program = Program { source: &RUNNER, stdin: stdin.as_bytes(), entry: Entry::Call(call) };
    let ended = place.run(&program, limits).map_err(Failure::Lost)?;
    match bad_end(&ended, limits) {
        Some(how) => Err(Failure::Ended(how)),
        None => serde_json::from_slice(&ended.result).map_err(|error| Failure::Ended(error.to_string())),
    }
}

/// Adds to `known` what the program says that `steps` gave. What was given before stays: the assert has used it.
fn given(result: &[u8], steps: &RawValue, known: &mut Known) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Step {
        id: String,
    }
    let no_data = |error: serde_json::Error| format!("returns no plain data ({error})");
    if result.is_empty() {
        return Err("ends before its function returns".to_owned());
    }
    let given: Known = serde_json::from_slice(result).map_err(no_data)?;
    let steps: Vec<Step> = serde_json::from_str(steps.get()).map_err(no_data)?;
    for Step { id } in steps {
        match given.get(&id) {
            Some(raw) if is_deep(raw.get()) => {
                return Err("returns no plain data (nested too deep)".to_owned());
            }
            Some(raw) => _ = known.entry(id).or_insert_with(|| raw.clone()),
            None => return Err("ends before its function returns".to_owned()),
        }
    }
    Ok(())
}

/// Whether `json` is nested more than [`MAX_DEPTH`] deep.
fn is_deep(json: &str) -> bool {
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    json.bytes().any(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_text = !is_text,
            b'[' | b'{' if !is_text => depth += 1,
            b']' | b'}' if !is_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > MAX_DEPTH
    })
}
