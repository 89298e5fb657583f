//! Writing model directories: whole or not at all, and as transformers loads them.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    path::Path,
};

use koan_backend::Backend;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{CheckpointError, Weights};
use crate::{
    Config, Model, Param, TensorInfo,
    safetensors_file::{self, FileError, Stored, hex},
};

/// Files of a tokenizer.
const TOKENIZER: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
];
/// What else goes with weights that come of a model: they are under its terms.
const ORIGIN: [&str; 4] = ["generation_config.json", "LICENSE", "LICENSE.txt", "NOTICE"];
/// What goes with the weights of the same model.
const CARD: [&str; 1] = ["README.md"];
/// Weights of more bytes are cut into files of at most this, but for a tensor that is larger. It is what the hubs' tools
/// have long used.
const MAX_SHARD_BYTES: usize = 5_000_000_000;

/// Saves `model` as a Hugging Face directory with f32 weights; the tokenizer's files come from directory `like`. The
/// directory `dir` must not exist; it is written beside, synced and renamed, so that it is whole or absent. Returns the
/// SHA-256 of `model.safetensors` (of the list of its shards' where there are several).
///
/// # Errors
/// If a file can't be read or written.
pub fn save<B: Backend>(b: &B, model: &Model<B>, dir: &Path, like: &Path) -> Result<String, CheckpointError> {
    save_as(Stored::F32, b, model, dir, like)
}

