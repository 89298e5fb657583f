use std::fs;

use koan_backend::Reference;
use koan_files::FilesError;
use serde_json::json;
use tempfile::TempDir;

use super::super::{fixture::Fixture, import};
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
    let llamas = testkit::kinds().into_iter().filter(|kind| kind.get("kv_lora_rank").is_none());
    for (kind, stored) in llamas.zip([ExportType::F32, ExportType::Bf16].into_iter().cycle()) {
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
