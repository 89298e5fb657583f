//! The verifier `ifeval`: a reply keeps the constraint that its prompt states, as in IFEval (arXiv:2311.07911), with the
//! functions and arguments of Tülu 3's RLVR-IFeval (arXiv:2411.15124).
//!
//! The reference is JSON, as text in `answer`, or as text or an object in `ground_truth`:
//! `{"func_name": "validate_word_constraint", "N": 50, "quantifier": "at least"}`. Arguments that are null are absent. A list of
//! constraints asks for all of them.
//!
//! **What is judged** is the reply: what follows the last `</think>` (the whole text if there is none; nothing after a
//! `<think>` that is not closed again), without the tags `<answer>` and `</answer>` and white space around it. A completion
//! without a reply is unparsable: it would keep constraints such as `validate_no_commas`.
//!
//! [`constraint`] has the table of functions; those of one kind are in one file.

mod arguments;
mod capitals;
pub mod constraint;
mod content;
mod ends;
mod format;
mod json;
mod keywords;
mod language;
mod length;
mod paragraphs;
mod repeated;
mod sections;

use crate::extract::after_thinking;
use crate::verdict::shorten;
use crate::verifier::{Configured, Context, Sample, Verifier};
use crate::{Outcome, Verdict};
use constraint::Constraint;
use koan_data::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most constraints of one problem.
pub const MAX_CONSTRAINTS: usize = 64;

/// Judges whether replies keep the constraints of their problem.
#[derive(Clone, Copy, Debug)]
pub struct IfEval;

/// `ifeval` has no options.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Options {}

impl Configured for IfEval {
    type Options = Options;

