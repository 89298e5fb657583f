//! From a GGUF file to a Hugging Face directory: everything is checked first, then the weights stream.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::GgufError;
use super::architecture::{Model, Weight, check_tensors};
use super::reader::Gguf;
use super::tokenizer::{self, TokenizerFiles};

/// Values that are dequantised at a time, so that memory does not grow with the model: 4 MiB as f32.
const CHUNK_LEN: usize = 1 << 20;

/// What [`import`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportSummary {
    /// The architecture: `llama`, `qwen2` or `qwen3`.
    pub architecture: String,
    /// Layers of the model.
    pub n_layers: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Tensors written.
    pub n_tensors: usize,
    /// Parameters written.
    pub n_parameters: u64,
    /// Bytes of `model.safetensors`: four a parameter and the header.
    pub n_bytes: u64,
}

/// Makes the Hugging Face directory `out` of the GGUF file `file`: `config.json`, `generation_config.json`,
/// `model.safetensors`, `tokenizer.json`, `tokenizer_config.json`.
///
/// Weights are written as f32, four bytes a parameter: dequantised values have more digits than bf16 holds.
/// They stream through a few MiB of memory. `progress` is called after each tensor with its name, how many
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
    let input = File::open(file).map_err(|source| GgufError::Open { path: file.to_owned(), source })?;
    let mut gguf = Gguf::read(BufReader::new(input))?;
    let Plan { model, text, weights } = Plan::of(&mut gguf)?;

    let staging = Staging::beside(out)?;
    let mut config = model.config();
    let mut generation = json!({});
    for config in [&mut config, &mut generation] {
        config["bos_token_id"] = text.bos.clone();
        config["eos_token_id"] = text.eos.clone();
        config["pad_token_id"] = text.pad.clone();
    }
    staging.write_json("config.json", &config)?;
    staging.write_json("generation_config.json", &generation)?;
    staging.write_json("tokenizer.json", &text.tokenizer)?;
    staging.write_json("tokenizer_config.json", &text.config)?;
    let n_bytes = staging.write_weights(&mut gguf, &weights, progress)?;
    staging.publish(out)?;
    Ok(ImportSummary {
        architecture: model.family.architecture().to_owned(),
        n_layers: model.num_hidden_layers,
        vocab_size: model.vocab_size,
        n_tensors: weights.len(),
        n_parameters: weights.iter().map(Weight::len).sum(),
        n_bytes,
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
        let weights = model.weights();
        check_tensors(gguf, &weights)?;
        Ok(Self { model, text, weights })
    }
}

/// The directory being written, beside the one wanted. Removed when dropped before it is published.
struct Staging {
    path: PathBuf,
    published: bool,
}

impl Staging {
    fn beside(out: &Path) -> Result<Self, GgufError> {
        let taken = || GgufError::OutputExists { path: out.to_owned() };
        if out.exists() && !fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none()) {
            return Err(taken());
        }
        // Only `/` and paths that end in `..` have no name.
        let mut name = OsString::from(".");
        name.push(out.file_name().ok_or_else(taken)?);
        name.push(format!(".importing-{}", std::process::id()));
        let path = parent(out).join(name);
        fs::create_dir_all(parent(out)).map_err(write_error(parent(out)))?;
        fs::create_dir(&path).map_err(write_error(&path))?;
        Ok(Self { path, published: false })
    }

    fn write_json(&self, name: &str, value: &Value) -> Result<(), GgufError> {
        self.write_file(name, |out| {
            let mut text = serde_json::to_vec_pretty(value).expect("a JSON value is written to memory");
            text.push(b'\n');
            out(&text)
        })
    }

    /// Writes `model.safetensors`; returns its size in bytes.
    fn write_weights<R: Read + Seek>(
        &self,
        gguf: &mut Gguf<R>,
        weights: &[Weight],
        progress: &mut dyn FnMut(&str, usize, usize),
    ) -> Result<u64, GgufError> {
        let header = safetensors_header(weights);
        self.write_file("model.safetensors", |out| {
            out(&header)?;
            let (mut values, mut bytes) = (Vec::new(), Vec::new());
            for (done, weight) in weights.iter().enumerate() {
                let tensor = &gguf.tensors[&weight.gguf];
                let (row_len, n_rows) = (tensor.row_len(), tensor.n_rows());
                let step = if weight.rotary_dim.is_some() { 1 } else { (CHUNK_LEN / row_len).max(1) };
                for row in (0..n_rows).step_by(step) {
                    values.resize(step.min(n_rows - row) * row_len, 0.0);
                    gguf.read_rows(&weight.gguf, weight.stored_row(row), &mut values)?;
                    bytes.clear();
                    bytes.extend(values.iter().flat_map(|x: &f32| x.to_le_bytes()));
                    out(&bytes)?;
                }
                progress(&weight.hf, done + 1, weights.len());
            }
            Ok(())
        })?;
        Ok(header.len() as u64 + 4 * weights.iter().map(Weight::len).sum::<u64>())
    }

    /// Creates the file `name`, lets `content` write to it, and syncs it.
    fn write_file(
        &self,
        name: &str,
        content: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), GgufError>) -> Result<(), GgufError>,
    ) -> Result<(), GgufError> {
        let path = self.path.join(name);
        let mut file = BufWriter::new(File::create(&path).map_err(write_error(&path))?);
        content(&mut |bytes| file.write_all(bytes).map_err(write_error(&path)))?;
        file.flush().and_then(|()| file.get_ref().sync_all()).map_err(write_error(&path))
    }

    /// Gives the directory its name.
    fn publish(mut self, out: &Path) -> Result<(), GgufError> {
        sync_directory(&self.path)?;
        if out.exists() {
            fs::remove_dir(out).map_err(write_error(out))?;
        }
        fs::rename(&self.path, out).map_err(write_error(out))?;
        self.published = true;
        sync_directory(parent(out))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // The error that brought us here matters more than a failure to clean up after it.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The length and the JSON header of `model.safetensors`, padded so that the data is aligned.
fn safetensors_header(weights: &[Weight]) -> Vec<u8> {
    let mut entries = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut offset = 0;
    for weight in weights {
        let end = offset + 4 * weight.len();
        let entry = json!({"dtype": "F32", "shape": weight.shape, "data_offsets": [offset, end]});
        entries.insert(weight.hf.clone(), entry);
        offset = end;
    }
    let mut json = Value::from(entries).to_string();
    json.extend(std::iter::repeat_n(' ', json.len().next_multiple_of(8) - json.len()));
    [&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> GgufError {
    |source| GgufError::Write { path: path.to_owned(), source }
}

/// Makes the names in a directory last, where the system lets directories be synced.
fn sync_directory(path: &Path) -> Result<(), GgufError> {
    File::open(path).map_or(Ok(()), |directory| directory.sync_all()).map_err(write_error(path))
}

#[cfg(test)]
mod tests;
