use super::*;
use serde_json::json;
use std::fs;

/// What is made of a file that holds `rows`, and the report.
fn convert_with(
    rows: &[Value],
    change: impl FnOnce(&mut Conversion),
) -> Result<(Vec<Value>, Report), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, out) = (folder.path().join("in.json"), folder.path().join("out.jsonl"));
    fs::write(&path, json!(rows).to_string()).expect("written");
    let mut conversion =
        Conversion { files: path.into(), from: None, mapping: None, limits: Limits::default() };
    change(&mut conversion);
    let report = conversion.run(&out, &mut |_| {}).map_err(|error| error.to_string());
    let report = report.inspect_err(|_| assert!(!out.exists(), "nothing is written after an error"))?;
    let text = fs::read_to_string(&out).expect("written");
    let made: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(made.len(), report.written);
    Ok((made, report))
}

fn convert(rows: &[Value]) -> Result<(Vec<Value>, Report), String> {
    convert_with(rows, |_| {})
}

/// Checks that `row`, alone in a file, is recognised as `shape` and becomes `expected`.
fn check(shape: &str, row: Value, expected: Value) {
    let (made, report) =
        convert(std::slice::from_ref(&row)).unwrap_or_else(|error| panic!("{shape}: {error}"));
    assert_eq!((report.shape, &made[0]), (shape, &expected), "{row}");
}

fn from(shape: &'static str) -> impl FnOnce(&mut Conversion) {
    move |conversion| conversion.from = Some(shape.to_owned())
}

#[test]
fn what_generate_writes_becomes_demonstrations() {
    let whole =
        |text: &str| json!({"text": text, "token_ids": [1], "logprobs": [0.0], "finish_reason": "stop"});
    let cut = json!({"text": "8", "finish_reason": "length"});
    check(
        "generated",
        json!({"id": 3, "prompt": "3 + 4?", "answer": "7", "draft": "6", "rendered_prompt": "Improve 6", "prompt_ids": [1],
            "completions": [whole("It is 7.")]}),
        json!({"id": 3, "prompt": "3 + 4?", "answer": "7", "draft": "6", "completion": "It is 7."}),
    );
    let user = json!({"role": "user", "content": "3 + 4?"});
    let row = json!({"id": "a", "messages": [user], "answer": "7", "prompt_ids": [1],
        "completions": [whole("7"), cut, whole(" "), whole("seven")]});
    let none = json!({"id": "b", "prompt": "?", "prompt_ids": [1], "completions": [cut]});
    let (made, report) = convert(&[row, none]).expect("demonstrations");
    let said = |i: usize| {
        (&made[i]["id"], &made[i]["messages"][1]["content"], &made[i]["meta"]["completions_left_out"])
    };
    assert_eq!(said(0), (&json!("a/0"), &json!("7"), &json!(2)));
    assert_eq!(said(1), (&json!("a/1"), &json!("seven"), &json!(2)));
    assert!(report.to_string().contains("1 left out: all completions were cut"), "{report}");
    let row = json!({"q": "3 + 4?", "completions": [whole("7"), whole("seven")]});
    let mapping = "prompt=q,completion=completions.1.text".parse().expect("a mapping");
    let (made, _) = convert_with(&[row], |c| c.mapping = Some(mapping)).expect("demonstrations");
    assert_eq!(made[0]["completion"], "seven");
}

