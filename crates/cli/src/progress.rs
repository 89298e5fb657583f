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
    /// Whether messages say the time that is left.
    own_time: bool,
    start: Instant,
    last_line: Instant,
}

impl Progress {
    /// Starts at none of `of`, which take equally long; `what` names them.
    pub(crate) fn new(what: &'static str, of: usize) -> Self {
        Self::open(what, of, false, "{prefix} {bar:30} {pos}/{len} {per_sec}, {eta} left {msg}")
    }

    /// The same of things that differ: messages say the time that is left.
    pub(crate) fn with_own_time(what: &'static str, of: usize) -> Self {
        Self::open(what, of, true, "{prefix} {bar:20} {pos}/{len} {wide_msg}")
    }

    fn open(what: &'static str, of: usize, own_time: bool, template: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar());
            ProgressBar::new(of as u64).with_style(style).with_prefix(what)
        });
        Self { bar, what, of, own_time, start: Instant::now(), last_line: Instant::now() }
    }

    /// Moves to `done`; `message` is shown beside it.
    pub(crate) fn set(&mut self, done: usize, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            bar.set_message(message.to_owned());
        } else if self.last_line.elapsed() > LINE_EVERY {
            self.last_line = Instant::now();
            let elapsed = self.start.elapsed().as_secs_f64();
            let left = match done {
                _ if self.own_time => String::new(),
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
