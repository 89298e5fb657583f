//! The TOML file of `koan rl`. Tens of options; an unknown one is refused with the nearest known name.

use std::{num::NonZero, path::Path};

use koan_data::DataFiles;
use koan_generate::Drafts;
use koan_reward::RewardConfig;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::{
    advantage::Advantage,
    new_tokens::MaxNewTokens,
    policy_loss::{Aggregation, PolicyLoss, Ratio, Surrogate},
    preset::{Pieces, Preset},
};
use crate::{
    TrainError,
    config::{ConfigError, check, check_steps, is_size},
    stage::{self, Settings, StageConfig},
};

/// A run of reinforcement learning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RlConfig {
    /// What all stages have; the data are problems, JSON Lines.
    #[serde(flatten)]
    pub stage: StageConfig,
    /// Steps to run; a step samples, rewards and learns once.
    pub steps: u64,
    /// How completions are sampled.
    #[serde(default)]
    pub rollout: RolloutConfig,
    /// What is learned from them.
    #[serde(default)]
    pub algorithm: AlgorithmConfig,
    /// What completions are rewarded for: a weighted sum.
    #[serde(default = "default_reward")]
    pub reward: Vec<RewardConfig>,
    /// Held-out problems, measured as the run goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval: Option<EvalConfig>,
}

fn default_reward() -> Vec<RewardConfig> {
    vec![RewardConfig::new("math")]
}

/// What of a file judges completions.
#[derive(Deserialize)]
struct RewardsAlone {
    #[serde(default)]
    reward: Vec<RewardConfig>,
    #[serde(default)]
    rollout: RolloutConfig,
}

/// The names of [`Drafts`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Drafts", rename_all = "kebab-case")]
enum DraftsName {
    Off,
    Text,
    MultiToken,
}

/// `[rollout]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// Problems per step.
    pub problems: usize,
    /// Completions per problem.
    pub group_size: usize,
    /// Sequences sampled at once; 0: all of a step.
    pub sequences: usize,
    /// Logits are divided by it.
    pub temperature: f32,
    /// Tokens are sampled from the likeliest that have this share of the probability; 1: from all, as they must be where they are learned.
    pub top_p: f32,
    /// Completions are cut at this many tokens; of `koan rl` it may change by step.
    pub max_new_tokens: MaxNewTokens,
    /// Longest prompt, tokens; a longer one is an error before the first step.
    pub max_prompt_tokens: usize,
    /// Where guesses of the next tokens come from, several of which a pass checks; what is sampled is the same to the bit.
    #[serde(with = "DraftsName")]
    pub drafts: Drafts,
    /// A system message put before every problem; none: the chat template's own, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Feed prompts as they stand, without the chat template.
    pub raw: bool,
    /// Write every token's text and log-probability into the rollouts.
    pub log_probs: bool,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            problems: 8,
            group_size: 8,
            sequences: 0,
            temperature: 1.0,
            top_p: 1.0,
            max_new_tokens: 256.into(),
            max_prompt_tokens: 512,
            drafts: Drafts::Off,
            system: None,
            raw: false,
            log_probs: false,
        }
    }
}

impl RolloutConfig {
    /// Refuses sizes that can't be meant.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (key, size) in
            [("rollout.problems", self.problems), ("rollout.max_prompt_tokens", self.max_prompt_tokens)]
        {
            check(is_size(size), key, &size, "1 to 1048576")?;
        }
        let is_share = self.top_p > 0.0 && self.top_p <= 1.0;
        check(is_share, "rollout.top_p", &self.top_p, "above 0 and at most 1")?;
        self.max_new_tokens.check()
    }

    /// Refuses to learn from a part of the distribution: what is compared are probabilities of the whole.
    pub(crate) fn check_whole(&self) -> Result<(), ConfigError> {
        let expected = "1: what is learned is sampled from the whole distribution";
        check(self.top_p == 1.0, "rollout.top_p", &self.top_p, expected)
    }
}

