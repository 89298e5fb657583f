//! Pulls from a server that speaks the hub's protocol, and misbehaves as each test asks.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use koan_files::{FilesError, sha256};
use koan_hub::{Hub, HubError, Pulled, Wanted};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server holds, and how it behaves.
#[derive(Clone, Default)]
struct Site {
    files: BTreeMap<String, Vec<u8>>,
    /// Requests must carry it.
    token: Option<&'static str>,
    /// A file's connection is cut after so many bytes, each time.
    cut: Option<usize>,
    /// Ranges are ignored.
    no_ranges: bool,
    /// Hashes are stated wrong.
    wrong_hashes: bool,
    /// The listing is this text.
    listing: Option<String>,
}

impl Site {
    fn model() -> Self {
        let weights: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let files = [
            ("config.json", b"{}".to_vec()),
            ("model.safetensors", weights),
            ("tokenizer.json", b"{\"a\": 1}".to_vec()),
            ("pytorch_model.bin", b"not wanted".to_vec()),
            ("../../evil.json", b"not wanted".to_vec()),
            ("onnx/config.json", b"not wanted".to_vec()),
        ];
        Self { files: files.map(|(name, bytes)| (name.to_owned(), bytes)).into(), ..Self::default() }
    }

    fn listing(&self) -> String {
        let sibling = |(name, bytes): (&String, &Vec<u8>)| {
            if is_large(name) {
                let mut hash = sha256(bytes);
                if self.wrong_hashes {
                    hash.replace_range(..4, "0000");
                }
                let size = bytes.len();
                serde_json::json!({"rfilename": name, "size": size, "lfs": {"sha256": hash, "size": size}})
            } else {
                serde_json::json!({"rfilename": name})
            }
        };
        let siblings: Vec<_> = self.files.iter().map(sibling).collect();
        serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string()
    }

    /// Answers one request. Weights are elsewhere, as on the hub: their address is a redirect.
    fn answer(&self, mut stream: TcpStream, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
        let (mut first, mut range, mut token) = (String::new(), 0, None);
        let mut reader = BufReader::new(stream.try_clone()?);
        reader.read_line(&mut first)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((key, value)) = line.trim().split_once(": ") else { break };
            match &*key.to_lowercase() {
                "range" => {
                    range = value.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0);
                }
                "authorization" => token = Some(value.trim_start_matches("Bearer ").to_owned()),
                _ => {}
            }
        }
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        log.lock().expect("the log").push(format!("{path} {range} {}", token.as_deref().unwrap_or("-")));
        let mut plain = |status: &str, headers: &str, body: &[u8]| {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
            );
            stream.write_all(head.as_bytes())?;
            let sent =
                if path.starts_with("/cdn/") { self.cut.unwrap_or(length).min(length) } else { length };
            stream.write_all(&body[..sent])
        };
        if self.token.is_some() && self.token != token.as_deref() {
            return plain("401 Unauthorized", "", b"{\"error\": \"Invalid credentials\"}");
        }
        if path == "/api/models/org/tiny/revision/main?blobs=true"
            || path == "/api/datasets/org/tiny/revision/main?blobs=true"
        {
            let listing = self.listing.clone().unwrap_or_else(|| self.listing());
            return plain("200 OK", "content-type: application/json\r\n", listing.as_bytes());
        }
        let prefix = if path.starts_with("/datasets/") { "/datasets" } else { "" };
        let resolve = format!("{prefix}/org/tiny/resolve/{COMMIT}/");
        if let Some(name) = path.strip_prefix(&resolve).filter(|name| is_large(name)) {
            return plain("302 Found", &format!("location: /cdn/{name}\r\n"), b"");
        }
        let name = path.strip_prefix(&resolve).or(path.strip_prefix("/cdn/"));
        match name.and_then(|name| self.files.get(name)) {
            None => plain("404 Not Found", "", b"{}"),
            Some(bytes) if range > 0 && !self.no_ranges => {
                let headers = format!("content-range: bytes {range}-{}/{}\r\n", bytes.len() - 1, bytes.len());
                plain("206 Partial Content", &headers, &bytes[range..])
            }
            Some(bytes) => plain("200 OK", "", bytes),
        }
    }

    /// Serves until the test ends. The address, and what was asked: path, first byte, token.
    fn serve(self) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let seen = log.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = self.answer(stream, &seen); // a client that goes away is none of the server's business
            }
        });
        (address, log)
    }
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".parquet")
}

fn pull(address: &str, token: Option<&str>, out: &Path) -> Result<Pulled, HubError> {
    let mut last = 0;
    Hub::new(address, token.map(str::to_owned))?.pull("org/tiny", "main", out, &mut |progress| {
        last = progress.done;
    })
}

