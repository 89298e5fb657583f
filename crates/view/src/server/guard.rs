//! What holds for every page: who is answered, and what every answer says.
//!
//! A web page whose host name points at this machine (DNS rebinding) names that host in its requests, and a page of another
//! site or port names its origin: both are refused. Names are compared whole.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Hosts;

/// Most bytes of large answers that wait to be read, of all clients together. Small answers are always given.
const MAX_HELD_BYTES: usize = 64 << 20;
/// An answer is large above so many bytes.
const LARGE_BYTES: u64 = 64 << 10;
/// What an answer of unknown length counts for, bytes: it is made in parts as it is read.
const STREAM_BYTES: u64 = 1 << 20;
/// Headers of every answer.
pub const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// What requests are held against.
pub(super) struct Guard {
    hosts: Hosts,
    /// KiB of large answers that may still be held.
    room: Arc<Semaphore>,
}

impl Guard {
    pub(super) fn new(hosts: Hosts) -> Self {
        Self { hosts, room: Arc::new(Semaphore::new(MAX_HELD_BYTES >> 10)) }
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
        self.hosts.refusal(request.headers())
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
