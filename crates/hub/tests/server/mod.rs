//! A hub in small, in memory: repositories of models that are made, written by commits, and read, by the protocol that the Hugging Face
//! hub's own tools speak; large files go by Git LFS, in one piece or in parts.
#![allow(dead_code, reason = "each of its users needs a part of it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use koan_files::sha256;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

/// How the hub behaves.
#[derive(Clone, Default)]
pub(crate) struct Manners {
    /// Who writes must have it.
    pub(crate) token: String,
    /// Large files are sent in parts of so many bytes.
    pub(crate) part_bytes: Option<usize>,
    /// So many of the requests that send a part of a large file fail with 503, the first ones.
    pub(crate) failures: usize,
    /// The first connections that send a large file break after so many bytes, each time one further.
    pub(crate) breaks: usize,
    /// Nobody may make repositories.
    pub(crate) no_new: bool,
    /// What is wrong with any model card.
    pub(crate) card: Option<&'static str>,
}

/// A file of a repository.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_large: bool,
}

/// What the hub holds.
#[derive(Default)]
pub(crate) struct Store {
    /// Files by repository and branch.
    pub(crate) branches: BTreeMap<(String, String), BTreeMap<String, Held>>,
    /// Large files by their hash.
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<(String, usize), Vec<u8>>,
    pub(crate) private: BTreeSet<String>,
    /// Messages of commits, with the names of their files.
    pub(crate) commits: Vec<(String, Vec<String>)>,
    /// Every request: method, address, and whether it had a token.
    pub(crate) log: Vec<(String, String, bool)>,
    broken: usize,
    failed: usize,
}

/// A hub that runs until the program ends.
#[derive(Clone)]
pub(crate) struct Server {
    /// Its address.
    pub(crate) endpoint: String,
    /// Its address under another name, where large files go.
    elsewhere: String,
    pub(crate) manners: Manners,
    pub(crate) store: Arc<Mutex<Store>>,
}

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn json(status: u16, value: &Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status, headers, body: value.to_string().into_bytes() }
    }

    fn error(status: u16, message: &str) -> Self {
        Self::json(status, &json!({"error": message}))
    }
}

