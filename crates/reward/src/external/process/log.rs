//! What programs that judge say on standard error, for whoever reads the run's directory.

use super::MAX_LOG_BYTES;
use crate::verdict::shorten;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What programs write to standard error.
pub(super) struct Log(Mutex<LogState>);

struct LogState {
    /// Where it is kept; none: passed on. Opened when there is something to write: the run's directory is made after
    /// its rewards.
    path: Option<PathBuf>,
    file: Option<File>,
    left: usize,
    last_line: String,
}

impl Log {
    /// The log of `program`, in `dir` if there is one.
    pub(super) fn new(program: &str, dir: Option<&Path>) -> Self {
        let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
        let path = dir.map(|dir| dir.join(format!("reward-{name}.log")));
        Self(Mutex::new(LogState { path, file: None, left: MAX_LOG_BYTES, last_line: String::new() }))
    }

    /// Copies what is read line by line, to its end.
    pub(super) fn copy(&self, stderr: impl Read) {
        let mut stderr = BufReader::new(stderr);
        loop {
            let mut line = Vec::new();
            match (&mut stderr).take(1 << 16).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => self.0.lock().unwrap_or_else(PoisonError::into_inner).add(&line),
            }
        }
    }

    pub(super) fn last_line(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last_line.clone()
    }
}

impl LogState {
    fn add(&mut self, line: &[u8]) {
        if !line.trim_ascii().is_empty() {
            self.last_line = shorten(String::from_utf8_lossy(line).trim());
        }
        if self.left == 0 {
            return;
        }
        self.left = self.left.saturating_sub(line.len());
        let end: &[u8] = if self.left == 0 { b"\n(further messages are dropped)\n" } else { b"" };
        if let (None, Some(path)) = (&self.file, &self.path) {
            self.file = OpenOptions::new().create(true).append(true).open(path).ok();
        }
        let mut stderr = io::stderr();
        let to: &mut dyn Write = self.file.as_mut().map_or(&mut stderr, |file| file);
        _ = to.write_all(line).and_then(|()| to.write_all(end)); // nobody is there to be told
    }
}
