//! The architectures: which sizes their metadata gives, and what they are called in Hugging Face's files.

use std::collections::BTreeSet;
use std::f64::consts::PI;
use std::io::{Read, Seek};

use serde_json::{Map, Value, json};

use crate::Family;

use super::GgufError;
use super::deepseek;
use super::reader::{Gguf, Metadata, Tensor};
use super::weight::Weight;

/// Layers of a model. The deepest dense models have some 130.
const MAX_LAYERS: usize = 1024;
/// Any other size of a model (width, heads, context).
const MAX_SIZE: usize = 1 << 24;
/// The tensor that stands for Llama 3's scaling of positions.
pub(super) const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// `general.architecture` of a family. llama.cpp has Mistral's models among the llamas.
pub(super) fn architecture(family: Family) -> &'static str {
    match family {
        Family::Llama | Family::Mistral => "llama",
        Family::Qwen2 => "qwen2",
        Family::Qwen3 => "qwen3",
        Family::DeepseekV2 | Family::DeepseekV3 => deepseek::ARCHITECTURE,
    }
}

fn family_of(metadata: &Metadata) -> Result<Family, GgufError> {
    let architecture: &str = metadata.required("general.architecture")?;
    if architecture == deepseek::ARCHITECTURE {
        return deepseek::family(metadata);
    }
    [Family::Llama, Family::Qwen2, Family::Qwen3]
        .into_iter()
        .find(|family| family.name() == architecture)
        .ok_or_else(|| GgufError::Unsupported {
            what: "architecture",
            found: architecture.to_owned(),
            supported: "llama, qwen2, qwen3, deepseek2",
        })
}

/// The model's sizes, under the names of `config.json`.
pub(super) struct Model {
    pub(super) family: Family,
    pub(super) vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    pub(super) num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    pub(super) max_position_embeddings: usize,
    rms_norm_eps: f64,
    rope_theta: f64,
    pub(super) rope_scaling: Value,
    tie_word_embeddings: bool,
    /// Whether there are biases of attention, and of the MLP.
    biases: [bool; 2],
    /// The sizes of latents and experts, in families that have them.
    further: Option<Map<String, Value>>,
}

impl Model {
    /// Reads the sizes from the metadata.
    pub(super) fn read<R: Read + Seek>(gguf: &mut Gguf<R>) -> Result<Self, GgufError> {
        let metadata = &gguf.metadata;
        let family = family_of(metadata)?;
        let key = |name: &str| format!("{}.{name}", architecture(family));
        let size = |name: &str| bounded(key(name), metadata.required(&key(name))?, MAX_SIZE);
        let size_or = |name: &str, default: usize| {
            bounded(key(name), metadata.optional(&key(name))?.unwrap_or(default), MAX_SIZE)
        };
        let embedding = gguf
            .tensors
            .get("token_embd.weight")
            .ok_or_else(|| GgufError::MissingTensor { name: "token_embd.weight".to_owned() })?;
        let hidden_size = size("embedding_length")?;
        let num_attention_heads = size("attention.head_count")?;
        let further = family.is_deepseek().then(|| deepseek::read(metadata, family)).transpose()?;
        let head_dim = match further {
            Some(_) => size("rope.dimension_count")?,
            None => size_or("attention.key_length", hidden_size / num_attention_heads)?,
        };
        let of_head: &[&str] =
            if further.is_some() { &[] } else { &["attention.value_length", "rope.dimension_count"] };
        for name in of_head {
            if size_or(name, head_dim)? != head_dim {
                return Err(GgufError::BadValue {
                    key: key(name),
                    found: size(name)?.to_string(),
                    expected: "the size of an attention head",
                });
            }
        }
        if !head_dim.is_multiple_of(2) {
            let (found, expected) = (head_dim.to_string(), "an even size of an attention head");
            return Err(GgufError::BadValue { key: key("attention.key_length"), found, expected });
        }
        let max_position_embeddings = size("context_length")?;
        let window = metadata.optional(&key("attention.sliding_window"))?.unwrap_or(0);
        if (1..max_position_embeddings).contains(&window) {
            let (found, supported) = (window.to_string(), "full attention");
            return Err(GgufError::Unsupported { what: "sliding window", found, supported });
        }
        let mut rope_scaling = rope_scaling(metadata, key)?;
        if further.is_some() {
            deepseek::read_yarn(metadata, &mut rope_scaling)?;
        }
        // Latents have one head of keys for all, from which each has its own.
        let key_heads = if further.is_some() { None } else { Some("attention.head_count_kv") };
        let mut model = Self {
            family,
            vocab_size: embedding.n_rows(),
            hidden_size,
            intermediate_size: size("feed_forward_length")?,
            num_hidden_layers: bounded(key("block_count"), size("block_count")?, MAX_LAYERS)?,
            num_attention_heads,
            num_key_value_heads: key_heads
                .map_or(Ok(num_attention_heads), |name| size_or(name, num_attention_heads))?,
            head_dim,
            max_position_embeddings,
            rms_norm_eps: metadata.required(&key("attention.layer_norm_rms_epsilon"))?,
            rope_theta: metadata.optional(&key("rope.freq_base"))?.unwrap_or(10_000.0),
            rope_scaling,
            tie_word_embeddings: !gguf.tensors.contains_key("output.weight"),
            biases: ["blk.0.attn_q.bias", "blk.0.ffn_gate.bias"].map(|name| gguf.tensors.contains_key(name)),
            further,
        };
        model.recover_llama3_scaling(gguf)?;
        Ok(model)
    }

