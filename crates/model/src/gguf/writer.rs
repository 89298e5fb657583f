//! Writing the container: header, metadata, tensor table, aligned data. GGUF 3, little-endian.

use std::{
    io::{self, Write},
    path::Path,
};

use koan_files::{FilesError, NewFile};

use super::{GgufError, dequant::TensorType};

/// Bytes to which tensors' data are aligned: the format's default.
const ALIGNMENT: usize = 32;

/// Metadata, as it will stand in the file.
#[derive(Default)]
pub(super) struct Pairs {
    bytes: Vec<u8>,
    count: u64,
}

impl Pairs {
    fn pair(&mut self, key: &str, code: u32, value: &[u8]) {
        self.count += 1;
        self.bytes.extend([&string(key)[..], &code.to_le_bytes(), value].concat());
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.pair(key, 8, &string(value));
    }

    pub(super) fn number(&mut self, key: &str, value: usize) {
        self.pair(key, 4, &(value as u32).to_le_bytes());
    }

    pub(super) fn float(&mut self, key: &str, value: f64) {
        self.pair(key, 6, &(value as f32).to_le_bytes());
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.pair(key, 7, &[value.into()]);
    }

    pub(super) fn texts<'a>(&mut self, key: &str, values: impl ExactSizeIterator<Item = &'a str>) {
        let len = values.len() as u64;
        let items: Vec<u8> = values.flat_map(string).collect();
        self.pair(key, 9, &[&8u32.to_le_bytes()[..], &len.to_le_bytes(), &items].concat());
    }

    pub(super) fn integers(&mut self, key: &str, values: &[i32]) {
        let items: Vec<u8> = values.iter().flat_map(|n| n.to_le_bytes()).collect();
        let len = values.len() as u64;
        self.pair(key, 9, &[&5u32.to_le_bytes()[..], &len.to_le_bytes(), &items].concat());
    }
}

/// A tensor that is to be written.
pub(super) struct Entry {
    pub(super) name: String,
    /// Outermost dimension first.
    pub(super) shape: Vec<usize>,
    pub(super) kind: TensorType,
}

impl Entry {
    fn n_bytes(&self) -> usize {
        self.kind.n_bytes(self.shape.iter().product())
    }
}

/// Writes `path`, which must not exist, whole or not at all. `read` gives the values of each tensor.
pub(super) fn write(
    path: &Path,
    pairs: &Pairs,
    entries: &[Entry],
    mut read: impl FnMut(usize) -> Result<Vec<f32>, GgufError>,
) -> Result<(), GgufError> {
    let io = |source| FilesError::io("write", path)(source);
    if path.exists() {
        return Err(io(io::ErrorKind::AlreadyExists.into()).into());
    }
    let mut out = NewFile::create(path)?;
    let mut header = b"GGUF\x03\0\0\0".to_vec();
    header.extend((entries.len() as u64).to_le_bytes());
    header.extend(pairs.count.to_le_bytes());
    header.extend(&pairs.bytes);
    let mut offset = 0;
    for entry in entries {
        header.extend(string(&entry.name));
        header.extend((entry.shape.len() as u32).to_le_bytes());
        header.extend(entry.shape.iter().rev().flat_map(|&n| (n as u64).to_le_bytes()));
        header.extend(entry.kind.code().to_le_bytes());
        header.extend((offset as u64).to_le_bytes());
        offset += entry.n_bytes().next_multiple_of(ALIGNMENT);
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
    out.write_all(&header).map_err(io)?;
    for (i, entry) in entries.iter().enumerate() {
        let bytes = entry.kind.quantize(&read(i)?);
        if entry.kind == TensorType::F16 && bytes.as_chunks().0.iter().any(|b| is_infinite_f16(*b)) {
            let problem = "holds a value that f16 cannot; choose another type";
            return Err(GgufError::Tensor { name: entry.name.clone(), problem });
        }
        out.write_all(&bytes).map_err(io)?;
        out.write_all(&[0; ALIGNMENT][..bytes.len().next_multiple_of(ALIGNMENT) - bytes.len()])
            .map_err(io)?;
    }
    Ok(out.finish()?)
}

fn is_infinite_f16(bytes: [u8; 2]) -> bool {
    !half::f16::from_le_bytes(bytes).is_finite()
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}
