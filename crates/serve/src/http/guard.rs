//! Who is answered: requests that name this server's host and come from no page of another, or that have the key.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use koan_files::digest;
use koan_view::server::{HEADERS, Hosts};

use crate::error::ApiError;

/// What requests are held against.
pub(crate) struct Guard {
    hosts: Hosts,
    /// The digest of the key, if one is needed.
    key: Option<Vec<u8>>,
}

impl Guard {
    pub(crate) fn new(hosts: Hosts, key: Option<&str>) -> Self {
        Self { hosts, key: key.map(hashed) }
    }

    fn refusal(&self, request: &Request) -> Option<ApiError> {
        if request.uri().authority().is_some() || !request.uri().path().starts_with('/') {
            return Some(ApiError::invalid(StatusCode::BAD_REQUEST, "A request's path begins with /."));
        }
        match &self.key {
            // No page of another site has it, whatever its host name points at.
            Some(key) if request.uri().path().starts_with("/v1/") => Self::wrong_key(key, request.headers()),
            Some(_) => None,
            None => {
                let (status, why) = self.hosts.refusal(request.headers())?;
                Some(ApiError::invalid(status, why))
            }
        }
    }

    fn wrong_key(key: &[u8], headers: &HeaderMap) -> Option<ApiError> {
        let message = match bearer(headers) {
            Some(given) if is_same(key, &hashed(given)) => return None,
            Some(_) => "Incorrect API key provided.",
            None => "No API key was given. Send it as 'Authorization: Bearer KEY'.",
        };
        Some(ApiError::invalid(StatusCode::UNAUTHORIZED, message).with_code("invalid_api_key"))
    }
}

/// The key that a request has, if it has one.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

/// The digest of a key. Keys are compared by it: where two digests begin to differ says nothing of the key.
fn hashed(key: &str) -> Vec<u8> {
    digest(key).as_ref().to_vec()
}

/// Whether two digests are the same, in a time that does not depend on them.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

/// Lets a request through, or refuses it.
pub(crate) async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut answer = match guard.refusal(&request) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    };
    answer.headers_mut().extend(HEADERS);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(guard: &Guard, path: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let mut request = axum::http::Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(axum::body::Body::empty()).expect("a request");
        guard.refusal(&request).map(|error| error.status.as_u16())
    }

    #[test]
    fn who_has_no_key_must_name_this_host() {
        let hosts = Hosts::new("127.0.0.1".into(), "127.0.0.1:8000".parse().expect("an address"));
        let open = Guard::new(hosts.clone(), None);
        let own = ("host", "127.0.0.1:8000");
        assert_eq!(status(&open, "/v1/models", &[own]), None);
        assert_eq!(status(&open, "/v1/models", &[]), Some(400));
        assert_eq!(status(&open, "/v1/models", &[("host", "evil.example:8000")]), Some(403));
        assert_eq!(status(&open, "/v1/models", &[own, ("origin", "http://evil.example")]), Some(403));
        assert_eq!(status(&open, "/v1/models", &[own, ("origin", "http://127.0.0.1:8000")]), None);

        let closed = Guard::new(hosts, Some("secret"));
        let host = ("host", "koan.example");
        assert_eq!(status(&closed, "/v1/models", &[host]), Some(401));
        assert_eq!(status(&closed, "/v1/models", &[host, ("authorization", "Bearer wrong")]), Some(401));
        assert_eq!(status(&closed, "/v1/models", &[host, ("authorization", "Basic secret")]), Some(401));
        assert_eq!(status(&closed, "/v1/models", &[host, ("authorization", "bearer secret")]), None);
        assert_eq!(status(&closed, "/health", &[host]), None);
    }
}
