//! Signals that ask a program to end: Ctrl-C, SIGTERM from a scheduler, SIGHUP from a terminal that closes. The first asks
//! long work to end well, if it can; the second, or the first of work that has nothing to save, ends it within a second:
//! what is half written is removed, and all processes that it started are killed.

use std::{
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use koan_train::stage;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
    low_level::{emulate_default_handler, signal_name},
};

use crate::children;

/// How long cleaning up may take.
const AT_MOST: Duration = Duration::from_millis(700);

/// What a signal does.
enum Reaction {
    /// Ends the program.
    End,
    /// Sets the flag and says the words, unless it is set; then ends the program.
    Ask(Arc<AtomicBool>, &'static str),
    /// Ctrl-C does this; other signals end the program.
    CtrlC(Box<dyn FnMut() + Send>),
}

static REACTION: Mutex<Reaction> = Mutex::new(Reaction::End);

fn set(reaction: Reaction) {
    *REACTION.lock().unwrap_or_else(PoisonError::into_inner) = reaction;
}

/// From now on signals do what this file says. SIGHUP is left ignored where whoever started us ignores it (`nohup`).
pub(crate) fn listen() -> anyhow::Result<()> {
    let mut kinds = vec![SIGINT, SIGTERM];
    kinds.extend((!is_ignored(SIGHUP)).then_some(SIGHUP));
    let mut signals = Signals::new(kinds).context("cannot listen for signals")?;
    thread::spawn(move || signals.forever().for_each(react));
    Ok(())
}

/// Whether `signal` was ignored when this program was started, where the system says.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

fn react(signal: i32) {
    match &mut *REACTION.lock().unwrap_or_else(PoisonError::into_inner) {
        Reaction::Ask(stop, what) if !stop.swap(true, Ordering::Relaxed) => {
            let what = *what;
            // Apart: whoever reads standard error may have stopped to.
            thread::spawn(move || note!("{what}; once more to stop at once"));
        }
        Reaction::CtrlC(act) if signal == SIGINT => act(),
        _ => end(signal),
    }
}

/// Ends the program as `signal` does, and leaves nothing behind.
fn end(signal: i32) {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        children::end_all();
        stage::record_kill(signal_name(signal).unwrap_or("a signal"));
        koan_files::remove_unfinished();
        let _ = done.send(()); // nobody waits any more: it took too long
    });
    let _ = is_done.recv_timeout(AT_MOST);
    let _ = emulate_default_handler(signal);
    std::process::abort() // the signal does it
}

/// A flag that the first signal sets; `what` follows then is said.
pub(crate) fn stop_on_signal(what: &'static str) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    set(Reaction::Ask(Arc::clone(&stop), what));
    stop
}

/// Whether work that was asked to end well was.
pub(crate) fn is_asked() -> bool {
    match &*REACTION.lock().unwrap_or_else(PoisonError::into_inner) {
        Reaction::Ask(stop, _) => stop.load(Ordering::Relaxed),
        _ => false,
    }
}

/// Ctrl-C does `act` from now on.
pub(crate) fn on_ctrl_c(act: impl FnMut() + Send + 'static) {
    set(Reaction::CtrlC(Box::new(act)));
}
