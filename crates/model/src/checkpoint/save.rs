//! Writing model directories: whole or not at all, and as transformers loads them.

use std::{ops::Range, path::Path, rc::Rc};

use koan_backend::Backend;
use koan_files::{FilesError, read_bounded, sha256, write_directory, write_synced};
use serde_json::{Map, Value, json};

use super::{CheckpointError, Place, Weights, check_streamed, fp8};
use crate::{
    AdapterError, Config, Model, Param, Role, TensorInfo,
    adapter::{self, Adapter},
    license::{self, TERMS},
    safetensors_file::{self, Entry, FileError, Stored},
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
/// What else goes with weights that were made from a model's.
const ORIGIN: [&str; 1] = ["generation_config.json"];
/// Longest of these files that is copied, bytes.
const MAX_COPIED_BYTES: u64 = 1 << 28;
/// What goes with the weights of the same model.
const CARD: [&str; 1] = ["README.md"];
/// Weights of more bytes are cut into files of at most this, except a tensor that is larger. It is what the hubs' tools
/// have long used.
const MAX_SHARD_BYTES: usize = 5_000_000_000;

/// The type that the weights of a directory are stored in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightType {
    /// Four bytes: all the digits there are.
    #[default]
    F32,
    /// Two bytes, rounded to nearest: f32 of which the last 16 bits are cut.
    Bf16,
    /// Two bytes, rounded to nearest: more digits than bf16, but infinite from 65520 on.
    F16,
    /// As DeepSeek-V3's files: the matrices of linear layers in E4M3 with an f32 scale for every block of 128 × 128 elements,
    /// rounded to nearest; all else as `Bf16`.
    Fp8,
}

impl WeightType {
    /// What the elements of an entry of a tensor are stored as.
    fn of(self, info: &TensorInfo, entry: &Entry) -> Stored {
        match self {
            // It is moved by steps that would be lost in fewer bits.
            _ if info.role == Role::RouterBias => Stored::F32,
            Self::F32 => Stored::F32,
            Self::F16 => Stored::F16,
            Self::Fp8 if info.low_precision && entry.shape.len() == 2 => Stored::E4m3,
            Self::Bf16 | Self::Fp8 => Stored::Bf16,
        }
    }

    /// `dtype` in `config.json`.
    fn dtype(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 | Self::Fp8 => "bfloat16",
            Self::F16 => "float16",
        }
    }
}

/// Saves `model` as a Hugging Face directory with f32 weights; the tokenizer's files come from directory `like`. The
/// directory `dir` must not exist; it is written beside, synced and renamed, so that it is whole or absent. Returns the
/// SHA-256 of `model.safetensors` (of the list of its shards' where there are several).
///
/// # Errors
/// If a file can't be read or written.
pub fn save<B: Backend>(b: &B, model: &Model<B>, dir: &Path, like: &Path) -> Result<String, CheckpointError> {
    save_as(WeightType::F32, b, model, dir, like)
}

/// As [`save`], with values stored as `stored`.
///
/// # Errors
/// As [`save`].
pub fn save_as<B: Backend>(
    stored: WeightType,
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
    write_model(WeightType::F32, b, model, dir, like)
}

fn write_model<B: Backend>(
    stored: WeightType,
    b: &B,
    model: &Model<B>,
    dir: &Path,
    like: &Path,
) -> Result<String, CheckpointError> {
    if model.config().adapter.is_some() {
        return write_adapter(stored, b, model, dir, like);
    }
    write_config(stored, &model.config().raw, dir)?;
    copy(&[&TOKENIZER[..], &ORIGIN, &TERMS].concat(), like, dir)?;
    // The card of `like` describes another model; its terms hold for this one.
    if let Some(card) = license::card(&license::stated(like, model.config())) {
        write_synced(&dir.join("README.md"), card.as_bytes())?;
    }
    let params: Vec<&Param<B>> = model.weights.tensors().collect();
    let infos: Vec<TensorInfo> = params.iter().map(|p| p.info().clone()).collect();
    write_weights(stored, dir, &infos, MAX_SHARD_BYTES, |i| {
        let [values] = b.read([(params[i].value(), infos[i].len())]);
        Ok::<_, CheckpointError>(values)
    })
}

