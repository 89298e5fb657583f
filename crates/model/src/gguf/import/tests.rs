use std::{fs, io::Cursor};

use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

use super::super::architecture::ROPE_DIVISORS;
use super::super::fixture::Fixture;
use super::*;
use koan_files::FilesError;

/// Imports `fixture` in a directory of its own, to `out` there.
fn run(fixture: &Fixture) -> (TempDir, Result<ImportSummary, GgufError>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("model.gguf");
    fs::write(&file, fixture.bytes()).expect("a file in it");
    let result = import(&file, &dir.path().join("out"), &mut |_, _, _| {});
    (dir, result)
}

fn plan(bytes: &[u8]) -> Result<Plan, GgufError> {
    Plan::of(&mut Gguf::read(Cursor::new(bytes))?)
}

fn refused(change: impl FnOnce(&mut Fixture)) -> GgufError {
    let mut fixture = Fixture::llama();
    change(&mut fixture);
    plan(&fixture.bytes()).err().expect("a file that is refused")
}

fn json(dir: &TempDir, name: &str) -> Value {
    let text = fs::read(dir.path().join("out").join(name)).expect("a file that was written");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn a_whole_model() {
    let (dir, result) = run(&Fixture::llama());
    let summary = result.expect("an imported model");
    assert_eq!((summary.n_tensors, summary.n_layers, summary.vocab_size), (11, 1, 4));

    let bytes = fs::read(dir.path().join("out/model.safetensors")).expect("the weights");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let rows = |name: &str| -> Vec<f32> {
        let firsts = tensors.tensor(name).expect("a tensor").data().chunks_exact(8 * 4);
        firsts.map(|row| f32::from_le_bytes([row[0], row[1], row[2], row[3]]) / 8.0).collect()
    };
    // Rows (0, 2) and (1, 3) of a head lie side by side in the file.
    assert_eq!(rows("model.layers.0.self_attn.q_proj.weight"), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    assert_eq!(rows("model.layers.0.self_attn.k_proj.weight"), [0.0, 2.0, 1.0, 3.0]);
    assert_eq!(rows("model.layers.0.self_attn.v_proj.weight"), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(tensors.tensor("model.layers.0.mlp.down_proj.weight").expect("a tensor").shape(), [8, 16]);

    let config = json(&dir, "config.json");
    for (key, value) in [
        ("architectures", json!(["LlamaForCausalLM"])),
        ("head_dim", json!(4)),
        ("rms_norm_eps", json!(1e-5)),
        ("rope_theta", json!(10_000.0)),
        ("rope_scaling", Value::Null),
        ("tie_word_embeddings", json!(true)),
        ("bos_token_id", json!(0)),
        ("eos_token_id", Value::Null),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
    let tokenizer = json(&dir, "tokenizer.json");
    assert_eq!(tokenizer["model"]["vocab"], json!({"<s>": 0, "a": 1, "b": 2, "ab": 3}));
    assert_eq!(tokenizer["added_tokens"][0]["content"], "<s>");
    assert_eq!(json(&dir, "tokenizer_config.json")["chat_template"], "{{ bos_token }}");
}

#[test]
fn progress_counts_tensors() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (file, out) = (dir.path().join("model.gguf"), dir.path().join("out"));
    fs::write(&file, Fixture::llama().bytes()).expect("a file in it");
    fs::create_dir(&out).expect("an empty directory, which may be filled");
    let mut seen = Vec::new();
    import(&file, &out, &mut |_, done, of| seen.push((done, of))).expect("an imported model");
    assert_eq!(seen, (1..=11).map(|done| (done, 11)).collect::<Vec<_>>());
    let again = import(&file, &out, &mut |_, _, _| {});
    assert!(matches!(again, Err(GgufError::Files(FilesError::Exists { .. }))));
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let mut fixture = Fixture::llama();
    fixture.tensor("output_norm.weight", &[8], &[f32::INFINITY; 8]);
    let (dir, result) = run(&fixture);
    assert!(matches!(result, Err(GgufError::Tensor { name, .. }) if name == "output_norm.weight"));
    assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 1, "only the GGUF file");
}

#[test]
fn no_prefix_and_no_changed_byte_panics() {
    let bytes = Fixture::llama().bytes();
    // The data of the last tensor ends where the file does: no prefix is whole.
    assert!(plan(&bytes).is_ok());
    for end in 0..bytes.len() {
        assert!(plan(&bytes[..end]).is_err(), "cut at {end}");
    }
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7F, 0xFF] {
            let mut changed = bytes.clone();
            changed[at] = value;
            let _ = plan(&changed);
        }
    }
}

