//! The TOML file of `koan reject`. An unknown option is refused with the nearest known name.

use std::path::Path;

use koan_backend::ProductPrecision;
use koan_generate::Drafts;
use koan_model::CacheForm;
use koan_reward::{
    RewardConfig,
    form::language::{LANGUAGES, PROBLEM},
    form::repetition::MAX_NGRAM,
};
use serde::{Deserialize, Serialize};
use toml::Table;

use super::{judge::JudgeConfig, server::ServerConfig};
use crate::{
    TrainError,
    config::{ConfigError, check},
    rl::RolloutConfig,
    stage::{self, CacheName, PrecisionName, Settings, StageConfig, is_expanded, is_native},
};

/// A run of rejection sampling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RejectConfig {
    /// What all stages have, except what only training has use for. The data are problems.
    #[serde(flatten)]
    pub stage: StageConfig,
    /// How completions are sampled: `group_size` of each problem.
    #[serde(default)]
    pub rollout: RolloutConfig,
    /// A server that writes the completions; none: the model does, in this process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerConfig>,
    /// Which completions are refused.
    #[serde(default)]
    pub filter: FilterConfig,
    /// Which of the others are kept.
    #[serde(default)]
    pub keep: KeepConfig,
    /// The language model that compares pairs of preferences; none: they are compared by their rewards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeConfig>,
    /// What judges completions, as in reinforcement learning; an empty list: nothing does.
    #[serde(default = "default_reward")]
    pub reward: Vec<RewardConfig>,
}

fn default_reward() -> Vec<RewardConfig> {
    vec![RewardConfig::new("math")]
}

/// `[filter]`: what refuses a completion, in the order in which it is asked. The first that refuses it counts it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "filters, each switched by itself")]
pub struct FilterConfig {
    /// Refuse completions that were cut at `rollout.max_new_tokens`.
    pub cut: bool,
    /// The shape that a completion must have.
    pub format: FormatFilter,
    /// The language of the reasoning: `off`, `unmixed` (whichever most words are in), `problem` (each problem's own; `unmixed` where it has
    /// none), or a code such as `en`.
    pub language: String,
    /// The least share of the reasoning's words in that language, 0 to 1.
    pub language_share: f64,
    /// The longest paragraph of the reasoning, characters between two line ends; 0: any.
    pub max_paragraph: usize,
    /// Refuse completions whose thinking has a fenced block of code.
    pub code: bool,
    /// The largest share of n-grams of words that were written before, 0 to 1; 1: any.
    pub max_repetition: f64,
    /// How many words an n-gram has.
    pub ngram: usize,
    /// The shortest completion, tokens.
    pub min_tokens: usize,
    /// The longest completion, tokens; 0: any.
    pub max_tokens: usize,
    /// Refuse completions that the first reward does not call correct.
    pub wrong: bool,
    /// The least reward; none: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_reward: Option<f64>,
    /// Refuse completions whose text an earlier one of the problem has.
    pub duplicates: bool,
}

impl Default for FilterConfig {
    fn default() -> Self {
        Self {
            cut: true,
            format: FormatFilter::Any,
            language: "unmixed".to_owned(),
            language_share: 0.8,
            max_paragraph: 2000,
            code: true,
            max_repetition: 0.2,
            ngram: 10,
            min_tokens: 0,
            max_tokens: 0,
            wrong: true,
            min_reward: None,
            duplicates: true,
        }
    }
}

/// The shape that a completion must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FormatFilter {
    /// Any.
    Off,
    /// `think`, if it has a tag of thinking; else any.
    #[default]
    Any,
    /// One `<think>…</think>`, then an answer.
    Think,
    /// One `<think>…</think>`, then one `<answer>…</answer>`.
    ThinkAnswer,
}

