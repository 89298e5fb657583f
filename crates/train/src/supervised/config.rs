//! The TOML file of `koan pretrain` and `koan sft`.

use std::path::Path;

use koan_data::DataFiles;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::Stage;
use crate::{
    TrainError,
    config::{ConfigError, check, check_steps, is_size},
    stage::{self, Settings, StageConfig},
};

/// Steps between checkpoints where nothing is said: steps are shorter than those of reinforcement learning.
const CHECKPOINT_EVERY: i64 = 1000;

/// A run that learns to predict text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupervisedConfig {
    /// What all stages have. The data are those of [`koan_data::corpus`]; `optim.lr` is 3e-4 in pretraining and 1e-5 in
    /// fine-tuning where it is not given, `checkpoint_every` 1000.
    #[serde(flatten)]
    pub stage: StageConfig,
    /// Updates to make; or `epochs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Passes over the data; or `steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Tokens that an update predicts, at least: texts are added until there are as many.
    #[serde(default = "default_batch_tokens")]
    pub batch_tokens: usize,
    /// Longest text, tokens. A longer one is cut into such pieces in pretraining; of fine-tuning see `too_long`.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: usize,
    /// What becomes of a reply that does not fit into `max_tokens` with what comes before it, in fine-tuning.
    #[serde(default)]
    pub too_long: TooLong,
    /// Held-out text, measured as the run goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval: Option<HeldOut>,
}

/// What becomes of a reply that is too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TooLong {
    /// The run is refused.
    #[default]
    Refuse,
    /// It is not learned; the run says how many were not.
    LeaveOut,
    /// Its end is cut off; the run says of how many.
    Truncate,
}

/// `[eval]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// In the format of the data.
    pub data: DataFiles,
    /// Steps between measurements; the last is made after the last step.
    pub every: u64,
}

fn default_batch_tokens() -> usize {
    8192
}
fn default_max_tokens() -> usize {
    1024
}

/// What a file that says nothing means, in `stage`.
fn defaults(stage: Stage) -> [(&'static str, Value); 2] {
    [("checkpoint_every", CHECKPOINT_EVERY.into()), ("optim.lr", stage.default_lr().into())]
}

impl Settings for SupervisedConfig {
    const KEYS: &'static [&'static str] =
        &["steps", "epochs", "batch_tokens", "max_tokens", "too_long", "eval"];
    const FREE: &'static [&'static str] = &["eval"];

    fn stage(&self) -> &StageConfig {
        &self.stage
    }

    fn resolved(&self) -> Self {
        self.clone()
    }

    fn sample() -> Self {
        let text =
            "run_dir = ''\nmodel = ''\ndata = ''\nsteps = 1\nepochs = 1\n[eval]\ndata = ''\nevery = 1\n";
        toml::from_str(text).expect("a config")
    }
}

impl SupervisedConfig {
    /// Reads a config file, then applies `--set key=value` overrides in their order.
    ///
    /// # Errors
    /// Unknown keys (with the nearest known one), wrong types and values, with file, line and key.
    pub fn load(stage: Stage, path: &Path, overrides: &[String]) -> Result<Self, TrainError> {
        let config = stage::read::<Self>(path, overrides, &defaults(stage))?;
        Ok(config.check().map_err(|error| error.of_set(overrides))?)
    }

    /// The settings of a `table` that stands in the file `origin`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn of_table(stage: Stage, table: &Table, origin: &Path) -> Result<Self, TrainError> {
        Ok(stage::of_table::<Self>(table, origin, &defaults(stage))?.check()?)
    }

    fn check(self) -> Result<Self, ConfigError> {
        let given = usize::from(self.steps.is_some()) + usize::from(self.epochs.is_some());
        check(
            given == 1,
            "steps",
            &self.steps.map_or("absent".into(), |n| n.to_string()),
            "one of `steps` and `epochs`",
        )?;
        check_steps(self.steps)?;
        let epochs = self.epochs.unwrap_or(1);
        check((1..=1 << 20).contains(&epochs), "epochs", &epochs, "1 to 1048576")?;
        check(is_size(self.batch_tokens), "batch_tokens", &self.batch_tokens, "1 to 1048576")?;
        check(is_size(self.max_tokens), "max_tokens", &self.max_tokens, "1 to 1048576")?;
        self.stage.check()?;
        if let Some(eval) = &self.eval {
            check(eval.every > 0, "eval.every", &eval.every, "at least 1")?;
        }
        Ok(self)
    }
}
