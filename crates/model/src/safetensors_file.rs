//! The safetensors format: a JSON header that says where each tensor lies, then the tensors' bytes.
//!
//! Files are mapped and read tensor by tensor, and written as a stream, so that a model never lies in memory twice. A
//! header is parsed by the `safetensors` crate; that every tensor's bytes fit its shape and lie within the file, one
//! behind the other, is checked here.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use half::{bf16, f16, slice::HalfFloatSliceExt};
use koan_backend::fp8;
use koan_files::Hashed;
use rayon::prelude::*;
use safetensors::{
    Dtype, SafeTensorError,
    tensor::{Metadata, TensorInfo},
};

use crate::mapped::{Mapped, as_f32};

/// Largest header accepted, bytes. The format allows 100 MB; that of 4096 layers has 6, and parsing takes some 16 times
/// as much memory where a header means harm.
const MAX_HEADER_BYTES: u64 = 1 << 24;
/// Elements that one task converts or checks.
const TASK_LEN: usize = 1 << 16;

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
    /// A tensor holds a value that is not finite.
    #[error("tensor `{name}` in `{}` holds NaN or infinity", path.display())]
    NotFinite {
        /// The tensor.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A tensor's elements are of a type that is not read.
    #[error("tensor `{name}` is stored as {found:?} in `{}`; supported: F32, BF16, F16, and F8_E4M3 of matrices", path.display())]
    Dtype {
        /// The tensor.
        name: String,
        /// The type.
        found: Dtype,
        /// The file.
        path: PathBuf,
    },
    /// A matrix in FP8 has no scales, or wrong ones; or there are scales of nothing.
    #[error("the scales of tensor `{name}` in `{}`: {what}", path.display())]
    Scales {
        /// The tensor that is scaled.
        name: String,
        /// What is wrong.
        what: String,
        /// The file, or directory.
        path: PathBuf,
    },
}

impl FileError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, path: path.into(), source }
    }
}

/// A named tensor of a file. What it is to a model, the whole of a tensor or a slice of one, the model says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As Hugging Face names it.
    pub name: String,
    /// The sizes of its dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl Entry {
    /// How many elements it holds.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A safetensors file, open for reading.
pub struct Reader {
    path: PathBuf,
    map: Mapped,
    metadata: Metadata,
    data_start: usize,
}

