//! A hub: its address, the token, and how a repository is pulled.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use koan_files::FilesError;
use serde_json::json;
use ureq::{Agent, Body, config::RedirectAuthHeaders, http::Response};

use crate::{
    HubError, Wanted, download,
    files::{self, Description, MAX_FILES, is_data, wanted},
};

/// Largest description of a repository, bytes.
const MAX_DESCRIPTION_BYTES: u64 = 32 << 20;
/// How long to wait for a connection, for an answer, and for more of it.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The file beside the parts of a pull that says which commit they belong to.
const COMMIT: &str = ".commit";
/// The file of a pulled directory that says where it was fetched from, TOML: `hub`, `name`, `commit`.
pub(crate) const ORIGIN: &str = "origin.toml";

/// A Hugging Face hub.
pub struct Hub {
    pub(crate) endpoint: String,
    pub(crate) token: Option<String>,
    pub(crate) agent: Agent,
}

/// Data files that an error names, at most.
const SHOWN: usize = 10;

/// What a repository holds.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Data,
}

impl Kind {
    /// Its name in the addresses of descriptions.
    fn api(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Data => "datasets",
        }
    }

    /// What stands before the name in the addresses of files.
    fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Data => "datasets/",
        }
    }
}

/// The progress of a pull or a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file being moved.
    pub file: &'a str,
    /// Bytes moved so far, of all files.
    pub done: u64,
    /// Bytes of all files, as far as they are known.
    pub of: u64,
}

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pulled {
    /// The commit.
    pub commit: String,
    /// The files.
    pub files: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
}

impl fmt::Debug for Hub {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Hub {
    /// The hub that `HF_ENDPOINT` names, by default <https://huggingface.co>, with the token in `HF_TOKEN`, if there is one.
    ///
    /// # Errors
    /// If either is not valid.
    pub fn from_env() -> Result<Self, HubError> {
        let of = |name| env::var(name).ok().map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        Self::new(&of("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()), of("HF_TOKEN"))
    }

    /// The hub at `endpoint`, with `token`, which is sent to no other host.
    ///
    /// # Errors
    /// If either is not valid.
    pub fn new(endpoint: &str, token: Option<String>) -> Result<Self, HubError> {
        let parsed = endpoint.parse::<ureq::http::Uri>().ok();
        if !parsed.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        }) {
            return Err(HubError::Endpoint { endpoint: endpoint.to_owned() });
        }
        if token.as_ref().is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(HubError::Token);
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_connect(Some(TIMEOUT))
            .timeout_recv_response(Some(TIMEOUT))
            .timeout_per_read(Some(TIMEOUT))
            .user_agent(concat!("koan/", env!("CARGO_PKG_VERSION")))
            .build();
        let agent = Agent::new_with_config(config);
        Ok(Self { endpoint: endpoint.trim_end_matches('/').to_owned(), token, agent })
    }

