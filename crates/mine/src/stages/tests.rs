//! A small crawl, mined in every way that must give the same bytes.

use std::{collections::BTreeMap, fs, path::Path, process::Command, sync::Mutex, time::Duration};

use super::*;
use crate::{Config, Document};

/// A text of 60 words that no other number gives.
fn text(n: usize) -> String {
    let word = |i: usize| {
        let mut x = ((n * 1000 + i) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x ^= x >> 31;
        (0..5).map(|k| char::from(b'a' + (x >> (k * 7) & 15) as u8)).collect::<String>()
    };
    format!("The proof of {n}. {}.", (0..60).map(word).collect::<Vec<_>>().join(" "))
}

fn response(url: &str, text: &str) -> Vec<u8> {
    let html = format!(
        "<html><head><title>T</title></head><body><article><h1>On numbers</h1><p>{text}</p></article></body></html>"
    );
    let body = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}");
    format!("WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nContent-Length: {}\r\n\r\n{body}\r\n\r\n", body.len())
        .into_bytes()
}

const ITEM: &str =
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May.";

/// Writes five files of a crawl and a file of test items; the config names them.
fn crawl(folder: &Path) -> Config {
    for file in 0..5 {
        let mut bytes = Vec::new();
        for page in 0..12 {
            let n = file * 100 + page;
            bytes.extend(response(&format!("http://site{}.example/{n}", n % 7), &text(n)));
        }
        // Captured before, a mirror, a page with a test item, and one that is too short.
        bytes.extend(response(&format!("http://SITE{}.example:80/{}#x", 300 % 7, 300), &text(900 + file)));
        bytes.extend(response(&format!("http://mirror{file}.example/"), &text(204)));
        bytes.extend(response(
            &format!("http://test.example/{file}"),
            &format!("{}</p><p>{ITEM}</p><p>{}", text(950 + file), text(960 + file)),
        ));
        bytes.extend(response(&format!("http://short.example/{file}"), "Too short."));
        fs::write(folder.join(format!("crawl-{file}.warc")), bytes).expect("written");
    }
    fs::write(folder.join("tests.jsonl"), format!("{}\n", serde_json::json!({"id": "n1", "text": ITEM})))
        .expect("written");
    config(folder, "run")
}

fn config(folder: &Path, run: &str) -> Config {
    let path = folder.join(format!("{run}.toml"));
    let at = |name: &str| folder.join(name).display().to_string();
    let text = format!(
        "input = [{:?}]\nrun_dir = {:?}\n[decontaminate]\nagainst = [{:?}]\n[exchange]\nparts = 4\n[write]\nparquet = true\n",
        at("crawl-*.warc"),
        at(run),
        at("tests.jsonl")
    );
    fs::write(&path, text).expect("written");
    Config::read(&path).expect("a config")
}

fn all(config: Config, workers: usize) -> Result<Report, MineError> {
    Run::open(config, Some(workers))?.all(&|_| {})
}

/// All files of the corpus and the report, by name.
fn made(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let corpus =
        fs::read_dir(folder.join("corpus")).expect("a corpus").map(|entry| entry.expect("an entry").path());
    corpus
        .chain([folder.join("report.json")])
        .map(|path| {
            (path.file_name().expect("a name").to_string_lossy().into_owned(), fs::read(&path).expect("read"))
        })
        .collect()
}

fn documents(folder: &Path) -> Vec<Document> {
    let mut documents = Vec::new();
    for (name, bytes) in made(folder) {
        if name.ends_with("jsonl.zst") {
            let text = zstd::decode_all(&bytes[..]).expect("unpacked");
            let rows = text.split(|byte| *byte == b'\n').filter(|row| !row.is_empty());
            documents.extend(rows.map(|row| serde_json::from_slice::<Document>(row).expect("a document")));
        }
    }
    documents
}