/// `[algorithm]`: a preset, whose pieces can be set one by one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlgorithmConfig {
    /// Which paper's.
    pub preset: Preset,
    /// What a reward is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advantage: Option<Advantage>,
    /// What probability is compared between the policy and the one that sampled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
    /// How ratio and advantage make the objective.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub surrogate: Option<Surrogate>,
    /// ε_low and ε_high in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f32>,
    /// ε_low: the ratio's lower bound is 1 − it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_low: Option<f32>,
    /// ε_high: its upper bound is 1 + it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_high: Option<f32>,
    /// How tokens are averaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregation: Option<Aggregation>,
    /// β, the weight of the divergence from the reference policy; 0 needs no reference policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<f32>,
    /// Updates after which the reference policy becomes a copy of the policy, again and again; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_every: Option<u64>,
    /// Whether groups whose completions all earned the same are left out, and others sampled in their place (DAPO).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic_sampling: Option<bool>,
    /// Most rounds of `rollout.problems` problems that a step then samples; 10 if none is given. When they are over it learns
    /// from what there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rounds: Option<usize>,
    /// Whether a completion that was cut takes no part in the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_truncated: Option<bool>,
    /// Updates per step: its problems are split into as many parts, one update each; 1 if none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mini_batches: Option<usize>,
    /// Passes over a step's completions, `mini_batches` updates each; 1 if none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
}

impl AlgorithmConfig {
    /// Parts of a step, one update each.
    pub fn mini_batches(&self) -> usize {
        self.mini_batches.unwrap_or(1)
    }

    /// Passes over a step's completions.
    pub fn epochs(&self) -> usize {
        self.epochs.unwrap_or(1)
    }

    /// Most rounds of sampling, with dynamic sampling: 10 as in verl's DAPO; the paper names no bound.
    pub fn max_rounds(&self) -> usize {
        self.max_rounds.unwrap_or(10)
    }

    /// With every piece said outright.
    fn resolved(&self) -> Self {
        let p = self.pieces();
        Self {
            preset: self.preset,
            advantage: Some(p.advantage),
            ratio: Some(p.ratio),
            surrogate: Some(p.surrogate),
            clip: None,
            clip_low: Some(p.clip_low),
            clip_high: Some(p.clip_high),
            aggregation: Some(p.aggregation),
            kl: Some(p.kl),
            reference_every: Some(p.reference_every),
            dynamic_sampling: Some(p.dynamic_sampling),
            max_rounds: Some(self.max_rounds()),
            mask_truncated: Some(p.mask_truncated),
            mini_batches: Some(self.mini_batches()),
            epochs: Some(self.epochs()),
        }
    }

    /// The preset's choices, except those that were made one by one.
    pub fn pieces(&self) -> Pieces {
        let preset = self.preset.pieces();
        Pieces {
            advantage: self.advantage.unwrap_or(preset.advantage),
            ratio: self.ratio.unwrap_or(preset.ratio),
            surrogate: self.surrogate.unwrap_or(preset.surrogate),
            clip_low: self.clip_low.or(self.clip).unwrap_or(preset.clip_low),
            clip_high: self.clip_high.or(self.clip).unwrap_or(preset.clip_high),
            aggregation: self.aggregation.unwrap_or(preset.aggregation),
            kl: self.kl.unwrap_or(preset.kl),
            reference_every: self.reference_every.unwrap_or(preset.reference_every),
            dynamic_sampling: self.dynamic_sampling.unwrap_or(preset.dynamic_sampling),
            mask_truncated: self.mask_truncated.unwrap_or(preset.mask_truncated),
        }
    }
}

fn one() -> f32 {
    1.0
}

/// `[eval]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    /// Held-out problems, in one file or several.
    pub data: DataFiles,
    /// Steps between measurements; the first is made before the first step, the last after the last.
    pub every: u64,
    /// Completions per problem.
    #[serde(default = "one_sample")]
    pub samples: usize,
    /// Temperature they are sampled at.
    #[serde(default = "one")]
    pub temperature: f32,
}

fn one_sample() -> usize {
    1
}