#[test]
fn problems_of_mathematics_are_recognised() {
    check(
        "gsm8k",
        json!({"question": "Twice 1,040?", "answer": "2*1040=<<2*1040=2080>>2,080\nso.\n#### 2,080 "}),
        json!({"prompt": "Twice 1,040?", "answer": "2,080", "solution": "2*1040=2,080\nso."}),
    );
    check(
        "math",
        json!({"problem": "p", "level": "Level 5", "type": "Geometry", "solution": r"a \boxed{1}, so \fbox{\{\frac{1}{2}, 3\}}."}),
        json!({"prompt": "p", "answer": r"\{\frac{1}{2}, 3\}", "solution": r"a \boxed{1}, so \fbox{\{\frac{1}{2}, 3\}}.",
            "meta": {"level": 5, "kind": "Geometry"}}),
    );
    check(
        "math",
        json!({"problem": "p", "level": 3, "subject": "Algebra", "solution": r"so $\boxed 7$.", "answer": "7", "unique_id": "t/1"}),
        json!({"id": "t/1", "prompt": "p", "answer": "7", "solution": r"so $\boxed 7$.", "meta": {"level": 3, "kind": "Algebra"}}),
    );
    check(
        "big-math",
        json!({"problem": "p", "answer": "1", "source": "s", "domain": ["A", "B"], "llama8b_solve_rate": 0.25}),
        json!({"prompt": "p", "answer": "1", "meta": {"source": "s", "kind": "A", "pass_rate": 0.25}}),
    );
    check(
        "deepscaler",
        json!({"problem": "p", "answer": "1", "solution": "because"}),
        json!({"prompt": "p", "answer": "1", "solution": "because"}),
    );
    check(
        "countdown",
        json!({"target": 10, "nums": [2, 5]}),
        json!({"prompt": "Use the numbers 2, 5, each exactly once, and + - * / to make 10.", "answer": "10 from 2, 5",
            "reward": "countdown", "meta": {"kind": "countdown", "target": 10, "numbers": [2, 5]}}),
    );
    check(
        "questions",
        json!({"ID": "2024-I-1", "Problem": "p", "Answer": 33, "Solution": "s"}),
        json!({"id": "2024-I-1", "prompt": "p", "answer": "33", "solution": "s"}),
    );
    check(
        "questions",
        json!({"question": "p", "final_answer": ["$2$"]}),
        json!({"prompt": "p", "answer": "2"}),
    );
    check(
        "reasoning-gym",
        json!({"question": "p", "answer": "a", "metadata": {"source_dataset": "sudoku"}}),
        json!({"prompt": "p", "answer": "a", "meta": {"kind": "sudoku"}}),
    );
    let orz = json!([{"from": "human", "value": "p"}, {"from": "assistant", "ground_truth": {"value": "4"}}]);
    check("orz", orz, json!({"prompt": "p", "answer": "4"}));
}

#[test]
fn what_has_no_answer_to_compare_is_counted_by_reason() {
    let row = |answer: &str, kind: &str, valid: &str| {
        json!({"problem": format!("{answer} {kind} {valid}"), "answer": answer, "question_type": kind,
            "problem_is_valid": valid, "solution_is_valid": "Yes", "problem_type": "Algebra"})
    };
    let (made, report) = convert(&[
        row("2", "math-word-problem", "Yes"),
        row("proof", "math-word-problem", "Yes"),
        row("3", "proof", "Yes"),
        row("notfound", "math-word-problem", "Yes"),
        row("", "math-word-problem", "Yes"),
        row("4", "math-word-problem", "Incomplete"),
        row("B", "MCQ", "Yes"),
    ])
    .expect("converted");
    assert_eq!((made.len(), report.shape, report.read), (1, "numina-1.5", 7));
    let counts: Vec<(&str, usize)> =
        report.skipped.iter().map(|(reason, skipped)| (reason.as_str(), skipped.rows)).collect();
    let expected = [
        ("`answer` is empty", 1),
        ("`answer` is notfound", 1),
        ("`problem_is_valid` is not Yes", 1),
        ("a choice whose options are not in the problem", 1),
        ("a proof: no program checks it", 2),
    ];
    assert_eq!(counts, expected);
    let text = report.to_string();
    assert!(
        text.starts_with("7 rows read, 1 written\n  2 left out: a proof")
            && text.contains("in.json, row 2: {"),
        "{text}"
    );
}

#[test]
fn repeated_problems_are_written_once_and_contradictions_not_at_all() {
    let row = |problem: &str, answer: &str| json!({"problem": problem, "answer": answer});
    let rows = [row("a", "1"), row("b", "2"), row("a", "1"), row("c", "3"), row("b", "5"), row("b", "2")];
    let (made, report) = convert(&rows).expect("converted");
    let prompts: Vec<&Value> = made.iter().map(|made| &made["prompt"]).collect();
    assert_eq!(prompts, ["a", "c"]);
    assert_eq!(report.skipped["repeats an earlier problem"].rows, 1);
    assert_eq!(report.skipped["the same question has several answers"].rows, 3);
}

