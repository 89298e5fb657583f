//! A tiny model for tests: random weights, and a directory of it with a tokenizer of single characters.

use std::path::Path;

use koan_backend::{Backend, OutOfMemory};
use serde_json::{Value, json};

use crate::{
    AdapterSpec, CacheForm, Config, Model, Role, Targets, TensorInfo,
    checkpoint::{self, CheckpointError},
};

/// The config of a model with every feature in small: two layers, grouped queries, odd sizes.
///
/// # Panics
/// If the config, which is written here, is refused.
pub fn config(vocab_size: usize, tied: bool) -> Config {
    config_with(vocab_size, tied, json!({}))
}

/// Keys of `config.json` that make, of the tiny model, one of each kind: with biases on some products or on all, with
/// norms on heads, with stretched positions.
pub fn kinds() -> Vec<Value> {
    let yarn = json!({"rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0,
                      "original_max_position_embeddings": 16});
    vec![
        json!({}),
        json!({"model_type": "qwen2"}),
        json!({"model_type": "qwen3"}),
        json!({"model_type": "mistral", "sliding_window": null, "rope_parameters": yarn}),
        json!({"attention_bias": true, "mlp_bias": true}),
        deepseek(json!({
            "model_type": "deepseek_v3", "n_group": 3, "topk_group": 2, "num_experts_per_tok": 3, "first_k_dense_replace": 1,
        })),
        deepseek(json!({
            "model_type": "deepseek_v2", "q_lora_rank": null, "attention_bias": true, "n_shared_experts": 0,
            "routed_scaling_factor": 1.5, "first_k_dense_replace": 1,
        })),
        deepseek(json!({"model_type": "deepseek_v3", "rope_interleave": false, "first_k_dense_replace": 1})),
        deepseek(json!({
            "model_type": "deepseek_v2", "q_lora_rank": null, "attention_bias": true, "n_shared_experts": 0,
            "routed_scaling_factor": 1.5, "first_k_dense_replace": 1, CACHE: "latent",
        })),
        deepseek(json!({
            "model_type": "deepseek_v3", "rope_interleave": false, "first_k_dense_replace": 1, CACHE: "latent",
        })),
    ]
}

/// What [`config_with`] takes beside the keys of `config.json`: what latent attention caches, `"latent"` or nothing.
pub const CACHE: &str = "cache";

/// The keys of DeepSeek's models in small, with `changes`: latents, parts of heads that are rotated, positions stretched so
/// that the softmax has a scale of its own; experts in two groups.
pub fn deepseek(changes: Value) -> Value {
    let yarn = json!({"rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 0.7,
                      "original_max_position_embeddings": 16});
    let mut sizes = json!({
        "num_key_value_heads": 4, "head_dim": 4, "q_lora_rank": 10, "kv_lora_rank": 9, "qk_nope_head_dim": 5, "qk_rope_head_dim": 4,
        "v_head_dim": 7, "rope_parameters": yarn, "n_routed_experts": 6, "num_experts_per_tok": 2, "n_group": 2,
        "topk_group": 1, "moe_intermediate_size": 13, "n_shared_experts": 1,
    });
    let (Value::Object(own), Value::Object(changes)) = (&mut sizes, changes) else { unreachable!("objects") };
    own.extend(changes);
    sizes
}

/// As [`config`], with the keys of the object `changes` added or changed.
///
/// # Panics
/// If the config is refused.
pub fn config_with(vocab_size: usize, tied: bool, changes: Value) -> Config {
    let json = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocab_size, "hidden_size": 24,
        "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 6, "rms_norm_eps": 1e-5, "rope_theta": 1000.0, "max_position_embeddings": 256,
        "tie_word_embeddings": tied, "eos_token_id": 0,
    });
    let (Value::Object(mut json), Value::Object(changes)) = (json, changes) else { unreachable!("objects") };
    json.extend(changes);
    let cache = json.remove(CACHE).map_or(CacheForm::Expanded, |_| CacheForm::Latent);
    let config = Config::from_json(json, Path::new("testkit"));
    config.and_then(|config| config.caching(cache, Path::new("testkit"))).expect("a config of the testkit")
}

