//! Files opened to be read: files, and nothing that has no end or waits for somebody.

use std::{
    fs::{self, File, FileType},
    io::{self, Read},
    os::unix::fs::FileTypeExt,
    path::Path,
};

/// Opens a file. A pipe, socket or device is refused at once, where reading it might wait for ever or never end.
///
/// # Errors
/// If it is none, or the operating system refuses.
pub fn open(path: &Path) -> io::Result<File> {
    match other(fs::metadata(path)?.file_type()) {
        None => File::open(path),
        Some(kind) => Err(not_a_file(kind)),
    }
}

/// As [`open`], but takes the pipe of a shell too: standard input, or `<(command)`. What is read of it has no known end.
///
/// # Errors
/// As [`open`].
pub fn open_stream(path: &Path) -> io::Result<File> {
    let is_ours = ["/dev/stdin", "/dev/fd", "/proc/self/fd"].iter().any(|dir| path.starts_with(dir));
    match other(fs::metadata(path)?.file_type()) {
        Some("a pipe") if is_ours => File::open(path),
        None => File::open(path),
        Some(kind) => Err(not_a_file(kind)),
    }
}

/// The most that is read of a stream, which may have no end, bytes. A file may be longer.
pub const MAX_STREAM_BYTES: u64 = 1 << 28;

/// A stream that fails when more than [`MAX_STREAM_BYTES`] come from it.
#[derive(Debug)]
pub struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Limited<R> {
    /// Reads of `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, left: MAX_STREAM_BYTES }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let n_bytes = self.inner.read(bytes)?;
        self.left = self.left.checked_sub(n_bytes as u64).ok_or_else(|| {
            let reason =
                format!("more than {MAX_STREAM_BYTES} bytes come from it; write them to a file first");
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })?;
        Ok(n_bytes)
    }
}

/// The text of a file that this program wrote; see [`open`].
///
/// # Errors
/// As [`open`], or if it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    io::read_to_string(open(path)?)
}

/// What it is, if it is neither a file nor a directory: of that, reading says what it is.
fn other(kind: FileType) -> Option<&'static str> {
    match kind {
        kind if kind.is_fifo() => Some("a pipe"),
        kind if kind.is_socket() => Some("a socket"),
        kind if kind.is_char_device() || kind.is_block_device() => Some("a device"),
        _ => None,
    }
}

fn not_a_file(kind: &str) -> io::Error {
    let reason = format!("it is {kind}, not a file; write what comes from it to a file first");
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::net::UnixListener, process::Command};

    #[test]
    fn what_is_no_file_is_refused_at_once_and_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "1").expect("written");
        assert!(Command::new("mkfifo").arg(at("pipe")).status().expect("started").success());
        let _listener = UnixListener::bind(at("socket")).expect("bound");
        assert!(open(&at("file")).is_ok() && open_stream(&at("file")).is_ok());
        for (path, kind) in [
            (at("pipe"), "a pipe"),
            (at("socket"), "a socket"),
            ("/dev/zero".into(), "a device"),
            ("/dev/urandom".into(), "a device"),
        ] {
            for open in [open, open_stream] {
                let error = open(&path).expect_err(kind).to_string();
                assert!(error.starts_with(&format!("it is {kind}, not a file")), "{error}");
            }
        }
        assert_eq!(open(&at("none")).expect_err("absent").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_stream_without_end_ends_in_an_error() {
        let mut stream = Limited::new(io::repeat(b' '));
        let error = io::copy(&mut stream, &mut io::sink()).expect_err("too long").to_string();
        assert!(error.starts_with("more than 268435456 bytes come from it"), "{error}");
        assert_eq!(io::read_to_string(Limited::new(&b"short"[..])).expect("read"), "short");
    }
}
