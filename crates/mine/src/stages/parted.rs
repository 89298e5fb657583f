//! Records of many parts in one file, each part's to be read alone.
//!
//! Blocks of records, each of one part; behind them a list: for each block its part (u32), its length (u32), its place (u64) and its
//! xxh3 (u64); last the number of blocks (u64) and a magic. All little-endian.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_64;

use super::manifest::{Made, Output, damaged};
use crate::MineError;

/// A part's records are written when they are this many bytes.
const BLOCK: usize = 64 << 10;
const MAGIC: &[u8; 8] = b"KOANPART";
const ENTRY: usize = 24;

struct Block {
    part: u32,
    length: u32,
    place: u64,
    hash: u64,
}

/// A file being written.
pub(super) struct Parted {
    out: Output,
    parts: Vec<Vec<u8>>,
    blocks: Vec<Block>,
}

impl Parted {
    pub(super) fn create(folder: &Path, name: &str, parts: usize) -> Result<Self, MineError> {
        Ok(Self { out: Output::create(folder, name)?, parts: vec![Vec::new(); parts], blocks: Vec::new() })
    }

    pub(super) fn push(&mut self, part: usize, record: &[u8]) -> Result<(), MineError> {
        self.parts[part].extend_from_slice(record);
        if self.parts[part].len() >= BLOCK { self.write(part) } else { Ok(()) }
    }

    fn write(&mut self, part: usize) -> Result<(), MineError> {
        let bytes = &mut self.parts[part];
        self.blocks.push(Block {
            part: part as u32,
            length: bytes.len() as u32,
            place: self.out.bytes(),
            hash: xxh3_64(bytes),
        });
        self.out.write_all(bytes)?;
        bytes.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Made, MineError> {
        for part in 0..self.parts.len() {
            if !self.parts[part].is_empty() {
                self.write(part)?;
            }
        }
        let mut list = Vec::with_capacity(self.blocks.len() * ENTRY + 16);
        for block in &self.blocks {
            list.extend(block.part.to_le_bytes());
            list.extend(block.length.to_le_bytes());
            list.extend(block.place.to_le_bytes());
            list.extend(block.hash.to_le_bytes());
        }
        list.extend((self.blocks.len() as u64).to_le_bytes());
        list.extend(MAGIC);
        self.out.write_all(&list)?;
        self.out.finish()
    }
}

/// The records of one part of a file, of `N` bytes each, as they were pushed.
pub(super) struct Part<const N: usize> {
    file: File,
    path: PathBuf,
    blocks: std::vec::IntoIter<Block>,
    records: std::vec::IntoIter<[u8; N]>,
}

impl<const N: usize> Part<N> {
    pub(super) fn open(folder: &Path, made: &Made, part: usize) -> Result<Self, MineError> {
        let path = folder.join(&made.name);
        let mut file = koan_files::open(&path).map_err(MineError::read(&path))?;
        let blocks = list(&mut file, made.bytes).ok_or_else(|| damaged(&path))?;
        let blocks: Vec<Block> = blocks.into_iter().filter(|block| block.part as usize == part).collect();
        Ok(Self { file, path, blocks: blocks.into_iter(), records: Vec::new().into_iter() })
    }

    fn block(&mut self, block: &Block) -> Option<Vec<[u8; N]>> {
        let mut bytes = vec![0; block.length as usize];
        self.file.seek(SeekFrom::Start(block.place)).ok()?;
        self.file.read_exact(&mut bytes).ok()?;
        let (records, rest) = bytes.as_chunks::<N>();
        (xxh3_64(&bytes) == block.hash && rest.is_empty()).then(|| records.to_vec())
    }
}

impl<const N: usize> Iterator for Part<N> {
    type Item = Result<[u8; N], MineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.records.next() {
                return Some(Ok(record));
            }
            let block = self.blocks.next()?;
            match self.block(&block) {
                Some(records) => self.records = records.into_iter(),
                None => return Some(Err(damaged(&self.path))),
            }
        }
    }
}

/// The list of blocks of a file of this many bytes; none if it is damaged.
fn list(file: &mut File, bytes: u64) -> Option<Vec<Block>> {
    let mut tail = [0; 16];
    file.seek(SeekFrom::Start(bytes.checked_sub(16)?)).ok()?;
    file.read_exact(&mut tail).ok()?;
    let n = u64::from_le_bytes(tail[..8].try_into().ok()?);
    let length = n.checked_mul(ENTRY as u64)?;
    let begin = (bytes - 16).checked_sub(length).filter(|_| &tail[8..] == MAGIC)?;
    file.seek(SeekFrom::Start(begin)).ok()?;
    let mut list = vec![0; usize::try_from(length).ok()?];
    file.read_exact(&mut list).ok()?;
    let blocks = list.as_chunks::<ENTRY>().0.iter().map(|entry| {
        let number = |range: std::ops::Range<usize>| {
            entry[range].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
        };
        Block {
            part: number(0..4) as u32,
            length: number(4..8) as u32,
            place: number(8..16),
            hash: number(16..24),
        }
    });
    let blocks: Vec<Block> = blocks.collect();
    blocks.iter().all(|block| block.place.saturating_add(u64::from(block.length)) <= begin).then_some(blocks)
}
