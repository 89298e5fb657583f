//! HTTP/1.1, as much of it as a page for one reader needs: GET, one request per connection, one thread per connection.
//!
//! Everything a client may do is bounded: the size of a request's head, the time it takes to send it and to read the answer,
//! and how many are served at once. The host that a request names must be an address, `localhost`, or the host that the
//! server was started with: so a web page whose host name points at this machine (DNS rebinding) gets nothing.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    str::from_utf8,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use percent_encoding::percent_decode_str;

use crate::ViewError;

/// Longest head of a request: its line and its headers, bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Most headers of a request.
const MAX_HEADERS: usize = 64;
/// Most parameters of a query.
const MAX_PARAMETERS: usize = 16;
/// Connections served at once; more are closed without an answer.
const MAX_CONNECTIONS: usize = 32;
/// How long a client may take to send its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to read the answer.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the rest of a refused request is read, so that its sender sees the answer.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

/// A valid request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The path, as it was sent.
    pub path: String,
    /// The query's parameters, decoded, in their order.
    pub query: Vec<(String, String)>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers, in addition to those that every answer has.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// An answer of plain text.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        let headers = vec![("content-type", "text/plain; charset=utf-8".to_owned())];
        Self { status, headers, body: text.into().into_bytes() }
    }

    /// An answer of JSON.
    pub fn json(status: u16, value: &impl serde::Serialize) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        match serde_json::to_vec(value) {
            Ok(body) => Self { status, headers, body },
            Err(e) => Self::text(500, e.to_string()),
        }
    }
}

/// A listening server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    host: String,
}

impl Server {
    /// Listens at `host`, an address or a name of this machine; at any free port if `port` is 0.
    ///
    /// # Errors
    /// If that is not possible, for example because the port is taken.
    pub fn bind(host: &str, port: u16) -> Result<Self, ViewError> {
        let failed = |source| ViewError::Bind { host: host.into(), port, source };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let listener = TcpListener::bind((bare, port)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, host: bare.into() })
    }

    /// Where a browser on this machine finds it.
    pub fn url(&self) -> String {
        let (ip, port) = (self.address.ip(), self.address.port());
        match ip {
            _ if ip.is_unspecified() => format!("http://localhost:{port}/"),
            IpAddr::V4(ip) => format!("http://{ip}:{port}/"),
            IpAddr::V6(ip) => format!("http://[{ip}]:{port}/"),
        }
    }

    /// Answers requests, each in a thread of its own, until the program ends.
    ///
    /// # Errors
    /// If the system accepts no more connections.
    pub fn run(self, answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Result<(), ViewError> {
        let shared = Arc::new((answer, self.host, AtomicUsize::new(0)));
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                // The client left before it was accepted.
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(source) => return Err(ViewError::Accept { source }),
            };
            if shared.2.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
                shared.2.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (answer, host, open) = &*shared;
                let _place = Place(open);
                // The client has left.
                let _ = serve(stream, host, answer);
            });
        }
    }
}

/// One of the connections that are served at once; dropped when its thread ends, in whatever way.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn serve(mut stream: TcpStream, host: &str, answer: &impl Fn(&Request) -> Response) -> io::Result<()> {
    let (response, refused) = match read_request(&mut stream, host)? {
        Ok(request) => (answer(&request), false),
        Err(response) => (response, true),
    };
    write_response(&mut stream, &response)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    if refused {
        drain(&mut stream)?;
    }
    Ok(())
}

/// Reads the head of a request.
///
/// # Errors
/// The refusal to answer with, if something is wrong with it.
fn read_request(stream: &mut TcpStream, host: &str) -> io::Result<Result<Request, Response>> {
    let start = Instant::now();
    let mut head = Vec::new();
    let mut part = [0; 2048];
    loop {
        let left = HEAD_TIMEOUT.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(Err(Response::text(408, "the request took too long")));
        }
        stream.set_read_timeout(Some(left))?;
        let n = match stream.read(&mut part) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(e) if is_timeout(&e) => continue,
            Err(e) => return Err(e),
        };
        head.extend_from_slice(&part[..n]);
        if let Some(result) = parse(&head, host) {
            return Ok(result);
        }
        if head.len() >= MAX_HEAD_BYTES {
            return Ok(Err(Response::text(431, "the request's head is too long")));
        }
    }
}

/// The request in `head`, or its refusal; none while `head` is incomplete.
fn parse(head: &[u8], host: &str) -> Option<Result<Request, Response>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Some(Err(Response::text(431, "the request has too many headers")));
        }
        Err(e) => return Some(Err(Response::text(400, format!("not a request: {e}")))),
    }
    if request.method != Some("GET") {
        let mut refusal = Response::text(405, "only GET is answered here");
        refusal.headers.push(("allow", "GET".into()));
        return Some(Err(refusal));
    }
    let mut hosts = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("host"));
    match (hosts.next().map(|h| from_utf8(h.value)), hosts.next()) {
        (Some(Ok(named)), None) if is_own_host(named, host) => {}
        (Some(Ok(_)), None) => {
            return Some(Err(Response::text(403, "this is not the host that the request names")));
        }
        _ => return Some(Err(Response::text(400, "a request names one host"))),
    }
    Some(parse_target(request.path.unwrap_or_default()))
}

