//! Hugging Face model directories: `config.json`, weights in safetensors (one file, or shards with an index), and the
//! tokenizer's files, which are carried along.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use koan_backend::Backend;
use serde_json::Value;

use crate::{
    Config, ConfigError, Model, Param, TensorInfo,
    safetensors_file::{self, FileError, Reader},
};

/// Files of a model directory besides weights and config, copied as they stand when a model is saved.
const CARRIED: [&str; 8] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "LICENSE",
];
/// Largest index of shards read, bytes.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// Why a model could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The config was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A weights file was refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// No weights lie in the directory.
    #[error("no model.safetensors and no model.safetensors.index.json in `{}`", path.display())]
    NoWeights {
        /// The directory.
        path: PathBuf,
    },
    /// The index of shards is not one.
    #[error("`{}` is not an index of shards: {what}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A tensor that the model has no use for.
    #[error("unexpected tensor `{name}` in `{}`: the weights are of another model than config.json", path.display())]
    Unexpected {
        /// The tensor.
        name: String,
        /// The directory.
        path: PathBuf,
    },
    /// A tensor holds a number that is not finite.
    #[error("tensor `{name}` in `{}` holds NaN or infinity", path.display())]
    NotFinite {
        /// The tensor.
        name: String,
        /// The directory.
        path: PathBuf,
    },
    /// More positions are needed than are computed.
    #[error("{asked} tokens a sequence, but `{}` reaches {max} (the lesser of max_position_embeddings and sliding_window in its config)", path.display())]
    Positions {
        /// What was asked.
        asked: usize,
        /// The model's limit.
        max: usize,
        /// The directory.
        path: PathBuf,
    },
    /// A directory that was to be made is there.
    #[error("`{}` exists and is not an empty directory; choose another, or remove it first", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {what} `{}`", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The weights of a model directory, checked against its config, not yet read.
pub struct Weights {
    dir: PathBuf,
    shards: Vec<Reader>,
    shard_of: HashMap<String, usize>,
}

impl Weights {
    /// Opens all shards of `dir` and checks that they hold every tensor of `config` and no other.
    ///
    /// # Errors
    /// Missing, truncated or damaged files, missing or unexpected tensors, each by name.
    pub fn open(dir: &Path, config: &Config) -> Result<Self, CheckpointError> {
        let mut weights = Self { dir: dir.into(), shards: Vec::new(), shard_of: HashMap::new() };
        for path in shard_paths(dir)? {
            let shard = Reader::open(&path)?;
            weights.shard_of.extend(shard.names().into_iter().map(|name| (name, weights.shards.len())));
            weights.shards.push(shard);
        }
        let infos = config.tensors();
        if let Some(info) = infos.iter().find(|info| !weights.shard_of.contains_key(&info.name)) {
            return Err(FileError::Missing { name: info.name.clone(), path: dir.into() }.into());
        }
        let known: std::collections::HashSet<&str> = infos.iter().map(|info| info.name.as_str()).collect();
        let mut unexpected: Vec<&String> = weights
            .shard_of
            .keys()
            .filter(|name| !known.contains(name.as_str()) && !redundant(name))
            .collect();
        unexpected.sort();
        match unexpected.first() {
            Some(name) => Err(CheckpointError::Unexpected { name: (*name).clone(), path: dir.into() }),
            None => Ok(weights),
        }
    }

    /// Reads a tensor as f32.
    ///
    /// # Errors
    /// A wrong shape or type, or numbers that are not finite.
    pub fn read(&mut self, info: &TensorInfo) -> Result<Vec<f32>, CheckpointError> {
        let values = self.shards[self.shard_of[&info.name]].read(info)?;
        if values.iter().any(|x| !x.is_finite()) {
            return Err(CheckpointError::NotFinite { name: info.name.clone(), path: self.dir.clone() });
        }
        Ok(values)
    }
}

/// Tensors that some writers add and no reader needs: a tied head, and tables of rotary frequencies.
fn redundant(name: &str) -> bool {
    name == "lm_head.weight" || name.ends_with(".rotary_emb.inv_freq")
}