/// `[keep]`: which of the completions of a problem that no filter refused are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeepConfig {
    /// Which, and as what.
    pub which: Which,
    /// Most rows of a problem; 1 if none is given, and no limit where `which` is `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<usize>,
    /// The least and the largest pass rate of a problem whose completions are kept: the share of correct ones among those
    /// that were decided.
    pub pass_rate: [f64; 2],
    /// Most rows of an easy problem; none: as of any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub easy_at_most: Option<usize>,
    /// The pass rate from which a problem is easy.
    pub easy_from: f64,
    /// A pair differs by more than this, in reward, or in the mean of what a judge says, which is 2 where one answer is much better. None
    /// is 0 of rewards, and 1 of a judge. For preferences alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_margin: Option<f64>,
    /// The largest difference between the mean lengths of chosen and rejected completions, as a share of their mean; 1: any.
    /// For preferences alone.
    pub length_balance: f64,
}

impl Default for KeepConfig {
    fn default() -> Self {
        Self {
            which: Which::Random,
            at_most: None,
            pass_rate: [0.0, 1.0],
            easy_at_most: None,
            easy_from: 1.0,
            min_margin: None,
            length_balance: 0.2,
        }
    }
}

/// Which completions are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// Those that were sampled first.
    First,
    /// Those of the fewest tokens.
    Shortest,
    /// Any, by the run's seed.
    #[default]
    Random,
    /// All.
    All,
    /// The best beside the worst, as preferences.
    Preference,
}

impl KeepConfig {
    /// Most rows of a problem with this pass rate.
    pub(super) fn at_most(&self, pass_rate: Option<f64>) -> usize {
        let most = match (self.at_most, self.which) {
            (Some(most), _) => most,
            (None, Which::All) => usize::MAX,
            (None, _) => 1,
        };
        match self.easy_at_most {
            Some(easy) if pass_rate.is_some_and(|rate| rate >= self.easy_from) => most.min(easy),
            _ => most,
        }
    }
}

impl Settings for RejectConfig {
    const KEYS: &'static [&'static str] = &["rollout", "server", "filter", "keep", "judge", "reward"];
    const WITHOUT: &'static [&'static str] =
        &["shards", "checkpoint_every", "checkpoints_kept", "optim", "adapter", "experts"];
    const FREE: &'static [&'static str] = &[
        "rollout.sequences",
        "rollout.drafts",
        "rollout.max_prompt_tokens",
        ServerConfig::FREE[0],
        ServerConfig::FREE[1],
        ServerConfig::FREE[2],
        ServerConfig::FREE[3],
    ];

    fn stage(&self) -> &StageConfig {
        &self.stage
    }

    fn complete(table: &mut Table) {
        // Who has a server needs no model here.
        if table.contains_key("server") {
            table.entry("model").or_insert_with(|| "".into());
        }
    }

    fn resolved(&self) -> Self {
        let at_most = match self.keep.which {
            Which::All => None,
            _ => Some(self.keep.at_most.unwrap_or(1)),
        };
        let min_margin = Some(self.min_margin());
        Self { keep: KeepConfig { at_most, min_margin, ..self.keep.clone() }, ..self.clone() }
    }

    fn sample() -> Self {
        let text = "run_dir = ''\nmodel = ''\ndata = ''\n[rollout]\nsystem = ''\n[filter]\nmin_reward = 0\n\
                    [keep]\nat_most = 1\neasy_at_most = 1\n\
                    min_margin = 0\n[judge]\nmodel = ''\nurl = ''\n\
                    [server]\nurl = ''\nmodel = ''\napi_key_env = ''\nstop = ['']\ntokenizer = ''\n";
        toml::from_str(text).expect("a config")
    }

    fn to_toml(&self) -> String {
        #[derive(Serialize)]
        struct Written<'a> {
            run_dir: &'a Path,
            model: &'a Path,
            data: &'a koan_data::DataFiles,
            seed: u64,
            #[serde(with = "PrecisionName", skip_serializing_if = "is_native")]
            precision: ProductPrecision,
            #[serde(with = "CacheName", skip_serializing_if = "is_expanded")]
            cache: CacheForm,
            tensorboard: bool,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            reward: &'a [RewardConfig],
            #[serde(rename = "reward", skip_serializing_if = "Option::is_none")]
            no_reward: Option<[i64; 0]>,
            rollout: &'a RolloutConfig,
            filter: &'a FilterConfig,
            keep: &'a KeepConfig,
            #[serde(skip_serializing_if = "Option::is_none")]
            judge: &'a Option<JudgeConfig>,
            #[serde(skip_serializing_if = "Option::is_none")]
            server: &'a Option<ServerConfig>,
        }
        let Self { stage, rollout, server, filter, keep, judge, reward } = &self.resolved();
        let StageConfig { run_dir, model, data, seed, precision, cache, tensorboard, .. } = stage;
        let no_reward = reward.is_empty().then_some([]);
        let (seed, precision, cache, tensorboard) = (*seed, *precision, *cache, *tensorboard);
        let written = Written {
            run_dir,
            model,
            data,
            seed,
            precision,
            cache,
            tensorboard,
            reward,
            no_reward,
            rollout,
            filter,
            keep,
            judge,
            server,
        };
        toml::to_string(&written).expect("a config of plain values is TOML")
    }
}

