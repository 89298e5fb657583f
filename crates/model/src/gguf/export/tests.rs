use std::fs;

use koan_backend::Reference;
use koan_files::FilesError;
use serde_json::json;
use tempfile::TempDir;

use super::super::{fixture::Fixture, import, reader::Gguf};
use super::*;
use crate::{
    checkpoint::{self, WeightType},
    testkit,
};

/// A tiny model of `kind`, with a byte-level tokenizer of four tokens.
fn model(folder: &TempDir, kind: Value) -> std::path::PathBuf {
    let (file, like) = (folder.path().join("like.gguf"), folder.path().join("like"));
    fs::write(&file, Fixture::llama().bytes()).expect("written");
    import(&file, &like, &mut |_, _, _| {}).expect("imported");
    let dir = folder.path().join("model");
    let model = testkit::model(&Reference, testkit::config_with(6, false, kind), 7);
    checkpoint::save_as(WeightType::Bf16, &Reference, &model, &dir, &like).expect("saved");
    dir
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

#[test]
fn what_is_exported_is_imported_as_it_was() {
    for (kind, stored) in kinds().zip([ExportType::F32, ExportType::Bf16].into_iter().cycle()) {
        let folder = tempfile::tempdir().expect("a folder");
        let (dir, file, again) =
            (model(&folder, kind.clone()), folder.path().join("m.gguf"), folder.path().join("again"));
        export(&dir, &file, stored, &mut |_, _, _| {}).expect("exported");
        import(&file, &again, &mut |_, _, _| {}).expect("imported");
        let configs = [&dir, &again].map(|dir| Config::load(dir).expect("a config"));
        let sources =
            [(&dir, 0), (&again, 1)].map(|(dir, i)| Weights::open(dir, &configs[i]).expect("weights"));
        assert_eq!(configs[0].tensors(), configs[1].tensors(), "{kind}");
        assert_eq!(configs[0].rope_scaling, configs[1].rope_scaling, "{kind}");
        assert_eq!(configs[0].experts, configs[1].experts, "{kind}");
        assert_eq!(configs[0].latent.map(rounded), configs[1].latent.map(rounded), "{kind}");
        for info in configs[0].tensors() {
            let [before, after] = [0, 1].map(|i| sources[i].read(&info).expect("a tensor").into_owned());
            assert_eq!(before, after, "{kind}: {}", info.name);
        }
        let [before, after] = [&dir, &again].map(|dir| json_file(&dir.join("tokenizer.json")));
        for key in ["added_tokens", "pre_tokenizer", "normalizer", "post_processor", "decoder", "model"] {
            assert_eq!(before[key], after[key], "{kind}: {key}");
        }
        let [before, after] = [&dir, &again].map(|dir| json_file(&dir.join("tokenizer_config.json")));
        for key in ["bos_token", "chat_template"] {
            assert_eq!(before[key], after[key], "{kind}: {key}");
        }
        let error = export(&dir, &file, stored, &mut |_, _, _| {}).expect_err("the file exists");
        assert!(matches!(error, GgufError::Files(FilesError::Io { what: "write", .. })), "{error}");
    }
}

/// The test kit's kinds, without what llama.cpp does not compute.
fn kinds() -> impl Iterator<Item = Value> {
    testkit::kinds().into_iter().map(|mut kind| {
        if kind.get("kv_lora_rank").is_some() {
            kind["rope_parameters"]["mscale"] = kind["rope_parameters"]["mscale_all_dim"].clone();
            kind["rope_interleave"] = true.into();
            kind["attention_bias"] = false.into();
            kind["rms_norm_eps"] = 1e-6.into();
        }
        kind
    })
}

/// As near as the f32 of a file holds it.
fn rounded(latent: crate::LatentConfig) -> crate::LatentConfig {
    crate::LatentConfig { softmax_scale: (latent.softmax_scale * 1e5).round(), ..latent }
}

#[test]
fn latents_and_experts_lie_as_llama_cpp_reads_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let kind = kinds().find(|kind| kind["model_type"] == "deepseek_v3").expect("one");
    let (dir, file) = (model(&folder, kind), folder.path().join("m.gguf"));
    export(&dir, &file, ExportType::F32, &mut |_, _, _| {}).expect("exported");
    let bytes = fs::read(&file).expect("there");
    let mut gguf = Gguf::read(std::io::Cursor::new(&bytes)).expect("a file");
    let metadata = |key: &str| gguf.metadata.required::<f64>(&format!("deepseek2.{key}")).expect(key);
    let numbers = |key: &str| gguf.metadata.required::<usize>(&format!("deepseek2.{key}")).expect(key);
    for (key, value) in [
        ("attention.head_count_kv", 1),
        ("attention.key_length", 13),
        ("attention.value_length", 9),
        ("attention.key_length_mla", 9),
        ("attention.value_length_mla", 7),
        ("attention.q_lora_rank", 10),
        ("attention.kv_lora_rank", 9),
        ("rope.dimension_count", 4),
        ("leading_dense_block_count", 1),
        ("expert_count", 6),
        ("expert_used_count", 3),
        ("expert_shared_count", 1),
        ("expert_feed_forward_length", 13),
        ("expert_group_count", 3),
        ("expert_group_used_count", 2),
        ("expert_gating_func", 2),
        ("block_count", 2),
    ] {
        assert_eq!(numbers(key), value, "{key}");
    }
    assert!((metadata("rope.scaling.yarn_log_multiplier") - 0.07).abs() < 1e-6);
    let config = Config::load(&dir).expect("a config");
    let source = Weights::open(&dir, &config).expect("weights");
    let read = |name: &str| {
        let infos = config.tensors();
        let info = infos.iter().find(|info| info.name == name).expect(name);
        source.read(info).expect("read").into_owned()
    };
    let mut in_file = |name: &str, shape: &[usize]| {
        assert_eq!(gguf.tensors[name].shape, shape, "{name}");
        let mut values = vec![0.0; shape.iter().product()];
        gguf.read_rows(name, 0, &mut values).expect("read");
        values
    };
    // Head 2 of four: 5 features of keys, then 7 of values, from a latent of 9.
    let kv_b = read("model.layers.1.self_attn.kv_b_proj.weight");
    let k_b = in_file("blk.1.attn_k_b.weight", &[4, 9, 5]);
    let v_b = in_file("blk.1.attn_v_b.weight", &[4, 7, 9]);
    for latent in 0..9 {
        (0..5).for_each(|i| assert_eq!(k_b[(2 * 9 + latent) * 5 + i], kv_b[(2 * 12 + i) * 9 + latent]));
        (0..7).for_each(|i| assert_eq!(v_b[(2 * 7 + i) * 9 + latent], kv_b[(2 * 12 + 5 + i) * 9 + latent]));
    }
    let experts = "model.layers.1.mlp.experts.down_proj.weight";
    assert_eq!(in_file("blk.1.ffn_down_exps.weight", &[6, 24, 13]), read(experts));
    let bias = "model.layers.1.mlp.gate.e_score_correction_bias";
    assert_eq!(in_file("blk.1.exp_probs_b.bias", &[6]), read(bias));
}

