//! Event files for TensorBoard: every number of metrics.jsonl, as scalars.
//!
//! A file is a row of records (TFRecord, all integers little-endian):
//!
//! ```text
//! u64  length of the event
//! u32  masked CRC of those eight bytes
//!      the event
//! u32  masked CRC of the event
//! ```
//!
//! The CRC is CRC-32C (Castagnoli; RFC 3720, appendix B.4), masked as `rotate_right(crc, 15) + 0xa282ead8`. An event is a
//! protocol buffer (tensorflow/core/util/event.proto), of which these fields are needed:
//!
//! ```text
//! Event    1 wall_time: double   2 step: int64   3 file_version: string   5 summary: Summary
//! Summary  1 value: Value, repeated
//! Value    1 tag: string         2 simple_value: float
//! ```
//!
//! The file is a function of metrics.jsonl: a run that is resumed forgets some steps, and writes it anew. A file's name has
//! the second in which the run began, then a number that grows with each resumption, so that a TensorBoard that is already
//! open notices. Wall times are that second and the seconds of steps since, so pauses do not show.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::SystemTime,
};

use koan_files::{FilesError, read_text};
use serde_json::Value;

/// What a file's name begins with; TensorBoard looks for `tfevents`.
const PREFIX: &str = "events.out.tfevents.";

/// The event file of a run.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
    /// The wall time of the last event.
    wall_time: f64,
}

impl EventFile {
    /// Whether the run at `run` has event files.
    pub fn exists(run: &Path) -> bool {
        run.join("tensorboard").exists()
    }

    /// Writes the event file of the run at `run` from its metrics.jsonl, in place of the one it had.
    ///
    /// # Errors
    /// If metrics.jsonl can't be read, or the file can't be written.
    pub fn rebuild(run: &Path) -> Result<Self, FilesError> {
        let dir = run.join("tensorboard");
        fs::create_dir_all(&dir).map_err(FilesError::io("create", &dir))?;
        let mut old: Vec<(u64, u64)> = fs::read_dir(&dir)
            .and_then(|entries| entries.map(|e| Ok(parse_name(&e?.file_name().to_string_lossy()))).collect())
            .map(|names: Vec<Option<(u64, u64)>>| names.into_iter().flatten().collect())
            .map_err(FilesError::io("read", &dir))?;
        old.sort_unstable();
        let now =
            || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (start, part) = old.last().map_or_else(|| (now(), 0), |(start, part)| (*start, part + 1));
        let path = dir.join(name(start, part));
        let metrics = run.join("metrics.jsonl");
        let text = read_text(&metrics).map_err(FilesError::io("read", &metrics))?;
        let file = File::create(&path).map_err(FilesError::io("create", &path))?;
        let mut events = Self { path, file, wall_time: start as f64 };
        let mut bytes = record(&version(events.wall_time));
        for line in text.lines() {
            bytes.extend(events.event(line.as_bytes()));
        }
        events.write(&bytes)?;
        for (start, part) in old {
            let path = dir.join(name(start, part));
            fs::remove_file(&path).map_err(FilesError::io("remove", &path))?;
        }
        Ok(events)
    }

    /// Adds the numbers of a line of metrics.jsonl.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn add(&mut self, line: &[u8]) -> Result<(), FilesError> {
        let bytes = self.event(line);
        self.write(&bytes)
    }

    /// The record of a line; nothing, if it is no step.
    fn event(&mut self, line: &[u8]) -> Vec<u8> {
        let Ok(metrics) = serde_json::from_slice::<Value>(line) else { return Vec::new() };
        let Some(step) = metrics["step"].as_u64() else { return Vec::new() };
        self.wall_time += metrics["step_s"].as_f64().unwrap_or(0.0);
        record(&scalars(self.wall_time, step, &metrics))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), FilesError> {
        self.file.write_all(bytes).map_err(FilesError::io("write", &self.path))
    }
}

fn name(start: u64, part: u64) -> String {
    format!("{PREFIX}{start:010}.koan.{part:04}")
}

fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (start, part) = name.strip_prefix(PREFIX)?.split_once(".koan.")?;
    Some((start.parse().ok()?, part.parse().ok()?))
}

/// The first event of every file.
fn version(wall_time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    put_double(&mut event, 1, wall_time);
    put_bytes(&mut event, 3, b"brain.Event:2");
    event
}

