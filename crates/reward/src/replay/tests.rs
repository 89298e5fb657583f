use super::*;
use crate::error::LineError;
use crate::{Context, Outcome, RewardConfig};
use koan_data::rows::Rows;
use serde_json::{Value, json};
use std::io;

static GO: AtomicBool = AtomicBool::new(false);

fn rewards(kinds: &[&str]) -> Rewards {
    let configs: Vec<RewardConfig> = kinds.iter().map(|kind| RewardConfig::new(kind)).collect();
    Rewards::build(&configs, Context { max_new_tokens: Some(10), ..Context::default() }).expect("builds")
}

fn of(text: Box<dyn io::BufRead + Send>) -> Rows {
    Rows::of_text("in.jsonl".as_ref(), text, MAX_LINE_BYTES).expect("readable")
}

fn rows(text: &str) -> Rows {
    of(Box::new(io::Cursor::new(text.to_owned())))
}

/// The report of a replay, its lines of output, and what is wrong with bad lines.
fn replay(
    input: &str,
    rewards: &Rewards,
    threads: usize,
    keep_going: bool,
) -> Result<(Report, Vec<Value>, Vec<String>), RewardError> {
    let (mut lines, mut bad) = (Vec::new(), Vec::new());
    let replay = Replay { file: "in.jsonl", rewards, threads, keep_going, stop: &GO };
    let report = replay.run(rows(input), |event| {
        match event {
            Event::Judged(judged) => lines.push(serde_json::from_slice(&judged.json).expect("JSON")),
            Event::Bad(error) => bad.push(error.to_string()),
        }
        Ok(())
    })?;
    Ok((report, lines, bad))
}

fn run(input: &str) -> Result<(Report, Vec<Value>), RewardError> {
    replay(input, &rewards(&["number"]), 1, false).map(|(report, lines, _)| (report, lines))
}

