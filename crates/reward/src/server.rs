//! A client of servers with OpenAI's API (`POST …/chat/completions`, `POST …/completions`): Koan's own, vLLM, llama.cpp, SGLang, or a service.
//!
//! | what happens | then |
//! |---|---|
//! | no connection, status 408, 409, 425, 429, 500, 502, 503, 504 or 529 | asked again, at most `retries` times, after 1, 2, 4, … seconds or as long as `Retry-After` says (up to [`MAX_WAIT`]) |
//! | any other status, a body that is no completion or exceeds [`MAX_BODY_BYTES`] | no answer |
//! | no answer within the timeout, all attempts together | no answer |
//! | [`MAX_FAILURES`] requests in a row without an answer | the rest of those that are being asked is not sent |
//!
//! Redirects are not followed: a key goes to no other host. Koan writes the key nowhere, and takes it out of what a server says of an error.

use crate::verdict::shorten;
use serde_json::Value;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::http::{HeaderMap, Uri};

/// A longer body of a response is refused, bytes.
pub const MAX_BODY_BYTES: u64 = 4 << 20;
/// The longest wait for another attempt.
pub const MAX_WAIT: Duration = Duration::from_secs(60);
/// Requests in a row without an answer after which a server counts as down.
pub const MAX_FAILURES: usize = 5;
/// The wait before the second attempt; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// How often one who waits looks whether it is still to be asked.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const RETRIED: [u16; 9] = [408, 409, 425, 429, 500, 502, 503, 504, 529];

/// A server's address and how it is asked.
pub struct Server {
    agent: Agent,
    /// Without the path of an endpoint.
    url: String,
    /// `Bearer …`.
    authorization: Option<String>,
    timeout: Duration,
    retries: usize,
    workers: usize,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Where.
    pub endpoint: Endpoint,
    /// The body, by OpenAI's API.
    pub body: Value,
    /// A header besides: its name and its value.
    pub header: Option<(&'static str, String)>,
}

/// What a server is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The next message of a conversation.
    Chat,
    /// How a text goes on.
    Text,
}

/// What a server says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The content of its message, or its text; empty where it refuses, or only thought.
    pub content: String,
    /// The thinking that it tells apart from that (`reasoning_content`, or `reasoning`); empty if it does not.
    pub reasoning: String,
    /// Why it ended, if the server says so: `stop`, `length`, …
    pub finish_reason: Option<String>,
    /// Tokens of all of it, if the server says so.
    pub tokens: Option<usize>,
}

/// Whether another attempt may do better.
#[derive(Clone, Copy)]
enum Again {
    No,
    /// After how long, if the server says so.
    Yes(Option<Duration>),
}

/// Why an attempt gave no answer.
struct Failed {
    reason: String,
    again: Again,
}

impl Endpoint {
    fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Text => "/completions",
        }
    }
}

/// The address of a server's API in `url`, which may be that of its chat.
///
/// # Errors
/// If it is none, or holds a name, a key or a query.
pub fn base_url(url: &str) -> Result<String, String> {
    let is_address = |uri: &Uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    };
    let uri = url.parse::<Uri>().ok().filter(is_address);
    let Some(uri) = uri else {
        return Err(format!("`url` is `{url}`; write an address such as http://localhost:8000/v1"));
    };
    if uri.query().is_some() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("`url` holds a name, a key or a query; write the address alone, and the environment variable that holds \
                    the key as `api_key_env`"
            .to_owned());
    }
    let url = url.trim_end_matches('/');
    Ok(url.strip_suffix(Endpoint::Chat.path()).unwrap_or(url).to_owned())
}

impl Server {
    /// The server at `url`, with the key in the environment variable `api_key_env`. Sends nothing yet.
    ///
    /// # Errors
    /// An address that is none, or a variable that is not set or holds no key.
    pub fn new(
        url: &str,
        api_key_env: Option<&str>,
        timeout: Duration,
        retries: usize,
        workers: usize,
    ) -> Result<Self, String> {
        let url = base_url(url)?;
        let key = |name| match std::env::var(name) {
            Ok(key) if !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic()) => Ok(key),
            Ok(_) => Err(format!("the environment variable `{name}` (`api_key_env`) holds no key")),
            Err(_) => Err(format!("the environment variable `{name}` (`api_key_env`) is not set")),
        };
        let authorization = api_key_env.map(key).transpose()?.map(|key| format!("Bearer {key}"));
        // A server of one's own is reached without the proxy that the environment names.
        let proxy = if url.starts_with("https") { ureq::Proxy::try_from_env() } else { None };
        let config = Agent::config_builder()
            .proxy(proxy)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("koan/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: Agent::new_with_config(config), url, authorization, timeout, retries, workers })
    }

