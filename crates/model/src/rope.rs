//! Rotary position tables (arXiv:2104.098_64), with the scalings of Hugging Face's `rope_parameters`.

use std::f64::consts::PI;

use crate::Config;

/// How rotary frequencies are stretched so that a model reads contexts longer than it was trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// How many times longer.
        factor: f64,
    },
    /// By the length of the sequence at hand once it exceeds `max_position_embeddings`, and not at all before. Sequences
    /// beyond are refused: each token would change the keys of all before it, so that there were no one forward.
    Dynamic,
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, those between blended.
    Llama3 {
        /// How many times longer.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings` over this are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings` over this are kept.
        high_freq_factor: f64,
        /// The context the model was trained on.
        original_max_position_embeddings: f64,
    },
    /// YaRN (arXiv:2309.000_71): frequencies that turn often in the original context are kept, those that turn seldom are
    /// divided by `factor`, those between blended; and cosines and sines are scaled.
    Yarn {
        /// How many times longer.
        factor: f64,
        /// Frequencies with more turns are kept.
        beta_fast: f64,
        /// Frequencies with fewer turns are divided.
        beta_slow: f64,
        /// Whether the ends of the blend are moved out to whole numbers.
        truncate: bool,
        /// The factor on cosines and sines.
        attention_factor: f64,
        /// The context the model was trained on.
        original_max_position_embeddings: f64,
    },
}

impl RopeScaling {
    /// The `dim / 2` frequencies, radians per token.
    pub(crate) fn frequencies(&self, theta: f64, dim: usize) -> Vec<f64> {
        let plain = |i: usize| theta.powf(-2.0 * i as f64 / dim as f64);
        let each = |f: &dyn Fn(usize, f64) -> f64| (0..dim / 2).map(|i| f(i, plain(i))).collect();
        match *self {
            Self::None | Self::Dynamic => each(&|_, frequency| frequency),
            Self::Linear { factor } => each(&|_, frequency| frequency / factor),
            Self::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: original,
            } => each(&|_, frequency| {
                let turns = original * frequency / (2.0 * PI); // turns that the original context makes
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                frequency * ((1.0 - kept) / factor + kept)
            }),
            Self::Yarn {
                factor,
                beta_fast,
                beta_slow,
                truncate,
                original_max_position_embeddings: original,
                ..
            } => {
                // The index of the frequency that turns so often in the original context.
                let index =
                    |turns: f64| dim as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
                let (low, high) = (index(beta_fast), index(beta_slow));
                let (low, high) = if truncate { (low.floor(), high.ceil()) } else { (low, high) };
                let (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
                let high = if low == high { high + 0.001 } else { high };
                each(&|i, frequency| {
                    let divided = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    frequency * (divided / factor + (1.0 - divided))
                })
            }
        }
    }

    /// The factor on cosines and sines.
    fn attention_factor(&self) -> f64 {
        if let Self::Yarn { attention_factor, .. } = *self { attention_factor } else { 1.0 }
    }
}

/// YaRN's factor on cosines and sines for contexts `factor` times as long, with `mscale` on its logarithm.
pub(crate) fn yarn_scale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

