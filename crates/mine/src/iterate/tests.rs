use std::fs;

use koan_files::jsonl;
use serde_json::{Value, json};

use super::*;

/// A page of sentences that `i` gives.
fn sentences(kind: &str, i: usize) -> String {
    let (subjects, rest): ([&str; 4], [&str; 5]) = match kind {
        "formulas" => (
            ["theorem", "lemma", "proof", "equation"],
            [
                "shows $x^2 = 4$ again",
                "bounds $\\frac{a}{b}$ above",
                "needs $n \\le 7$ and more",
                "divides $\\sum k$ evenly",
                "solves $y=1$",
            ],
        ),
        // Words of mathematics that the seed has beside formulas, and words that only prose has.
        "prose" => (
            ["theorem", "lemma", "proof", "conjecture"],
            [
                "pairs primes with squares",
                "counts odd divisors",
                "folds triangles onto circles",
                "colours every graph",
                "sums endless series",
            ],
        ),
        _ => (
            ["kettle", "ferry", "garden", "mayor"],
            [
                "ships within days",
                "closes at noon",
                "costs $5 or $20 today",
                "needs fresh paint",
                "pleased the visitors",
            ],
        ),
    };
    let sentence = |k: usize| {
        format!("The {} of place {} {}.", subjects[(i + k) % 4], (i * 7 + k) % 50, rest[(i * 3 + k) % 5])
    };
    (0..8).map(sentence).collect::<Vec<_>>().join(" ")
}

struct Bench {
    folder: tempfile::TempDir,
    /// Which pages are mathematics, by URL.
    maths: BTreeMap<String, bool>,
}

impl Bench {
    /// A pool of three files with domains of mathematics, of prose, of neither, and mixed.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let seed: Vec<Value> = (1000..1200).map(|i| json!({"text": sentences("formulas", i)})).collect();
        jsonl::write(&folder.path().join("seed.jsonl"), seed).expect("written");
        let (mut rows, mut maths) = (Vec::new(), BTreeMap::new());
        for i in 0..240 {
            let (host, path, kind) = match i % 8 {
                0 => ("www.lemmas.org", "f", "formulas"),
                1 => ("notes.uni.ac.uk", "maths", if i / 8 % 3 == 0 { "formulas" } else { "prose" }),
                2 => ("notes.uni.ac.uk", "office", "other"),
                n => {
                    (["shop.com", "news.org", "a.github.io", "b.github.io", "blog.net"][n - 3], "p", "other")
                }
            };
            let url = format!("http://{host}/{path}/{i}");
            maths.insert(url.clone(), kind != "other");
            rows.push(json!({"url": url, "text": sentences(kind, i), "kind": kind}));
        }
        for (i, rows) in rows.chunks(90).enumerate() {
            jsonl::write(&folder.path().join(format!("pool-{i}.jsonl")), rows).expect("written");
        }
        Self { folder, maths }
    }

    fn learn(&self, name: &str) -> Learn {
        let at = |name: &str| self.folder.path().join(name);
        let learn = json!({
            "run_dir": at(name),
            "train": {"positives": at("seed.jsonl")},
            "model": {"dim": 16, "buckets": 4096, "epochs": 10, "lr": 0.5},
            "iterate": {"documents": at("pool-*.jsonl"), "rounds": 3},
        });
        serde_json::from_value(learn).expect("settings")
    }

    fn iteration(&self, name: &str) -> Iteration {
        Iteration::new(self.learn(name)).expect("settings")
    }

    /// Of the documents that were kept, how many are mathematics, and how many are not.
    fn judge(&self, corpus: &Path) -> (usize, usize) {
        let mut found = (0, 0);
        let files = koan_data::DataFiles::from(corpus.join("*.jsonl.zst"));
        for path in files.paths().expect("files") {
            for row in Rows::open(&path).expect("rows") {
                let row: Value = pool::parse(row.expect("a row")).expect("JSON");
                assert!(row["score"].as_f64().expect("a score") >= 0.5 && row["kind"].is_string());
                if self.maths[row["url"].as_str().expect("an URL")] { found.0 += 1 } else { found.1 += 1 }
            }
        }
        found
    }
}