/// The specification of an adapter on `targets`, of rank 3, whose scale is no power of two.
pub fn adapter(targets: Targets) -> AdapterSpec {
    AdapterSpec { rank: 3, alpha: 4.0, rslora: false, targets }
}

/// A number in [-1/2, 1/2) that depends on `seed` and `i` alone (SplitMix64, Steele et al. 2014).
pub fn random(seed: u64, i: u64) -> f32 {
    let mut z = (seed << 32).wrapping_add(i).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z >> 40) as f32) / (1u32 << 24) as f32 - 0.5
}

/// A model of random weights.
///
/// # Panics
/// If there is no memory for it.
pub fn model<B: Backend>(b: &B, config: Config, seed: u64) -> Model<B> {
    let positions = config.max_position_embeddings;
    let mut i = 0..;
    let built = Model::new(b, config, positions, |info: &TensorInfo| {
        let (mean, spread) = if info.role == Role::Norm { (1.0, 0.2) } else { (0.0, 0.5) };
        let value = |i| mean + spread * random(seed, i);
        Ok::<_, OutOfMemory>(i.by_ref().take(info.len()).map(value).collect::<Vec<f32>>())
    });
    built.expect("memory for a tiny model")
}

/// Characters that the test tokenizer knows; token 0 is `<eos>`. So few that random weights sometimes answer right.
const CHARACTERS: &str = " 0123456789+.";

/// Writes a model directory with random weights and a tokenizer of single characters.
///
/// # Errors
/// If it can't be written.
pub fn write_model(dir: &Path, seed: u64) -> Result<(), CheckpointError> {
    write(dir, seed, CHARACTERS, 0, false, json!({}))
}

/// As [`write_model`], with the keys of the object `changes` of its config added or changed.
///
/// # Errors
/// If it can't be written.
pub fn write_model_with(dir: &Path, seed: u64, changes: Value) -> Result<(), CheckpointError> {
    write(dir, seed, CHARACTERS, 0, false, changes)
}

/// As [`write_model`], with `padding` embeddings that are of no token.
///
/// # Errors
/// If it can't be written.
pub fn write_padded_model(dir: &Path, seed: u64, padding: usize) -> Result<(), CheckpointError> {
    write(dir, seed, CHARACTERS, padding, false, json!({}))
}

/// Writes a reward model's directory with random weights and a tokenizer of these single `characters`.
///
/// # Errors
/// If it can't be written.
pub fn write_reward_model(dir: &Path, seed: u64, characters: &str) -> Result<(), CheckpointError> {
    write(dir, seed, characters, 0, true, json!({}))
}

fn write(
    dir: &Path,
    seed: u64,
    characters: &str,
    padding: usize,
    scores: bool,
    changes: Value,
) -> Result<(), CheckpointError> {
    let mut vocab = serde_json::Map::from_iter([("<eos>".to_owned(), json!(0))]);
    vocab.extend(characters.chars().enumerate().map(|(i, c)| (c.to_string(), json!(i + 1))));
    let unknown = vocab.len();
    vocab.insert("<unk>".into(), json!(unknown));
    let size = vocab.len();
    let special = |id: usize, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [special(0, "<eos>"), special(unknown, "<unk>")],
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": false},
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    });
    let b = koan_backend::Reference;
    let mut config = config_with(size + padding, true, changes);
    if scores {
        config = config.with_scalar_head(unknown as u32, false);
    }
    let model = model(&b, config, seed);
    koan_files::write_directory(dir, |part| {
        koan_files::write_synced(&part.join("tokenizer.json"), tokenizer.to_string().as_bytes())?;
        let config = json!({"eos_token": "<eos>"}).to_string();
        koan_files::write_synced(&part.join("tokenizer_config.json"), config.as_bytes())?;
        checkpoint::save_into(&b, &model, part, Path::new("no such directory")).map(drop)
    })
}
