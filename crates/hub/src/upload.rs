//! Large files: where each goes, in one piece or in parts, and what says that it has arrived (Git LFS).
//!
//! Where they go is another host's address, signed for this purpose: the token is not sent there.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek as _, SeekFrom},
};

use koan_files::FilesError;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::{Body, SendBody, http::Response, http::Uri};

use crate::{
    Hub, HubError, Progress,
    contents::Item,
    push::{MAX_ATTEMPTS, TIMEOUT, TOGETHER, again},
};

/// What requests and answers of Git LFS are.
const LFS: &str = "application/vnd.git-lfs+json";
/// The most parts of a file.
const MAX_PARTS: u64 = 100_000;

#[derive(Deserialize)]
struct Batch {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    #[serde(default)]
    actions: Actions,
    error: Option<ObjectError>,
}

#[derive(Deserialize)]
struct ObjectError {
    #[serde(default)]
    message: String,
}

#[derive(Default, Deserialize)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, Value>,
}

impl Hub {
    /// Sends those of `items` that the hub does not have; the bytes that were sent.
    pub(crate) fn upload(
        &self,
        name: &str,
        branch: &str,
        items: &[&Item],
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<u64, HubError> {
        let url = format!("{}/{name}.git/info/lfs/objects/batch", self.endpoint);
        let wrong = |what: String| HubError::Answer { url: url.clone(), what: self.message(&what) };
        let of = items.iter().map(|item| item.bytes).sum();
        let (mut done, mut sent) = (0, 0);
        for some in items.chunks(TOGETHER) {
            let objects: Vec<Value> =
                some.iter().map(|item| json!({"oid": item.sha256, "size": item.bytes})).collect();
            let wanted = json!({
                "operation": "upload", "transfers": ["basic", "multipart"], "hash_algo": "sha256", "objects": objects,
                "ref": {"name": branch},
            });
            let Batch { objects } =
                self.ask(name, &url, "list of large files", LFS, wanted.to_string().as_bytes())?;
            for item in some {
                let object = objects.iter().find(|object| object.oid == item.sha256);
                let object = object.ok_or_else(|| wrong(format!("it says nothing of `{}`", item.name)))?;
                if let Some(error) = &object.error {
                    return Err(wrong(format!("it does not take `{}`: {}", item.name, error.message)));
                }
                let mut tell = |bytes| progress(Progress { file: &item.name, done: done + bytes, of });
                if let Some(upload) = &object.actions.upload {
                    self.send_file(item, upload, &mut tell)?;
                    sent += item.bytes;
                }
                if let Some(verify) = &object.actions.verify {
                    self.verify(item, verify)?;
                }
                tell(item.bytes);
                done += item.bytes;
            }
        }
        Ok(sent)
    }

    /// Sends a file as `action` says.
    fn send_file(&self, item: &Item, action: &Action, tell: &mut dyn FnMut(u64)) -> Result<(), HubError> {
        let Some(part_bytes) = action.header.get("chunk_size") else {
            let own: Vec<(&str, &str)> =
                action.header.iter().filter_map(|(key, value)| Some((&**key, value.as_str()?))).collect();
            return self.put(item, &action.href, &own, 0, item.bytes, tell).map(|_| ());
        };
        let wrong = |what: &str| HubError::Answer { url: host(&action.href), what: what.to_owned() };
        let part_bytes = part_bytes.as_u64().or_else(|| part_bytes.as_str()?.parse().ok()).filter(|n| *n > 0);
        let part_bytes = part_bytes.ok_or_else(|| wrong("`chunk_size` is no number of bytes"))?;
        let number =
            |(key, value): (&String, &Value)| Some((key.parse::<u64>().ok()?, value.as_str()?.to_owned()));
        let urls: BTreeMap<u64, String> = action.header.iter().filter_map(number).collect();
        let parts = item.bytes.div_ceil(part_bytes);
        if parts > MAX_PARTS || urls.len() as u64 != parts {
            return Err(wrong("the addresses of parts are not as many as there are parts"));
        }
        let mut parts_there = Vec::new();
        for (place, url) in urls.values().enumerate() {
            let from = place as u64 * part_bytes;
            let bytes = part_bytes.min(item.bytes - from);
            let response = self.put(item, url, &[], from, bytes, tell)?;
            let etag = response.headers().get("etag").and_then(|etag| etag.to_str().ok()).unwrap_or_default();
            if etag.is_empty() {
                return Err(wrong("a part has no `etag`"));
            }
            parts_there.push(json!({"partNumber": place + 1, "etag": etag}));
        }
        let whole = json!({"oid": item.sha256, "parts": parts_there}).to_string();
        let response = again(|| {
            let request = self.agent.post(&action.href).header("content-type", LFS).header("accept", LFS);
            let request = request.config().timeout_recv_response(Some(TIMEOUT)).build();
            request.send(&whole).map_err(Into::into)
        });
        arrived(item, &action.href, response).map(|_| ())
    }

    /// Puts `bytes` bytes of a file, from byte `from` on, to `url`.
    fn put(
        &self,
        item: &Item,
        url: &str,
        headers: &[(&str, &str)],
        from: u64,
        bytes: u64,
        tell: &mut dyn FnMut(u64),
    ) -> Result<Response<Body>, HubError> {
        let read = |source| FilesError::io("read", &item.path)(source);
        let mut file = File::open(&item.path).map_err(read)?;
        let response = again(|| {
            file.seek(SeekFrom::Start(from)).map_err(|e| Box::new(ureq::Error::Io(e)))?;
            let mut piece = Counted { of: (&file).take(bytes), at: from, tell };
            let mut request = self.agent.put(url).header("content-length", bytes);
            for (key, value) in headers.iter().filter(|(key, _)| !key.eq_ignore_ascii_case("content-length"))
            {
                request = request.header(*key, *value);
            }
            let request = request.config().timeout_recv_response(Some(TIMEOUT)).build();
            request.send(SendBody::from_reader(&mut piece)).map_err(Into::into)
        });
        arrived(item, url, response)
    }

    /// Asks whether a file has arrived, with the token if it is the hub itself that is asked.
    fn verify(&self, item: &Item, action: &Action) -> Result<(), HubError> {
        let body = json!({"oid": item.sha256, "size": item.bytes}).to_string();
        let is_hub = is_of(&action.href, &self.endpoint);
        let response = again(|| {
            let request = self.agent.post(&action.href).header("content-type", LFS).header("accept", LFS);
            let request = if is_hub { request.header("authorization", self.bearer()) } else { request };
            request.send(&body).map_err(Into::into)
        });
        arrived(item, &action.href, response).map(|_| ())
    }
}

/// The answer, if it says that a file or a part has arrived.
fn arrived(
    item: &Item,
    url: &str,
    response: Result<Response<Body>, Box<ureq::Error>>,
) -> Result<Response<Body>, HubError> {
    // Signed addresses are secrets: only the host is named.
    match response {
        Ok(response) if response.status().is_success() => Ok(response),
        Ok(response) => {
            let (what, message) = ("large file", format!("`{}`", item.name));
            Err(HubError::Refused { url: host(url), what, status: response.status().as_u16(), message })
        }
        Err(source) => {
            Err(HubError::Send { file: item.name.clone(), host: host(url), attempts: MAX_ATTEMPTS, source })
        }
    }
}

/// Whether `url` is at the host, port and scheme of `endpoint`.
fn is_of(url: &str, endpoint: &str) -> bool {
    let parts = |text: &str| {
        text.parse::<Uri>()
            .ok()
            .map(|uri| (uri.scheme_str().map(str::to_owned), uri.authority().map(ToString::to_string)))
    };
    parts(url).is_some_and(|of| Some(of) == parts(endpoint))
}

/// The scheme and host of an address.
fn host(url: &str) -> String {
    let uri = url.parse::<Uri>().ok();
    let host =
        uri.as_ref().and_then(|uri| Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?.host())));
    host.unwrap_or_else(|| "an address that is none".to_owned())
}

/// A reader that says how far it is.
struct Counted<'a, R> {
    of: R,
    at: u64,
    tell: &'a mut dyn FnMut(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let n = self.of.read(piece)?;
        self.at += n as u64;
        (self.tell)(self.at);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_to_the_hub_alone() {
        let hub = "https://hub.example";
        for (url, is_the_hubs) in [
            ("https://hub.example/verify", true),
            ("http://hub.example/verify", false),
            ("https://hub.example:444/verify", false),
            ("https://hub.example.evil/verify", false),
            ("https://hub.example@evil/verify", false),
            ("/verify", false),
        ] {
            assert_eq!(is_of(url, hub), is_the_hubs, "{url}");
        }
        assert_eq!(host("https://s3.example/a?X-Amz-Signature=secret"), "https://s3.example");
    }
}
