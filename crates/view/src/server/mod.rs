//! HTTP/1.1 for a few readers on one machine, on `axum` and `tokio`: one thread, one request per connection.
//!
//! Everything that a client may do is bounded: how many are served at once, the size of a request's head and the time it may
//! take, the pace at which an answer is read, and the memory that answers hold while they wait to be read. A page is a
//! [`Router`](axum::Router) of its own module; what must hold for all of them is in [`guard`].

mod answer;
mod connection;
mod guard;
mod hosts;
mod pace;
mod query;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, middleware};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{self, Runtime},
    sync::Semaphore,
};

pub(crate) use answer::{Answer, blocking, blocking_json, json_with};
use guard::{Guard, guard};
pub use hosts::Hosts;
pub(crate) use query::{Parameters, wrong};

use crate::ViewError;

/// Connections served at once; more are closed without an answer.
pub const MAX_CONNECTIONS: usize = 256;
/// Threads that read files for answers; a page that reads long ones leaves some to others.
const READERS: usize = 4;
/// How long nothing is accepted after the system refused a connection: it lacks descriptors or memory, and would refuse again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it is asked whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A listening server.
#[derive(Debug)]
pub struct Server {
    runtime: Runtime,
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
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(READERS)
            .build()
            .map_err(failed)?;
        let listener = std::net::TcpListener::bind((bare, port)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener).map_err(failed)?
        };
        Ok(Self { runtime, listener, address, host: bare.into() })
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

    /// Answers requests until the program ends.
    pub fn run(self, pages: Router) {
        let (runtime, serving) = self.serving(pages);
        runtime.block_on(serving);
    }

    /// Answers requests until `stop` is set. Work that was begun then, such as a vote on its way to the disk, is ended first.
    pub fn run_until(self, pages: Router, stop: &AtomicBool) {
        let (runtime, serving) = self.serving(pages);
        runtime.spawn(serving);
        runtime.block_on(set(stop));
    }

    fn serving(self, pages: Router) -> (Runtime, impl Future<Output = ()> + Send + 'static) {
        let Self { runtime, listener, address, host } = self;
        let pages = pages
            .fallback(answer::nothing_here)
            .layer(middleware::from_fn_with_state(Arc::new(Guard::new(host, address)), guard));
        (runtime, async move { accept(&listener, &pages).await })
    }
}

/// Waits until `stop` is set.
async fn set(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Serves whoever comes.
async fn accept(listener: &TcpListener, pages: &Router) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = next(listener).await;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let pages = pages.clone();
        tokio::spawn(async move {
            connection::serve(stream, pages).await;
            drop(place);
        });
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
