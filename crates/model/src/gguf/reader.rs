//! The container: header, metadata, tensor table, and the values of a tensor row by row.
//!
//! Layout (GGUF 2 and 3, little-endian): `GGUF`, version, number of tensors, number of metadata pairs; the
//! pairs; the tensor table; padding; the tensors' data.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Seek, SeekFrom};

use super::GgufError;
use super::dequant::TensorType;

/// Bytes of everything before the tensors' data. Real files stay under 20 MB, nearly all of it the
/// vocabulary.
const MAX_HEADER_BYTES: u64 = 1 << 28;
/// Metadata values, items of arrays included. A vocabulary of 256 Ki tokens makes some 1.3 million.
const MAX_METADATA_VALUES: u64 = 1 << 22;
/// Tensors of a file. The largest dense models have some 1,200.
const MAX_TENSORS: u64 = 1 << 16;
/// Dimensions of a tensor, ggml's own limit.
const MAX_DIMS: u32 = 4;
/// Size of one dimension. The largest that models have is the vocabulary, 256 Ki.
const MAX_DIM: u64 = 1 << 20;
/// Bytes to which the data of a tensor may be aligned.
const MAX_ALIGNMENT: usize = 1 << 16;

/// A metadata value. Integers and floats of all widths are read into the widest.
#[derive(Debug)]
pub(super) enum Value {
    /// Any integer type.
    Integer(i128),
    /// `f32` (as the shortest decimal that denotes it: 1e-5, not 9.99999974e-6) or `f64`.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A UTF-8 string.
    String(String),
    /// Values of one type; arrays of arrays are refused.
    Array(Vec<Value>),
}

impl fmt::Display for Value {
    /// Enough to recognise the value in an error message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(n) => n.fmt(f),
            Self::Float(x) => x.fmt(f),
            Self::Bool(b) => b.fmt(f),
            Self::String(s) => write!(f, "`{s:.40}`"),
            Self::Array(items) => write!(f, "an array of {}", items.len()),
        }
    }
}

/// A Rust type that a metadata value can be read as.
pub(super) trait FromValue<'a>: Sized {
    /// What the value should be, for the error message.
    const EXPECTED: &'static str;
    /// The value, if it has the right type and range.
    fn from_value(value: &'a Value) -> Option<Self>;
}

impl FromValue<'_> for usize {
    const EXPECTED: &'static str = "a whole number, not negative";
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Integer(n) = value { usize::try_from(*n).ok() } else { None }
    }
}

impl FromValue<'_> for f64 {
    const EXPECTED: &'static str = "a finite number";
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Float(x) = value { x.is_finite().then_some(*x) } else { None }
    }
}

impl FromValue<'_> for bool {
    const EXPECTED: &'static str = "a boolean";
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Bool(b) = value { Some(*b) } else { None }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const EXPECTED: &'static str = "a string";
    fn from_value(value: &'a Value) -> Option<Self> {
        if let Value::String(s) = value { Some(s) } else { None }
    }
}

impl<'a, T: FromValue<'a>> FromValue<'a> for Vec<T> {
    const EXPECTED: &'static str = "an array of the key's type";
    fn from_value(value: &'a Value) -> Option<Self> {
        if let Value::Array(items) = value { items.iter().map(T::from_value).collect() } else { None }
    }
}

/// The key-value pairs of the header.
#[derive(Debug, Default)]
pub(super) struct Metadata(BTreeMap<String, Value>);

impl Metadata {
    /// The value of `key`, if the file has it.
    pub(super) fn optional<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, GgufError> {
        self.0
            .get(key)
            .map(|value| {
                T::from_value(value).ok_or_else(|| GgufError::BadValue {
                    key: key.to_owned(),
                    found: value.to_string(),
                    expected: T::EXPECTED,
                })
            })
            .transpose()
    }

