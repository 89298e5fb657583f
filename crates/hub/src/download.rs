//! One file, piece by piece: what is there is kept, and a broken connection is taken up where it broke.

use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
    thread,
    time::Duration,
};

use sha2::{Digest, Sha256};
use ureq::{Body, http::Response};

use crate::{HubError, files};

/// How often in a row a connection may break without a byte of progress.
const MAX_ATTEMPTS: u32 = 5;
/// Wait after the first break; doubled after each more.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Bytes moved at a time.
const PIECE: usize = 1 << 18;

/// Fetches `file` to `path`. `get` asks for it from a byte on; `progress` is told of bytes that are there, as they come.
pub(crate) fn fetch(
    file: &files::File,
    url: &str,
    path: &Path,
    get: impl Fn(u64) -> Result<Response<Body>, HubError>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), HubError> {
    if path.exists() {
        progress(fs::metadata(path).map_or(0, |m| m.len()));
        return Ok(());
    }
    let part = path.with_file_name(format!("{}.part", file.name));
    let io = |what, source| HubError::Io { what, path: part.clone(), source };
    let mut out = OpenOptions::new().create(true).append(true).open(&part).map_err(|e| io("create", e))?;
    let mut at = out.metadata().map_err(|e| io("read", e))?.len();
    if at > file.limit() || file.bytes().is_none() {
        // Of a file of unknown size nobody knows whether the part is the whole: it is small, and fetched anew.
        (out, at) = (File::create(&part).map_err(|e| io("create", e))?, 0);
    }
    progress(at);
    let mut attempts = 0;
    while file.bytes() != Some(at) {
        let before = at;
        match get(at) {
            Ok(response) => {
                if response.status() != 206 && at > 0 {
                    // The server sends the whole: what is there is in the way.
                    (out, at) = (File::create(&part).map_err(|e| io("create", e))?, 0);
                }
                match append(response, &mut out, &mut at, file.limit(), progress) {
                    Ok(()) if file.bytes().is_none_or(|bytes| bytes <= at) => break,
                    Ok(()) => attempts = if at > before { 0 } else { attempts + 1 },
                    Err(Failed::Disk(source)) => return Err(io("write", source)),
                    Err(Failed::Network(source)) => {
                        attempts = if at > before { 0 } else { attempts + 1 };
                        if attempts >= MAX_ATTEMPTS {
                            return Err(HubError::Broken { url: url.to_owned(), at, attempts, source });
                        }
                    }
                }
            }
            // A refusal will be one again; a failed connection may not.
            Err(HubError::Fetch { url, source }) => {
                attempts += 1;
                if attempts >= MAX_ATTEMPTS {
                    return Err(HubError::Fetch { url, source });
                }
            }
            Err(other) => return Err(other),
        }
        if attempts >= MAX_ATTEMPTS {
            break; // the check below says what is wrong
        }
        thread::sleep(FIRST_WAIT * 2u32.pow(attempts));
    }
    out.sync_all().map_err(|e| io("sync", e))?;
    drop(out);
    if let Err(error) = check(file, &part, at) {
        let _ = fs::remove_file(&part); // the first error matters more
        return Err(error);
    }
    fs::rename(&part, path).map_err(|e| io("rename", e))
}

enum Failed {
    Network(io::Error),
    Disk(io::Error),
}

/// Appends the body, of which no more is taken than makes the file one byte larger than `limit`.
fn append(
    response: Response<Body>,
    out: &mut File,
    at: &mut u64,
    limit: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Failed> {
    let room = limit.saturating_add(1).saturating_sub(*at);
    let mut body = response.into_body().into_with_config().limit(u64::MAX).reader().take(room);
    let mut piece = vec![0; PIECE];
    loop {
        match body.read(&mut piece).map_err(Failed::Network)? {
            0 => return Ok(()),
            n => {
                out.write_all(&piece[..n]).map_err(Failed::Disk)?;
                *at += n as u64;
                progress(*at);
            }
        }
    }
}

/// Checks size and hash where the hub states them.
fn check(file: &files::File, part: &Path, found: u64) -> Result<(), HubError> {
    let damaged = |what, found: String, stated: String| {
        Err(HubError::Damaged { file: file.name.clone(), what, found, stated })
    };
    if file.bytes().is_some_and(|stated| stated != found) || found > file.limit() {
        return damaged("size", found.to_string(), file.limit().to_string());
    }
    if let Some(stated) = file.lfs.as_ref().and_then(|lfs| lfs.sha256.as_ref()) {
        let read = |source| HubError::Io { what: "read", path: part.to_owned(), source };
        let mut hash = Sha256::new();
        let (mut input, mut piece) = (File::open(part).map_err(read)?, vec![0; PIECE]);
        loop {
            match input.read(&mut piece).map_err(read)? {
                0 => break,
                n => hash.update(&piece[..n]),
            }
        }
        let found = hash.finalize().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}"); // a String takes all
            text
        });
        if !found.eq_ignore_ascii_case(stated) {
            return damaged("SHA-256", found, stated.chars().take(64).collect());
        }
    }
    Ok(())
}
