//! Serving, from the loading of models to the end.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use koan_backend::Backend;
use koan_infer::Together;
use koan_view::server::Listener;
use tokio::runtime;

use crate::{
    engine::{self, Places},
    error::ServeError,
    http::{self, App, Guard, Limits, Log},
    metrics::Metrics,
    served::{Named, Served},
};

/// Threads that read requests: they encode prompts.
const READERS: usize = 4;

/// How models are served.
pub struct Settings {
    /// How they are loaded, and the memory that they may take.
    pub together: Together,
    /// The key that requests must have.
    pub key: Option<String>,
    /// Requests that may wait; more are refused.
    pub queue: usize,
    /// How long a request may take.
    pub timeout: Duration,
    /// How long answers that were begun may take when the server is to stop.
    pub drain: Duration,
    /// What computes, which answers name.
    pub device: String,
    /// Where requests and answers are logged; nowhere unless that was asked for.
    pub log: Option<Log>,
}

/// Loads `models` and answers requests until `stop` is set; `ready` is called before the first.
///
/// # Errors
/// Models that can't be loaded side by side, or a device that runs out of memory for good.
pub fn serve<B: Backend>(
    b: &B,
    listener: Listener,
    models: Vec<Named>,
    settings: Settings,
    stop: &AtomicBool,
    ready: impl FnOnce(&str),
) -> Result<(), ServeError> {
    let Settings { together, key, queue, timeout, drain, device, log } = settings;
    let mut names = BTreeSet::new();
    if let Some(named) = models.iter().find(|named| !names.insert(&named.name)) {
        return Err(ServeError::TwoOfOneName { name: named.name.clone() });
    }
    let codecs = models.iter().map(|named| named.codec.clone()).collect();
    let wholes = together.load(b, codecs)?;
    let served: Vec<Arc<Served>> = models
        .into_iter()
        .enumerate()
        .map(|(i, named)| Arc::new(Served::new(i, named, together.context, &device)))
        .collect();
    let metrics = Arc::new(Metrics::new(served.iter().map(|served| served.name.clone())));
    let (jobs, taken) = mpsc::channel();
    let (limits, places) = (Limits { timeout }, Places::new(queue));
    let app = App::new(served.clone(), jobs, Arc::clone(&metrics), Arc::clone(&places), limits, log);
    let app = Arc::new(app);
    let (url, hosts) = (listener.url(), listener.hosts());
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(READERS)
        .build()
        .map_err(ServeError::System)?;
    let pages = app.routes(Guard::new(hosts, key.as_deref()));
    let engine_failed = AtomicBool::new(false);
    ready(&url);
    thread::scope(|scope| {
        let is_over = &engine_failed;
        let http = scope.spawn(move || {
            let serving = http::serve(listener, pages, app, [stop, is_over], drain);
            let ended = runtime.block_on(serving);
            // With it go connections that were not ended in time, and the engine's last senders.
            runtime.shutdown_background();
            ended
        });
        let over = Over(is_over);
        let run = engine::run(b, &served, wholes, &taken, &places, &metrics);
        drop((over, taken));
        let ended = http.join().unwrap_or(Ok(()));
        run.and(ended.map_err(ServeError::System))
    })
}

/// Says that the engine is over when it is dropped, a panic included.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
