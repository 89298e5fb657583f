//! A model sent to a hub, as the hub's own tools do:
//!
//! ```text
//! POST /api/repos/create                            the repository; 409: it is there
//! POST /api/models/OWNER/NAME/branch/BRANCH         its branch, if it is not `main`
//! POST /api/validate-yaml                           the model card's metadata
//! POST /api/models/OWNER/NAME/preupload/BRANCH      which files are large, and what is there already
//! POST /OWNER/NAME.git/info/lfs/objects/batch       where large files go            (upload.rs)
//! POST /api/models/OWNER/NAME/commit/BRANCH         one commit of all that is new
//! ```
//!
//! Large files that have arrived are known by their hash: a push that was interrupted goes on by running again.

use std::{collections::HashMap, fmt::Write as _, fs, path::Path, thread, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use koan_files::FilesError;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use ureq::{Body, SendBody, http::Response};

use crate::{
    Hub, HubError, Progress,
    contents::{self, Item},
    hub::{is_name, is_revision},
};

/// How often a request is tried that fails in a way which may pass.
pub(crate) const MAX_ATTEMPTS: u32 = 5;
/// Wait after the first failure; doubled after each more.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// How long a hub may take to answer: it copies large files meanwhile.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(600);
/// Longest answer that is read, bytes.
const MAX_ANSWER_BYTES: u64 = 8 << 20;
/// Files that one request asks about.
pub(crate) const TOGETHER: usize = 256;
/// Characters of a hub's message that an error shows.
const MAX_MESSAGE: usize = 500;
/// Largest file that is sent within a commit, bytes.
const MAX_SMALL_BYTES: u64 = 64 << 20;

/// What is to be sent, and where.
#[derive(Clone, Copy, Debug)]
pub struct Push<'a> {
    /// The repository, `OWNER/NAME`; it is made if it is not there.
    pub name: &'a str,
    /// The branch; it is made if it is not there.
    pub branch: &'a str,
    /// The model's directory.
    pub dir: &'a Path,
    /// Whether a repository that is made is private.
    pub private: bool,
    /// The commit's message.
    pub message: &'a str,
}

/// What was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// The page of the commit; none: the hub had everything.
    pub commit: Option<String>,
    /// Files of the commit.
    pub files: Vec<String>,
    /// Files that the hub had as they are.
    pub unchanged: Vec<String>,
    /// Bytes of large files that were sent.
    pub bytes: u64,
    /// What the directory holds and a model does not need.
    pub left_out: Vec<String>,
}

/// What a hub says of a file that is to be sent.
#[derive(Deserialize)]
struct Mode {
    path: String,
    /// `lfs` or `regular`.
    #[serde(rename = "uploadMode")]
    how: String,
    #[serde(default, rename = "shouldIgnore")]
    should_ignore: bool,
    oid: Option<String>,
}

