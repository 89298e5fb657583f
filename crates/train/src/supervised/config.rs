//! The TOML file of `koan pretrain` and `koan sft`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Stage;
use crate::{
    OptimConfig, TrainError,
    config::{check, default_checkpoints_kept, read_toml, size},
    run_dir::StageConfig,
};

/// A run that learns to predict text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SupervisedConfig {
    /// Where everything the run makes goes.
    pub run_dir: PathBuf,
    /// The model to start from, a Hugging Face directory; `koan model init` makes a fresh one.
    pub model: PathBuf,
    /// What to learn from; see [`koan_data::corpus`].
    pub data: PathBuf,
    /// Keys the order of the data.
    #[serde(default)]
    pub seed: u64,
    /// Updates to make; or `epochs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Passes over the data; or `steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Tokens that an update predicts, at least: texts are added until there are as many.
    #[serde(default = "default_batch_tokens")]
    pub batch_tokens: usize,
    /// Longest text, tokens. A longer one is cut into such pieces in pretraining, and is an error in fine-tuning.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: usize,
    /// Steps between checkpoints.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: u64,
    /// How many of the newest checkpoints are kept.
    #[serde(default = "default_checkpoints_kept")]
    pub checkpoints_kept: usize,
    /// Write the metrics as TensorBoard event files too, in `tensorboard/`.
    #[serde(default)]
    pub tensorboard: bool,
    /// How the weights are moved. `lr` is 3e-4 in pretraining and 1e-5 in fine-tuning where it is not given.
    #[serde(default)]
    pub optim: OptimConfig,
    /// Held-out text, measured as the run goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval: Option<HeldOut>,
}

/// `[eval]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// In the format of the data.
    pub data: PathBuf,
    /// Steps between measurements; the last is made after the last step.
    pub every: u64,
}

fn default_batch_tokens() -> usize {
    8192
}
fn default_max_tokens() -> usize {
    1024
}
fn default_checkpoint_every() -> u64 {
    1000
}

impl StageConfig for SupervisedConfig {
    const FREE: &'static [&'static str] =
        &["run_dir", "model", "data", "checkpoint_every", "checkpoints_kept", "tensorboard", "eval"];

    fn tensorboard(&self) -> bool {
        self.tensorboard
    }
}

impl SupervisedConfig {
    /// Reads a config file, then applies `--set key=value` overrides in their order.
    ///
    /// # Errors
    /// Unknown keys (with the nearest known one), wrong types and values, with file, line and key.
    pub fn load(stage: Stage, path: &Path, overrides: &[String]) -> Result<Self, TrainError> {
        let (mut config, table) = read_toml::<Self>(path, overrides)?;
        if table.get("optim").is_none_or(|optim| optim.get("lr").is_none()) {
            config.optim.lr = stage.default_lr();
        }
        config.check()
    }

    /// The config, if it makes sense.
    ///
    /// # Errors
    /// [`TrainError::Value`], with the key.
    pub fn check(self) -> Result<Self, TrainError> {
        let given = usize::from(self.steps.is_some()) + usize::from(self.epochs.is_some());
        check(
            given == 1,
            "steps",
            &self.steps.map_or("absent".into(), |n| n.to_string()),
            "one of `steps` and `epochs`",
        )?;
        check(self.steps != Some(0), "steps", &0, "at least 1")?;
        check(self.epochs != Some(0), "epochs", &0, "at least 1")?;
        check(size(self.batch_tokens), "batch_tokens", &self.batch_tokens, "1 to 1048576")?;
        check(size(self.max_tokens), "max_tokens", &self.max_tokens, "1 to 1048576")?;
        check(self.checkpoint_every > 0, "checkpoint_every", &self.checkpoint_every, "at least 1")?;
        check(self.checkpoints_kept > 0, "checkpoints_kept", &self.checkpoints_kept, "at least 1")?;
        self.optim.check()?;
        if let Some(eval) = &self.eval {
            check(eval.every > 0, "eval.every", &eval.every, "at least 1")?;
        }
        Ok(self)
    }
}
