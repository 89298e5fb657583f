//! Hugging Face model directories: `config.json`, weights in safetensors (one file, or shards with an index), and the
//! tokenizer's files, which are carried along; and PEFT's directories of adapters on them.

mod fp8;
mod place;
mod save;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
};

use koan_backend::{Backend, check_memory, free_host_memory};
use koan_files::{FilesError, read_bounded};
use serde_json::Value;

use crate::{
    AdapterError, Config, ConfigError, Fp8Weights, HeadKind, Model, TensorInfo,
    adapter::{Adapter, WEIGHTS},
    fresh, mistaken,
    safetensors_file::{Entry, FileError, Reader},
};

/// Largest index of shards read, bytes. That of 4096 layers has 6 MB.
const MAX_INDEX_BYTES: u64 = 1 << 24;
/// Most shards of a model, each an open file.
const MAX_SHARDS: usize = 512;

pub use place::Place;
pub use save::{WeightType, convert, merge, save, save_as, save_into};
pub(crate) use save::{copy_tokenizer, write_fresh, write_weights};

/// Why a model could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The config was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An adapter was refused.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// A weights file was refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// No weights lie in the directory.
    #[error("no model.safetensors and no model.safetensors.index.json in `{}`: {what}", path.display())]
    NoWeights {
        /// The directory.
        path: PathBuf,
        /// What it is, and what to do.
        what: String,
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
    /// A tensor lies in two shards.
    #[error("tensor `{name}` is in two files of `{}`", path.display())]
    Twice {
        /// The tensor.
        name: String,
        /// The directory.
        path: PathBuf,
    },
    /// More positions are needed than are computed.
    #[error("{asked} tokens a sequence, but `{}` reaches {max} (the least of max_position_embeddings, sliding_window and 2^28 / head_dim, by its config)", path.display())]
    Positions {
        /// What was asked.
        asked: usize,
        /// The model's limit.
        max: usize,
        /// The directory.
        path: PathBuf,
    },
    /// The largest tensor does not fit into memory.
    #[error(transparent)]
    DoesNotFit(#[from] koan_backend::DoesNotFit),
    /// A reward model where one that predicts tokens is needed.
    #[error("`{}` is a reward model: it scores texts, it predicts no tokens", path.display())]
    RewardModel {
        /// The directory.
        path: PathBuf,
    },
    /// A model that predicts tokens where a reward model is needed.
    #[error(
        "`{}` is no reward model: it predicts tokens, and has no score of a text; `koan prefer` makes one with loss = \"reward-model\"",
        path.display()
    )]
    NoRewardModel {
        /// The directory.
        path: PathBuf,
    },
    /// The device refused the memory for the weights.
    #[error(transparent)]
    Memory(#[from] koan_backend::OutOfMemory),
    /// A file could not be read or written, or the directory is there.
    #[error(transparent)]
    Files(#[from] FilesError),
}

/// The weights of a model directory, checked against its config, not yet read.
pub struct Weights {
    shards: Vec<Reader>,
    shard_of: HashMap<String, usize>,
    /// How matrices in FP8 are scaled, if the config has any.
    fp8: Option<Fp8Weights>,
}

impl Weights {
    /// Opens all shards of `dir` and checks that they hold every tensor of `config`, each once, of the right shape and of
    /// a type that is read, and no other.
    ///
    /// # Errors
    /// Missing, truncated or damaged files; missing, unexpected or wrong tensors, each by name.
    pub fn open(dir: &Path, config: &Config) -> Result<Self, CheckpointError> {
        Self::of_some_tensors(dir, &config.tensors(), std::iter::empty(), config.fp8, &|name| {
            config.leaves_out(name)
        })
    }

    /// As [`Weights::open`], of the model of `config` at `place`, which may have an adapter.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn open_at(place: &Place, config: &Config) -> Result<Self, CheckpointError> {
        // What the adapter has its own values of, the model may have too, or not.
        let base = config.base().tensors().into_iter().zip(config.tensors_of_base());
        let base: Vec<TensorInfo> =
            base.filter(|(_, own)| !Adapter::holds(own)).map(|(info, _)| info).collect();
        let replaced = config.adapter.iter().flat_map(Adapter::replaced);
        let is_left_out = |name: &str| config.leaves_out(name);
        let mut weights = Self::of_some_tensors(place.model(), &base, replaced, config.fp8, &is_left_out)?;
        if let Some(dir) = place.adapter() {
            weights.add(dir, &dir.join(WEIGHTS))?;
            let infos = config.tensors();
            let of_adapter = infos.iter().filter(|info| Adapter::holds(info)).flat_map(|info| &info.entries);
            of_adapter.into_iter().try_for_each(|entry| weights.check(entry, dir))?;
        }
        Ok(weights)
    }

    /// As [`Weights::open`], of a model that has the tensors `infos`.
    #[cfg(test)]
    fn of_tensors(
        dir: &Path,
        infos: &[TensorInfo],
        fp8: Option<Fp8Weights>,
    ) -> Result<Self, CheckpointError> {
        Self::of_some_tensors(dir, infos, std::iter::empty(), fp8, &|_| false)
    }

    /// Opens what holds the tensors `infos`, and perhaps `others`, and what is left out.
    fn of_some_tensors<'a>(
        dir: &Path,
        infos: &'a [TensorInfo],
        others: impl Iterator<Item = &'a str>,
        fp8: Option<Fp8Weights>,
        is_left_out: &dyn Fn(&str) -> bool,
    ) -> Result<Self, CheckpointError> {
        let mut weights = Self { shards: Vec::new(), shard_of: HashMap::new(), fp8 };
        for path in shard_paths(dir)? {
            weights.add(dir, &path)?;
        }
        weights.check_scales(dir)?;
        let mut known: HashSet<&str> = others.collect();
        for entry in infos.iter().flat_map(|info| &info.entries) {
            weights.check(entry, dir)?;
            known.insert(entry.name.as_str());
        }
        let is_known = |name: &str| known.contains(name) || redundant(name) || is_left_out(name);
        let names = weights.shard_of.keys();
        let unexpected = names.filter(|name| !is_known(fp8::scaled_by(name).unwrap_or(name))).min();
        match unexpected {
            Some(name) => Err(CheckpointError::Unexpected { name: name.clone(), path: dir.into() }),
            None => Ok(weights),
        }
    }

    /// Opens one more file, of directory `dir`.
    fn add(&mut self, dir: &Path, path: &Path) -> Result<(), CheckpointError> {
        let shard = Reader::open(path)?;
        for name in shard.names() {
            if self.shard_of.insert(name.clone(), self.shards.len()).is_some() {
                return Err(CheckpointError::Twice { name, path: dir.into() });
            }
        }
        self.shards.push(shard);
        Ok(())
    }

    /// The file that holds a tensor.
    fn file_of(&self, name: &str) -> Option<&Reader> {
        self.shard_of.get(name).map(|&shard| &self.shards[shard])
    }

    fn check(&self, entry: &Entry, dir: &Path) -> Result<(), FileError> {
        match self.file_of(&entry.name) {
            Some(file) if file.is_fp8(&entry.name) => {
                fp8::check(entry, file, self.fp8, |name| self.file_of(name))
            }
            Some(file) => file.check(entry),
            None => Err(FileError::Missing { name: entry.name.clone(), path: dir.into() }),
        }
    }

    /// Checks that all scales of matrices in FP8 are of one.
    fn check_scales(&self, dir: &Path) -> Result<(), FileError> {
        let scales = self.shard_of.keys().filter_map(|name| fp8::scaled_by(name));
        let of_nothing = |name: &&str| !self.file_of(name).is_some_and(|file| file.is_fp8(name));
        let Some(name) = scales.filter(of_nothing).min() else { return Ok(()) };
        let what = match self.file_of(name) {
            Some(_) => "they are there, but it is not stored as F8_E4M3",
            None => "they are there, but the tensor is missing",
        };
        Err(FileError::Scales { name: name.into(), what: what.into(), path: dir.into() })
    }

    fn read_entry(&self, entry: &Entry) -> Result<Cow<'_, [f32]>, FileError> {
        match self.file_of(&entry.name) {
            Some(file) if file.is_fp8(&entry.name) => {
                Ok(Cow::Owned(fp8::read(entry, file, self.fp8, |name| self.file_of(name))?))
            }
            Some(file) => file.read(entry),
            None => self.shards[0].read(entry),
        }
    }

    /// Reads a tensor of a model of `config`; of one that no file holds, an adapter or a head that is to be trained, the fresh
    /// values, from `seed`.
    fn values(&self, config: &Config, info: &TensorInfo, seed: u64) -> Result<Cow<'_, [f32]>, FileError> {
        if info.entries.iter().all(|entry| self.shard_of.contains_key(&entry.name)) {
            let mut values = self.read(info)?;
            if let Some(scale) = config.adapter.as_ref().and_then(|adapter| adapter.bias_scale(info)) {
                values.to_mut().iter_mut().for_each(|value| *value *= scale);
            }
            return Ok(values);
        }
        if self.shard_of.contains_key(&info.name) {
            return self.read_entry(&Entry { name: info.name.clone(), shape: info.shape.clone() });
        }
        Ok(Cow::Owned(fresh(config, info, seed)))
    }

    /// Reads a tensor as f32, from all its entries.
    ///
    /// # Errors
    /// A tensor that is not of the config, or values that are not finite.
    pub fn read(&self, info: &TensorInfo) -> Result<Cow<'_, [f32]>, FileError> {
        if let [whole] = &info.entries[..] {
            return self.read_entry(whole);
        }
        let mut values = Vec::with_capacity(info.len());
        for entry in &info.entries {
            values.extend_from_slice(&self.read_entry(entry)?);
        }
        Ok(Cow::Owned(values))
    }
}