fn shard_paths(dir: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let single = dir.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    let path = dir.join("model.safetensors.index.json");
    let wrong = |what: String| CheckpointError::Index { path: path.clone(), what };
    match fs::metadata(&path) {
        Err(_) => return Err(CheckpointError::NoWeights { path: dir.into() }),
        Ok(m) if m.len() > MAX_INDEX_BYTES => return Err(wrong(format!("over {MAX_INDEX_BYTES} bytes"))),
        Ok(_) => {}
    }
    let text =
        fs::read(&path).map_err(|source| CheckpointError::Io { what: "read", path: path.clone(), source })?;
    let index: Value = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
    let map = index["weight_map"].as_object().ok_or_else(|| wrong("no weight_map".into()))?;
    let mut files = BTreeMap::new();
    for file in map.values() {
        let name = file.as_str().filter(|name| Path::new(name).file_name().is_some_and(|f| f == *name));
        let name = name.ok_or_else(|| wrong(format!("{file} is not the name of a file beside it")))?;
        files.insert(name, dir.join(name));
    }
    Ok(files.into_values().collect())
}

/// Loads the model of directory `dir` onto `b`, for sequences of up to `positions` tokens (all that the model was made
/// for, if `None`).
///
/// # Errors
/// See [`CheckpointError`].
pub fn load<B: Backend>(b: &B, dir: &Path, positions: Option<usize>) -> Result<Model<B>, CheckpointError> {
    let config = Config::load(dir)?;
    let max = config.longest_sequence();
    let positions = positions.unwrap_or(max);
    if positions > max {
        return Err(CheckpointError::Positions { asked: positions, max, path: dir.into() });
    }
    let mut weights = Weights::open(dir, &config)?;
    Model::new(b, config, positions, |info| weights.read(info))
}

/// Saves `model` as a Hugging Face directory with f32 weights; the tokenizer's files come from directory `like`. The
/// directory `dir` must not exist; it is written beside, synced and renamed, so that it is whole or absent. Returns the
/// SHA-256 of `model.safetensors`.
///
/// # Errors
/// If a file can't be read or written.
pub fn save<B: Backend>(b: &B, model: &Model<B>, dir: &Path, like: &Path) -> Result<String, CheckpointError> {
    let mut hash = String::new();
    write_directory(dir, |part| {
        hash = save_into(b, model, part, like)?;
        Ok::<_, CheckpointError>(())
    })?;
    Ok(hash)
}

/// Writes the files of [`save`] into a directory that exists.
///
/// # Errors
/// As [`save`].
pub fn save_into<B: Backend>(
    b: &B,
    model: &Model<B>,
    dir: &Path,
    like: &Path,
) -> Result<String, CheckpointError> {
    let mut config = model.config().raw.clone();
    config.remove("torch_dtype");
    config.insert("dtype".into(), "float32".into());
    let path = dir.join("config.json");
    let text = format!("{:#}\n", Value::Object(config));
    write_synced(&path, text.as_bytes())?;
    for name in CARRIED {
        let from = like.join(name);
        if from.exists() {
            let text =
                fs::read(&from).map_err(|source| CheckpointError::Io { what: "read", path: from, source })?;
            write_synced(&dir.join(name), &text)?;
        }
    }
    let params: Vec<&Param<B>> = model.weights.tensors().collect();
    let infos: Vec<TensorInfo> = params.iter().map(|p| p.info().clone()).collect();
    safetensors_file::write(&dir.join("model.safetensors"), &infos, |i| Ok(b.download(&params[i].value)))
}

/// Writes a file and syncs it.
///
/// # Errors
/// If the operating system refuses.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let write = || {
        let mut file = File::create(path)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    };
    write().map_err(|source| CheckpointError::Io { what: "write", path: path.into(), source })
}

/// Makes directory `dir` whole or not at all: `fill` writes into a sibling, which is then synced and renamed.
///
/// # Errors
/// If `dir` exists and is not empty, can't be written, or `fill` fails; the sibling is then removed.
pub fn write_directory<E: From<CheckpointError>>(
    dir: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| CheckpointError::Io { what, path, source }
    };
    let name = dir.file_name().ok_or_else(|| CheckpointError::Exists { path: dir.into() })?.to_string_lossy();
    let part = dir.with_file_name(format!(".{name}.part"));
    if dir.exists() && !fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none()) {
        return Err(CheckpointError::Exists { path: dir.into() }.into());
    }
    if part.exists() {
        fs::remove_dir_all(&part).map_err(io("remove", &part))?;
    }
    fs::create_dir_all(&part).map_err(io("create", &part))?;
    let filled = fill(&part).and_then(|()| {
        let sync = |path: &Path| File::open(path).and_then(|d| d.sync_all());
        sync(&part).and_then(|()| fs::rename(&part, dir)).map_err(io("rename", dir))?;
        let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(sync(parent).map_err(io("sync", parent))?)
    });
    if filled.is_err() {
        let _ = fs::remove_dir_all(&part); // the first error matters more
    }
    filled
}
