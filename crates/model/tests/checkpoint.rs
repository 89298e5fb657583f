//! Model directories: what is saved loads to the same bits, and what is wrong is named.

use std::{fs, path::Path};

use koan_backend::Reference;
use koan_model::{Config, checkpoint, testkit};
use serde_json::json;

fn error(dir: &Path) -> String {
    match checkpoint::load(&Reference, dir, None) {
        Ok(_) => panic!("a broken model loads"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn a_saved_model_loads_to_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    testkit::write_model(&first, 3).expect("written");
    let model = checkpoint::load(&Reference, &first, Some(40)).expect("loads");
    let hash = checkpoint::save(&Reference, &model, &second, &first).expect("saved");
    let bytes = |dir: &Path| fs::read(dir.join("model.safetensors")).expect("there");
    assert_eq!(bytes(&first), bytes(&second));
    assert_eq!(hash.len(), 64);
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        assert!(second.join(file).exists(), "{file}");
    }
    assert!(checkpoint::save(&Reference, &model, &second, &first).is_err(), "an existing directory is kept");
}

#[test]
fn modules_that_predict_further_tokens_are_saved_left_out_or_absent() {
    let folder = tempfile::tempdir().expect("a folder");
    let [with, without, cut] = ["with", "without", "cut"].map(|name| folder.path().join(name));
    let config = testkit::config_with(11, true, json!({"num_nextn_predict_layers": 1}));
    let save = |config: Config, dir: &Path| {
        let model = testkit::model(&Reference, config, 1);
        checkpoint::save(&Reference, &model, dir, folder.path()).expect("saved");
    };
    save(config.clone(), &with);
    let [trained, measured] = [
        checkpoint::load(&Reference, &with, None).expect("loads"),
        checkpoint::load_for_inference(&Reference, &with, None).expect("loads"),
    ]
    .map(|model| model.weights.multi_token.len());
    assert_eq!([trained, measured], [1, 0]);
    // Most tools leave the modules out, and the config as it is.
    save(config.clone().without_modules(), &without);
    assert_eq!(Config::load(&without).expect("a config").multi_token_layers, 0);
    checkpoint::load(&Reference, &without, None).expect("loads");
    // A module is whole or absent, and what no config names is refused.
    save(config.clone(), &cut);
    let edit = |from: &str, to: &str| {
        let path = cut.join("config.json");
        let text = fs::read_to_string(&path).expect("there").replace(from, to);
        fs::write(path, text).expect("written");
    };
    edit("\"num_nextn_predict_layers\": 1", "\"num_nextn_predict_layers\": 2");
    assert!(error(&cut).contains("`model.layers.3.enorm.weight` is missing"), "{}", error(&cut));
    edit("\"num_nextn_predict_layers\": 2", "\"num_nextn_predict_layers\": 0");
    assert!(error(&cut).contains("unexpected tensor `model.layers.2."), "{}", error(&cut));
}

#[test]
fn broken_models_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("model");
    testkit::write_model(&dir, 3).expect("written");
    let (weights, config) = (dir.join("model.safetensors"), dir.join("config.json"));
    let (bytes, text) = (fs::read(&weights).expect("there"), fs::read_to_string(&config).expect("there"));

    for cut in [0, 7, 8, 100, bytes.len() - 1] {
        fs::write(&weights, &bytes[..cut]).expect("written");
        assert!(error(&dir).contains("truncated"), "cut at {cut}: {}", error(&dir));
    }
    let mut noise = bytes.clone();
    noise[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&weights, &noise).expect("written");
    assert!(error(&dir).contains("damaged"), "{}", error(&dir));
    let mut nan = bytes.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&weights, &nan).expect("written");
    assert!(error(&dir).contains("NaN"), "{}", error(&dir));
    fs::write(&weights, &bytes).expect("written");

    for (from, to, expected) in [
        ("\"hidden_size\": 24", "\"hidden_size\": 20", "has shape"),
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 3",
            "`model.layers.2.input_layernorm.weight` is missing",
        ),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", "unexpected tensor `model.layers.1."),
        ("\"llama\"", "\"mamba\"", "supported: llama"),
        ("\"vocab_size\": 15", "\"vocab_size\": -1", "`vocab_size` is -1"),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text, "{from}");
        fs::write(&config, changed).expect("written");
        assert!(error(&dir).contains(expected), "{to}: {}", error(&dir));
    }
    fs::write(&config, "{").expect("written");
    assert!(error(&dir).contains("not a JSON object"));
    fs::remove_file(&config).expect("removed");
    assert!(error(&dir).contains("no model directory"), "{}", error(&dir));
}