#[test]
fn adds_a_verdict_and_keeps_the_rest() {
    let (report, lines) = run(concat!(
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
    let outcomes = "3 judged: 2 correct, 0 wrong, 0 unparsable, 0 undecided, 1 bad_reference";
    assert_eq!(report.outcomes.to_string(), outcomes);
    assert_eq!(report.score, Some(1.0), "of the two that have one");
    assert_eq!(
        report.bad_references,
        [("line-3".to_owned(), "the reference `x` is not a number".to_owned())]
    );
    assert!(report.max_us > 0.0 && report.median_us > 0.0 && report.agreement.is_none());
    assert_eq!(serde_json::to_value(&report).expect("written")["outcomes"]["correct"], 2);
}

#[test]
fn numbers_keep_their_digits() {
    let answer = "123456789012345678901234567890.10";
    let (_, lines) = run(&format!(r#"{{"answer": {answer}, "completion": "{answer}"}}"#)).expect("good");
    assert_eq!(lines[0]["outcome"], "correct");
}

#[test]
fn the_order_is_that_of_the_file_whatever_the_threads() {
    let line = |i: usize| format!("{{\"answer\": {}, \"completion\": \"{i}\", \"i\": {i}}}\n", i - i % 3);
    let input: String = (0..5000).map(line).collect();
    let [one, many] =
        [1, 3].map(|threads| replay(&input, &rewards(&["number"]), threads, false).expect("good"));
    assert_eq!(one.1, many.1);
    assert!(one.1.iter().enumerate().all(|(i, line)| line["i"] == i));
    assert_eq!((one.0.outcomes.of(Outcome::Correct), many.0.threads), (1667, 3));
}

#[test]
fn reads_what_generate_and_rl_write() {
    let generated = json!({"id": "a", "prompt": "3 + 4?", "answer": "7", "prompt_ids": [1, 2], "completions": [
        {"text": "7", "token_ids": [5, 6, 7, 8, 9], "logprobs": [0, 0, 0, 0, 0], "finish_reason": "stop"},
        {"text": "8", "token_ids": [5, 6, 7, 8, 9, 5, 6, 7, 8, 9], "logprobs": [], "finish_reason": "length"},
    ]});
    let rollout = json!({"step": 3, "id": "b", "sample": 1, "prompt": [{"role": "user", "content": "3 + 4?"}],
        "completion": "7", "answer": "7", "finish_reason": "stop", "completion_tokens": 9, "log_prob_sum": -1.5,
        "rewards": [{"kind": "number"}], "reward": 1.0, "advantage": null});
    let input = format!("{generated}\n{rollout}\n");
    let (report, lines, _) = replay(&input, &rewards(&["number", "length"]), 1, false).expect("good");
    assert_eq!(
        report.outcomes.to_string(),
        "3 judged: 2 correct, 1 wrong, 0 unparsable, 0 undecided, 0 bad_reference"
    );
    let expected = json!({"id": "a", "prompt": "3 + 4?", "answer": "7", "sample": 1, "completion": "8",
        "completion_tokens": 10, "finish_reason": "length", "score": -1.0, "outcome": "wrong", "parsed": "8",
        "reason": "8 is not 7"});
    let mut second = lines[1].clone();
    let terms = second.as_object_mut().expect("an object").remove("rewards").expect("several");
    assert_eq!(second, expected);
    // L_max 10, L_cache 2: free up to 8 tokens.
    assert_eq!(
        (&terms[0]["kind"], &terms[1]["kind"], &terms[1]["score"]),
        (&json!("number"), &json!("length"), &json!(-1.0))
    );
    assert_eq!(
        lines.iter().map(|line| line["score"].as_f64()).collect::<Vec<_>>(),
        [Some(1.0), Some(-1.0), Some(0.5)]
    );
    assert_eq!((&lines[2]["step"], &lines[2]["log_prob_sum"]), (&json!(3), &json!(-1.5)));
}

#[test]
fn verdicts_are_compared_with_what_was_expected() {
    let (report, _) = run(concat!(
        r#"{"id": "ok", "answer": 7, "completion": "7", "expected": true}"#,
        "\n",
        r#"{"id": "accepted", "answer": 7, "completion": "7", "expected": false}"#,
        "\n",
        r#"{"answer": 7, "completions": [{"text": "7"}, {"text": "none"}], "expected": true}"#,
        "\n",
        r#"{"answer": 7, "completion": "7"}"#,
    ))
    .expect("good");
    let agreement = report.agreement.expect("expected");
    assert_eq!((agreement.expected, agreement.agree), (4, 2));
    assert_eq!(
        (agreement.false_accept_ids, agreement.false_reject_ids),
        (vec!["accepted".into()], vec!["line-3/1".into()])
    );
}

const BAD: [(&str, &str); 13] = [
    ("[1]", "in.jsonl:2: not a JSON object (invalid type: sequence, expected a map, column 1)"),
    (r#"{"answer": "1"}"#, "in.jsonl:2: has no `completion`; every line needs"),
    (r#"{"completion": "1"}"#, "in.jsonl:2: has no `answer`; every line needs"),
    (r#"{"answer": [1], "completion": ""}"#, "in.jsonl:2: `answer` is [1]; write a string or a number"),
    (r#"{"answer": "1", "completion": 1}"#, "in.jsonl:2: `completion` is 1; write a string"),
    (r#"{"answer": "1", "completion": "1", "completions": []}"#, "in.jsonl:2: has both `completion` and"),
    (
        r#"{"answer": "1", "completions": ["1"]}"#,
        "in.jsonl:2: `completions` is [\"1\"]; write a list of objects",
    ),
    (
        r#"{"answer": "1", "completion": "1", "expected": "yes"}"#,
        "in.jsonl:2: `expected` is \"yes\"; write true or",
    ),
    (r#"{"answer": "1", "completion": "1", "reward": true}"#, "in.jsonl:2: `reward` is true; write a"),
    (
        r#"{"answer": "1", "completion": "1", "reward": "numbr"}"#,
        "in.jsonl:2: `reward`: there is no verifier `numbr`; use one of: number, ",
    ),
    (
        r#"{"answer": "1", "completion": "1", "completion_tokens": -1}"#,
        "in.jsonl:2: `completion_tokens` is -1; write",
    ),
    (
        r#"{"answer": "1", "completion": "1", "prompt": 3}"#,
        "in.jsonl:2: `prompt` is 3; write a string or a list",
    ),
    (r#"{"answer": "1", "completion": "1", "meta": 3}"#, "in.jsonl:2: `meta` is 3; write an object"),
];

#[test]
fn errors_name_the_line_and_the_remedy() {
    let ok = r#"{"answer": "1", "completion": "1"}"#;
    for (line, expected) in BAD {
        let error = run(&format!("{ok}\n{line}\n")).expect_err(line).to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_replay_that_keeps_going_counts_bad_lines_and_judges_the_rest() {
    let ok = r#"{"answer": "1", "completion": "1"}"#;
    let input = BAD.map(|(line, _)| [ok, line, ""].join("\n")).concat();
    let (report, lines, bad) = replay(&input, &rewards(&["number"]), 2, true).expect("goes on");
    assert_eq!((lines.len(), report.bad_lines, bad.len()), (BAD.len(), BAD.len(), BAD.len()));
    assert!(bad[1].starts_with("in.jsonl:4: "), "{}", bad[1]);
}

#[test]
fn a_line_needs_an_answer_only_where_its_reward_does() {
    let line = r#"{"completion": "<think></think><answer>1</answer>", "reward": "format"}"#;
    assert_eq!(run(line).expect("good").1[0]["score"], 1.0);
}

#[test]
fn an_endless_line_is_refused() {
    let rewards = rewards(&["number"]);
    let replay = Replay { file: "in", rewards: &rewards, threads: 1, keep_going: false, stop: &GO };
    let error = replay.run(of(Box::new(io::BufReader::new(io::repeat(b' ')))), |_| Ok(()));
    assert!(
        matches!(error, Err(RewardError::Line { reason: LineError::TooLong, place }) if place.number == 1)
    );
    let long = format!("{}\n{{\"answer\": 1, \"completion\": \"1\"}}", " ".repeat(MAX_LINE_BYTES + 9));
    let report = Replay { keep_going: true, ..replay }.run(rows(&long), |_| Ok(())).expect("goes on");
    assert_eq!((report.bad_lines, report.outcomes.total()), (1, 1));
}

#[test]
fn a_replay_can_be_stopped_and_its_writer_can_fail() {
    let rewards = rewards(&["number"]);
    let (stop, line) = (AtomicBool::new(true), r#"{"answer": "1", "completion": "1"}"#);
    let replay = Replay { file: "in", rewards: &rewards, threads: 1, keep_going: true, stop: &stop };
    assert!(matches!(replay.run(rows(line), |_| Ok(())), Err(RewardError::Stopped)));
    let replay = Replay { stop: &GO, ..replay };
    let full = |_: Event| Err(io::Error::from(io::ErrorKind::StorageFull));
    assert!(matches!(replay.run(rows(line), full), Err(RewardError::Write { .. })));
}

#[test]
fn a_problem_may_name_several_rewards_and_a_rollout_has_its_step() {
    let early = RewardConfig { until_step: Some(2), ..RewardConfig::new("words") };
    let configs = [RewardConfig::new("number"), early];
    let rewards = Rewards::build(&configs, Context::default()).expect("builds");
    let input = concat!(
        r#"{"answer": 7, "completion": "7", "reward": ["words", "number"]}"#,
        "\n",
        r#"{"answer": 7, "completion": "7", "step": 3, "rewards": [], "reward": 1.0}"#,
        "\n",
        r#"{"answer": 7, "completion": "7", "step": 3}"#,
    );
    let (_, lines, _) = replay(input, &rewards, 1, false).expect("good lines");
    let n = |i: usize| lines[i]["rewards"].as_array().map_or(1, Vec::len);
    assert_eq!(
        (n(0), lines[1].get("rewards").is_none_or(|r| r.as_array().is_some_and(Vec::is_empty)), n(2)),
        (2, true, 2)
    );
}

#[test]
fn a_model_that_is_not_there_is_an_error_of_the_line() {
    let model = RewardConfig::parse("model", &["model=rm".to_owned()]).expect("a config");
    let rewards = Rewards::build(&[model], Context::default()).expect("builds");
    let error = replay(r#"{"answer": 7, "completion": "7"}"#, &rewards, 1, false).expect_err("not loaded");
    assert!(error.to_string().contains("in.jsonl:1: ") && error.to_string().contains("`rm`"), "{error}");
}