#[test]
fn llama_3_scaling_is_recovered() {
    // Two frequencies: the first turns 1304 times in 8192 positions and is kept; the second turns 0.58 times.
    let mut fixture = Fixture::llama();
    fixture.pair("llama.rope.freq_base", 6, &5e6_f32.to_le_bytes());
    fixture.tensor(ROPE_DIVISORS, &[2], &[1.0, 32.0]);
    let scaling = plan(&fixture.bytes()).expect("a valid file").model.rope_scaling;
    assert_eq!((&scaling["rope_type"], &scaling["factor"]), (&json!("llama3"), &json!(32.0)));
    fixture.tensor(ROPE_DIVISORS, &[2], &[2.0, 32.0]);
    assert!(matches!(plan(&fixture.bytes()), Err(GgufError::Unsupported { what: "rope scaling", .. })));
}

#[test]
fn what_cannot_be_imported_is_named() {
    let error = refused(|f| f.text("general.architecture", "mamba"));
    assert_eq!(
        error.to_string(),
        "architecture `mamba` is not supported; supported: llama, qwen2, qwen3, deepseek2"
    );
    let error = refused(|f| f.text("tokenizer.ggml.model", "llama"));
    assert_eq!(error.to_string(), "tokenizer `llama` is not supported; supported: gpt2 (byte-level BPE)");
    assert!(matches!(refused(|f| f.text("tokenizer.ggml.pre", "viking")), GgufError::Unsupported { .. }));
    assert!(matches!(
        refused(|f| f.text("llama.rope.scaling.type", "longrope")),
        GgufError::Unsupported { .. }
    ));
    assert!(matches!(
        refused(|f| f.number("llama.attention.sliding_window", 8)),
        GgufError::Unsupported { .. }
    ));
    let error = refused(|f| f.tensor("blk.0.ffn_gate_inp.weight", &[1], &[0.0]));
    assert!(matches!(error, GgufError::Unsupported { what: "tensor", .. }));
    let error = refused(|f| f.tensors.retain(|t| t.0 != "blk.0.ffn_up.weight"));
    assert!(matches!(error, GgufError::MissingTensor { name } if name == "blk.0.ffn_up.weight"));
    let error = refused(|f| f.tensors[2].1 = vec![4, 8]);
    assert_eq!(
        error.to_string(),
        "tensor `blk.0.attn_q.weight` has shape [8, 4], the metadata asks for [8, 8]"
    );
    for key in ["block_count", "attention.head_count", "embedding_length"] {
        for value in [0, u32::MAX] {
            let error = refused(|f| f.number(&format!("llama.{key}"), value));
            assert!(matches!(error, GgufError::BadValue { .. }), "{key} {value}: {error}");
        }
    }
}

#[test]
fn tokenizers_are_checked() {
    let merge = |text: &str| refused(|f| f.texts("tokenizer.ggml.merges", &[text])).to_string();
    assert_eq!(merge("ab"), "tokenizer: merge 0 (`ab`) is not two tokens with a space between");
    assert_eq!(merge("b a"), "tokenizer: merge 0 (`b a`) joins or makes something that is not a token");
    let twice = refused(|f| f.texts("tokenizer.ggml.tokens", &["<s>", "a", "a", "ab"]));
    assert_eq!(twice.to_string(), "tokenizer: token 2 (`a`) appears twice");
    let short = refused(|f| f.texts("tokenizer.ggml.tokens", &["<s>", "a"]));
    assert!(matches!(short, GgufError::BadValue { .. }));
    assert!(matches!(refused(|f| f.number("tokenizer.ggml.eos_token_id", 4)), GgufError::BadValue { .. }));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(512))]

    /// Several places changed at once, to values that lengths and counts break on.
    #[test]
    fn no_changed_places_make_a_panic(
        edits in proptest::collection::vec((0usize..4096, proptest::prelude::any::<u64>(), 1usize..9), 1..6),
        cut in proptest::option::of(0usize..4096),
    ) {
        let mut bytes = Fixture::llama().bytes();
        for (at, value, width) in edits {
            let at = at % (bytes.len() - 8);
            bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
        bytes.truncate(cut.unwrap_or(bytes.len()));
        let _ = plan(&bytes);
    }
}
