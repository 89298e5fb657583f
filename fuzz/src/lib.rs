//! What the targets share: a model so small that a fuzzer reaches all of it, and a place for its files.

use std::{fs, path::PathBuf};

use koan_backend::{Backend, Layout, OutOfMemory};
use koan_model::{Activations, Config, Head, Model, Purpose};

/// The model's `config.json`: eleven tensors, 34 numbers.
pub const CONFIG: &str = r#"{"model_type": "llama", "vocab_size": 3, "hidden_size": 2, "intermediate_size": 1,
    "num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": 8, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": true}"#;

/// An empty directory of this process.
///
/// # Panics
/// If it can't be made.
pub fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("koan-fuzz-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory in the temporary directory");
    dir
}

/// Scores a sequence of one token, again and again, as long as the model's positions and eight allow.
///
/// # Panics
/// If the model does.
pub fn run<B: Backend>(b: &B, model: &Model<B>) {
    let tokens = vec![0; model.positions().min(8)];
    let mut layout = Layout::default();
    layout.push_group(&[0], [&tokens[..]]);
    let mut activations = Activations::new(b, model.config(), tokens.len(), Purpose::Inference).expect("memory");
    let mut head = Head::new(b, model.config(), tokens.len()).expect("memory");
    let layout = model.upload(b, layout).expect("memory");
    model.forward(b, &layout, &mut activations, None);
    let [log_probs, _] = model.log_probs(b, &activations, &layout, 1.0, &mut head);
    assert_eq!(log_probs.len(), tokens.len());
}

/// A model of these sizes whose numbers are all one.
pub fn ones<B: Backend>(b: &B, config: Config, positions: usize) -> Model<B> {
    Model::new(b, config, positions, |info| Ok::<_, OutOfMemory>(vec![1.0; info.len()])).expect("memory")
}