#[test]
fn verl_rows_become_what_their_references_are() {
    let row = |truth: Value, ability: &str| {
        json!({"data_source": "s", "prompt": [{"content": "p", "role": "user"}], "ability": ability,
            "reward_model": {"ground_truth": truth, "style": "rule"}, "extra_info": {"index": "i1"}})
    };
    let out = |more: Value| {
        let mut out =
            json!({"id": "i1", "messages": [{"role": "user", "content": "p"}], "meta": {"source": "s"}});
        let more = more.as_object().expect("an object").clone();
        out.as_object_mut().expect("an object").extend(more);
        out
    };
    check("verl", row(json!("34"), "math"), out(json!({"answer": "34"})));
    check("verl", row(json!(34), "math"), out(json!({"answer": "34"})));
    check("verl", row(json!("[\"17\"]"), "math"), out(json!({"answer": "17"})));
    check(
        "verl",
        row(json!(r#"{"inputs": ["1\n", ["2", "3"]], "outputs": ["1\n", "5"]}"#), "code"),
        out(
            json!({"reward": "code", "tests": [{"stdin": "1\n", "stdout": "1\n"}, {"stdin": "2\n3", "stdout": "5"}]}),
        ),
    );
    let target = row(json!({"target": 6, "numbers": [2, 3]}), "math");
    let (made, _) = convert(&[target]).expect("TinyZero");
    assert_eq!((&made[0]["answer"], &made[0]["reward"]), (&json!("6 from 2, 3"), &json!("countdown")));
    let error = convert(&[row(json!("[\"1\", \"2\"]"), "math")]).expect_err("several");
    assert!(error.contains("several answers, any of which is right"), "{error}");
}

#[test]
fn tests_of_every_published_form_become_koans() {
    let apps = |tests: &str| json!({"problem_id": 7, "question": "p", "solutions": "", "input_output": tests, "difficulty": "interview", "starter_code": ""});
    let tests = |row: Value| convert(&[row]).map(|(made, _)| made[0]["tests"].clone());
    // Every digit is kept; the list around an expected value is taken off.
    let (made, _) = convert_with(
        &[apps(r#"{"fn_name": "f", "inputs": [[123456789012345678901]], "outputs": [[1.50]]}"#)],
        |conversion| conversion.from = Some("apps".to_owned()),
    )
    .expect("converted");
    assert!(made[0]["tests"]["cases"][0]["returns"] == 1.5, "{made:?}");
    assert_eq!(
        tests(apps(r#"{"fn_name": "f", "inputs": [[1], [2]], "outputs": [[3], [4, 5]]}"#)).expect("calls"),
        json!({"function": "f", "cases": [{"args": [1], "returns": [3]}, {"args": [2], "returns": [4, 5]}]})
    );
    for (bad, expected) in [
        ("", "no tests"),
        (r#"{"inputs": [], "outputs": []}"#, "no tests"),
        (r#"{"inputs": ["1"], "outputs": []}"#, "as many inputs as outputs"),
        (r#"{"inputs": ["1", "1"], "outputs": ["1", "2"]}"#, "one input and two outputs"),
        (r#"{"inputs": [1], "outputs": ["2"]}"#, "no text"),
    ] {
        let error = tests(apps(bad)).expect_err(bad);
        assert!(error.contains(expected), "{bad}: {error}");
    }
    let taco = json!({"question": "p", "input_output": "{\"inputs\": [\"1\"], \"outputs\": [\"2\"]}", "time_limit": "2.0 seconds",
        "memory_limit": "256.0 megabytes", "difficulty": "EASY"});
    check(
        "taco",
        taco,
        json!({"prompt": "p", "tests": [{"stdin": "1", "stdout": "2"}], "reward": "code", "time_limit_s": 2.0,
            "memory_limit_mb": 256, "meta": {"level": "EASY"}}),
    );
    let functional = |starter: &str| {
        json!({"question_content": "p", "starter_code": starter, "metadata": "{\"func_name\": \"f\"}",
            "public_test_cases": "[{\"input\": \"[1]\\n2\", \"output\": \"[3]\", \"testtype\": \"functional\"}]",
            "private_test_cases": "[]"})
    };
    check(
        "livecodebench",
        functional("class Solution:\n"),
        json!({"prompt": "p\n\nclass Solution:\n", "reward": "code",
            "tests": {"function": "f", "cases": [{"args": [[1], 2], "returns": [3]}]}}),
    );
    check(
        "mbpp",
        json!({"task_id": 3, "text": "p", "test_list": ["assert f(1) == 2"], "test_setup_code": "import math", "code": "…"}),
        json!({"id": 3, "prompt": "p\n\nYour code should pass this test:\n\nassert f(1) == 2", "reward": "code",
            "tests": {"asserts": ["assert f(1) == 2"], "setup": "import math"}}),
    );
    check(
        "humaneval",
        json!({"task_id": "H/1", "prompt": "def f(x):\n", "entry_point": "f", "test": "def check(candidate):\n    assert candidate(1) == 2\n"}),
        json!({"id": "H/1", "prompt": "def f(x):\n", "reward": "code",
            "tests": {"asserts": ["def check(candidate):\n    assert candidate(1) == 2\n"], "function": "f"}}),
    );
    let kodcode = json!({"style": "instruct", "question_id": "q", "question": "Write f.", "solution": "…",
        "test": "from solution import f\n\ndef test_f():\n    assert f(1) == 2\n",
        "test_info": [{"function_name": "f", "function_declaration": "def f(x):"}], "gpt_pass_percentage": 0.5});
    let (made, report) = convert(&[kodcode]).expect("converted");
    assert_eq!((report.shape, &made[0]["meta"]["pass_rate"]), ("kodcode", &json!(0.5)));
    let codeforces = |checker: Value| {
        json!({"id": "1/A", "description": "p", "official_tests": [{"input": "1", "output": "2"}], "time_limit": 1.0,
            "memory_limit": 256.0, "generated_checker": checker})
    };
    assert_eq!(tests(codeforces(Value::Null)).expect("compared"), json!([{"stdin": "1", "stdout": "2"}]));
    assert!(tests(codeforces(json!("import sys"))).expect_err("judged").contains("checker"));
}

#[test]
fn tests_are_kept_within_the_limits_and_the_rest_counted() {
    let inputs: Vec<String> = (0..50).map(|i| "1".repeat(i * 10 + 1)).collect();
    let outputs: Vec<String> = inputs.iter().map(|input| input.len().to_string()).collect();
    let row =
        json!({"question": "p", "input_output": json!({"inputs": inputs, "outputs": outputs}).to_string()});
    let with = |tests: usize, bytes: usize| {
        let limits = Limits { tests, bytes };
        convert_with(std::slice::from_ref(&row), |conversion| conversion.limits = limits)
    };
    let (made, report) = with(10, 1 << 20).expect("ten");
    assert_eq!((made[0]["tests"].as_array().expect("tests").len(), report.tests_left_out), (10, (1, 40)));
    assert_eq!(made[0]["meta"]["tests_left_out"], 40);
    assert_eq!(with(10, 1 << 20).expect("again").0, made);
    let (made, _) = with(1000, 1000).expect("some");
    let bytes = made[0]["tests"].to_string().len();
    assert!(bytes <= 1000 && bytes > 500, "{bytes}");
    assert!(with(10, 5).expect_err("none").contains("no test is smaller than 5 bytes"));
}

#[test]
fn checked_instructions_keep_their_constraints() {
    let row = |truth: Value| json!({"messages": [{"content": "p", "role": "user"}], "ground_truth": truth, "dataset": "ifeval", "constraint_type": "k"});
    let constraint = r#"{"func_name": "validate_no_commas", "N": null}"#;
    let expected = json!({"messages": [{"role": "user", "content": "p"}], "answer": constraint, "reward": "ifeval", "meta": {"kind": "k"}});
    check("rlvr", row(json!(constraint)), expected.clone());
    check("rlvr", row(json!([constraint])), expected);
    assert!(convert(&[row(json!("{}"))]).expect_err("no constraint").contains("no `func_name`"));
}

#[test]
fn preferences_are_pairs_of_replies_to_one_conversation() {
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let chosen = json!([turn("user", "q"), turn("assistant", "good")]);
    let rejected = json!([turn("user", "q"), turn("assistant", "bad")]);
    let expected = json!({"messages": [turn("user", "q")], "chosen": "good", "rejected": "bad"});
    check("preference", json!({"chosen": chosen, "rejected": rejected}), expected.clone());
    check("preference", json!({"prompt": "q", "chosen": "good", "rejected": "bad"}), expected.clone());
    let alone = |text: &str| json!([turn("assistant", text)]);
    check(
        "preference",
        json!({"prompt": [turn("user", "q")], "chosen": alone("good"), "rejected": alone("bad")}),
        expected.clone(),
    );
    let hh = |reply: &str| format!("\n\nHuman: q\n\nAssistant: {reply}");
    check("hh-rlhf", json!({"chosen": hh("good"), "rejected": hh("bad")}), expected);
    let other = json!([turn("user", "r"), turn("assistant", "bad")]);
    for (row, expected) in [
        (json!({"chosen": chosen, "rejected": other}), "different conversations"),
        (json!({"chosen": chosen, "rejected": chosen}), "equal replies"),
        (
            json!({"chosen": chosen, "rejected": rejected, "score_chosen": 1.0, "score_rejected": 1.0}),
            "equal scores",
        ),
        (json!({"chosen": hh(""), "rejected": hh("bad")}), "empty reply"),
    ] {
        let error = convert(&[row]).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
    let two = |response: &str, score: u8| json!({"prompt": "q", "response": response, "helpfulness": score});
    let (made, report) =
        convert(&[two("bad", 1), two("good", 4), json!({"prompt": "r", "response": "s", "helpfulness": 1})])
            .expect("a pair");
    assert_eq!(
        (report.shape, &made[0]["chosen"], &made[0]["margin"]),
        ("helpsteer2", &json!("good"), &json!(3))
    );
    assert_eq!(report.skipped["a reply without a second one for its prompt"].rows, 1);
}

#[test]
fn trees_of_messages_become_pairs_or_paths() {
    let row = |id: &str, parent: Option<&str>, role: &str, rank: Option<u8>| json!({"message_id": id, "parent_id": parent, "text": id, "role": role, "rank": rank, "deleted": false});
    let rows = [
        row("q", None, "prompter", None),
        row("worse", Some("q"), "assistant", Some(1)),
        row("best", Some("q"), "assistant", Some(0)),
        row("thanks", Some("best"), "prompter", None),
        row("lost", Some("nobody"), "assistant", Some(0)),
    ];
    let (made, report) = convert(&rows).expect("converted");
    assert_eq!(report.shape, "oasst-messages");
    assert_eq!((made.len(), &made[0]["chosen"], &made[0]["rejected"]), (1, &json!("best"), &json!("worse")));
    assert_eq!(report.skipped["a message whose parent is not there"].rows, 1);
    let (made, _) = convert_with(&rows, from("oasst-messages-sft")).expect("converted");
    assert_eq!((made.len(), &made[0]["messages"][1]["content"]), (1, &json!("best")));
}

#[test]
fn conversations_become_demonstrations() {
    let said = |from: &str, value: &str| json!({"from": from, "value": value});
    check(
        "sharegpt",
        json!({"system": "s", "conversations": [said("gpt", "hello"), said("human", "q"), said("gpt", "a"), said("human", "bye")]}),
        json!({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}),
    );
    check(
        "alpaca",
        json!({"instruction": "Add.", "input": "1, 2", "output": "3", "history": [["q", "a"]]}),
        json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"},
            {"role": "user", "content": "Add.\n\n1, 2"}, {"role": "assistant", "content": "3"}]}),
    );
    check(
        "prompt-completion",
        json!({"prompt": "q", "completion": "a"}),
        json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}),
    );
    let error =
        convert(&[json!({"conversations": [said("human", "q"), said("human", "r"), said("gpt", "a")]})])
            .expect_err("twice");
    assert!(error.contains("two turns of one role"), "{error}");
}

#[test]
fn a_mapping_names_fields_and_parts_of_them() {
    let map = |text: &str| text.parse::<Mapping>();
    let rows = [
        json!({"frage": "p", "ref": {"antwort": 7}, "stufe": 2, "more": 1}),
        json!({"frage": "q", "ref": {"antwort": null}}),
    ];
    let mapping = map("prompt=frage,answer=ref.antwort,meta.level=stufe").expect("a mapping");
    let (made, report) =
        convert_with(&rows, |conversion| conversion.mapping = Some(mapping)).expect("converted");
    assert_eq!(made, [json!({"prompt": "p", "answer": "7", "meta": {"level": 2}})]);
    assert_eq!(report.skipped["no `ref.antwort`"].rows, 1);
    for (bad, expected) in [
        ("prompt", "is not FIELD=THEIRS"),
        ("question=q", "`question` is no field of Koan's"),
        ("prompt=a,prompt=b", "twice"),
        ("", "maps nothing"),
    ] {
        let error = map(bad).expect_err(bad).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_is_not_clear_is_an_error_that_names_the_candidates() {
    let both = json!({"problem": "p", "question": "q", "answer": "1"});
    let error = convert(&[both]).expect_err("two questions");
    assert!(error.contains("no known shape") && error.contains("can be `problem` or `question`"), "{error}");
    let two = json!({"question": "p", "input_output": "{}", "task_id": 1, "text": "p", "test_list": []});
    let error = convert(&[two]).expect_err("two shapes");
    assert!(error.contains("can be one of: apps, mbpp; name one with --from"), "{error}");
    let error = convert(&[json!({"label": 1})]).expect_err("unknown");
    assert!(error.contains("`label` is the number 1") && error.contains("--map prompt=FIELD"), "{error}");
    let error = convert_with(&[json!({"a": 1})], from("gsm9k")).expect_err("no such shape");
    assert!(error.contains("there is no shape `gsm9k`; use one of: gsm8k, math"), "{error}");
    let error = convert_with(&[json!({"a": 1})], from("gsm8k")).expect_err("another shape");
    assert!(error.contains("nothing can be made of it as gsm8k") && error.contains("no `answer`"), "{error}");
    let splits =
        json!({"train": [{"problem": "p", "answer": "1"}], "test": [{"problem": "q", "answer": "2"}]});
    let error = convert(&[splits]).expect_err("splits");
    assert!(error.contains("its rows are in test, train: take them out first"), "{error}");
    let error = convert(&[]).expect_err("empty");
    assert!(error.contains("is empty"), "{error}");
}

#[test]
fn what_python_writes_is_repaired_and_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, out) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
    fs::write(
        &path,
        "{\"problem\": \"\\ud83d\", \"answer\": \"1\", \"rate\": NaN}\n{\"problem\": \"q\", \"answer\"\n",
    )
    .expect("written");
    let conversion = |files: &Path| Conversion {
        files: files.into(),
        from: None,
        mapping: None,
        limits: Limits::default(),
    };
    let report = conversion(&path).run(&out, &mut |_| {}).expect("converted");
    assert_eq!((report.written, report.repaired, report.skipped["the row is not JSON"].rows), (1, 1, 1));
    assert!(fs::read_to_string(&out).expect("written").contains('\u{fffd}'));
    let error = conversion(&out).run(&out, &mut |_| {}).expect_err("itself").to_string();
    assert!(error.contains("would be replaced"), "{error}");
}

#[test]
fn names_of_shapes_are_unique_and_in_small_letters() {
    let names: std::collections::BTreeSet<&str> = SHAPES.iter().map(|shape| shape.name).collect();
    assert_eq!(names.len(), SHAPES.len());
    assert!(names.iter().all(|name| by_name(&name.to_uppercase()).is_ok()));
}
