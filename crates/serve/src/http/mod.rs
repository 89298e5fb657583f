//! HTTP/1.1 for the API and its page, on `axum` and `tokio`. Everything that a client may do is bounded.

mod app;
mod connection;
mod guard;
mod stream;

use std::{
    io,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use koan_view::server::{Listener, next, set};
use serde_json::Value;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

pub(crate) use app::{App, Limits};
pub use app::{Log, MAX_BODY_BYTES};
pub(crate) use guard::Guard;

use crate::error::ServeError;

/// Connections served at once; more are closed without an answer.
pub const MAX_CONNECTIONS: usize = 4096;

/// Listens at `host`, an address or a name of this machine; at any free port if `port` is 0. Who connects waits until models are
/// served.
///
/// # Errors
/// If that is not possible, for example because the port is taken.
pub fn listen(host: &str, port: u16) -> Result<Listener, ServeError> {
    Listener::bind(host, port).map_err(|source| ServeError::Bind { host: host.into(), port, source })
}

/// Serves whoever comes until one of `stop` is set; then lets the answers that were begun end, for `drain` at most.
pub(crate) async fn serve(
    listener: Listener,
    pages: Router,
    app: Arc<App>,
    stop: [&AtomicBool; 2],
    drain: Duration,
) -> io::Result<()> {
    let listener = listener.into_tokio()?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (stopping, stopped) = watch::channel(false);
    let accepting = async {
        loop {
            let stream = next(&listener).await;
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let (pages, stopped) = (pages.clone(), stopped.clone());
            tokio::spawn(async move {
                connection::serve(stream, pages, stopped).await;
                drop(place);
            });
        }
    };
    first(accepting, set(&stop)).await;
    drop(listener);
    app.stop();
    let _ = stopping.send(true); // whoever is connected hears of it
    let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    let _ = timeout(drain, places.acquire_many(all)).await; // what takes longer is cut off
    Ok(())
}

/// Runs `endless` until `other` is over.
async fn first(endless: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut endless, mut other) = (std::pin::pin!(endless), std::pin::pin!(other));
    std::future::poll_fn(|cx| {
        let _ = endless.as_mut().poll(cx);
        other.as_mut().poll(cx)
    })
    .await;
}

/// A value as JSON.
pub(crate) fn json_response(status: StatusCode, value: &Value) -> Response {
    let body = Bytes::from(value.to_string().into_boxed_str().into_boxed_bytes());
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
