//! Writes a corpus for the targets that read a model's files to start from: `cargo run --example seeds`.

use std::{error::Error, fs, path::Path};

use koan_fuzz::{CONFIG, scratch};
use koan_model::{
    checkpoint::{self, WeightType},
    gguf, init,
};
use serde_json::{Value, json};

/// Of each family one, and of each way to stretch positions.
fn configs() -> Vec<Value> {
    let changes = [
        json!({}),
        json!({"attention_bias": true, "mlp_bias": true, "eos_token_id": [0, 1], "torch_dtype": "float32"}),
        json!({"model_type": "mistral", "sliding_window": 4, "tie_word_embeddings": false}),
        json!({"model_type": "qwen2", "use_sliding_window": true, "max_window_layers": 0, "layer_types": ["full_attention"]}),
        json!({"model_type": "qwen3", "head_dim": 2, "num_key_value_heads": 1, "initializer_range": 0.1}),
        json!({"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2.0}, "hidden_act": "silu"}),
        json!({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 32, "beta_slow": 1,
            "mscale": 1, "mscale_all_dim": 1, "truncate": false, "original_max_position_embeddings": 4}}),
        json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 4}}),
        json!({"vocab_size": 1 << 24, "hidden_size": 1 << 20, "num_hidden_layers": 1 << 12, "head_dim": 1 << 20,
            "intermediate_size": 1 << 20, "max_position_embeddings": 1 << 24}),
    ];
    changes.into_iter().map(with).collect()
}

/// The tiny model's config with keys changed.
fn with(changes: Value) -> Value {
    let mut config: Value = serde_json::from_str(CONFIG).expect("JSON");
    let (Some(config_keys), Value::Object(changes)) = (config.as_object_mut(), changes) else {
        unreachable!("objects")
    };
    config_keys.extend(changes);
    config
}

/// A byte-level tokenizer of three tokens.
fn tokenizer() -> Value {
    json!({
        "version": "1.0",
        "added_tokens": [{"id": 2, "content": "<s>", "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": {"a": 0, "aa": 1}, "merges": ["a a"]},
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let [config, safetensors, index, gguf] =
        ["config", "safetensors", "safetensors_index", "gguf"].map(|name| corpus.join(name));
    for dir in [&config, &safetensors, &index, &gguf] {
        fs::create_dir_all(dir)?;
    }
    for (i, object) in configs().iter().enumerate() {
        fs::write(config.join(format!("{i}.json")), object.to_string())?;
    }
    for (i, files) in
        [["a", "b"], ["a", "a"], ["../whole", "../split/b"], ["/whole", "..\\whole"]].iter().enumerate()
    {
        let map = json!({"model.embed_tokens.weight": files[0], "model.norm.weight": files[1]});
        let object = json!({"metadata": {"total_size": 136}, "weight_map": map});
        fs::write(index.join(format!("{i}.json")), object.to_string())?;
    }

    let dir = scratch("seeds");
    fs::write(dir.join("tokenizer.json"), tokenizer().to_string())?;
    fs::write(
        dir.join("tokenizer_config.json"),
        json!({"bos_token": "<s>", "chat_template": "{{ bos_token }}"}).to_string(),
    )?;
    let fresh = |name: &str, config: &Value| -> Result<_, Box<dyn Error>> {
        fs::write(dir.join("config.json"), config.to_string())?;
        init(&dir.join("config.json"), 0, Some(&dir), &dir.join(name), &mut |_, _| {})?;
        Ok(dir.join(name))
    };
    let tiny = fresh("tiny", &with(json!({})))?;
    for (name, stored) in [("f32", WeightType::F32), ("bf16", WeightType::Bf16), ("f16", WeightType::F16)] {
        checkpoint::convert(&tiny, &dir.join(name), stored, &mut |_, _| {})?;
        fs::copy(dir.join(name).join("model.safetensors"), safetensors.join(name))?;
    }
    // Rows of 32, so that they are whole blocks.
    let sizes = json!({"hidden_size": 32, "intermediate_size": 32, "head_dim": 2});
    let wide = fresh("wide", &with(sizes))?;
    let qwen2 = fresh("qwen2", &with(json!({"model_type": "qwen2"})))?;
    let qwen3 =
        fresh("qwen3", &with(json!({"model_type": "qwen3", "head_dim": 2, "tie_word_embeddings": false})))?;
    let yarn = json!({"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 4});
    let stretched = fresh("stretched", &with(json!({"rope_scaling": yarn, "attention_bias": true})))?;
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
    let divided = fresh("divided", &with(json!({"rope_scaling": llama3})))?;
    for (name, model, kind) in [
        ("tiny", &tiny, gguf::ExportType::F32),
        ("q8_0", &wide, gguf::ExportType::Q8_0),
        ("q4_0", &wide, gguf::ExportType::Q4_0),
        ("qwen2", &qwen2, gguf::ExportType::F16),
        ("qwen3", &qwen3, gguf::ExportType::Bf16),
        ("stretched", &stretched, gguf::ExportType::F32),
        ("divided", &divided, gguf::ExportType::F32),
    ] {
        let file = gguf.join(name);
        let _ = fs::remove_file(&file);
        gguf::export(model, &file, kind, &mut |_, _, _| {})?;
    }
    fs::remove_dir_all(&dir)?;
    Ok(())
}