/// Tensors that some writers add and no reader needs: a tied head, tables of rotary frequencies, and what modules that predict
/// further tokens have of the model's own.
fn redundant(name: &str) -> bool {
    let of_layer = name.starts_with("model.layers.");
    let copies = [".embed_tokens.weight", ".shared_head.head.weight"];
    name == "lm_head.weight"
        || name.ends_with(".rotary_emb.inv_freq")
        || (of_layer && copies.iter().any(|copy| name.ends_with(copy)))
}

/// Whether `dir` has weights, and among them no module that predicts further tokens after so many layers.
pub(crate) fn lacks_module(dir: &Path, layers: usize) -> bool {
    let name = format!("model.layers.{layers}.enorm.weight");
    let names = |path: &PathBuf| Ok(Reader::open(path)?.names());
    let all: Result<Vec<Vec<String>>, CheckpointError> =
        shard_paths(dir).and_then(|paths| paths.iter().map(names).collect());
    // What can't be read is said where it is needed.
    all.is_ok_and(|all| !all.concat().contains(&name))
}

fn shard_paths(dir: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let single = dir.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    let path = dir.join("model.safetensors.index.json");
    let wrong = |what: String| CheckpointError::Index { path: path.clone(), what };
    if !path.exists() {
        return Err(CheckpointError::NoWeights { path: dir.into(), what: mistaken::what_it_is(dir) });
    }
    let text = read_bounded(&path, MAX_INDEX_BYTES)
        .map_err(FilesError::io("read", &path))?
        .ok_or_else(|| wrong(format!("over {MAX_INDEX_BYTES} bytes")))?;
    let index: Value = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
    let map = index["weight_map"].as_object().ok_or_else(|| wrong("no weight_map".into()))?;
    let mut files = BTreeMap::new();
    for file in map.values() {
        let name = file.as_str().filter(|name| Path::new(name).file_name().is_some_and(|f| f == *name));
        let name = name.ok_or_else(|| wrong(format!("{file} is not the name of a file beside it")))?;
        files.insert(name, dir.join(name));
    }
    if files.is_empty() || files.len() > MAX_SHARDS {
        return Err(wrong(format!("it names {} files; 1 to {MAX_SHARDS} are read", files.len())));
    }
    Ok(files.into_values().collect())
}

