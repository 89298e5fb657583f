//! Documents in JSON Lines packed by zstd.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::Path,
};

use koan_files::{FilesError, jsonl::write_line};
use serde::Serialize;

use super::manifest::{Input, Made, Output, damaged};
use crate::{Document, MineError};

/// Bytes of text between which the packed stream may be cut.
const PIECE: usize = 1 << 20;

/// A file of documents being written. The same documents give the same bytes.
pub(super) struct Texts {
    out: Output,
    pack: zstd::stream::write::Encoder<'static, Vec<u8>>,
    path: std::path::PathBuf,
    pending: usize,
}

impl Texts {
    pub(super) fn create(folder: &Path, name: &str, level: i32) -> Result<Self, MineError> {
        let path = folder.join(name);
        let mut pack =
            zstd::stream::write::Encoder::new(Vec::new(), level).map_err(FilesError::io("write", &path))?;
        pack.include_checksum(true).map_err(FilesError::io("write", &path))?;
        Ok(Self { out: Output::create(folder, name)?, pack, path, pending: 0 })
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: &impl Serialize) -> Result<(), MineError> {
        let mut line = Vec::with_capacity(4096);
        write_line(&mut line, row)
            .and_then(|()| self.pack.write_all(&line))
            .map_err(FilesError::io("write", &self.path))?;
        self.pending += line.len();
        if self.pending > PIECE {
            self.pending = 0;
            let packed = std::mem::take(self.pack.get_mut());
            self.out.write_all(&packed)?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Made, MineError> {
        let packed = self.pack.finish().map_err(FilesError::io("write", &self.path))?;
        self.out.write_all(&packed)?;
        self.out.finish()
    }
}

/// Hands `each` the documents of a file with their places.
pub(super) fn read(
    folder: &Path,
    made: &Made,
    mut each: impl FnMut(u32, Document) -> Result<(), MineError>,
) -> Result<(), MineError> {
    let mut input = Input::open(folder, made)?;
    let path = input.path().to_owned();
    let unpack = zstd::stream::read::Decoder::new(&mut input).map_err(MineError::read(&path))?;
    let mut lines = BufReader::with_capacity(1 << 18, unpack);
    let mut line = Vec::new();
    for place in 0.. {
        line.clear();
        let n = lines.read_until(b'\n', &mut line).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted | io::ErrorKind::PermissionDenied => MineError::read(&path)(error),
            _ => damaged(&path),
        })?;
        if n == 0 {
            break;
        }
        let document = serde_json::from_slice(&line).map_err(|_| damaged(&path))?;
        each(place, document)?;
    }
    drop(lines);
    input.finish()
}
