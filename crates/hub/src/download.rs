//! One file, piece by piece: what has arrived is kept, and a broken connection continues where it broke.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
    thread,
    time::Duration,
};

use koan_files::{FilesError, hash_file};
use ureq::{Body, http::Response};

use crate::{HubError, files};

/// How many times in a row a connection may break without a byte of progress.
const MAX_ATTEMPTS: u32 = 5;
/// Wait after the first break; doubled after each more.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Bytes moved at a time.
const PIECE: usize = 1 << 18;

/// Fetches `file` to `path`. `get` requests it from a byte on; `progress` is called with the bytes that have arrived.
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
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = path.with_file_name(format!("{name}.part"));
    let io = |what, source| FilesError::io(what, &part)(source);
    let mut out = OpenOptions::new().create(true).append(true).open(&part).map_err(|e| io("create", e))?;
    let mut at = out.metadata().map_err(|e| io("read", e))?.len();
    if at > file.limit() || file.bytes().is_none() {
        // If the size is unknown, the part may be the whole: such a file is small, and fetched again.
        (out, at) = (File::create(&part).map_err(|e| io("create", e))?, 0);
    }
    progress(at);
    let mut attempts = 0;
    while file.bytes() != Some(at) {
        let before = at;
        match get(at) {
            Ok(response) => {
                if response.status() != 206 && at > 0 {
                    // The server sends the whole file: drop what has arrived.
                    (out, at) = (File::create(&part).map_err(|e| io("create", e))?, 0);
                }
                match append(response, &mut out, &mut at, file.limit(), progress) {
                    Ok(()) if file.bytes().is_none_or(|bytes| bytes <= at) => break,
                    Ok(()) => attempts = if at > before { 0 } else { attempts + 1 },
                    Err(Failed::Disk(source)) => return Err(io("write", source).into()),
                    Err(Failed::Network(source)) => {
                        attempts = if at > before { 0 } else { attempts + 1 };
                        if attempts >= MAX_ATTEMPTS {
                            return Err(HubError::Broken { url: url.to_owned(), at, attempts, source });
                        }
                    }
                }
            }
            // A refused request would be refused again; a failed connection may succeed.
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
    drop(out);
    if let Err(error) = check(file, &part, at) {
        let _ = fs::remove_file(&part); // the first error matters more
        return Err(error);
    }
    Ok(koan_files::rename(&part, path)?)
}

enum Failed {
    Network(io::Error),
    Disk(io::Error),
}

/// Appends the body, but reads no more than would make the file one byte larger than `limit`.
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
        let found = hash_file(part)?;
        if !found.eq_ignore_ascii_case(stated) {
            return damaged("SHA-256", found, stated.chars().take(64).collect());
        }
    }
    Ok(())
}
