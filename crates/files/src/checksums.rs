//! What a directory's files should hold: `SHA256SUMS`, the list that `sha256sum --check SHA256SUMS` reads too. Its own
//! SHA-256 is the directory's digest.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{FilesError, hash_file, read_bounded, sha256, write_synced};

/// The list's name.
const LIST: &str = "SHA256SUMS";
/// Longest list that is read, bytes: a checkpoint has a dozen files, or as many more as its weights have shards.
const MAX_LIST_BYTES: u64 = 1 << 20;

/// Writes the list of all files in `dir` and its directories, and returns the list's own SHA-256. File `last` is the last
/// in it, so that [`check`] recognises a list without its end.
///
/// # Errors
/// If a file can't be read, or the list not written.
pub fn write(dir: &Path, last: &str) -> Result<String, FilesError> {
    let mut names = files(dir, "")?;
    names.sort_by_key(|name| name == last);
    let line = |name: &String| Ok([&hash_file(&dir.join(name))?, "  ", name, "\n"].concat());
    let list = names.iter().map(line).collect::<Result<String, FilesError>>()?;
    write_synced(&dir.join(LIST), list.as_bytes())?;
    Ok(sha256(list))
}

/// Checks that every file of the list in `dir`, which ends with file `last`, is there, and holds what it held when the
/// list was written.
///
/// # Errors
/// [`FilesError::Damaged`] names the first that does not.
pub fn check(dir: &Path, last: &str) -> Result<(), FilesError> {
    let path = dir.join(LIST);
    let damaged = |path: &Path, what: &str| FilesError::Damaged { path: path.into(), what: what.into() };
    let list = match read_bounded(&path, MAX_LIST_BYTES) {
        Err(_) => return Err(damaged(&path, "it can't be opened")),
        Ok(None) => return Err(damaged(&path, "it is too long")),
        Ok(Some(list)) => String::from_utf8(list).map_err(|e| damaged(&path, &e.to_string()))?,
    };
    // Without its end it would still be a list, of fewer files.
    if !list.ends_with(&format!("  {last}\n")) {
        return Err(damaged(&path, "its end is missing"));
    }
    for line in list.lines() {
        let (hash, name) = line.split_once("  ").ok_or_else(|| damaged(&path, "a line is not a checksum"))?;
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
fn files(dir: &Path, prefix: &str) -> Result<Vec<String>, FilesError> {
    let entries: Vec<PathBuf> = fs::read_dir(dir)
        .and_then(|all| all.map(|e| e.map(|e| e.path())).collect())
        .map_err(FilesError::io("read", dir))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damage_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path();
        fs::create_dir(dir.join("inner")).expect("made");
        for (name, text) in [("last", "1"), ("other", "2"), ("inner/file", "3")] {
            fs::write(dir.join(name), text).expect("written");
        }
        let digest = write(dir, "last").expect("written");
        let list = fs::read_to_string(dir.join(LIST)).expect("read");
        assert_eq!(digest, sha256(&list));
        let names: Vec<&str> =
            list.lines().filter_map(|line| line.split_once("  ")).map(|(_, name)| name).collect();
        assert_eq!(names, ["inner/file", "other", "last"]);
        check(dir, "last").expect("whole");

        let refused = || check(dir, "last").expect_err("damaged").to_string();
        fs::write(dir.join("inner/file"), "4").expect("written");
        assert!(refused().ends_with("inner/file` is damaged: its SHA-256 is not the one in SHA256SUMS"));
        fs::remove_file(dir.join("inner/file")).expect("removed");
        assert!(refused().ends_with("inner/file` is damaged: it is missing"));
        for (text, wanted) in [
            (list.lines().next().expect("a line"), "its end is missing"),
            ("nonsense\nnone  last\n", "a line is not a checksum"),
        ] {
            fs::write(dir.join(LIST), text).expect("written");
            assert!(refused().ends_with(&format!("SHA256SUMS` is damaged: {wanted}")));
        }
        fs::remove_file(dir.join(LIST)).expect("removed");
        assert!(refused().ends_with("SHA256SUMS` is damaged: it can't be opened"));
    }
}
