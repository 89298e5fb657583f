//! Fresh models: random weights, as transformers starts them.

use std::{f64::consts::TAU, path::Path};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::{
    Config, Role, TensorInfo,
    checkpoint::{self, CheckpointError},
};

/// The fresh values of a tensor: norms are 1, biases 0, matrices normal with mean 0 and standard deviation
/// `initializer_range`, and the embedding of the padding token is 0. A of an adapter is uniform within ±1/√in_features, B is 0, so
/// that a fresh adapter changes nothing (PEFT's `init_lora_weights = true`). They depend on `seed` and the tensor's name alone.
pub fn fresh(config: &Config, info: &TensorInfo, seed: u64) -> Vec<f32> {
    match info.role {
        Role::Norm => return vec![1.0; info.len()],
        Role::Bias | Role::RouterBias | Role::AdapterUp => return vec![0.0; info.len()],
        _ => {}
    }
    let key = [&seed.to_le_bytes(), info.name.as_bytes()].concat();
    let mut stream = ChaCha8Rng::from_seed(koan_files::digest(key));
    let mut uniform = || ((stream.next_u64() >> 11) + 1) as f64 * (-53f64).exp2(); // in (0, 1]
    if info.role == Role::AdapterDown {
        let [_, in_features] = info.matrix();
        let bound = (in_features as f64).sqrt().recip();
        return (0..info.len()).map(|_| (bound * (2.0 * uniform() - 1.0)) as f32).collect();
    }
    let mut values = Vec::with_capacity(info.len() + 1);
    while values.len() < info.len() {
        // Box and Muller (1958): two uniforms make two normals.
        let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), TAU * uniform());
        let scale = f64::from(config.initializer_range) * radius;
        values.extend([(scale * angle.cos()) as f32, (scale * angle.sin()) as f32]);
    }
    values.truncate(info.len());
    let padding = config.raw.get("pad_token_id").and_then(serde_json::Value::as_u64);
    if let Some(row) = padding.filter(|_| matches!(info.role, Role::Embedding { .. }))
        && let Some(row) = values.chunks_mut(config.hidden_size).nth(row as usize)
    {
        row.fill(0.0);
    }
    values
}

/// Writes model directory `out`: the config in file `config`, fresh weights from `seed`, and the tokenizer of directory
/// `tokenizer`, if one is given. `out` must not exist; it is whole or absent. `progress` is called after each tensor with
/// how many are done and how many there are. Returns the SHA-256 of the weights.
///
/// # Errors
/// If the config is refused, or a file can't be read or written.
pub fn init(
    config: &Path,
    seed: u64,
    tokenizer: Option<&Path>,
    out: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<String, CheckpointError> {
    let config = Config::from_file(config)?;
    let copy = |part: &Path| tokenizer.map_or(Ok(()), |from| checkpoint::copy_tokenizer(from, part));
    checkpoint::write_fresh(&config, out, copy, |info, done, of| {
        let values = fresh(&config, info, seed);
        progress(done, of);
        values
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_numbers_are_normal_and_their_tensors_own() {
        let raw = serde_json::json!({"pad_token_id": 2, "initializer_range": 0.05, "attention_bias": true});
        let config = crate::testkit::config_with(3000, true, raw);
        let of = |name: &str, seed| {
            let info = config.tensors().into_iter().find(|info| info.name == name).expect(name);
            fresh(&config, &info, seed)
        };
        let embedding = of("model.embed_tokens.weight", 1);
        assert!(embedding[48..72].iter().all(|&x| x == 0.0));
        let n = embedding.len() as f64;
        let mean = embedding.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let std = (embedding.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n).sqrt();
        assert!(mean.abs() < 5.0 * 0.05 / n.sqrt() && (std / 0.05 - 1.0).abs() < 0.02, "{mean} {std}");
        let beyond_two = embedding.iter().filter(|x| x.abs() > 0.1).count() as f64 / n;
        assert!((beyond_two - 0.0455).abs() < 0.005, "{beyond_two} beyond two deviations");
        assert_eq!(embedding, of("model.embed_tokens.weight", 1));
        assert_ne!(embedding, of("model.embed_tokens.weight", 2));
        let [q0, q1] = ["0", "1"].map(|i| of(&format!("model.layers.{i}.self_attn.q_proj.weight"), 1));
        assert_ne!(q0, q1);
        assert!(of("model.layers.0.self_attn.q_proj.bias", 1).iter().all(|&x| x == 0.0));
        assert!(of("model.norm.weight", 1).iter().all(|&x| x == 1.0));
    }
}