/// All files of a folder with their bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(
                files(&path)
                    .into_iter()
                    .map(|(name, bytes)| (Path::new(path.file_name().expect("a name")).join(name), bytes)),
            );
        } else {
            found.insert(path.file_name().expect("a name").into(), fs::read(&path).expect("read"));
        }
    }
    found
}

#[test]
fn rounds_find_the_prose_of_domains_and_leave_the_rest() {
    let bench = Bench::new();
    let loop_ = bench.iteration("loop");
    let Outcome::Finished(report, corpus) = loop_.run(true, &mut |_| {}).expect("runs") else {
        panic!("it chooses by rules")
    };
    let (maths, other) = bench.judge(&corpus);
    assert!(maths >= 57 && other == 0, "{maths} of 60, {other} of 180\n{}", table(&report));
    assert!(report.rounds.len() >= 2 && report.rounds[0].documents == 240);
    let chosen = Chosen::read(&loop_.round_folder(1), 1).expect("a choice");
    assert!(
        chosen.holds("https://notes.uni.ac.uk/maths/9") && !chosen.holds("http://notes.uni.ac.uk/office/1")
    );
    assert!(chosen.holds("http://www.lemmas.org/") && !chosen.holds("http://shop.com/p/1"));
    let page = fs::read_to_string(loop_.round_folder(1).join("domains.html")).expect("a page");
    assert!(
        page.contains("notes.uni.ac.uk/maths/") && page.contains("Not kept") && !page.contains("shop.com")
    );
    let figures = table(&report);
    assert!(figures.contains("tokens kept") && figures.lines().count() == 11, "{figures}");
}

#[test]
fn a_loop_that_ends_anywhere_goes_on_to_the_same_bytes() {
    let bench = Bench::new();
    bench.iteration("whole").run(true, &mut |_| {}).expect("runs");
    let whole = files(&bench.folder.path().join("whole"));
    let again = bench.iteration("parts");
    again.run(true, &mut |_| {}).expect("runs");
    // As if it had been killed: files of the middle and of the end are not there yet.
    for missing in [
        &["round-2/scores/00001.bin", "round-2/report.json"][..],
        &["round-1/classifier.bin", "round-1/report.json"],
        &["corpus/00002.jsonl.zst", "report.json"],
        &["round-1/chosen.tsv"],
    ] {
        for name in missing {
            fs::remove_file(again.learn.run_dir.join(name)).expect("removed");
        }
        again.run(true, &mut |_| {}).expect("goes on");
        let parts = files(&again.learn.run_dir);
        assert!(parts.keys().eq(whole.keys()));
        for (name, bytes) in &parts {
            assert!(*bytes == whole[name] || name.ends_with("loop.json"), "{missing:?}: {}", name.display());
        }
    }
    let mut other = bench.iteration("parts");
    other.iterate.domain_share = 0.2;
    let error = other.run(true, &mut |_| {}).expect_err("other settings").to_string();
    assert!(error.contains("other settings"), "{error}");
}

#[test]
fn a_person_chooses_from_the_list_of_this_round() {
    let bench = Bench::new();
    let loop_ = bench.iteration("asked");
    assert!(loop_.list().expect_err("none yet").to_string().contains("koan mine iterate"));
    let Outcome::Choose(report, list) = loop_.run(false, &mut |_| {}).expect("runs") else {
        panic!("it asks")
    };
    assert_eq!((report.rounds.len(), list.round), (1, 1));
    assert!(list.prefixes >= 3);
    let text = fs::read_to_string(&list.path).expect("a list");
    assert!(text.contains("\tac.uk") || text.contains("\tuni.ac.uk\tnotes.uni.ac.uk/maths/\t"), "{text}");
    let mine = bench.folder.path().join("mine.tsv");
    let accept = |text: &str| {
        fs::write(&mine, text).expect("written");
        list.accept(&mine)
    };
    for (wrong, wanted) in [
        (text.replacen("round 1", "round 2", 1), "first line"),
        (text.replacen("list ", "list 0", 1), "first line"),
        (format!("{text}yes\thttp://blog.net/p/\n"), "a mark"),
        (format!("{text}x\tnothing\n"), "a host and a path"),
    ] {
        let error = accept(&wrong).expect_err("wrong").to_string();
        assert!(error.contains(wanted) && error.contains("mine.tsv"), "{error}");
    }
    let unmarked = text.replace("\nx\t", "\n\t");
    let chosen = accept(&format!("{unmarked}x\thttp://Notes.uni.ac.uk/maths/\n")).expect("a choice");
    assert_eq!(chosen.len(), 1);
    assert!(chosen.holds("http://notes.uni.ac.uk/maths/1") && !chosen.is_empty());
    let Outcome::Choose(report, list) = loop_.run(false, &mut |_| {}).expect("goes on") else {
        panic!("it asks again")
    };
    assert!(report.rounds[1].from_prefixes > 0 && list.round == 2);
    assert_eq!(loop_.list().expect("a list"), list);
}

