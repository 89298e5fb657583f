//! One connection: request after request, from a client that must read its answers.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};
use tower_service::Service;

use super::app::Peer;

/// Longest head of a request: its line and its headers, bytes.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// Most headers of a request.
const MAX_HEADERS: usize = 100;
/// How long a client may take to send a request's head, the time between requests included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may not read what is written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers the client's requests; the last when `stopping`. Whatever goes wrong ends this connection alone.
pub(super) async fn serve(stream: TcpStream, pages: Router, mut stopping: watch::Receiver<bool>) {
    // Tokens are sent as they come, however few bytes they have.
    let _ = stream.set_nodelay(true);
    let Ok(peer) = stream.peer_addr() else { return }; // it has left
    let service = service_fn(|request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer.ip()));
        let answer = pages.clone().call(request);
        Box::pin(answer)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        // Who has ended its side has left: its answer need not be made.
        .half_close(false);
    let stream = TokioIo::new(Read { stream, alarm: None });
    let mut connection = pin!(http.serve_connection(stream, service));
    let mut told = pin!(async move {
        let _ = stopping.wait_for(|stopping| *stopping).await;
    });
    let mut is_told = false;
    let _ = std::future::poll_fn(|cx| {
        if !is_told && told.as_mut().poll(cx).is_ready() {
            is_told = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await;
}

/// A stream that fails with [`io::ErrorKind::TimedOut`] once its client has read nothing for [`WRITE_TIMEOUT`].
struct Read {
    stream: TcpStream,
    /// Set while a write waits.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Read {
    fn in_time<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.alarm = None;
            return polled;
        }
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + WRITE_TIMEOUT)));
        ready!(alarm.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Read {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Read {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.in_time(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
