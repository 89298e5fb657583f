//! What holds for every page: who is answered, and what every answer says.
//!
//! A web page whose host name points at this machine (DNS rebinding) names that host in its requests, and a page of another
//! site or port names its origin: both are refused. Names are compared whole.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most bytes of large answers that wait to be read, of all clients together. Small answers are always given.
const MAX_HELD_BYTES: usize = 64 << 20;
/// An answer is large above so many bytes.
const LARGE_BYTES: u64 = 64 << 10;
/// What an answer of unknown length counts for, bytes: it is made in parts as it is read.
const STREAM_BYTES: u64 = 1 << 20;
/// Headers of every answer.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// What requests are held against.
pub(super) struct Guard {
    /// The host that the server was asked to listen at.
    host: String,
    address: SocketAddr,
    /// KiB of large answers that may still be held.
    room: Arc<Semaphore>,
}

impl Guard {
    pub(super) fn new(host: String, address: SocketAddr) -> Self {
        Self { host, address, room: Arc::new(Semaphore::new(MAX_HELD_BYTES >> 10)) }
    }

    /// Why a request is refused, if it is.
    fn refusal(&self, request: &Request) -> Option<(StatusCode, String)> {
        let no = |status, why: &str| Some((status, why.to_owned()));
        if !matches!(*request.method(), Method::GET | Method::POST) {
            return no(StatusCode::METHOD_NOT_ALLOWED, "this method is not answered here");
        }
        if request.uri().authority().is_some() || !request.uri().path().starts_with('/') {
            return no(StatusCode::BAD_REQUEST, "a request's path begins with /");
        }
        let Some(host) = only(request.headers(), &header::HOST) else {
            return no(StatusCode::BAD_REQUEST, "a request names one host");
        };
        if !self.is_own(host) {
            let (name, port) = (self.address.ip(), self.address.port());
            let why = format!(
                "this is not the host that the request names; it is {name}, port {port}. To reach it through another \
                 machine, forward the same port: ssh -L {port}:127.0.0.1:{port}"
            );
            return Some((StatusCode::FORBIDDEN, why));
        }
        let foreign = request.headers().contains_key(header::ORIGIN)
            && only(request.headers(), &header::ORIGIN) != Some(&format!("http://{host}"));
        foreign.then(|| (StatusCode::FORBIDDEN, "a page of another origin is not answered".to_owned()))
    }

    /// Whether a host, with its port, names this server: by an address, which no DNS answer can forge, as localhost, or by the
    /// host that it was asked to listen at.
    fn is_own(&self, named: &str) -> bool {
        let split = |text: &str| -> Option<(String, String)> {
            let (name, rest) = match text.strip_prefix('[') {
                Some(rest) => rest.split_once(']')?,
                None => text.find(':').map_or((text, ""), |colon| text.split_at(colon)),
            };
            let port = if rest.is_empty() { "80" } else { rest.strip_prefix(':')? };
            Some((name.to_ascii_lowercase(), port.to_owned()))
        };
        let Some((name, port)) = split(named) else { return false };
        if port != self.address.port().to_string() {
            return false;
        }
        let ip = if named.starts_with('[') {
            name.parse::<Ipv6Addr>().map(IpAddr::V6)
        } else {
            name.parse::<Ipv4Addr>().map(IpAddr::V4)
        };
        match ip {
            Ok(ip) => {
                let own = self.address.ip();
                own.is_unspecified() || ip == own || ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST
            }
            Err(_) if named.starts_with('[') => false,
            Err(_) => name == "localhost" || (!name.is_empty() && name.eq_ignore_ascii_case(&self.host)),
        }
    }

    /// The answer, which counts as held until it is sent or dropped; an apology if there is no room for it.
    fn hold(&self, answer: Response) -> Response {
        let bytes = answer.body().size_hint().exact().unwrap_or(STREAM_BYTES);
        if bytes <= LARGE_BYTES {
            return answer;
        }
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(kib) else {
            return (StatusCode::SERVICE_UNAVAILABLE, "too many readers are slow; try again").into_response();
        };
        answer.map(|body| Body::new(Held { body, rest: Bytes::new(), _room: room }))
    }
}

/// Lets a request through to its page, or refuses it.
pub(super) async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut answer = match guard.refusal(&request) {
        Some(refusal) => refusal.into_response(),
        None => guard.hold(next.run(request).await),
    };
    answer.headers_mut().extend(HEADERS);
    answer
}

/// The value of a header that must be there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Bytes of a large answer that a connection is given at once.
const PIECE_BYTES: usize = 64 << 10;

/// A body whose memory is counted. It is given in pieces: a connection copies what it is given, and would let a body that is one
/// piece end, and its room go, long before it is sent.
struct Held {
    body: Body,
    /// What is left of the body's last frame.
    rest: Bytes,
    _room: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(bytes))) => self.rest = bytes,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
                None => return Poll::Ready(None),
            }
        }
        let n_bytes = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(n_bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, of_body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + rest);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard_at(host: &str, address: &str) -> Guard {
        Guard::new(host.into(), address.parse().expect("an address"))
    }

    #[test]
    fn only_a_name_that_cannot_be_forged_is_a_host() {
        let guard = guard_at("box.example", "192.168.1.2:8383");
        for own in [
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "192.168.1.2",
            "box.example",
        ] {
            assert!(guard.is_own(&format!("{own}:8383")), "{own}");
            assert!(!guard.is_own(&format!("{own}:8384")) && !guard.is_own(own), "{own}: another port");
        }
        for other in [
            "evil.example",
            "localhost.evil.example",
            "evil-localhost",
            "localhost.",
            "127.0.0.1.evil.example",
            "127.0.0.1.",
            "127.0.0.2",
            "127.1",
            "2130706433",
            "0x7f000001",
            "192.168.1.3",
            "box.example.",
            "box.example.evil",
            "[::2]",
            "[::ffff:127.0.0.1]",
            "[::1",
            "[::1]evil",
            "[localhost]",
            "[127.0.0.1]",
            "::1",
            "user@localhost",
            "localhost:8383@evil.example",
            "",
            " ",
        ] {
            assert!(!guard.is_own(&format!("{other}:8383")), "{other}");
        }
        for odd in [
            "localhost:",
            "localhost:+8383",
            "localhost:08383",
            "localhost:8383:8383",
            "localhost:8383 ",
            ":8383",
        ] {
            assert!(!guard.is_own(odd), "{odd}");
        }
    }

    #[test]
    fn port_80_may_be_left_out() {
        let guard = guard_at("127.0.0.1", "127.0.0.1:80");
        assert!(guard.is_own("localhost") && guard.is_own("[::1]") && guard.is_own("127.0.0.1:80"));
        assert!(!guard.is_own("localhost:8383"));
    }

    #[test]
    fn who_listens_everywhere_is_named_by_any_address() {
        let guard = guard_at("0.0.0.0", "0.0.0.0:8383");
        assert!(
            guard.is_own("10.1.2.3:8383") && guard.is_own("[fe80::1]:8383") && guard.is_own("localhost:8383")
        );
        assert!(!guard.is_own("evil.example:8383") && !guard.is_own("10.1.2.3:80"));
    }
}