fn said(error: &HubError) -> String {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

#[test]
fn a_model_is_fetched_whole() {
    let site = Site::model();
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("tiny");
    let (address, log) = Site { token: Some("secret"), ..site.clone() }.serve();
    let pulled = pull(&address, Some("secret"), &out).expect("pulled");
    assert_eq!(pulled.files, ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(pulled.commit, COMMIT);
    for name in &pulled.files {
        assert_eq!(fs::read(out.join(name)).expect(name), site.files[name], "{name}");
    }
    assert_eq!(fs::read_dir(&out).expect("the directory").count(), 4);
    let origin = fs::read_to_string(out.join("origin.toml")).expect("where it is from");
    assert!(origin.ends_with(&format!("name = \"org/tiny\"\ncommit = \"{COMMIT}\"\n")), "{origin}");
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1, "nothing beside it");
    assert!(log.lock().expect("the log").iter().all(|line| !line.contains("evil") && !line.contains("bin")));
    assert!(matches!(pull(&address, Some("secret"), &out), Err(HubError::Files(FilesError::Exists { .. }))));
}

#[test]
fn a_cut_connection_is_taken_up_where_it_broke() {
    let site = Site::model();
    for no_ranges in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("tiny");
        let (address, log) = Site { cut: Some(250_000), no_ranges, ..site.clone() }.serve();
        let pulled = pull(&address, None, &out);
        let log = log.lock().expect("the log");
        if no_ranges {
            // The whole never comes through. What is there is refused, not passed off as the file.
            assert!(pulled.is_err() && !out.exists(), "{log:?}");
        } else {
            pulled.expect("pulled");
            assert!(log.iter().any(|line| line.starts_with("/cdn/model.safetensors 250000")), "{log:?}");
            assert_eq!(
                fs::read(out.join("model.safetensors")).expect("weights"),
                site.files["model.safetensors"]
            );
        }
    }
}

#[test]
fn an_interrupted_pull_goes_on() {
    let site = Site::model();
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("tiny");
    let (broken, _) = Site { cut: Some(0), ..site.clone() }.serve();
    let parts = folder.path().join(".tiny.pull");
    let error = pull(&broken, None, &out).expect_err("cut");
    assert!(!out.exists() && parts.join("config.json").exists(), "{}", said(&error));
    fs::write(parts.join("model.safetensors.part"), &site.files["model.safetensors"][..300_000])
        .expect("written");
    let (address, log) = site.clone().serve();
    pull(&address, None, &out).expect("pulled");
    assert_eq!(fs::read(out.join("model.safetensors")).expect("weights"), site.files["model.safetensors"]);
    let log = log.lock().expect("the log");
    assert!(log.iter().any(|line| line.starts_with("/cdn/model.safetensors 300000")), "{log:?}");
    assert!(!log.iter().any(|line| line.contains("config.json")), "{log:?}");
}

#[test]
fn what_is_not_as_stated_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("tiny");
    let (address, _) = Site { wrong_hashes: true, ..Site::model() }.serve();
    let error = pull(&address, None, &out).expect_err("refused");
    assert!(matches!(&error, HubError::Damaged { what: "SHA-256", .. }), "{}", said(&error));
    assert!(!out.exists() && !folder.path().join(".tiny.pull/model.safetensors.part").exists());
    // A file of another size than the listing says, larger and smaller.
    for size in [10, 1_000_000] {
        let listing = serde_json::json!({"sha": COMMIT, "siblings": [
            {"rfilename": "config.json"}, {"rfilename": "model.safetensors", "size": size}]});
        let (address, _) = Site { listing: Some(listing.to_string()), ..Site::model() }.serve();
        let error = pull(&address, None, &out).expect_err("refused");
        assert!(matches!(&error, HubError::Damaged { what: "size", .. }), "{}", said(&error));
    }
}

