//! `[adapter]`: training a low-rank adapter (LoRA) over frozen weights, in every stage.

use std::path::PathBuf;

use koan_model::{
    AdapterSpec, Config, Targets,
    checkpoint::{CheckpointError, Place},
};
use serde::{Deserialize, Serialize};

use super::{config::StageConfig, error::StageError};
use crate::config::{ConfigError, check};

/// Its keys.
pub(super) const KEYS: [&str; 5] =
    ["adapter.rank", "adapter.alpha", "adapter.targets", "adapter.rslora", "adapter.from"];
const RANK: usize = 16;
const ALPHA: f64 = 32.0;
const ALL_LINEAR: &str = "all-linear";

/// `[adapter]`: a low-rank adapter (LoRA, arXiv:2106.09685), which is trained in place of the model's weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Given")]
pub struct AdapterConfig {
    /// The adapter to go on from, PEFT's directory of one, which brings all that the other keys say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// The inner dimension of what is added to each matrix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// α: what is added is scaled by α / rank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Which layers are adapted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<TargetsConfig>,
    /// Scale by α / √rank instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rslora: Option<bool>,
}

/// `targets`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetsConfig {
    /// `"all-linear"`
    Named(String),
    /// What the paths of the layers end in.
    Suffixes(Vec<String>),
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    from: Option<PathBuf>,
    rank: Option<usize>,
    alpha: Option<f64>,
    targets: Option<TargetsConfig>,
    rslora: Option<bool>,
}

/// What is not given is as by default, unless another adapter brings it.
impl From<Given> for AdapterConfig {
    fn from(given: Given) -> Self {
        let Given { from, rank, alpha, targets, rslora } = given;
        if from.is_some() {
            return Self { from, rank, alpha, targets, rslora };
        }
        Self {
            from,
            rank: rank.or(Some(RANK)),
            alpha: alpha.or(Some(ALPHA)),
            targets: targets.or_else(|| Some(TargetsConfig::Named(ALL_LINEAR.into()))),
            rslora: rslora.or(Some(false)),
        }
    }
}

impl AdapterConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let Self { from, rank, alpha, targets, rslora } = self;
        if from.is_some() {
            let given = [
                ("adapter.rank", rank.is_some()),
                ("adapter.alpha", alpha.is_some()),
                ("adapter.targets", targets.is_some()),
                ("adapter.rslora", rslora.is_some()),
            ];
            for (key, given) in given {
                check(!given, key, &"given", "the adapter of `adapter.from` has its own: remove it")?;
            }
            return Ok(());
        }
        let named = match targets {
            Some(TargetsConfig::Named(name)) => name,
            _ => ALL_LINEAR,
        };
        check(
            named == ALL_LINEAR,
            "adapter.targets",
            &named,
            "\"all-linear\", or a list like [\"q_proj\", \"v_proj\"]",
        )
    }

    fn spec(&self) -> AdapterSpec {
        AdapterSpec {
            rank: self.rank.unwrap_or(RANK),
            alpha: self.alpha.unwrap_or(ALPHA),
            rslora: self.rslora.unwrap_or(false),
            targets: match &self.targets {
                Some(TargetsConfig::Suffixes(suffixes)) => Targets::Suffixes(suffixes.clone()),
                _ => Targets::AllLinear,
            },
        }
    }

    /// What is trained, in words, every constant with its value.
    pub(crate) fn explain(&self) -> String {
        let frozen = "W and all other weights are frozen";
        if let Some(from) = &self.from {
            return format!("adapter: y = W x + s B A x, going on from that of {}; {frozen}", from.display());
        }
        let AdapterSpec { rank, alpha, rslora, targets } = self.spec();
        let layers = match targets {
            Targets::AllLinear => "all linear layers but the output head".to_owned(),
            Targets::Suffixes(suffixes) => suffixes.join(", "),
        };
        let (by, scale) = if rslora {
            ("alpha / sqrt(rank)", alpha / (rank as f64).sqrt())
        } else {
            ("alpha / rank", alpha / rank as f64)
        };
        format!("adapter: y = W x + s B A x of rank {rank} on {layers}, s = {by} = {scale}; {frozen}")
    }
}

impl StageConfig {
    /// Where what training starts from lies: the model, and the adapter that it goes on from, if there is one.
    ///
    /// # Errors
    /// If the model is an adapter whose base model is not here, or which has another adapter.
    pub(crate) fn start(&self) -> Result<Place, StageError> {
        let from = self.adapter.as_ref().and_then(|adapter| adapter.from.as_deref());
        let place = Place::find(&self.model, from).map_err(CheckpointError::from)?;
        Ok(place.in_precision(self.precision).caching(self.cache))
    }

    /// What is trained of a run whose model is `model`: that, or an adapter on it.
    ///
    /// # Errors
    /// An adapter that is refused.
    pub(crate) fn adapted(&self, model: Config) -> Result<Config, StageError> {
        let model = Config { precision: self.precision, ..model };
        let model = model.caching(self.cache, &self.model).map_err(CheckpointError::from)?;
        let Some(adapter) = self.adapter.as_ref().filter(|_| model.adapter.is_none()) else {
            return Ok(model);
        };
        let adapted = match &adapter.from {
            Some(from) => model.with_adapter_from(from),
            None => model.with_adapter(adapter.spec()),
        };
        Ok(adapted.map_err(CheckpointError::from)?)
    }

    /// What is trained: the model of this run, or an adapter on it.
    ///
    /// # Errors
    /// A config that is refused, of either.
    pub fn trained_config(&self) -> Result<Config, StageError> {
        self.adapted(Config::load(&self.model).map_err(CheckpointError::from)?)
    }
}

/// How much of `model` is trained and how much is frozen, in words, if it has an adapter.
pub(crate) fn in_words(model: &Config) -> Option<String> {
    let adapter = model.adapter.as_ref()?;
    let (all, trained) = (model.parameters(), model.trained_parameters());
    let million = |n: usize| n as f64 / 1e6;
    Some(format!(
        "an adapter of rank {} on {} layers: {:.2} million parameters are trained, {:.1} million are frozen",
        adapter.largest_rank(),
        adapter.layers(),
        million(trained),
        million(all - trained)
    ))
}