#[test]
fn files_with_latents_in_their_old_form_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let kind = kinds().find(|kind| kind["model_type"] == "deepseek_v3").expect("one");
    let (dir, file) = (model(&folder, kind), folder.path().join("m.gguf"));
    export(&dir, &file, ExportType::F32, &mut |_, _, _| {}).expect("exported");
    let config = Config::load(&dir).expect("a config");
    let source = Weights::open(&dir, &config).expect("weights");
    let infos = config.tensors();
    let mut gguf = Gguf::read(std::io::Cursor::new(fs::read(&file).expect("there"))).expect("a file");
    let mut old = Fixture { pairs: Fixture::llama().pairs, tensors: Vec::new() };
    old.pairs.retain(|(key, ..)| !key.starts_with("llama."));
    old.text("general.architecture", "deepseek2");
    for key in [
        "context_length",
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "attention.head_count",
        "attention.q_lora_rank",
        "attention.kv_lora_rank",
        "rope.dimension_count",
        "leading_dense_block_count",
        "expert_count",
        "expert_used_count",
        "expert_shared_count",
        "expert_feed_forward_length",
        "expert_gating_func",
        "expert_group_count",
        "expert_group_used_count",
    ] {
        let key = format!("deepseek2.{key}");
        old.number(&key, gguf.metadata.required::<usize>(&key).expect("there") as u32);
    }
    old.number("deepseek2.attention.head_count_kv", 4);
    old.number("deepseek2.attention.key_length", 9);
    old.number("deepseek2.attention.value_length", 7);
    old.pair("deepseek2.attention.layer_norm_rms_epsilon", 6, &1e-6f32.to_le_bytes());
    let names: Vec<String> = gguf.tensors.keys().cloned().collect();
    for name in names {
        let shape = gguf.tensors[&name].shape.clone();
        let dims: Vec<u64> = shape.iter().rev().map(|&n| n as u64).collect();
        let mut values = vec![0.0; shape.iter().product()];
        gguf.read_rows(&name, 0, &mut values).expect("read");
        // The newer form of the first layer stays beside the older one.
        if name.contains("blk.0.") || !(name.contains("attn_k_b") || name.contains("attn_v_b")) {
            old.tensor(&name, &dims, &values);
        }
    }
    for layer in 0..2 {
        let name = format!("model.layers.{layer}.self_attn.kv_b_proj.weight");
        let info = infos.iter().find(|info| info.name == name).expect("there");
        old.tensor(&format!("blk.{layer}.attn_kv_b.weight"), &[9, 48], &source.read(info).expect("read"));
    }
    let (file, again) = (folder.path().join("old.gguf"), folder.path().join("again"));
    fs::write(&file, old.bytes()).expect("written");
    import(&file, &again, &mut |_, _, _| {}).expect("imported");
    let imported = Config::load(&again).expect("a config");
    let weights = Weights::open(&again, &imported).expect("weights");
    for info in &infos {
        assert_eq!(weights.read(info).expect("read"), source.read(info).expect("read"), "{}", info.name);
    }
}