    /// Sets `rope_scaling` from the divisors of the frequencies that llama.cpp keeps for Llama 3.1 and later.
    /// It keeps nothing else, so the constants that all Llama 3 models share are tried.
    fn recover_llama3_scaling<R: Read + Seek>(&mut self, gguf: &mut Gguf<R>) -> Result<(), GgufError> {
        const ORIGINAL_CONTEXT: f64 = 8192.0;
        const LOW_FREQ_FACTOR: f64 = 1.0;
        const HIGH_FREQ_FACTOR: f64 = 4.0;
        let Some(tensor) = gguf.tensors.get(ROPE_DIVISORS) else { return Ok(()) };
        expect_shape(tensor, &[self.head_dim / 2])?;
        let mut divisors = vec![0.0; self.head_dim / 2];
        gguf.read_rows(ROPE_DIVISORS, 0, &mut divisors)?;
        // The slowest frequency is divided by the whole factor.
        let factor = f64::from(divisors[divisors.len() - 1]);
        let expected = |i: usize| {
            let exponent = 2.0 * i as f64 / self.head_dim as f64;
            let turns = ORIGINAL_CONTEXT / (2.0 * PI * self.rope_theta.powf(exponent));
            let smooth = (turns - LOW_FREQ_FACTOR) / (HIGH_FREQ_FACTOR - LOW_FREQ_FACTOR);
            let smooth = smooth.clamp(0.0, 1.0);
            1.0 / ((1.0 - smooth) / factor + smooth)
        };
        let close = |(i, &x): (usize, &f32)| (f64::from(x) / expected(i) - 1.0).abs() < 1e-4;
        if self.family != Family::Llama || !divisors.iter().enumerate().all(close) {
            return Err(GgufError::Unsupported {
                what: "rope scaling",
                found: ROPE_DIVISORS.to_owned(),
                supported: "none, linear, and that of the Llama 3 models",
            });
        }
        self.rope_scaling = json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": LOW_FREQ_FACTOR,
            "high_freq_factor": HIGH_FREQ_FACTOR,
            "original_max_position_embeddings": ORIGINAL_CONTEXT as usize,
        });
        Ok(())
    }

    /// `config.json`, except the special tokens.
    pub(super) fn config(&self) -> Value {
        let mut config = json!({
            "architectures": [self.family.class()],
            "attention_dropout": 0.0,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "model_type": self.family.name(),
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_scaling": self.rope_scaling,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": "float32",
            "use_cache": true,
            "vocab_size": self.vocab_size,
        });
        match self.family {
            Family::Llama => {
                config["attention_bias"] = self.biases[0].into();
                config["mlp_bias"] = self.biases[1].into();
            }
            Family::Mistral => config["sliding_window"] = Value::Null,
            Family::Qwen2 => config["use_sliding_window"] = false.into(),
            Family::Qwen3 => {
                config["attention_bias"] = self.biases[0].into();
                config["use_sliding_window"] = false.into();
            }
            Family::DeepseekV2 | Family::DeepseekV3 => {}
        }
        if let (Some(further), Value::Object(config)) = (&self.further, &mut config) {
            config.remove("head_dim");
            config.extend(further.clone());
        }
        config
    }
}

