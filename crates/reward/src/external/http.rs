//! A server that judges, over HTTP: the request is posted as JSON, and the body of the response is the answer. Plain
//! HTTP only: to reach a server elsewhere, use a tunnel or a proxy that speaks TLS.
//!
//! A response that is not 200 to 299, takes longer than `timeout_s`, or exceeds [`MAX_ANSWER_BYTES`] makes the
//! verdict undecided. Redirects are not followed. The next request is sent as usual, so that
//! a server that comes back is used again.

use super::{MAX_ANSWER_BYTES, Request, Worker};
use std::time::Duration;
use ureq::Agent;

struct Client {
    agent: Agent,
    url: String,
}

/// As many clients as `workers`. Sends nothing yet.
///
/// # Errors
/// A URL that is not plain HTTP.
pub(super) fn connect(url: &str, workers: usize, timeout: Duration) -> Result<Vec<Box<dyn Worker>>, String> {
    let parsed = url.parse::<ureq::http::Uri>().ok();
    if parsed.is_none_or(|uri| uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty)) {
        return Err(format!("`url` is `{url}`; write an address such as http://localhost:8000/judge"));
    }
    let config = Agent::config_builder()
        .timeout_global(Some(timeout))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .proxy(None)
        .build();
    let agent = Agent::new_with_config(config);
    let client = || Box::new(Client { agent: agent.clone(), url: url.to_owned() }) as Box<dyn Worker>;
    Ok((0..workers).map(|_| client()).collect())
}

impl Worker for Client {
    fn ask(&self, request: &Request) -> Result<String, String> {
        let failed = |error: ureq::Error| format!("the server `{}`: {error}", self.url);
        let post = self.agent.post(&self.url).header("content-type", "application/json");
        let mut response = post.send(request.line.as_str()).map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("the server `{}` answered {status}", self.url));
        }
        response.body_mut().with_config().limit(MAX_ANSWER_BYTES as u64).read_to_string().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{External, Options};
    use crate::verifier::{Configured, Context, Sample, Verifier};
    use crate::{Outcome, Problem};
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::thread;

    /// A server that answers each connection with `answer`, a whole HTTP response made from the request's body; an
    /// empty one hangs until the client gives up. Returns its address.
    fn serve(answer: fn(&str) -> String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.expect("a connection"));
                let response = answer(&body(&mut stream));
                let mut stream = stream.into_inner();
                if response.is_empty() {
                    _ = stream.read(&mut [0]);
                } else {
                    stream.write_all(response.as_bytes()).expect("sent");
                    _ = stream.shutdown(Shutdown::Both);
                }
            }
        });
        format!("http://{address}/judge")
    }

    fn body(stream: &mut BufReader<TcpStream>) -> String {
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).expect("a header");
            match line.to_lowercase().split_once("content-length:") {
                Some((_, n)) => length = n.trim().parse().expect("a length"),
                None if line.trim().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).expect("a body");
        String::from_utf8(body).expect("text")
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    }

    fn judge(url: &str, timeout_s: f64) -> (Outcome, Option<f32>, String) {
        let options = Options { url: Some(url.to_owned()), timeout_s, ..Options::default() };
        let external = External::build(options, &Context::default()).expect("builds");
        let problem = Problem { answer: "7".to_owned(), ..Problem::default() };
        let verdict = external.judge(&Sample::new(&problem, "It is 7."));
        (verdict.outcome, verdict.score, verdict.reason)
    }

    #[test]
    fn a_server_is_asked_and_answers() {
        let url = serve(|body| {
            assert!(body.contains(r#""completion":"It is 7.""#), "{body}");
            ok(r#"{"score": 0.5, "reason": "nearly"}"#)
        });
        assert_eq!(judge(&url, 5.0), (Outcome::Wrong, Some(0.5), "nearly".to_owned()));
    }

    #[test]
    fn what_goes_wrong_is_undecided() {
        type Answer = fn(&str) -> String;
        let cases: [(Answer, f64, &str); 5] = [
            (|_| ok("NaN"), 5.0, "neither a finite number"),
            (
                |_| "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
                5.0,
                "503",
            ),
            (|_| "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".to_owned(), 5.0, "302"),
            (|_| ok(&" ".repeat(super::MAX_ANSWER_BYTES + 1)), 5.0, "limit"),
            (|_| String::new(), 0.2, "timeout"),
        ];
        for (answer, timeout_s, expected) in cases {
            let (outcome, score, reason) = judge(&serve(answer), timeout_s);
            assert_eq!((outcome, score), (Outcome::Undecided, None), "{expected}");
            assert!(reason.contains(expected), "{expected}: {reason}");
        }
        let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        assert_eq!(judge(&format!("http://{nobody}/"), 5.0).0, Outcome::Undecided, "nobody listens");
    }

    #[test]
    fn a_url_is_one_of_plain_http() {
        for url in ["", "localhost:8000", "https://example.com", "ftp://x/", "http://"] {
            let options = Options { url: Some(url.to_owned()), ..Options::default() };
            let error = External::build(options, &Context::default()).err().expect("refused");
            assert!(error.contains("http://localhost:8000"), "{url}: {error}");
        }
    }
}
