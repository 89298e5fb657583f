//! SHA-256 of bytes, of files, and of what is being written; in lower-case hexadecimal.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{FilesError, open};

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// SHA-256 of bytes, as bytes.
pub fn digest(bytes: impl AsRef<[u8]>) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// SHA-256 of bytes, in hex.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex(&digest(bytes))
}

/// SHA-256 of a file, in hex.
///
/// # Errors
/// If it can't be read.
pub fn hash_file(path: &Path) -> Result<String, FilesError> {
    let mut hash = Sha256::new();
    let mut hash_all = || {
        let mut file = open(path)?;
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(()),
                n => hash.update(&piece[..n]),
            }
        }
    };
    hash_all().map_err(FilesError::io("read", path))?;
    Ok(hex(&hash.finalize()))
}

/// SHA-256 of the files of a directory that have this extension (`safetensors`: a model's weights), in hex: of the one
/// file, or of the files' hashes, joined by line ends in the order of their names.
///
/// # Errors
/// If they can't be read.
pub fn hash_files(dir: &Path, extension: &str) -> Result<String, FilesError> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect())
        .map_err(FilesError::io("read", dir))?;
    files.retain(|path| path.extension().is_some_and(|e| e == extension));
    files.sort();
    let hashes = files.iter().map(|path| hash_file(path)).collect::<Result<Vec<_>, _>>()?;
    Ok(match &hashes[..] {
        [one] => one.clone(),
        many => sha256(many.join("\n")),
    })
}

/// A writer that hashes what goes through it.
pub struct Hashed<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Hashed<W> {
    /// Hashes all that is written to `out` from here on.
    pub fn new(out: W) -> Self {
        Self { out, hash: Sha256::new() }
    }

    /// The writer, and the SHA-256 of what was written to it, in hex.
    pub fn finish(self) -> (W, String) {
        (self.out, hex(&self.hash.finalize()))
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Bytes in hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes all
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of `abc`: FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn bytes_files_and_writers_have_one_hash() {
        assert_eq!(sha256("abc"), ABC);
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("b.bin"), "abc").expect("written");
        fs::write(folder.path().join("other"), "").expect("written");
        assert_eq!(hash_file(&folder.path().join("b.bin")).expect("read"), ABC);
        assert_eq!(hash_files(folder.path(), "bin").expect("read"), ABC);
        fs::write(folder.path().join("a.bin"), "").expect("written");
        let both = [&sha256(""), "\n", ABC].concat();
        assert_eq!(hash_files(folder.path(), "bin").expect("read"), sha256(both));
        let mut out = Hashed::new(Vec::new());
        out.write_all(b"a").and_then(|()| out.write_all(b"bc")).expect("written");
        assert_eq!(out.finish(), (b"abc".to_vec(), ABC.to_owned()));
    }
}
