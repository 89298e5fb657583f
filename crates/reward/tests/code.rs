//! The verifier `code`, from its name to its verdicts. (What programs may not do is tested in `koan-sandbox`.)
#![cfg(target_os = "linux")]

use koan_reward::code::{Judge, Options};
use koan_reward::{Context, Kind, Outcome, Problem, Sample};
use koan_sandbox::SandboxError;
use serde_json::{Map, Value, json};

#[test]
fn the_verifier_code_is_found_built_and_judges_problems() {
    if let Err(error @ (SandboxError::Refused { .. } | SandboxError::Policy { .. })) =
        Judge::new(&Options::default())
    {
        eprintln!("skipped: {error}");
        return;
    }
    let options = Map::from_iter([("sandboxes".to_owned(), json!(1)), ("time_limit_s".to_owned(), json!(2))]);
    let kind = Kind::by_name("code").expect("in the table");
    let verifier = kind.build(&options, &Context::default()).expect("builds");
    let problem =
        |tests: Value| Problem { other: Map::from_iter([("tests".to_owned(), tests)]), ..Problem::default() };
    let good = problem(json!({"function": "Solution.add", "cases": [
        {"args": [1, 2], "returns": 3}, {"args": [[1.5], []], "returns": [1.5]}, {"args": ["a", "b"], "returns": "ab"}]}));
    assert_eq!(verifier.check(&good), Ok(()));
    let outcome = |problem: &Problem, completion: &str| {
        let verdict = verifier.judge(&Sample::new(problem, completion));
        (verdict.outcome, verdict.reason)
    };
    let class = |body: &str| {
        format!("<think>hm</think>\n```python\nclass Solution:\n  def add(self, a, b): {body}\n```")
    };
    for (completion, expected) in [
        (class("return a + b"), (Outcome::Correct, "passes all 3 tests")),
        (
            class("return b + a"),
            (
                Outcome::Wrong,
                "passes 2 of 3 tests, and fails test 3: returns `\"ba\"`, which is not what is expected",
            ),
        ),
        (
            class("return 3"),
            (
                Outcome::Wrong,
                "passes 1 of 3 tests, and fails test 2: returns `3`, which is not what is expected",
            ),
        ),
        (
            class("pass"),
            (Outcome::Wrong, "fails the first of 3 tests: returns `null`, which is not what is expected"),
        ),
        ("It is 3.".to_owned(), (Outcome::Unparsable, "the completion has no fenced `python` block")),
    ] {
        let (outcome, reason) = outcome(&good, &completion);
        assert_eq!((outcome, reason.as_str()), expected);
    }

    let bad = problem(json!([{"stdin": "1"}]));
    assert!(verifier.check(&bad).expect_err("no stdout").contains("missing field `stdout`"));
    assert_eq!(outcome(&bad, &class("return 1")).0, Outcome::BadReference);

    let options = Map::from_iter([("python".to_owned(), json!("/nowhere/python"))]);
    let error = kind.build(&options, &Context::default()).err().expect("no interpreter");
    assert!(error.contains("cannot use the interpreter `/nowhere/python`: it cannot be run"), "{error}");
    let options = Map::from_iter([("memory_limit_mb".to_owned(), json!(1))]);
    let error = kind.build(&options, &Context::default()).err().expect("too little");
    assert_eq!(error, "`memory_limit_mb` is 1; it must be from 64 to 8192");
}
