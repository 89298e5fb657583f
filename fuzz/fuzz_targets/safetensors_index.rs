//! An index of shards may hold any bytes: it names files beside it, or is refused, and none outside is opened.
#![no_main]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use koan_fuzz::{CONFIG, scratch};
use koan_model::{
    Config,
    checkpoint::Weights,
    safetensors_file::{self, Entry, FileError},
};
use libfuzzer_sys::fuzz_target;

static MODEL: LazyLock<(Config, [PathBuf; 2])> = LazyLock::new(|| prepare().expect("a model in two shards"));

/// Directory `split` has the model in shards `a` and `b`. Directory `bare` has none of it, and the whole lies beside:
/// an index that opens there has led outside.
fn prepare() -> Result<(Config, [PathBuf; 2]), Box<dyn std::error::Error>> {
    let dir = scratch("index");
    let dirs = ["bare", "split"].map(|name| dir.join(name));
    for dir in &dirs {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("config.json"), CONFIG)?;
    }
    let config = Config::load(&dirs[0])?;
    let entries: Vec<Entry> = config.tensors().into_iter().flat_map(|info| info.entries).collect();
    let (first, second) = entries.split_at(entries.len() / 2);
    shard(&dirs[1].join("a"), first)?;
    shard(&dirs[1].join("b"), second)?;
    shard(&dir.join("whole"), &entries)?;
    Ok((config, dirs))
}

fn shard(path: &Path, entries: &[Entry]) -> Result<String, FileError> {
    safetensors_file::write(path, entries, |i| Ok(vec![1.0; entries[i].len()]))
}

fuzz_target!(|bytes: &[u8]| {
    let (config, dirs) = &*MODEL;
    let [bare, split] = dirs.each_ref().map(|dir| {
        fs::write(dir.join("model.safetensors.index.json"), bytes).expect("an index");
        Weights::open(dir, config)
    });
    assert!(bare.is_err(), "a shard outside of the directory was opened");
    if let Ok(weights) = split {
        for info in config.tensors() {
            assert_eq!(weights.read(&info).expect("a whole shard").len(), info.len());
        }
    }
});
