//! `config.json` of a Hugging Face model, checked for what this engine computes.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::RopeScaling;

/// No size in a config may exceed this: a limit against hostile files, far above any real model.
const MAX_SIZE: u64 = 1 << 24;
/// Largest `config.json` read, bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The sizes and constants of a dense decoder of the Llama family; fields are named as in `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Features of the residual stream.
    pub hidden_size: usize,
    /// Features between the two halves of the MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched for long contexts.
    pub rope_scaling: RopeScaling,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// The tokens that end a completion (`eos_token_id` of the config and of `generation_config.json`).
    pub eos_token_ids: Vec<u32>,
    /// The file as it was read, to be saved as it stands.
    pub raw: Map<String, Value>,
}

/// Why a config was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read `{}` (a model is a Hugging Face directory with config.json; `koan model import` makes one from a GGUF file)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no JSON object.
    #[error("`{}` is not a JSON object", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it stops being one.
        source: serde_json::Error,
    },
    /// The file is larger than any config.
    #[error("`{}` is larger than {MAX_FILE_BYTES} bytes: not a model's config", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A key is missing.
    #[error("`{key}` is missing in `{}`", path.display())]
    Missing {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A key has a value that makes no sense, or that this engine does not compute.
    #[error("`{key}` is {value} in `{}`; supported: {supported}", path.display())]
    Unsupported {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What would be accepted.
        supported: String,
        /// The file.
        path: PathBuf,
    },
}

impl Config {
    /// Reads `config.json` (and the end-of-sequence tokens of `generation_config.json`, if there is one) of the model
    /// directory `dir`. Old and new spellings of the rope keys are both read.
    ///
    /// # Errors
    /// A file that can't be read, a missing key, or a value that this engine does not compute, by name.
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        let path = dir.join("config.json");
        let raw = read_object(&path)?;
        let mut config = Reader { raw: &raw, path: &path }.config()?;
        let generation = dir.join("generation_config.json");
        if generation.exists() {
            let more = read_object(&generation)?;
            for id in (Reader { raw: &more, path: &generation }).token_ids("eos_token_id")? {
                if !config.eos_token_ids.contains(&id) {
                    config.eos_token_ids.push(id);
                }
            }
        }
        config.raw = raw;
        Ok(config)
    }

    /// Reads the config in file `path`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        Self::from_json(read_object(path)?, path)
    }

    /// Reads a config from its JSON object; `path` is named in errors.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_json(raw: Map<String, Value>, path: &Path) -> Result<Self, ConfigError> {
        let config = Reader { raw: &raw, path }.config()?;
        Ok(Self { raw, ..config })
    }
}

fn read_object(path: &Path) -> Result<Map<String, Value>, ConfigError> {
    let read = |source| ConfigError::Read { path: path.into(), source };
    if std::fs::metadata(path).map_err(read)?.len() > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge { path: path.into() });
    }
    let text = std::fs::read(path).map_err(read)?;
    serde_json::from_slice(&text).map_err(|source| ConfigError::Json { path: path.into(), source })
}

/// Reads keys of one JSON object, with errors that name the key and the file.
struct Reader<'a> {
    raw: &'a Map<String, Value>,
    path: &'a Path,
}