#[test]
fn a_budget_keeps_the_best() {
    let bench = Bench::new();
    let mut loop_ = bench.iteration("budget");
    loop_.iterate.rounds = 1;
    loop_.iterate.keep_tokens = Some(1500);
    let Outcome::Finished(report, corpus) = loop_.run(true, &mut |_| {}).expect("runs") else {
        panic!("one round")
    };
    let round = &report.rounds[0];
    assert!(round.kept_tokens <= 1500 && round.kept_tokens > 1000 && round.cut > 0.5, "{round:?}");
    assert_eq!(bench.judge(&corpus).0 as u64, round.kept);
}

#[test]
fn settings_and_rows_that_cannot_be_are_named() {
    let bench = Bench::new();
    let fails = |change: &dyn Fn(&mut Learn)| {
        let mut learn = bench.learn("wrong");
        change(&mut learn);
        let loop_ = Iteration::new(learn).and_then(|l| l.run(true, &mut |_| {}));
        loop_.expect_err("wrong").to_string()
    };
    let iterate =
        |change: &dyn Fn(&mut Iterate)| fails(&|learn| change(learn.iterate.as_mut().expect("rounds")));
    assert!(iterate(&|i| i.rounds = 0).contains("iterate.rounds"));
    assert!(iterate(&|i| i.domain_share = 2.0).contains("iterate.domain_share"));
    assert!(iterate(&|i| i.keep_tokens = Some(0)).contains("iterate.keep_tokens"));
    assert!(fails(&|l| l.train.max_documents = 0).contains("train.max_documents"));
    assert!(fails(&|l| l.model.dim = 0).contains("`dim`"));
    assert!(fails(&|l| l.iterate = None).contains("[iterate]"));
    let bad = bench.folder.path().join("bad.jsonl");
    fs::write(&bad, "{\"text\": \"no URL\"}\n").expect("written");
    let error = iterate(&|i| i.documents = bad.clone().into());
    assert!(error.contains("bad.jsonl:1") && error.contains("url"), "{error}");
}

#[test]
fn a_classifier_is_trained_once_from_a_config() {
    let bench = Bench::new();
    let path = bench.folder.path().join("train.toml");
    let config = |negatives: &str| {
        let folder = bench.folder.path().display();
        let text = format!(
            "run_dir = '{folder}/once'\n[train]\npositives = '{folder}/seed.jsonl'\n{negatives}\n[model]\ndim = 8\nbuckets = 4096\n"
        );
        fs::write(&path, text).expect("written");
        Learn::read(&path)
    };
    let others: Vec<Value> = (0..200).map(|i| json!({"text": sentences("other", i)})).collect();
    jsonl::write(&bench.folder.path().join("others.jsonl"), others).expect("written");
    let negatives = format!("negatives = '{}/others.jsonl'", bench.folder.path().display());
    let trained = train(&config(&negatives).expect("a config"), &mut |_| {}).expect("trained");
    let classifier = Classifier::load(&trained.classifier).expect("loaded");
    assert!(
        classifier.score(&sentences("formulas", 7)) > trained.cut
            && classifier.score(&sentences("other", 7)) < 0.5
    );
    assert!(trained.recall > 0.9 && trained.positives > 50 && trained.words > 10);
    let first = fs::read(&trained.classifier).expect("read");
    train(&config(&negatives).expect("a config"), &mut |_| {}).expect("trained");
    assert!(fs::read(&trained.classifier).expect("read") == first, "the same bits");
    let error = train(&config("").expect("a config"), &mut |_| {}).expect_err("none").to_string();
    assert!(error.contains("train.negatives"), "{error}");
    let error = config("negative = 'a'").expect_err("a wrong key").to_string();
    assert!(error.contains("train.toml") && error.contains("negative"), "{error}");
}
