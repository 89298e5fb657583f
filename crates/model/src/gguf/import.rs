//! From a GGUF file to a Hugging Face directory: everything is checked first, then the weights stream.

use std::io::{BufReader, Read, Seek};
use std::path::Path;

use serde_json::{Value, json};

use crate::{
    Config, TensorInfo,
    checkpoint::{self, WeightType},
    license,
};

use super::GgufError;
use super::architecture::{Model, architecture, check_tensors};
use super::deepseek;
use super::reader::Gguf;
use super::tokenizer::{self, TokenizerFiles};
use super::weight::{Weight, weights};

/// Values that are dequantised at a time: 4 MiB as f32.
const CHUNK_LEN: usize = 1 << 20;

/// What [`import`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportSummary {
    /// The architecture: `llama`, `qwen2`, `qwen3` or `deepseek2`.
    pub architecture: String,
    /// Layers of the model.
    pub n_layers: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Tensors written.
    pub n_tensors: usize,
    /// Parameters written.
    pub n_parameters: u64,
}

/// Makes the Hugging Face directory `out` of the GGUF file `file`: `config.json`, `generation_config.json`,
/// `model.safetensors`, `tokenizer.json`, `tokenizer_config.json`, and a `README.md` that states the licence, if the file does.
///
/// Weights are written as f32, four bytes per parameter: dequantised values have more digits than bf16 holds.
/// One tensor at a time is in memory. `progress` is called after each tensor with its name, how many
/// are done, and how many there are.
///
/// `out` appears whole or not at all: it is written beside, synced and renamed.
///
/// # Errors
///
/// When `out` exists and is not an empty directory, when the file is damaged or hostile, when the model's
/// architecture, tensor types or tokenizer are not supported, and when the disk fails. Nothing is left
/// behind.
pub fn import(
    file: &Path,
    out: &Path,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<ImportSummary, GgufError> {
    let input = koan_files::open(file).map_err(|source| GgufError::Open { path: file.to_owned(), source })?;
    let mut gguf = Gguf::read(BufReader::new(input))?;
    let Plan { model, text, weights } = Plan::of(&mut gguf)?;
    let infos: Vec<TensorInfo> = weights.iter().map(|weight| weight.info.clone()).collect();
    checkpoint::check_streamed(&infos)?;

    let mut config = model.config();
    let mut generation = json!({});
    for config in [&mut config, &mut generation] {
        config["bos_token_id"] = text.bos.clone();
        config["eos_token_id"] = text.eos.clone();
        config["pad_token_id"] = text.pad.clone();
    }
    let terms = terms(&gguf)?;
    koan_files::write_directory(out, |part| {
        if let Some(card) = license::card(&terms) {
            koan_files::write_synced(&part.join("README.md"), card.as_bytes())?;
        }
        for (name, value) in [
            ("config.json", &config),
            ("generation_config.json", &generation),
            ("tokenizer.json", &text.tokenizer),
            ("tokenizer_config.json", &text.config),
        ] {
            koan_files::write_synced(&part.join(name), format!("{value:#}\n").as_bytes())?;
        }
        write_weights(&mut gguf, &weights, part, progress)
    })?;
    Ok(ImportSummary {
        architecture: architecture(model.family).to_owned(),
        n_layers: model.num_hidden_layers,
        vocab_size: model.vocab_size,
        n_tensors: weights.len(),
        n_parameters: weights.iter().map(|w| w.info.len() as u64).sum(),
    })
}

/// What the file states of the licence, by the keys of a model card.
fn terms<R: Read + Seek>(gguf: &Gguf<R>) -> Result<Vec<(&'static str, String)>, GgufError> {
    let mut terms = Vec::new();
    for (key, in_file) in license::KEYS {
        if let Some(value) = gguf.metadata.optional::<&str>(in_file)?.filter(|value| !value.trim().is_empty())
        {
            terms.push((key, value.to_owned()));
        }
    }
    Ok(terms)
}

/// What a GGUF file says of its model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GgufInfo {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`.
    pub name: Option<String>,
    /// `general.license`.
    pub license: Option<String>,
    /// Elements of all tensors.
    pub n_parameters: u64,
    /// The types of the tensors, each with how many there are, the most frequent first.
    pub types: Vec<(String, usize)>,
}

/// Reads what a GGUF file of any architecture says of its model.
///
/// # Errors
/// When the file is damaged or hostile, or has tensors of types that are not read.
pub fn info(file: &Path) -> Result<GgufInfo, GgufError> {
    let input = koan_files::open(file).map_err(|source| GgufError::Open { path: file.to_owned(), source })?;
    let gguf = Gguf::read(BufReader::new(input))?;
    let text = |key: &str| gguf.metadata.optional::<&str>(key).map(|text| text.map(str::to_owned));
    let mut types: Vec<(String, usize)> = Vec::new();
    for tensor in gguf.tensors.values() {
        let name = tensor.type_name();
        match types.iter_mut().find(|(other, _)| *other == name) {
            Some((_, count)) => *count += 1,
            None => types.push((name, 1)),
        }
    }
    types.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Ok(GgufInfo {
        architecture: gguf.metadata.required::<&str>("general.architecture")?.to_owned(),
        name: text("general.name")?,
        license: text("general.license")?,
        n_parameters: gguf.tensors.values().map(|t| (t.row_len() * t.n_rows()) as u64).sum(),
        types,
    })
}

/// What is to be written, checked against the file.
struct Plan {
    model: Model,
    text: TokenizerFiles,
    weights: Vec<Weight>,
}

impl Plan {
    fn of<R: Read + Seek>(gguf: &mut Gguf<R>) -> Result<Self, GgufError> {
        let model = Model::read(gguf)?;
        let text = tokenizer::rebuild(&gguf.metadata, model.vocab_size, model.max_position_embeddings)?;
        let Value::Object(config) = model.config() else { unreachable!("a config is an object") };
        let config = Config::from_json(config, Path::new("config.json"))?;
        let weights = weights(&config, deepseek::is_whole(gguf));
        check_tensors(gguf, &weights)?;
        Ok(Self { model, text, weights })
    }
}

fn write_weights<R: Read + Seek>(
    gguf: &mut Gguf<R>,
    weights: &[Weight],
    dir: &Path,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<(), GgufError> {
    let infos: Vec<TensorInfo> = weights.iter().map(|w| w.info.clone()).collect();
    checkpoint::write_weights(WeightType::F32, dir, &infos, usize::MAX, |i| {
        let weight = &weights[i];
        let mut parts = Vec::new();
        for part in &weight.parts {
            let tensor = &gguf.tensors[&part.name];
            let (row_len, n_rows) = (tensor.row_len(), tensor.n_rows());
            let step = (CHUNK_LEN / row_len).max(1);
            let mut values = vec![0.0; row_len * n_rows];
            for (chunk, row) in values.chunks_mut(step * row_len).zip((0..n_rows).step_by(step)) {
                gguf.read_rows(&part.name, row, chunk)?;
            }
            parts.push(values);
        }
        progress(&weight.info.name, i + 1, weights.len());
        Ok::<_, GgufError>(weight.of_file(parts))
    })?;
    Ok(())
}

#[cfg(test)]
mod tests;