#[test]
fn what_llama_cpp_computes_otherwise_of_latents_and_experts_is_refused() {
    let v3 = || kinds().find(|kind| kind["model_type"] == "deepseek_v3").expect("one");
    let v2 = || kinds().find(|kind| kind["model_type"] == "deepseek_v2").expect("one");
    let with = |mut kind: Value, key: &str, value: Value| {
        kind[key] = value;
        kind
    };
    let grouped = with(with(v2(), "topk_method", "group_limited_greedy".into()), "n_group", 2.into());
    let mut other_scale = v3();
    other_scale["rope_parameters"]["mscale"] = 1.0.into();
    for (kind, wanted) in [
        (with(v3(), "rope_interleave", false.into()), "rope_interleave"),
        (with(v3(), "attention_bias", true.into()), "attention_bias"),
        (with(v3(), "rms_norm_eps", 1e-5.into()), "rms_norm_eps"),
        (grouped, "group_limited_greedy"),
        (other_scale, "rope scaling"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let (dir, file) = (model(&folder, kind), folder.path().join("m.gguf"));
        let error = export(&dir, &file, ExportType::F32, &mut |_, _, _| {}).expect_err(wanted).to_string();
        assert!(error.contains(wanted) && !file.exists(), "{error}");
    }
}

#[test]
fn what_llama_cpp_would_read_otherwise_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = model(&folder, json!({}));
    let path = dir.join("tokenizer.json");
    let tokenizer = json_file(&path);
    let refused = |change: &dyn Fn(&mut Value), wanted: &str| {
        let mut changed = tokenizer.clone();
        change(&mut changed);
        fs::write(&path, changed.to_string()).expect("written");
        let file = folder.path().join("m.gguf");
        let error = export(&dir, &file, ExportType::Q8_0, &mut |_, _, _| {}).expect_err(wanted).to_string();
        assert!(error.contains(wanted) && error.contains("tokenizer.json"), "{error}");
        assert!(!file.exists());
    };
    refused(&|t| t["model"]["type"] = "Unigram".into(), "not byte-level BPE");
    refused(&|t| t["pre_tokenizer"] = json!({"type": "Whitespace"}), "no name for its pre-tokenizer");
    refused(&|t| t["model"]["vocab"]["zzz"] = 99.into(), "the model has 6 embeddings");
    refused(&|t| t["model"]["vocab"]["zzz"] = 1.into(), "two tokens have id 1");
    refused(&|t| t["model"]["merges"] = json!([["a"]]), "no list of pairs");
    fs::write(&path, "{").expect("written");
    let error = export(&dir, &folder.path().join("m.gguf"), ExportType::F16, &mut |_, _, _| {});
    assert!(matches!(error, Err(GgufError::TokenizerFile { .. })));
}

#[test]
fn the_licence_goes_there_and_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = model(&folder, json!({}));
    let card = "---\nlanguage: en\nlicense: other\nlicense_name: llama3.1\nlicense_link: https://example.org/terms\n---\n# Card\n";
    fs::write(dir.join("README.md"), card).expect("written");
    fs::write(dir.join("NOTICE"), "noted").expect("written");
    let licence = |dir: &Path| license::license(dir, &Config::load(dir).expect("a config"));
    // A model that was trained from it: its terms, not its card.
    let trained = folder.path().join("trained");
    let weights = testkit::model(&Reference, testkit::config_with(6, false, json!({})), 8);
    checkpoint::save(&Reference, &weights, &trained, &dir).expect("saved");
    assert_eq!(licence(&trained).as_deref(), Some("llama3.1"));
    assert_eq!(fs::read_to_string(trained.join("NOTICE")).expect("copied"), "noted");
    assert!(!fs::read_to_string(trained.join("README.md")).expect("written").contains("# Card"));
    let (file, back) = (folder.path().join("m.gguf"), folder.path().join("back"));
    export(&trained, &file, ExportType::F32, &mut |_, _, _| {}).expect("exported");
    assert_eq!(super::super::info(&file).expect("info").license.as_deref(), Some("other"));
    import(&file, &back, &mut |_, _, _| {}).expect("imported");
    assert_eq!(licence(&back).as_deref(), Some("llama3.1"));
    assert!(
        fs::read_to_string(back.join("README.md")).expect("written").contains("https://example.org/terms")
    );
    // One that only a file states is named by that file's first line.
    fs::remove_file(dir.join("README.md")).expect("removed");
    fs::write(dir.join("LICENSE"), "Apache License\nVersion 2.0").expect("written");
    let file = folder.path().join("n.gguf");
    export(&dir, &file, ExportType::F32, &mut |_, _, _| {}).expect("exported");
    assert_eq!(super::super::info(&file).expect("info").license.as_deref(), Some("Apache License"));
}
