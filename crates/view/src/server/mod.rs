//! HTTP/1.1 for a few readers on one machine, on `axum` and `tokio`: one thread, one request per connection.
//!
//! Everything that a client may do is bounded: how many are served at once, the size of a request's head and the time it may
//! take, the pace at which an answer is read, and the memory that answers hold while they wait to be read. A page is a
//! [`Router`] of its own module; what must hold for all of them is in `guard.rs`.

mod answer;
mod connection;
mod guard;
mod hosts;
mod listener;
mod pace;
mod query;

use std::sync::{Arc, atomic::AtomicBool};

use axum::{Router, middleware};
use tokio::{
    net::TcpListener,
    runtime::{self, Runtime},
    sync::Semaphore,
};

pub(crate) use answer::{Answer, blocking, blocking_json, json_with};
pub use guard::HEADERS;
use guard::{Guard, guard};
pub use hosts::Hosts;
pub use listener::{Listener, next, set};
pub(crate) use query::{Parameters, wrong};

use crate::ViewError;

/// Connections served at once; more are closed without an answer.
pub const MAX_CONNECTIONS: usize = 256;
/// Threads that read files for answers; a page that reads long ones leaves some to others.
const READERS: usize = 4;

/// A listening server.
#[derive(Debug)]
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    hosts: Hosts,
    url: String,
}

impl Server {
    /// Listens at `host`, an address or a name of this machine; at any free port if `port` is 0.
    ///
    /// # Errors
    /// If that is not possible, for example because the port is taken.
    pub fn bind(host: &str, port: u16) -> Result<Self, ViewError> {
        let failed = |source| ViewError::Bind { host: host.into(), port, source };
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(READERS)
            .build()
            .map_err(failed)?;
        let listener = Listener::bind(host, port).map_err(failed)?;
        let (hosts, url) = (listener.hosts(), listener.url());
        let listener = {
            let _inside = runtime.enter();
            listener.into_tokio().map_err(failed)?
        };
        Ok(Self { runtime, listener, hosts, url })
    }

    /// Where a browser on this machine finds it.
    pub fn url(&self) -> String {
        self.url.clone()
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
        runtime.block_on(set(&[stop]));
    }

    fn serving(self, pages: Router) -> (Runtime, impl Future<Output = ()> + Send + 'static) {
        let Self { runtime, listener, hosts, .. } = self;
        let pages = pages
            .fallback(answer::nothing_here)
            .layer(middleware::from_fn_with_state(Arc::new(Guard::new(hosts)), guard));
        (runtime, async move { accept(&listener, &pages).await })
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