/// Loads the model at `place`, a directory or one with an adapter, onto `b`, for sequences of up to `positions` tokens (all that
/// the model was made for, if `None`).
///
/// # Errors
/// See [`CheckpointError`].
pub fn load<B: Backend>(
    b: &B,
    place: impl Into<Place>,
    positions: Option<usize>,
) -> Result<Model<B>, CheckpointError> {
    let (config, weights, positions) = open(&place.into(), positions)?;
    Model::new(b, config.clone(), positions, |info| Ok(weights.values(&config, info, 0)?))
}

/// As [`load`], for forward passes alone, in half the memory: see [`Model::for_inference`]. Modules that predict further tokens are
/// left out.
///
/// # Errors
/// See [`CheckpointError`].
pub fn load_for_inference<B: Backend>(
    b: &B,
    place: impl Into<Place>,
    positions: Option<usize>,
) -> Result<Model<B>, CheckpointError> {
    let (config, weights, positions) = open(&place.into(), positions)?;
    let config = config.without_modules();
    Model::for_inference(b, config.clone(), positions, |info| Ok(weights.values(&config, info, 0)?))
}

/// As [`load_for_inference`], with the modules that predict further tokens.
///
/// # Errors
/// See [`CheckpointError`].
pub fn load_to_draft<B: Backend>(
    b: &B,
    place: impl Into<Place>,
    positions: usize,
) -> Result<Model<B>, CheckpointError> {
    let (config, weights, positions) = open(&place.into(), Some(positions))?;
    Model::for_inference(b, config.clone(), positions, |info| Ok(weights.values(&config, info, 0)?))
}

