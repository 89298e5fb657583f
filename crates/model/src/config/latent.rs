//! The sizes of latent attention, read from `config.json`.

use serde_json::Value;

use super::{
    ConfigError,
    reader::{MAX_FEATURES, Reader},
};
use crate::rope;

/// What latent attention caches of a token, and so by which of two forms it is computed (decision 13). They differ by rounding alone, and
/// each is the same in all passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheForm {
    /// The keys and values of all heads, expanded from the latent.
    #[default]
    Expanded,
    /// The latent and the rotated part of the key, as the one key and value of all heads.
    Latent,
}

/// The sizes of DeepSeek's latent attention (arXiv:2405.04434, section 2.1); fields are named as in `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatentConfig {
    /// Features that queries are compressed to; None: they are not.
    pub q_lora_rank: Option<usize>,
    /// Features that keys and values are compressed to.
    pub kv_lora_rank: usize,
    /// Features of a query or key head that are not rotated.
    pub qk_nope_head_dim: usize,
    /// Features of a query or key head that are rotated, after the others; all heads share those of a key.
    pub qk_rope_head_dim: usize,
    /// Features of a value head.
    pub v_head_dim: usize,
    /// Whether the rotation turns neighbours `(2i, 2i + 1)`, instead of `(i, i + dim / 2)`.
    pub rope_interleave: bool,
    /// Whether the products from the stream, and that back to it, have biases.
    pub biases: bool,
    /// Factor on the products of queries and keys: `(nope + rope)^-1/2`, times the square of YaRN's `mscale_all_dim` term.
    pub softmax_scale: f64,
}

impl LatentConfig {
    /// Added to the mean square in the norms of what is compressed: no config names it.
    pub const NORM_EPS: f32 = 1e-6;

    /// Features of a query or key head.
    pub fn qk_head_dim(&self) -> usize {
        self.qk_nope_head_dim + self.qk_rope_head_dim
    }
}

impl Reader<'_> {
    pub(super) fn latent(&self, heads: usize) -> Result<LatentConfig, ConfigError> {
        let size = |key, default| self.size(key, Some(default), MAX_FEATURES);
        let q_lora_rank = match self.raw.get("q_lora_rank") {
            Some(Value::Null) => None,
            _ => Some(size("q_lora_rank", 1536)?),
        };
        let [qk_nope_head_dim, qk_rope_head_dim] =
            [size("qk_nope_head_dim", 128)?, size("qk_rope_head_dim", 64)?];
        let v_head_dim = size("v_head_dim", 128)?;
        if qk_rope_head_dim % 2 != 0 {
            return Err(self.unsupported("qk_rope_head_dim", "an even number"));
        }
        let qk_head_dim = qk_nope_head_dim + qk_rope_head_dim;
        if heads.saturating_mul(qk_head_dim + v_head_dim) > MAX_FEATURES {
            return Err(self.unsupported(
                "num_attention_heads",
                &format!("at most {MAX_FEATURES} features in all heads"),
            ));
        }
        let key_value_heads = self.size("num_key_value_heads", Some(heads), MAX_FEATURES)?;
        if key_value_heads != heads {
            return Err(self.unsupported("num_key_value_heads", &format!("num_attention_heads, {heads}")));
        }
        Ok(LatentConfig {
            q_lora_rank,
            kv_lora_rank: size("kv_lora_rank", 512)?,
            qk_nope_head_dim,
            qk_rope_head_dim,
            v_head_dim,
            rope_interleave: self.flag(self.raw, "rope_interleave", true)?,
            biases: self.flag(self.raw, "attention_bias", false)?,
            softmax_scale: (qk_head_dim as f64).powf(-0.5) * self.softmax_factor()?,
        })
    }

    /// The square of YaRN's term by `mscale_all_dim`, of any scaling that names one, as transformers has it.
    fn softmax_factor(&self) -> Result<f64, ConfigError> {
        let (table, kind) = self.rope_table()?;
        if kind == Some("default") {
            return Ok(1.0);
        }
        Ok(match self.optional_number(table, "mscale_all_dim")? {
            Some(mscale) => rope::yarn_scale(self.number(table, "factor", None)?, mscale).powi(2),
            None => 1.0,
        })
    }
}
