//! The TOML file of `koan prefer`.

use std::path::{Path, PathBuf};

use koan_model::{
    CacheForm,
    checkpoint::{CheckpointError, Place},
};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::{
    kto::KtoLoss,
    pair::{PairForm, PairLoss},
    reward_model::RankLoss,
};
use crate::{
    TrainError,
    config::{ConfigError, check, is_size},
    stage::{self, Settings, StageConfig},
    supervised::{HeldOut, TooLong},
};

/// Steps between checkpoints where nothing is said.
const CHECKPOINT_EVERY: i64 = 100;
/// The learning rate of a policy where none is given: TRL's, and that of the papers in order of magnitude.
const LR: f64 = 1e-6;
/// That of a reward model, whose head is a fresh one: between R1's 6e-6 and Tulu's 2e-5.
const SCORER_LR: f64 = 1e-5;

/// A run that learns from preferences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreferConfig {
    /// What all stages have. The data are those of [`koan_data::preference`]; `optim.lr` is 1e-6 where it is not
    /// given, and 1e-5 for a reward model.
    #[serde(flatten)]
    pub stage: StageConfig,
    /// The loss.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// The model that the policy is compared with; the model that the run starts from where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<PathBuf>,
    /// Updates to make; or `epochs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Passes over the data; or `steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Pairs of an update, or rows where they have no partner.
    #[serde(default = "default_batch")]
    pub batch: usize,
    /// Longest prompt with a reply, tokens.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: usize,
    /// What becomes of a row with a longer one: it is left out where nothing is said.
    #[serde(default = "default_too_long")]
    pub too_long: TooLong,
    /// Held-out rows, measured as the run goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval: Option<HeldOut>,
}

/// `[algorithm]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Algorithm {
    /// Which loss.
    #[serde(default)]
    pub loss: LossName,
    /// β; 0.1 where it is not given, 5 for `dpo-norm` and 2 for `simpo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// ε, the share of labels that are taken to be wrong: of `dpo` (cDPO), `dpo-norm` and `robust`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_smoothing: Option<f64>,
    /// γ, the target margin of `simpo` itself, not its ratio to β; 1 where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// Weight of the mean negative log-probability that is added: of the tokens of an update's chosen replies, and as `nll`
    /// says of their prompts. 1 for `cpo` and `orpo` where it is not given, else 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nll_weight: Option<f64>,
    /// Which tokens that mean is over; for `orpo` prompt and completion where it is not given, else completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nll: Option<NllOver>,
    /// w₊ of `kto`; 1 where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_weight: Option<f64>,
    /// w₋ of `kto`; 1 where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_weight: Option<f64>,
    /// Whether `reward-model` asks for each row's `margin`; it does where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<bool>,
    /// λ of `reward-model`: what holds the scores around 0; 0 where it is not given, 0.01 is usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub centering: Option<f64>,
}

/// Names of losses: those of [`PairForm`], KTO, and those that make a reward model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is documented where its formula is")]
pub enum LossName {
    #[default]
    Dpo,
    Robust,
    DpoNorm,
    Ipo,
    IpoSum,
    Hinge,
    Cpo,
    Simpo,
    Orpo,
    Kto,
    RewardModel,
    RewardModelPointwise,
}

impl LossName {
    /// The loss of a policy by pairs of this name, if it is one.
    fn pair(self) -> Option<PairForm> {
        Some(match self {
            Self::Dpo => PairForm::Dpo,
            Self::Robust => PairForm::Robust,
            Self::DpoNorm => PairForm::DpoNorm,
            Self::Ipo => PairForm::Ipo,
            Self::IpoSum => PairForm::IpoSum,
            Self::Hinge => PairForm::Hinge,
            Self::Cpo => PairForm::Cpo,
            Self::Simpo => PairForm::Simpo,
            Self::Orpo => PairForm::Orpo,
            Self::Kto | Self::RewardModel | Self::RewardModelPointwise => return None,
        })
    }
}

/// Which tokens the added negative log-probability is a mean of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NllOver {
    /// Those of the chosen replies.
    Completion,
    /// Those of their prompts too, except each first token.
    PromptAndCompletion,
}

/// A loss with every constant in force.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// Of pairs, with what is added to it.
    Pairs(PairLoss, Nll),
    /// Of replies without a partner.
    Rows(KtoLoss),
    /// Of a reward model by pairs.
    Rank(RankLoss),
    /// Of a reward model by labels.
    Labels,
}

impl Objective {
    /// Whether the data are pairs.
    pub fn is_of_pairs(self) -> bool {
        matches!(self, Self::Pairs(..) | Self::Rank(_))
    }

    /// Whether it makes a reward model.
    pub fn makes_scorer(self) -> bool {
        matches!(self, Self::Rank(_) | Self::Labels)
    }
}

/// The mean negative log-probability that is added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nll {
    /// Its weight.
    pub weight: f64,
    /// Which tokens it is a mean of.
    pub over: NllOver,
}