/// The cosines and sines of positions `0..positions`, each `[positions, head_dim / 2]`, in f64.
pub(crate) fn tables(config: &Config, positions: usize) -> (Vec<f64>, Vec<f64>) {
    let frequencies = config.rope_scaling.frequencies(config.rope_theta, config.head_dim);
    let scale = config.rope_scaling.attention_factor();
    let len = positions * frequencies.len();
    let (mut cos, mut sin) = (Vec::with_capacity(len), Vec::with_capacity(len));
    for position in 0..positions {
        for frequency in &frequencies {
            let (s, c) = (position as f64 * frequency).sin_cos();
            cos.push(scale * c);
            sin.push(scale * s);
        }
    }
    (cos, sin)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::ConfigError;

    /// A model of 12 features a head and 256 positions.
    fn config(changes: Value) -> Result<Config, ConfigError> {
        let mut raw = json!({"vocab_size": 8, "hidden_size": 48, "intermediate_size": 8, "num_hidden_layers": 1,
                             "num_attention_heads": 4, "max_position_embeddings": 256});
        let (Some(raw), Value::Object(changes)) = (raw.as_object_mut(), changes) else { panic!("objects") };
        raw.extend(changes);
        Config::from_json(raw.clone(), Path::new("test"))
    }

    /// Frequencies, and the factor on cosines and sines, that transformers 5.23 computes.
    #[test]
    fn frequencies_are_those_of_the_reference_implementation() {
        let plain = [1.0, 0.215_443_4, 0.046_415_88, 0.01, 0.002_154_434, 0.000_464_158_9];
        let fourth = plain.map(|f| f / 4.0);
        let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                            "original_max_position_embeddings": 64});
        let yarn = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64});
        let yarn_with_all = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64,
                                   "truncate": false, "beta_fast": 16.0, "mscale": 1.2, "mscale_all_dim": 0.8});
        for (parameters, wanted, factor) in [
            (json!({"rope_type": "default"}), plain, 1.0),
            (json!({"rope_type": "linear", "factor": 4.0}), fourth, 1.0),
            (json!({"rope_type": "dynamic", "factor": 4.0}), plain, 1.0),
            (llama3, [1.0, 0.101_989_3, 0.005_801_986, 0.001_25, 0.000_269_304_3, 5.801_987e-5], 1.0),
            (yarn, [1.0, 0.134_652_2, fourth[2], fourth[3], fourth[4], fourth[5]], 1.138_629_436),
            (yarn_with_all, [1.0, 0.108_576_7, fourth[2], fourth[3], fourth[4], fourth[5]], 1.049_915_922),
        ] {
            let config = config(json!({"rope_parameters": parameters})).expect("a config");
            let found = config.rope_scaling.frequencies(config.rope_theta, config.head_dim);
            for (found, wanted) in found.iter().zip(wanted) {
                assert!((found / wanted - 1.0).abs() < 1e-6, "{parameters}: {found} for {wanted}");
            }
            assert!((config.rope_scaling.attention_factor() - factor).abs() < 1e-8, "{parameters}");
            let (cos, sin) = tables(&config, 3);
            assert!((cos[12] - factor * (2.0 * found[0]).cos()).abs() < 1e-6);
            assert!((sin[13] - factor * (2.0 * found[1]).sin()).abs() < 1e-6);
        }
    }

    #[test]
    fn old_and_new_keys_are_read() {
        let new =
            config(json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}}));
        let old = config(json!({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 5e5}));
        let (new, old) = (new.expect("new keys"), old.expect("old keys"));
        assert_eq!((new.rope_theta, new.rope_scaling), (old.rope_theta, old.rope_scaling));
        assert_eq!((new.rope_theta, new.rope_scaling), (5e5, RopeScaling::Linear { factor: 2.0 }));
    }

    #[test]
    fn what_is_not_computed_is_refused_by_name() {
        for (changes, wanted) in [
            (json!({"rope_scaling": {"type": "longrope"}}), "default, linear, dynamic, llama3, yarn"),
            (json!({"rope_scaling": {"type": "linear"}}), "`factor` is missing"),
            (json!({"rope_scaling": {"rope_type": 3}}), "`rope_type` is 3"),
            (json!({"rope_scaling": "linear"}), "`rope_scaling` is \"linear\""),
            (json!({"rope_theta": 0.5}), "`rope_theta` is 0.5"),
            (
                json!({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}),
                "partial_rotary_factor",
            ),
            (
                json!({"rope_scaling": {"type": "llama3", "factor": 2.0, "low_freq_factor": 2.0,
                                        "high_freq_factor": 2.0}}),
                "above low_freq_factor",
            ),
        ] {
            let error = config(changes.clone()).expect_err("refused").to_string();
            assert!(error.contains(wanted), "{changes}: {error}");
        }
    }
}
