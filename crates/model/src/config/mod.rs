//! `config.json` of a Hugging Face model, checked for what this engine computes.

mod context;
mod experts;
mod family;
mod latent;
mod quantized;
mod reader;

use std::path::{Path, PathBuf};

use koan_backend::ProductPrecision;
use koan_files::read_bounded;
use serde_json::{Map, Value, json};

pub use context::Yarn;
pub use experts::ExpertsConfig;
pub use family::Family;
pub use latent::{CacheForm, LatentConfig};
pub use quantized::Fp8Weights;
use reader::Reader;

use crate::{
    RopeScaling, adapter::Adapter, attention::AttentionKind, checkpoint, heads::HeadKind, layer::LayerKind,
    mistaken, mlp::MlpKind,
};

/// Elements that the tables of positions may hold, cosines and sines together: 1 GiB of them. That is 2 million tokens for
/// heads of 128 features.
const MAX_TABLE: usize = 1 << 28;
/// Largest `config.json` read, bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Which products of a layer have biases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Those of queries, keys and values.
    pub qkv: bool,
    /// That of attention's output.
    pub output: bool,
    /// The three of the MLP.
    pub mlp: bool,
}

/// The sizes and constants of a decoder of a [`Family`]; fields are named as in `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The family, `model_type`.
    pub family: Family,
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
    /// Features of a head that are rotated: all of them, except in latent attention.
    pub head_dim: usize,
    /// The sizes of latent attention, in families that have it.
    pub latent: Option<LatentConfig>,
    /// The experts of its layers, in families that have them.
    pub experts: Option<ExpertsConfig>,
    /// Modules after the last layer that predict further tokens: `num_nextn_predict_layers`.
    pub multi_token_layers: usize,
    /// Whether training changes these modules; where it does not, they stay as they are, and are saved so.
    pub trains_multi_token: bool,
    /// Which products have biases.
    pub biases: Biases,
    /// Whether each query and key head has a norm before its rotation.
    pub head_norms: bool,
    /// Keys that some layer attends to at most, the token's own included. Longer sequences are refused.
    pub sliding_window: Option<usize>,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched for long contexts.
    pub rope_scaling: RopeScaling,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// What it predicts: tokens, or a score.
    pub head: HeadKind,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Standard deviation of the weights of a fresh model.
    pub initializer_range: f32,
    /// The tokens that end a completion (`eos_token_id` of the config and of `generation_config.json`).
    pub eos_token_ids: Vec<u32>,
    /// Whether its files hold matrices in FP8.
    pub fp8: Option<Fp8Weights>,
    /// In what precision the products of its linear layers are computed. No file says it: see [`in_precision`](crate::checkpoint::Place::in_precision).
    pub precision: ProductPrecision,
    /// By which form its latent attention is computed. No file says it: see [`caching`](crate::checkpoint::Place::caching).
    pub cache: CacheForm,
    /// What an adapter adds to it, if the model has one.
    pub adapter: Option<Adapter>,
    /// The file as it was read, to be saved as it stands.
    pub raw: Map<String, Value>,
}

