//! Parquet files: every type, in every compression, whole and damaged. `parquet/make.py` made them.

use koan_data::rows::Rows;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet").join(name)
}

/// The rows of a file as text, or the error it ends with.
fn read(path: &Path) -> Result<Vec<String>, String> {
    let rows = Rows::open(path).map_err(|error| error.to_string())?;
    let text = |row: Result<_, koan_data::DataError>| {
        let (_, json): koan_data::rows::Row = row.map_err(|error| error.to_string())?;
        Ok(String::from_utf8(json.map_err(|error| error.to_string())?).expect("UTF-8"))
    };
    rows.map(text).collect()
}

#[test]
fn every_type_is_read_exactly_in_every_compression() {
    let full = json!({
        "text": "½ \"数\"\n", "kind": "x", "long": -9_007_199_254_740_993_i64, "unsigned": u64::MAX, "small": -3,
        "flag": true, "single": 0.1, "double": null, "price": "-12345678901234567.125", "day": "2024-02-29",
        "clock": "13:05:00.250", "micros": "2024-11-02T00:00:00", "nanos": "2024-11-02T00:00:00.123456789Z",
        "raw": {"base64": "AP8="}, "name": "plain", "tags": ["a", null, ""], "deep": [[1], [], null],
        "map": {"k": 1, "l": null}, "by_number": [{"key": 7, "value": "seven"}],
        "messages": [{"content": "Hi?", "role": "user"}, {"content": "Hello!", "role": "assistant"}],
        "nested": {"a": {"b": [true, null]}, "n": 5},
    });
    for name in ["none", "snappy", "gzip", "zstd", "zstd-v2"] {
        let rows = read(&file(&format!("{name}.parquet"))).expect(name);
        let rows: Vec<Value> = rows.iter().map(|row| serde_json::from_str(row).expect("JSON")).collect();
        assert_eq!((rows.len(), &rows[0], &rows[3]), (4, &full, &full), "{name}");
        assert!(rows[1].as_object().expect("an object").values().all(Value::is_null), "{name}: {}", rows[1]);
        let empty = json!({"tags": [], "deep": [], "map": {}, "messages": [], "nested": {"a": null, "n": null}, "text": ""});
        for (field, value) in empty.as_object().expect("an object") {
            assert_eq!(&rows[2][field], value, "{name}: {field}");
        }
        assert!(rows[2]["long"].is_null() && rows[2].get("__index_level_0__").is_none());
    }
}

#[test]
fn what_is_not_read_is_named() {
    let error = read(&file("lz4.parquet")).expect_err("LZ4");
    assert!(
        error.contains("lz4.parquet, after 0 rows: column ") && error.contains("compressed by LZ4"),
        "{error}"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pipe.gz");
    let mut gz =
        flate2::write::GzEncoder::new(fs::File::create(&path).expect("made"), flate2::Compression::fast());
    std::io::copy(&mut &fs::read(file("none.parquet")).expect("there")[..], &mut gz).expect("written");
    gz.finish().expect("written");
    assert!(read(&path).expect_err("twice").contains("Parquet in a compressed file"));
}

#[test]
fn a_file_that_is_cut_anywhere_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = fs::read(file("snappy.parquet")).expect("there");
    for cut in (4..whole.len()).step_by(7).chain(whole.len() - 100..whole.len()) {
        let path = folder.path().join("cut.parquet");
        fs::write(&path, &whole[..cut]).expect("written");
        assert!(read(&path).is_err(), "{cut} of {}", whole.len());
    }
}

#[test]
fn damaged_bytes_are_errors_or_other_rows_and_never_a_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut errors = 0;
    for name in ["none", "zstd-v2"] {
        let whole = fs::read(file(&format!("{name}.parquet"))).expect("there");
        for at in (4..whole.len() - 8).step_by(11) {
            for value in [whole[at] ^ 1 << (at % 8), 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let path = folder.path().join("damaged.parquet");
                fs::write(&path, &bytes).expect("written");
                match read(&path) {
                    Ok(rows) => rows.iter().for_each(|row| {
                        assert!(serde_json::from_str::<Value>(row).is_ok(), "{name} at {at}: {row}");
                    }),
                    Err(error) => {
                        assert!(error.contains("damaged.parquet, after "), "{name} at {at}: {error}");
                        errors += 1;
                    }
                }
            }
        }
    }
    assert!(errors > 300, "{errors}");
}
