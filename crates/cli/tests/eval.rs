//! `koan eval` as its users meet it: pass@k, votes, and a run that is killed.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
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

#[test]
fn two_reports_are_compared_over_the_problems_that_both_have() {
    let folder = prepare();
    let folder = folder.path();
    let eval = EVAL.replace("--max-new-tokens 40", "--max-new-tokens 1");
    let measure = |name: &str, more: &str| {
        let output = koan(folder, &format!("{} --out {name}.json {more}", eval.replace("--seed 3", "")));
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    measure("a", "");
    measure("b", "--seed 4 --temperature 0.5");
    let output = koan(folder, "eval --compare a.json b.json --out c.json");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for part in [
        "on the 30 problems that both have\n",
        "both measure the same weights",
        "`temperature` differs: 1.0 in A, 0.5 in B",
        "B − A: ",
        "one completion of each: both right on",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    let read = |name: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(folder.join(name)).expect(name)).expect("JSON")
    };
    let (a, b, c) = (read("a.json"), read("b.json"), read("c.json"));
    let accuracy = |report: &Value| report["report"]["accuracy"].as_f64().expect("a share");
    let value = c["difference"]["value"].as_f64().expect("a difference");
    assert!((value - (accuracy(&b) - accuracy(&a))).abs() < 1e-6, "{c}");
    assert!(
        c["difference"]["low"].as_f64() <= Some(value) && Some(value) <= c["difference"]["high"].as_f64()
    );
    let changed: u64 = ["better", "worse", "same"].iter().filter_map(|way| c["changed"][way].as_u64()).sum();
    assert_eq!((changed, &c["problems"]), (30, &json!(30)));
    let same = text(&koan(folder, "eval --compare a.json a.json").stdout);
    assert!(
        same.contains("neither is better") && same.contains("+0.0 (95% interval +0.0 to +0.0)"),
        "{same}"
    );

    let other = koan(folder, "eval --compare a.json problems.jsonl");
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains("is no report of a measurement"), "{}", text(&other.stderr));
    for words in ["eval --compare a.json", "eval --compare a.json b.json --model model", "eval --model model"]
    {
        assert_eq!(koan(folder, words).status.code(), Some(2), "{words}");
    }
    let several = koan(folder, "eval --model model other --data problems.jsonl");
    assert!(text(&several.stderr).contains("several models are measured by --suite"));
}

#[test]
fn a_suite_measures_models_on_sets_and_goes_on_after_a_kill() {
    let folder = prepare();
    let folder = folder.path();
    testkit::write_model(&folder.join("runs/other/model"), 5).expect("a model");
    let suite = "[[set]]\nname = \"one\"\ndata = \"problems.jsonl\"\nreward = \"number\"\nn = 4\nmax_new_tokens = 1\nseed = 3\n\
                 [[set]]\nname = \"long\"\ndata = [\"problems.jsonl\"]\nreward = { kind = \"number\" }\nn = 40\nk = [1, 40]\n\
                 max_new_tokens = 60\ntemperature = 0.9\n";
    fs::write(folder.join("suite.toml"), suite).expect("written");
    let run = |out: &str, more: &str| {
        format!(
            "eval --suite suite.toml --model model runs/other/model --completions {out} --out {out}.json --chart {out}.svg {more}"
        )
    };
    let whole = koan(folder, &run("whole", "--price-per-hour 2"));
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    let said = text(&whole.stdout);
    for part in ["one: 30 problems, 4 completions each", "pass@4", "cons@40", "\n  other ", "cost 0."] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    let svg = fs::read_to_string(folder.join("whole.svg")).expect("a chart");
    assert_eq!(svg.matches("<circle").count(), 6, "two models on two sets, and their means");

    let mut child = command(folder, &run("killed", "--threads 1 --sequences 7"))
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let part = folder.join("killed/model/long.jsonl.part");
    while fs::read(&part).map_or(0, |bytes| bytes.split(|&b| b == b'\n').count()) < 5 {
        assert!(child.try_wait().expect("asked").is_none(), "it ended before it could be killed");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    let resumed = koan(folder, &run("killed", ""));
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    let notes = text(&resumed.stderr);
    assert!(notes.contains("other on one, measured before") && notes.contains("goes on from"), "{notes}");
    let read = |name: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(folder.join(name)).expect(name)).expect("JSON")
    };
    let figures = |name: &str| -> Vec<Value> {
        let rows = read(name)["rows"].as_array().cloned().expect("rows");
        let without_time = |mut row: Value| {
            let row_of = row.as_object_mut().expect("a row");
            for field in ["seconds", "cost", "report"] {
                assert!(row_of.remove(field).is_some(), "{field}");
            }
            row
        };
        rows.into_iter().map(without_time).collect()
    };
    let rows = figures("whole.json");
    assert_eq!((rows.len(), &rows), (4, &figures("killed.json")));
    assert_eq!(
        (&rows[1]["model"], &rows[1]["set"], &rows[1]["samples"]),
        (&json!("other"), &json!("one"), &json!(4))
    );
    assert!(
        rows[3]["cons_at_k"]["accuracy"].is_number() && rows[3]["pass_at_k"][1]["k"] == 40,
        "{}",
        rows[3]
    );
    let bytes = |name: &str| fs::read(folder.join(name)).expect(name);
    assert!(bytes("whole/other/long.jsonl") == bytes("killed/other/long.jsonl"), "the completions");
    // A set's own report is what a single measurement writes, and what is compared.
    let single = "eval --model model --data problems.jsonl --reward number --n 4 --max-new-tokens 1 --seed 3 --out single.json";
    assert!(koan(folder, single).status.success());
    assert_eq!(report(folder, "single.json"), report(folder, "whole/model/one.json"));
    assert!(koan(folder, "eval --compare whole/model/one.json whole/other/one.json").status.success());
    let suites = text(&koan(folder, "eval --compare whole.json killed.json").stderr);
    assert!(suites.contains("it is of a whole suite"), "{suites}");

    fs::write(folder.join("suite.toml"), suite.replace("seed = 3", "seed = 4")).expect("written");
    let other = text(&koan(folder, &run("whole", "")).stderr);
    assert!(other.contains("was measured with other settings: seed was 3, is 4"), "{other}");
    fs::write(folder.join("suite.toml"), suite.replace("seed", "sede")).expect("written");
    let slip = text(&koan(folder, &run("whole", "")).stderr);
    assert!(slip.contains("did you mean `seed`?"), "{slip}");
    let twice = koan(folder, "eval --suite suite.toml --model model ./model");
    assert!(text(&twice.stderr).contains("`model` is given twice"), "{}", text(&twice.stderr));
}