impl Server {
    /// Serves on any free port of this machine.
    pub(crate) fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let server = Self {
            endpoint: format!("http://127.0.0.1:{port}"),
            elsewhere: format!("http://localhost:{port}"),
            manners,
            store: Arc::default(),
        };
        let serving = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                // A client that goes away is none of the server's business.
                thread::spawn(move || serving.serve(stream).ok());
            }
        });
        server
    }

    pub(crate) fn put(&self, repository: &str, name: &str, bytes: &[u8]) {
        let held = Held { bytes: bytes.to_vec(), is_large: is_large(name, bytes) };
        if held.is_large {
            self.store().objects.insert(sha256(bytes), bytes.to_vec());
        }
        let place = (repository.to_owned(), "main".to_owned());
        self.store().branches.entry(place).or_default().insert(name.to_owned(), held);
    }

    pub(crate) fn files(&self, repository: &str, branch: &str) -> BTreeMap<String, Held> {
        self.store().branches.get(&(repository.to_owned(), branch.to_owned())).cloned().unwrap_or_default()
    }

    pub(crate) fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().expect("nobody panics with it")
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let Some(request) = self.read(&mut reader)? else { return Ok(()) };
        let answer = self.answer(&request);
        let mut stream = stream;
        let mut head = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", answer.status);
        if !answer.headers.iter().any(|(key, _)| *key == "content-length") {
            write!(head, "content-length: {}\r\n", answer.body.len()).expect("a string");
        }
        for (key, value) in &answer.headers {
            write!(head, "{key}: {value}\r\n").expect("a string");
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        if request.method == "HEAD" { Ok(()) } else { stream.write_all(&answer.body) }
    }

    /// A request; none if the connection is to break.
    fn read(&self, reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let mut words = first.split_whitespace().map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((key, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(key.to_lowercase(), value.trim().to_owned());
        }
        let has_token = headers.contains_key("authorization");
        self.store().log.push((method.clone(), path.clone(), has_token));
        let breaks = method == "PUT" && {
            let mut store = self.store();
            store.broken += 1;
            store.broken <= self.manners.breaks
        };
        let mut body = Vec::new();
        if let Some(bytes) = headers.get("content-length").and_then(|length| length.parse().ok()) {
            if breaks {
                reader.take(1000.min(bytes)).read_to_end(&mut body)?;
                return Ok(None);
            }
            reader.take(bytes).read_to_end(&mut body)?;
        } else if headers.get("transfer-encoding").is_some_and(|how| how == "chunked") {
            loop {
                let mut size = String::new();
                reader.read_line(&mut size)?;
                let size = u64::from_str_radix(size.trim(), 16).unwrap_or(0);
                reader.take(size).read_to_end(&mut body)?;
                reader.read_line(&mut String::new())?;
                if size == 0 {
                    break;
                }
            }
        }
        Ok(Some(Request { method, path, headers, body }))
    }

    fn answer(&self, request: &Request) -> Answer {
        let whole = request.path.split('?').next().unwrap_or_default().replace("%2F", "/");
        let path: Vec<&str> = whole.trim_start_matches('/').split('/').collect();
        let token = request.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let may_write = token == Some(&*self.manners.token);
        match (&*request.method, &path[..]) {
            ("PUT", ["lfs", oid]) => self.take(oid, 0, &request.body),
            ("PUT", ["lfs", oid, part]) => self.take(oid, part.parse().unwrap_or(0), &request.body),
            ("POST", ["complete", oid]) => self.complete(oid, &body(request)),
            ("GET" | "HEAD", [owner, name, "resolve", _, file @ ..]) => {
                self.give(&format!("{owner}/{name}"), &file.join("/"), request)
            }
            ("GET", ["api", "models", owner, name, rest @ ..]) => {
                self.describe(&format!("{owner}/{name}"), rest)
            }
            ("POST", _) if !may_write => {
                Answer::error(401, &format!("Invalid token {}", token.unwrap_or("none")))
            }
            ("POST", ["api", "repos", "create"]) => self.create(&body(request)),
            ("POST", ["api", "validate-yaml"]) => match self.manners.card {
                Some(wrong) => Answer::json(400, &json!({"errors": [{"message": wrong}]})),
                None => Answer::json(200, &json!({"errors": [], "warnings": []})),
            },
            ("POST", ["verify"]) => {
                let oid = body(request)["oid"].as_str().unwrap_or_default().to_owned();
                let there = self.store().objects.contains_key(&oid);
                if there { Answer::json(200, &json!({})) } else { Answer::error(404, "no such object") }
            }
            ("POST", ["api", "models", owner, name, "branch", branch @ ..]) => {
                let (name, branch) = (format!("{owner}/{name}"), branch.join("/"));
                let mut store = self.store();
                if store.branches.contains_key(&(name.clone(), branch.clone())) {
                    return Answer::error(409, "the branch is there");
                }
                let main =
                    store.branches.get(&(name.clone(), "main".to_owned())).cloned().unwrap_or_default();
                store.branches.insert((name, branch), main);
                Answer::json(201, &json!({}))
            }
            ("POST", ["api", "models", owner, name, "preupload", branch @ ..]) => {
                self.modes(&format!("{owner}/{name}"), &branch.join("/"), &body(request))
            }
            ("POST", [owner, name, "info", "lfs", "objects", "batch"]) => {
                self.batch(&format!("{owner}/{name}"), &body(request))
            }
            ("POST", ["api", "models", owner, name, "commit", branch @ ..]) => {
                self.commit(&format!("{owner}/{name}"), &branch.join("/"), &request.body)
            }
            _ => Answer::error(404, "not found"),
        }
    }

    fn create(&self, wanted: &Value) -> Answer {
        let text = |key: &str| wanted[key].as_str().unwrap_or_default().to_owned();
        let name = format!("{}/{}", text("organization"), text("name"));
        if self.manners.no_new {
            return Answer::error(403, "this token makes no repositories");
        }
        let mut store = self.store();
        let place = (name.clone(), "main".to_owned());
        if store.branches.contains_key(&place) {
            return Answer::error(409, "You already created this model repo");
        }
        store.branches.insert(place, BTreeMap::new());
        if wanted["private"] == true || text("visibility") == "private" {
            store.private.insert(name.clone());
        }
        Answer::json(200, &json!({"url": format!("{}/{name}", self.endpoint), "name": name}))
    }

    fn modes(&self, name: &str, branch: &str, wanted: &Value) -> Answer {
        let held = self.files(name, branch);
        let of = |file: &Value| {
            let path = file["path"].as_str().unwrap_or_default();
            let sample = STANDARD.decode(file["sample"].as_str().unwrap_or_default()).expect("base64");
            let oid = held
                .get(path)
                .map(|held| if held.is_large { sha256(&held.bytes) } else { blob(&held.bytes) });
            let mode = if is_large(path, &sample) { "lfs" } else { "regular" };
            json!({"path": path, "uploadMode": mode, "shouldIgnore": false, "oid": oid})
        };
        let files: Vec<Value> = wanted["files"].as_array().into_iter().flatten().map(of).collect();
        Answer::json(200, &json!({"files": files}))
    }

    fn batch(&self, name: &str, wanted: &Value) -> Answer {
        if name.strip_suffix(".git").is_none()
            || wanted["operation"] != "upload"
            || wanted["hash_algo"] != "sha256"
        {
            return Answer::error(422, "no upload");
        }
        let of = |object: &Value| {
            let (oid, size) =
                (object["oid"].as_str().unwrap_or_default(), object["size"].as_u64().unwrap_or(0));
            let mut answer = json!({"oid": oid, "size": size});
            if self.store().objects.contains_key(oid) {
                return answer;
            }
            let verify = json!({"href": format!("{}/verify", self.endpoint)});
            let upload = match self.manners.part_bytes.filter(|part| size as usize > *part) {
                None => json!({"href": format!("{}/lfs/{oid}?signature=secret", self.elsewhere)}),
                Some(bytes) => {
                    let mut header = json!({"chunk_size": bytes.to_string()});
                    for part in 1..=(size as usize).div_ceil(bytes) {
                        header[format!("{part:05}")] =
                            format!("{}/lfs/{oid}/{part}?signature=secret", self.elsewhere).into();
                    }
                    json!({"href": format!("{}/complete/{oid}", self.elsewhere), "header": header})
                }
            };
            answer["actions"] = json!({"upload": upload, "verify": verify});
            answer
        };
        let objects: Vec<Value> = wanted["objects"].as_array().into_iter().flatten().map(of).collect();
        Answer::json(200, &json!({"transfer": "basic", "objects": objects}))
    }

    /// Takes a large file, or a part of one.
    fn take(&self, oid: &str, part: usize, bytes: &[u8]) -> Answer {
        let mut store = self.store();
        store.failed += 1;
        if store.failed <= self.manners.failures {
            return Answer::error(503, "slow down");
        }
        if part > 0 {
            store.parts.insert((oid.to_owned(), part), bytes.to_vec());
        } else if sha256(bytes) == oid {
            store.objects.insert(oid.to_owned(), bytes.to_vec());
        } else {
            return Answer::error(400, "not what its hash says");
        }
        Answer { status: 200, headers: vec![("etag", format!("\"part-{part}\""))], body: Vec::new() }
    }

    /// Joins the parts of a large file.
    fn complete(&self, oid: &str, wanted: &Value) -> Answer {
        let mut store = self.store();
        let mut whole = Vec::new();
        for part in wanted["parts"].as_array().into_iter().flatten() {
            let number = part["partNumber"].as_u64().unwrap_or(0) as usize;
            match store.parts.get(&(oid.to_owned(), number)) {
                Some(bytes) if part["etag"] == format!("\"part-{number}\"") => whole.extend_from_slice(bytes),
                _ => return Answer::error(400, "no such part"),
            }
        }
        if sha256(&whole) != oid {
            return Answer::error(400, "not what its hash says");
        }
        store.objects.insert(oid.to_owned(), whole);
        Answer::json(200, &json!({"success": true}))
    }

    fn commit(&self, name: &str, branch: &str, lines: &[u8]) -> Answer {
        let mut files = self.files(name, branch);
        let (mut message, mut names) = (String::new(), Vec::new());
        for line in String::from_utf8_lossy(lines).lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let value = &line["value"];
            let path = value["path"].as_str().unwrap_or_default().to_owned();
            let held = match line["key"].as_str() {
                Some("header") => {
                    value["summary"].as_str().unwrap_or_default().clone_into(&mut message);
                    continue;
                }
                Some("file") if value["encoding"] == "base64" => {
                    let bytes =
                        STANDARD.decode(value["content"].as_str().unwrap_or_default()).expect("base64");
                    Held { bytes, is_large: false }
                }
                Some("lfsFile") => {
                    let store = self.store();
                    let Some(bytes) = store.objects.get(value["oid"].as_str().unwrap_or_default()) else {
                        return Answer::error(412, "a large file is missing");
                    };
                    Held { bytes: bytes.clone(), is_large: true }
                }
                other => return Answer::error(400, &format!("what is {other:?}?")),
            };
            files.insert(path.clone(), held);
            names.push(path);
        }
        let mut store = self.store();
        let place = (name.to_owned(), branch.to_owned());
        if !store.branches.contains_key(&place) {
            return Answer::error(404, "no such branch");
        }
        store.branches.insert(place, files);
        store.commits.push((message, names));
        let oid = commit(&store.commits);
        Answer::json(
            200,
            &json!({"success": true, "commitOid": oid, "commitUrl": format!("{}/{name}/commit/{oid}", self.endpoint)}),
        )
    }

    fn describe(&self, name: &str, rest: &[&str]) -> Answer {
        let branch = match rest {
            ["revision", branch @ ..] if branch != [commit(&self.store().commits)] => branch.join("/"),
            ["tree", branch, ..] if *branch != commit(&self.store().commits) => (*branch).to_owned(),
            _ => "main".to_owned(),
        };
        if !self.store().branches.contains_key(&(name.to_owned(), branch.clone())) {
            return Answer::error(404, "Repository not found");
        }
        let files = self.files(name, &branch);
        if rest.first() == Some(&"tree") {
            let of = |(path, held): (&String, &Held)| {
                let mut file =
                    json!({"type": "file", "path": path, "size": held.bytes.len(), "oid": blob(&held.bytes)});
                if held.is_large {
                    file["lfs"] =
                        json!({"oid": sha256(&held.bytes), "size": held.bytes.len(), "pointerSize": 100});
                }
                file
            };
            return Answer::json(200, &files.iter().map(of).collect());
        }
        let of = |(path, held): (&String, &Held)| {
            let mut file = json!({"rfilename": path, "size": held.bytes.len()});
            if held.is_large {
                file["lfs"] =
                    json!({"sha256": sha256(&held.bytes), "size": held.bytes.len(), "pointerSize": 100});
            }
            file
        };
        let siblings: Vec<Value> = files.iter().map(of).collect();
        let sha = commit(&self.store().commits);
        let is_private = self.store().private.contains(name);
        Answer::json(
            200,
            &json!({"_id": "1", "id": name, "modelId": name, "sha": sha, "private": is_private, "siblings": siblings,
                "tags": [], "downloads": 0, "likes": 0}),
        )
    }

    fn give(&self, name: &str, file: &str, request: &Request) -> Answer {
        let files = self.files(name, "main");
        let Some(Held { bytes, is_large }) = files.get(file) else {
            return Answer::error(404, "Entry not found");
        };
        let etag = if *is_large { sha256(bytes) } else { blob(bytes) };
        let mut headers = vec![
            ("x-repo-commit", commit(&self.store().commits)),
            ("etag", format!("\"{etag}\"")),
            ("accept-ranges", "bytes".to_owned()),
        ];
        let from = request
            .headers
            .get("range")
            .and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
        let (status, from) = from.map_or((200, 0), |from: usize| (206, from.min(bytes.len())));
        if status == 206 {
            headers.push((
                "content-range",
                format!("bytes {from}-{}/{}", bytes.len().saturating_sub(1), bytes.len()),
            ));
        }
        headers.push(("content-length", (bytes.len() - from).to_string()));
        Answer { status, headers, body: bytes[from..].to_vec() }
    }
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap_or_default()
}

/// Whether a file goes by Git LFS: weights by their name, and what is no text.
fn is_large(name: &str, sample: &[u8]) -> bool {
    name.ends_with(".safetensors") || sample.contains(&0)
}

/// What git knows a file by.
pub(crate) fn blob(bytes: &[u8]) -> String {
    let hash = Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize();
    koan_files::hex(&hash)
}

/// The hash of the last commit.
fn commit(commits: &[(String, Vec<String>)]) -> String {
    blob(format!("{commits:?}").as_bytes())
}
