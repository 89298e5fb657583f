//! From a Hugging Face directory to a GGUF file that llama.cpp loads.

use std::path::Path;

use serde_json::Value;

use crate::{
    Config, Family, HeadKind, Role, RopeScaling,
    checkpoint::{CheckpointError, Weights, check_streamed},
    license, rope,
};

use super::{
    GgufError,
    architecture::{ROPE_DIVISORS, architecture},
    deepseek,
    dequant::TensorType,
    tokenizer_export,
    weight::{Part, Weight, weights},
    writer::{self, Entry, Pairs},
};

/// How the elements of matrices are stored. Norms, biases, routers and what is added to their scores are f32 always; matrices whose rows are no whole blocks are f16; and
/// beside `Q4_0`, embedding and head are `Q8_0`, because four bits cost them most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportType {
    /// Four bytes per element.
    F32,
    /// Two, of more digits than bf16.
    F16,
    /// Two, of f32's range.
    Bf16,
    /// 8.5 bits.
    Q8_0,
    /// 4.5 bits.
    Q4_0,
}

impl ExportType {
    fn tensor_type(self) -> TensorType {
        match self {
            Self::F32 => TensorType::F32,
            Self::F16 => TensorType::F16,
            Self::Bf16 => TensorType::Bf16,
            Self::Q8_0 => TensorType::Q8_0,
            Self::Q4_0 => TensorType::Q4_0,
        }
    }

    /// `general.file_type`.
    fn file_type(self) -> usize {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Bf16 => 32,
        }
    }

    fn of(self, role: Role, part: &Part) -> TensorType {
        let kind = match (self, role) {
            (_, Role::Norm | Role::Bias | Role::Router | Role::RouterBias) => return TensorType::F32,
            (Self::Q4_0, Role::Embedding { .. } | Role::Head) => TensorType::Q8_0,
            _ => self.tensor_type(),
        };
        let row = part.shape.last().copied().unwrap_or(1);
        if row.is_multiple_of(kind.block_len()) { kind } else { TensorType::F16 }
    }
}

