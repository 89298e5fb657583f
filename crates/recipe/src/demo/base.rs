//! The model of the demo before it has read anything: its sizes, its words, random weights.

use std::path::Path;

use koan_files::{FilesError, write_directory, write_synced};
use serde_json::{Map, Value, json};

use super::DemoError;

/// Words of the text; the characters of everything else are tokens of their own.
const WORDS: [&str; 5] = ["<|end|>", "<|unknown|>", "Answer", "ok", "wait"];
/// Characters that the model knows.
const CHARACTERS: &str = "0123456789+-=:? \nabcdefghijklmnopqrstuvwxyz";
const SEED: u64 = 1;

/// Writes model directory `dir` with random weights. `scratch` is a directory for its parts.
pub(super) fn write(dir: &Path, scratch: &Path) -> Result<(), DemoError> {
    let parts = scratch.join(".parts");
    if parts.exists() {
        std::fs::remove_dir_all(&parts).map_err(FilesError::io("remove", &parts))?;
    }
    write_directory(&parts, |part| {
        for (name, value) in [
            ("config.json", config()),
            ("tokenizer.json", tokenizer()),
            ("tokenizer_config.json", json!({"eos_token": WORDS[0], "unk_token": WORDS[1]})),
        ] {
            write_synced(&part.join(name), value.to_string().as_bytes())?;
        }
        Ok::<_, DemoError>(())
    })?;
    koan_model::init(&parts.join("config.json"), SEED, Some(&parts), dir, &mut |_, _| {})?;
    Ok(std::fs::remove_dir_all(&parts).map_err(FilesError::io("remove", &parts))?)
}

fn vocabulary() -> Map<String, Value> {
    let characters = CHARACTERS.chars().map(String::from);
    let tokens = WORDS.map(String::from).into_iter().chain(characters);
    tokens.enumerate().map(|(id, token)| (token, json!(id))).collect()
}

/// A Llama of 0.33 million parameters.
fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "vocab_size": vocabulary().len(), "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3,
        "num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 32, "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false,
        "initializer_range": 0.08, // near 1/√hidden_size: at 0.02 so small a model starts slowly
        "bos_token_id": 0, "eos_token_id": 0,
    })
}

fn tokenizer() -> Value {
    let special: Vec<Value> = (0..2)
        .map(|id| {
            json!({"id": id, "content": WORDS[id], "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let words = WORDS[2..].join("|");
    // A text follows the end of the one before, as in pretraining.
    let begin = json!({"SpecialToken": {"id": WORDS[0], "type_id": 0}});
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "added_tokens": special,
        "post_processor": {
            "type": "TemplateProcessing", "single": [begin, text("A")], "pair": [begin, text("A"), text("B")],
            "special_tokens": {WORDS[0]: {"id": WORDS[0], "ids": [0], "tokens": [WORDS[0]]}},
        },
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": format!("{words}|[\\s\\S]")},
                          "behavior": "Isolated", "invert": false},
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary(), "unk_token": WORDS[1]},
    })
}
