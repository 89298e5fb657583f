//! The TOML file of `koan pretrain` and `koan sft`.

use std::path::Path;

use koan_data::DataFiles;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::{BatchGrowth, ContextConfig, FimConfig, MultiTokenConfig, Packing, Preset, Stage};
use crate::{
    TrainError,
    config::{ConfigError, check, check_steps, is_size},
    stage::{self, Settings, StageConfig},
};

/// Steps between checkpoints where nothing is said: steps are shorter than those of reinforcement learning.
const CHECKPOINT_EVERY: i64 = 1000;

/// Most tokens of an update; DeepSeek-V3's has 63 million.
const MAX_BATCH_TOKENS: usize = 1 << 30;

/// A run that learns to predict text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupervisedConfig {
    /// What all stages have. The data are those of [`koan_data::corpus`]; `optim.lr` is 3e-4 in pretraining and 1e-5 in
    /// fine-tuning where it is not given, `checkpoint_every` 1000.
    #[serde(flatten)]
    pub stage: StageConfig,
    /// The paper whose choices those settings have that are not given; of pretraining alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Updates to make; or `epochs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Passes over the data; or `steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Tokens that an update predicts, at least: texts are added until there are as many.
    #[serde(default = "default_batch_tokens")]
    pub batch_tokens: usize,
    /// Whether updates begin smaller than that, and grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_growth: Option<BatchGrowth>,
    /// Longest text, tokens. A longer one is cut into such pieces in pretraining; of fine-tuning see `too_long`.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: usize,
    /// Whether texts attend to those that they are packed with; in fine-tuning they never do.
    #[serde(default, skip_serializing_if = "Packing::is_default")]
    pub packing: Packing,
    /// Texts whose middle is learned last, in pretraining.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fim: Option<FimConfig>,
    /// Longer contexts than the model was made for, in pretraining.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextConfig>,
    /// How much it counts what modules predict further ahead, of a model that has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_token: Option<MultiTokenConfig>,
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
    const KEYS: &'static [&'static str] = &[
        "preset",
        "steps",
        "epochs",
        "batch_tokens",
        "batch_growth",
        "max_tokens",
        "packing",
        "fim",
        "context",
        "multi_token",
        "too_long",
        "eval",
    ];
    const FREE: &'static [&'static str] = &["eval"];

    fn stage(&self) -> &StageConfig {
        &self.stage
    }

    fn resolved(&self) -> Self {
        self.clone()
    }

    fn complete(table: &mut Table) {
        let preset = table.get("preset").and_then(|preset| preset.clone().try_into::<Preset>().ok());
        for (key, value) in preset.map_or_else(Vec::new, |preset| preset.settings(table)) {
            stage::fill(table, key, &value);
        }
        if let Some(length) = table.get("context").and_then(|context| context.get("length")).cloned() {
            stage::fill(table, "max_tokens", &length);
        }
    }

    fn sample() -> Self {
        let text = "preset = 'deepseek-v3'\nrun_dir = ''\nmodel = ''\ndata = ''\nsteps = 1\nepochs = 1\n\
                    packing = 'across'\nfim = {rate = 0.1, tokens = ['a', 'b', 'c']}\n\
                    context = {length = 1, rope = {type = 'yarn', factor = 1, mscale = 1, mscale_all_dim = 1}}\n\
                    multi_token = {weight = 0.1, late_weight = 0.1, until = 1.0}\n[batch_growth]\nfrom = 1.0\nuntil = 1.0\n[eval]\ndata = ''\nevery = 1\n";
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
        Ok(config.check(stage).map_err(|error| error.of_set(overrides))?)
    }

    /// The settings of a `table` that stands in the file `origin`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn of_table(stage: Stage, table: &Table, origin: &Path) -> Result<Self, TrainError> {
        Ok(stage::of_table::<Self>(table, origin, &defaults(stage))?.check(stage)?)
    }

    /// How much it counts what modules predict further ahead.
    pub fn multi_token(&self, stage: Stage) -> MultiTokenConfig {
        self.multi_token.unwrap_or_else(|| MultiTokenConfig::of(stage))
    }

    /// Tokens of the mean update, at least.
    pub fn mean_batch_tokens(&self) -> f64 {
        self.batch_growth.map_or(1.0, BatchGrowth::mean) * self.batch_tokens as f64
    }

    fn check(self, stage: Stage) -> Result<Self, ConfigError> {
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
        let tokens = (1..=MAX_BATCH_TOKENS).contains(&self.batch_tokens);
        check(tokens, "batch_tokens", &self.batch_tokens, "1 to 1073741824")?;
        self.batch_growth.map_or(Ok(()), BatchGrowth::check)?;
        if stage == Stage::Sft {
            let expected = "a setting of `koan pretrain` alone; remove it";
            check(self.preset.is_none(), "preset", &"given", expected)?;
            check(self.fim.is_none(), "fim", &"given", expected)?;
            check(self.context.is_none(), "context", &"given", expected)?;
            let expected = "isolated: a reply is learned after its own conversation alone";
            check(self.packing == Packing::Isolated, "packing", &"across", expected)?;
        }
        self.fim.as_ref().map_or(Ok(()), FimConfig::check)?;
        self.context.as_ref().map_or(Ok(()), ContextConfig::check)?;
        self.multi_token.as_ref().map_or(Ok(()), MultiTokenConfig::check)?;
        let alone = self.context.is_none() || self.stage.adapter.is_none();
        let expected =
            "no part of a run with [adapter], which leaves the model's config as it is; remove one of them";
        check(alone, "context", &"given", expected)?;
        check(is_size(self.max_tokens), "max_tokens", &self.max_tokens, "1 to 1048576")?;
        self.stage.check()?;
        if let Some(eval) = &self.eval {
            check(eval.every > 0, "eval.every", &eval.every, "at least 1")?;
        }
        Ok(self)
    }
}
