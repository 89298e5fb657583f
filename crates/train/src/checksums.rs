//! What a checkpoint's files should hold: `SHA256SUMS`, the list that `sha256sum --check SHA256SUMS` reads too. Its own
//! SHA-256 is the checkpoint's digest.

use std::{
    fs,
    path::{Path, PathBuf},
};

use koan_model::{checkpoint, safetensors_file::hex};
use sha2::{Digest, Sha256};

use crate::{TrainError, run_dir::hash_file};

/// The list's name.
const LIST: &str = "SHA256SUMS";
/// The file that stands last in it, so that a list without its end is known.
const LAST: &str = "trainer.json";
/// Longest list that is read, bytes: a checkpoint has a dozen files, or as many more as its weights have shards.
const MAX_LIST_BYTES: u64 = 1 << 20;

/// Writes the list of all files in `dir` and its directories, and returns the list's own SHA-256.
///
/// # Errors
/// If a file can't be read, or the list not written.
pub fn write(dir: &Path) -> Result<String, TrainError> {
    let mut names = files(dir, "")?;
    names.sort_by_key(|name| name == LAST);
    let line = |name: &String| Ok([&hash_file(&dir.join(name))?, "  ", name, "\n"].concat());
    let list = names.iter().map(line).collect::<Result<String, TrainError>>()?;
    checkpoint::write_synced(&dir.join(LIST), list.as_bytes())?;
    Ok(hex(&Sha256::digest(list)))
}

/// Checks that every file of the list in `dir` is there, and holds what it held when the list was written.
///
/// # Errors
/// [`TrainError::Damaged`] names the first that does not.
pub fn check(dir: &Path) -> Result<(), TrainError> {
    let path = dir.join(LIST);
    let damaged = |path: &Path, what: &str| TrainError::Damaged { path: path.into(), what: what.into() };
    match fs::metadata(&path) {
        Err(_) => return Err(damaged(&path, "it can't be opened")),
        Ok(m) if m.len() > MAX_LIST_BYTES => return Err(damaged(&path, "it is too long")),
        Ok(_) => {}
    }
    let list = fs::read_to_string(&path).map_err(|e| damaged(&path, &e.to_string()))?;
    // Without its end it would still be a list, of fewer files.
    if !list.ends_with(&format!("  {LAST}\n")) {
        return Err(damaged(&path, "its end is missing"));
    }
    for line in list.lines() {
        let (hash, name) = line.split_once("  ").ok_or_else(|| damaged(&path, "a line is no checksum"))?;
        let file = dir.join(name);
        if !file.is_file() {
            return Err(damaged(&file, "it is missing"));
        }
        if hash_file(&file)? != hash {
            return Err(damaged(&file, &format!("its SHA-256 is not the one in {LIST}")));
        }
    }
    Ok(())
}

/// The files of a directory and of those in it, by their names, in order; checkpoints have one level of directories.
fn files(dir: &Path, prefix: &str) -> Result<Vec<String>, TrainError> {
    let io = TrainError::io("read", dir);
    let entries: Vec<PathBuf> =
        fs::read_dir(dir).and_then(|all| all.map(|e| e.map(|e| e.path())).collect()).map_err(io)?;
    let mut names = Vec::new();
    for path in entries {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if path.is_dir() && prefix.is_empty() {
            names.extend(files(&path, &format!("{name}/"))?);
        } else if path.is_file() && name != LIST {
            names.push(format!("{prefix}{name}"));
        }
    }
    names.sort();
    Ok(names)
}
