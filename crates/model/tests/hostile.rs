//! Files that mean harm: whatever their bytes, an error or a model, and no panic; nothing outside of the directory is read.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use koan_model::{Config, checkpoint, checkpoint::Weights, safetensors_file::Reader, testkit};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A safetensors file of this header and so many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0x3c);
    bytes
}

fn open(folder: &Path, bytes: &[u8]) -> Result<Reader, String> {
    let path = folder.join("model.safetensors");
    fs::write(&path, bytes).expect("written");
    Reader::open(&path).map_err(|e| {
        let error =
            format!("{e}: {}", std::error::Error::source(&e).map_or(String::new(), ToString::to_string));
        assert!(error.contains("model.safetensors"), "{error}");
        error
    })
}

/// The tiny model's directory. Made once and copied: to make one is to wait for the disk.
fn model(folder: &Path) -> PathBuf {
    static FILES: LazyLock<Vec<(OsString, Vec<u8>)>> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("model");
        testkit::write_model(&dir, 3).expect("written");
        let files = fs::read_dir(dir).expect("there").map(|file| file.expect("a file"));
        files.map(|file| (file.file_name(), fs::read(file.path()).expect("there"))).collect()
    });
    let dir = folder.join("model");
    fs::create_dir(&dir).expect("a directory");
    FILES.iter().for_each(|(name, bytes)| fs::write(dir.join(name), bytes).expect("written"));
    dir
}

/// The tiny model's directory, its weights taken out, with an index that names one shard.
fn indexed(folder: &Path, shard: &str) -> PathBuf {
    let dir = model(folder);
    fs::remove_file(dir.join("model.safetensors")).expect("removed");
    let index = json!({"weight_map": {"model.norm.weight": shard}});
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).expect("written");
    dir
}

fn refused(dir: &Path) -> String {
    let error = checkpoint::load(&koan_backend::Reference, dir, Some(4)).err().expect("refused");
    format!("{error}: {}", std::error::Error::source(&error).map_or(String::new(), ToString::to_string))
}

fn entry(dtype: &str, shape: Value, start: u64, end: u64) -> Value {
    json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]})
}

#[test]
fn headers_that_lie_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let f32s = |start: u64, end: u64| entry("F32", json!([(end - start) / 4]), start, end);
    for (header, data) in [
        (json!({"a": f32s(0, 8), "b": f32s(4, 12)}), 12),  // overlap
        (json!({"a": f32s(0, 8), "b": f32s(12, 16)}), 16), // a gap
        (json!({"a": f32s(4, 8)}), 8),                     // starts late
        (json!({"a": f32s(0, 8)}), 12),                    // more data than tensors
        (json!({"a": entry("F32", json!([3]), 0, 8)}), 8), // shape and bytes differ
        (json!({"a": entry("F32", json!([1u64 << 62, 8]), 0, 8)}), 8), // overflow
        (json!({"a": entry("F32", json!([u64::MAX, u64::MAX]), 0, 8)}), 8),
        (json!({"a": entry("F32", json!([2]), 8, 0)}), 8), // backwards
        (json!({"a": entry("F32", json!([-2]), 0, 8)}), 8),
        (json!({"a": entry("Q9", json!([2]), 0, 8)}), 8),
        (json!({"a": 3}), 8),
        (json!([1]), 8),
    ] {
        let error = open(folder.path(), &file(&header.to_string(), data)).err();
        assert!(error.as_ref().is_some_and(|e| e.contains("damaged")), "{header}: {error:?}");
    }
    for (bytes, wanted) in [
        (
            file(&json!({"a": entry("F32", json!([u32::MAX]), 0, 4 * u64::from(u32::MAX))}).to_string(), 8),
            "truncated",
        ),
        (file("{\"a\": \u{fffd}", 0), "damaged"),
        ([&3u64.to_le_bytes()[..], &[0xff, 0xfe, 0xfd]].concat(), "damaged"),
        (file(&"[".repeat(100_000), 0), "damaged"),
        ((1u64 << 40).to_le_bytes().to_vec(), "damaged"),
        ((1u64 << 24).to_le_bytes().to_vec(), "truncated"),
        ((1u64 << 24 | 1).to_le_bytes().to_vec(), "damaged"),
        (Vec::new(), "truncated"),
    ] {
        let error = open(folder.path(), &bytes).err();
        assert!(error.as_ref().is_some_and(|e| e.contains(wanted)), "{wanted}: {error:?}");
    }
    assert!(Reader::open(folder.path()).is_err(), "a directory is no file");
}

#[test]
fn tensors_of_other_types_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = model(folder.path());
    let config = Config::load(&dir).expect("a config");
    let path = dir.join("model.safetensors");
    let bytes = fs::read(&path).expect("there");
    let text = String::from_utf8_lossy(&bytes).replacen("\"dtype\":\"F32\"", "\"dtype\":\"I32\"", 1);
    assert_eq!(text.len(), String::from_utf8_lossy(&bytes).len());
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    let mut changed = bytes.clone();
    changed[8..8 + length].copy_from_slice(&text.as_bytes()[text.find('{').expect("a header")..][..length]);
    fs::write(&path, &changed).expect("written");
    let error = Weights::open(&dir, &config).err().expect("refused").to_string();
    assert!(error.contains("is stored as I32") && error.contains("supported: F32, BF16, F16"), "{error}");
}