impl Nll {
    /// Whether prompts are scored.
    pub fn scores_prompt(self) -> bool {
        self.weight != 0.0 && self.over == NllOver::PromptAndCompletion
    }
}

impl Default for Algorithm {
    fn default() -> Self {
        toml::from_str("").expect("every key has a default")
    }
}

impl Algorithm {
    /// With every constant of the loss said outright.
    fn resolved(&self) -> Self {
        let none = Self { loss: self.loss, ..Self::default() };
        match self.objective() {
            Objective::Pairs(loss, nll) => {
                let has_smoothing = self.constants().contains(&"label_smoothing");
                Self {
                    beta: Some(loss.beta),
                    label_smoothing: has_smoothing.then_some(loss.label_smoothing),
                    gamma: (self.loss == LossName::Simpo).then_some(loss.gamma),
                    nll_weight: Some(nll.weight),
                    nll: Some(nll.over),
                    ..none
                }
            }
            Objective::Rows(loss) => Self {
                beta: Some(loss.beta),
                good_weight: Some(loss.good_weight),
                bad_weight: Some(loss.bad_weight),
                ..none
            },
            Objective::Rank(loss) => {
                Self { margin: Some(loss.margin), centering: Some(loss.centering), ..none }
            }
            Objective::Labels => none,
        }
    }

    /// The constants and settings that the loss has.
    fn constants(&self) -> &'static [&'static str] {
        match self.loss {
            LossName::Kto => &["beta", "good_weight", "bad_weight"],
            LossName::RewardModel => &["margin", "centering"],
            LossName::RewardModelPointwise => &[],
            LossName::Dpo | LossName::DpoNorm | LossName::Robust => {
                &["beta", "label_smoothing", "nll_weight", "nll"]
            }
            LossName::Simpo => &["beta", "gamma", "nll_weight", "nll"],
            _ => &["beta", "nll_weight", "nll"],
        }
    }

    /// The loss with every constant in force.
    pub fn objective(&self) -> Objective {
        let Some(form) = self.loss.pair() else {
            return match self.loss {
                LossName::RewardModelPointwise => Objective::Labels,
                LossName::RewardModel => Objective::Rank(RankLoss {
                    margin: self.margin.unwrap_or(true),
                    centering: self.centering.unwrap_or(0.0),
                }),
                _ => Objective::Rows(KtoLoss {
                    beta: self.beta.unwrap_or(0.1),
                    good_weight: self.good_weight.unwrap_or(1.0),
                    bad_weight: self.bad_weight.unwrap_or(1.0),
                }),
            };
        };
        let beta = match form {
            PairForm::DpoNorm => 5.0,
            PairForm::Simpo => 2.0,
            _ => 0.1,
        };
        let pair = PairLoss {
            form,
            beta: self.beta.unwrap_or(beta),
            label_smoothing: self.label_smoothing.unwrap_or(0.0),
            gamma: self.gamma.unwrap_or(1.0),
        };
        let adds = matches!(form, PairForm::Cpo | PairForm::Orpo);
        let over = if form == PairForm::Orpo { NllOver::PromptAndCompletion } else { NllOver::Completion };
        let weight = self.nll_weight.unwrap_or(if adds { 1.0 } else { 0.0 });
        Objective::Pairs(pair, Nll { weight, over: self.nll.unwrap_or(over) })
    }

    fn check(&self) -> Result<(), ConfigError> {
        let own = self.constants();
        let constants: [(&'static str, Option<f64>); 7] = [
            ("algorithm.centering", self.centering),
            ("algorithm.beta", self.beta),
            ("algorithm.label_smoothing", self.label_smoothing),
            ("algorithm.gamma", self.gamma),
            ("algorithm.nll_weight", self.nll_weight),
            ("algorithm.good_weight", self.good_weight),
            ("algorithm.bad_weight", self.bad_weight),
        ];
        for (key, value) in constants.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            let name = key.trim_start_matches("algorithm.");
            check(own.contains(&name), key, &value, "no constant of this loss; remove it")?;
            let positive = name == "beta";
            let sensible = value.is_finite() && value >= 0.0 && (value > 0.0 || !positive);
            check(sensible, key, &value, if positive { "above 0" } else { "0 or more" })?;
        }
        let has_nll = self.nll.is_none() || own.contains(&"nll");
        check(has_nll, "algorithm.nll", &"given", "no setting of this loss; remove it")?;
        let has_margin = self.margin.is_none() || own.contains(&"margin");
        check(has_margin, "algorithm.margin", &"given", "no setting of this loss; remove it")?;
        let smoothing = self.label_smoothing.unwrap_or(0.0);
        check(smoothing < 0.5, "algorithm.label_smoothing", &smoothing, "0 to below 0.5")?;
        let robust = self.loss != LossName::Robust || smoothing > 0.0;
        check(robust, "algorithm.label_smoothing", &smoothing, "above 0 for `robust`; at 0 it is `dpo`")
    }
}

fn default_batch() -> usize {
    32
}
fn default_too_long() -> TooLong {
    TooLong::LeaveOut
}
fn default_max_tokens() -> usize {
    1024
}

