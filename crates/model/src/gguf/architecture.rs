//! The architectures: which sizes their metadata gives, which tensors they have, and what both are called in
//! Hugging Face's files.

use std::collections::BTreeSet;
use std::f64::consts::PI;
use std::io::{Read, Seek};

use serde_json::{Value, json};

use super::GgufError;
use super::reader::{Gguf, Metadata, Tensor};

/// Layers of a model. The deepest dense models have some 130.
const MAX_LAYERS: usize = 1024;
/// Any other size of a model (width, heads, context).
const MAX_SIZE: usize = 1 << 24;
/// The tensor that stands for Llama 3's scaling of positions.
pub(super) const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// The architectures that are known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Llama,
    Qwen2,
    Qwen3,
}

impl Family {
    fn named(architecture: &str) -> Result<Self, GgufError> {
        [Self::Llama, Self::Qwen2, Self::Qwen3]
            .into_iter()
            .find(|family| family.architecture() == architecture)
            .ok_or_else(|| GgufError::Unsupported {
                what: "architecture",
                found: architecture.to_owned(),
                supported: "llama, qwen2, qwen3",
            })
    }

    /// `general.architecture` in GGUF and `model_type` in `config.json`.
    pub(super) fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The class in transformers.
    fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }
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
}

impl Model {
    /// Reads the sizes from the metadata.
    pub(super) fn read<R: Read + Seek>(gguf: &mut Gguf<R>) -> Result<Self, GgufError> {
        let metadata = &gguf.metadata;
        let family = Family::named(metadata.required("general.architecture")?)?;
        let key = |name: &str| format!("{}.{name}", family.architecture());
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
        let head_dim = size_or("attention.key_length", hidden_size / num_attention_heads)?;
        for name in ["attention.value_length", "rope.dimension_count"] {
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
        let mut model = Self {
            family,
            vocab_size: embedding.n_rows(),
            hidden_size,
            intermediate_size: size("feed_forward_length")?,
            num_hidden_layers: bounded(key("block_count"), size("block_count")?, MAX_LAYERS)?,
            num_attention_heads,
            num_key_value_heads: size_or("attention.head_count_kv", num_attention_heads)?,
            head_dim,
            max_position_embeddings,
            rms_norm_eps: metadata.required(&key("attention.layer_norm_rms_epsilon"))?,
            rope_theta: metadata.optional(&key("rope.freq_base"))?.unwrap_or(10_000.0),
            rope_scaling: linear_scaling(metadata, key)?,
            tie_word_embeddings: !gguf.tensors.contains_key("output.weight"),
        };
        model.recover_llama3_scaling(gguf)?;
        Ok(model)
    }

    /// Sets `rope_scaling` from the divisors of the frequencies that llama.cpp keeps for Llama 3.1 and later.
    /// It keeps nothing else, so the numbers that all Llama 3 models share are tried.
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

    /// `config.json`, but for the special tokens.
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
            "model_type": self.family.architecture(),
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
                config["attention_bias"] = false.into();
                config["mlp_bias"] = false.into();
            }
            Family::Qwen2 => config["use_sliding_window"] = false.into(),
            Family::Qwen3 => {
                config["attention_bias"] = false.into();
                config["use_sliding_window"] = false.into();
            }
        }
        config
    }

    /// Every tensor of the model, in the order in which it is used.
    pub(super) fn weights(&self) -> Vec<Weight> {
        let (hidden, ffn) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        // llama.cpp's `llama` rotates neighbours, Hugging Face halves: the rows of q and k are stored
        // shuffled.
        let rotary_dim = (self.family == Family::Llama).then_some(self.head_dim);
        let weight = |gguf: String, hf: String, shape: &[usize]| Weight {
            gguf,
            hf,
            shape: shape.to_vec(),
            rotary_dim: None,
        };

        let mut weights = vec![weight(
            "token_embd.weight".into(),
            "model.embed_tokens.weight".into(),
            &[self.vocab_size, hidden],
        )];
        for i in 0..self.num_hidden_layers {
            let mut add = |gguf: &str, hf: &str, shape: &[usize], rotary_dim| {
                let (gguf, hf) = (format!("blk.{i}.{gguf}"), format!("model.layers.{i}.{hf}"));
                weights.push(Weight { rotary_dim, ..weight(gguf, hf, shape) });
            };
            add("attn_norm.weight", "input_layernorm.weight", &[hidden], None);
            add("attn_q.weight", "self_attn.q_proj.weight", &[q, hidden], rotary_dim);
            add("attn_k.weight", "self_attn.k_proj.weight", &[kv, hidden], rotary_dim);
            add("attn_v.weight", "self_attn.v_proj.weight", &[kv, hidden], None);
            if self.family == Family::Qwen2 {
                add("attn_q.bias", "self_attn.q_proj.bias", &[q], None);
                add("attn_k.bias", "self_attn.k_proj.bias", &[kv], None);
                add("attn_v.bias", "self_attn.v_proj.bias", &[kv], None);
            }
            if self.family == Family::Qwen3 {
                add("attn_q_norm.weight", "self_attn.q_norm.weight", &[self.head_dim], None);
                add("attn_k_norm.weight", "self_attn.k_norm.weight", &[self.head_dim], None);
            }
            add("attn_output.weight", "self_attn.o_proj.weight", &[hidden, q], None);
            add("ffn_norm.weight", "post_attention_layernorm.weight", &[hidden], None);
            add("ffn_gate.weight", "mlp.gate_proj.weight", &[ffn, hidden], None);
            add("ffn_up.weight", "mlp.up_proj.weight", &[ffn, hidden], None);
            add("ffn_down.weight", "mlp.down_proj.weight", &[hidden, ffn], None);
        }
        weights.push(weight("output_norm.weight".into(), "model.norm.weight".into(), &[hidden]));
        if !self.tie_word_embeddings {
            weights.push(weight("output.weight".into(), "lm_head.weight".into(), &[self.vocab_size, hidden]));
        }
        weights
    }
}

