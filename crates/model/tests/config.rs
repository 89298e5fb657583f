//! Configs: what each family's keys mean, and what is refused.

use std::path::Path;

use koan_backend::Reference;
use koan_model::{Biases, Config, ConfigError, Family, Purpose, Residency, testkit};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// The tiny model's config with keys changed; those that are `"absent"` are taken out.
fn config(changes: Value) -> Result<Config, ConfigError> {
    let mut raw = testkit::config(8, true).raw;
    raw.extend(changes.as_object().cloned().unwrap_or_default());
    raw.retain(|_, value| value != "absent");
    Config::from_json(raw, Path::new("test"))
}

#[test]
fn families_differ_in_biases_norms_and_windows() {
    let read = |changes| config(changes).expect("a config");
    let llama = read(json!({"attention_bias": true}));
    assert_eq!(llama.biases, Biases { qkv: true, output: true, mlp: false });
    let qwen2 = read(json!({"model_type": "qwen2"}));
    assert_eq!(qwen2.family, Family::Qwen2);
    assert_eq!(qwen2.biases, Biases { qkv: true, output: false, mlp: false });
    assert!(!qwen2.head_norms);
    let qwen3 = read(json!({"model_type": "qwen3", "head_dim": "absent"}));
    assert_eq!((qwen3.biases, qwen3.head_norms, qwen3.head_dim), (Biases::default(), true, 128));
    assert_eq!(read(json!({"head_dim": "absent"})).head_dim, 6);
}

#[test]
fn a_window_bounds_the_longest_sequence() {
    let longest = |changes| config(changes).expect("a config").longest_sequence();
    assert_eq!(longest(json!({"model_type": "mistral", "sliding_window": 100})), 100);
    assert_eq!(longest(json!({"model_type": "mistral", "sliding_window": null})), 256);
    assert_eq!(longest(json!({"model_type": "qwen2", "sliding_window": 100})), 256);
    let used = json!({"model_type": "qwen2", "sliding_window": 100, "use_sliding_window": true,
                      "max_window_layers": 1});
    assert_eq!(longest(used), 100);
    let named = json!({"model_type": "qwen3", "sliding_window": 100, "use_sliding_window": true,
                       "layer_types": ["full_attention", "full_attention"]});
    assert_eq!(longest(named), 256);
    // A file of a few bytes can't ask for tables of terabytes.
    assert_eq!(longest(json!({"max_position_embeddings": 1 << 24, "head_dim": 1 << 18})), 1 << 10);
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    for (changes, wanted) in [
        (json!({"model_type": "mamba"}), "`model_type` is \"mamba\" in `test`; supported: llama, mistral"),
        (json!({"hidden_act": "gelu"}), "`hidden_act` is \"gelu\""),
        (json!({"quantization_config": {"quant_method": "gptq"}}), "weights in bf16, f16 or f32"),
        (json!({"quantization_config": {"quant_method": "fp8"}}), "`weight_block_size` is absent"),
        (json!({"num_key_value_heads": 3}), "a divisor of num_attention_heads"),
        (json!({"head_dim": 7}), "an even number"),
        (json!({"hidden_size": 2, "head_dim": "absent"}), "`head_dim` is absent"),
        (json!({"hidden_size": 1u64 << 40}), "`hidden_size` is 1099511627776"),
        (json!({"num_hidden_layers": 1 << 20}), "1 to 4096"),
        (json!({"vocab_size": "absent"}), "`vocab_size` is missing in `test`"),
        (json!({"rms_norm_eps": -1.0}), "a positive number"),
        (json!({"rms_norm_eps": 1e-300}), "a positive number"),
        (json!({"rope_theta": 1e300}), "a positive number"),
        (json!({"tie_word_embeddings": 1}), "true or false"),
        (json!({"eos_token_id": vec![0; 2000]}), "a list of up to 1024"),
        (json!({"eos_token_id": [1, "2"]}), "a token id"),
    ] {
        let error = config(changes.clone()).expect_err("refused").to_string();
        assert!(error.contains(wanted), "{changes}: {error}");
    }
}

/// What contradicts itself, or what transformers would compute otherwise.
#[test]
fn configs_of_deepseek_are_refused_by_name() {
    for (changes, wanted) in [
        (json!({"head_dim": 6}), "supported: qk_rope_head_dim, 4, or absent"),
        (json!({"qk_rope_head_dim": 3}), "an even number"),
        (json!({"num_key_value_heads": 2}), "num_attention_heads, 4"),
        (json!({"kv_lora_rank": 0}), "`kv_lora_rank` is 0"),
        (json!({"n_group": 4}), "a divisor of n_routed_experts, 6"),
        (json!({"n_group": 6}), "with 2 or more experts a group"),
        (json!({"topk_group": 3}), "`topk_group` is 3"),
        (json!({"num_experts_per_tok": 4}), "1 to 3, the experts that are chosen from"),
        (json!({"n_routed_experts": 0}), "`n_routed_experts` is 0"),
        (json!({"moe_layer_freq": 2}), "experts in every layer"),
        (json!({"scoring_func": "softmax"}), "`scoring_func` is \"softmax\""),
        (json!({"topk_method": "greedy"}), "noaux_tc"),
        (json!({"num_nextn_predict_layers": 17}), "`num_nextn_predict_layers` is 17"),
        (json!({"model_type": "deepseek_v2", "norm_topk_prob": true}), "`norm_topk_prob` is true"),
        (
            json!({"model_type": "deepseek_v2", "num_experts_per_tok": "absent"}),
            "`num_experts_per_tok` is missing",
        ),
    ] {
        let mut all = testkit::deepseek(json!({"model_type": "deepseek_v3"}));
        let (Some(all), Some(changes)) = (all.as_object_mut(), changes.as_object()) else {
            panic!("objects")
        };
        assert!(config(Value::Object(all.clone())).is_ok());
        all.extend(changes.clone());
        let error = config(Value::Object(all.clone())).expect_err("refused").to_string();
        assert!(error.contains(wanted), "{changes:?}: {error}");
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0u64..300).prop_map(Value::from),
        (0u32..26).prop_map(|n| Value::from(1u64 << n)),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec!["llama", "qwen2", "qwen3", "mistral", "yarn", "silu", "é\u{0}"])
            .prop_map(Value::from),
        prop::collection::vec(any::<i32>().prop_map(Value::from), 0..4).prop_map(Value::from),
        Just(json!({"rope_type": "yarn", "factor": 1e300, "rope_theta": 1.000_000_1})),
        Just(json!({"type": "dynamic"})),
    ]
}

const KEYS: [&str; 19] = [
    "model_type",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "rope_scaling",
    "rope_parameters",
    "rope_theta",
    "rms_norm_eps",
    "sliding_window",
    "use_sliding_window",
    "layer_types",
    "eos_token_id",
    "tie_word_embeddings",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Any config is refused, or is one whose sizes, and the memory of whose passes, fit in memory's addresses.
    #[test]
    fn no_config_makes_a_panic(keys in prop::collection::vec((0..KEYS.len(), value()), 0..6)) {
        let changes: Map<String, Value> = keys.into_iter().map(|(i, v)| (KEYS[i].to_owned(), v)).collect();
        if let Ok(config) = config(changes.into()) {
            let longest = config.longest_sequence();
            prop_assert!(config.head_dim >= 2 && config.parameters() < 1 << 60 && longest > 0);
            prop_assert!(config.model_bytes(&Reference, Residency::Rollout) < 1 << 63 && config.gradient_bytes(&Reference) < 1 << 62);
            prop_assert!(Purpose::Training.bytes(&Reference, &config, longest) < 1 << 63);
        }
    }
}
