//! The two forms of latent attention: on the f64 reference they differ by nothing but rounding.

use koan_backend::{Backend, Layout, Reference};
use koan_model::{
    Activations, CacheForm, Config, Gradient, Head, KvCache, Model, Purpose, Targets, TensorInfo, testkit,
};
use serde_json::{Value, json};

/// Models with latent attention: with queries that are compressed and with whole ones, with values wider and narrower than keys, and
/// of one head.
fn kinds() -> Vec<Value> {
    let kind = |changes: Value| {
        let mut kind = testkit::deepseek(json!({"model_type": "deepseek_v3", "first_k_dense_replace": 1}));
        let Value::Object(changes) = changes else { unreachable!("an object") };
        kind.as_object_mut().expect("an object").extend(changes);
        kind
    };
    vec![
        kind(json!({})),
        kind(json!({"q_lora_rank": null, "v_head_dim": 3, "kv_lora_rank": 4, "attention_bias": true})),
        kind(json!({"num_attention_heads": 1, "num_key_value_heads": 1, "rope_interleave": false})),
    ]
}

fn configs(kind: Value, adapted: bool) -> [Config; 2] {
    [CacheForm::Expanded, CacheForm::Latent].map(|cache| {
        let config = testkit::config_with(11, true, kind.clone()).caching(cache, "test".as_ref());
        let config = config.expect("a model with latents");
        if adapted {
            config.with_adapter(testkit::adapter(Targets::AllLinear)).expect("an adapter")
        } else {
            config
        }
    })
}

/// Log-probabilities, and the gradient of their weighted sum.
fn pass(config: &Config) -> (Vec<f64>, Vec<(TensorInfo, Vec<f64>)>) {
    let b = &Reference;
    let mut layout = Layout::default();
    layout.push_group(&[3, 1, 4, 1], [&[5, 9, 2][..], &[6], &[5, 3]]);
    layout.push_group(&[2], [&[7, 1][..], &[8, 2, 8]]);
    let (rows, scored) = (layout.len(), layout.head_rows.len());
    let model = testkit::model(b, config.clone(), 5);
    let layout = model.upload(b, layout).expect("memory");
    let mut a = Activations::new(b, config, rows, Purpose::Training).expect("memory");
    let mut head = Head::new(b, config, scored).expect("memory");
    let mut gradient = Gradient::new(b, config, rows).expect("memory");
    model.forward(b, &layout, &mut a, None);
    let [log_probs, _] = model.log_probs(b, &a, &layout, 1.0, &mut head);
    let d: Vec<f64> = (0..scored).map(|i| f64::from(testkit::random(9, i as u64)) + 0.1).collect();
    model.backward(b, &layout, &mut a, &d, 1.0, &mut head, &mut gradient);
    (log_probs, config.tensors().into_iter().zip(gradient.weights.tensors().cloned()).collect())
}

#[test]
fn both_forms_compute_the_same_and_so_do_their_backwards() {
    for (kind, adapted) in kinds().into_iter().flat_map(|kind| [(kind.clone(), false), (kind, true)]) {
        let [expanded, latent] = configs(kind.clone(), adapted);
        let [(expected, expected_gradient), (got, gradient)] = [expanded, latent].map(|config| pass(&config));
        for (want, got) in expected.iter().zip(&got) {
            assert!((want - got).abs() < 1e-10, "{kind}: log-probabilities {want} and {got}");
        }
        for ((info, want), (_, got)) in expected_gradient.iter().zip(&gradient) {
            assert_eq!(want.len(), got.len(), "{}", info.name);
            for (i, (want, got)) in want.iter().zip(got).enumerate() {
                let allowed = 1e-9 * (1.0 + want.abs());
                assert!((want - got).abs() < allowed, "{kind}: {}[{i}] is {got}, not {want}", info.name);
            }
        }
    }
}

#[test]
fn a_tokens_cache_is_its_latent() {
    for kind in kinds() {
        let [expanded, latent] = configs(kind, false);
        let of = latent.latent.expect("latents");
        let layers = latent.num_hidden_layers;
        assert_eq!(latent.cache_elements_per_row(), layers * (of.kv_lora_rank + of.qk_rope_head_dim));
        let expected = layers * latent.num_attention_heads * (of.qk_head_dim() + of.v_head_dim);
        assert_eq!(expanded.cache_elements_per_row(), expected);
        let bytes = KvCache::bytes(&Reference, &latent, 10);
        assert_eq!(bytes, Reference.keys_bytes(10 * latent.cache_elements_per_row()));
    }
}

#[test]
fn a_model_without_latents_has_none_to_cache() {
    let config = testkit::config(11, true);
    let error =
        config.clone().caching(CacheForm::Latent, "somewhere".as_ref()).expect_err("refused").to_string();
    assert!(error.contains("`somewhere`") && error.contains("llama"), "{error}");
    assert_eq!(config.clone().caching(CacheForm::Expanded, "".as_ref()).expect("as it is"), config);
    let _: Model<Reference> = testkit::model(&Reference, config, 1);
}