/// Writes the adapter of `model` as PEFT does; its base model is that of directory `like`.
fn write_adapter<B: Backend>(
    stored: WeightType,
    b: &B,
    model: &Model<B>,
    dir: &Path,
    like: &Path,
) -> Result<String, CheckpointError> {
    adapter::write_config(dir, model.config(), like)?;
    copy(&[&TOKENIZER[..], &TERMS].concat(), like, dir)?;
    let card = license::adapter_card(&license::stated(like, model.config()), like);
    write_synced(&dir.join("README.md"), card.as_bytes())?;
    let params: Vec<&Param<B>> = model.weights.tensors().filter(|p| Adapter::holds(p.info())).collect();
    let pieces: Vec<Piece> =
        params.iter().enumerate().flat_map(|(i, param)| pieces(stored, i, param.info())).collect();
    let entries: Vec<(Entry, Stored)> = pieces.iter().map(Piece::stored).collect();
    let read = in_pieces(&pieces, |i| {
        let [values] = b.read([(params[i].value(), params[i].info().len())]);
        Ok::<_, CheckpointError>(values)
    });
    safetensors_file::write_each(&dir.join(adapter::WEIGHTS), &entries, read)
}

/// Writes the model at `place` with its adapter merged into its weights, in f32, to `dir`, one tensor at a time in memory;
/// `progress` is called after each with how many are done and how many there are. Returns the hash that [`save`] does.
///
/// # Errors
/// As [`load`](super::load) and [`save`]; if there is no adapter, or it has a bias that no tensor of the model can take.
pub fn merge(
    place: &Place,
    dir: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<String, CheckpointError> {
    let config = place.config()?;
    let Some(of_adapter) = place.adapter() else {
        return Err(AdapterError::NotAnAdapter { path: place.model().into() }.into());
    };
    adapter::check_mergeable(&config, of_adapter)?;
    let (base, infos) = (config.base(), config.base().tensors());
    check_streamed(&infos)?;
    let weights = Weights::open_at(place, &config)?;
    let mut hash = String::new();
    write_directory(dir, |part| {
        write_config(WeightType::F32, &base.raw, part)?;
        copy(&TOKENIZER, place.texts(), part)?;
        copy(&[&ORIGIN[..], &TERMS, &CARD].concat(), place.model(), part)?;
        hash = write_weights(WeightType::F32, part, &infos, MAX_SHARD_BYTES, |i| {
            let values = adapter::merged(&config, &weights, &infos[i])?;
            progress(i + 1, infos.len());
            Ok::<_, CheckpointError>(values)
        })?;
        Ok::<_, CheckpointError>(())
    })?;
    Ok(hash)
}

/// Copies model directory `from` to `dir`, its values stored as `stored`, one tensor at a time in memory; `progress` is
/// called after each with how many are done and how many there are. Returns the hash that [`save`] does.
///
/// # Errors
/// As [`load`](super::load) and [`save`].
pub fn convert(
    from: &Path,
    dir: &Path,
    stored: WeightType,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<String, CheckpointError> {
    let config = Config::load(from)?;
    let infos = config.tensors();
    check_streamed(&infos)?;
    let weights = Weights::open(from, &config)?;
    let mut hash = String::new();
    write_directory(dir, |part| {
        write_config(stored, &config.raw, part)?;
        copy(&[&TOKENIZER[..], &ORIGIN, &TERMS, &CARD].concat(), from, part)?;
        hash = write_weights(stored, part, &infos, MAX_SHARD_BYTES, |i| {
            let values = weights.read(&infos[i])?;
            progress(i + 1, infos.len());
            Ok::<_, CheckpointError>(values)
        })?;
        Ok::<_, CheckpointError>(())
    })?;
    Ok(hash)
}

/// Writes a model of `config` whose values `fresh` gives, a tensor at a time: the tensor, how many were before it and how
/// many there are. `write_tokenizer` writes the tokenizer's files into a directory.
pub(crate) fn write_fresh(
    config: &Config,
    dir: &Path,
    write_tokenizer: impl FnOnce(&Path) -> Result<(), CheckpointError>,
    mut fresh: impl FnMut(&TensorInfo, usize, usize) -> Vec<f32>,
) -> Result<String, CheckpointError> {
    let infos = config.tensors();
    check_streamed(&infos)?;
    let mut hash = String::new();
    write_directory(dir, |part| {
        write_config(WeightType::F32, &config.raw, part)?;
        write_tokenizer(part)?;
        hash = write_weights(WeightType::F32, part, &infos, MAX_SHARD_BYTES, |i| {
            Ok::<_, CheckpointError>(fresh(&infos[i], i, infos.len()))
        })?;
        Ok::<_, CheckpointError>(())
    })?;
    Ok(hash)
}

fn write_config(stored: WeightType, config: &Map<String, Value>, dir: &Path) -> Result<(), CheckpointError> {
    let mut config = config.clone();
    config.remove("torch_dtype");
    config.remove("quantization_config");
    config.insert("dtype".into(), stored.dtype().into());
    if stored == WeightType::Fp8 {
        let fp8 = json!({"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                         "weight_block_size": [128, 128]});
        config.insert("quantization_config".into(), fp8);
    }
    let text = format!("{:#}\n", Value::Object(config));
    Ok(write_synced(&dir.join("config.json"), text.as_bytes())?)
}

/// Copies the tokenizer's files, and the chat template, of directory `from`.
pub(crate) fn copy_tokenizer(from: &Path, dir: &Path) -> Result<(), CheckpointError> {
    copy(&TOKENIZER, from, dir)
}

/// Copies those of the files `names` that are there.
fn copy(names: &[&str], from: &Path, dir: &Path) -> Result<(), CheckpointError> {
    for name in names {
        let from = from.join(name);
        if from.exists() {
            let text = read_bounded(&from, MAX_COPIED_BYTES).map_err(FilesError::io("read", &from))?;
            let what = || format!("over {MAX_COPIED_BYTES} bytes");
            let text = text.ok_or_else(|| FilesError::Damaged { path: from.clone(), what: what() })?;
            write_synced(&dir.join(name), &text)?;
        }
    }
    Ok(())
}

/// Writes the weights: one file, or shards of up to `most` bytes with their index. `read` gives the elements of a tensor
/// by its number, and is asked once for each, in their order; a tensor of several entries is written as such.
pub(crate) fn write_weights<V: AsRef<[f32]>, E: From<FilesError> + From<FileError>>(
    stored: WeightType,
    dir: &Path,
    infos: &[TensorInfo],
    most: usize,
    read: impl FnMut(usize) -> Result<V, E>,
) -> Result<String, E> {
    let pieces: Vec<Piece> =
        infos.iter().enumerate().flat_map(|(tensor, info)| pieces(stored, tensor, info)).collect();
    let entries: Vec<(Entry, Stored)> = pieces.iter().map(Piece::stored).collect();
    let mut read = in_pieces(&pieces, read);
    let shards = shards(&entries, most);
    if let [_] = shards[..] {
        return safetensors_file::write_each(&dir.join("model.safetensors"), &entries, read);
    }
    let (mut map, mut hashes) = (Map::new(), String::new());
    for (i, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
        let part = &entries[shard.clone()];
        let hash = safetensors_file::write_each(&dir.join(&name), part, |j| read(shard.start + j))?;
        hashes.extend([&hash, "\n"]);
        map.extend(part.iter().map(|(entry, _)| (entry.name.clone(), name.as_str().into())));
    }
    let total: usize = entries.iter().map(bytes).sum();
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    write_synced(&dir.join("model.safetensors.index.json"), format!("{index:#}\n").as_bytes())?;
    Ok(sha256(hashes))
}

/// Gives what `pieces` hold by their numbers, one after another; `read` gives the elements of a tensor, and is asked once for each.
fn in_pieces<V: AsRef<[f32]>, E>(
    pieces: &[Piece],
    mut read: impl FnMut(usize) -> Result<V, E>,
) -> impl FnMut(usize) -> Result<Written<V>, E> {
    let mut last: Option<(usize, Rc<V>)> = None;
    move |piece: usize| {
        let piece = &pieces[piece];
        // One that is done with is dropped before the next is read.
        let values = match last.take().filter(|(number, _)| *number == piece.tensor) {
            Some((_, values)) => values,
            None => Rc::new(read(piece.tensor)?),
        };
        last = Some((piece.tensor, values.clone()));
        Ok(piece.of(values))
    }
}

/// An entry of a file, and what it holds of a tensor, which is read once for all its entries.
struct Piece {
    entry: Entry,
    stored: Stored,
    /// The number of the tensor.
    tensor: usize,
    /// The elements of the tensor that it holds, or that its scales are of.
    range: Range<usize>,
    holds: Holds,
}

/// What an entry of a file holds of a matrix.
#[derive(Clone, Copy)]
enum Holds {
    /// Its elements.
    Values,
    /// Its elements, divided by the scales of their blocks; the matrix has so many columns.
    Scaled(usize),
    /// The scales of its blocks.
    Scales(usize),
}

impl Piece {
    fn stored(&self) -> (Entry, Stored) {
        (self.entry.clone(), self.stored)
    }

    /// The elements that are written, from those of the tensor.
    fn of<V: AsRef<[f32]>>(&self, tensor: Rc<V>) -> Written<V> {
        let values = &V::as_ref(&tensor)[self.range.clone()];
        match self.holds {
            Holds::Values => Written::Slice(tensor, self.range.clone()),
            Holds::Scaled(columns) => Written::Made(fp8::scaled(values, columns)),
            Holds::Scales(columns) => Written::Made(fp8::scales(values, columns)),
        }
    }
}

/// Elements that are written.
enum Written<V> {
    Slice(Rc<V>, Range<usize>),
    Made(Vec<f32>),
}

impl<V: AsRef<[f32]>> AsRef<[f32]> for Written<V> {
    fn as_ref(&self) -> &[f32] {
        match self {
            Self::Slice(values, range) => &V::as_ref(values)[range.clone()],
            Self::Made(values) => values,
        }
    }
}

/// The entries of tensor number `tensor`: what each holds of it.
///
/// # Panics
/// If together they do not hold it all.
fn pieces(stored: WeightType, tensor: usize, info: &TensorInfo) -> Vec<Piece> {
    let all: usize = info.entries.iter().map(Entry::len).sum();
    assert_eq!(all, info.len(), "{}: elements in all entries", info.name);
    let (mut pieces, mut start) = (Vec::new(), 0);
    for entry in &info.entries {
        let range = start..start + entry.len();
        start = range.end;
        let piece = |entry, stored, holds| Piece { entry, stored, tensor, range: range.clone(), holds };
        match (stored.of(info, entry), fp8::scales_of(entry)) {
            (Stored::E4m3, Some(scales)) => {
                let columns = entry.shape[1];
                pieces.push(piece(entry.clone(), Stored::E4m3, Holds::Scaled(columns)));
                pieces.push(piece(scales, Stored::F32, Holds::Scales(columns)));
            }
            (stored, _) => pieces.push(piece(entry.clone(), stored, Holds::Values)),
        }
    }
    pieces
}

/// The bytes of an entry.
fn bytes((entry, stored): &(Entry, Stored)) -> usize {
    stored.bytes() * entry.len()
}

/// Which entries lie together: as many as fit, in their order.
fn shards(entries: &[(Entry, Stored)], most: usize) -> Vec<Range<usize>> {
    let (mut shards, mut start, mut sum) = (Vec::new(), 0, 0);
    for (i, entry) in entries.iter().enumerate() {
        if sum + bytes(entry) > most && i > start {
            shards.push(start..i);
            (start, sum) = (i, 0);
        }
        sum += bytes(entry);
    }
    shards.push(start..entries.len());
    shards
}

#[cfg(test)]
mod tests {
    use std::fs;

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
            write_config(WeightType::F32, &config.raw, part)?;
            write_weights(WeightType::F32, part, &infos, 16_000, |i| {
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
    #[test]
    fn a_tensor_in_slices_loads_as_one_and_is_saved_as_several() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        crate::testkit::write_model(&path("whole"), 3).expect("written");
        let config = Config::load(&path("whole")).expect("a config");
        let (whole, infos) = (Weights::open(&path("whole"), &config).expect("weights"), config.tensors());
        // The same tensors, two of them in slices, as a checkpoint may hold the matrices of experts.
        let entry = |name: String, shape: &[usize]| Entry { name, shape: shape.into() };
        let mut sliced = infos.clone();
        for info in &mut sliced {
            match &info.name[..] {
                "model.layers.0.mlp.gate_proj.weight" => {
                    info.entries = vec![entry("first".into(), &[15, 24]), entry("second".into(), &[25, 24])];
                }
                "model.layers.1.mlp.up_proj.weight" => {
                    info.entries = (0..40).map(|row| entry(format!("row.{row}"), &[24])).collect();
                }
                _ => {}
            }
        }
        let write =
            |(from, read_as): (&Weights, &[TensorInfo]), dir: &Path, written_as: &[TensorInfo], most| {
                fs::create_dir(dir).expect("a directory");
                let mut read = Vec::new();
                let written = write_weights(WeightType::F32, dir, written_as, most, |i| {
                    read.push(i);
                    Ok::<_, CheckpointError>(from.read(&read_as[i])?)
                });
                written.expect("written");
                assert_eq!(read, (0..infos.len()).collect::<Vec<_>>(), "each tensor is read once");
            };
        let bytes = |dir: &Path| fs::read(dir.join("model.safetensors")).expect("there");
        for (name, most) in [("one file", usize::MAX), ("shards", 3000)] {
            let (dir, again) = (path(name), path(&format!("{name}, put together again")));
            write((&whole, &infos), &dir, &sliced, most);
            let weights = Weights::of_tensors(&dir, &sliced, None).expect("weights");
            for (info, sliced) in infos.iter().zip(&sliced) {
                assert_eq!(
                    whole.read(info).expect("read"),
                    weights.read(sliced).expect("read"),
                    "{}",
                    info.name
                );
            }
            write((&weights, &sliced), &again, &infos, usize::MAX);
            assert!(bytes(&again) == bytes(&path("whole")), "{name}: it is the file it was");
            let error = Weights::open(&dir, &config).err().expect("a tensor in slices").to_string();
            assert!(error.contains("`model.layers.0.mlp.gate_proj.weight` is missing"), "{error}");
        }
        let index =
            fs::read_to_string(path("shards").join("model.safetensors.index.json")).expect("an index");
        let index: Value = serde_json::from_str(&index).expect("JSON");
        assert_ne!(index["weight_map"]["first"], index["weight_map"]["second"], "slices in two shards");
        assert_eq!(index["metadata"]["total_size"], 4 * config.parameters());
        sliced.iter_mut().flat_map(|info| &mut info.entries).filter(|e| e.name == "row.7").for_each(|e| {
            e.shape = vec![1, 24];
        });
        let error =
            Weights::of_tensors(&path("shards"), &sliced, None).err().expect("another shape").to_string();
        assert!(error.contains("`row.7` has shape [24]"), "{error}");
    }
}