    /// Hands what the server says to each of `requests`, or why it says nothing, to `on` with the request's number, as answers come;
    /// once `on` breaks off, no more are sent, and those on their way are waited for. As many run at once as the server has workers.
    pub fn ask(
        &self,
        requests: &[Request],
        mut on: impl FnMut(usize, Result<Reply, String>) -> ControlFlow<()>,
    ) {
        let (next, failures, is_over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let work = |answers: &mpsc::Sender<_>| {
            while !is_over.load(Ordering::Relaxed) {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(request) = requests.get(i) else { return };
                let answer = if failures.load(Ordering::Relaxed) >= MAX_FAILURES {
                    let url = &self.url;
                    Err(format!("not asked: the server `{url}` gave no answer {MAX_FAILURES} times in a row"))
                } else {
                    let answer = self.ask_one(request, &is_over);
                    match &answer {
                        Ok(_) => failures.store(0, Ordering::Relaxed),
                        Err(_) => _ = failures.fetch_add(1, Ordering::Relaxed),
                    }
                    answer
                };
                let _ = answers.send((i, answer)); // it is listened to until all have ended
            }
        };
        let (sender, answers) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..self.workers.min(requests.len()) {
                let (sender, work) = (sender.clone(), &work);
                scope.spawn(move || work(&sender));
            }
            drop(sender);
            for (i, answer) in answers {
                if on(i, answer).is_break() {
                    is_over.store(true, Ordering::Relaxed);
                }
            }
        });
    }

    /// The answer to `request`, in several attempts while it is not over.
    fn ask_one(&self, request: &Request, is_over: &AtomicBool) -> Result<Reply, String> {
        let deadline = Instant::now() + self.timeout;
        let text = request.body.to_string();
        let mut wait = FIRST_WAIT;
        for attempt in 0.. {
            let left = deadline.saturating_duration_since(Instant::now());
            let Failed { reason, again } = match self.attempt(request, &text, left) {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let Again::Yes(asked) = again else { return Err(reason) };
            let pause = asked.map_or(wait, |asked| asked.min(MAX_WAIT));
            let left = deadline.saturating_duration_since(Instant::now());
            if attempt == self.retries || pause >= left || !waited(pause, is_over) {
                return Err(format!("{reason} (attempt {})", attempt + 1));
            }
            wait *= 2;
        }
        unreachable!("attempts are counted without end")
    }

    fn attempt(&self, request: &Request, body: &str, left: Duration) -> Result<Reply, Failed> {
        let failed = |error: ureq::Error| {
            let again = match error {
                ureq::Error::Timeout(_) | ureq::Error::BodyExceedsLimit(_) => Again::No,
                _ => Again::Yes(None),
            };
            Failed { reason: format!("the server `{}`: {error}", self.url), again }
        };
        let url = format!("{}{}", self.url, request.endpoint.path());
        let mut post = self.agent.post(&url).config().timeout_global(Some(left)).build();
        post = post.header("content-type", "application/json");
        if let Some(authorization) = &self.authorization {
            post = post.header("authorization", authorization);
        }
        if let Some((name, value)) = &request.header {
            post = post.header(*name, value);
        }
        let mut response = post.send(body).map_err(failed)?;
        let status = response.status();
        let wait = retry_after(response.headers());
        let read = response.body_mut().with_config().limit(MAX_BODY_BYTES).read_to_string();
        if !status.is_success() {
            let said = self.without_key(&error_of(&read.unwrap_or_default()));
            let reason = format!("the server `{}` answered {status}{said}", self.url);
            let again = if RETRIED.contains(&status.as_u16()) { Again::Yes(wait) } else { Again::No };
            return Err(Failed { reason, again });
        }
        reply(request.endpoint, &read.map_err(failed)?).map_err(|what| {
            let reason = format!("the server `{}` answered {what}", self.url);
            Failed { reason: self.without_key(&reason), again: Again::No }
        })
    }

    /// `text` without the key, should a server repeat it.
    fn without_key(&self, text: &str) -> String {
        match self.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer ")) {
            Some(key) => text.replace(key, "(the key)"),
            None => text.to_owned(),
        }
    }
}

