//! What verbs say, and files that they write: JSON Lines, to a file made whole or not at all, or to standard output.
//!
//! A reader who goes away (`| head -1`) is no failure: [`Stdout`] then gives an error that `main` ends quietly by. What is
//! said on standard error besides is dropped, so that a run does not end with the terminal that it was started from.

use std::{
    fmt,
    io::{self, BufWriter, Write},
    path::Path,
};

use koan_files::{NewFile, jsonl};
use serde::Serialize;

/// Writes a line to standard output; an error of it is to be given on.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::output::say(format_args!($($words)*))
    };
}

/// Writes a line to standard error, if anybody reads it.
macro_rules! note {
    ($($words:tt)*) => {
        $crate::output::note(format_args!($($words)*))
    };
}

pub(crate) fn say(words: fmt::Arguments) -> io::Result<()> {
    writeln!(Stdout, "{words}")
}

pub(crate) fn note(words: fmt::Arguments) {
    let _ = writeln!(io::stderr(), "{words}");
}

/// Standard output.
pub(crate) struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes).map_err(marked)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().map_err(marked)
    }
}

/// Nobody reads standard output any more. Pipes to others break too (a reward's process, a hub): this one is marked.
#[derive(Debug)]
struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("nobody reads standard output")
    }
}

impl std::error::Error for ReaderGone {}

fn marked(error: io::Error) -> io::Error {
    let kind = error.kind();
    if kind == io::ErrorKind::BrokenPipe { io::Error::new(kind, ReaderGone) } else { error }
}

/// Whether the reader of standard output went away: no error of ours.
pub(crate) fn reader_is_gone(error: &anyhow::Error) -> bool {
    let gone =
        |error: &io::Error| error.get_ref().and_then(|inner| inner.downcast_ref::<ReaderGone>()).is_some();
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(gone))
}

/// Where lines go. A file appears under its name by [`Output::finish`]; dropped before, it is removed.
pub(crate) enum Output {
    Stdout(BufWriter<Stdout>),
    File(NewFile),
}

impl Output {
    /// Opens `path`, or standard output for none or `-`.
    pub(crate) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path.filter(|p| *p != Path::new("-")) else {
            return Ok(Self::Stdout(BufWriter::new(Stdout)));
        };
        Ok(Self::File(NewFile::create(path)?))
    }

    /// Says now what [`Output::open`] would say of `path` after long work.
    pub(crate) fn check(path: &Path) -> anyhow::Result<()> {
        Self::open(Some(path)).map(drop)
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        Ok(jsonl::write_line(self, value)?)
    }

    /// Makes the file appear under its name.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Stdout(mut out) => Ok(out.flush()?),
            Self::File(file) => Ok(file.finish()?),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(file) => file.flush(),
        }
    }
}
