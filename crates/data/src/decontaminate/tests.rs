use std::fs;

use serde_json::json;

use super::*;

const TEST: &str = "Natalia sold clips to 48 of her friends in April, and then she sold half as many in May.";

struct Bench(tempfile::TempDir);

impl Bench {
    fn new(rows: &[Value]) -> Self {
        let bench = Self(tempfile::tempdir().expect("a folder"));
        bench.write("data.jsonl", rows);
        bench.write(
            "test.jsonl",
            &[
                json!({"id": "t0", "prompt": TEST, "answer": "72"}),
                json!({"id": "t1", "prompt": "Solve 2x+3=7."}),
            ],
        );
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, rows: &[Value]) {
        koan_files::jsonl::write(&self.at(name), rows).expect("written");
    }

    fn job(&self) -> Decontamination {
        Decontamination {
            files: self.at("data.jsonl").as_path().into(),
            against: self.at("test.jsonl").as_path().into(),
            ngram: NGRAM,
            fields: Vec::new(),
            segments: false,
            threads: NonZeroUsize::new(2).expect("two"),
        }
    }

    fn run(&self, job: &Decontamination) -> (Report, Vec<Value>) {
        let report = job.run(&self.at("out.jsonl"), &mut |_| {}).expect("runs");
        let text = fs::read_to_string(self.at("out.jsonl")).expect("written");
        (report, text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect())
    }
}

#[test]
fn rows_of_every_kind_that_hold_a_part_of_a_test_are_dropped_and_named() {
    let shared =
        "she sold half as many in May, to 48 of her friends in April, and then she sold half as many.";
    let rows = [
        json!({"id": 1, "prompt": "How many clips?", "answer": "7"}),
        json!({"id": 2, "prompt": shared, "answer": "7"}),
        json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "SOLVE $2x + 3 = 7$, now."}]}),
        json!({"text": "Solve 2x+3=9."}),
        json!({"prompt": "Hi", "chosen": "Hello", "rejected": format!("no. {TEST}")}),
        json!({"prompt": "Hi", "completions": [{"text": TEST}]}),
        json!({"text": "48 of her friends", "source": TEST}),
    ];
    let bench = Bench::new(&rows);
    let (report, kept) = bench.run(&bench.job());
    assert_eq!(kept, [rows[0].clone(), rows[3].clone(), rows[6].clone()], "as they were");
    assert_eq!((report.rows, report.kept, report.removed, report.cut), (7, 3, 4, 0));
    let test = &report.against[0];
    assert_eq!((test.items, test.found, test.rows), (2, 2, 4));
    let first = &report.matches[0];
    assert!(first.row.ends_with("data.jsonl:2") && first.item.ends_with("test.jsonl:1"), "{first:?}");
    assert_eq!((&first.id, &first.item_id), (&Some(json!(2)), &Some(json!("t0"))));
    assert_eq!(first.shared, "to 48 of her friends in April, and then she");
    assert_eq!(report.files[0].sha256.len(), 64);
    for threads in [1, 3, 16] {
        let threads = NonZeroUsize::new(threads).expect("some");
        assert_eq!(bench.run(&Decontamination { threads, ..bench.job() }).1, kept);
    }
}

#[test]
fn segments_are_cut_and_the_rest_is_kept() {
    let text = format!("A page on clips.\nAs in: {TEST}\nThe end.\n");
    let across = "One line ends: sold clips to 48 of her\nfriends in April, and then she.\nThe end.";
    let bench = Bench::new(&[json!({"text": text}), json!({"text": across}), json!({"text": TEST, "id": 3})]);
    let job = Decontamination { segments: true, ..bench.job() };
    let (report, kept) = bench.run(&job);
    assert_eq!(kept, [json!({"text": "A page on clips.\nThe end.\n"}), json!({"text": "The end."})]);
    assert_eq!((report.kept, report.cut, report.removed), (2, 2, 1), "nothing was left of the third");
    bench.write("data.jsonl", &[json!({"prompt": TEST})]);
    let error = job.run(&bench.at("out.jsonl"), &mut |_| {}).expect_err("no text").to_string();
    assert!(error.contains("data.jsonl:1") && error.contains("--segments"), "{error}");
}

#[test]
fn fields_can_be_named_and_rows_without_any_are_refused() {
    let bench = Bench::new(&[json!({"frage": TEST}), json!({"frage": "Hi"})]);
    let error = bench.job().run(&bench.at("out.jsonl"), &mut |_| {}).expect_err("no field").to_string();
    assert!(error.contains("data.jsonl:1") && error.contains("--field"), "{error}");
    assert!(!bench.at("out.jsonl").exists(), "nothing is left behind");
    let job = Decontamination { fields: vec!["frage".into(), "prompt".into()], ..bench.job() };
    assert_eq!(bench.run(&job).1, [json!({"frage": "Hi"})]);
    fs::write(bench.at("data.jsonl"), "").expect("written");
    bench.job().run(&bench.at("out.jsonl"), &mut |_| {}).expect("an empty file has nothing to drop");
}