impl Reader {
    /// Opens a file and checks its header against its length.
    ///
    /// # Errors
    /// If it can't be read, isn't a safetensors file, or is truncated.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let map = Mapped::open(path).map_err(FileError::io("open", path))?;
        let found = map.len() as u64;
        let truncated = |expected| FileError::Truncated { path: path.into(), found, expected };
        let damaged = |source| FileError::Header { path: path.into(), source };
        let Some((length, rest)) = map.split_first_chunk() else { return Err(truncated(8)) };
        let header = u64::from_le_bytes(*length);
        if header > MAX_HEADER_BYTES {
            return Err(damaged(SafeTensorError::HeaderTooLarge));
        }
        let Some(header) = rest.get(..header as usize) else { return Err(truncated(8 + header)) };
        let metadata: Metadata = serde_json::from_slice(header)
            .map_err(|e| damaged(SafeTensorError::InvalidHeaderDeserialization(e)))?;
        let mut free = 0;
        for name in metadata.offset_keys() {
            let Some(tensor) = metadata.info(&name) else { continue };
            let elements = tensor.shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
            let bits = elements.and_then(|n| n.checked_mul(tensor.dtype.bitsize()));
            let (start, end) = tensor.data_offsets;
            let length = end.checked_sub(start).and_then(|n| n.checked_mul(8));
            if bits.is_none() || length != bits || start != free {
                return Err(damaged(SafeTensorError::InvalidOffset(name)));
            }
            free = end;
        }
        let data_start = 8 + header.len();
        let expected = (data_start as u64).saturating_add(free as u64);
        if found < expected {
            return Err(truncated(expected));
        }
        if found > expected {
            return Err(damaged(SafeTensorError::MetadataIncompleteBuffer));
        }
        Ok(Self { path: path.into(), map, metadata, data_start })
    }

    /// The names of the tensors.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// The shape of a tensor, if it is there.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.metadata.info(name).map(|tensor| &tensor.shape[..])
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a tensor is there, and holds the codes of E4M3.
    pub(crate) fn is_fp8(&self, name: &str) -> bool {
        self.metadata.info(name).is_some_and(|tensor| tensor.dtype == Dtype::F8_E4M3)
    }

    /// Checks that a tensor is there, of this shape and of a type that is read.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self, entry: &Entry) -> Result<(), FileError> {
        let tensor = self.check_shape(entry)?;
        match tensor.dtype {
            Dtype::F32 | Dtype::BF16 | Dtype::F16 => Ok(()),
            found => Err(FileError::Dtype { name: entry.name.clone(), found, path: self.path.clone() }),
        }
    }

    /// Checks that a tensor is there, and of this shape.
    ///
    /// # Errors
    /// If not.
    pub(crate) fn check_shape(&self, entry: &Entry) -> Result<&TensorInfo, FileError> {
        let (name, path) = (&entry.name, &self.path);
        let Some(tensor) = self.metadata.info(name) else {
            return Err(FileError::Missing { name: name.clone(), path: path.clone() });
        };
        if tensor.shape != entry.shape {
            let (found, expected) = (tensor.shape.clone(), entry.shape.clone());
            return Err(FileError::Shape { name: name.clone(), found, expected, path: path.clone() });
        }
        Ok(tensor)
    }

    /// The bytes of a tensor.
    ///
    /// # Errors
    /// If the file was cut short since it was opened.
    fn bytes(&self, tensor: &TensorInfo) -> Result<&[u8], FileError> {
        self.map.check().map_err(FileError::io("read", &self.path))?;
        let (start, end) = tensor.data_offsets;
        Ok(&self.map[self.data_start + start..self.data_start + end])
    }

    /// Reads the codes of a matrix in FP8, as [`read`](Self::read) does, and scales them: `scales` has one for every block
    /// of 128 × 128 elements, row by row.
    ///
    /// # Errors
    /// If it is missing or of another shape, or holds NaN; or if the file was cut short since it was opened.
    pub(crate) fn read_fp8(&self, entry: &Entry, scales: &[f32]) -> Result<Vec<f32>, FileError> {
        let bytes = self.bytes(self.check_shape(entry)?)?;
        let columns = entry.shape.last().copied().unwrap_or(1).max(1);
        let mut values = vec![0.0; bytes.len()];
        let band = fp8::BLOCK * columns;
        let bands = values.par_chunks_mut(band).zip(bytes.par_chunks(band));
        bands.zip(scales.par_chunks(columns.div_ceil(fp8::BLOCK))).for_each(|((values, codes), scales)| {
            for (values, codes) in values.chunks_mut(columns).zip(codes.chunks(columns)) {
                let blocks = values.chunks_mut(fp8::BLOCK).zip(codes.chunks(fp8::BLOCK));
                for ((values, codes), scale) in blocks.zip(scales) {
                    values.iter_mut().zip(codes).for_each(|(x, &code)| *x = E4M3[usize::from(code)] * scale);
                }
            }
        });
        self.check_finite(entry, &values)?;
        Ok(values)
    }

    fn check_finite(&self, entry: &Entry, values: &[f32]) -> Result<(), FileError> {
        if values.par_chunks(TASK_LEN).all(finite) {
            return Ok(());
        }
        Err(FileError::NotFinite { name: entry.name.clone(), path: self.path.clone() })
    }

    /// Reads a tensor as f32, all cores converting: values that are stored as f32 stay where they are. They are checked to be
    /// finite.
    ///
    /// # Errors
    /// If it is missing, of another shape, of a type that is not read, or holds NaN or infinity; or if the file was cut
    /// short since it was opened.
    pub fn read(&self, entry: &Entry) -> Result<Cow<'_, [f32]>, FileError> {
        self.check(entry)?;
        let tensor = self.check_shape(entry)?;
        let bytes = self.bytes(tensor)?;
        let values = match (tensor.dtype, as_f32(bytes)) {
            (Dtype::F32, Some(values)) => Cow::Borrowed(values),
            (Dtype::F32, None) => Cow::Owned(convert(bytes, f32::from_le_bytes)),
            (Dtype::BF16, _) => Cow::Owned(convert(bytes, |b| bf16::from_le_bytes(b).to_f32())),
            _ => Cow::Owned(convert_f16(bytes)),
        };
        self.check_finite(entry, &values)?;
        Ok(values)
    }
}

/// The numbers that the codes of E4M3 stand for.
static E4M3: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = fp8::from_bits(code as u8);
        code += 1;
    }
    table
};

/// Whether no value is NaN or infinite. Without an early end, so that it runs on vectors.
fn finite(values: &[f32]) -> bool {
    let wrong = |x: &f32| u32::from(x.to_bits() & 0x7f80_0000 == 0x7f80_0000);
    values.iter().map(wrong).fold(0, |a, b| a | b) == 0
}

/// Elements of `N` bytes each, as f32.
fn convert<const N: usize>(bytes: &[u8], to_f32: impl Fn([u8; N]) -> f32 + Sync) -> Vec<f32> {
    let (elements, _) = bytes.as_chunks::<N>();
    let mut values = vec![0.0; elements.len()];
    values.par_chunks_mut(TASK_LEN).zip(elements.par_chunks(TASK_LEN)).for_each(|(values, elements)| {
        values.iter_mut().zip(elements).for_each(|(value, bytes)| *value = to_f32(*bytes));
    });
    values
}

