//! A connection whose client must keep pace.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

/// How long a connection may last, in addition to what its answer's length allows.
const GRACE: Duration = Duration::from_secs(60);
/// The least pace at which an answer is read, bytes per second: each byte written prolongs the connection by its share.
const LEAST_PACE: u64 = 16 << 10;

/// A stream that fails with [`io::ErrorKind::TimedOut`] once its client has fallen behind.
pub(super) struct Paced {
    stream: TcpStream,
    start: Instant,
    written: u64,
    alarm: Pin<Box<Sleep>>,
}

impl Paced {
    pub(super) fn new(stream: TcpStream) -> Self {
        let start = Instant::now();
        Self { stream, start, written: 0, alarm: Box::pin(sleep_until(start + GRACE)) }
    }

    /// What a poll of the stream gives: an error, if it would wait longer than the client has left.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            return polled;
        }
        let allowed = GRACE + Duration::from_millis(1000 * self.written / LEAST_PACE);
        self.alarm.as_mut().reset(self.start + allowed);
        ready!(self.alarm.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.in_time(cx, polled)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            self.written += written as u64;
        }
        self.in_time(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