/// Checks a size that the file claims.
fn bounded(key: String, size: usize, limit: usize) -> Result<usize, GgufError> {
    if (1..=limit).contains(&size) {
        return Ok(size);
    }
    let (found, expected) = (size.to_string(), "a size that is neither 0 nor beyond that of any real model");
    Err(GgufError::BadValue { key, found, expected })
}

/// `rope_scaling` when the metadata has it: none, linear or yarn.
fn rope_scaling(metadata: &Metadata, key: impl Fn(&str) -> String) -> Result<Value, GgufError> {
    let factor = || metadata.required::<f64>(&key("rope.scaling.factor"));
    let linear = |factor: f64| match factor {
        1.0 => Value::Null,
        factor => json!({"rope_type": "linear", "factor": factor}),
    };
    match metadata.optional(&key("rope.scaling.type"))? {
        None | Some("none") => Ok(linear(metadata.optional(&key("rope.scale_linear"))?.unwrap_or(1.0))),
        Some("linear") => Ok(linear(factor()?)),
        Some("yarn") => {
            let original: usize = metadata.required(&key("rope.scaling.original_context_length"))?;
            Ok(
                json!({"rope_type": "yarn", "factor": factor()?, "original_max_position_embeddings": original}),
            )
        }
        Some(other) => {
            let (found, supported) = (other.to_owned(), "none, linear, yarn");
            Err(GgufError::Unsupported { what: "rope scaling", found, supported })
        }
    }
}

/// Checks that the file's tensors are the model's: none is missing, superfluous or of another shape.
pub(super) fn check_tensors<R>(gguf: &Gguf<R>, weights: &[Weight]) -> Result<(), GgufError> {
    let parts = || weights.iter().flat_map(|weight| &weight.parts);
    let known: BTreeSet<_> = parts().map(|part| part.name.as_str()).chain([ROPE_DIVISORS]).collect();
    // Some files have the expansion of latents in both forms.
    let is_copy = |name: &str| {
        let whole = name.replace(".attn_k_b.", ".attn_kv_b.").replace(".attn_v_b.", ".attn_kv_b.");
        whole != name && known.contains(whole.as_str())
    };
    if let Some(name) = gguf.tensors.keys().find(|name| !known.contains(name.as_str()) && !is_copy(name)) {
        let (found, supported) = (name.clone(), "those of llama, qwen2, qwen3 and deepseek2 models");
        return Err(GgufError::Unsupported { what: "tensor", found, supported });
    }
    parts().try_for_each(|part| match gguf.tensors.get(&part.name) {
        None => Err(GgufError::MissingTensor { name: part.name.clone() }),
        Some(tensor) => expect_shape(tensor, &part.shape),
    })
}

fn expect_shape(tensor: &Tensor, expected: &[usize]) -> Result<(), GgufError> {
    if tensor.shape == expected {
        return Ok(());
    }
    let (name, found) = (tensor.name.clone(), tensor.shape.clone());
    Err(GgufError::Shape { name, found, expected: expected.to_vec() })
}