impl Settings for RlConfig {
    const KEYS: &'static [&'static str] = &["steps", "rollout", "algorithm", "reward", "eval"];
    const FREE: &'static [&'static str] =
        &["eval", "rollout.sequences", "rollout.drafts", "rollout.max_prompt_tokens", "rollout.log_probs"];

    fn stage(&self) -> &StageConfig {
        &self.stage
    }

    fn updates_per_step(&self) -> u64 {
        self.updates_per_step()
    }

    fn resolved(&self) -> Self {
        Self { algorithm: self.algorithm.resolved(), ..self.clone() }
    }

    fn before_set(table: &mut Table, key: &str) {
        let Some(Value::Table(algorithm)) = table.get_mut("algorithm") else { return };
        match key {
            // The pieces that are the old preset's follow the new one; those that were chosen stay.
            "algorithm.preset" => {
                let preset = AlgorithmConfig {
                    preset: algorithm
                        .get("preset")
                        .and_then(|p| p.clone().try_into().ok())
                        .unwrap_or_default(),
                    ..AlgorithmConfig::default()
                };
                let written = toml::to_string(&preset.resolved()).expect("plain values");
                let preset: Table = written.parse().expect("just written");
                algorithm.retain(|key, value| key == "preset" || preset.get(key) != Some(value));
            }
            "algorithm.clip" => algorithm.retain(|key, _| key != "clip_low" && key != "clip_high"),
            _ => {}
        }
    }

    fn sample() -> Self {
        let text = "run_dir = ''\nmodel = ''\ndata = ''\nsteps = 1\n[rollout]\nsystem = ''\n[eval]\ndata = ''\nevery = 1\n";
        let sample: Self = toml::from_str(text).expect("a config");
        let algorithm = AlgorithmConfig { clip: Some(0.2), ..sample.algorithm.resolved() };
        Self { algorithm, ..sample }
    }
}

