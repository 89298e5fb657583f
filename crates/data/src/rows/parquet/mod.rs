//! Rows of Parquet files as JSON.
//!
//! The crate `parquet` reads schemas, encodings and nested records. Pages are read here (`pages`), for two reasons: their
//! sizes are claims of the file and must be bounded before memory is taken for them, and zstd is decompressed without C.
//! What the crate would take memory or stack for by a claim of the footer is checked first (`thrift`). Where a file's bytes make
//! the crate panic, that is an error of the file.

mod field;
mod pages;
mod thrift;

use koan_files::jsonl::LineError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::record::reader::{ReaderIter, TreeBuilder};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Once};

/// Largest footer, bytes: it holds the schema, and where each piece of each column is.
const MAX_FOOTER_BYTES: u64 = 64 << 20;
/// Values that a column hands over at a time.
const BATCH: usize = 64;

/// The rows of a file.
pub(super) struct Rows {
    file: Arc<File>,
    metadata: ParquetMetaData,
    group: usize,
    records: Option<ReaderIter>,
    limit: usize,
    /// Bytes of JSON that may still come.
    left: u64,
}

impl Rows {
    /// The rows of `file`, each of at most `limit` bytes.
    pub(super) fn open(mut file: File, limit: usize) -> Result<Self, String> {
        check_footer(&mut file)?;
        let left = super::input::expansion_limit(&file);
        let read = || ParquetMetaDataReader::new().parse_and_finish(&file).map_err(|error| error.to_string());
        let metadata = quietly(read)?;
        Ok(Self { file: Arc::new(file), metadata, group: 0, records: None, limit, left })
    }

    fn read(&mut self) -> Result<Option<Result<Vec<u8>, LineError>>, String> {
        loop {
            if let Some(row) = self.records.as_mut().and_then(Iterator::next) {
                let row = row.map_err(|error| error.to_string())?;
                let mut json = Vec::new();
                field::write_row(&mut json, &row, self.metadata.file_metadata().schema())?;
                self.left =
                    self.left.checked_sub(json.len() as u64).ok_or("its rows are too many for its size")?;
                return Ok(Some(if json.len() > self.limit { Err(LineError::TooLong) } else { Ok(json) }));
            }
            if self.group == self.metadata.num_row_groups() {
                return Ok(None);
            }
            let group = pages::Group::new(&self.file, self.metadata.row_group(self.group))?;
            let schema = self.metadata.file_metadata().schema_descr_ptr();
            let rows = TreeBuilder::new().with_batch_size(BATCH).as_iter(schema, &group);
            self.records = Some(rows.map_err(|error| error.to_string())?);
            self.group += 1;
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Result<Vec<u8>, LineError>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        quietly(|| self.read()).transpose()
    }
}

/// Checks the footer for claims that cost more than the bytes they are made with.
fn check_footer(file: &mut File) -> Result<(), String> {
    let io = |error: std::io::Error| error.to_string();
    let end = file.seek(SeekFrom::End(0)).map_err(io)?;
    let mut tail = [0; 8];
    if end < 12 {
        return Err("it is too short for Parquet: it is cut".to_owned());
    }
    file.seek(SeekFrom::Start(end - 8)).and_then(|_| file.read_exact(&mut tail)).map_err(io)?;
    match &tail[4..] {
        b"PAR1" => {}
        b"PARE" => return Err("its footer is encrypted; write it without encryption".to_owned()),
        _ => return Err("it does not end as Parquet does: it is cut".to_owned()),
    }
    let length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if length > end - 12 {
        return Err("its footer is longer than the file".to_owned());
    }
    if length > MAX_FOOTER_BYTES {
        return Err(format!("its footer is longer than {MAX_FOOTER_BYTES} bytes"));
    }
    let mut footer = vec![0; length as usize];
    file.seek(SeekFrom::Start(end - 8 - length)).and_then(|_| file.read_exact(&mut footer)).map_err(io)?;
    thrift::check_footer(&footer)
}

thread_local! {
    /// Whether a panic on this thread is an error of a file, and is not to be reported as one of ours.
    static IS_QUIET: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// What `read` returns; a panic in it is an error: the crate `parquet` asserts what damaged files do not hold.
fn quietly<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                usual(info);
            }
        }));
    });
    IS_QUIET.set(true);
    let read = panic::catch_unwind(AssertUnwindSafe(read));
    IS_QUIET.set(false);
    read.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
        Err(format!("its columns contradict one another ({})", said.unwrap_or_default()))
    })
}
