//! Files opened to be read: files, and nothing that has no end or waits for somebody.

use std::{
    fs::{self, File, FileType},
    io,
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
}
