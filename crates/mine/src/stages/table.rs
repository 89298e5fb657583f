//! Documents as Parquet.

use std::{path::Path, sync::Arc};

use koan_files::FilesError;
use parquet::{
    basic::Compression,
    column::writer::ColumnWriter,
    data_type::ByteArray,
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::{parser::parse_message_type, types::Type},
};

use super::manifest::{Made, Output};
use crate::{Document, MineError};

/// Bytes of text in a row group.
const GROUP: usize = 32 << 20;

const SCHEMA: &str = "message document {
    required binary url (STRING);
    required binary title (STRING);
    required binary text (STRING);
    required binary language (STRING);
    optional float score;
    required binary domain (STRING);
    required int32 formulas;
    required binary source_file (STRING);
    required int64 source_offset;
    required binary source_digest (STRING);
}";

/// A file being written.
pub(super) struct Table {
    writer: SerializedFileWriter<Vec<u8>>,
    out: Output,
    path: std::path::PathBuf,
    rows: Vec<Document>,
    bytes: usize,
}

impl Table {
    pub(super) fn create(folder: &Path, name: &str) -> Result<Self, MineError> {
        let path = folder.join(name);
        let failed = failed(&path);
        let schema: Arc<Type> = Arc::new(parse_message_type(SCHEMA).map_err(&failed)?);
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by("koan".to_owned())
            .build();
        let writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).map_err(&failed)?;
        Ok(Self { writer, out: Output::create(folder, name)?, path, rows: Vec::new(), bytes: 0 })
    }

    pub(super) fn push(&mut self, document: Document) -> Result<(), MineError> {
        self.bytes += document.text.len();
        self.rows.push(document);
        if self.bytes >= GROUP { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), MineError> {
        let failed = failed(&self.path);
        write_group(&mut self.writer, &self.rows).map_err(failed)?;
        self.rows.clear();
        self.bytes = 0;
        let packed = std::mem::take(self.writer.inner_mut());
        self.out.write_all(&packed)
    }

    pub(super) fn finish(mut self) -> Result<Made, MineError> {
        if !self.rows.is_empty() {
            self.flush()?;
        }
        let failed = failed(&self.path);
        let rest = self.writer.into_inner().map_err(failed)?;
        self.out.write_all(&rest)?;
        self.out.finish()
    }
}

fn failed(path: &Path) -> impl Fn(ParquetError) -> MineError + use<> {
    let path = path.to_owned();
    move |error| FilesError::io("write", &path)(std::io::Error::other(error)).into()
}

fn write_group(writer: &mut SerializedFileWriter<Vec<u8>>, rows: &[Document]) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    let texts: [fn(&Document) -> &str; 7] = [
        |row| &row.url,
        |row| &row.title,
        |row| &row.text,
        |row| &row.language,
        |row| &row.domain,
        |row| &row.source.file,
        |row| &row.source.digest,
    ];
    let mut texts = texts.iter();
    while let Some(mut column) = group.next_column()? {
        match column.untyped() {
            ColumnWriter::ByteArrayColumnWriter(typed) => {
                let text = texts.next().expect("a function a column of text");
                let values: Vec<ByteArray> = rows.iter().map(|row| ByteArray::from(text(row))).collect();
                typed.write_batch(&values, None, None)?;
            }
            ColumnWriter::FloatColumnWriter(typed) => {
                let values: Vec<f32> = rows.iter().filter_map(|row| row.score).collect();
                let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.score.is_some())).collect();
                typed.write_batch(&values, Some(&levels), None)?;
            }
            ColumnWriter::Int32ColumnWriter(typed) => {
                let values: Vec<i32> = rows.iter().map(|row| row.formulas as i32).collect();
                typed.write_batch(&values, None, None)?;
            }
            ColumnWriter::Int64ColumnWriter(typed) => {
                let values: Vec<i64> = rows.iter().map(|row| row.source.offset as i64).collect();
                typed.write_batch(&values, None, None)?;
            }
            _ => unreachable!("the schema has no other column"),
        }
        column.close()?;
    }
    group.close()?;
    Ok(())
}
