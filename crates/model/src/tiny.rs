//! A tiny model that reads and writes any text, to try files, recipes and commands: its tokens are bytes.

use std::path::Path;

use koan_files::write_synced;
use serde_json::{Map, Value, json};

use crate::{
    Config,
    checkpoint::{self, CheckpointError},
    fresh,
};

/// The token that ends a text; the others are the bytes, in their order.
const END: u32 = 256;

/// Writes model directory `out`: a Llama of some 30,000 parameters with random weights from `seed`, without a chat template. `out` must not exist; it
/// is whole or absent. Returns the SHA-256 of the weights.
///
/// # Errors
/// If a file can't be written.
pub fn init_tiny(seed: u64, out: &Path) -> Result<String, CheckpointError> {
    let config = Config::from_json(sizes(), &out.join("config.json"))?;
    let write_tokenizer = |part: &Path| {
        write_synced(&part.join("tokenizer.json"), tokenizer().to_string().as_bytes())?;
        let config = json!({"eos_token": "<eos>"}).to_string();
        Ok(write_synced(&part.join("tokenizer_config.json"), config.as_bytes())?)
    };
    checkpoint::write_fresh(&config, out, write_tokenizer, |info, _, _| fresh(&config, info, seed))
}

fn sizes() -> Map<String, Value> {
    let sizes = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "vocab_size": END + 1,
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 4096, "tie_word_embeddings": true,
        "initializer_range": 0.08, // at 0.02 so small a model starts slowly
        "eos_token_id": END,
    });
    match sizes {
        Value::Object(sizes) => sizes,
        _ => Map::new(),
    }
}

/// Tokens as GPT-2 writes bytes: those that are printed stand for themselves, the others for the characters from 256 on.
fn tokenizer() -> Value {
    let is_printed = |b: u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut others = 256..;
    let bytes = (0..END).filter_map(|b| char::from_u32(if is_printed(b) { b } else { others.next()? }));
    let vocab: Map<String, Value> = bytes.zip(0..).map(|(c, id)| (c.to_string(), json!(id))).collect();
    let end = json!({"id": END, "content": "<eos>", "special": true, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false});
    let as_bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
    json!({"version": "1.0", "added_tokens": [end], "pre_tokenizer": as_bytes, "decoder": as_bytes,
        "model": {"type": "BPE", "vocab": vocab, "merges": []}})
}