impl Reader<'_> {
    fn config(&self) -> Result<Config, ConfigError> {
        self.one_of("model_type", "llama", &["llama"])?;
        self.one_of("hidden_act", "silu", &["silu"])?;
        self.absent("attention_bias")?;
        self.absent("mlp_bias")?;
        let hidden_size = self.size("hidden_size", None)?;
        let num_attention_heads = self.size("num_attention_heads", None)?;
        let num_key_value_heads = self.size("num_key_value_heads", Some(num_attention_heads))?;
        let head_dim = self.size("head_dim", Some(hidden_size / num_attention_heads))?;
        if num_attention_heads % num_key_value_heads != 0 {
            return Err(self.unsupported("num_key_value_heads", "a divisor of num_attention_heads"));
        }
        if head_dim % 2 != 0 {
            return Err(self.unsupported("head_dim", "an even number"));
        }
        let max_position_embeddings = self.size("max_position_embeddings", Some(2048))?;
        let (rope_theta, rope_scaling) = self.rope(max_position_embeddings)?;
        Ok(Config {
            vocab_size: self.size("vocab_size", None)?,
            hidden_size,
            intermediate_size: self.size("intermediate_size", None)?,
            num_hidden_layers: self.size("num_hidden_layers", None)?,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps: self.number(self.raw, "rms_norm_eps", Some(1e-6))? as f32,
            rope_theta,
            rope_scaling,
            max_position_embeddings,
            tie_word_embeddings: self.flag("tie_word_embeddings")?,
            eos_token_ids: self.token_ids("eos_token_id")?,
            raw: Map::new(),
        })
    }

    /// transformers 5 writes `rope_parameters` with everything in it; before, `rope_theta` stood apart and
    /// `rope_scaling` held the rest, with `type` for `rope_type`.
    fn rope(&self, max_positions: usize) -> Result<(f64, RopeScaling), ConfigError> {
        let empty = Map::new();
        let table = ["rope_parameters", "rope_scaling"]
            .iter()
            .find_map(|key| self.raw.get(*key).and_then(Value::as_object))
            .unwrap_or(&empty);
        let theta_table = if table.contains_key("rope_theta") { table } else { self.raw };
        let theta = self.number(theta_table, "rope_theta", Some(10000.0))?;
        if theta <= 1.0 {
            return Err(self.unsupported("rope_theta", "a number above 1"));
        }
        let kind = ["rope_type", "type"].iter().find_map(|key| table.get(*key)).and_then(Value::as_str);
        let scaling = match kind.unwrap_or("default") {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: self.number(table, "factor", None)? },
            "llama3" => RopeScaling::Llama3 {
                factor: self.number(table, "factor", None)?,
                low_freq_factor: self.number(table, "low_freq_factor", None)?,
                high_freq_factor: self.number(table, "high_freq_factor", None)?,
                original_max_position_embeddings: self.number(
                    table,
                    "original_max_position_embeddings",
                    Some(max_positions as f64),
                )?,
            },
            other => {
                return Err(ConfigError::Unsupported {
                    key: "rope_type".into(),
                    value: format!("\"{other}\""),
                    supported: "default, linear, llama3".into(),
                    path: self.path.into(),
                });
            }
        };
        Ok((theta, scaling))
    }

    fn size(&self, key: &'static str, default: Option<usize>) -> Result<usize, ConfigError> {
        match (self.raw.get(key).filter(|v| !v.is_null()), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => Err(ConfigError::Missing { key, path: self.path.into() }),
            (Some(value), _) => match value.as_u64() {
                Some(n @ 1..=MAX_SIZE) => Ok(n as usize),
                _ => Err(self.unsupported(key, &format!("1 to {MAX_SIZE}"))),
            },
        }
    }

    fn number(
        &self,
        table: &Map<String, Value>,
        key: &'static str,
        default: Option<f64>,
    ) -> Result<f64, ConfigError> {
        match (table.get(key).filter(|v| !v.is_null()), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => Err(ConfigError::Missing { key, path: self.path.into() }),
            (Some(value), _) => match value.as_f64() {
                Some(x) if x > 0.0 && x.is_finite() => Ok(x),
                _ => Err(ConfigError::Unsupported {
                    key: key.into(),
                    value: value.to_string(),
                    supported: "a positive number".into(),
                    path: self.path.into(),
                }),
            },
        }
    }

    fn flag(&self, key: &str) -> Result<bool, ConfigError> {
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.unsupported(key, "true or false")),
        }
    }

    fn absent(&self, key: &str) -> Result<(), ConfigError> {
        if self.flag(key)? { Err(self.unsupported(key, "false")) } else { Ok(()) }
    }

    fn one_of(&self, key: &str, default: &str, known: &[&str]) -> Result<(), ConfigError> {
        match self.raw.get(key).map_or(Some(default), Value::as_str) {
            Some(value) if known.contains(&value) => Ok(()),
            _ => Err(self.unsupported(key, &known.join(", "))),
        }
    }

    /// A token id, a list of them, or nothing.
    fn token_ids(&self, key: &str) -> Result<Vec<u32>, ConfigError> {
        let one = |v: &Value| {
            v.as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| self.unsupported(key, "a token id, or a list of them"))
        };
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(ids)) => ids.iter().map(one).collect(),
            Some(id) => Ok(vec![one(id)?]),
        }
    }

    fn unsupported(&self, key: &str, supported: &str) -> ConfigError {
        let value = self.raw.get(key).map_or_else(|| "absent".into(), Value::to_string);
        ConfigError::Unsupported {
            key: key.into(),
            value,
            supported: supported.into(),
            path: self.path.into(),
        }
    }
}