impl RejectConfig {
    /// Reads a config file, then applies `--set key=value` overrides in their order.
    ///
    /// # Errors
    /// Unknown keys (with the nearest known one), wrong types and values, with file, line and key.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, TrainError> {
        let config = stage::read::<Self>(path, overrides, &[])?;
        config.checked().map_err(|error| match error {
            TrainError::Config(error) => error.of_set(overrides).into(),
            error => error,
        })
    }

    /// The settings of a `table` that stands in the file `origin`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn of_table(table: &Table, origin: &Path) -> Result<Self, TrainError> {
        stage::of_table::<Self>(table, origin, &[])?.checked()
    }

    /// With the options of rewards resolved, if all of it makes sense.
    ///
    /// # Errors
    /// A value that makes no sense, with its key.
    pub fn checked(mut self) -> Result<Self, TrainError> {
        let r = &self.rollout;
        self.stage.check()?;
        r.check()?;
        r.max_new_tokens.check_fixed()?;
        check((1..=1 << 16).contains(&r.group_size), "rollout.group_size", &r.group_size, "1 to 65536")?;
        let greedy = r.temperature == 0.0 && r.group_size > 1;
        let expected = "above 0, or 0 with rollout.group_size = 1: without chance all completions are equal";
        check(
            r.temperature >= 0.0 && r.temperature.is_finite() && !greedy,
            "rollout.temperature",
            &r.temperature,
            expected,
        )?;
        if let Some(server) = &self.server {
            server.check()?;
            self.check_beside_server()?;
        }
        self.filter.check()?;
        self.keep.check()?;
        self.check_judged()?;
        self.judge = self.judge.as_ref().map(JudgeConfig::resolved).transpose()?;
        self.reward = self.reward.iter().map(RewardConfig::resolved).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Whether pairs are compared by their rewards.
    pub(super) fn compares_rewards(&self) -> bool {
        self.keep.which == Which::Preference && self.judge.is_none()
    }

    /// By how much a pair differs, at least.
    pub(super) fn min_margin(&self) -> f64 {
        self.keep.min_margin.unwrap_or(if self.judge.is_some() { 1.0 } else { 0.0 })
    }

    /// Refuses settings of a model in this process where a server writes.
    fn check_beside_server(&self) -> Result<(), ConfigError> {
        let (stage, rollout) = (&self.stage, &self.rollout);
        let expected = "absent where a [server] writes the completions; a directory that counts their tokens is server.tokenizer";
        check(stage.model.as_os_str().is_empty(), "model", &stage.model.display(), expected)?;
        let expected = "absent where a [server] writes the completions: it computes as it likes";
        check(is_native(&stage.precision), "precision", &"given", expected)?;
        check(is_expanded(&stage.cache), "cache", &"given", expected)?;
        check(rollout.drafts == Drafts::Off, "rollout.drafts", &"given", expected)?;
        let expected = "false where a [server] writes the completions: their tokens stay there";
        check(!rollout.log_probs, "rollout.log_probs", &rollout.log_probs, expected)?;
        let expected = "absent where a [server] writes the completions; server.workers says how many requests run at once";
        check(rollout.sequences == 0, "rollout.sequences", &rollout.sequences, expected)
    }

    /// Refuses to choose by what nothing judges.
    fn check_judged(&self) -> Result<(), ConfigError> {
        let compares = self.judge.is_none() || self.keep.which == Which::Preference;
        check(
            compares,
            "judge",
            &"given",
            "absent, except where keep.which is preference: it compares pairs",
        )?;
        if !self.reward.is_empty() {
            return Ok(());
        }
        let (filter, keep) = (&self.filter, &self.keep);
        let expected = "false where `reward` is empty: nothing says what is right";
        check(!filter.wrong, "filter.wrong", &filter.wrong, expected)?;
        let expected = "a choice that needs no reward, since `reward` is empty";
        check(filter.min_reward.is_none(), "filter.min_reward", &"given", expected)?;
        check(
            !self.compares_rewards(),
            "keep.which",
            &"preference",
            "another, or with a table [judge]: nothing is rewarded",
        )?;
        check(keep.pass_rate == [0.0, 1.0], "keep.pass_rate", &format!("{:?}", keep.pass_rate), expected)?;
        check(keep.easy_at_most.is_none(), "keep.easy_at_most", &"given", expected)
    }
}

