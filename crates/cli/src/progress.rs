//! Progress of long work on standard error: a bar on a terminal, plain lines elsewhere.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Where standard error is no terminal, a line this often.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// Progress through `of` things.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    what: &'static str,
    of: usize,
    /// How many were done before this start.
    before: usize,
    start: Instant,
    last_line: Instant,
}

impl Progress {
    /// Starts at none of `of`; `what` names them.
    pub(crate) fn new(what: &'static str, of: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = "{prefix} {bar:30} {pos}/{len} {per_sec}, {eta} left {msg}";
            let style = ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar());
            ProgressBar::new(of as u64).with_style(style).with_prefix(what)
        });
        Self { bar, what, of, before: 0, start: Instant::now(), last_line: Instant::now() }
    }

    /// The same, but `done` were done before: they say nothing of the rate.
    pub(crate) fn going_on_after(self, done: usize) -> Self {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            bar.reset_eta();
        }
        Self { before: done, ..self }
    }

    /// Moves to `done`; `message` is shown beside it.
    pub(crate) fn set(&mut self, done: usize, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            bar.set_message(message.to_owned());
        } else if self.last_line.elapsed() > LINE_EVERY {
            self.last_line = Instant::now();
            let elapsed = self.start.elapsed().as_secs_f64();
            let left = match done.saturating_sub(self.before) {
                0 => String::new(), // nothing done yet says nothing of the rate
                n => {
                    format!(", about {:.0} s left", elapsed / n as f64 * self.of.saturating_sub(done) as f64)
                }
            };
            note!("{} {done}/{}, {elapsed:.0} s{left} {message}", self.what, self.of);
        }
    }

    /// Prints a line above the bar.
    pub(crate) fn print(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => note!("{line}"),
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
