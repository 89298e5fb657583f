//! A judge on a server with OpenAI's API (`POST …/chat/completions`): vLLM, llama.cpp, SGLang, or a service.
//!
//! | what happens | then |
//! |---|---|
//! | no connection, status 408, 409, 425, 429, 500, 502, 503, 504 or 529 | asked again, at most `retries` times, after 1, 2, 4, … seconds or as long as `Retry-After` says (up to [`MAX_WAIT`]) |
//! | any other status, a body that is no completion or exceeds [`MAX_BODY_BYTES`] | no answer |
//! | no answer within `timeout_s`, all attempts together | no answer |
//! | [`MAX_FAILURES`] requests in a row without an answer | the rest of the completions that are being judged is not asked about |
//!
//! Redirects are not followed: a key goes to no other host. Koan writes the key nowhere, and takes it out of what a server says of an error.

use crate::verdict::shorten;
use koan_data::Message;
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::http::{HeaderMap, Uri};

/// A longer body of a response is refused, bytes.
pub const MAX_BODY_BYTES: u64 = 4 << 20;
/// The longest wait for another attempt.
pub const MAX_WAIT: Duration = Duration::from_secs(60);
/// Requests in a row without an answer after which a judge counts as down.
pub const MAX_FAILURES: usize = 5;
/// The wait before the second attempt; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const RETRIED: [u16; 9] = [408, 409, 425, 429, 500, 502, 503, 504, 529];

/// A server's address and how it is asked.
pub(super) struct Server {
    agent: Agent,
    url: String,
    /// `Bearer …`.
    authorization: Option<String>,
    timeout: Duration,
    retries: usize,
    workers: usize,
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

impl Server {
    /// The server at `url`, with the key in the environment variable `api_key_env`. Sends nothing yet.
    ///
    /// # Errors
    /// An address that is none, or a variable that is not set or holds no key.
    pub(super) fn new(
        url: &str,
        api_key_env: Option<&str>,
        timeout: Duration,
        retries: usize,
        workers: usize,
    ) -> Result<Self, String> {
        let is_address = |uri: &Uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        };
        if !url.parse().is_ok_and(|uri| is_address(&uri)) {
            return Err(format!("`url` is `{url}`; write an address such as http://localhost:8000/v1"));
        }
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
        let url = url.trim_end_matches('/');
        let url = match url.strip_suffix("/chat/completions") {
            Some(base) => base,
            None => url,
        };
        Ok(Self {
            agent: Agent::new_with_config(config),
            url: format!("{url}/chat/completions"),
            authorization,
            timeout,
            retries,
            workers,
        })
    }

    /// What the server says to each of `bodies`, in their order, or why it says nothing. `workers` requests run at once.
    pub(super) fn ask(&self, bodies: &[Value]) -> Vec<Result<String, String>> {
        let (next, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let answers = Mutex::new(vec![Err("not asked".to_owned()); bodies.len()]);
        let work = || {
            while let Some((i, body)) = {
                let i = next.fetch_add(1, Ordering::Relaxed);
                bodies.get(i).map(|body| (i, body))
            } {
                let answer = if failures.load(Ordering::Relaxed) >= MAX_FAILURES {
                    Err(format!(
                        "not asked: the server `{}` gave no answer {MAX_FAILURES} times in a row",
                        self.url
                    ))
                } else {
                    let answer = self.ask_one(body);
                    match &answer {
                        Ok(_) => failures.store(0, Ordering::Relaxed),
                        Err(_) => _ = failures.fetch_add(1, Ordering::Relaxed),
                    }
                    answer
                };
                answers.lock().unwrap_or_else(PoisonError::into_inner)[i] = answer;
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.workers.min(bodies.len()) {
                scope.spawn(work);
            }
        });
        answers.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to `body`, in several attempts.
    fn ask_one(&self, body: &Value) -> Result<String, String> {
        let deadline = Instant::now() + self.timeout;
        let text = body.to_string();
        let mut wait = FIRST_WAIT;
        for attempt in 0.. {
            let left = deadline.saturating_duration_since(Instant::now());
            let Failed { reason, again } = match self.attempt(&text, left) {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let Again::Yes(asked) = again else { return Err(reason) };
            let pause = asked.map_or(wait, |asked| asked.min(MAX_WAIT));
            let left = deadline.saturating_duration_since(Instant::now());
            if attempt == self.retries || pause >= left {
                return Err(format!("{reason} (attempt {})", attempt + 1));
            }
            thread::sleep(pause);
            wait *= 2;
        }
        unreachable!("attempts are counted without end")
    }

    fn attempt(&self, body: &str, left: Duration) -> Result<String, Failed> {
        let failed = |error: ureq::Error| {
            let again = match error {
                ureq::Error::Timeout(_) | ureq::Error::BodyExceedsLimit(_) => Again::No,
                _ => Again::Yes(None),
            };
            Failed { reason: format!("the server `{}`: {error}", self.url), again }
        };
        let post = self.agent.post(&self.url).config().timeout_global(Some(left)).build();
        let post = post.header("content-type", "application/json");
        let post = match &self.authorization {
            Some(authorization) => post.header("authorization", authorization),
            None => post,
        };
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
        content(&read.map_err(failed)?).map_err(|what| {
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

/// The body of a request.
pub(super) fn body(
    model: Option<&str>,
    messages: &[Message],
    temperature: f64,
    max_new_tokens: usize,
    seed: u64,
) -> Value {
    let messages: Vec<Value> =
        messages.iter().map(|m| json!({ "role": m.role, "content": m.content })).collect();
    let mut body = json!({
        "messages": messages, "temperature": temperature, "max_tokens": max_new_tokens, "seed": seed, "stream": false,
    });
    if let (Some(model), Value::Object(fields)) = (model, &mut body) {
        fields.insert("model".to_owned(), model.into());
    }
    body
}

/// What the assistant says in the body of a response.
fn content(body: &str) -> Result<String, String> {
    let wrong = || format!("`{}`, which is no completion", shorten(body.trim()));
    let body: Value = serde_json::from_str(body).map_err(|_| wrong())?;
    let message = &body["choices"][0]["message"];
    match &message["content"] {
        Value::String(text) => Ok(text.clone()),
        // A refusal, or thinking alone: an answer without a verdict.
        Value::Null if message.is_object() => Ok(String::new()),
        _ => Err(wrong()),
    }
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
            assert_eq!(new(url).as_deref(), Ok("http://localhost:8000/v1/chat/completions"));
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
        let whole = r#"{"choices": [{"index": 0, "message": {"role": "assistant", "content": "[[7]]"}}]}"#;
        assert_eq!(content(whole).as_deref(), Ok("[[7]]"));
        assert_eq!(content(r#"{"choices": [{"message": {"content": null}}]}"#).as_deref(), Ok(""));
        for body in
            ["", "[]", "{}", "null", "<html>", r#"{"choices": []}"#, r#"{"choices": [{"text": "7"}]}"#]
        {
            assert!(content(body).expect_err(body).contains("no completion"));
        }
        assert_eq!(error_of(r#"{"error": {"message": "no such model"}}"#), ": no such model");
    }

    proptest! {
        #[test]
        fn reading_a_body_is_total(body in "(?s).{0,60}|[{}\\[\\]\":,a-z0-9]{0,60}") {
            _ = (content(&body), error_of(&body));
        }
    }
}
