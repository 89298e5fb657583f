//! Pages of a Parquet file: read, bounded, decompressed.

use super::thrift::{FALSE, Reader, STRUCT, TRUE, Wrong};
use parquet::basic::{Compression, Encoding};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::reader::RowGroupReader;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type as SchemaType;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

/// Largest page, bytes, compressed or not.
const MAX_PAGE_BYTES: u64 = 512 << 20;
/// Largest header of a page, bytes; it may hold the smallest and the largest value.
const MAX_HEADER_BYTES: usize = 16 << 20;
/// Bytes in which most headers end.
const HEADER_BYTES: usize = 4 << 10;
/// Snappy makes at most so many bytes of one.
const SNAPPY_EXPANSION: u64 = 64;

/// A row group: a piece of each column.
pub(super) struct Group {
    file: Arc<File>,
    metadata: RowGroupMetaData,
}

impl Group {
    pub(super) fn new(file: &Arc<File>, metadata: &RowGroupMetaData) -> std::result::Result<Self, String> {
        for column in metadata.columns() {
            if column.file_path().is_some() {
                return Err("its columns are in other files".to_owned());
            }
            if let Some(codec) = unread(column.compression()) {
                let name = column.column_path();
                return Err(format!(
                    "column {name} is compressed by {codec}; write it with snappy, gzip, zstd or without compression"
                ));
            }
        }
        Ok(Self { file: Arc::clone(file), metadata: metadata.clone() })
    }
}

/// The name of a compression that is not read.
fn unread(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::LZO => Some("LZO"),
        Compression::BROTLI(_) => Some("Brotli"),
        Compression::LZ4 | Compression::LZ4_RAW => Some("LZ4"),
        _ => None,
    }
}

impl RowGroupReader for Group {
    fn metadata(&self) -> &RowGroupMetaData {
        &self.metadata
    }

    fn num_columns(&self) -> usize {
        self.metadata.num_columns()
    }

    fn get_column_page_reader(&self, i: usize) -> Result<Box<dyn PageReader>> {
        Ok(Box::new(Pages::new(Arc::clone(&self.file), self.metadata.column(i))?))
    }

    fn get_column_bloom_filter(&self, _: usize) -> Option<&Sbbf> {
        None
    }