/// Waits; whether it was not over before.
fn waited(pause: Duration, is_over: &AtomicBool) -> bool {
    let end = Instant::now() + pause;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || is_over.load(Ordering::Relaxed) {
            return left.is_zero();
        }
        thread::sleep(left.min(LOOK_EVERY));
    }
}

/// What a model says in the body of a response.
fn reply(endpoint: Endpoint, body: &str) -> Result<Reply, String> {
    let wrong = || format!("`{}`, which is no completion", shorten(body.trim()));
    let body: Value = serde_json::from_str(body).map_err(|_| wrong())?;
    let choice = &body["choices"][0];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (content, reasoning) = match endpoint {
        Endpoint::Text => (text(&choice["text"]), None),
        Endpoint::Chat => {
            let message = &choice["message"];
            let content = match &message["content"] {
                // A refusal, or thinking alone.
                Value::Null if message.is_object() => Some(String::new()),
                content => text(content),
            };
            (content, text(&message["reasoning_content"]).or_else(|| text(&message["reasoning"])))
        }
    };
    Ok(Reply {
        content: content.ok_or_else(wrong)?,
        reasoning: reasoning.unwrap_or_default(),
        finish_reason: text(&choice["finish_reason"]),
        tokens: body["usage"]["completion_tokens"].as_u64().and_then(|tokens| usize::try_from(tokens).ok()),
    })
}

/// The message of an error, as OpenAI's API has it, or the beginning of whatever else the body is.
fn error_of(body: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(body).ok();
    let message =
        parsed.as_ref().and_then(|body| body["error"]["message"].as_str().or(body["message"].as_str()));
    match message.unwrap_or(body).trim() {
        "" => String::new(),
        said => format!(": {}", said.chars().take(200).collect::<String>()),
    }
}

/// What `Retry-After` says, in seconds; a date is not read.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_that_of_the_server_or_of_its_completions() {
        let new = |url: &str| Server::new(url, None, Duration::from_secs(1), 0, 1).map(|server| server.url);
        for url in [
            "http://localhost:8000/v1",
            "http://localhost:8000/v1/",
            "http://localhost:8000/v1/chat/completions",
        ] {
            assert_eq!(new(url).as_deref(), Ok("http://localhost:8000/v1"));
        }
        for url in ["http://me:secret@localhost/v1", "http://localhost/v1?key=secret"] {
            let error = new(url).expect_err(url);
            assert!(error.contains("`api_key_env`") && !error.contains("secret"), "{error}");
        }
        assert!(new("https://api.example.com/v1").is_ok());
        for url in ["localhost:8000", "ftp://a/v1", "http://", "", "/v1"] {
            assert!(new(url).expect_err(url).contains("write an address"));
        }
        let key = Server::new("http://a/v1", Some("KOAN_NO_SUCH_KEY"), Duration::from_secs(1), 0, 1);
        assert!(key.err().expect("not set").contains("`KOAN_NO_SUCH_KEY`"));
    }

    #[test]
    fn a_body_is_read_as_openai_writes_it() {
        let whole = r#"{"choices": [{"message": {"role": "assistant", "content": "7", "reasoning_content": "3 + 4"},
            "finish_reason": "stop"}], "usage": {"completion_tokens": 5}}"#;
        let thought = Reply {
            content: "7".into(),
            reasoning: "3 + 4".into(),
            finish_reason: Some("stop".into()),
            tokens: Some(5),
        };
        assert_eq!(reply(Endpoint::Chat, whole), Ok(thought));
        let empty = r#"{"choices": [{"message": {"content": null}}]}"#;
        assert_eq!(reply(Endpoint::Chat, empty), Ok(Reply::default()));
        let text = r#"{"choices": [{"text": "7"}]}"#;
        assert_eq!(reply(Endpoint::Text, text).map(|reply| reply.content).as_deref(), Ok("7"));
        for body in ["", "[]", "{}", "null", "<html>", r#"{"choices": []}"#, text] {
            assert!(reply(Endpoint::Chat, body).expect_err(body).contains("no completion"));
        }
        assert_eq!(error_of(r#"{"error": {"message": "no such model"}}"#), ": no such model");
    }

    proptest! {
        #[test]
        fn reading_a_body_is_total(body in "(?s).{0,60}|[{}\\[\\]\":,a-z0-9]{0,60}") {
            _ = (reply(Endpoint::Chat, &body), reply(Endpoint::Text, &body), error_of(&body));
        }
    }
}
