//! Directories that appear whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use crate::{FilesError, unfinished::Unfinished};

/// Makes directory `dir` whole or not at all: `fill` writes into a sibling, which is then synced and renamed.
///
/// # Errors
/// If `dir` exists and is not empty, can't be written, or `fill` fails; the sibling is then removed.
pub fn write_directory<E: From<FilesError>>(
    dir: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let exists = || FilesError::Exists { path: dir.into() };
    let name = dir.file_name().ok_or_else(exists)?.to_string_lossy();
    let part = dir.with_file_name(format!(".{name}.part"));
    if dir.exists() && !fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none()) {
        return Err(exists().into());
    }
    if part.exists() {
        fs::remove_dir_all(&part).map_err(FilesError::io("remove", &part))?;
    }
    fs::create_dir_all(&part).map_err(FilesError::io("create", &part))?;
    let _unfinished = Unfinished::new(&part);
    let filled = fill(&part).and_then(|()| Ok(rename(&part, dir)?));
    if filled.is_err() {
        let _ = fs::remove_dir_all(&part); // the first error matters more
    }
    filled
}

/// Writes a file and syncs it: one of a directory that nobody reads yet. In a directory that is read, [`replace`] a file.
///
/// [`replace`]: crate::replace
///
/// # Errors
/// If the operating system refuses.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), FilesError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(FilesError::io("write", path))
}

/// Renames a file or directory for good: syncs it, renames it, and syncs the folder that holds its name.
///
/// # Errors
/// If the operating system refuses.
pub fn rename(from: &Path, to: &Path) -> Result<(), FilesError> {
    sync(from).and_then(|()| rename_synced(from, to)).map_err(FilesError::io("rename", to))
}

/// Renames what is synced already.
pub(crate) fn rename_synced(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync(parent.unwrap_or(Path::new("."))) // the rename itself is on disk only with its folder
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_whole_or_absent() {
        let folder = tempfile::tempdir().expect("a folder");
        let (dir, part) = (folder.path().join("dir"), folder.path().join(".dir.part"));
        let fail = |part: &Path| {
            write_synced(&part.join("file"), b"half")?;
            Err(FilesError::Damaged { path: part.into(), what: "a test".into() })
        };
        let error = write_directory(&dir, fail).expect_err("what `fill` says").to_string();
        assert!(error.contains("is damaged: a test") && !dir.exists() && !part.exists(), "{error}");

        // What a kill left is no part of the next.
        fs::create_dir(&part).and_then(|()| fs::write(part.join("old"), "")).expect("written");
        fs::create_dir(&dir).expect("an empty directory, which may be filled");
        write_directory(&dir, |part| write_synced(&part.join("file"), b"whole")).expect("written");
        assert_eq!(fs::read(dir.join("file")).expect("read"), b"whole");
        assert!(!dir.join("old").exists() && !part.exists());

        let again = write_directory(&dir, |_| Ok::<_, FilesError>(()));
        assert!(matches!(again, Err(FilesError::Exists { path }) if path == dir));
        assert!(dir.join("file").exists());
    }
}
