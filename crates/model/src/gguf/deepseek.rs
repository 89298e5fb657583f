//! DeepSeek-V2 and V3, llama.cpp's `deepseek2`: what its metadata says of latents and experts. Both families are one
//! architecture there, told apart by how experts are scored.

use std::io::{Read, Seek};

use koan_backend::{GroupScore, Scoring};
use serde_json::{Map, Value, json};

use super::{
    GgufError,
    reader::{Gguf, Metadata},
    writer::Pairs,
};
use crate::{Config, ExpertsConfig, Family, LatentConfig, RopeScaling};

/// `general.architecture`.
pub(super) const ARCHITECTURE: &str = "deepseek2";
/// `expert_gating_func`: scores are shares of one, or each is by itself.
const SOFTMAX: usize = 1;
const SIGMOID: usize = 2;

fn key(name: &str) -> String {
    format!("{ARCHITECTURE}.{name}")
}

/// Which of the two a file holds. Files without the key are of V2.
pub(super) fn family(metadata: &Metadata) -> Result<Family, GgufError> {
    match metadata.optional(&key("expert_gating_func"))?.unwrap_or(SOFTMAX) {
        SOFTMAX => Ok(Family::DeepseekV2),
        SIGMOID => Ok(Family::DeepseekV3),
        found => Err(GgufError::BadValue {
            key: key("expert_gating_func"),
            found: found.to_string(),
            expected: "1 (softmax) or 2 (sigmoid)",
        }),
    }
}

/// Whether a file has the expansion of latents as one tensor, as files had until 2025.
pub(super) fn is_whole<R: Read + Seek>(gguf: &Gguf<R>) -> bool {
    gguf.tensors.contains_key("blk.0.attn_kv_b.weight")
}

/// Further keys of `config.json`.
pub(super) fn read(metadata: &Metadata, family: Family) -> Result<Map<String, Value>, GgufError> {
    let number = |name: &str| metadata.required::<usize>(&key(name));
    let number_or =
        |name: &str, default| Ok::<_, GgufError>(metadata.optional(&key(name))?.unwrap_or(default));
    let rope_dim = number("rope.dimension_count")?;
    // Where latents are expanded as they are read, a head's own sizes stand apart from those that are cached.
    let of_head = |name: &str| match metadata.optional(&key(&format!("attention.{name}_mla")))? {
        Some(size) => Ok(size),
        None => number(&format!("attention.{name}")),
    };
    let key_length = of_head("key_length")?;
    let Some(nope) = key_length.checked_sub(rope_dim).filter(|nope| *nope > 0) else {
        return Err(GgufError::BadValue {
            key: key("attention.key_length_mla"),
            found: key_length.to_string(),
            expected: "more than rope.dimension_count",
        });
    };
    let scale: f64 = metadata.optional(&key("expert_weights_scale"))?.unwrap_or(1.0);
    let groups = number_or("expert_group_count", 1)?.max(1);
    let is_v3 = family == Family::DeepseekV3;
    let method = match (is_v3, groups) {
        (true, _) => "noaux_tc",
        (false, 1) => "greedy",
        (false, _) => "group_limited_greedy",
    };
    let config = json!({
        "q_lora_rank": metadata.optional::<usize>(&key("attention.q_lora_rank"))?,
        "kv_lora_rank": number("attention.kv_lora_rank")?,
        "qk_nope_head_dim": nope,
        "qk_rope_head_dim": rope_dim,
        "v_head_dim": of_head("value_length")?,
        "rope_interleave": true,
        "attention_bias": false,
        "first_k_dense_replace": number_or("leading_dense_block_count", 0)?,
        "moe_layer_freq": 1,
        "n_routed_experts": number("expert_count")?,
        "n_shared_experts": number_or("expert_shared_count", 0)?,
        "num_experts_per_tok": number("expert_used_count")?,
        "moe_intermediate_size": number("expert_feed_forward_length")?,
        "n_group": groups,
        "topk_group": number_or("expert_group_used_count", 1)?.max(1),
        "topk_method": method,
        "scoring_func": if is_v3 { "sigmoid" } else { "softmax" },
        "norm_topk_prob": metadata.optional(&key("expert_weights_norm"))?.unwrap_or(false),
        "routed_scaling_factor": scale,
    });
    let Value::Object(config) = config else { unreachable!("an object") };
    Ok(config)
}