impl FilterConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let known =
            ["off", "unmixed", PROBLEM].contains(&&*self.language) || LANGUAGES.contains(&&*self.language);
        let expected = "off, unmixed, problem, or one of ar, de, el, en, es, fr, he, hi, it, ja, ko, nl, pt, ru, sv, th, tr, vi, zh";
        check(known, "filter.language", &self.language, expected)?;
        let share = |value: f64| (0.0..=1.0).contains(&value);
        check(share(self.language_share), "filter.language_share", &self.language_share, "0 to 1")?;
        check(share(self.max_repetition), "filter.max_repetition", &self.max_repetition, "0 to 1")?;
        check((1..=MAX_NGRAM).contains(&self.ngram), "filter.ngram", &self.ngram, "1 to 100")?;
        let fits = self.max_tokens == 0 || self.min_tokens <= self.max_tokens;
        check(fits, "filter.min_tokens", &self.min_tokens, "at most filter.max_tokens")?;
        let finite = self.min_reward.is_none_or(f64::is_finite);
        check(finite, "filter.min_reward", &self.min_reward.unwrap_or(0.0), "a finite number")
    }

    /// Whether a completion that nothing decided is refused: where what it earned is asked for.
    pub(super) fn asks_for_outcome(&self) -> bool {
        self.wrong || self.min_reward.is_some()
    }
}

impl KeepConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let [low, high] = self.pass_rate;
        check(
            0.0 <= low && low <= high && high <= 1.0,
            "keep.pass_rate",
            &format!("{:?}", self.pass_rate),
            "two numbers from 0 to 1, the smaller first",
        )?;
        let expected = "at least 1";
        check(self.at_most != Some(0), "keep.at_most", &0, expected)?;
        let fits = self.at_most.is_none() || self.which != Which::All;
        check(
            fits,
            "keep.at_most",
            &self.at_most.unwrap_or(0),
            "absent where keep.which is all; write first, shortest or random",
        )?;
        check((0.0..=1.0).contains(&self.easy_from), "keep.easy_from", &self.easy_from, "0 to 1")?;
        let margin = self.min_margin.unwrap_or(0.0);
        check(margin >= 0.0 && margin.is_finite(), "keep.min_margin", &margin, "0 or more")?;
        check(
            (0.0..=1.0).contains(&self.length_balance),
            "keep.length_balance",
            &self.length_balance,
            "0 to 1",
        )
    }
}