    fn build(_: Options, _: &Context) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Verifier for IfEval {
    fn judge(&self, sample: &Sample) -> Verdict {
        match constraints(sample.problem) {
            Ok(constraints) => judge(sample.completion, &constraints),
            Err(reason) => Verdict::without_answer(Outcome::BadReference, reason),
        }
    }

    fn check(&self, problem: &Problem) -> Result<(), String> {
        constraints(problem).map(|_| ())
    }
}

/// Judges the reply in `completion`: correct if it keeps all constraints.
fn judge(completion: &str, constraints: &[Constraint]) -> Verdict {
    let reply = after_thinking(completion).replace("<answer>", "").replace("</answer>", "");
    let reply = reply.trim();
    if reply.is_empty() {
        return Verdict::without_answer(Outcome::Unparsable, "the completion has no reply");
    }
    let mut kept = Vec::new();
    for constraint in constraints {
        match constraint.check(reply) {
            Ok(finding) => kept.push(finding),
            Err(finding) => return Verdict::new(Outcome::Wrong, reply, finding),
        }
    }
    Verdict::new(Outcome::Correct, reply, kept.join("; "))
}

/// The constraints of a problem, or what is wrong with its reference.
fn constraints(problem: &Problem) -> Result<Vec<Constraint>, String> {
    let reference = match problem.other.get("ground_truth") {
        Some(value) if problem.answer.is_empty() => value.clone(),
        _ if problem.answer.is_empty() => return Err("the problem has no constraint in `answer`".to_owned()),
        _ => Value::String(problem.answer.clone()),
    };
    let constraints = read(reference, 2)?;
    if constraints.is_empty() {
        return Err("the reference is an empty list of constraints".to_owned());
    }
    Ok(constraints)
}

/// Reads an object, a list of them, or either as JSON in a text, which may be within a list: `depth` levels of text.
fn read(reference: Value, depth: usize) -> Result<Vec<Constraint>, String> {
    match reference {
        Value::Object(arguments) => Ok(vec![Constraint::read(arguments)?]),
        Value::Array(all) if all.len() > MAX_CONSTRAINTS => {
            Err(format!("the reference has {} constraints; at most {MAX_CONSTRAINTS} are read", all.len()))
        }
        Value::Array(all) if depth > 0 => {
            let each = all.into_iter().map(|one| read(one, depth - 1));
            Ok(each.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        }
        Value::String(text) if depth > 0 => match serde_json::from_str(&text) {
            Ok(value) => read(value, depth - 1),
            Err(error) => Err(format!("the reference `{}` is not JSON: {error}", shorten(&text))),
        },
        other => Err(format!("the reference `{}` is not a constraint", shorten(&other.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn verdict(reference: &str, completion: &str) -> Verdict {
        let problem = Problem { answer: reference.to_owned(), ..Problem::default() };
        IfEval.judge(&Sample::new(&problem, completion))
    }

    const NO_COMMAS: &str = r#"{"func_name": "validate_no_commas", "N": null, "quantifier": null}"#;

    #[test]
    fn the_reply_is_judged_and_not_the_thinking() {
        for (completion, outcome) in [
            ("Hello there", Outcome::Correct),
            ("Hello, there", Outcome::Wrong),
            ("<think>one, two</think>Hello there", Outcome::Correct),
            ("one, two</think>\n<answer>\nHello there\n</answer>", Outcome::Correct),
            ("<think>one</think><answer>Hello, there</answer>", Outcome::Wrong),
            ("", Outcome::Unparsable),
            ("<think>one two", Outcome::Unparsable),
            ("<think>one</think> <answer> </answer>\n", Outcome::Unparsable),
        ] {
            assert_eq!(verdict(NO_COMMAS, completion).outcome, outcome, "{completion}");
        }
        let shown = verdict(NO_COMMAS, "<think>a</think> Hi, Bo ");
        assert_eq!(shown.parsed.as_deref(), Some("Hi, Bo"));
    }

    #[test]
    fn a_reference_is_text_or_an_object_or_a_list() {
        let object = json!({"func_name": "verify_bullet_points", "N": 1});
        let problem = |field: &str, value: Value| {
            serde_json::from_value::<Problem>(json!({"prompt": "p", field: value})).expect("a problem")
        };
        for problem in [
            problem("answer", object.to_string().into()),
            problem("ground_truth", object.to_string().into()),
            problem("ground_truth", object.clone()),
            problem("ground_truth", json!([object])),
            problem("ground_truth", json!([object.to_string()])),
            problem("answer", json!([object]).to_string().into()),
        ] {
            assert_eq!(IfEval.check(&problem), Ok(()));
            assert_eq!(IfEval.judge(&Sample::new(&problem, "* one")).outcome, Outcome::Correct);
            assert_eq!(IfEval.judge(&Sample::new(&problem, "one")).outcome, Outcome::Wrong);
        }
    }

    #[test]
    fn of_several_constraints_all_must_be_kept() {
        let both = r#"[{"func_name": "validate_no_commas"}, {"func_name": "validate_lowercase"}]"#;
        let correct = verdict(both, "all fine");
        assert_eq!(correct.outcome, Outcome::Correct);
        assert_eq!(correct.reason, "there is no comma; no letter is a capital");
        assert_eq!(verdict(both, "all, fine").outcome, Outcome::Wrong);
        assert_eq!(verdict(both, "All fine").outcome, Outcome::Wrong);
    }

    #[test]
    fn a_reference_that_is_no_constraint_is_bad() {
        for (reference, reason) in [
            ("", "the problem has no constraint in `answer`"),
            ("7", "the reference `7` is not a constraint"),
            ("seven", "the reference `seven` is not JSON: expected"),
            ("[]", "the reference is an empty list of constraints"),
            ("{}", "the constraint has no `func_name`"),
            (r#"{"func_name": 7}"#, "`func_name` is 7; write a text"),
            (
                r#"{"func_name": "verify_keyword"}"#,
                "there is no constraint `verify_keyword`; use one of: verify_keywords, ",
            ),
            (
                r#"[{"instruction_id": ["keywords:existence"], "kwargs": [null]}]"#,
                "the constraint has `instruction_id`",
            ),
            (r#"{"func_name": "verify_bullet_points"}"#, "`verify_bullet_points` needs `N`, a whole number"),
            (
                r#"{"func_name": "verify_bullet_points", "N": null}"#,
                "`verify_bullet_points` needs `N`, a whole number",
            ),
            (
                r#"{"func_name": "verify_bullet_points", "N": "2"}"#,
                "`N` of `verify_bullet_points` is \"2\"; write a whole number",
            ),
            (
                r#"{"func_name": "verify_bullet_points", "N": 2, "word": "a"}"#,
                "`verify_bullet_points` has no argument `word`",
            ),
        ] {
            let verdict = verdict(reference, "* a");
            assert_eq!(verdict.outcome, Outcome::BadReference, "{reference}");
            assert!(verdict.reason.starts_with(reason), "{reference}: {}", verdict.reason);
        }
        let many = format!("[{}]", vec![NO_COMMAS; 65].join(","));
        assert_eq!(verdict(&many, "a").outcome, Outcome::BadReference);
        let deep = format!("{}{NO_COMMAS}{}", "[".repeat(90), "]".repeat(90));
        assert_eq!(verdict(&deep, "a").outcome, Outcome::BadReference);
    }

    proptest! {
        #[test]
        fn is_total(
            text in "(?s).{0,40}|([a-zA-Z.!?*\"\\[\\]<>{}, \n-]|\\* \\* \\*|\\*\\*\\*\\*\\*\\*|Section 1|é|ß|İ|，){0,60}",
            n in -3_i64..5,
            name in 0_usize..constraint::ALL.len(),
        ) {
            let all = json!({
                "N": n, "i": 1, "word": "a", "letter": "a", "keyword_list": ["a", "İ"], "forbidden_words": ["b"],
                "quantifier": "around", "first_word": "a", "postscript_marker": "P.S.", "options": ["a", "ab"],
                "section_splitter": "Section", "end_phrase": "a", "original_prompt": "a", "language": "en",
            });
            let row = &constraint::ALL[name];
            let mut reference = serde_json::Map::from_iter([("func_name".to_owned(), Value::from(row.name))]);
            reference.extend(row.arguments.iter().map(|name| ((*name).to_owned(), all[*name].clone())));
            let answer = Value::Object(reference).to_string();
            _ = verdict(&answer, &text);
            _ = verdict(&text, &text);
        }
    }

    #[test]
    fn long_replies_take_one_pass() {
        let all = r#"{"N": 3, "i": 2, "word": "a a", "letter": "a", "keyword_list": ["a"], "forbidden_words": ["b"],
            "quantifier": "around", "first_word": "a", "postscript_marker": "P.S.", "options": ["a", "ab"],
            "section_splitter": "S", "end_phrase": "a", "original_prompt": "a", "language": "en"}"#;
        let all: Value = serde_json::from_str(all).expect("JSON");
        for text in
            ["*a", "[", "<<", "a ", "* * *", "\n\n", "S1", "{\"a\":[", "\"", "A. ", "*", "a\n", "P.S."]
        {
            let text = text.repeat(100_000);
            for row in constraint::ALL {
                let mut reference = serde_json::Map::from_iter([("func_name".to_owned(), row.name.into())]);
                reference.extend(row.arguments.iter().map(|name| ((*name).to_owned(), all[*name].clone())));
                _ = verdict(&Value::Object(reference).to_string(), &text); // quadratic would take minutes
            }
        }
    }
}
