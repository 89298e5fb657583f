//! A longer context for a model that was trained on a shorter one: what YaRN changes in its config.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Config, ConfigError, reader::MAX_SIZE};
use crate::RopeScaling;

/// YaRN's constants (arXiv:2309.00071), as `rope_scaling` has them in `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// How many times longer contexts may be than those that the model was trained on.
    pub factor: f64,
    /// Frequencies with more turns in the original context are kept.
    pub beta_fast: f64,
    /// Frequencies with fewer turns are divided by `factor`.
    pub beta_slow: f64,
    /// With `mscale_all_dim` the factor on cosines and sines; without, that is 0.1 ln(factor) + 1.
    pub mscale: Option<f64>,
    /// In latent attention it also scales the products of queries and keys.
    pub mscale_all_dim: Option<f64>,
}

impl Config {
    /// The tokens that its rotary frequencies were trained on, before any scaling.
    pub fn original_positions(&self) -> usize {
        match self.rope_scaling {
            RopeScaling::Yarn { original_max_position_embeddings: original, .. } => original as usize,
            _ => self.max_position_embeddings,
        }
    }

    /// The config of this model for contexts of `length` tokens: with the scaling `yarn` of its rotary frequencies, or the one
    /// that it has. Its file, `raw`, says the same as Hugging Face reads it.
    ///
    /// # Errors
    /// [`ConfigError::Context`], if the model has another scaling or none, or `length` is not above the context that it was
    /// trained on, or is beyond what `yarn` stretches it to.
    pub fn with_context(&self, length: usize, yarn: Option<Yarn>) -> Result<Self, ConfigError> {
        let refused = |what: String| Err(ConfigError::Context { length, what });
        let original = self.original_positions();
        let (had, factor) = match (self.rope_scaling, yarn) {
            (RopeScaling::None, None) => {
                return refused(
                    "the model's rotary frequencies are not scaled; give context.rope, as in \
                     context.rope = {type = \"yarn\", factor = 8}"
                        .into(),
                );
            }
            (RopeScaling::None, Some(yarn)) => (false, yarn.factor),
            (RopeScaling::Yarn { factor, .. }, _) => (true, factor),
            _ => {
                return refused(
                    "the model's rotary frequencies are scaled already, otherwise than by YaRN; start from a model without \
                     `rope_scaling`"
                        .into(),
                );
            }
        };
        if length <= original || length > MAX_SIZE {
            return refused(format!(
                "the model was trained on contexts of {original}; give more, up to {MAX_SIZE}"
            ));
        }
        let needed = length as f64 / original as f64;
        let stretches_enough = factor.is_finite() && factor >= needed;
        if !stretches_enough {
            return refused(format!(
                "a factor of {factor} stretches its {original} tokens to {:.0}; at least {needed} is needed",
                factor * original as f64
            ));
        }
        let mut raw = self.raw.clone();
        raw.insert("max_position_embeddings".into(), json!(length));
        for (key, table) in rope_tables(&raw) {
            raw.insert(key.into(), Value::Object(self.scaled(key, table, original, yarn)));
        }
        let read = Self::from_json(raw, Path::new("config.json"))?;
        if had && (read.rope_scaling, read.latent) != (self.rope_scaling, self.latent) {
            return refused(
                "the model is scaled by YaRN already, by other constants; leave context.rope out to keep them, or start from \
                 the model before that"
                    .into(),
            );
        }
        let Self { latent, rope_scaling, max_position_embeddings, raw, .. } = read;
        Ok(Self { latent, rope_scaling, max_position_embeddings, raw, ..self.clone() })
    }

    /// `table`, of the rotary frequencies, with the scaling that is in force; every default that would depend on
    /// `max_position_embeddings` is said outright.
    fn scaled(
        &self,
        key: &str,
        mut table: Map<String, Value>,
        original: usize,
        yarn: Option<Yarn>,
    ) -> Map<String, Value> {
        table.insert("rope_type".into(), json!("yarn"));
        // The name of earlier versions of transformers, and of the code that came with DeepSeek's models.
        if key == "rope_scaling" || table.contains_key("type") {
            table.insert("type".into(), json!("yarn"));
        }
        table.insert("original_max_position_embeddings".into(), json!(original));
        if let RopeScaling::Yarn { factor, .. } = self.rope_scaling {
            table.insert("factor".into(), json!(factor));
        }
        let Some(Yarn { factor, beta_fast, beta_slow, mscale, mscale_all_dim }) = yarn else { return table };
        table.insert("factor".into(), json!(factor));
        table.insert("beta_fast".into(), json!(beta_fast));
        table.insert("beta_slow".into(), json!(beta_slow));
        // What DeepSeek-V3 has, where nothing else is there or asked for.
        let default = (self.latent.is_some() && self.rope_scaling == RopeScaling::None).then_some(1.0);
        for (name, value) in [("mscale", mscale.or(default)), ("mscale_all_dim", mscale_all_dim.or(default))]
        {
            if let Some(value) = value {
                table.insert(name.into(), json!(value));
            }
        }
        table
    }
}