#[test]
fn a_crawl_becomes_a_corpus_and_the_report_says_how() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = all(crawl(folder.path()), 2).expect("a corpus");
    let run = folder.path().join("run");
    let documents = documents(&run);
    // 60 pages, one more capture of 300 in the file before its own, one mirrored page, five with an item.
    assert_eq!(documents.len() as u64, report.documents);
    assert_eq!((report.inputs, report.pages, report.documents), (5, 80, 65));
    let step = |name: &str| report.steps.iter().find(|step| step.name == name).expect("a step");
    assert_eq!((step("urls").removed, step("near-duplicates").removed), (5, 5));
    assert_eq!(step("quality").reasons, BTreeMap::from([("too_few_words".to_owned(), 5)]));
    assert_eq!((report.cut_documents, report.clusters), (5, 1));
    assert!(documents.iter().all(|document| !document.text.contains("Natalia")));
    // The first in the input stays: of the URL that of file 0, of the mirrors that of file 0 too.
    let of = |url: &str| documents.iter().filter(|document| document.url.contains(url)).count();
    assert_eq!((of("mirror0."), of("mirror"), of("/204"), of("/300")), (1, 1, 0, 1));
    let kept = documents.iter().find(|document| document.url.ends_with("/300#x")).expect("the first capture");
    assert!(
        kept.url.starts_with("http://SITE6")
            && kept.domain == "site6.example"
            && kept.source.file.ends_with("crawl-0.warc")
    );
    let bytes = fs::read(&kept.source.file).expect("read");
    assert!(
        bytes[kept.source.offset as usize..]
            .starts_with(b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://SITE6")
    );
    assert!(
        step("near-duplicates").samples["removed"].len() == 4
            && step("decontamination").samples["cut"][0].text.contains("Natalia")
    );
    assert!(report.to_string().contains("65 documents"));
    // `koan pretrain` reads it as it stands.
    let pattern = run.join("corpus/*.jsonl.zst").display().to_string();
    let corpus = koan_data::read_corpus(&std::path::PathBuf::from(pattern).into()).expect("a corpus");
    assert_eq!(corpus.len(), 65);
    let hits = fs::read(run.join("write/00000.hits.jsonl.zst")).expect("hits");
    let hits = String::from_utf8(zstd::decode_all(&hits[..]).expect("unpacked")).expect("text");
    assert!(hits.contains("\"id\":\"n1\"") && hits.contains("test.example/0"), "{hits}");
    // Nothing is made again.
    let before =
        fs::metadata(run.join("pages/00000.json")).and_then(|metadata| metadata.modified()).expect("a time");
    all(config(folder.path(), "run"), 1).expect("the same");
    assert_eq!(
        fs::metadata(run.join("pages/00000.json")).and_then(|metadata| metadata.modified()).expect("a time"),
        before
    );
}

#[test]
fn shards_threads_and_their_order_change_no_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    all(crawl(folder.path()), 1).expect("a corpus");
    let wanted = made(&folder.path().join("run"));
    assert_eq!(wanted.len(), 11);
    for (n, workers) in [(1, 4), (3, 1), (8, 2)] {
        let name = format!("run{n}");
        for stage in Stage::ALL {
            for index in (0..n).rev() {
                let run = Run::open(config(folder.path(), &name), Some(workers)).expect("a run");
                if stage == Stage::Urls && index == 0 && n > 1 {
                    let error = run
                        .stage(Stage::Near, Shard { index, of: n }, &|_| {})
                        .expect_err("too early")
                        .to_string();
                    assert!(error.contains("the stage `urls` are not made"), "{error}");
                }
                run.stage(stage, Shard { index, of: n }, &|_| {}).expect("a shard");
            }
        }
        assert_eq!(made(&folder.path().join(&name)), wanted, "{n} shards");
    }
    // Another number of shards goes on with what is there.
    let run = Run::open(config(folder.path(), "mixed"), Some(2)).expect("a run");
    run.stage(Stage::Pages, Shard { index: 1, of: 3 }, &|_| {}).expect("a shard");
    run.all(&|_| {}).expect("the rest");
    assert_eq!(made(&folder.path().join("mixed")), wanted);
}

#[test]
fn what_changed_is_made_again_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    all(crawl(folder.path()), 1).expect("a corpus");
    let run = folder.path().join("run");
    let wanted = made(&run);
    let stamp =
        |name: &str| fs::metadata(run.join(name)).and_then(|metadata| metadata.modified()).expect("a time");
    // Damage of any file is noticed by its digest.
    let names = [
        "pages/00001.jsonl.zst",
        "pages/00002.bands",
        "urls/00001.removed",
        "near/00003.pairs",
        "corpus/00004.jsonl.zst",
        "corpus/00004.parquet",
    ];
    for name in names {
        let mut bytes = fs::read(run.join(name)).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(run.join(name), bytes).expect("written");
        let whole = stamp("pages/00003.json");
        all(config(folder.path(), "run"), 1).expect("mended");
        assert_eq!(made(&run), wanted, "{name}");
        assert_eq!(stamp("pages/00003.json"), whole);
    }
    // A later stage alone says what is damaged.
    let path = run.join("pages/00001.jsonl.zst");
    let good = fs::read(&path).expect("read");
    let mut bytes = good.clone();
    let end = bytes.len() - 6;
    bytes[end] ^= 1;
    fs::write(&path, bytes).expect("written");
    fs::remove_file(run.join("write/00001.json")).expect("removed");
    let error = Run::open(config(folder.path(), "run"), None).expect("a run").stage(
        Stage::Write,
        Shard::WHOLE,
        &|_| {},
    );
    let error = error.expect_err("damaged").to_string();
    assert!(error.contains("00001.jsonl.zst` is not what its stage wrote"), "{error}");
    fs::write(&path, good).expect("written");
    // Other settings of a late stage leave the early ones as they are.
    let before = stamp("pages/00001.json");
    let mut other = config(folder.path(), "run");
    other.write.parquet = false;
    all(other, 1).expect("a corpus");
    assert_eq!(made(&run).len(), 6, "no tables are left");
    assert_eq!(stamp("pages/00001.json"), before);
    // Another file of the crawl.
    fs::write(folder.path().join("crawl-9.warc"), response("http://new.example/", &text(77)))
        .expect("written");
    let report = all(config(folder.path(), "run"), 1).expect("a corpus");
    assert_eq!((report.documents, stamp("pages/00001.json")), (66, before));
    fs::write(folder.path().join("crawl-9.warc"), response("http://new.example/", "now too short"))
        .expect("written");
    assert_eq!(all(config(folder.path(), "run"), 1).expect("a corpus").documents, 65);
    fs::remove_file(folder.path().join("crawl-9.warc")).expect("removed");
    all(config(folder.path(), "run"), 1).expect("a corpus");
    assert_eq!(made(&run), wanted);
}

