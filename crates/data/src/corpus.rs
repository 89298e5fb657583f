//! What a model learns to imitate: texts of a corpus, and demonstrations of how to answer.
//!
//! | file | holds |
//! |---|---|
//! | `*.txt` | one text, without its byte-order mark |
//! | `*.jsonl` of texts | one object per line, with `text`, or with `token_ids` if the text is tokens already |
//! | `*.bin` | tokens as llm.c's data scripts write them: 256 little-endian i32, of which the first three are 20240520, the version 1 and the number of tokens; then that many u16 |
//! | `*.jsonl` of demonstrations | one object per line, in a shape of [`crate::demonstration`] |

use crate::demonstration::Demonstration;
use crate::error::{DataError, LineError};
use crate::rows::{self, DataFiles};
use koan_files::read_bounded;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::io;
use std::path::Path;

/// The largest `.txt` or `.bin` file, bytes: it is held in memory.
pub const MAX_CORPUS_BYTES: u64 = 4 << 30;

const BIN_MAGIC: i32 = 20_240_520;
const BIN_HEADER_BYTES: usize = 256 * 4;

/// A text to learn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// Its characters.
    Text(String),
    /// Its tokens.
    Tokens(Vec<u32>),
}

/// A row of texts.
#[derive(Deserialize)]
pub(crate) struct TextRow {
    text: Option<String>,
    token_ids: Option<Vec<u32>>,
}

impl Document {
    /// The text of a row.
    pub(crate) fn of(row: Result<TextRow, LineError>) -> Result<Self, LineError> {
        const EXPECTED: &str = "`text`, or `token_ids`";
        match row.map_err(|e| e.expecting(EXPECTED))? {
            TextRow { text: Some(text), token_ids: None } => Ok(Self::Text(text)),
            TextRow { text: None, token_ids: Some(ids) } => Ok(Self::Tokens(ids)),
            _ => Err(LineError::Fields { expected: EXPECTED }),
        }
    }
}

/// Reads the texts of `files`.
///
/// # Errors
/// A file that cannot be read, is too large or has no texts; a row that is not a text.
pub fn read_corpus(files: &DataFiles) -> Result<Vec<Document>, DataError> {
    let mut documents = Vec::new();
    for path in files.paths()? {
        match kind_of(&path) {
            "txt" => {
                let bytes = rows::read_text(&path, MAX_CORPUS_BYTES)?;
                let text = String::from_utf8(bytes).map_err(|e| invalid(&path, e.to_string()))?;
                documents.push(Document::Text(text));
            }
            "bin" => {
                let ids = tokens_of_bin(&read_whole(&path)?).map_err(|e| invalid(&path, e))?;
                documents.push(Document::Tokens(ids));
            }
            _ => rows::read_all(&path.into(), |_, row| {
                documents.push(Document::of(row)?);
                Ok(())
            })?,
        }
    }
    Ok(documents)
}

/// The extension of a file, or that below `.gz` or `.zst`.
fn kind_of(path: &Path) -> &str {
    let path = match path.extension().and_then(|e| e.to_str()) {
        Some("gz" | "zst") => Path::new(path.file_stem().unwrap_or_default()),
        _ => path,
    };
    path.extension().and_then(|e| e.to_str()).unwrap_or_default()
}

/// Reads the demonstrations of `files`.
///
/// # Errors
/// A file that cannot be read or has no demonstrations; a row that is not one.
pub fn read_demonstrations(files: &DataFiles) -> Result<Vec<Demonstration>, DataError> {
    let mut demonstrations = Vec::new();
    rows::read_all(files, |_, row: Result<Map<String, Value>, LineError>| {
        demonstrations.push(Demonstration::of(row.map_err(|e| e.expecting(Demonstration::EXPECTED))?)?);
        Ok(())
    })?;
    Ok(demonstrations)
}

fn read_whole(path: &Path) -> Result<Vec<u8>, DataError> {
    let too_large = || {
        let why = format!("over {MAX_CORPUS_BYTES} bytes; cut it into lines of a .jsonl file");
        io::Error::new(io::ErrorKind::FileTooLarge, why)
    };
    let read = read_bounded(path, MAX_CORPUS_BYTES).and_then(|bytes| bytes.ok_or_else(too_large));
    read.map_err(|source| DataError::Read { path: path.to_owned(), source })
}

