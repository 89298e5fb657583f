//! `koan data` as its users meet it.

use serde_json::Value;
use std::{path::Path, process::Command};

/// Runs `koan` in `folder`: whether it succeeded, and what it printed to standard output and error.
fn koan(folder: &Path, words: &str) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_koan"));
    let output = command.args(words.split_whitespace()).current_dir(folder).output().expect("started");
    let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
    (output.status.success(), out, error)
}

#[test]
fn every_kind_is_generated_and_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, help, _) = koan(folder.path(), "data generate --help");
    let (_, levels, _) = koan(folder.path(), "data generate countdown --help");
    assert!(
        help.contains("arithmetic") && levels.contains("4 numbers up to 13, + - * /, target 24"),
        "{levels}"
    );
    for kind in koan_data::KINDS {
        assert!(help.contains(kind.name) && help.contains(&kind.about[1..]), "{help}");
        let words = format!("data generate {} --n 20 --seed 3 --split test --out {0}.jsonl", kind.name);
        let (ok, _, error) = koan(folder.path(), &words);
        assert!(ok, "{error}");
    }
    std::fs::write(folder.path().join("bad.jsonl"), "{\"text\": \"a b\"}\nnothing\n").expect("written");
    let (ok, json, error) = koan(folder.path(), "data stats --json chain.jsonl bad.jsonl");
    assert!(ok, "{error}");
    let stats: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&stats[0]["rows"], &stats[0]["formats"]["problem"]), (&20.into(), &20.into()));
    assert_eq!((&stats[0]["counts"]["level"]["10"], &stats[0]["repeated"]), (&2.into(), &0.into()));
    assert_eq!(stats[1]["bad_lines"][0][0], 2);
    let (_, table, _) = koan(folder.path(), "data stats chain.jsonl bad.jsonl");
    assert!(
        table.contains("chain.jsonl: 20 rows (problem 20)") && table.contains("line 2: no JSON object"),
        "{table}"
    );
}

#[test]
fn what_cannot_be_generated_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for (words, expected) in [
        ("data generate chain --levels 11 --out x.jsonl", "use numbers from 1 to 10"),
        ("data generate bases --levels 1 --n 5000 --out x.jsonl", "level 1 gives only"),
        ("data generate chains --out x.jsonl", "chain"),
        ("data generate", "Usage"),
        ("data stats x.jsonl", "cannot read x.jsonl"),
    ] {
        let (ok, _, error) = koan(folder.path(), words);
        assert!(!ok && error.contains(expected), "{words}: {error}");
        assert!(!folder.path().join("x.jsonl").exists());
    }
}

#[test]
fn other_formats_are_imported() {
    let folder = tempfile::tempdir().expect("a folder");
    let line = r#"{"question": "Two and two?", "answer": "2+2=<<2+2=4>>4\n#### 4"}"#;
    std::fs::write(folder.path().join("theirs.jsonl"), line).expect("written");
    let (ok, said, _) = koan(folder.path(), "data import theirs.jsonl --format gsm8k --out data/ours.jsonl");
    assert!(ok && said == "1 problems in data/ours.jsonl\n", "{said}");
    let (ok, said, _) = koan(folder.path(), "data stats data/ours.jsonl");
    assert!(ok && said.contains("1 rows (problem 1)"), "{said}");
    let (ok, _, error) = koan(folder.path(), "data import theirs.jsonl --format parquet --out x.jsonl");
    assert!(!ok && error.contains("format `parquet`: use gsm8k"), "{error}");
}