impl Hub {
    /// Sends a model: what the hub does not have, in one commit. Run again after an interruption, it sends what is missing.
    ///
    /// # Errors
    /// See [`HubError`]: no token, one that may not write, names that are none, a directory that is no model, a refusal, a connection that broke
    /// too often.
    pub fn push(&self, push: &Push, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Pushed, HubError> {
        let Push { name, branch, dir, .. } = *push;
        if !is_name(name) {
            return Err(HubError::Name { name: name.to_owned() });
        }
        if !is_revision(branch) {
            return Err(HubError::Revision { revision: branch.to_owned() });
        }
        if self.token.is_none() {
            return Err(HubError::NoToken);
        }
        let (items, left_out) = contents::of(dir)?;
        self.make_repository(push)?;
        self.check_card(&items)?;
        let branch_word = branch.replace('/', "%2F");
        let modes = self.modes(name, &branch_word, &items)?;
        let (mut new, mut unchanged) = (Vec::new(), Vec::new());
        for item in &items {
            let mode = modes.get(&*item.name);
            // A hub stores no empty large files.
            let is_large = mode.is_some_and(|mode| mode.how == "lfs") && item.bytes > 0;
            let own = if is_large { &item.sha256 } else { &item.blob };
            if mode.is_some_and(|mode| mode.should_ignore || mode.oid.as_ref() == Some(own)) {
                unchanged.push(item.name.clone());
            } else {
                new.push((item, is_large));
            }
        }
        let mut pushed = Pushed { commit: None, files: Vec::new(), unchanged, bytes: 0, left_out };
        if new.is_empty() {
            return Ok(pushed);
        }
        let large: Vec<&Item> = new.iter().filter(|(_, is_large)| *is_large).map(|(item, _)| *item).collect();
        pushed.bytes = self.upload(name, branch, &large, progress)?;
        pushed.commit = Some(self.commit(push, &branch_word, &new)?);
        pushed.files = new.into_iter().map(|(item, _)| item.name.clone()).collect();
        Ok(pushed)
    }

    /// Makes the repository and the branch, if they are not there.
    fn make_repository(&self, push: &Push) -> Result<(), HubError> {
        let Push { name, branch, private, .. } = *push;
        let (owner, own) = name.split_once('/').unwrap_or(("", name));
        let mut wanted = json!({"name": own, "organization": owner, "type": "model"});
        if private {
            wanted["private"] = true.into();
            wanted["visibility"] = "private".into();
        }
        let url = format!("{}/api/repos/create", self.endpoint);
        let (status, message) = self.post(&url, &wanted)?;
        match status {
            200..=299 | 409 => {}
            // A token for one repository alone may not make any: it may be there.
            401..=403 if self.is_there(name)? => {}
            401..=403 => return Err(HubError::NotAllowed { name: name.to_owned(), status, message }),
            _ => return Err(HubError::Refused { url, what: "repository", status, message }),
        }
        if branch == "main" {
            return Ok(());
        }
        let url = format!("{}/api/models/{name}/branch/{}", self.endpoint, branch.replace('/', "%2F"));
        let (status, message) = self.post(&url, &json!({}))?;
        match status {
            200..=299 | 409 => Ok(()),
            401..=403 => Err(HubError::NotAllowed { name: name.to_owned(), status, message }),
            _ => Err(HubError::Refused { url, what: "branch", status, message }),
        }
    }

    fn is_there(&self, name: &str) -> Result<bool, HubError> {
        let url = format!("{}/api/models/{name}", self.endpoint);
        let request = self.agent.get(&url).header("authorization", self.bearer());
        let response = request.call().map_err(|source| HubError::Fetch { url, source: source.into() })?;
        Ok(response.status() == 200)
    }

    /// Asks what the hub thinks of the model card's metadata, where it can be asked.
    fn check_card(&self, items: &[Item]) -> Result<(), HubError> {
        let Some(card) = items.iter().find(|item| item.name == "README.md") else { return Ok(()) };
        let text = fs::read(&card.path).map_err(FilesError::io("read", &card.path))?;
        let url = format!("{}/api/validate-yaml", self.endpoint);
        let wanted = json!({"content": String::from_utf8_lossy(&text), "repoType": "model"});
        let (status, message) = self.post(&url, &wanted)?;
        if status == 400 { Err(HubError::Metadata { message }) } else { Ok(()) }
    }

    /// What the hub says of each file.
    fn modes(&self, name: &str, branch: &str, items: &[Item]) -> Result<HashMap<String, Mode>, HubError> {
        #[derive(Deserialize)]
        struct Modes {
            files: Vec<Mode>,
        }
        let url = format!("{}/api/models/{name}/preupload/{branch}", self.endpoint);
        let mut all = HashMap::new();
        for some in items.chunks(TOGETHER) {
            let file = |item: &Item| json!({"path": item.name, "size": item.bytes, "sample": STANDARD.encode(&item.sample)});
            let wanted = json!({"files": some.iter().map(file).collect::<Vec<_>>()});
            let Modes { files } =
                self.ask(name, &url, "list of files", "application/json", wanted.to_string().as_bytes())?;
            all.extend(files.into_iter().map(|mode| (mode.path.clone(), mode)));
        }
        Ok(all)
    }

    /// Commits `new`; the commit's page.
    fn commit(&self, push: &Push, branch: &str, new: &[(&Item, bool)]) -> Result<String, HubError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Commit {
            commit_url: String,
        }
        let header = json!({"key": "header", "value": {"summary": push.message, "description": ""}});
        let mut lines = format!("{header}\n");
        for (item, is_large) in new {
            let line = if *is_large {
                let (path, oid, size) = (&item.name, &item.sha256, item.bytes);
                json!({"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": oid, "size": size}})
            } else {
                let content = koan_files::read_bounded(&item.path, MAX_SMALL_BYTES)
                    .map_err(FilesError::io("read", &item.path))?;
                let url = format!("{}/api/models/{}", self.endpoint, push.name);
                let too_large =
                    || format!("it wants `{}`, {} bytes, within the commit", item.name, item.bytes);
                let content = content.ok_or_else(|| HubError::Answer { url, what: too_large() })?;
                let content = STANDARD.encode(content);
                json!({"key": "file", "value": {"path": item.name, "content": content, "encoding": "base64"}})
            };
            writeln!(lines, "{line}").expect("a string");
        }
        let url = format!("{}/api/models/{}/commit/{branch}", self.endpoint, push.name);
        let Commit { commit_url } =
            self.ask(push.name, &url, "commit", "application/x-ndjson", lines.as_bytes())?;
        Ok(self.message(&commit_url))
    }

    /// Posts `body` and reads the answer.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        name: &str,
        url: &str,
        what: &'static str,
        kind: &str,
        body: &[u8],
    ) -> Result<T, HubError> {
        let mut response = self.send(url, kind, body)?;
        let status = response.status().as_u16();
        let answer = read(&mut response);
        match status {
            200..=299 => {
                let answer = answer
                    .map_err(|source| HubError::Fetch { url: url.to_owned(), source: source.into() })?;
                serde_json::from_slice(&answer).map_err(|error| HubError::Answer {
                    url: url.to_owned(),
                    what: self.message(&error.to_string()),
                })
            }
            401..=403 => {
                let message = self.message_of(&answer.unwrap_or_default());
                Err(HubError::NotAllowed { name: name.to_owned(), status, message })
            }
            _ => {
                let message = self.message_of(&answer.unwrap_or_default());
                Err(HubError::Refused { url: url.to_owned(), what, status, message })
            }
        }
    }

    /// Posts JSON; the status, and what the hub says with it.
    fn post(&self, url: &str, body: &Value) -> Result<(u16, String), HubError> {
        let mut response = self.send(url, "application/json", body.to_string().as_bytes())?;
        let answer = read(&mut response).unwrap_or_default();
        Ok((response.status().as_u16(), self.message_of(&answer)))
    }

    /// Posts `body` to the hub with the token, again where the failure may pass.
    fn send(&self, url: &str, kind: &str, body: &[u8]) -> Result<Response<Body>, HubError> {
        let sent = again(|| {
            let request =
                self.agent.post(url).header("authorization", self.bearer()).header("content-type", kind);
            // What large files are asked by has a name of its own.
            let request =
                if url.ends_with("/objects/batch") { request.header("accept", kind) } else { request };
            let request = request.config().timeout_recv_response(Some(TIMEOUT)).build();
            request.send(SendBody::from_reader(&mut &*body)).map_err(Into::into)
        });
        sent.map_err(|source| HubError::Fetch { url: url.to_owned(), source })
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.token.as_deref().unwrap_or_default())
    }

    /// What an answer says in `error` or `errors`.
    fn message_of(&self, answer: &[u8]) -> String {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let errors = answer["errors"].as_array().into_iter().flatten();
        let all: Vec<&str> = answer["error"]
            .as_str()
            .into_iter()
            .chain(errors.filter_map(|e| e["message"].as_str()))
            .collect();
        self.message(&all.join("; "))
    }

    /// A text of the hub's, on one line and without the token.
    pub(crate) fn message(&self, text: &str) -> String {
        let text = match &self.token {
            Some(token) => text.replace(&**token, "…"),
            None => text.to_owned(),
        };
        text.chars().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

/// Sends a request, again where the failure may pass.
pub(crate) fn again(
    mut request: impl FnMut() -> Result<Response<Body>, Box<ureq::Error>>,
) -> Result<Response<Body>, Box<ureq::Error>> {
    for attempt in 0.. {
        let last = attempt + 1 >= MAX_ATTEMPTS;
        match request() {
            Ok(response) if last || !may_pass(response.status().as_u16()) => return Ok(response),
            Err(error) if last => return Err(error),
            _ => thread::sleep(FIRST_WAIT * 2u32.pow(attempt)),
        }
    }
    unreachable!("the last attempt returns")
}

/// Whether another try may succeed where one was answered so.
fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

pub(crate) fn read(response: &mut Response<Body>) -> Result<Vec<u8>, ureq::Error> {
    response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec()
}
