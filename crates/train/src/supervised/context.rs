//! `[context]`: training on longer contexts than the model was made for.

use koan_model::{Config, Yarn};
use serde::{Deserialize, Serialize};

use super::SupervisedError;
use crate::config::{ConfigError, check, is_size};

/// `[context]`: the model gets longer contexts, which the config of what is saved says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextConfig {
    /// Tokens: its new `max_position_embeddings`, and `max_tokens` where that is not given.
    pub length: usize,
    /// How its rotary frequencies are scaled; without it as they are, by YaRN already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope: Option<RopeConfig>,
}

/// `context.rope`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeConfig {
    /// Which scaling.
    #[serde(rename = "type")]
    pub kind: RopeKind,
    /// How many times longer than the original context; without it, just what `length` needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// Frequencies with more turns in the original context are kept.
    #[serde(default = "beta_fast")]
    pub beta_fast: f64,
    /// Frequencies with fewer turns are divided by `factor`.
    #[serde(default = "beta_slow")]
    pub beta_slow: f64,
    /// DeepSeek's factor on cosines and sines, with `mscale_all_dim`; 1 of each in its families where neither is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mscale: Option<f64>,
    /// DeepSeek's factor on the products of queries and keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mscale_all_dim: Option<f64>,
}

/// A scaling of rotary frequencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RopeKind {
    /// YaRN (arXiv:2309.00071).
    Yarn,
}

fn beta_fast() -> f64 {
    32.0
}

fn beta_slow() -> f64 {
    1.0
}

impl ContextConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check(is_size(self.length), "context.length", &self.length, "1 to 1048576")?;
        let Some(rope) = &self.rope else { return Ok(()) };
        let factor = rope.factor.unwrap_or(1.0);
        check((1.0..=1e6).contains(&factor), "context.rope.factor", &factor, "1 to 1000000")?;
        let betas = rope.beta_slow > 0.0 && rope.beta_slow < rope.beta_fast && rope.beta_fast <= 1e6;
        check(
            betas,
            "context.rope.beta_fast",
            &rope.beta_fast,
            "above context.rope.beta_slow, which is above 0",
        )?;
        for (key, value) in
            [("context.rope.mscale", rope.mscale), ("context.rope.mscale_all_dim", rope.mscale_all_dim)]
        {
            let value = value.unwrap_or(1.0);
            check(value > 0.0 && value <= 1e3, key, &value, "above 0, at most 1000")?;
        }
        Ok(())
    }

    /// The config of `model` with this context.
    ///
    /// # Errors
    /// What can't be extended so.
    pub(super) fn of(&self, model: &Config) -> Result<Config, SupervisedError> {
        let yarn = self.rope.as_ref().map(|rope| {
            let RopeConfig { factor, beta_fast, beta_slow, mscale, mscale_all_dim, kind: RopeKind::Yarn } =
                *rope;
            let needed = self.length as f64 / model.original_positions() as f64;
            Yarn { factor: factor.unwrap_or(needed), beta_fast, beta_slow, mscale, mscale_all_dim }
        });
        Ok(model.with_context(self.length, yarn)?)
    }

    /// In words, every constant with its value.
    pub(super) fn explain(&self) -> String {
        let rope = match &self.rope {
            None => "by the YaRN that the model has".to_owned(),
            Some(rope) => {
                let factor =
                    rope.factor.map_or("just what that needs".to_owned(), |factor| factor.to_string());
                format!("by YaRN, factor {factor}, betas {} {}", rope.beta_fast, rope.beta_slow)
            }
        };
        format!("contexts of {} tokens, {rope}", self.length)
    }
}
