//! `koan eval` as its users meet it: pass@k, votes, and a run that is killed.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use koan_model::testkit;
use serde_json::{Value, json};

fn command(folder: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_koan"));
    command.args(words.split_whitespace()).current_dir(folder).stdin(Stdio::null());
    command
}

fn koan(folder: &Path, words: &str) -> Output {
    command(folder, words).output().expect("started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A tiny model and problems that it sometimes solves.
fn prepare() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    testkit::write_model(&folder.path().join("model"), 4).expect("a model");
    let problem = |i: usize| {
        let meta = json!({"kind": "digit", "level": i % 2});
        json!({"id": i, "prompt": format!("{i} + 1"), "answer": i % 10, "meta": meta}).to_string() + "\n"
    };
    let problems: String = (0..30).map(problem).collect();
    fs::write(folder.path().join("problems.jsonl"), problems).expect("written");
    folder
}

/// The report without what depends on the clock.
fn report(folder: &Path, name: &str) -> Value {
    let text = fs::read_to_string(folder.join(name)).expect(name);
    let mut report: Value = serde_json::from_str(&text).expect("JSON");
    let cost = report.as_object_mut().and_then(|report| report.remove("cost")).expect("a cost");
    assert!(cost["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{cost}");
    report
}

const EVAL: &str =
    "eval --model model --data problems.jsonl --reward number --n 12 --max-new-tokens 40 --seed 3";

#[test]
fn a_killed_measurement_ends_with_the_bytes_of_one_that_was_not() {
    let folder = prepare();
    let folder = folder.path();
    let whole = koan(folder, &format!("{EVAL} --out whole.json --completions whole.jsonl --sequences 100"));
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    assert!(!folder.join("whole.jsonl.part").exists());

    let again = format!("{EVAL} --out killed.json --completions killed.jsonl --threads 1 --sequences 5");
    let part = folder.join("killed.jsonl.part");
    let mut child = command(folder, &again).stderr(Stdio::null()).spawn().expect("started");
    while fs::read(&part).map_or(0, |bytes| bytes.split(|&b| b == b'\n').count()) < 20 {
        assert!(child.try_wait().expect("asked").is_none(), "it ended before it could be killed");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(!folder.join("killed.jsonl").exists() && !folder.join("killed.json").exists());

    // A last line that was torn is dropped; other settings are refused.
    let mut torn = fs::read(&part).expect("a part");
    torn.extend(b"{\"problem\": 3, \"sam");
    fs::write(&part, &torn).expect("written");
    let other = koan(folder, &again.replace("--seed 3", "--seed 4"));
    assert_eq!(other.status.code(), Some(1));
    let said = text(&other.stderr);
    assert!(said.contains("other settings: seed was 3, is 4; give the same command"), "{said}");

    let resumed = koan(folder, &again);
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    assert!(text(&resumed.stderr).contains("goes on from killed.jsonl.part, which has"));
    let bytes = |name: &str| fs::read(folder.join(name)).expect(name);
    assert!(bytes("whole.jsonl") == bytes("killed.jsonl"), "the completions");
    assert_eq!(report(folder, "whole.json"), report(folder, "killed.json"));
    assert!(!part.exists());

    // What is kept is what rewards can be replayed over, with the same verdicts.
    let replay = koan(folder, "verify --input whole.jsonl --reward number --json");
    let replay: Value = serde_json::from_slice(&replay.stdout).expect("JSON");
    assert_eq!(replay["outcomes"], report(folder, "whole.json")["report"]["outcomes"]);
}

#[test]
fn the_report_says_how_often_and_how_sure() {
    let folder = prepare();
    let folder = folder.path();
    let eval = EVAL.replace("--max-new-tokens 40", "--max-new-tokens 1"); // a digit, often
    let said = koan(folder, &format!("{eval} --k 1,4,12 --price-per-hour 3.6 --out report.json"));
    let table = text(&said.stdout);
    for part in [
        "30 problems",
        "360 judged",
        "pass@12",
        "maj@12",
        "level 0",
        "level 1",
        "cost 0.",
        "at 3.60 per hour",
    ] {
        assert!(table.contains(part), "{part} in\n{table}");
    }
    assert!(!table.contains("kind"), "all problems are of one kind\n{table}");
    let report = report(folder, "report.json");
    let all = &report["report"];
    let pass = |i: usize| all["pass_at_k"][i]["accuracy"].as_f64().expect("a share");
    assert!(pass(0) > 0.0 && pass(0) < pass(1) && pass(1) < pass(2), "{all}");
    assert_eq!(all["accuracy"], all["pass_at_k"][0]["accuracy"]);
    let correct: u64 =
        all["per_problem"].as_array().expect("problems").iter().filter_map(|p| p["correct"].as_u64()).sum();
    assert_eq!(all["outcomes"]["correct"].as_u64(), Some(correct));
    assert!((pass(0) - correct as f64 / 360.0).abs() < 1e-12, "{}", pass(0));
    assert_eq!(report["settings"]["data_sha256"].as_str().map(str::len), Some(64));
    let error = text(&koan(folder, &format!("{EVAL} --k 13")).stderr);
    assert!(error.contains("--k 13") && error.contains("--n is 12"), "{error}");
}

#[test]
fn undecided_completions_are_not_correct_and_are_counted() {
    let folder = prepare();
    let folder = folder.path();
    // A judge that decides nothing of every other problem, and calls the rest right.
    let judge = "import json, sys\nfor line in sys.stdin:\n    sample = json.loads(line)\n    \
                 odd = int(sample['problem_id']) % 2\n    answer = {'id': sample['id'], 'outcome': 'undecided' if odd else 'correct'}\n    \
                 print(json.dumps(answer), flush=True)\n";
    fs::write(folder.join("judge.py"), judge).expect("written");
    let mut eval = command(
        folder,
        "eval --model model --data problems.jsonl --n 4 --max-new-tokens 2 --reward external --out report.json \
         --completions completions.jsonl",
    );
    let said = eval.args(["--set", r#"command=["python3", "judge.py"]"#]).output().expect("started");
    let table = text(&said.stdout);
    assert!(said.status.success(), "{}", text(&said.stderr));
    assert!(table.starts_with("accuracy 50.0% (95% interval "), "{table}");
    assert!(
        table.contains(", 60 undecided (50.0%) as not correct; 100.0% of the decided on 30 problems"),
        "{table}"
    );
    let report = &report(folder, "report.json")["report"];
    assert_eq!(report["pass_at_1"]["accuracy"], 0.5);
    assert_eq!(
        (&report["pass_at_1_decided"]["accuracy"], &report["pass_at_1_decided"]["problems"]),
        (&json!(1.0), &json!(15))
    );
    assert_eq!(report["undecided"], json!({"count": 60, "share": 0.5}));
    assert_eq!(report["majority"]["problems"], 30);
}

/// A folder with a reward model, pairs, and labelled rows.
fn with_reward_model() -> tempfile::TempDir {
    let folder = prepare();
    let characters = " 0123456789+.abc";
    testkit::write_reward_model(&folder.path().join("rm"), 5, characters).expect("a model");
    let pair = |i: usize| {
        let (chosen, rejected) = (format!("{}", i + 1), format!("{}", i * 37 % 100));
        let category = if i.is_multiple_of(2) { json!("even") } else { Value::Null };
        let margin = i % 3;
        json!({"prompt": format!("{i} + 1"), "chosen": chosen, "rejected": rejected, "category": category, "margin": margin})
            .to_string()
            + "\n"
    };
    let equal = "{\"prompt\": \"1\", \"chosen\": \"2\", \"rejected\": \"2\"}\n";
    let long = json!({"prompt": "1", "chosen": "2".repeat(300), "rejected": "2"}).to_string() + "\n";
    let pairs: String = (0..20).map(pair).chain([equal.into(), long]).collect();
    let row = |i: usize| {
        json!({"prompt": "1", "completion": i.to_string(), "label": i.is_multiple_of(3), "meta": {"category": "c"}})
            .to_string()
            + "\n"
    };
    let good = "{\"prompt\": \"1\", \"completion\": \"2\", \"label\": true}\n";
    for (name, rows) in [
        ("pairs.jsonl", pairs),
        ("rows.jsonl", (0..20).map(row).collect()),
        ("good.jsonl", good.repeat(3)),
        ("empty.jsonl", String::new()),
    ] {
        fs::write(folder.path().join(name), rows).expect("written");
    }
    folder
}

#[test]
fn a_reward_model_is_measured_on_pairs_and_on_labels() {
    let folder = with_reward_model();
    let folder = folder.path();
    let measure = |data: &str, more: &str| {
        let command =
            format!("eval --reward-model rm --data {data} --out report.json --max-tokens 100 {more}");
        let output = koan(folder, &command);
        let report = fs::read_to_string(folder.join("report.json")).ok();
        _ = fs::remove_file(folder.join("report.json"));
        (output, report.map(|text| serde_json::from_str::<Value>(&text).expect("JSON")))
    };
    let (output, report) = measure("pairs.jsonl", "");
    let (said, report) = (text(&output.stdout), report.unwrap_or_else(|| panic!("{}", text(&output.stderr))));
    assert_eq!((&report["pairs"], &report["ties"], &report["left_out"]), (&json!(21), &json!(1), &json!(1)));
    assert!(
        text(&output.stderr).contains("1 rows are left out: of row 22, it has"),
        "{}",
        text(&output.stderr)
    );
    let accuracy = |value: &Value| value["accuracy"].as_f64().expect("an accuracy");
    let [low, high] = ["low", "high"].map(|end| report["pairwise_accuracy"][end].as_f64().expect("an end"));
    assert!((low..high).contains(&accuracy(&report["pairwise_accuracy"])));
    assert_eq!(report["by_category"]["even"]["pairs"], 10);
    assert_eq!(report["by_margin"].as_array().map(Vec::len), Some(3));
    assert!(report["length_correlation"].is_number() && report["expected_calibration_error"].is_number());
    assert!(said.contains("the chosen is shorter") && said.contains("1 pairs have equal scores"), "{said}");
    let (_, again) = measure("pairs.jsonl", "--threads 1");
    let again = again.expect("a report");
    for field in ["pairwise_accuracy", "by_category", "calibration", "score_mean", "score_std"] {
        assert_eq!(report[field], again[field], "whatever the threads: {field}");
    }

    let (output, report) = measure("rows.jsonl", "");
    let report = report.unwrap_or_else(|| panic!("{}", text(&output.stderr)));
    assert_eq!(
        (&report["rows"], &report["good"], &report["by_category"]["c"]["rows"]),
        (&json!(20), &json!(7), &json!(20))
    );
    assert!(report["auc"].as_f64().is_some_and(|auc| (0.0..=1.0).contains(&auc)), "{report}");
    let (output, report) = measure("good.jsonl", "");
    assert!(report.expect("a report")["auc"].is_null() && text(&output.stdout).contains("there is no AUC"));

    for (data, more, expected) in [
        ("empty.jsonl", "", "empty.jsonl"),
        ("none.jsonl", "", "none.jsonl"),
        ("problems.jsonl", "", "`chosen`"),
        ("pairs.jsonl", "--n 3", "--n"),
    ] {
        let (output, report) = measure(data, more);
        assert!(!output.status.success() && report.is_none(), "{data} {more}");
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
    let other = koan(folder, "eval --reward-model model --data pairs.jsonl");
    assert!(text(&other.stderr).contains("is no reward model"), "{}", text(&other.stderr));
}

#[test]
fn a_reward_model_judges_a_measurement_and_verify_says_that_it_does_not_load_one() {
    let folder = with_reward_model();
    let folder = folder.path();
    let eval = "eval --model model --data problems.jsonl --reward model --set model=rm --n 4 --max-new-tokens 6 --out a.json --completions a.jsonl";
    let output = koan(folder, eval);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let completions = fs::read_to_string(folder.join("a.jsonl")).expect("completions");
    assert_eq!(completions.lines().count(), 120);
    assert!(completions.lines().any(|line| line.contains("\"reason\":\"scored ")), "{completions}");
    let other =
        koan(folder, &eval.replace("a.json", "b.json").replace("--n 4", "--n 4 --threads 1 --sequences 3"));
    assert!(other.status.success(), "{}", text(&other.stderr));
    let again = fs::read_to_string(folder.join("b.jsonl")).expect("completions");
    assert_eq!(completions, again, "whatever the threads, and what is asked together");
    let verify = koan(folder, "verify --input a.jsonl --reward model --set model=rm");
    assert!(!verify.status.success());
    assert!(text(&verify.stderr).contains("`koan verify` does not load"), "{}", text(&verify.stderr));
    let scored = koan(folder, "bench score --model model --answers 4 --answer-tokens 5 --rounds 1 --json");
    let scored: Value = serde_json::from_slice(&scored.stdout).expect("JSON");
    assert!(scored["answers_per_s"].as_f64().is_some_and(|n| n > 0.0), "{scored}");
}
