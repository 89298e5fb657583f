//! Files mapped into memory: the one place of this crate with `unsafe` code.
//!
//! A mapped file that another process cuts short is gone under the reader: touching a page beyond the new end kills the
//! process (SIGBUS). Checkpoints are written beside their place and renamed, never changed in place, so it takes a
//! foreign program to do that; [`Mapped::check`] compares the file's length again, which turns all but a cut in that very
//! moment into an error. The values themselves may change under the reader: every bit pattern is a value,
//! so that is wrong, but not unsound in what this crate does with them.
#![allow(unsafe_code, reason = "memory-mapping a checkpoint")]

use std::{
    fs::{self, File},
    io,
    ops::Deref,
    path::Path,
};

use memmap2::Mmap;

/// A whole file, mapped.
pub(crate) struct Mapped {
    file: File,
    map: Mmap,
}

impl Mapped {
    /// Maps a file.
    ///
    /// # Errors
    /// If it can't be opened or mapped, or is no regular file.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // Asked before it is opened: to open a pipe is to wait for who writes to it.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = koan_files::open(path)?;
        // SAFETY: the map is only read, as bytes and elements of which every bit pattern is a value; see the module's
        // documentation for files that change.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { file, map })
    }

    /// Checks that the file is as long as it was.
    ///
    /// # Errors
    /// If it is shorter, or can't be asked.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.file.metadata()?.len() < self.map.len() as u64 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was cut short while it was read"));
        }
        Ok(())
    }
}

impl Deref for Mapped {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.map
    }
}

/// Little-endian f32 as they lie in memory, if they are aligned and the machine is little-endian too.
pub(crate) fn as_f32(bytes: &[u8]) -> Option<&[f32]> {
    // SAFETY: every bit pattern is an f32.
    let (before, elements, after) = unsafe { bytes.align_to::<f32>() };
    (cfg!(target_endian = "little") && before.is_empty() && after.is_empty()).then_some(elements)
}
