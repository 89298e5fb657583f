//! Ctrl-C: the first asks long work to end well, the second ends it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Context;

/// A flag that Ctrl-C sets; `what` follows then is said. A second Ctrl-C stops the program at once.
pub(crate) fn stop_on_ctrl_c(what: &'static str) -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if handler.swap(true, Ordering::Relaxed) {
            std::process::abort(); // asked twice: now
        }
        note!("{what}; once more to stop at once");
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}
