//! The bytes of a file as they lie on disk, buffered, with their place and the digest of the whole.

use std::{
    fs::File,
    io::{self, Read, Seek as _, SeekFrom},
    path::Path,
};

use xxhash_rust::xxh3::Xxh3;

/// Bytes read at a time.
const PIECE: usize = 512 << 10;

/// A file being read from its beginning, with returns to places that were read before.
pub(super) struct Raw {
    file: File,
    buffer: Vec<u8>,
    /// The bytes of the buffer that were read and not yet consumed.
    filled: std::ops::Range<usize>,
    /// The place in the file of `buffer[0]`.
    base: u64,
    /// The digest of the first `hashed` bytes.
    hash: Box<Xxh3>,
    hashed: u64,
}

impl Raw {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = koan_files::open(path)?;
        let hash = Box::new(Xxh3::new());
        Ok(Self { file, buffer: vec![0; PIECE], filled: 0..0, base: 0, hash, hashed: 0 })
    }

    /// The place of the next byte.
    pub(super) fn place(&self) -> u64 {
        self.base + self.filled.start as u64
    }

    /// The next bytes; none at the end.
    pub(super) fn fill(&mut self) -> io::Result<&[u8]> {
        if self.filled.is_empty() {
            self.base += self.filled.start as u64;
            self.filled = 0..0;
            self.read_more()?;
        }
        Ok(&self.buffer[self.filled.clone()])
    }

    pub(super) fn consume(&mut self, n: usize) {
        self.filled.start += n;
    }

    /// The next `n` bytes without consuming them, or all that are left.
    pub(super) fn peek(&mut self, n: usize) -> io::Result<&[u8]> {
        debug_assert!(n <= PIECE / 2);
        while self.filled.len() < n {
            self.buffer.copy_within(self.filled.clone(), 0);
            self.base += self.filled.start as u64;
            self.filled = 0..self.filled.len();
            if !self.read_more()? {
                break;
            }
        }
        let end = self.filled.len().min(n);
        Ok(&self.buffer[self.filled.clone()][..end])
    }

    /// Goes on at `place`, which was reached before.
    pub(super) fn go_to(&mut self, place: u64) -> io::Result<()> {
        match place.checked_sub(self.base) {
            Some(start) if start <= self.filled.end as u64 => self.filled.start = start as usize,
            _ => {
                self.file.seek(SeekFrom::Start(place))?;
                self.base = place;
                self.filled = 0..0;
            }
        }
        Ok(())
    }

    /// The digest of the whole file: 128 bits of xxh3, in hex. Reads what was not read.
    pub(super) fn digest(mut self) -> io::Result<String> {
        let hashed = self.hashed;
        self.go_to(hashed)?;
        while !self.fill()?.is_empty() {
            self.filled.start = self.filled.end;
        }
        Ok(format!("{:032x}", self.hash.digest128()))
    }

    /// Reads behind what is in the buffer; false at the end of the file.
    fn read_more(&mut self) -> io::Result<bool> {
        let end = self.filled.end;
        let n = loop {
            match self.file.read(&mut self.buffer[end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.filled.end += n;
        let place = self.base + end as u64;
        if let Some(known) = self.hashed.checked_sub(place).filter(|known| *known < n as u64) {
            self.hash.update(&self.buffer[end..end + n][known as usize..]);
            self.hashed = place + n as u64;
        }
        Ok(n > 0)
    }
}

impl Read for Raw {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill()?;
        let n = bytes.len().min(out.len());
        out[..n].copy_from_slice(&bytes[..n]);
        self.consume(n);
        Ok(n)
    }
}