/// A tensor of the model, under both its names.
pub(super) struct Weight {
    pub(super) gguf: String,
    pub(super) hf: String,
    /// Outermost dimension first, the same in both.
    pub(super) shape: Vec<usize>,
    /// The size of a head whose rows the file stores shuffled.
    pub(super) rotary_dim: Option<usize>,
}

impl Weight {
    /// Number of values.
    pub(super) fn len(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product()
    }

    /// Where the file keeps row `row`: halves (i, i + d / 2) of a head lie as neighbours (2 i, 2 i + 1).
    pub(super) fn stored_row(&self, row: usize) -> usize {
        self.rotary_dim.map_or(row, |dim| {
            let (head, r, half) = (row / dim, row % dim, dim / 2);
            head * dim + r % half * 2 + r / half
        })
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

/// `rope_scaling` when the metadata has it: none or linear.
fn linear_scaling(metadata: &Metadata, key: impl Fn(&str) -> String) -> Result<Value, GgufError> {
    let factor: f64 = match metadata.optional(&key("rope.scaling.type"))? {
        None | Some("none") => metadata.optional(&key("rope.scale_linear"))?.unwrap_or(1.0),
        Some("linear") => metadata.required(&key("rope.scaling.factor"))?,
        Some(other) => {
            let (found, supported) = (other.to_owned(), "none, linear");
            return Err(GgufError::Unsupported { what: "rope scaling", found, supported });
        }
    };
    Ok(if factor == 1.0 { Value::Null } else { json!({"rope_type": "linear", "factor": factor}) })
}

/// Checks that the file's tensors are the model's: none missing, none more, none of another shape.
pub(super) fn check_tensors<R>(gguf: &Gguf<R>, weights: &[Weight]) -> Result<(), GgufError> {
    let known: BTreeSet<_> = weights.iter().map(|w| w.gguf.as_str()).chain([ROPE_DIVISORS]).collect();
    if let Some(name) = gguf.tensors.keys().find(|name| !known.contains(name.as_str())) {
        let (found, supported) = (name.clone(), "those of dense llama, qwen2 and qwen3 models");
        return Err(GgufError::Unsupported { what: "tensor", found, supported });
    }
    weights.iter().try_for_each(|weight| match gguf.tensors.get(&weight.gguf) {
        None => Err(GgufError::MissingTensor { name: weight.gguf.clone() }),
        Some(tensor) => expect_shape(tensor, &weight.shape),
    })
}

fn expect_shape(tensor: &Tensor, expected: &[usize]) -> Result<(), GgufError> {
    if tensor.shape == expected {
        return Ok(());
    }
    let (name, found) = (tensor.name.clone(), tensor.shape.clone());
    Err(GgufError::Shape { name, found, expected: expected.to_vec() })
}