/// An event with every number of a line of metrics: `outer/inner` where one is nested.
fn scalars(wall_time: f64, step: u64, metrics: &Value) -> Vec<u8> {
    let mut summary = Vec::new();
    let mut put = |tag: &str, value: f64| {
        let mut scalar = Vec::new();
        put_bytes(&mut scalar, 1, tag.as_bytes());
        put_float(&mut scalar, 2, value as f32);
        put_bytes(&mut summary, 1, &scalar);
    };
    for (key, value) in metrics.as_object().into_iter().flatten().filter(|(key, _)| *key != "step") {
        if let Some(number) = value.as_f64() {
            put(key, number);
        }
        for (inner, value) in value.as_object().into_iter().flatten() {
            if let Some(number) = value.as_f64() {
                put(&format!("{key}/{inner}"), number);
            }
        }
    }
    let mut event = Vec::new();
    put_double(&mut event, 1, wall_time);
    put_varint(&mut event, 2 << 3);
    put_varint(&mut event, step);
    put_bytes(&mut event, 5, &summary);
    event
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_double(out: &mut Vec<u8>, field: u64, value: f64) {
    put_varint(out, field << 3 | 1);
    out.extend(value.to_le_bytes());
}

fn put_float(out: &mut Vec<u8>, field: u64, value: f32) {
    put_varint(out, field << 3 | 5);
    out.extend(value.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// An event as it lies in a file.
fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length, &masked_crc(&length).to_le_bytes()[..], event, &masked_crc(event).to_le_bytes()].concat()
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C, a byte at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !bytes.iter().fold(!0, |crc, &byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(byte)) & 0xff) as usize])
}

const fn table() -> [u32; 256] {
    /// Castagnoli's polynomial, its bits reversed.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (mut crc, mut bit) = (i as u32, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    }

    #[test]
    fn the_check_value_of_the_crc() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa, "RFC 3720, appendix B.4");
    }

    /// The bytes that TensorBoard 2.21 writes for the same events.
    #[test]
    fn records_are_those_of_tensorboard() {
        let first = "1800000000000000a37f4b2209000000f05c48da411a0d627261696e2e4576656e743a3263b4d1d0";
        assert_eq!(hex(&record(&version(1_763_800_000.0))), first);
        let line = serde_json::json!({"step": 300, "eval": {"low": -1e-3, "name": "x"}, "reward": 0.25, "list": [1]});
        let second = "2e00000000000000c5cb57fa09000060f15c48da4110ac022a20\
                      0a0f0a086576616c2f6c6f77156f1283ba0a0d0a06726577617264150000803e";
        let found = hex(&record(&scalars(1_763_800_005.5, 300, &line)));
        assert_eq!(found[..second.len()], *second);
    }

    #[test]
    fn the_file_is_a_function_of_the_metrics() {
        let run = tempfile::tempdir().expect("a folder");
        let metrics = run.path().join("metrics.jsonl");
        let lines =
            ["{\"step\":0}\n", "{\"step\":1,\"step_s\":2.5,\"loss\":1}\n", "{\"step\":2,\"step_s\":2}\n"];
        let files = || -> Vec<(String, Vec<u8>)> {
            let entries = fs::read_dir(run.path().join("tensorboard")).expect("a folder");
            let file = |entry: std::io::Result<fs::DirEntry>| {
                let path = entry.expect("a file").path();
                (path.file_name().expect("a name").to_string_lossy().into(), fs::read(path).expect("read"))
            };
            entries.map(file).collect()
        };
        fs::write(&metrics, "").expect("written");
        let mut grown = EventFile::rebuild(run.path()).expect("written");
        for line in lines {
            grown.add(line.as_bytes()).expect("written");
        }
        grown.add(b"half a li").expect("passed over");
        let before = files();
        fs::write(&metrics, lines.concat() + "half a li").expect("written");
        EventFile::rebuild(run.path()).expect("written");
        let after = files();
        assert_eq!((before.len(), after.len(), &before[0].1), (1, 1, &after[0].1));
        assert!(before[0].0.ends_with(".koan.0000") && after[0].0.ends_with(".koan.0001"), "{after:?}");
        fs::write(&metrics, lines[..2].concat()).expect("written");
        EventFile::rebuild(run.path()).expect("written");
        let shorter = files();
        assert!(shorter.len() == 1 && before[0].1.starts_with(&shorter[0].1));
        assert!(shorter[0].1.len() < before[0].1.len());
    }
}