/// By the machine's own conversion, which wants them in runs.
fn convert_f16(bytes: &[u8]) -> Vec<f32> {
    const RUN: usize = 256;
    let (elements, _) = bytes.as_chunks::<2>();
    let mut values = vec![0.0; elements.len()];
    values.par_chunks_mut(TASK_LEN).zip(elements.par_chunks(TASK_LEN)).for_each(|(values, elements)| {
        for (values, elements) in values.chunks_mut(RUN).zip(elements.chunks(RUN)) {
            let mut run = [f16::ZERO; RUN];
            run.iter_mut().zip(elements).for_each(|(x, bytes)| *x = f16::from_le_bytes(*bytes));
            run[..values.len()].convert_to_f32_slice(values);
        }
    });
    values
}

/// The type that values are stored in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stored {
    /// Four bytes: all the digits there are.
    #[default]
    F32,
    /// Two bytes, rounded to nearest: f32 of which the last 16 bits are cut.
    Bf16,
    /// Two bytes, rounded to nearest: more digits than bf16, but infinite from 65520 on.
    F16,
    /// One byte, the code of E4M3, of values that were divided by their scales.
    E4m3,
}

impl Stored {
    /// Bytes per element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
            Self::E4m3 => 1,
        }
    }

    /// The name in safetensors' headers.
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::E4m3 => "F8_E4M3",
        }
    }

    /// Appends the bytes of `values`.
    pub(crate) fn encode(self, values: &[f32], bytes: &mut Vec<u8>) {
        match self {
            Self::F32 => values.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
            Self::Bf16 => values.iter().for_each(|&x| bytes.extend(bf16::from_f32(x).to_le_bytes())),
            Self::F16 => values.iter().for_each(|&x| bytes.extend(f16::from_f32(x).to_le_bytes())),
            Self::E4m3 => bytes.extend(values.iter().map(|&x| fp8::to_bits(x))),
        }
    }
}

/// Writes f32 tensors, one at a time, in their order; syncs the file and returns its SHA-256 in hex.
///
/// # Errors
/// If the file can't be written, or `read` fails.
pub fn write<V: AsRef<[f32]>, E: From<FileError>>(
    path: &Path,
    entries: &[Entry],
    read: impl FnMut(usize) -> Result<V, E>,
) -> Result<String, E> {
    write_as(Stored::F32, path, entries, read)
}

/// As [`write()`], with values stored as `stored`.
///
/// # Errors
/// As [`write()`].
pub fn write_as<V: AsRef<[f32]>, E: From<FileError>>(
    stored: Stored,
    path: &Path,
    entries: &[Entry],
    read: impl FnMut(usize) -> Result<V, E>,
) -> Result<String, E> {
    let entries: Vec<_> = entries.iter().map(|entry| (entry.clone(), stored)).collect();
    write_each(path, &entries, read)
}

/// As [`write()`], with the values of each tensor stored as it says.
///
/// # Errors
/// As [`write()`].
pub(crate) fn write_each<V: AsRef<[f32]>, E: From<FileError>>(
    path: &Path,
    entries: &[(Entry, Stored)],
    mut read: impl FnMut(usize) -> Result<V, E>,
) -> Result<String, E> {
    let io = |source| E::from(FileError::Io { what: "write", path: path.into(), source });
    let mut offset = 0;
    let mut header = BTreeMap::from([("__metadata__".to_owned(), serde_json::json!({"format": "pt"}))]);
    for (entry, stored) in entries {
        let end = offset + stored.bytes() * entry.len();
        let value =
            serde_json::json!({"dtype": stored.name(), "shape": entry.shape, "data_offsets": [offset, end]});
        header.insert(entry.name.clone(), value);
        offset = end;
    }
    let mut header = serde_json::Value::from_iter(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));

    let mut out = Hashed::new(BufWriter::with_capacity(1 << 20, File::create(path).map_err(io)?));
    let mut bytes = Vec::with_capacity(TASK_LEN * Stored::F32.bytes());
    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
    out.write_all(header.as_bytes()).map_err(io)?;
    for (i, (entry, stored)) in entries.iter().enumerate() {
        let values = read(i)?;
        let values = values.as_ref();
        assert_eq!(values.len(), entry.len(), "{}: elements", entry.name);
        for chunk in values.chunks(TASK_LEN) {
            bytes.clear();
            stored.encode(chunk, &mut bytes);
            out.write_all(&bytes).map_err(io)?;
        }
    }
    let (out, hash) = out.finish();
    let file = out.into_inner().map_err(|e| io(e.into_error()))?;
    file.sync_all().map_err(io)?;
    Ok(hash)
}
