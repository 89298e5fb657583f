use std::{collections::BTreeSet, fs};

use super::*;

/// A folder with `a.jsonl`: 100 rows of 50 questions.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let rows: Vec<Value> = (0..100)
        .map(|i| {
            serde_json::json!({"id": i, "prompt": format!("q{}", i / 2), "meta": {"level": i % 4, "verdicts": ["right"]}})
        })
        .collect();
    jsonl::write(&folder.path().join("a.jsonl"), &rows).expect("written");
    let rows: Vec<Value> = (0..10).map(|i| serde_json::json!({"id": 1000 + i, "prompt": "b"})).collect();
    jsonl::write(&folder.path().join("b.jsonl"), &rows).expect("written");
    folder
}

fn run(folder: &tempfile::TempDir, kind: Kind, settings: &str) -> Result<Vec<Row>, String> {
    let settings = settings.replace("DIR", &folder.path().display().to_string());
    make(kind, &settings.parse().expect("TOML"), folder.path()).map_err(|error| error.to_string())?;
    let file = if kind == Kind::Split { "train.jsonl" } else { "data.jsonl" };
    Ok(rows_of(&folder.path().join(file).into()).expect("rows"))
}

#[test]
fn a_filter_keeps_the_rows_of_which_all_conditions_hold() {
    let folder = folder();
    let filter = |conditions: &str| {
        run(&folder, Kind::Filter, &format!("data = 'DIR/a.jsonl'\nwhere = [{conditions}]"))
    };
    assert_eq!(filter("{field = 'meta.level', min = 1, max = 2}").expect("rows").len(), 50);
    assert_eq!(filter("{field = 'meta.level', equals = [0, 3.0]}").expect("rows").len(), 50);
    let both = "{field = 'meta.verdicts.0', equals = 'right'}, {field = 'id', min = 98.5}";
    assert_eq!(filter(both).expect("rows")[0]["id"], 99);
    for (conditions, said) in [
        ("", "there is no condition"),
        ("{field = 'id'}", "write `min`, `max` or `equals`"),
        ("{field = 'id', min = 2, max = 1}", "no row passes"),
        ("{field = 'id', mim = 2}", "did you mean `min`?"),
        ("{field = 'meta.levels', min = 2}", "no row of"),
        ("{field = 'id', max = 5}, {field = 'meta.verdicts.0', equals = 'wrong'}", "refuses all 6 rows"),
    ] {
        let error = filter(conditions).expect_err(conditions);
        assert!(error.contains(said), "{conditions}: {error}");
    }
}

#[test]
fn a_mix_has_its_shares_and_one_order() {
    let folder = folder();
    let mix = |rows: &str, b: &str| {
        let text = format!(
            "seed = 3\n{rows}\n[[part]]\ndata = 'DIR/a.jsonl'\nshare = 3\n[[part]]\ndata = 'DIR/b.jsonl'\nshare = 1\n{b}"
        );
        run(&folder, Kind::Mix, &text)
    };
    let of_b = |rows: &[Row]| rows.iter().filter(|row| row["prompt"] == "b").count();
    // b has ten rows, a quarter of forty.
    let most = mix("", "").expect("rows");
    assert_eq!((most.len(), of_b(&most)), (40, 10));
    assert_eq!(most, mix("", "").expect("rows"));
    let ids: BTreeSet<String> = most.iter().map(|row| row["id"].to_string()).collect();
    assert_eq!(ids.len(), 40, "no row twice");
    assert!(most[..20].iter().any(|row| row["prompt"] == "b"), "shuffled");
    let repeated = mix("rows = 80", "repeat = true").expect("rows");
    assert_eq!((repeated.len(), of_b(&repeated)), (80, 20));
    let error = mix("rows = 80", "").expect_err("too few");
    assert!(error.contains("20 of 80 rows are to be of") && error.contains("which has 10"), "{error}");
    assert!(mix("rwos = 80", "").expect_err("a slip").contains("did you mean `rows`?"));
    assert_eq!(mix::counts(10, &[0.55, 0.35, 0.1]), [6, 3, 1]);
}

#[test]
fn a_split_keeps_rows_of_one_question_together() {
    let folder = folder();
    let split = |held_out: &str| {
        run(&folder, Kind::Split, &format!("seed = 1\ndata = 'DIR/a.jsonl'\nheld_out = {held_out}"))
    };
    let train = split("0.2").expect("rows");
    let held_out = rows_of(&folder.path().join("held-out.jsonl").into()).expect("rows");
    assert_eq!((train.len(), held_out.len()), (80, 20));
    let questions = |rows: &[Row]| rows.iter().map(|row| row["prompt"].to_string()).collect::<BTreeSet<_>>();
    assert!(questions(&train).is_disjoint(&questions(&held_out)));
    assert_eq!(split("7").expect("rows").len(), 92, "whole questions");
    for (wrong, said) in
        [("0", "a share above 0"), ("1.5", "a share above 0"), ("100", "nothing would be left")]
    {
        let error = split(wrong).expect_err(wrong);
        assert!(error.contains(said), "{error}");
    }
    fs::remove_file(folder.path().join("a.jsonl")).expect("removed");
    assert!(split("0.5").expect_err("gone").contains("a.jsonl"));
}
