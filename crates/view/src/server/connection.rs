//! One connection: a request, its answer, and an end that lets the client read it.

use std::{future::poll_fn, io, time::Duration};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tower_service::Service;

use super::pace::{Allowance, Paced};

/// Longest head of a request: its line and its headers, bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Most headers of a request.
const MAX_HEADERS: usize = 64;
/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How slowly a client may read its answer.
const READING: Allowance = Allowance { grace: Duration::from_secs(30), least_pace: 32 << 10 };
/// How long what else a client sends is read after its answer: a connection that is closed with unread bytes would be reset,
/// and the answer lost.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);
/// The answer to a head that was not complete in time.
const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\ncache-control: no-store\r\n\r\n";

/// Answers the client's one request. Whatever goes wrong ends this connection alone.
pub(super) async fn serve(stream: TcpStream, pages: Router) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = pages.clone().call(request.map(Body::new));
        Box::pin(answer)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .keep_alive(false)
        // Who has ended its side has left: its answer need not be made.
        .half_close(false);
    let mut connection = http.serve_connection(TokioIo::new(Paced::new(stream, READING)), service);
    let result = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let mut stream = connection.into_parts().io.into_inner();
    if result.is_err_and(|e| e.is_timeout()) {
        // A client that does not read it loses nothing.
        let _ = stream.write_all(TOO_SLOW).await;
    }
    let _ = timeout(DRAIN_TIMEOUT, end(&mut stream)).await;
}

/// Ends the answer, and reads until the client ends too.
async fn end(stream: &mut Paced) -> io::Result<()> {
    stream.shutdown().await?;
    let mut part = [0; 8192];
    while stream.read(&mut part).await? > 0 {}
    Ok(())
}
