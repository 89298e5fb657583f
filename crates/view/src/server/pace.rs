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

/// How slow a client may be.
#[derive(Clone, Copy)]
pub(super) struct Allowance {
    /// How long a connection may last, in addition to what its answer's length allows.
    pub(super) grace: Duration,
    /// The least pace at which an answer is read, bytes per second: each byte written prolongs the connection by its share.
    pub(super) least_pace: u64,
}

/// A stream that fails with [`io::ErrorKind::TimedOut`] once its client has fallen behind.
pub(super) struct Paced {
    stream: TcpStream,
    allowance: Allowance,
    start: Instant,
    written: u64,
    alarm: Pin<Box<Sleep>>,
}

impl Paced {
    pub(super) fn new(stream: TcpStream, allowance: Allowance) -> Self {
        let start = Instant::now();
        Self { stream, allowance, start, written: 0, alarm: Box::pin(sleep_until(start + allowance.grace)) }
    }

    /// What a poll of the stream gives: an error, if it would wait longer than the client has left.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            return polled;
        }
        let Allowance { grace, least_pace } = self.allowance;
        let allowed = grace + Duration::from_millis(1000 * self.written / least_pace);
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

#[cfg(test)]
mod tests {
    use std::{io::Read, net, thread};

    use tokio::{io::AsyncWriteExt, net::TcpListener, runtime};

    use super::*;

    /// Writes to a client, which does what `client` does, until 8 MiB are written or the client falls behind.
    fn write_to(
        client: impl FnOnce(net::TcpStream) + Send + 'static,
        allowance: Allowance,
    ) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let client = thread::spawn(move || client(net::TcpStream::connect(address).expect("connected")));
            let (stream, _) = listener.accept().await.expect("a client");
            let mut paced = Paced::new(stream, allowance);
            let part = vec![0; 64 << 10];
            let mut result = Ok(());
            for _ in 0..128 {
                result = paced.write_all(&part).await;
                if result.is_err() {
                    break;
                }
            }
            drop(paced);
            client.join().expect("joined");
            result
        })
    }

    #[test]
    fn who_does_not_read_is_left() {
        let allowance = Allowance { grace: Duration::from_millis(200), least_pace: 1 << 30 };
        let start = std::time::Instant::now();
        let result = write_to(|_open| thread::sleep(Duration::from_secs(2)), allowance);
        assert_eq!(result.map_err(|e| e.kind()), Err(io::ErrorKind::TimedOut));
        assert!(start.elapsed() >= allowance.grace);
    }

    #[test]
    fn who_reads_has_all_the_time_that_an_answer_takes() {
        let allowance = Allowance { grace: Duration::from_millis(200), least_pace: 64 << 10 };
        let read = |mut stream: net::TcpStream| {
            let mut part = vec![0; 1 << 20];
            while stream.read(&mut part).expect("read") > 0 {
                thread::sleep(Duration::from_millis(40));
            }
        };
        write_to(read, allowance).expect("written");
    }
}