    /// The value of `key`, which the file must have.
    pub(super) fn required<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, GgufError> {
        self.optional(key)?.ok_or_else(|| GgufError::MissingKey { key: key.to_owned() })
    }
}

/// Where a tensor lies and how it is stored.
#[derive(Debug)]
pub(super) struct Tensor {
    /// The name in the file.
    pub(super) name: String,
    /// Outermost dimension first (the file stores them the other way round).
    pub(super) shape: Vec<usize>,
    /// How values are stored.
    kind: TensorType,
    /// Place of the first byte, from the start of the file.
    offset: u64,
    /// Length in the file.
    n_bytes: u64,
}

impl Tensor {
    /// Values of a row, the innermost dimension.
    pub(super) fn row_len(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// How values are stored, as ggml spells it.
    pub(super) fn type_name(&self) -> String {
        format!("{:?}", self.kind)
            .to_uppercase()
            .replace("4K", "4_K")
            .replace("5K", "5_K")
            .replace("6K", "6_K")
    }

    /// Number of rows.
    pub(super) fn n_rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }
}

/// An opened GGUF file whose header has been read and checked.
#[derive(Debug)]
pub(super) struct Gguf<R> {
    input: Input<R>,
    bytes: Vec<u8>,
    /// The key-value pairs.
    pub(super) metadata: Metadata,
    /// The tensor table, by name.
    pub(super) tensors: BTreeMap<String, Tensor>,
}

impl<R: Read + Seek> Gguf<R> {
    /// Reads and checks everything before the tensors' data.
    pub(super) fn read(inner: R) -> Result<Self, GgufError> {
        let mut input = Input::new(inner)?;
        let magic = input.array("the magic")?;
        if &magic != b"GGUF" {
            return Err(GgufError::Magic { found: magic });
        }
        let version = input.u32("the version")?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version { found: version });
        }
        let n_tensors = input.count("the number of tensors", MAX_TENSORS)?;
        let n_pairs = input.count("the number of metadata pairs", MAX_METADATA_VALUES)?;
        let metadata = read_metadata(&mut input, n_pairs)?;
        let tensors = read_tensors(&mut input, n_tensors, &metadata)?;
        Ok(Self { input, bytes: Vec::new(), metadata, tensors })
    }

    /// Dequantises rows `first..` of the tensor called `name` until `out` is full.
    pub(super) fn read_rows(&mut self, name: &str, first: usize, out: &mut [f32]) -> Result<(), GgufError> {
        let tensor = &self.tensors[name];
        let row_bytes = tensor.kind.n_bytes(tensor.row_len());
        let n_rows = out.len() / tensor.row_len();
        assert_eq!(n_rows * tensor.row_len(), out.len(), "`out` holds whole rows");
        assert!(first + n_rows <= tensor.n_rows(), "rows of `{name}` out of range");
        self.bytes.resize(n_rows * row_bytes, 0);
        self.input.read_at(tensor.offset + (first * row_bytes) as u64, &mut self.bytes)?;
        tensor.kind.dequantize(&self.bytes, out);
        if out.iter().all(|x| x.is_finite()) {
            Ok(())
        } else {
            Err(GgufError::Tensor { name: name.to_owned(), problem: "holds a value that is not finite" })
        }
    }
}

fn read_metadata<R: Read + Seek>(input: &mut Input<R>, n_pairs: u64) -> Result<Metadata, GgufError> {
    let mut metadata = Metadata::default();
    let mut budget = MAX_METADATA_VALUES;
    for _ in 0..n_pairs {
        let key = input.string("a metadata key")?;
        let kind = input.u32("the type of a metadata value")?;
        let value = read_value(input, kind, &mut budget)?;
        if metadata.0.insert(key.clone(), value).is_some() {
            return Err(GgufError::Duplicate { name: key });
        }
    }
    Ok(metadata)
}

