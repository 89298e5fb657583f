//! A file that appears whole or not at all.

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::{FilesError, directory::rename_synced, unfinished::Unfinished};

/// A file being written beside its place. [`NewFile::finish`] syncs and renames it, so that a reader sees the old file or
/// the whole new one; dropped before, it is removed. A pipe or device is written directly.
#[derive(Debug)]
pub struct NewFile {
    out: BufWriter<File>,
    path: PathBuf,
    /// Where it is until it is finished.
    part: Option<Unfinished>,
}

impl NewFile {
    /// Begins the file `path`, whose folder must exist.
    ///
    /// # Errors
    /// If `path` names no file, another process is writing it, or the operating system refuses.
    pub fn create(path: &Path) -> Result<Self, FilesError> {
        let create = || {
            if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
                return Ok((File::options().write(true).open(path)?, None));
            }
            let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_string_lossy();
            let part = path.with_file_name(format!(".{name}.part"));
            Ok((create_alone(&part)?, Some(Unfinished::new(&part))))
        };
        let (file, part) = create().map_err(FilesError::io("write", path))?;
        Ok(Self { out: BufWriter::new(file), path: path.into(), part })
    }

    /// Makes the file appear under its name.
    ///
    /// # Errors
    /// If the operating system refuses; the file is then removed, and an older one stays.
    pub fn finish(mut self) -> Result<(), FilesError> {
        let finished = self.out.flush().and_then(|()| match &self.part {
            Some(part) => self.out.get_ref().sync_all().and_then(|()| rename_synced(part.path(), &self.path)),
            None => Ok(()),
        });
        finished.map_err(FilesError::io("write", &self.path))?;
        self.part = None;
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            let _ = fs::remove_file(part.path()); // the error that brought us here matters more
        }
    }
}

/// Creates the file, or empties what a killed process left of it. It is locked while it is open, where the file system has
/// locks, so that two processes that write to one place do not mix their bytes.
fn create_alone(part: &Path) -> io::Result<File> {
    let busy = || io::Error::new(io::ErrorKind::ResourceBusy, "another process is writing it");
    let file = File::options().write(true).create(true).truncate(false).open(part)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Err(busy()),
        // Locked, but meanwhile it became the other process's finished file.
        Ok(()) if !part.exists() => return Err(busy()),
        Ok(()) | Err(TryLockError::Error(_)) => {}
    }
    file.set_len(0)?;
    Ok(file)
}

/// Writes a file beside its place, syncs and renames it, so that it is never half written.
///
/// # Errors
/// If the operating system refuses; an older file then stays.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), FilesError> {
    let mut file = NewFile::create(path)?;
    file.write_all(bytes).map_err(FilesError::io("write", path))?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_old_one_or_the_whole_new_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let names = || fs::read_dir(&folder).expect("listed").count();
        replace(&path, b"old").expect("written");
        fs::write(folder.path().join(".file.part"), "much that a kill left").expect("written");

        let mut dropped = NewFile::create(&path).expect("begun");
        dropped.write_all(b"half").expect("written");
        let busy = NewFile::create(&path).expect_err("locked");
        assert!(
            matches!(busy, FilesError::Io { what: "write", source, .. } if source.kind() == io::ErrorKind::ResourceBusy)
        );
        drop(dropped);
        assert_eq!((fs::read(&path).expect("read"), names()), (b"old".to_vec(), 1));

        let mut file = NewFile::create(&path).expect("begun");
        file.write_all(b"new").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"old");
        file.finish().expect("finished");
        assert_eq!((fs::read(&path).expect("read"), names()), (b"new".to_vec(), 1));
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("none/file");
        let error = replace(&path, b"").expect_err("no such folder").to_string();
        assert_eq!(error, format!("cannot write `{}`", path.display()));
        assert!(replace(folder.path(), b"").is_err(), "a directory");
        assert!(replace(Path::new(".."), b"").is_err(), "no name of a file");
        replace(Path::new("/dev/null"), b"written directly").expect("a device");
    }
}
