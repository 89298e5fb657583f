//! The safetensors format: a JSON header that says where each tensor lies, then the tensors' bytes.
//!
//! Files are read tensor by tensor and written as a stream, so that a model never lies in memory twice. A header is
//! parsed by the `safetensors` crate; that every tensor's bytes fit its shape and lie within the file is checked here.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensorError, tensor::Metadata};
use sha2::{Digest, Sha256};

use crate::TensorInfo;

/// Largest header accepted, bytes: the format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Why a safetensors file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused.
    #[error("cannot {what} `{}`", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The header is no safetensors header.
    #[error("`{}` is not a safetensors file, or is damaged", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What the header says wrong.
        source: SafeTensorError,
    },
    /// The file ends before its tensors do.
    #[error("`{}` is truncated: {found} bytes of {expected}; fetch or copy it again", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its length, bytes.
        found: u64,
        /// What its header asks for.
        expected: u64,
    },
    /// A tensor is missing.
    #[error("tensor `{name}` is missing in `{}`", path.display())]
    Missing {
        /// The tensor.
        name: String,
        /// The file, or directory.
        path: PathBuf,
    },
    /// A tensor has another shape than the config says.
    #[error("tensor `{name}` has shape {found:?} in `{}`, the config asks for {expected:?}", path.display())]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// What it should be.
        expected: Vec<usize>,
        /// The file.
        path: PathBuf,
    },
    /// A tensor's numbers are of a type that is not read.
    #[error("tensor `{name}` is stored as {found:?} in `{}`; supported: F32, BF16, F16", path.display())]
    Dtype {
        /// The tensor.
        name: String,
        /// The type.
        found: Dtype,
        /// The file.
        path: PathBuf,
    },
}

impl FileError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, path: path.into(), source }
    }
}

/// A safetensors file, open for reading.
pub struct Reader {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    data_start: u64,
}

impl Reader {
    /// Opens a file and checks its header against its length.
    ///
    /// # Errors
    /// If it can't be read, isn't a safetensors file, or is truncated.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let mut file = File::open(path).map_err(FileError::io("open", path))?;
        let found = file.metadata().map_err(FileError::io("read", path))?.len();
        let truncated = |expected| FileError::Truncated { path: path.into(), found, expected };
        let mut length = [0; 8];
        if found < 8 {
            return Err(truncated(8));
        }
        file.read_exact(&mut length).map_err(FileError::io("read", path))?;
        let header = u64::from_le_bytes(length);
        if header > MAX_HEADER_BYTES {
            return Err(FileError::Header { path: path.into(), source: SafeTensorError::HeaderTooLarge });
        }
        if found < 8 + header {
            return Err(truncated(8 + header));
        }
        let mut bytes = vec![0; header as usize];
        file.read_exact(&mut bytes).map_err(FileError::io("read", path))?;
        let damaged = |source| FileError::Header { path: path.into(), source };
        let metadata: Metadata = serde_json::from_slice(&bytes)
            .map_err(|e| damaged(SafeTensorError::InvalidHeaderDeserialization(e)))?;
        for (name, tensor) in metadata.tensors() {
            let numbers = tensor.shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
            let bits = numbers.and_then(|n| n.checked_mul(tensor.dtype.bitsize()));
            let (start, end) = tensor.data_offsets;
            if bits.is_none() || end.checked_sub(start).and_then(|n| n.checked_mul(8)) != bits {
                return Err(damaged(SafeTensorError::InvalidOffset(name)));
            }
        }
        let data_start = 8 + header;
        let expected = data_start.saturating_add(metadata.data_len() as u64);
        if found < expected {
            return Err(truncated(expected));
        }
        Ok(Self { path: path.into(), file, metadata, data_start })
    }

    /// The names of the tensors.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Reads a tensor as f32, and checks its shape.
    ///
    /// # Errors
    /// If it is missing, of another shape, or of a type that is not read.
    pub fn read(&mut self, info: &TensorInfo) -> Result<Vec<f32>, FileError> {
        let (name, path) = (&info.name, &self.path);
        let Some(tensor) = self.metadata.info(name) else {
            return Err(FileError::Missing { name: name.clone(), path: path.clone() });
        };
        if tensor.shape != info.shape {
            let (found, expected) = (tensor.shape.clone(), info.shape.clone());
            return Err(FileError::Shape { name: name.clone(), found, expected, path: path.clone() });
        }
        let (start, end) = tensor.data_offsets;
        let mut bytes = vec![0; end - start];
        self.file
            .seek(SeekFrom::Start(self.data_start + start as u64))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(FileError::io("read", path))?;
        let (halves, _) = bytes.as_chunks::<2>();
        match tensor.dtype {
            Dtype::F32 => Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            Dtype::BF16 => Ok(halves.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()),
            Dtype::F16 => Ok(halves.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()),
            found => Err(FileError::Dtype { name: name.clone(), found, path: path.clone() }),
        }
    }
}

/// Writes f32 tensors, one at a time, in the order of their infos; syncs the file and returns its SHA-256 in hex.
///
/// # Errors
/// If the file can't be written, or `read` fails.
pub fn write<E: From<FileError>>(
    path: &Path,
    infos: &[TensorInfo],
    mut read: impl FnMut(usize) -> Result<Vec<f32>, E>,
) -> Result<String, E> {
    let io = |source| E::from(FileError::Io { what: "write", path: path.into(), source });
    let mut offset = 0;
    let mut header = BTreeMap::from([("__metadata__".to_owned(), serde_json::json!({"format": "pt"}))]);
    for info in infos {
        let end = offset + 4 * info.len();
        let entry = serde_json::json!({"dtype": "F32", "shape": info.shape, "data_offsets": [offset, end]});
        header.insert(info.name.clone(), entry);
        offset = end;
    }
    let mut header = serde_json::Value::from_iter(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));

    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(io)?);
    let mut hash = Sha256::new();
    let mut put = |bytes: &[u8]| {
        hash.update(bytes);
        out.write_all(bytes)
    };
    put(&(header.len() as u64).to_le_bytes()).map_err(io)?;
    put(header.as_bytes()).map_err(io)?;
    for (i, info) in infos.iter().enumerate() {
        let values = read(i)?;
        assert_eq!(values.len(), info.len(), "{}: numbers", info.name);
        for chunk in values.chunks(1 << 16) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|x| x.to_le_bytes()).collect();
            put(&bytes).map_err(io)?;
        }
    }
    let file = out.into_inner().map_err(|e| io(e.into_error()))?;
    file.sync_all().map_err(io)?;
    Ok(hex(&hash.finalize()))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}