/// What YaRN's logarithm is multiplied by, on the softmax and on the rotation, of a table `scaling` of positions.
pub(super) fn read_yarn(metadata: &Metadata, scaling: &mut Value) -> Result<(), GgufError> {
    let multiplier: Option<f64> = metadata.optional(&key("rope.scaling.yarn_log_multiplier"))?;
    if let Some(multiplier) = multiplier.filter(|x| *x != 0.0 && scaling["rope_type"] == "yarn") {
        // A tenth of it is kept, in f32.
        let mscale = (multiplier * 1e7).round() / 1e6;
        scaling["mscale"] = mscale.into();
        scaling["mscale_all_dim"] = mscale.into();
    }
    Ok(())
}

/// Adds the metadata of latents and experts.
///
/// # Errors
/// What llama.cpp computes otherwise, or not at all.
pub(super) fn add(pairs: &mut Pairs, config: &Config) -> Result<(), GgufError> {
    let (Some(latent), Some(experts)) = (config.latent, &config.experts) else { return Ok(()) };
    check(config, latent, experts)?;
    let (rank, rope) = (latent.kv_lora_rank, latent.qk_rope_head_dim);
    if let Some(rank) = latent.q_lora_rank {
        pairs.number(&key("attention.q_lora_rank"), rank);
    }
    let gating = if experts.scoring == Scoring::Sigmoid { SIGMOID } else { SOFTMAX };
    for (name, value) in [
        ("attention.kv_lora_rank", rank),
        // What is cached: the latent, and the rotated part of a key.
        ("attention.key_length", rank + rope),
        ("attention.value_length", rank),
        ("attention.key_length_mla", latent.qk_head_dim()),
        ("attention.value_length_mla", latent.v_head_dim),
        ("rope.dimension_count", rope),
        ("leading_dense_block_count", experts.first_dense),
        ("expert_count", experts.routed),
        ("expert_used_count", experts.per_token),
        ("expert_shared_count", experts.shared),
        ("expert_feed_forward_length", experts.intermediate_size),
        ("expert_group_count", experts.groups),
        ("expert_group_used_count", experts.groups_kept),
        ("expert_gating_func", gating),
    ] {
        pairs.number(&key(name), value);
    }
    pairs.float(&key("expert_weights_scale"), experts.scale.into());
    pairs.flag(&key("expert_weights_norm"), experts.normalized);
    if let RopeScaling::Yarn { factor, .. } = config.rope_scaling {
        let mscale = (latent.softmax_scale * (latent.qk_head_dim() as f64).sqrt()).sqrt();
        if factor > 1.0 {
            pairs.float(&key("rope.scaling.yarn_log_multiplier"), (mscale - 1.0) / factor.ln());
        }
    }
    Ok(())
}

fn check(config: &Config, latent: LatentConfig, experts: &ExpertsConfig) -> Result<(), GgufError> {
    let refused = |what, found: String, supported| Err(GgufError::Unsupported { what, found, supported });
    if !latent.rope_interleave {
        return refused("rope_interleave", "false".into(), "true: llama.cpp rotates neighbours");
    }
    if latent.biases {
        return refused("attention_bias", "true".into(), "false");
    }
    if config.rms_norm_eps != LatentConfig::NORM_EPS {
        let supported = "1e-6: llama.cpp has one for all norms, and that of latents is 1e-6";
        return refused("rms_norm_eps", format!("{:e}", config.rms_norm_eps), supported);
    }
    if experts.group_score == GroupScore::Max && experts.groups > 1 {
        let supported = "greedy or noaux_tc: llama.cpp scores groups by their two best experts";
        return refused("topk_method", "group_limited_greedy".into(), supported);
    }
    Ok(())
}
