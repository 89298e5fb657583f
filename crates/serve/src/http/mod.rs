//! HTTP/1.1 for the API and its page, on `axum` and `tokio`. Everything that a client may do is bounded.

mod app;
mod connection;
mod guard;
mod stream;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::timeout,
};

pub(crate) use app::{App, Limits};
pub use app::{Log, MAX_BODY_BYTES};
pub(crate) use guard::Guard;

use crate::error::ServeError;

/// Connections served at once; more are closed without an answer.
pub const MAX_CONNECTIONS: usize = 4096;
/// How long nothing is accepted after the system refused a connection: it lacks descriptors or memory, and would refuse again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it is asked whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// An address that is listened at.
#[derive(Debug)]
pub struct Server {
    listener: std::net::TcpListener,
    address: SocketAddr,
    host: String,
}

impl Server {
    /// Listens at `host`, an address or a name of this machine; at any free port if `port` is 0. Who connects waits until models are
    /// served.
    ///
    /// # Errors
    /// If that is not possible, for example because the port is taken.
    pub fn bind(host: &str, port: u16) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Bind { host: host.into(), port, source };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let listener = std::net::TcpListener::bind((bare, port)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, host: bare.into() })
    }

    /// Whether it can be reached from other machines.
    pub fn is_public(&self) -> bool {
        !self.address.ip().is_loopback()
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

    pub(crate) fn parts(self) -> (std::net::TcpListener, SocketAddr, String) {
        (self.listener, self.address, self.host)
    }
}

/// Serves whoever comes until one of `stop` is set; then lets the answers that were begun end, for `drain` at most.
pub(crate) async fn serve(
    listener: std::net::TcpListener,
    pages: Router,
    app: Arc<App>,
    stop: [&AtomicBool; 2],
    drain: Duration,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
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
    first(accepting, set(stop)).await;
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

/// Waits until one of `stop` is set.
async fn set(stop: [&AtomicBool; 2]) {
    while stop.iter().all(|stop| !stop.load(Ordering::Relaxed)) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The next client.
async fn next(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // The client left before it was accepted.
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// A value as JSON.
pub(crate) fn json_response(status: StatusCode, value: &Value) -> Response {
    let body = Bytes::from(value.to_string().into_boxed_str().into_boxed_bytes());
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