    /// Fetches the files of model `name` at `revision` (a branch, tag or commit) that a model needs into directory `out`,
    /// which must not exist and appears whole or not at all. An interrupted pull of the same commit is continued
    /// from the files that it left beside `out`.
    ///
    /// # Errors
    /// See [`HubError`].
    pub fn pull(
        &self,
        name: &str,
        revision: &str,
        out: &Path,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Pulled, HubError> {
        self.pull_files(Kind::Model, name, revision, out, progress, |files| {
            let files = wanted(files);
            if !files.iter().any(|file| file.name == "config.json") {
                return Err(HubError::NotAModel { name: name.to_owned(), what: "config.json" });
            }
            if !files.iter().any(|file| file.name.ends_with(".safetensors")) {
                return Err(HubError::NotAModel { name: name.to_owned(), what: "weights in safetensors" });
            }
            Ok(files)
        })
    }

    /// Fetches the data files of data set `name` that are wanted, in their folders, as [`Hub::pull`] does.
    ///
    /// # Errors
    /// See [`HubError`].
    pub fn pull_data(
        &self,
        name: &str,
        revision: &str,
        wanted: &Wanted,
        out: &Path,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Pulled, HubError> {
        self.pull_files(Kind::Data, name, revision, out, progress, |files| {
            let found = wanted.of(files)?;
            if found.is_empty() {
                let data: Vec<&str> =
                    files.iter().map(|file| &*file.name).filter(|name| is_data(name)).take(SHOWN).collect();
                let asked = !(wanted.splits.is_empty() && wanted.files.is_empty());
                return Err(HubError::NoData {
                    name: name.to_owned(),
                    wanted: if asked { " of what is asked for".to_owned() } else { String::new() },
                    remedy: match &data[..] {
                        [] => "many have one on the branch refs/convert/parquet: --revision refs/convert/parquet".to_owned(),
                        data => format!("its data files: {}", data.join(", ")),
                    },
                });
            }
            Ok(found)
        })
    }

    fn pull_files(
        &self,
        kind: Kind,
        name: &str,
        revision: &str,
        out: &Path,
        progress: &mut dyn FnMut(Progress<'_>),
        wanted: impl FnOnce(&[files::File]) -> Result<Vec<files::File>, HubError>,
    ) -> Result<Pulled, HubError> {
        if !is_name(name) {
            return Err(HubError::Name { name: name.to_owned() });
        }
        if !is_revision(revision) {
            return Err(HubError::Revision { revision: revision.to_owned() });
        }
        if out.exists() && !fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none()) {
            return Err(FilesError::Exists { path: out.to_owned() }.into());
        }
        let description = self.describe(kind, name, revision)?;
        let files = wanted(&description.siblings)?;
        let parts = prepare(out, &description.sha)?;
        let of = files.iter().filter_map(files::File::bytes).sum();
        let mut before = 0;
        for file in &files {
            let escaped =
                file.name.replace('%', "%25").replace(' ', "%20").replace('#', "%23").replace('?', "%3F");
            let url =
                format!("{}/{}{name}/resolve/{}/{escaped}", self.endpoint, kind.prefix(), description.sha);
            let path = parts.join(&file.name);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(FilesError::io("create", folder))?;
            }
            let mut tell = |bytes| progress(Progress { file: &file.name, done: before + bytes, of });
            download::fetch(file, &url, &path, |from| self.get(&url, name, from), &mut tell)?;
            before += fs::metadata(&path).map_or(0, |m| m.len());
        }
        let (hub, commit) = (json!(self.endpoint), json!(description.sha));
        let origin = parts.join(ORIGIN);
        fs::write(
            &origin,
            format!(
                "# Where this was fetched from\nhub = {hub}\nname = {}\ncommit = {commit}\n",
                json!(name)
            ),
        )
        .map_err(FilesError::io("write", &origin))?;
        let marker = parts.join(COMMIT);
        fs::remove_file(&marker).map_err(FilesError::io("remove", &marker))?;
        koan_files::rename(&parts, out)?;
        let files = files.into_iter().map(|file| file.name).collect();
        Ok(Pulled { commit: description.sha, files, bytes: before })
    }

    fn describe(&self, kind: Kind, name: &str, revision: &str) -> Result<Description, HubError> {
        let revision = revision.replace('/', "%2F");
        let url = format!("{}/api/{}/{name}/revision/{revision}?blobs=true", self.endpoint, kind.api());
        let mut response = self.get(&url, name, 0)?;
        let body = response.body_mut().with_config().limit(MAX_DESCRIPTION_BYTES).read_to_vec();
        let body = body.map_err(|source| HubError::Fetch { url: url.clone(), source: source.into() })?;
        let wrong = |what: String| HubError::Description { url: url.clone(), what };
        let description: Description = serde_json::from_slice(&body).map_err(|e| wrong(e.to_string()))?;
        if description.siblings.len() > MAX_FILES {
            return Err(wrong(format!("it has over {MAX_FILES} files")));
        }
        if description.sha.is_empty() || !description.sha.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong("its commit is not one".into()));
        }
        Ok(description)
    }

    /// Requests `url` from byte `from` on.
    fn get(&self, url: &str, name: &str, from: u64) -> Result<Response<Body>, HubError> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let response = request
            .call()
            .map_err(|source| HubError::Fetch { url: url.to_owned(), source: source.into() })?;
        match response.status().as_u16() {
            200 => Ok(response),
            206 if starts_at(&response, from) => Ok(response),
            status @ (401 | 403) => {
                Err(HubError::Forbidden { name: name.to_owned(), status, token: self.token.is_some() })
            }
            404 => Err(HubError::NotFound {
                what: url.strip_prefix(&self.endpoint).unwrap_or(url).trim_start_matches('/').to_owned(),
                endpoint: self.endpoint.clone(),
            }),
            status => Err(HubError::Status { url: url.to_owned(), status }),
        }
    }
}

/// Whether the answer has the range that was requested.
fn starts_at(response: &Response<Body>, from: u64) -> bool {
    let range = response.headers().get("content-range").and_then(|value| value.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    start == Some(from)
}

/// The directory beside `out` that collects the parts; those of another commit are removed.
fn prepare(out: &Path, commit: &str) -> Result<PathBuf, HubError> {
    let name = out.file_name().ok_or_else(|| FilesError::Exists { path: out.to_owned() })?.to_string_lossy();
    let parts = out.with_file_name(format!(".{name}.pull"));
    let marker = parts.join(COMMIT);
    if parts.exists() && !fs::read_to_string(&marker).is_ok_and(|found| found == commit) {
        fs::remove_dir_all(&parts).map_err(FilesError::io("remove", &parts))?;
    }
    fs::create_dir_all(&parts).map_err(FilesError::io("create", &parts))?;
    fs::write(&marker, commit).map_err(FilesError::io("write", &parts))?;
    Ok(parts)
}

/// Whether this is `OWNER/NAME`, in the characters that the hub allows.
pub(crate) fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 128
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    name.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

pub(crate) fn is_revision(revision: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    (1..=256).contains(&revision.len()) && revision.bytes().all(allowed) && !revision.contains("..")
}