fn invalid(path: &Path, why: String) -> DataError {
    DataError::Read { path: path.to_owned(), source: io::Error::new(io::ErrorKind::InvalidData, why) }
}

fn tokens_of_bin(bytes: &[u8]) -> Result<Vec<u32>, String> {
    let (header, tokens) =
        bytes.split_at_checked(BIN_HEADER_BYTES).ok_or("shorter than its header of 1024 bytes")?;
    let number = |i: usize| i32::from_le_bytes(header[4 * i..][..4].try_into().expect("four bytes"));
    if (number(0), number(1)) != (BIN_MAGIC, 1) {
        return Err(format!("begins with {}, {}; expected {BIN_MAGIC}, 1", number(0), number(1)));
    }
    if usize::try_from(number(2)).ok() != Some(tokens.len() / 2) || tokens.len() % 2 != 0 {
        return Err(format!(
            "its header says {} tokens, {} bytes of them are there",
            number(2),
            tokens.len()
        ));
    }
    Ok(tokens.as_chunks::<2>().0.iter().map(|&pair| u32::from(u16::from_le_bytes(pair))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn at(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> DataFiles {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("written");
        path.into()
    }

    #[test]
    fn texts_are_read_from_every_kind_of_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = read_corpus(&at(&folder, "a.txt", b"one\ntwo\n")).expect("a text");
        assert_eq!(text, [Document::Text("one\ntwo\n".into())]);
        let lines = b"{\"text\": \"one\", \"url\": \"u\"}\n\n{\"token_ids\": [7, 9]}\n";
        let texts = read_corpus(&at(&folder, "a.jsonl", lines)).expect("texts");
        assert_eq!(texts, [Document::Text("one".into()), Document::Tokens(vec![7, 9])]);
        let mut bin = vec![0; BIN_HEADER_BYTES];
        for (i, number) in [BIN_MAGIC, 1, 2].into_iter().enumerate() {
            bin[4 * i..][..4].copy_from_slice(&number.to_le_bytes());
        }
        bin.extend([5, 0, 1, 1]);
        assert_eq!(
            read_corpus(&at(&folder, "a.bin", &bin)).expect("tokens"),
            [Document::Tokens(vec![5, 257])]
        );
        bin.push(0);
        for (name, bytes) in
            [("b.bin", &bin[..]), ("c.bin", &[1, 2]), ("d.bin", &[0; 1024]), ("b.txt", &[0xff])]
        {
            assert!(read_corpus(&at(&folder, name, bytes)).is_err(), "{name}");
        }
    }

    #[test]
    fn demonstrations_are_read_in_both_forms() {
        let folder = tempfile::tempdir().expect("a folder");
        let lines = concat!(
            "{\"prompt\": \"1 + 1?\", \"completion\": \"2\"}\n",
            "{\"messages\": [{\"role\": \"user\", \"content\": \"1 + 1?\"}, {\"role\": \"assistant\", \"content\": \"2\"}]}\n",
        );
        let read = read_demonstrations(&at(&folder, "a.jsonl", lines.as_bytes())).expect("two");
        assert_eq!(read[0], read[1]);
        assert_eq!(read[0].messages[1].content, "2");
    }

    #[test]
    fn lines_that_are_neither_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        for line in ["{}", "{\"text\": 1}", "{\"text\": \"a\", \"token_ids\": []}", "{"] {
            let path = at(&folder, "a.jsonl", line.as_bytes());
            let error = read_corpus(&path).expect_err(line).to_string();
            assert!(
                error.contains("a.jsonl:1: ")
                    && (error.contains("`token_ids`") || error.contains("`text` is")),
                "{error}"
            );
            let error = read_demonstrations(&path).expect_err(line).to_string();
            assert!(error.contains("a.jsonl:1: ") && error.contains("`completion`"), "{error}");
        }
        let user_last = "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}, {\"role\": \"user\", \"content\": \"b\"}]}";
        assert!(read_demonstrations(&at(&folder, "b.jsonl", user_last.as_bytes())).is_err());
        assert!(matches!(read_corpus(&at(&folder, "c.jsonl", b"\n")), Err(DataError::Empty { .. })));
    }
}