/// As [`save`], with numbers stored as `stored`.
///
/// # Errors
/// As [`save`].
pub fn save_as<B: Backend>(
    stored: Stored,
    b: &B,
    model: &Model<B>,
    dir: &Path,
    like: &Path,
) -> Result<String, CheckpointError> {
    let mut hash = String::new();
    write_directory(dir, |part| {
        hash = write_model(stored, b, model, part, like)?;
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
    write_model(Stored::F32, b, model, dir, like)
}

fn write_model<B: Backend>(
    stored: Stored,
    b: &B,
    model: &Model<B>,
    dir: &Path,
    like: &Path,
) -> Result<String, CheckpointError> {
    write_config(stored, &model.config().raw, dir)?;
    copy(&[&TOKENIZER[..], &ORIGIN].concat(), like, dir)?;
    let params: Vec<&Param<B>> = model.weights.tensors().collect();
    let infos: Vec<TensorInfo> = params.iter().map(|p| p.info().clone()).collect();
    write_weights(stored, dir, &infos, MAX_SHARD_BYTES, |i| {
        let [values] = b.read([(&params[i].value, infos[i].len())]);
        Ok::<_, CheckpointError>(values)
    })
}

/// Copies model directory `from` to `dir`, its numbers stored as `stored`, one tensor at a time in memory; `progress` is
/// called after each with how many are done and how many there are. Returns the hash that [`save`] does.
///
/// # Errors
/// As [`load`](super::load) and [`save`].
pub fn convert(
    from: &Path,
    dir: &Path,
    stored: Stored,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<String, CheckpointError> {
    let config = Config::load(from)?;
    let weights = Weights::open(from, &config)?;
    let infos = config.tensors();
    let mut hash = String::new();
    write_directory(dir, |part| {
        write_config(stored, &config.raw, part)?;
        copy(&[&TOKENIZER[..], &ORIGIN, &CARD].concat(), from, part)?;
        hash = write_weights(stored, part, &infos, MAX_SHARD_BYTES, |i| {
            let values = weights.read(&infos[i])?;
            progress(i + 1, infos.len());
            Ok::<_, CheckpointError>(values)
        })?;
        Ok::<_, CheckpointError>(())
    })?;
    Ok(hash)
}

/// Writes a model of `config` whose numbers `fresh` gives, a tensor at a time: the tensor, how many were before it and how
/// many there are. The tokenizer's files come from directory `tokenizer`.
pub(crate) fn write_fresh(
    config: &Config,
    dir: &Path,
    tokenizer: Option<&Path>,
    mut fresh: impl FnMut(&TensorInfo, usize, usize) -> Vec<f32>,
) -> Result<String, CheckpointError> {
    let infos = config.tensors();
    let mut hash = String::new();
    write_directory(dir, |part| {
        write_config(Stored::F32, &config.raw, part)?;
        if let Some(tokenizer) = tokenizer {
            copy(&TOKENIZER, tokenizer, part)?;
        }
        hash = write_weights(Stored::F32, part, &infos, MAX_SHARD_BYTES, |i| {
            Ok::<_, CheckpointError>(fresh(&infos[i], i, infos.len()))
        })?;
        Ok::<_, CheckpointError>(())
    })?;
    Ok(hash)
}

fn write_config(stored: Stored, config: &Map<String, Value>, dir: &Path) -> Result<(), CheckpointError> {
    let mut config = config.clone();
    config.remove("torch_dtype");
    config.insert("dtype".into(), stored.dtype().into());
    let text = format!("{:#}\n", Value::Object(config));
    write_synced(&dir.join("config.json"), text.as_bytes())
}

/// Copies those of the files `names` that are there.
fn copy(names: &[&str], from: &Path, dir: &Path) -> Result<(), CheckpointError> {
    for name in names {
        let from = from.join(name);
        if from.exists() {
            let text =
                fs::read(&from).map_err(|source| CheckpointError::Io { what: "read", path: from, source })?;
            write_synced(&dir.join(name), &text)?;
        }
    }
    Ok(())
}

/// Writes the weights: one file, or shards of up to `most` bytes with their index.
pub(crate) fn write_weights<V: AsRef<[f32]>, E: From<CheckpointError> + From<FileError>>(
    stored: Stored,
    dir: &Path,
    infos: &[TensorInfo],
    most: usize,
    mut read: impl FnMut(usize) -> Result<V, E>,
) -> Result<String, E> {
    let shards = shards(infos, stored, most);
    if let [_] = shards[..] {
        return safetensors_file::write_as(stored, &dir.join("model.safetensors"), infos, read);
    }
    let (mut map, mut hashes) = (Map::new(), Sha256::new());
    for (i, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
        let part = &infos[shard.clone()];
        let hash = safetensors_file::write_as(stored, &dir.join(&name), part, |j| read(shard.start + j))?;
        hashes.update(format!("{hash}\n"));
        map.extend(part.iter().map(|info| (info.name.clone(), name.as_str().into())));
    }
    let total: usize = infos.iter().map(|info| stored.bytes() * info.len()).sum();
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    write_synced(&dir.join("model.safetensors.index.json"), format!("{index:#}\n").as_bytes())?;
    Ok(hex(&hashes.finalize()))
}

/// Which tensors lie together: as many as fit, in their order.
fn shards(infos: &[TensorInfo], stored: Stored, most: usize) -> Vec<Range<usize>> {
    let (mut shards, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (i, info) in infos.iter().enumerate() {
        let tensor = stored.bytes() * info.len();
        if bytes + tensor > most && i > start {
            shards.push(start..i);
            (start, bytes) = (i, 0);
        }
        bytes += tensor;
    }
    shards.push(start..infos.len());
    shards
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_load_to_the_same_numbers_and_damage_to_the_index_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
        crate::testkit::write_model(&whole, 3).expect("written");
        let config = Config::load(&whole).expect("a config");
        let weights = Weights::open(&whole, &config).expect("weights");
        let infos = config.tensors();
        write_directory(&cut, |part| {
            write_config(Stored::F32, &config.raw, part)?;
            write_weights(Stored::F32, part, &infos, 16_000, |i| {
                Ok::<_, CheckpointError>(weights.read(&infos[i])?)
            })
            .map(drop)
        })
        .expect("saved");
        assert!(cut.join("model-00002-of-00003.safetensors").exists());
        let again = Weights::open(&cut, &config).expect("weights");
        for info in &infos {
            assert_eq!(weights.read(info).expect("read"), again.read(info).expect("read"), "{}", info.name);
        }
        let index = cut.join("model.safetensors.index.json");
        let text = fs::read_to_string(&index).expect("an index");
        for (from, to, wanted) in [
            (
                "model-00002-of-00003.safetensors",
                "../whole/model.safetensors",
                "not the name of a file beside it",
            ),
            ("model-00002-of-00003.safetensors", "model-00009-of-00003.safetensors", "cannot open"),
            ("model-00002-of-00003.safetensors", "model-00001-of-00003.safetensors", "is missing"),
            ("weight_map", "weights", "no weight_map"),
            ("{", "[", "not an index"),
        ] {
            fs::write(&index, text.replace(from, to)).expect("written");
            let error = Weights::open(&cut, &config).err().expect("refused").to_string();
            assert!(error.contains(wanted), "{to}: {error}");
        }
        fs::write(&index, &text).expect("written");
        fs::copy(whole.join("model.safetensors"), cut.join("model-00002-of-00003.safetensors"))
            .expect("copied");
        assert!(matches!(Weights::open(&cut, &config), Err(CheckpointError::Twice { .. })));
    }
}
