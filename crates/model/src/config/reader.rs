//! The keys of `config.json`, each checked.

use std::{path::Path, sync::LazyLock};

use koan_backend::ProductPrecision;
use serde_json::{Map, Value};

use super::{Biases, Config, ConfigError, Family};
use crate::{CacheForm, RopeScaling, heads::HeadKind, rope};

/// Largest vocabulary and context: limits against hostile files, far above any real model, as are the next.
pub(super) const MAX_SIZE: usize = 1 << 24;
/// Most features of an activation: of the residual stream, the MLP, all heads.
pub(super) const MAX_FEATURES: usize = 1 << 20;
/// Most layers.
pub(super) const MAX_LAYERS: usize = 1 << 12;
/// Most modules that predict further tokens.
const MAX_MULTI_TOKEN_LAYERS: usize = 16;
/// Most tokens that end a completion.
const MAX_EOS_TOKENS: usize = 1 << 10;

/// Reads keys of one JSON object, with errors that name the key and the file.
pub(super) struct Reader<'a> {
    pub(super) raw: &'a Map<String, Value>,
    pub(super) path: &'a Path,
}

impl Reader<'_> {
    pub(super) fn config(&self) -> Result<Config, ConfigError> {
        let family = match self.raw.get("model_type") {
            None => Some(Family::Llama),
            Some(name) => name.as_str().and_then(Family::named),
        };
        let Some(family) = family else {
            return Err(self.unsupported("model_type", &Family::ALL.map(Family::name).join(", ")));
        };
        self.one_of("hidden_act", "silu", &["silu"])?;
        let hidden_size = self.size("hidden_size", None, MAX_FEATURES)?;
        let num_hidden_layers = self.size("num_hidden_layers", None, MAX_LAYERS)?;
        let num_attention_heads = self.size("num_attention_heads", None, MAX_FEATURES)?;
        let num_key_value_heads =
            self.size("num_key_value_heads", Some(num_attention_heads), MAX_FEATURES)?;
        let latent = family.is_deepseek().then(|| self.latent(num_attention_heads)).transpose()?;
        let experts = family.is_deepseek().then(|| self.experts(family)).transpose()?;
        let head_dim = match (latent, family) {
            // transformers would take another one for the features that are rotated.
            (Some(latent), _) => match self.size("head_dim", Some(latent.qk_rope_head_dim), MAX_FEATURES)? {
                dim if dim == latent.qk_rope_head_dim => dim,
                _ => {
                    let what = format!("qk_rope_head_dim, {}, or absent", latent.qk_rope_head_dim);
                    return Err(self.unsupported("head_dim", &what));
                }
            },
            (None, Family::Qwen3) => self.size("head_dim", Some(128), MAX_FEATURES)?,
            (None, _) => self.size("head_dim", Some(hidden_size / num_attention_heads), MAX_FEATURES)?,
        };
        if num_attention_heads % num_key_value_heads != 0 {
            return Err(self.unsupported("num_key_value_heads", "a divisor of num_attention_heads"));
        }
        if head_dim == 0 || head_dim % 2 != 0 || num_attention_heads * head_dim > MAX_FEATURES {
            let what = format!("an even number, of at most {MAX_FEATURES} features in all heads");
            return Err(self.unsupported("head_dim", &what));
        }
        let default_positions = if family == Family::Llama { 2048 } else { 32768 };
        let max_position_embeddings =
            self.size("max_position_embeddings", Some(default_positions), MAX_SIZE)?;
        let (rope_theta, rope_scaling) = self.rope(max_position_embeddings)?;
        Ok(Config {
            family,
            vocab_size: self.size("vocab_size", None, MAX_SIZE)?,
            hidden_size,
            intermediate_size: self.size("intermediate_size", None, MAX_FEATURES)?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            latent,
            experts,
            multi_token_layers: self.count("num_nextn_predict_layers", 0, MAX_MULTI_TOKEN_LAYERS)?,
            trains_multi_token: false,
            biases: self.biases(family)?,
            head_norms: family == Family::Qwen3,
            sliding_window: self.sliding_window(family, num_hidden_layers)?,
            rms_norm_eps: self.number(self.raw, "rms_norm_eps", Some(1e-6))? as f32,
            rope_theta,
            rope_scaling,
            max_position_embeddings,
            head: self.head()?,
            tie_word_embeddings: self.flag(self.raw, "tie_word_embeddings", false)?,
            initializer_range: self.number(self.raw, "initializer_range", Some(0.02))? as f32,
            eos_token_ids: self.token_ids("eos_token_id")?,
            fp8: self.fp8()?,
            precision: ProductPrecision::Device,
            cache: CacheForm::default(),
            adapter: None,
            raw: Map::new(),
        })
    }

    /// By the class, `architectures`. A head of several labels is none that is computed.
    fn head(&self) -> Result<HeadKind, ConfigError> {
        let class = self.raw.get("architectures").and_then(|classes| classes.get(0)).and_then(Value::as_str);
        if !class.is_some_and(|class| class.ends_with(HeadKind::SCALAR_CLASS)) {
            return Ok(HeadKind::Language);
        }
        // transformers takes two labels where none are named.
        let labels = self.raw.get("id2label").and_then(Value::as_object).map_or(2, Map::len);
        let labels = self.raw.get("num_labels").and_then(Value::as_u64).map_or(labels, |n| n as usize);
        if labels == 1 {
            Ok(HeadKind::Scalar)
        } else {
            Err(self.unsupported("id2label", "one label, a reward model's"))
        }
    }

    fn biases(&self, family: Family) -> Result<Biases, ConfigError> {
        let attention = || self.flag(self.raw, "attention_bias", false);
        Ok(match family {
            Family::Llama => {
                let mlp = self.flag(self.raw, "mlp_bias", false)?;
                Biases { qkv: attention()?, output: attention()?, mlp }
            }
            // Those of latent attention are its own.
            Family::Mistral | Family::DeepseekV2 | Family::DeepseekV3 => Biases::default(),
            Family::Qwen2 => Biases { qkv: true, ..Biases::default() },
            Family::Qwen3 => Biases { qkv: attention()?, output: attention()?, mlp: false },
        })
    }

    /// The window of any layer that has one: in Qwen's models only where `use_sliding_window` says so, and then of the
    /// layers that `layer_types` names, or of those from `max_window_layers` on.
    fn sliding_window(&self, family: Family, layers: usize) -> Result<Option<usize>, ConfigError> {
        let window = match self.raw.get("sliding_window") {
            None => Some(4096),
            Some(Value::Null) => None,
            Some(_) => Some(self.size("sliding_window", None, MAX_SIZE)?),
        };
        let slides = match (family, self.raw.get("layer_types")) {
            (Family::Llama | Family::DeepseekV2 | Family::DeepseekV3, _) => false,
            (Family::Mistral, _) => true,
            _ if !self.flag(self.raw, "use_sliding_window", false)? => false,
            (_, None | Some(Value::Null)) => self.size("max_window_layers", Some(28), MAX_LAYERS)? < layers,
            (_, Some(Value::Array(types))) => types.iter().any(|kind| kind != "full_attention"),
            _ => return Err(self.unsupported("layer_types", "a list")),
        };
        Ok(window.filter(|_| slides))
    }

    /// transformers 5 writes `rope_parameters` with everything in it; before, `rope_theta` stood apart and
    /// `rope_scaling` held the rest, with `type` for `rope_type`.
    /// The table of `rope_parameters` or `rope_scaling`, empty if there is none, and the kind that it names.
    pub(super) fn rope_table(&self) -> Result<(&Map<String, Value>, Option<&str>), ConfigError> {
        static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        let mut table = &*EMPTY;
        for key in ["rope_scaling", "rope_parameters"] {
            match self.raw.get(key) {
                None | Some(Value::Null) => {}
                Some(Value::Object(found)) => table = found,
                Some(_) => return Err(self.unsupported(key, "an object")),
            }
        }
        let key = if table.contains_key("rope_type") { "rope_type" } else { "type" };
        Ok((table, table.get(key).map_or(Some("default"), Value::as_str)))
    }

    fn rope(&self, max_positions: usize) -> Result<(f64, RopeScaling), ConfigError> {
        let (table, kind) = self.rope_table()?;
        let theta_table = if table.contains_key("rope_theta") { table } else { self.raw };
        let theta = self.number(theta_table, "rope_theta", Some(10000.0))?;
        if theta <= 1.0 {
            return Err(self.wrong(theta_table, "rope_theta", "a number above 1"));
        }
        for table in [table, self.raw] {
            if self.optional_number(table, "partial_rotary_factor")?.is_some_and(|share| share != 1.0) {
                return Err(self.wrong(table, "partial_rotary_factor", "1"));
            }
        }
        let factor = || self.number(table, "factor", None);
        let original = || self.number(table, "original_max_position_embeddings", Some(max_positions as f64));
        let scaling = match kind {
            Some("default") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear { factor: factor()? },
            Some("dynamic") => RopeScaling::Dynamic,
            Some("llama3") => {
                let low_freq_factor = self.number(table, "low_freq_factor", None)?;
                let high_freq_factor = self.number(table, "high_freq_factor", None)?;
                if high_freq_factor <= low_freq_factor {
                    return Err(self.wrong(table, "high_freq_factor", "above low_freq_factor"));
                }
                RopeScaling::Llama3 {
                    factor: factor()?,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_position_embeddings: original()?,
                }
            }
            Some("yarn") => self.yarn(table, original()?, max_positions)?,
            _ => {
                let key = if table.contains_key("rope_type") { "rope_type" } else { "type" };
                return Err(self.wrong(table, key, "default, linear, dynamic, llama3, yarn"));
            }
        };
        Ok((theta, scaling))
    }

    /// Keys that are absent, null or 0 have the values of the paper.
    fn yarn(
        &self,
        table: &Map<String, Value>,
        original: f64,
        max_positions: usize,
    ) -> Result<RopeScaling, ConfigError> {
        let given = |key| self.optional_number(table, key);
        let factor = given("factor")?.unwrap_or(max_positions as f64 / original);
        let attention_factor = match (given("attention_factor")?, given("mscale")?, given("mscale_all_dim")?)
        {
            (Some(factor), ..) => factor,
            (None, Some(mscale), Some(all)) => {
                rope::yarn_scale(factor, mscale) / rope::yarn_scale(factor, all)
            }
            _ => rope::yarn_scale(factor, 1.0),
        };
        Ok(RopeScaling::Yarn {
            factor,
            beta_fast: given("beta_fast")?.unwrap_or(32.0),
            beta_slow: given("beta_slow")?.unwrap_or(1.0),
            truncate: self.flag(table, "truncate", true)?,
            attention_factor,
            original_max_position_embeddings: original,
        })
    }

    /// As [`size`](Self::size), and none at all.
    pub(super) fn count(&self, key: &'static str, default: usize, most: usize) -> Result<usize, ConfigError> {
        match self.raw.get(key).filter(|v| !v.is_null()) {
            None => Ok(default),
            Some(value) if value.as_u64() == Some(0) => Ok(0),
            Some(_) => self.size(key, None, most),
        }
    }

    pub(super) fn size(
        &self,
        key: &'static str,
        default: Option<usize>,
        most: usize,
    ) -> Result<usize, ConfigError> {
        match (self.raw.get(key).filter(|v| !v.is_null()), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => Err(ConfigError::Missing { key, path: self.path.into() }),
            (Some(value), _) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(n) if (1..=most).contains(&n) => Ok(n),
                _ => Err(self.unsupported(key, &format!("1 to {most}"))),
            },
        }
    }

    /// A positive number.
    pub(super) fn number(
        &self,
        table: &Map<String, Value>,
        key: &'static str,
        default: Option<f64>,
    ) -> Result<f64, ConfigError> {
        match (table.get(key).filter(|v| !v.is_null()), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => Err(ConfigError::Missing { key, path: self.path.into() }),
            (Some(value), _) => match value.as_f64() {
                // Most are used as f32: what is out of its range is in no real model.
                Some(x) if x > 0.0 && (x as f32).is_normal() => Ok(x),
                _ => Err(self.wrong(table, key, "a positive number")),
            },
        }
    }

    /// A positive number; 0 is as good as absent.
    pub(super) fn optional_number(
        &self,
        table: &Map<String, Value>,
        key: &'static str,
    ) -> Result<Option<f64>, ConfigError> {
        match table.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) if value.as_f64() == Some(0.0) => Ok(None),
            Some(_) => self.number(table, key, None).map(Some),
        }
    }

    pub(super) fn flag(
        &self,
        table: &Map<String, Value>,
        key: &str,
        default: bool,
    ) -> Result<bool, ConfigError> {
        match table.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong(table, key, "true or false")),
        }
    }

    pub(super) fn one_of(&self, key: &str, default: &str, known: &[&str]) -> Result<(), ConfigError> {
        match self.raw.get(key).map_or(Some(default), Value::as_str) {
            Some(value) if known.contains(&value) => Ok(()),
            _ => Err(self.unsupported(key, &known.join(", "))),
        }
    }

    /// A token id, a list of them, or nothing.
    pub(super) fn token_ids(&self, key: &str) -> Result<Vec<u32>, ConfigError> {
        let one = |v: &Value| {
            v.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
                self.unsupported(key, &format!("a token id, or a list of up to {MAX_EOS_TOKENS}"))
            })
        };
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(ids)) if ids.len() <= MAX_EOS_TOKENS => ids.iter().map(one).collect(),
            Some(id) => Ok(vec![one(id)?]),
        }
    }

    pub(super) fn unsupported(&self, key: &str, supported: &str) -> ConfigError {
        self.wrong(self.raw, key, supported)
    }

    pub(super) fn wrong(&self, table: &Map<String, Value>, key: &str, supported: &str) -> ConfigError {
        /// As much of a value as an error shows.
        const SHOWN: usize = 80;
        let value = table.get(key).map_or_else(|| "absent".into(), Value::to_string);
        ConfigError::Unsupported {
            key: key.into(),
            value: value.chars().take(SHOWN).collect(),
            supported: supported.into(),
            path: self.path.into(),
        }
    }
}