/// Why a config was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The path is no model directory.
    #[error("`{}` is no model directory: {what}", path.display())]
    NotAModel {
        /// The path.
        path: PathBuf,
        /// What it is, and what to do.
        what: String,
    },
    /// A file of the model is not there; git-lfs left a pointer in its place.
    #[error("`{}` is a pointer of git-lfs, not the file: `git lfs pull` in its directory fetches it, or `koan model pull OWNER/NAME` the whole model", path.display())]
    Pointer {
        /// The file.
        path: PathBuf,
    },
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
    /// Latents were to be cached of a model without any.
    #[error("`{}` is of the family {family}, which has no latent attention: there are no latents to cache; leave `cache` away, or give a deepseek_v2 or deepseek_v3", path.display())]
    NoLatent {
        /// The model.
        path: PathBuf,
        /// Its family.
        family: &'static str,
    },
    /// The context can't be made longer.
    #[error("the model can't be extended to contexts of {length} tokens: {what}")]
    Context {
        /// Tokens.
        length: usize,
        /// Why, and what to do.
        what: String,
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
    /// directory `dir`. Old and new spellings of the rope keys are both read. Where the weights have no modules that predict further
    /// tokens, the config has none, whatever the file says: most tools save a model without them.
    ///
    /// # Errors
    /// A file that can't be read, a missing key, or a value that this engine does not compute, by name.
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        let path = dir.join("config.json");
        if !path.exists() {
            return Err(ConfigError::NotAModel { path: dir.into(), what: mistaken::what_it_is(dir) });
        }
        if let Some(path) = mistaken::pointer(dir) {
            return Err(ConfigError::Pointer { path });
        }
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
        if config.multi_token_layers > 0 && checkpoint::lacks_module(dir, config.num_hidden_layers) {
            config.multi_token_layers = 0;
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

    /// The longest sequence that is computed, in tokens: what the model was made for, but no more than a window that
    /// some layer attends to, nor than there are tables of positions for.
    pub fn longest_sequence(&self) -> usize {
        let window = self.sliding_window.unwrap_or(usize::MAX);
        window.min(self.max_position_embeddings).min(MAX_TABLE / self.head_dim)
    }

    /// The config of a reward model on this model's trunk, whose file says what transformers reads: one label, a padding
    /// token `pad` (transformers scores the last token that is another one), and for labels of `rows` instead of pairs the kind
    /// of loss.
    #[must_use]
    pub fn with_scalar_head(&self, pad: u32, of_rows: bool) -> Self {
        let mut config = Self { head: HeadKind::Scalar, ..self.clone() };
        let class = self.family.class().replace("ForCausalLM", HeadKind::SCALAR_CLASS);
        config.raw.extend([
            ("architectures".to_owned(), json!([class])),
            ("id2label".to_owned(), json!({"0": "LABEL_0"})),
            ("label2id".to_owned(), json!({"LABEL_0": 0})),
            ("pad_token_id".to_owned(), json!(pad)),
        ]);
        if of_rows {
            // With one label transformers would take squared errors.
            config.raw.insert("problem_type".to_owned(), json!("multi_label_classification"));
        }
        config
    }

    /// The padding token, if its file names one.
    pub(crate) fn padding(&self) -> Option<u32> {
        self.raw.get("pad_token_id").and_then(Value::as_u64).map(|id| id as u32)
    }

    /// The same model, its latent attention computed by another form; `path` is named in errors.
    ///
    /// # Errors
    /// [`ConfigError::NoLatent`], if latents are to be cached of a model that has none.
    pub fn caching(self, cache: CacheForm, path: &Path) -> Result<Self, ConfigError> {
        if cache == CacheForm::Latent && self.latent.is_none() {
            return Err(ConfigError::NoLatent { path: path.into(), family: self.family.name() });
        }
        Ok(Self { cache, ..self })
    }

    /// Features of the query heads of all layers, by which the work of attention grows: where those of values are others, the
    /// mean of both.
    pub(crate) fn attention_features(&self) -> f64 {
        let of_head = match (self.latent, self.cache) {
            (Some(latent), CacheForm::Expanded) => (latent.qk_head_dim() + latent.v_head_dim) as f64 / 2.0,
            (Some(latent), CacheForm::Latent) => {
                latent.kv_lora_rank as f64 + latent.qk_rope_head_dim as f64 / 2.0
            }
            (None, _) => self.head_dim as f64,
        };
        (self.num_hidden_layers * self.num_attention_heads) as f64 * of_head
    }

    /// The same model without its modules that predict further tokens.
    #[must_use]
    pub fn without_modules(self) -> Self {
        Self { multi_token_layers: 0, ..self }
    }

    /// Whether tensor `name` is of a module that predicts further tokens, which the file names and this config is without.
    pub(crate) fn leaves_out(&self, name: &str) -> bool {
        let named = self.raw.get("num_nextn_predict_layers").and_then(Value::as_u64).unwrap_or(0) as usize;
        let layers =
            self.num_hidden_layers + self.multi_token_layers..self.num_hidden_layers.saturating_add(named);
        let layer = name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse().ok());
        layer.is_some_and(|layer| layers.contains(&layer))
    }

    /// The kind of the layers in modules that predict further tokens: that of the last layer.
    pub(crate) fn multi_token_kind(&self) -> LayerKind {
        self.layer_kinds().last().expect("a model has layers")
    }

    /// The kind of each layer, first to last.
    pub fn layer_kinds(&self) -> impl Iterator<Item = LayerKind> + use<> {
        let attention = match (self.latent, self.cache) {
            (Some(_), CacheForm::Expanded) => AttentionKind::Latent,
            (Some(_), CacheForm::Latent) => AttentionKind::Absorbed,
            (None, _) => AttentionKind::Grouped,
        };
        let first_routed = self.experts.map_or(usize::MAX, |experts| experts.first_dense);
        (0..self.num_hidden_layers).map(move |i| {
            let mlp = if i < first_routed { MlpKind::Dense } else { MlpKind::Routed };
            LayerKind { attention, mlp }
        })
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
    let text = read_bounded(path, MAX_FILE_BYTES)
        .map_err(read)?
        .ok_or_else(|| ConfigError::TooLarge { path: path.into() })?;
    serde_json::from_slice(&text).map_err(|source| ConfigError::Json { path: path.into(), source })
}