#[test]
fn two_runs_in_one_folder_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    crawl(folder.path());
    let errors = Mutex::new(Vec::new());
    let run = Run::open(config(folder.path(), "run"), Some(1)).expect("a run");
    run.all(&|_| {
        let other = Run::open(config(folder.path(), "run"), Some(1)).expect("a run");
        let errors = &mut *errors.lock().expect("one thread");
        errors.extend(other.all(&|_| {}).err().map(|error| error.to_string()));
        errors.extend(other.stage(Stage::Pages, Shard::WHOLE, &|_| {}).err().map(|error| error.to_string()));
    })
    .expect("the first is not disturbed");
    let errors = errors.into_inner().expect("one thread");
    assert!(
        errors.len() > 10 && errors.iter().all(|error| error.contains("another `koan mine` works in")),
        "{errors:?}"
    );
}

#[test]
fn files_of_other_kinds_are_left_out_and_no_others_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = crawl(folder.path());
    fs::write(folder.path().join("old.arc"), "filedesc://a.arc 0.0.0.0 20100101 text/plain 76\n")
        .expect("written");
    let arc = folder.path().join("old.arc").display().to_string();
    config.input.push(arc.clone());
    let notes = Mutex::new(Vec::new());
    let report = Run::open(config.clone(), Some(1)).expect("a run").all(&|progress| {
        if let Progress::Note(note) = progress {
            notes.lock().expect("one thread").push(note);
        }
    });
    let report = report.expect("a corpus");
    assert_eq!((report.documents, report.steps[0].reasons["files_left_out"]), (65, 1));
    assert!(notes.into_inner().expect("one thread")[0].contains("is ARC"));
    config.input = vec![arc.clone()];
    config.run_dir = folder.path().join("other");
    assert!(all(config.clone(), 1).expect_err("nothing to read").to_string().contains("is ARC"));
    let page = folder.path().join("page.html");
    fs::write(&page, "<!doctype html><p>A page").expect("written");
    config.input = vec![arc, page.display().to_string()];
    let error = all(config, 1).expect_err("nothing to read").to_string();
    assert!(error.contains("no file of `input`"), "{error}");
}

/// Where the child of [`killed_at_any_moment_it_goes_on_to_the_same_bytes`] finds its config.
const CHILD: &str = "KOAN_MINE_TEST_CHILD";

#[test]
fn killed_at_any_moment_it_goes_on_to_the_same_bytes() {
    if let Some(folder) = std::env::var_os(CHILD) {
        all(config(Path::new(&folder), "killed"), 2).expect("a corpus");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    all(crawl(folder.path()), 1).expect("a corpus");
    let wanted = made(&folder.path().join("run"));
    let name = "stages::tests::killed_at_any_moment_it_goes_on_to_the_same_bytes";
    let start = || {
        let mut child = Command::new(std::env::current_exe().expect("this test"));
        child.args([name, "--exact"]).env(CHILD, folder.path()).stdout(std::process::Stdio::null());
        child.spawn().expect("started")
    };
    for milliseconds in (0..12).map(|i| 5 + i * 7) {
        let mut child = start();
        std::thread::sleep(Duration::from_millis(milliseconds));
        let _ = child.kill(); // it may have ended
        child.wait().expect("ended");
    }
    assert!(start().wait().expect("ended").success());
    assert_eq!(made(&folder.path().join("killed")), wanted);
}

#[test]
fn shards_and_stages_have_names() {
    assert_eq!("2/8".parse::<Shard>().expect("a shard"), Shard { index: 2, of: 8 });
    for wrong in ["8/8", "a/2", "1", "1/0", "-1/2"] {
        assert!(wrong.parse::<Shard>().expect_err(wrong).to_string().contains("give I/N"), "{wrong}");
    }
    for stage in Stage::ALL {
        assert_eq!(stage.name().parse::<Stage>().expect("a stage"), stage);
    }
    assert!("map".parse::<Stage>().expect_err("none").to_string().contains("pages, urls, near"));
}