/// Refuses sequences of `asked` tokens if the model of `config`, which lies in `dir`, does not reach as far.
///
/// # Errors
/// [`CheckpointError::Positions`].
pub fn check_positions(dir: &Path, config: &Config, asked: usize) -> Result<(), CheckpointError> {
    let max = config.longest_sequence();
    if asked > max {
        return Err(CheckpointError::Positions { asked, max, path: dir.into() });
    }
    Ok(())
}

/// Refuses to copy or make the tensors `infos` one by one if the largest of them, as it is read and as it is changed, does not
/// fit into the host's memory.
///
/// # Errors
/// [`CheckpointError::DoesNotFit`].
pub(crate) fn check_streamed(infos: &[TensorInfo]) -> Result<(), CheckpointError> {
    let Some(largest) = infos.iter().max_by_key(|info| info.len()) else { return Ok(()) };
    let bytes = 2 * 4 * largest.len() as u64;
    let breakdown = format!("the largest, `{}`, twice as f32", largest.name);
    let remedy = "use a machine (or a limit of this one) with more memory";
    Ok(check_memory("one tensor at a time", bytes, free_host_memory(), breakdown, remedy)?)
}

/// Loads what lies at `place` as a model of `config` onto `b`, for sequences of up to `positions` tokens. What `config` has beside
/// and no file holds is fresh, from `seed`: an adapter that is to be trained, or the scalar head of a reward model made of a model
/// that predicts tokens. Its context may be longer than the file's.
///
/// # Errors
/// See [`CheckpointError`].
pub fn load_as<B: Backend>(
    b: &B,
    place: impl Into<Place>,
    config: Config,
    positions: usize,
    seed: u64,
) -> Result<Model<B>, CheckpointError> {
    let place = place.into();
    check_positions(place.model(), &config, positions)?;
    let weights = Weights::open_at(&place, &place.config()?)?;
    Model::new(b, config.clone(), positions, |info| Ok(weights.values(&config, info, seed)?))
}

/// Loads the reward model at `place` onto `b` for forward passes alone, for sequences of up to `positions` tokens.
///
/// # Errors
/// See [`CheckpointError`].
pub fn load_scorer_for_inference<B: Backend>(
    b: &B,
    place: impl Into<Place>,
    positions: usize,
) -> Result<Model<B>, CheckpointError> {
    let place = place.into();
    let (config, weights) = open_any(&place, positions)?;
    if config.head != HeadKind::Scalar {
        return Err(CheckpointError::NoRewardModel { path: place.model().into() });
    }
    Model::for_inference(b, config.clone(), positions, |info| Ok(weights.values(&config, info, 0)?))
}

/// Loads what lies at `place` as a model of `config` that shares the frozen weights of `model`, as [`Model::on_same_base`] says.
///
/// # Errors
/// See [`CheckpointError`].
pub fn load_on_same_base<B: Backend>(
    b: &B,
    model: &Model<B>,
    place: impl Into<Place>,
    config: Config,
    seed: u64,
) -> Result<Model<B>, CheckpointError> {
    let (_, weights) = open_any(&place.into(), model.positions())?;
    model.on_same_base(b, config.clone(), |info| Ok(weights.values(&config, info, seed)?))
}

fn open(place: &Place, positions: Option<usize>) -> Result<(Config, Weights, usize), CheckpointError> {
    let positions = match positions {
        Some(positions) => positions,
        None => Config::load(place.model())?.longest_sequence(),
    };
    let (config, weights) = open_any(place, positions)?;
    match config.head {
        HeadKind::Language => Ok((config, weights, positions)),
        HeadKind::Scalar => Err(CheckpointError::RewardModel { path: place.model().into() }),
    }
}

fn open_any(place: &Place, positions: usize) -> Result<(Config, Weights), CheckpointError> {
    let config = place.config()?;
    check_positions(place.model(), &config, positions)?;
    let weights = Weights::open_at(place, &config)?;
    Ok((config, weights))
}