    fn get_row_iter(&self, projection: Option<SchemaType>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

/// The pages of a column of a row group.
struct Pages {
    file: Arc<File>,
    compression: Compression,
    /// Where the next page begins, and where the last ends, in the file.
    at: u64,
    end: u64,
    /// Values that are still to come.
    values: i64,
}

impl Pages {
    fn new(file: Arc<File>, column: &ColumnChunkMetaData) -> Result<Self> {
        let start = column.dictionary_page_offset().filter(|&at| at > 0).unwrap_or(column.data_page_offset());
        let size = file.metadata()?.len();
        let bound = |value: i64| u64::try_from(value).ok();
        let range = bound(start).zip(bound(column.compressed_size()));
        let range = range.and_then(|(at, length)| Some((at, at.checked_add(length)?)));
        let (at, end) = range
            .filter(|&(_, end)| end <= size)
            .ok_or_else(|| damaged("a column lies outside of the file"))?;
        Ok(Self { file, compression: column.compression(), at, end, values: column.num_values() })
    }

    /// The bytes from `at` on.
    fn bytes(&self, at: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        read_exact_at(&self.file, &mut bytes, at)?;
        Ok(bytes)
    }

    fn header(&self) -> Result<(Header, usize)> {
        let mut length = HEADER_BYTES;
        loop {
            let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
            let bytes = self.bytes(self.at, length.min(left))?;
            match Header::read(&bytes) {
                Ok(read) => return Ok(read),
                Err(Wrong::Cut) if length < left && length < MAX_HEADER_BYTES => length *= 8,
                Err(_) => return Err(damaged("the header of a page is damaged")),
            }
        }
    }

    fn page(&mut self) -> Result<Option<Page>> {
        while self.values > 0 && self.at < self.end {
            let (header, length) = self.header()?;
            let at = self.at + length as u64;
            if header.compressed > MAX_PAGE_BYTES || header.uncompressed > MAX_PAGE_BYTES {
                return Err(damaged(&format!("a page is larger than {} MiB", MAX_PAGE_BYTES >> 20)));
            }
            if at + header.compressed > self.end {
                return Err(damaged("a page ends outside of its column"));
            }
            self.at = at + header.compressed;
            let Some(kind) = header.kind else { continue }; // an index, which readers skip
            let bytes = self.bytes(at, header.compressed as usize)?;
            let page = header.page(kind, bytes, self.compression)?;
            if page.is_data_page() {
                self.values -= i64::from(page.num_values());
            }
            return Ok(Some(page));
        }
        Ok(None)
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.page()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        Err(damaged("pages are read in their order"))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        Err(damaged("pages are read in their order"))
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        Ok(self.values <= 0 || self.at >= self.end)
    }
}

fn damaged(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(not(unix))]
fn read_exact_at(mut file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    use std::io::{Seek as _, SeekFrom};
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(bytes)
}

/// The header of a page: what `PageHeader` and the struct of its kind say.
struct Header {
    compressed: u64,
    uncompressed: u64,
    /// `None`: a page that holds no values.
    kind: Option<Kind>,
    /// The numbered fields of the struct of its kind.
    fields: [Option<u32>; 8],
    is_compressed: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Data,
    Dictionary,
    DataV2,
}

impl Header {
    /// The header at the beginning of `bytes`, and how long it is.
    fn read(bytes: &[u8]) -> std::result::Result<(Self, usize), Wrong> {
        let (mut reader, mut last) = (Reader::new(bytes), 0);
        let mut header =
            Self { compressed: 0, uncompressed: 0, kind: None, fields: [None; 8], is_compressed: true };
        let size = |value: i64| u64::try_from(value).map_err(|_| Wrong::Invalid);
        while let Some((kind, id)) = reader.field(last)? {
            match (kind, id) {
                (4..=6, 2) => header.uncompressed = size(reader.integer()?)?,
                (4..=6, 3) => header.compressed = size(reader.integer()?)?,
                (STRUCT, 5) => header.read_kind(Kind::Data, &mut reader)?,
                (STRUCT, 7) => header.read_kind(Kind::Dictionary, &mut reader)?,
                (STRUCT, 8) => header.read_kind(Kind::DataV2, &mut reader)?,
                _ => reader.skip(kind)?,
            }
            last = id;
        }
        Ok((header, reader.at))
    }

    fn read_kind(&mut self, kind: Kind, reader: &mut Reader<'_>) -> std::result::Result<(), Wrong> {
        let mut last = 0;
        self.kind = Some(kind);
        while let Some((value, id)) = reader.field(last)? {
            match (value, id) {
                (4..=6, 1..=6) => {
                    let number = u32::try_from(reader.integer()?).map_err(|_| Wrong::Invalid)?;
                    self.fields[id as usize] = Some(number);
                }
                (TRUE | FALSE, 7) if kind == Kind::DataV2 => self.is_compressed = value == TRUE,
                _ => reader.skip(value)?,
            }
            last = id;
        }
        Ok(())
    }

    fn number(&self, field: usize) -> Result<u32> {
        self.fields[field].ok_or_else(|| damaged("the header of a page lacks a number"))
    }

    fn encoding(&self, field: usize) -> Result<Encoding> {
        Ok(match self.number(field)? {
            0 => Encoding::PLAIN,
            2 => Encoding::PLAIN_DICTIONARY,
            3 => Encoding::RLE,
            #[expect(deprecated, reason = "levels of old files are encoded so")]
            4 => Encoding::BIT_PACKED,
            5 => Encoding::DELTA_BINARY_PACKED,
            6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
            7 => Encoding::DELTA_BYTE_ARRAY,
            8 => Encoding::RLE_DICTIONARY,
            9 => Encoding::BYTE_STREAM_SPLIT,
            other => return Err(damaged(&format!("encoding {other} of a page is not known"))),
        })
    }

    /// The page that `bytes` are.
    fn page(&self, kind: Kind, bytes: Vec<u8>, compression: Compression) -> Result<Page> {
        let (uncompressed, num_values) = (self.uncompressed, self.number(1)?);
        Ok(match kind {
            Kind::Dictionary => Page::DictionaryPage {
                buf: decompress(compression, bytes, uncompressed)?.into(),
                num_values,
                encoding: self.encoding(2)?,
                is_sorted: false,
            },
            Kind::Data => Page::DataPage {
                buf: decompress(compression, bytes, uncompressed)?.into(),
                num_values,
                encoding: self.encoding(2)?,
                def_level_encoding: self.encoding(3)?,
                rep_level_encoding: self.encoding(4)?,
                statistics: None,
            },
            Kind::DataV2 => {
                let (def_levels_byte_len, rep_levels_byte_len) = (self.number(5)?, self.number(6)?);
                let levels = u64::from(def_levels_byte_len) + u64::from(rep_levels_byte_len);
                let rest = uncompressed.checked_sub(levels);
                let rest = rest.filter(|_| levels <= bytes.len() as u64);
                let rest = rest.ok_or_else(|| damaged("the levels of a page are longer than the page"))?;
                let mut whole = bytes;
                if self.is_compressed && rest > 0 {
                    let values = decompress(compression, whole.split_off(levels as usize), rest)?;
                    whole.extend_from_slice(&values);
                }
                Page::DataPageV2 {
                    buf: whole.into(),
                    num_values,
                    encoding: self.encoding(4)?,
                    num_nulls: self.number(2)?,
                    num_rows: self.number(3)?,
                    def_levels_byte_len,
                    rep_levels_byte_len,
                    is_compressed: false,
                    statistics: None,
                }
            }
        })
    }
}

/// `bytes` as they were before compression: `length` bytes, which the header claims. Memory is taken as bytes come, or for a claim
/// that `bytes` can fulfil.
fn decompress(compression: Compression, bytes: Vec<u8>, length: u64) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    match compression {
        Compression::UNCOMPRESSED => out = bytes,
        Compression::SNAPPY => {
            let claimed = snap::raw::decompress_len(&bytes).map_err(|error| damaged(&error.to_string()))?;
            if claimed as u64 != length || length > SNAPPY_EXPANSION * (bytes.len() as u64 + 1) {
                return Err(damaged("a page has not the length that its header says"));
            }
            out = snap::raw::Decoder::new()
                .decompress_vec(&bytes)
                .map_err(|error| damaged(&error.to_string()))?;
        }
        Compression::GZIP(_) => {
            flate2::bufread::MultiGzDecoder::new(&bytes[..]).take(length + 1).read_to_end(&mut out)?;
        }
        Compression::ZSTD(_) => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(&bytes[..]);
            let decoder = decoder.map_err(|error| damaged(&error.to_string()))?;
            decoder.take(length + 1).read_to_end(&mut out)?;
        }
        other => return Err(damaged(&format!("{other} is not read"))),
    }
    if out.len() as u64 == length {
        Ok(out)
    } else {
        Err(damaged("a page has not the length that its header says"))
    }
}