impl Settings for PreferConfig {
    const KEYS: &'static [&'static str] =
        &["algorithm", "reference", "steps", "epochs", "batch", "max_tokens", "too_long", "eval"];
    const FREE: &'static [&'static str] = &["reference", "eval"];

    fn stage(&self) -> &StageConfig {
        &self.stage
    }

    fn resolved(&self) -> Self {
        Self { algorithm: self.algorithm.resolved(), ..self.clone() }
    }

    fn before_set(table: &mut Table, key: &str) {
        let Some(Value::Table(algorithm)) = table.get_mut("algorithm") else { return };
        if key == "algorithm.loss" {
            // The constants that are the old loss's follow the new one; those that were chosen stay.
            let loss =
                algorithm.get("loss").and_then(|loss| loss.clone().try_into().ok()).unwrap_or_default();
            let old = Algorithm { loss, ..Algorithm::default() }.resolved();
            let old: Table = toml::to_string(&old).expect("plain values").parse().expect("just written");
            algorithm.retain(|key, value| key == "loss" || old.get(key) != Some(value));
        }
    }

    fn sample() -> Self {
        let text = "run_dir = ''\nmodel = ''\ndata = ''\nreference = ''\nsteps = 1\nepochs = 1\n[algorithm]\nbeta = 1\n\
                    label_smoothing = 0\ngamma = 0\nnll_weight = 0\nnll = 'completion'\ngood_weight = 1\nbad_weight = 1\n\
                    margin = true\ncentering = 0\n[eval]\ndata = ''\nevery = 1\n";
        toml::from_str(text).expect("a config")
    }
}

impl PreferConfig {
    /// Reads a config file, then applies `--set key=value` overrides in their order.
    ///
    /// # Errors
    /// Unknown keys (with the nearest known one), wrong types and values, with file, line and key.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, TrainError> {
        let config = Self::with_lr(|defaults| stage::read(path, overrides, defaults))?;
        Ok(config.check().map_err(|error| error.of_set(overrides))?)
    }

    /// The settings of a `table` that stands in the file `origin`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn of_table(table: &Table, origin: &Path) -> Result<Self, TrainError> {
        Ok(Self::with_lr(|defaults| stage::of_table(table, origin, defaults))?.check()?)
    }

    /// What `read` reads with the learning rate that its loss has where none is given.
    fn with_lr(read: impl Fn(&[(&str, Value)]) -> Result<Self, ConfigError>) -> Result<Self, ConfigError> {
        let read = |lr: f64| read(&[("checkpoint_every", CHECKPOINT_EVERY.into()), ("optim.lr", lr.into())]);
        let config = read(LR)?;
        if config.algorithm.objective().makes_scorer() { read(SCORER_LR) } else { Ok(config) }
    }

    /// The model that the policy is compared with, if its loss does so.
    pub fn reference_model(&self) -> Option<&Path> {
        let needed = match self.algorithm.objective() {
            Objective::Pairs(loss, _) => loss.form.needs_reference(),
            Objective::Rows(_) => true,
            Objective::Rank(_) | Objective::Labels => false,
        };
        needed.then(|| self.reference.as_deref().unwrap_or(&self.stage.model))
    }

    /// Where that model lies. Without `reference` it is what the policy starts from: with an adapter that training goes on
    /// from, or without the one that is trained.
    ///
    /// # Errors
    /// An adapter whose base model is not here.
    pub(super) fn reference_place(&self) -> Result<Option<Place>, TrainError> {
        match (self.reference_model(), &self.reference) {
            (None, _) => Ok(None),
            (Some(_), None) => Ok(Some(self.stage.start()?)),
            (Some(path), Some(_)) => {
                let place = Place::find(path, None).map_err(CheckpointError::from)?;
                let place = place.in_precision(self.stage.precision);
                // One without latents has none to cache.
                let cache = place.config()?.latent.map_or(CacheForm::Expanded, |_| self.stage.cache);
                Ok(Some(place.caching(cache)))
            }
        }
    }

    fn check(self) -> Result<Self, ConfigError> {
        let given = usize::from(self.steps.is_some()) + usize::from(self.epochs.is_some());
        let steps = self.steps.map_or("absent".into(), |n| n.to_string());
        check(given == 1, "steps", &steps, "one of `steps` and `epochs`")?;
        check(self.steps != Some(0), "steps", &0, "at least 1")?;
        check(self.epochs != Some(0), "epochs", &0, "at least 1")?;
        check(is_size(self.batch), "batch", &self.batch, "1 to 1048576")?;
        check(is_size(self.max_tokens), "max_tokens", &self.max_tokens, "1 to 1048576")?;
        self.algorithm.check()?;
        let compared = self.reference.is_none() || self.reference_model().is_some();
        check(compared, "reference", &"given", "no part of this loss: remove it")?;
        self.stage.check()?;
        if let Some(eval) = &self.eval {
            check(eval.every > 0, "eval.every", &eval.every, "at least 1")?;
        }
        Ok(self)
    }
}