/// The tables of rotary frequencies that a config has, by their keys: both spellings if both are there, or the older one, which all
/// versions of transformers read.
fn rope_tables(raw: &Map<String, Value>) -> Vec<(&'static str, Map<String, Value>)> {
    let table = |key| raw.get(key).and_then(Value::as_object).map(|table| (key, table.clone()));
    let found: Vec<_> = ["rope_scaling", "rope_parameters"].into_iter().filter_map(table).collect();
    if found.is_empty() { vec![("rope_scaling", Map::new())] } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(changes: Value) -> Config {
        let mut raw = json!({"vocab_size": 8, "hidden_size": 48, "intermediate_size": 8, "num_hidden_layers": 1,
                             "num_attention_heads": 4, "max_position_embeddings": 4096, "eos_token_id": 3});
        let (Some(raw), Value::Object(changes)) = (raw.as_object_mut(), changes) else { panic!("objects") };
        raw.extend(changes);
        Config::from_json(raw.clone(), Path::new("test")).expect("a config")
    }

    fn yarn(factor: f64) -> Yarn {
        Yarn { factor, beta_fast: 32.0, beta_slow: 1.0, mscale: None, mscale_all_dim: None }
    }

    fn refused(config: &Config, length: usize, yarn: Option<Yarn>) -> String {
        config.with_context(length, yarn).expect_err("refused").to_string()
    }

    /// In two stages as DeepSeek-V3's: to 32,768 tokens, then to 131,072, by one scaling.
    #[test]
    fn what_is_written_is_read_back_as_it_is_computed() {
        for (spelling, key) in [
            (json!({}), "rope_scaling"),
            (json!({"rope_scaling": null, "rope_theta": 5e5}), "rope_scaling"),
            (json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}), "rope_parameters"),
        ] {
            let base = config(spelling);
            let first = base.with_context(32_768, Some(yarn(40.0))).expect("extended");
            let second = first.with_context(131_072, None).expect("extended again");
            for (found, length) in [(&first, 32_768), (&second, 131_072)] {
                let back = Config::from_json(found.raw.clone(), Path::new("back")).expect("reads");
                assert_eq!(&back, found);
                assert_eq!((found.max_position_embeddings, found.longest_sequence()), (length, length));
                assert_eq!((found.rope_theta, &found.eos_token_ids), (base.rope_theta, &base.eos_token_ids));
                let RopeScaling::Yarn { factor, attention_factor, original_max_position_embeddings, .. } =
                    found.rope_scaling
                else {
                    panic!("{:?}", found.rope_scaling)
                };
                assert_eq!((factor, original_max_position_embeddings), (40.0, 4096.0));
                assert!((attention_factor - (0.1 * 40f64.ln() + 1.0)).abs() < 1e-12);
                assert_eq!(found.raw[key]["rope_type"], "yarn");
                assert_eq!(found.raw[key]["factor"].to_string(), "40.0", "transformers asks for a float");
            }
            assert_eq!(second.rope_scaling, first.rope_scaling);
            assert_eq!(first.with_context(131_072, Some(yarn(40.0))).expect("the same scaling"), second);
        }
    }

    /// A file that leaves to `max_position_embeddings` what its scaling starts from.
    #[test]
    fn defaults_of_the_file_stay_what_they_were() {
        let base = config(json!({"rope_scaling": {"type": "yarn", "factor": 4.0}}));
        let longer = base.with_context(16_384, None).expect("extended");
        assert_eq!(longer.rope_scaling, base.rope_scaling);
        assert_eq!(longer.raw["rope_scaling"]["original_max_position_embeddings"], 4096);
    }

    #[test]
    fn latent_attention_has_v3s_scale_of_the_softmax() {
        let base = config(json!({"model_type": "deepseek_v3", "kv_lora_rank": 8, "q_lora_rank": null,
            "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
            "n_shared_experts": 1, "moe_intermediate_size": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
            "head_dim": null, "routed_scaling_factor": 1.0, "norm_topk_prob": true}));
        let longer = base.with_context(32_768, Some(yarn(40.0))).expect("extended");
        let table = &longer.raw["rope_scaling"];
        assert_eq!((&table["mscale"], &table["mscale_all_dim"]), (&json!(1.0), &json!(1.0)));
        let scale = |config: &Config| config.latent.expect("latent").softmax_scale;
        let term = 0.1 * 40f64.ln() + 1.0;
        assert!((scale(&longer) / scale(&base) - term * term).abs() < 1e-12);
        let asked = Yarn { mscale: Some(0.707), mscale_all_dim: Some(0.707), ..yarn(40.0) };
        let longer = base.with_context(32_768, Some(asked)).expect("extended");
        assert_eq!(longer.raw["rope_scaling"]["mscale_all_dim"], 0.707);
    }

    #[test]
    fn what_cannot_be_extended_is_refused() {
        let base = config(json!({}));
        assert!(refused(&base, 8192, None).contains("give context.rope"));
        assert!(refused(&base, 4096, Some(yarn(2.0))).contains("trained on contexts of 4096"));
        assert!(refused(&base, 1 << 25, Some(yarn(1e5))).contains("up to 16777216"));
        assert!(refused(&base, 32_768, Some(yarn(4.0))).contains("at least 8 is needed"));
        let linear = config(json!({"rope_scaling": {"type": "linear", "factor": 4.0}}));
        assert!(refused(&linear, 32_768, Some(yarn(8.0))).contains("otherwise than by YaRN"));
        let first = base.with_context(32_768, Some(yarn(8.0))).expect("extended");
        assert!(refused(&first, 32_768, Some(yarn(16.0))).contains("by other constants"));
        assert!(refused(&first, 65_536, None).contains("at least 16 is needed"));
        assert!(refused(&base, 8192, Some(yarn(f64::NAN))).contains("at least 2 is needed"));
    }
}