/// Reads a value of type `kind`; `budget` is how many more values the file may hold.
fn read_value<R: Read + Seek>(input: &mut Input<R>, kind: u32, budget: &mut u64) -> Result<Value, GgufError> {
    const WHAT: &str = "a metadata value";
    const ARRAY: u32 = 9;
    if kind == ARRAY {
        let offset = input.position;
        let item = input.u32("the type of an array")?;
        if item == ARRAY {
            return Err(GgufError::Malformed { problem: "arrays of arrays are not supported", offset });
        }
        let len = input.count("the length of an array", *budget)?;
        // Not reserved in advance: the length is the file's claim.
        return (0..len).map(|_| read_value(input, item, budget)).collect::<Result<_, _>>().map(Value::Array);
    }
    let offset = input.position;
    *budget = budget.checked_sub(1).ok_or(GgufError::Limit {
        what: "the number of metadata values",
        offset,
        found: MAX_METADATA_VALUES + 1,
        limit: MAX_METADATA_VALUES,
    })?;
    Ok(match kind {
        0 => Value::Integer(u8::from_le_bytes(input.array(WHAT)?).into()),
        1 => Value::Integer(i8::from_le_bytes(input.array(WHAT)?).into()),
        2 => Value::Integer(u16::from_le_bytes(input.array(WHAT)?).into()),
        3 => Value::Integer(i16::from_le_bytes(input.array(WHAT)?).into()),
        4 => Value::Integer(u32::from_le_bytes(input.array(WHAT)?).into()),
        5 => Value::Integer(i32::from_le_bytes(input.array(WHAT)?).into()),
        6 => {
            let x = f32::from_le_bytes(input.array(WHAT)?);
            Value::Float(x.to_string().parse().unwrap_or(f64::from(x)))
        }
        7 => Value::Bool(input.array::<1>(WHAT)? != [0]),
        8 => Value::String(input.string(WHAT)?),
        10 => Value::Integer(u64::from_le_bytes(input.array(WHAT)?).into()),
        11 => Value::Integer(i64::from_le_bytes(input.array(WHAT)?).into()),
        12 => Value::Float(f64::from_le_bytes(input.array(WHAT)?)),
        _ => return Err(GgufError::Malformed { problem: "a metadata value of unknown type", offset }),
    })
}

fn read_tensors<R: Read + Seek>(
    input: &mut Input<R>,
    n_tensors: u64,
    metadata: &Metadata,
) -> Result<BTreeMap<String, Tensor>, GgufError> {
    const ALIGNMENT: &str = "general.alignment";
    let alignment = metadata.optional(ALIGNMENT)?.unwrap_or(32_usize);
    if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
        let found = alignment.to_string();
        let expected = "a power of two, at most 65536";
        return Err(GgufError::BadValue { key: ALIGNMENT.to_owned(), found, expected });
    }
    let mut tensors = Vec::new();
    for _ in 0..n_tensors {
        tensors.push(read_tensor(input)?);
    }
    // The table stores offsets from the first aligned byte after it.
    let data_start = input.position.next_multiple_of(alignment as u64);
    tensors.sort_by_key(|t| t.offset);
    let (mut free, mut by_name) = (0, BTreeMap::new());
    for mut tensor in tensors {
        let fault = |problem| GgufError::Tensor { name: tensor.name.clone(), problem };
        let end = tensor.offset.checked_add(tensor.n_bytes).and_then(|n| n.checked_add(data_start));
        if !tensor.offset.is_multiple_of(alignment as u64) {
            return Err(fault("its offset is not aligned"));
        }
        if tensor.offset < free {
            return Err(fault("it overlaps another tensor"));
        }
        if end.is_none_or(|end| end > input.length) {
            return Err(fault("its data lies beyond the end of the file: download it again"));
        }
        free = tensor.offset + tensor.n_bytes;
        tensor.offset += data_start;
        if let Some(twin) = by_name.insert(tensor.name.clone(), tensor) {
            return Err(GgufError::Duplicate { name: twin.name });
        }
    }
    Ok(by_name)
}

