//! The TOML file of `koan mine train`, `iterate` and `domains`: what a classifier learns from, its sizes, and the rounds.

use std::path::{Path, PathBuf};

use koan_data::DataFiles;
use serde::{Deserialize, Serialize};

use crate::{MineError, classifier::Training, config::setting};

/// The largest config, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// How a classifier is made, once or in rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learn {
    /// Where everything goes.
    pub run_dir: PathBuf,
    /// What is learnt from.
    pub train: Train,
    /// Sizes of the classifier, and how it learns.
    #[serde(default)]
    pub model: Training,
    /// The rounds of `koan mine iterate`.
    #[serde(default)]
    pub iterate: Option<Iterate>,
}

impl Learn {
    /// Reads the file `path` and checks it.
    ///
    /// # Errors
    /// If it can't be read, has other keys than ours, or values that can't be.
    pub fn read(path: &Path) -> Result<Self, MineError> {
        let wrong = |what: String| MineError::Config { path: path.into(), what };
        let bytes = koan_files::read_bounded(path, MAX_BYTES).map_err(MineError::read(path))?;
        let bytes = bytes.ok_or_else(|| wrong(format!("has more than {MAX_BYTES} bytes")))?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("is no UTF-8".into()))?;
        let learn: Self =
            toml::from_str(&text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
        learn.check().map_err(|error| wrong(error.to_string()))?;
        Ok(learn)
    }

    /// # Errors
    /// A setting out of range.
    pub fn check(&self) -> Result<(), MineError> {
        if self.run_dir.as_os_str().is_empty() {
            return Err(setting("run_dir", "is empty; name the directory in which to work"));
        }
        self.train.check()?;
        self.model.check()?;
        self.iterate.iter().try_for_each(Iterate::check)
    }
}

/// What a classifier learns from: rows with `text`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// Pages of mathematics.
    pub positives: DataFiles,
    /// Pages of all else. A loop draws them from its documents if none are named.
    #[serde(default)]
    pub negatives: Option<DataFiles>,
    /// The most documents of each label; the paper has 500,000.
    #[serde(default = "max_documents")]
    pub max_documents: usize,
}

fn max_documents() -> usize {
    500_000
}

/// The rounds of the loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Iterate {
    /// What is chosen from: rows with `url` and `text`, as `koan mine run` writes them.
    pub documents: DataFiles,
    /// The most rounds.
    #[serde(default = "rounds")]
    pub rounds: usize,
    /// Keep the best documents up to this many tokens, counted as a quarter of their bytes.
    #[serde(default)]
    pub keep_tokens: Option<u64>,
    /// The least score of a document that is kept. If it is left out, it comes from the held-out documents of the seed: see
    /// [`crate::classifier::cut`].
    #[serde(default)]
    pub min_score: Option<f32>,
    /// A domain is mathematics if more than this share of its pages was kept: the lower bound of Wilson's interval.
    #[serde(default = "domain_share")]
    pub domain_share: f64,
    /// Standard deviations of that interval.
    #[serde(default = "confidence")]
    pub confidence: f64,
    /// The fewest pages of a domain or prefix that is listed.
    #[serde(default = "min_pages")]
    pub min_pages: u32,
    /// A prefix is chosen by `--auto` if at least this share of its pages was kept, by the same bound.
    #[serde(default = "half")]
    pub prefix_share: f64,
    /// The loop ends when less than this share of what a round keeps is new.
    #[serde(default = "new_share")]
    pub new_share: f64,
}

fn rounds() -> usize {
    4
}
fn half() -> f64 {
    0.5
}
fn domain_share() -> f64 {
    0.1
}
fn confidence() -> f64 {
    0.84
}
fn min_pages() -> u32 {
    10
}
fn new_share() -> f64 {
    0.02
}

impl Train {
    /// # Errors
    /// A setting out of range.
    pub fn check(&self) -> Result<(), MineError> {
        if !(1..=100_000_000).contains(&self.max_documents) {
            return Err(setting("train.max_documents", "must lie between 1 and 100000000"));
        }
        Ok(())
    }
}

impl Iterate {
    /// # Errors
    /// A setting out of range.
    pub fn check(&self) -> Result<(), MineError> {
        let shares = [
            ("min_score", f64::from(self.min_score.unwrap_or(0.5))),
            ("domain_share", self.domain_share),
            ("prefix_share", self.prefix_share),
            ("new_share", self.new_share),
        ];
        if let Some((key, _)) = shares.iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            return Err(setting(&format!("iterate.{key}"), "is a share, between 0 and 1"));
        }
        if !(1..=100).contains(&self.rounds) {
            return Err(setting("iterate.rounds", "must lie between 1 and 100"));
        }
        if !(0.0..=10.0).contains(&self.confidence) {
            return Err(setting("iterate.confidence", "must lie between 0 and 10 standard deviations"));
        }
        if self.keep_tokens == Some(0) {
            return Err(setting(
                "iterate.keep_tokens",
                "keeps nothing; leave it out to keep by `min_score` alone",
            ));
        }
        Ok(())
    }
}