#[test]
fn refusals_say_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("tiny");
    let (address, _) = Site { token: Some("secret"), ..Site::model() }.serve();
    for (token, wanted) in
        [(None, "set HF_TOKEN to a token"), (Some("wrong"), "the token in HF_TOKEN may not")]
    {
        let error = pull(&address, token, &out).expect_err("refused").to_string();
        assert!(error.contains(wanted) && error.contains("401"), "{error}");
    }
    let (address, _) = Site::model().serve();
    let hub = Hub::new(&address, None).expect("a hub");
    let error = |name: &str, revision: &str| {
        hub.pull(name, revision, &out, &mut |_| {}).expect_err("refused").to_string()
    };
    assert!(error("org/other", "main").contains("org/other/revision/main"), "{}", error("org/other", "main"));
    for name in ["tiny", "../tiny", "org/../x", "org/ti ny", "org/a/b", "/tiny", "org/%2e"] {
        assert!(error(name, "main").contains("OWNER/NAME"), "{name}");
    }
    for revision in ["", "a b", "..", "x?y", "refs/../main"] {
        assert!(error("org/tiny", revision).contains("not a revision"), "{revision}");
    }
    let listing = |listing: &str| {
        let (address, _) = Site { listing: Some(listing.to_owned()), ..Site::model() }.serve();
        pull(&address, None, &out).expect_err("refused").to_string()
    };
    assert!(listing("<html>").contains("not a description of a repository"));
    assert!(listing("{\"sha\": \"../x\", \"siblings\": []}").contains("its commit is not one"));
    assert!(listing("{\"sha\": \"00\", \"siblings\": []}").contains("has no config.json"));
    let bare = "{\"sha\": \"00\", \"siblings\": [{\"rfilename\": \"config.json\"}]}";
    assert!(listing(bare).contains("no weights in safetensors"));
    assert!(!out.exists());
    for endpoint in ["huggingface.co", "ftp://host", "http://", ""] {
        assert!(matches!(Hub::new(endpoint, None), Err(HubError::Endpoint { .. })), "{endpoint}");
    }
    assert!(matches!(Hub::new("http://localhost", Some("a\nb".into())), Err(HubError::Token)));
    // Nobody listens there.
    let gone = pull("http://127.0.0.1:9", None, &out).expect_err("refused");
    assert!(matches!(gone, HubError::Fetch { .. }), "{}", said(&gone));
}

#[test]
fn a_data_set_is_fetched_into_its_folders_and_resumed() {
    let rows: Vec<u8> = (0..50_000u32).flat_map(u32::to_le_bytes).collect();
    let files = [
        ("README.md", b"about".to_vec()),
        ("data/train-00000-of-00001.parquet", rows.clone()),
        ("data/test-00000-of-00001.parquet", b"test".to_vec()),
        ("extra/train.jsonl", b"{}\n".to_vec()),
        ("loader.py", b"not wanted".to_vec()),
        ("../../evil.jsonl", b"not wanted".to_vec()),
    ];
    let files: BTreeMap<_, _> = files.map(|(name, bytes)| (name.to_owned(), bytes)).into();
    let site = Site { files, ..Site::default() };
    let folder = tempfile::tempdir().expect("a folder");
    let pull = |site: Site, wanted: &Wanted, out: &str| {
        let (address, log) = site.serve();
        let pulled = Hub::new(&address, None).expect("a hub").pull_data(
            "org/tiny",
            "main",
            wanted,
            &folder.path().join(out),
            &mut |_| {},
        );
        (pulled, log.lock().expect("the log").clone())
    };
    let train = Wanted { splits: vec!["train".to_owned()], ..Wanted::default() };
    // Cut after 60000 bytes each time: each request goes on where the last broke.
    let (pulled, log) = pull(Site { cut: Some(60_000), ..site.clone() }, &train, "train");
    let pulled = pulled.expect("fetched");
    assert_eq!(pulled.files, ["data/train-00000-of-00001.parquet", "extra/train.jsonl", "README.md"]);
    let at = |name: &str| fs::read(folder.path().join("train").join(name)).expect(name);
    assert_eq!((at("data/train-00000-of-00001.parquet"), at("extra/train.jsonl")), (rows, b"{}\n".to_vec()));
    assert!(log.iter().any(|line| line.contains(" 60000 ")), "{log:?}");
    assert!(!folder.path().join("evil.jsonl").exists() && !folder.path().join("train/loader.py").exists());

    let one = Wanted { files: vec!["data/test*".to_owned()], ..Wanted::default() };
    assert_eq!(pull(site.clone(), &one, "test").0.expect("fetched").files.len(), 2);
    let (damaged, _) = pull(Site { wrong_hashes: true, ..site.clone() }, &train, "damaged");
    assert!(matches!(damaged, Err(HubError::Damaged { .. })), "{damaged:?}");
    let none = Wanted { splits: vec!["validation".to_owned()], ..Wanted::default() };
    let error = pull(site.clone(), &none, "none").0.expect_err("none").to_string();
    assert!(error.contains("of what is asked for; its data files: data/test-00000"), "{error}");
    let loader = BTreeMap::from([("loader.py".to_owned(), b"code".to_vec())]);
    let error =
        pull(Site { files: loader, ..site }, &Wanted::default(), "none").0.expect_err("none").to_string();
    assert!(error.contains("--revision refs/convert/parquet"), "{error}");
    assert!(!folder.path().join("none").exists());
}