/// Reads one entry of the tensor table; its offset is still relative to the data.
fn read_tensor<R: Read + Seek>(input: &mut Input<R>) -> Result<Tensor, GgufError> {
    let name = input.string("the name of a tensor")?;
    let offset = input.position;
    let n_dims = input.u32("the number of dimensions")?;
    if !(1..=MAX_DIMS).contains(&n_dims) {
        let (found, limit) = (n_dims.into(), MAX_DIMS.into());
        return Err(GgufError::Limit { what: "the number of dimensions", offset, found, limit });
    }
    let mut shape = Vec::new();
    let mut n_values = 1_u64;
    for _ in 0..n_dims {
        let dim = input.count("a dimension of a tensor", MAX_DIM)?;
        shape.push(dim as usize);
        n_values = match n_values.checked_mul(dim) {
            None | Some(0) => return Err(GgufError::Tensor { name, problem: "its size is 0 or overflows" }),
            Some(n) => n,
        };
    }
    shape.reverse();
    let code = input.u32("the type of a tensor")?;
    let offset = input.u64("the offset of a tensor")?;
    let Some(kind) = TensorType::from_code(code) else {
        return Err(GgufError::TensorType { name, code });
    };
    if !shape[shape.len() - 1].is_multiple_of(kind.block_len()) {
        return Err(GgufError::Tensor { name, problem: "its rows are not whole blocks" });
    }
    match usize::try_from(n_values).ok().and_then(|n| n.checked_mul(4)) {
        Some(_) => Ok(Tensor { name, shape, kind, offset, n_bytes: kind.n_bytes(n_values as usize) as u64 }),
        None => Err(GgufError::Tensor { name, problem: "its size overflows" }),
    }
}

/// A reader that knows its place and its end, so that nothing is allocated for bytes that are not there.
#[derive(Debug)]
struct Input<R> {
    inner: R,
    position: u64,
    length: u64,
}

impl<R: Read + Seek> Input<R> {
    fn new(mut inner: R) -> Result<Self, GgufError> {
        let length = inner.seek(SeekFrom::End(0)).and_then(|length| inner.rewind().map(|()| length));
        length
            .map(|length| Self { inner, position: 0, length })
            .map_err(|source| GgufError::Read { offset: 0, source })
    }

    /// Checks that the header goes on for `needed` more bytes.
    fn check(&self, needed: u64, what: &'static str) -> Result<(), GgufError> {
        let offset = self.position;
        if needed > self.length - offset {
            return Err(GgufError::Truncated { what, offset, needed });
        }
        if offset + needed > MAX_HEADER_BYTES {
            let (found, limit) = (offset + needed, MAX_HEADER_BYTES);
            return Err(GgufError::Limit { what: "the size of the header", offset, found, limit });
        }
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), GgufError> {
        self.inner
            .read_exact(bytes)
            .map_err(|source| GgufError::Read { offset: self.position, source })
            .inspect(|()| self.position += bytes.len() as u64)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        self.check(N as u64, what)?;
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &'static str, limit: u64) -> Result<u64, GgufError> {
        let offset = self.position;
        match self.u64(what)? {
            found if found > limit => Err(GgufError::Limit { what, offset, found, limit }),
            count => Ok(count),
        }
    }

    fn string(&mut self, what: &'static str) -> Result<String, GgufError> {
        let len = self.u64(what)?;
        self.check(len, what)?;
        let offset = self.position;
        let mut bytes = vec![0; len as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes)
            .map_err(|_| GgufError::Malformed { problem: "a string that is not UTF-8", offset })
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), GgufError> {
        self.inner.seek(SeekFrom::Start(offset)).map_err(|source| GgufError::Read { offset, source })?;
        self.position = offset;
        self.fill(bytes)
    }
}

#[cfg(test)]
mod tests;