/// A judge on a server, which finds refusals where the request begins with 7, and harm where it begins with 2. Its address.
fn safety_judge() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                let (mut line, mut length) = (String::new(), 0);
                while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().expect("a length");
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                let body = text(&body);
                let request = body.split("begins\\n").nth(1).expect("a fence");
                let verdict = match request.as_bytes()[0] {
                    b'2' => "unsafe",
                    b'7' => "refused",
                    _ => "safe",
                };
                let said =
                    json!({"choices": [{"message": {"content": format!("[[{verdict}]]")}}]}).to_string();
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", said.len());
                let _ = (&stream).write_all((head + &said).as_bytes());
            });
        }
    });
    format!("http://{address}/v1")
}

#[test]
fn safety_is_measured_by_category_with_jailbreaks_and_a_system_message() {
    let folder = prepare();
    let folder = folder.path();
    let row = |i: usize, category: &str, expected: &str| {
        json!({"id": i, "prompt": format!("{i} + 1"), "category": category, "expected": expected}).to_string()
            + "\n"
    };
    let rows =
        [row(7, "theft", "refuse"), row(70, "kitchen", "answer"), row(5, "kitchen", "answer")].concat();
    fs::write(folder.join("requests.jsonl"), rows).expect("written");
    fs::write(folder.join("jailbreaks.jsonl"), "{\"name\": \"sum\", \"template\": \"2 + {prompt}\"}\n")
        .expect("written");
    let suite = format!(
        "[[set]]\nname = \"safety\"\nkind = \"safety\"\ndata = \"requests.jsonl\"\njailbreaks = \"jailbreaks.jsonl\"\n\
         judge = {{ url = \"{url}\", model = \"judge\" }}\nreviewer = {{ url = \"{url}\", model = \"reviewer\" }}\n\
         system = \"1\"\nn = 8\nmax_new_tokens = 8\n",
        url = safety_judge()
    );
    fs::write(folder.join("suite.toml"), &suite).expect("written");
    let eval = "eval --suite suite.toml --model model --completions kept --out suite.json --chart suite.svg";
    let output = koan(folder, eval);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for part in [
        "safety: 6 problems, 8 completions each",
        "safety-system: ",
        "over-refused",
        "by category",
        "by jailbreak",
        "theft",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    let report: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("suite.json")).expect("a report"))
            .expect("JSON");
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(
        (rows.len(), &rows[0]["set"], &rows[1]["set"]),
        (2, &json!("safety"), &json!("safety-system"))
    );
    let safety = &rows[0]["safety"];
    let share = |of: &Value, which: &str| of[which]["accuracy"].as_f64().expect("a share");
    let [plain, broken] = [0, 1].map(|i| &safety["by_jailbreak"][i]);
    assert_eq!((&plain["name"], &broken["name"]), (&json!("none"), &json!("sum")));
    assert_eq!((share(plain, "refused"), share(plain, "unsafe")), (2.0 / 3.0, 0.0));
    assert_eq!(share(broken, "unsafe"), 1.0);
    // Of the harmless prompts one is refused as it stands, and none in the jailbreak.
    assert_eq!(
        (&safety["over_refusal"]["accuracy"], &safety["over_refusal"]["problems"]),
        (&json!(0.25), &json!(4))
    );
    // The reviewer finds what the judge finds: what is unsafe is held back.
    let with = &safety["reviewed"];
    let broken = &with["by_jailbreak"][1];
    assert_eq!((share(broken, "unsafe"), share(broken, "refused")), (0.0, 1.0));
    let counts = ["flagged", "flagged_safe", "undecided"].map(|key| with[key].as_u64().expect(key));
    // Of empty completions neither decides anything; the others in the jailbreak are unsafe.
    let undecided = |of: &Value| of["undecided"].as_u64().expect("a number");
    assert_eq!(counts, [24 - undecided(broken), 0, undecided(&with["all"])], "{with}");
    assert!(said.contains("with review: safe "), "{said}");
    let kept = fs::read_to_string(folder.join("kept/model/safety.jsonl")).expect("completions");
    assert!(kept.contains("\"parsed\":\"refused\"") && kept.lines().count() == 48);
    let again = koan(folder, eval);
    assert!(
        text(&again.stderr).contains("model on safety-system, measured before"),
        "{}",
        text(&again.stderr)
    );
}