fn parse_target(target: &str) -> Result<Request, Response> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !path.starts_with('/') {
        return Err(Response::text(400, "a request's path begins with /"));
    }
    let decode = |text: &str| percent_decode_str(text).decode_utf8().map(Into::into);
    let parameters: Result<Vec<(String, String)>, _> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .take(MAX_PARAMETERS + 1)
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| Ok::<_, std::str::Utf8Error>((decode(key)?, decode(value)?)))
        .collect();
    match parameters {
        Ok(query) if query.len() <= MAX_PARAMETERS => Ok(Request { path: path.into(), query }),
        Ok(_) => Err(Response::text(400, "the query has too many parameters")),
        Err(_) => Err(Response::text(400, "the query is not UTF-8")),
    }
}

/// Whether a `Host` header names this server: by address, which no DNS answer can forge, as localhost, or by the host that it
/// listens at.
fn is_own_host(named: &str, own: &str) -> bool {
    let name = match named.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(ip, _)| ip),
        None => named.split_once(':').map_or(named, |(name, _)| name),
    };
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || (!name.is_empty() && name.eq_ignore_ascii_case(own))
}

fn write_response(stream: &mut TcpStream, response: &Response) -> io::Result<()> {
    let mut head = format!(
        "HTTP/1.1 {} {}\r\ncontent-length: {}\r\nconnection: close\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\n\
         cross-origin-resource-policy: same-origin\r\n",
        response.status,
        reason(response.status),
        response.body.len()
    );
    for (name, value) in &response.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str("\r\n");
    let start = Instant::now();
    for bytes in [head.as_bytes(), &response.body] {
        for part in bytes.chunks(64 << 10) {
            let left = BODY_TIMEOUT.saturating_sub(start.elapsed());
            stream.set_write_timeout(Some(left.max(Duration::from_millis(1))))?;
            stream.write_all(part)?;
        }
    }
    Ok(())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        _ => "Internal Server Error",
    }
}

/// Reads the rest of a request for a moment: a connection closed with unread bytes would be reset, and the answer lost.
fn drain(stream: &mut TcpStream) -> io::Result<()> {
    let start = Instant::now();
    let mut part = [0; 8192];
    while start.elapsed() < DRAIN_TIMEOUT {
        stream.set_read_timeout(Some(DRAIN_TIMEOUT))?;
        if stream.read(&mut part)? == 0 {
            break;
        }
    }
    Ok(())
}

fn is_timeout(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Result<Request, u16>> {
        parse(text.as_bytes(), "box.example").map(|result| result.map_err(|refusal| refusal.status))
    }

    #[test]
    fn a_request_is_parsed_when_it_is_whole() {
        let text = "GET /api/x?a=1&b=%C3%A4%26+c&flag HTTP/1.1\r\nHost: localhost:8080\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(parsed(&text[..end]), None, "{end}");
        }
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let query = vec![pair("a", "1"), pair("b", "ä&+c"), pair("flag", "")];
        assert_eq!(parsed(text), Some(Ok(Request { path: "/api/x".into(), query })));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let many = "a=1&".repeat(20);
        for (text, status) in [
            ("POST / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), 405),
            ("GET / HTTP/1.1\r\n\r\n".into(), 400),
            ("GET / HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n".into(), 400),
            ("GET http://localhost/ HTTP/1.1\r\nhost: localhost\r\n\r\n".into(), 400),
            ("GET /?a=%FF HTTP/1.1\r\nhost: localhost\r\n\r\n".into(), 400),
            (format!("GET /?{many} HTTP/1.1\r\nhost: localhost\r\n\r\n"), 400),
            ("\u{16}\u{3}\u{1}\r\n\r\n".into(), 400),
            (format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1)), 431),
        ] {
            assert_eq!(parsed(&text), Some(Err(status)), "{text:?}");
        }
    }

    #[test]
    fn only_a_name_that_cannot_be_forged_is_a_host() {
        for own in ["localhost", "LOCALHOST:80", "127.0.0.1:9", "[::1]:9", "192.168.1.2", "box.example:1"] {
            assert!(is_own_host(own, "box.example"), "{own}");
        }
        for other in ["evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "", ":80", "[x"]
        {
            assert!(!is_own_host(other, "box.example"), "{other}");
            assert!(!is_own_host(other, ""), "{other}");
        }
    }
}