/// Writes the model of directory `dir`, with its tokenizer and chat template, as the GGUF file `file`, which must not
/// exist: whole or not at all. One tensor at a time is in memory. `progress` is called after each tensor with its name,
/// how many are done, and how many there are.
///
/// # Errors
/// When the model can't be loaded, has something that llama.cpp does not compute or the format does not hold, or has a
/// tokenizer that llama.cpp has no name for; and when the disk fails.
pub fn export(
    dir: &Path,
    file: &Path,
    kind: ExportType,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<(), GgufError> {
    let config = Config::load(dir)?;
    if config.head == HeadKind::Scalar {
        return Err(CheckpointError::RewardModel { path: dir.into() }.into());
    }
    check_streamed(&config.tensors())?;
    let source = Weights::open(dir, &config)?;
    // llama.cpp reads no modules that predict further tokens.
    let weights = weights(&Config { multi_token_layers: 0, ..config.clone() }, false);
    let parts: Vec<(&Weight, usize)> =
        weights.iter().flat_map(|weight| (0..weight.parts.len()).map(move |part| (weight, part))).collect();
    let name = dir.canonicalize().ok().and_then(|dir| Some(dir.file_name()?.to_string_lossy().into_owned()));
    let mut pairs = Pairs::default();
    add_sizes(&mut pairs, &config, kind, name.as_deref().unwrap_or("model"))?;
    let mut stated = license::stated(dir, &config);
    if stated.is_empty() {
        stated.extend(license::license(dir, &config).map(|license| ("license", license)));
    }
    for (key, value) in &stated {
        if let Some((_, in_file)) = license::KEYS.iter().find(|(name, _)| name == key) {
            pairs.text(in_file, value);
        }
    }
    tokenizer_export::add(&mut pairs, dir, config.vocab_size, &Value::Object(config.raw.clone()))?;

    let entry = |(weight, part): &(&Weight, usize)| {
        let (part, role) = (&weight.parts[*part], weight.info.role);
        Entry { name: part.name.clone(), shape: part.shape.clone(), kind: kind.of(role, part) }
    };
    let mut entries: Vec<Entry> = parts.iter().map(entry).collect();
    let divisors = rope_divisors(&config);
    if let Some(divisors) = &divisors {
        let (name, shape) = (ROPE_DIVISORS.to_owned(), vec![divisors.len()]);
        entries.push(Entry { name, shape, kind: TensorType::F32 });
    }
    writer::write(file, &pairs, &entries, |i| {
        let Some(&(weight, part)) = parts.get(i) else { return Ok(divisors.clone().unwrap_or_default()) };
        let values = weight.to_file(part, &source.read(&weight.info)?);
        progress(&weight.parts[part].name, i + 1, parts.len());
        Ok(values)
    })
}

fn add_sizes(pairs: &mut Pairs, config: &Config, kind: ExportType, name: &str) -> Result<(), GgufError> {
    let architecture = architecture(config.family);
    pairs.text("general.architecture", architecture);
    pairs.text("general.type", "model");
    pairs.text("general.name", name);
    pairs.number("general.file_type", kind.file_type());
    pairs.number("general.quantization_version", 2);
    let key = |name: &str| format!("{architecture}.{name}");
    let latent = config.latent.is_some();
    let key_heads = if latent { 1 } else { config.num_key_value_heads };
    for (name, value) in [
        ("vocab_size", config.vocab_size),
        ("context_length", config.longest_sequence()),
        ("embedding_length", config.hidden_size),
        ("block_count", config.num_hidden_layers),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_attention_heads),
        ("attention.head_count_kv", key_heads),
    ] {
        pairs.number(&key(name), value);
    }
    if latent {
        deepseek::add(pairs, config)?;
    } else {
        for name in ["attention.key_length", "attention.value_length", "rope.dimension_count"] {
            pairs.number(&key(name), config.head_dim);
        }
    }
    pairs.float(&key("attention.layer_norm_rms_epsilon"), config.rms_norm_eps.into());
    pairs.float(&key("rope.freq_base"), config.rope_theta);
    match config.rope_scaling {
        RopeScaling::None | RopeScaling::Dynamic => {}
        RopeScaling::Llama3 { .. } if matches!(config.family, Family::Llama | Family::Mistral) => {}
        RopeScaling::Linear { factor } => {
            pairs.text(&key("rope.scaling.type"), "linear");
            pairs.float(&key("rope.scaling.factor"), factor);
        }
        RopeScaling::Yarn {
            factor,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
            attention_factor,
            original_max_position_embeddings: original,
        } if (attention_factor - yarn_of_rotation(config, factor)).abs() < 1e-6 => {
            pairs.text(&key("rope.scaling.type"), "yarn");
            pairs.float(&key("rope.scaling.factor"), factor);
            pairs.number(&key("rope.scaling.original_context_length"), original as usize);
        }
        other => {
            return Err(GgufError::Unsupported {
                what: "rope scaling",
                found: format!("{other:?}"),
                supported: "linear, dynamic, yarn with its paper's constants, and llama3 of the llama family",
            });
        }
    }
    Ok(())
}

/// What llama.cpp multiplies cosines and sines by under YaRN: 1 where the softmax has the factor.
fn yarn_of_rotation(config: &Config, factor: f64) -> f64 {
    let of_softmax = config.latent.is_some_and(|latent| {
        let plain = (latent.qk_head_dim() as f64).powf(-0.5);
        (latent.softmax_scale / plain - 1.0).abs() > 1e-9
    });
    if of_softmax { 1.0 } else { rope::yarn_scale(factor, 1.0) }
}

/// What each frequency is divided by: how llama.cpp keeps Llama 3's scaling.
fn rope_divisors(config: &Config) -> Option<Vec<f32>> {
    let RopeScaling::Llama3 { .. } = config.rope_scaling else { return None };
    let frequencies = |scaling: RopeScaling| scaling.frequencies(config.rope_theta, config.head_dim);
    let scaled = frequencies(config.rope_scaling);
    Some(frequencies(RopeScaling::None).iter().zip(scaled).map(|(plain, f)| (plain / f) as f32).collect())
}

#[cfg(test)]
mod tests;