impl RlConfig {
    /// Reads a config file, then applies `--set key=value` overrides in their order.
    ///
    /// # Errors
    /// Unknown keys (with the nearest known one), wrong types and values, with file, line and key.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, TrainError> {
        let config = stage::read::<Self>(path, overrides, &[])?;
        config.check().map_err(|error| match error {
            TrainError::Config(error) => error.of_set(overrides).into(),
            error => error,
        })
    }

    /// The settings of a `table` that stands in the file `origin`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn of_table(table: &Table, origin: &Path) -> Result<Self, TrainError> {
        stage::of_table::<Self>(table, origin, &[])?.check()
    }

    /// The `[[reward]]` tables of a file, resolved, and its `rollout.max_new_tokens`, if that is one for all steps: the reward `length`
    /// needs it. The file may be a run's, or hold nothing else.
    ///
    /// # Errors
    /// As [`RlConfig::load`], or if there are no such tables.
    pub fn load_rewards(path: &Path) -> Result<(Vec<RewardConfig>, Option<usize>), TrainError> {
        let RewardsAlone { reward, rollout } = stage::read_part::<Self, _>(path)?;
        check(!reward.is_empty(), "reward", &"empty", "at least one [[reward]]")?;
        let reward = reward.iter().map(RewardConfig::resolved).collect::<Result<_, _>>()?;
        Ok((reward, rollout.max_new_tokens.fixed()))
    }

    /// The loss in force.
    pub fn loss(&self) -> PolicyLoss {
        self.algorithm.pieces().loss(self.rollout.max_new_tokens.most())
    }

    /// Updates per step.
    pub fn updates_per_step(&self) -> u64 {
        (self.algorithm.mini_batches() * self.algorithm.epochs()) as u64
    }

    /// Updates after which the reference policy becomes a copy of the policy; none if it never does, or there is none.
    pub fn reference_every(&self) -> Option<NonZero<u64>> {
        let pieces = self.algorithm.pieces();
        NonZero::new(pieces.reference_every).filter(|_| pieces.kl != 0.0)
    }

    /// Sequences sampled at once.
    pub fn sequences(&self) -> usize {
        let all = self.rollout.problems * self.rollout.group_size;
        if self.rollout.sequences == 0 { all } else { self.rollout.sequences.min(all) }
    }

    fn check(mut self) -> Result<Self, TrainError> {
        let (r, a) = (&self.rollout, &self.algorithm);
        check_steps(Some(self.steps))?;
        self.stage.check()?;
        r.check()?;
        check(
            self.stage.shards <= r.problems,
            "shards",
            &self.stage.shards,
            "at most rollout.problems: the completions of a problem lie in one shard",
        )?;
        check(
            (2..=1 << 16).contains(&r.group_size),
            "rollout.group_size",
            &r.group_size,
            "2 to 65536: an advantage compares completions of one problem",
        )?;
        check(
            r.temperature > 0.0 && r.temperature.is_finite(),
            "rollout.temperature",
            &r.temperature,
            "above 0: a policy that is learned must be sampled",
        )?;
        r.check_whole()?;
        let pieces = a.pieces();
        for (key, value) in [
            ("algorithm.clip_low", pieces.clip_low),
            ("algorithm.clip_high", pieces.clip_high),
            ("algorithm.kl", pieces.kl),
        ] {
            check(value >= 0.0 && value.is_finite(), key, &value, "0 or more")?;
        }
        check((1..=1024).contains(&a.max_rounds()), "algorithm.max_rounds", &a.max_rounds(), "1 to 1024")?;
        check((1..=1024).contains(&a.epochs()), "algorithm.epochs", &a.epochs(), "1 to 1024")?;
        check(
            (1..=r.problems).contains(&a.mini_batches()),
            "algorithm.mini_batches",
            &a.mini_batches(),
            "1 to rollout.problems",
        )?;
        check(!self.reward.is_empty(), "reward", &"empty", "at least one [[reward]]")?;
        self.reward = self.reward.iter().map(RewardConfig::resolved).collect::<Result<_, _>>()?;
        if let Some(e) = &self.eval {
            check(e.every > 0, "eval.every", &e.every, "at least 1")?;
            check(is_size(e.samples), "eval.samples", &e.samples, "1 to 1048576")?;
            check(
                e.temperature >= 0.0 && e.temperature.is_finite(),
                "eval.temperature",
                &e.temperature,
                "0 or more",
            )?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "run_dir = 'r'\nmodel = 'm'\ndata = 'd'\nsteps = 3\n";

    fn load(text: &str, set: &[&str]) -> Result<RlConfig, TrainError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        RlConfig::load(file.path(), &set.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_config_resolves_and_reads_back() {
        let config = load(MINIMAL, &["optim.lr=2e-5", "rollout.system=Be brief."]).expect("a config");
        assert_eq!((config.stage.optim.lr, config.rollout.system.as_deref()), (2e-5, Some("Be brief.")));
        let loss = config.loss();
        assert_eq!((loss.clip_low, loss.clip_high, loss.kl), (0.2, 0.2, 0.04));
        assert_eq!(load(&config.to_toml(), &[]).expect("a config"), config.resolved());
    }

    #[test]
    fn the_written_config_says_everything_and_is_the_same_run() {
        let tables = "[rollout]\nsystem = 's'\n[eval]\ndata = 'h'\nevery = 5\n[[reward]]\nkind = 'number'\nweight = 0.5\n";
        for preset in ["grpo", "r1", "dapo", "dr-grpo", "gspo", "cispo", "rloo"] {
            for set in [&[][..], &["algorithm.clip=0.3", "algorithm.kl=0.01", "algorithm.epochs=2"]] {
                let text = format!("{MINIMAL}{tables}[algorithm]\npreset = '{preset}'\n");
                let config = load(&text, set).expect("a config");
                let written = load(&config.to_toml(), &[]).expect("a config");
                assert_eq!(stage::hash_config(&written), stage::hash_config(&config), "{preset}");
                assert_eq!(written.algorithm.pieces(), config.algorithm.pieces(), "{preset}");
                assert_eq!(written.to_toml(), config.to_toml(), "{preset}");
                let table: Table = config.to_toml().parse().expect("TOML");
                let algorithm = table["algorithm"].as_table().expect("a table");
                let known = stage::all_keys::<RlConfig>();
                for key in known.iter().filter_map(|key| key.strip_prefix("algorithm.")) {
                    assert!(key == "clip" || algorithm.contains_key(key), "{preset}: {key}");
                }
            }
        }
    }

    #[test]
    fn a_preset_that_is_set_over_a_written_config_brings_its_own_pieces() {
        let written = |text: &str| load(text, &[]).expect("a config").to_toml();
        let r1 = written(&format!("{MINIMAL}[algorithm]\npreset = 'r1'\nmask_truncated = true\n"));
        let other = load(&r1, &["algorithm.preset=dr-grpo"]).expect("a config").algorithm.pieces();
        assert_eq!(other, Pieces { mask_truncated: true, ..Preset::DrGrpo.pieces() });
        let clipped = load(&r1, &["algorithm.clip=0.1"]).expect("a config").algorithm.pieces();
        assert_eq!((clipped.clip_low, clipped.clip_high), (0.1, 0.1));
    }

    #[test]
    fn rewards_are_read_alone() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let rewards = |text: &str| {
            std::fs::write(file.path(), text).expect("written");
            RlConfig::load_rewards(file.path())
        };
        let (reward, max) = rewards("[[reward]]\nkind = 'number'\n").expect("rewards");
        assert_eq!((reward.len(), max), (1, Some(256)));
        let whole = format!("{MINIMAL}[rollout]\nmax_new_tokens = 7\n[[reward]]\nkind = 'number'\n");
        assert_eq!(rewards(&whole).expect("rewards").1, Some(7));
        let grows = whole
            .replace("max_new_tokens = 7", "max_new_tokens = [{tokens = 7}, {from_step = 9, tokens = 8}]");
        assert_eq!(rewards(&grows).expect("rewards").1, None);
        let error = rewards("[[rewards]]\nkind = 'number'\n").expect_err("unknown").to_string();
        assert!(error.contains("did you mean `reward`?") && error.contains("line 1"), "{error}");
        assert!(rewards("seed = 1\n").expect_err("none").to_string().contains("at least one [[reward]]"));
    }

    #[test]
    fn what_set_says_wrong_is_said_of_set() {
        let file = format!("{MINIMAL}[optim]\nlr = 1e-5\n");
        for (set, said) in [
            ("optim.warmup=1", "did you mean `warmup_steps`?"),
            ("lr=1e-5", "did you mean `optim.lr`?"),
            ("temperature=0.5", "did you mean `rollout.temperature`?"),
            ("optim.learning_rate=1", "it is called `optim.lr` here"),
            ("num_generations=4", "it is called `rollout.group_size` here"),
            ("rollout.max_completion_length=4", "it is called `rollout.max_new_tokens` here"),
            ("beta=0.1", "it is called `algorithm.kl` here"),
            ("optim.lr=fast", "fast"),
            ("optim.lr=-1", "0 or more"),
            ("steps=0", "`steps` is 0: 1 to "),
            ("reward.kind=math", "change it in the file"),
            ("steps.more=1", "`steps` is not a table"),
            ("nonsense", "expected KEY=VALUE"),
        ] {
            let error = load(&file, &["seed=3", set, "checkpoint_every=5"]).expect_err(set).to_string();
            assert!(error.starts_with(&format!("--set {set}: ")) && error.contains(said), "{set}: {error}");
        }
        // The file's own fault has its line, whatever else is set.
        let error =
            load(&format!("{MINIMAL}[optim]\nwarmup = 1\n"), &["seed=3"]).expect_err("unknown").to_string();
        assert!(error.contains("line 6") && !error.contains("--set"), "{error}");
        // What the file lacks may be set.
        assert!(load("model = 'm'\ndata = 'd'\nsteps = 3\n", &["run_dir=r"]).is_ok());
        let error =
            load("model = 'm'\ndata = 'd'\nsteps = 3\n", &["seed=1"]).expect_err("missing").to_string();
        assert!(error.contains("run_dir") && !error.contains("--set"), "{error}");
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest() {
        let error = load(&format!("{MINIMAL}[optim]\nlearning_rate = 1\nlr = 1"), &[]).expect_err("unknown");
        assert!(error.to_string().contains("line 6"), "{error}");
        let error = load(&format!("{MINIMAL}[rollout]\ntemprature = 1"), &[]).expect_err("unknown");
        assert!(error.to_string().contains("did you mean `temperature`?"), "{error}");
        for (text, set) in [(format!("{MINIMAL}step = 4\n"), vec![]), (MINIMAL.to_owned(), vec!["step=4"])] {
            let error = load(&text, &set).expect_err("unknown").to_string();
            assert!(
                error.contains("line 5") == set.is_empty() && error.contains("did you mean `steps`?"),
                "{error}"
            );
        }
        let error = load(MINIMAL, &["rollout.zebra=1"]).expect_err("unknown");
        assert!(!error.to_string().contains("did you mean"), "{error}");
        let error = load(MINIMAL, &["rollout.max_tokens=3"]).expect_err("unknown");
        assert!(error.to_string().contains("`max_new_tokens`"), "{error}");
    }

    #[test]
    fn values_are_checked() {
        for set in
            ["steps=0", "rollout.group_size=1", "rollout.temperature=0", "optim.beta1=1.0", "optim.lr=-1"]
        {
            assert!(load(MINIMAL, &[set]).is_err(), "{set}");
        }
        let error =
            load(&format!("{MINIMAL}[optim]\nmoments = 'f16'"), &[]).expect_err("no such type").to_string();
        assert!(error.contains("line 6") && error.contains("expected `f32` or `bf16`"), "{error}");
        assert!(load(MINIMAL, &["rollout=3", "rollout.problems=3"]).is_err());
        assert!(load(MINIMAL, &["nonsense"]).is_err());
    }
}