#[test]
fn missing_shards_and_shards_that_are_none_are_named() {
    for (shard, wanted) in [
        ("a.safetensors", "cannot open"),
        ("model.safetensors.index.json", "damaged"),
        ("..", "not the name of a file beside it"),
        ("../model", "not the name of a file beside it"),
        ("", "not the name of a file beside it"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let error = refused(&indexed(folder.path(), shard));
        assert!(
            error.contains(wanted)
                && error.contains("model.safetensors.index.json") == (wanted != "cannot open"),
            "{shard}: {error}"
        );
    }
}

#[cfg(unix)]
#[test]
fn links_that_lead_in_circles_or_to_devices_end() {
    use std::os::unix::fs::symlink;
    for (target, wanted) in
        [("a", "symbolic links"), ("b", "symbolic links"), (".", "regular"), ("/dev/zero", "regular")]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = indexed(folder.path(), "a");
        symlink(target, dir.join("a")).expect("a link");
        symlink("a", dir.join("b")).expect("a link");
        let error = refused(&dir);
        assert!(error.contains(wanted), "{target}: {error}");
    }
    for name in ["model.safetensors.index.json", "config.json", "generation_config.json"] {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = indexed(folder.path(), "a");
        let _ = fs::remove_file(dir.join(name));
        symlink("/dev/zero", dir.join(name)).expect("a link");
        let error = refused(&dir);
        assert!(error.contains(name) && error.contains("it is a device"), "{error}");
    }
}

#[test]
fn a_file_cut_short_while_it_is_read_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = model(folder.path());
    let config = Config::load(&dir).expect("a config");
    let weights = Weights::open(&dir, &config).expect("weights");
    let infos = config.tensors();
    assert!(weights.read(&infos[0]).is_ok());
    fs::OpenOptions::new()
        .write(true)
        .open(dir.join("model.safetensors"))
        .and_then(|f| f.set_len(100))
        .expect("cut");
    let error = weights.read(&infos[0]).expect_err("refused");
    assert!(format!("{error:?}").contains("cut short"), "{error:?}");
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..64, any::<u64>(), Just(u64::MAX), Just(1 << 63), Just(1 << 32)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_header_makes_a_panic(
        tensors in prop::collection::vec(
            ("[a-c]{1,2}", prop::sample::select(vec!["F32", "BF16", "F16", "F4", "I64", "BOOL", "X"]),
             prop::collection::vec(number(), 0..4), number(), number()), 0..4),
        data in 0usize..64,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let header: serde_json::Map<String, Value> = tensors.into_iter()
            .map(|(name, dtype, shape, start, end)| (name, entry(dtype, json!(shape), start, end)))
            .collect();
        let _ = open(folder.path(), &file(&Value::Object(header).to_string(), data));
    }

    #[test]
    fn no_changed_bytes_make_a_panic(
        edits in prop::collection::vec((0usize..2048, any::<u8>()), 1..8),
        cut in prop::option::of(0usize..4096),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = model(folder.path());
        let path = dir.join("model.safetensors");
        let mut bytes = fs::read(&path).expect("there");
        for (at, value) in edits {
            bytes[at] = value;
        }
        bytes.truncate(cut.unwrap_or(bytes.len()));
        fs::write(&path, &bytes).expect("written");
        let _ = checkpoint::load(&koan_backend::Reference, &dir, Some(4));
    }

    #[test]
    fn no_bytes_of_an_index_or_a_config_make_a_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
        name in prop::sample::select(vec!["model.safetensors.index.json", "config.json"]),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = indexed(folder.path(), "model.safetensors");
        let mut bytes = fs::read(dir.join(name)).expect("there");
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.map_or(bytes.len(), |at| at.index(bytes.len())));
        fs::write(dir.join(name), bytes).expect("written");
        prop_assert!(checkpoint::load(&koan_backend::Reference, &dir, Some(4)).is_err());
    }

    #[test]
    fn no_index_reaches_out_of_its_directory(
        names in prop::collection::vec(prop_oneof![
            "[a-z./\\\\]{0,12}",
            prop::sample::select(vec!["../secret.safetensors", "/etc/passwd", ".", "..", "a/../../secret.safetensors",
                                      "model\u{0}.safetensors", "é"]).prop_map(str::to_owned),
        ], 1..5),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = model(folder.path());
        // A whole model lies outside: an index that reached it would load.
        fs::rename(dir.join("model.safetensors"), folder.path().join("secret.safetensors")).expect("moved");
        let config = Config::load(&dir).expect("a config");
        let map: serde_json::Map<String, Value> =
            names.iter().enumerate().map(|(i, name)| (i.to_string(), name.as_str().into())).collect();
        fs::write(dir.join("model.safetensors.index.json"), json!({"weight_map": map}).to_string()).expect("written");
        prop_assert!(Weights::open(&dir, &config).is_err());
    }
}
