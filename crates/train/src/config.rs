//! The TOML file of `koan rl`. Tens of options; an unknown one is refused with the nearest known name.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
};

use koan_backend::MomentType;
use koan_model::Purpose;
use koan_reward::RewardConfig;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use toml::{Table, Value};

use crate::{
    Preset, TrainError,
    advantage::Advantage,
    policy_loss::{Aggregation, PolicyLoss, Ratio, Surrogate},
    preset::Pieces,
    run_dir::StageConfig,
};

/// A run of reinforcement learning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RlConfig {
    /// Where everything the run makes goes.
    pub run_dir: PathBuf,
    /// The model to start from, a Hugging Face directory.
    pub model: PathBuf,
    /// The problems, JSON Lines.
    pub data: PathBuf,
    /// Keys every random number of the run.
    #[serde(default)]
    pub seed: u64,
    /// Steps to run; a step draws, rewards and learns once.
    pub steps: u64,
    /// Steps between checkpoints.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: u64,
    /// How many of the newest checkpoints are kept.
    #[serde(default = "default_checkpoints_kept")]
    pub checkpoints_kept: usize,
    /// Write the metrics as TensorBoard event files too, in `tensorboard/`.
    #[serde(default)]
    pub tensorboard: bool,
    /// How completions are drawn.
    #[serde(default)]
    pub rollout: RolloutConfig,
    /// What is learned from them.
    #[serde(default)]
    pub algorithm: AlgorithmConfig,
    /// How the weights are moved.
    #[serde(default)]
    pub optim: OptimConfig,
    /// What completions are rewarded for: a weighted sum.
    #[serde(default = "default_reward")]
    pub reward: Vec<RewardConfig>,
    /// Held-out problems, measured as the run goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval: Option<EvalConfig>,
}

fn default_checkpoint_every() -> u64 {
    100
}
pub(crate) fn default_checkpoints_kept() -> usize {
    2
}
fn default_reward() -> Vec<RewardConfig> {
    vec![RewardConfig::new("math")]
}

/// `[rollout]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// Problems a step.
    pub problems: usize,
    /// Completions a problem.
    pub group_size: usize,
    /// Sequences drawn at once; 0: all of a step.
    pub sequences: usize,
    /// Logits are divided by it.
    pub temperature: f32,
    /// Completions are cut at this many tokens.
    pub max_new_tokens: usize,
    /// Longest prompt, tokens; a longer one is an error before the first step.
    pub max_prompt_tokens: usize,
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
            max_new_tokens: 256,
            max_prompt_tokens: 512,
            system: None,
            raw: false,
            log_probs: false,
        }
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
    /// What probability is compared between the policy and the one that drew.
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
    /// Whether groups whose completions all earned the same are left out, and others drawn in their place (DAPO).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic_sampling: Option<bool>,
    /// Most rounds of `rollout.problems` problems that a step then draws; 10 if none is given. When they are over it learns
    /// from what there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rounds: Option<usize>,
    /// Whether a completion that was cut takes no part in the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_truncated: Option<bool>,
    /// Updates a step: its problems are split into as many parts, one update each; 1 if none is given.
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

    /// Most rounds of drawing, with dynamic sampling: 10 as in verl's DAPO; the paper names no bound.
    pub fn max_rounds(&self) -> usize {
        self.max_rounds.unwrap_or(10)
    }

    /// The preset's choices, but for those that were made one by one.
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

/// How the learning rate goes after its warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// It falls to zero in a straight line.
    Linear,
    /// It falls to zero along half a cosine.
    Cosine,
    /// Warm-up, stable, decay: it stays for four fifths of the updates, then falls to zero in a straight line
    /// (arXiv:2404.06395).
    Wsd,
}

/// The names of [`MomentType`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "MomentType", rename_all = "kebab-case")]
pub(crate) enum MomentName {
    F32,
    Bf16,
}

/// `[optim]`: AdamW.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimConfig {
    /// Learning rate.
    pub lr: f32,
    /// Updates over which it rises from zero.
    pub warmup_steps: u64,
    /// How it goes then.
    pub schedule: Schedule,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled decay of matrices.
    pub weight_decay: f32,
    /// Largest norm of the gradient.
    pub grad_clip: f64,
    /// In what both moments are kept: 8 bytes a parameter in f32, 4 in bf16, rounded stochastically.
    #[serde(with = "MomentName")]
    pub moments: MomentType,
    /// Tokens of one forward and backward pass: more is faster and takes more memory; the result is the same.
    pub micro_batch_tokens: usize,
    /// Keep of each layer only its input, and compute the rest again in the backward: the same gradient to the bit, for
    /// a third more work and a fraction of the memory.
    pub recompute: bool,
}

impl OptimConfig {
    /// What a training pass is planned for.
    pub fn purpose(&self) -> Purpose {
        if self.recompute { Purpose::Recomputing } else { Purpose::Training }
    }

    pub(crate) fn check(&self) -> Result<(), TrainError> {
        check(self.lr >= 0.0 && self.lr.is_finite(), "optim.lr", &self.lr, "0 or more")?;
        check((0.0..1.0).contains(&self.beta1), "optim.beta1", &self.beta1, "0 to below 1")?;
        check((0.0..1.0).contains(&self.beta2), "optim.beta2", &self.beta2, "0 to below 1")?;
        check(self.eps > 0.0, "optim.eps", &self.eps, "above 0")?;
        check(self.weight_decay >= 0.0, "optim.weight_decay", &self.weight_decay, "0 or more")?;
        check(self.grad_clip > 0.0, "optim.grad_clip", &self.grad_clip, "above 0")?;
        check(
            size(self.micro_batch_tokens),
            "optim.micro_batch_tokens",
            &self.micro_batch_tokens,
            "1 to 1048576",
        )
    }
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            lr: 1e-6,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            grad_clip: 1.0,
            moments: MomentType::F32,
            micro_batch_tokens: 512,
            recompute: false,
        }
    }
}

/// Refuses a value that makes no sense.
pub(crate) fn check(
    ok: bool,
    key: &'static str,
    value: &dyn ToString,
    expected: &'static str,
) -> Result<(), TrainError> {
    if ok { Ok(()) } else { Err(TrainError::Value { key, value: value.to_string(), expected }) }
}

/// Whether a count is one that can be meant.
pub(crate) fn size(n: usize) -> bool {
    (1..=1 << 20).contains(&n)
}

fn one() -> f32 {
    1.0
}

/// `[eval]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    /// Held-out problems, JSON Lines.
    pub data: PathBuf,
    /// Steps between measurements; the first is made before the first step, the last after the last.
    pub every: u64,
    /// Completions a problem.
    #[serde(default = "one_sample")]
    pub samples: usize,
    /// Temperature they are drawn at.
    #[serde(default = "one")]
    pub temperature: f32,
}

fn one_sample() -> usize {
    1
}

impl StageConfig for RlConfig {
    const FREE: &'static [&'static str] = &[
        "run_dir",
        "model",
        "data",
        "checkpoint_every",
        "checkpoints_kept",
        "tensorboard",
        "eval",
        "rollout.sequences",
        "rollout.max_prompt_tokens",
        "rollout.log_probs",
    ];

    fn tensorboard(&self) -> bool {
        self.tensorboard
    }
}

impl RlConfig {
    /// Reads a config file, then applies `--set key=value` overrides in their order.
    ///
    /// # Errors
    /// Unknown keys (with the nearest known one), wrong types and values, with file, line and key.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, TrainError> {
        read_toml::<Self>(path, overrides)?.0.check()
    }

    /// The loss in force.
    pub fn loss(&self) -> PolicyLoss {
        self.algorithm.pieces().loss(self.rollout.max_new_tokens)
    }

    /// Updates a step.
    pub fn updates_a_step(&self) -> u64 {
        (self.algorithm.mini_batches() * self.algorithm.epochs()) as u64
    }

    /// Updates after which the reference policy becomes a copy of the policy; none if it never does, or there is none.
    pub fn reference_every(&self) -> Option<NonZero<u64>> {
        let pieces = self.algorithm.pieces();
        NonZero::new(pieces.reference_every).filter(|_| pieces.kl != 0.0)
    }

    /// The algorithm in force, every constant with its value, for a reader who holds it against the paper.
    pub fn explain(&self) -> String {
        let (pieces, r, o) = (self.algorithm.pieces(), &self.rollout, &self.optim);
        let updates = self.updates_a_step();
        let plural = if updates == 1 { "" } else { "s" };
        let mut lines = vec![self.loss().explain()];
        match (pieces.kl, pieces.reference_every) {
            (0.0, _) => {}
            (_, 0) => lines.push("pi_ref: the model that the run starts from".into()),
            (_, n) => lines.push(format!(
                "pi_ref: the model that the run starts from, and after every {n} updates a copy of pi"
            )),
        }
        lines.push(format!(
            "{} over the {} completions of a problem, {} problems a step, {updates} update{plural} a step",
            pieces.advantage.explain(),
            r.group_size,
            r.problems,
        ));
        lines.extend(self.explain_rewards());
        if pieces.dynamic_sampling {
            lines.push(format!(
                "problems whose completions all earned the same are left out, and others drawn in their place: up to {} \
                 rounds of {} problems a step",
                self.algorithm.max_rounds(),
                r.problems,
            ));
        }
        lines.push(format!(
            "completions at temperature {}, cut at {} tokens; those cut {}",
            r.temperature,
            r.max_new_tokens,
            if pieces.mask_truncated { "take no part" } else { "count as they are" },
        ));
        lines.push(format!(
            "AdamW: lr {:e}, betas {} {}, eps {:e}, weight decay {}, gradient norm at most {}, moments in {}",
            o.lr,
            o.beta1,
            o.beta2,
            o.eps,
            o.weight_decay,
            o.grad_clip,
            match o.moments {
                MomentType::F32 => "f32",
                MomentType::Bf16 => "bf16, rounded stochastically",
            },
        ));
        lines.join("\n")
    }

    /// The sum of rewards, and DAPO's soft overlong punishment if it is one of them, or might be missed.
    fn explain_rewards(&self) -> Vec<String> {
        let term = |reward: &RewardConfig| {
            let name = reward.name.as_ref().unwrap_or(&reward.kind);
            if reward.weight == 1.0 { name.clone() } else { format!("{} {name}", reward.weight) }
        };
        let mut lines = vec![format!("r = {}", self.reward.iter().map(term).collect::<Vec<_>>().join(" + "))];
        let overlong = |reward: &&RewardConfig| {
            reward.kind == "length" && reward.options.get("shape").is_none_or(|shape| shape == "overlong")
        };
        if let Some(reward) = self.reward.iter().find(overlong) {
            let tokens = |key: &str| reward.options.get(key).and_then(serde_json::Value::as_u64);
            let longest = tokens("max_tokens").unwrap_or(self.rollout.max_new_tokens as u64);
            let free = longest.saturating_sub(tokens("cache_tokens").unwrap_or(longest.div_ceil(5)));
            lines.push(format!(
                "length: 0 up to {free} tokens, then in a straight line to -1 at {longest} tokens"
            ));
        } else if self.algorithm.preset == Preset::Dapo {
            lines.push(
                "the paper's soft overlong punishment is not in force: it is the reward `length`".into(),
            );
        }
        lines
    }

    /// Sequences drawn at once.
    pub fn sequences(&self) -> usize {
        let all = self.rollout.problems * self.rollout.group_size;
        if self.rollout.sequences == 0 { all } else { self.rollout.sequences.min(all) }
    }

    fn check(mut self) -> Result<Self, TrainError> {
        let (r, o, a) = (&self.rollout, &self.optim, &self.algorithm);
        check(self.steps > 0, "steps", &self.steps, "at least 1")?;
        check(self.checkpoint_every > 0, "checkpoint_every", &self.checkpoint_every, "at least 1")?;
        check(self.checkpoints_kept > 0, "checkpoints_kept", &self.checkpoints_kept, "at least 1")?;
        check(size(r.problems), "rollout.problems", &r.problems, "1 to 1048576")?;
        check(
            (2..=1 << 16).contains(&r.group_size),
            "rollout.group_size",
            &r.group_size,
            "2 to 65536: an advantage compares completions of one problem",
        )?;
        check(size(r.max_new_tokens), "rollout.max_new_tokens", &r.max_new_tokens, "1 to 1048576")?;
        check(size(r.max_prompt_tokens), "rollout.max_prompt_tokens", &r.max_prompt_tokens, "1 to 1048576")?;
        check(
            r.temperature > 0.0 && r.temperature.is_finite(),
            "rollout.temperature",
            &r.temperature,
            "above 0: a policy that is learned must be sampled",
        )?;
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
        o.check()?;
        check(!self.reward.is_empty(), "reward", &"empty", "at least one [[reward]]")?;
        self.reward = self.reward.iter().map(RewardConfig::resolved).collect::<Result<_, _>>()?;
        if let Some(e) = &self.eval {
            check(e.every > 0, "eval.every", &e.every, "at least 1")?;
            check(size(e.samples), "eval.samples", &e.samples, "1 to 1048576")?;
            check(e.temperature >= 0.0, "eval.temperature", &e.temperature, "0 or more")?;
        }
        Ok(self)
    }
}

/// Reads a TOML file, applies `key=value` overrides in their order, and gives the config and the table it was read from.
pub(crate) fn read_toml<C: DeserializeOwned>(
    path: &Path,
    overrides: &[String],
) -> Result<(C, Table), TrainError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| TrainError::ReadConfig { path: path.into(), source })?;
    let wrong = |message: String| TrainError::Config { path: path.into(), message };
    let mut table: Table = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    if overrides.is_empty() {
        let config = toml::from_str(&text).map_err(|e| wrong(with_nearest_name(&e.to_string())))?; // knows the line
        return Ok((config, table));
    }
    for set in overrides {
        override_key(&mut table, set).map_err(|what| wrong(format!("--set {set}: {what}")))?;
    }
    let config = table.clone().try_into().map_err(|e| wrong(with_nearest_name(&e.to_string())))?;
    Ok((config, table))
}

/// Sets `a.b=value` in a table; the value is TOML, or a bare string.
fn override_key(table: &mut Table, set: &str) -> Result<(), String> {
    let (key, value) = set.split_once('=').ok_or("expected KEY=VALUE, as in optim.lr=1e-6")?;
    let value = value.trim();
    let parsed = toml::from_str::<Table>(&format!("v = {value}")).ok().and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| Value::String(value.into()));
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    let last = parts.pop().filter(|k| !k.is_empty()).ok_or("expected KEY=VALUE, as in optim.lr=1e-6")?;
    let mut at = table;
    for part in parts {
        let next = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        at = next.as_table_mut().ok_or_else(|| format!("`{part}` is not a table"))?;
    }
    at.insert(last.into(), value);
    Ok(())
}

/// Adds the nearest known name to serde's "unknown field `x`, expected one of `a`, `b`".
fn with_nearest_name(message: &str) -> String {
    /// Similarity from which a name may have been meant: above what words that merely share a few letters have.
    const MEANT: f64 = 0.75;
    let message = message.trim_end();
    let names: Vec<&str> = match message.split_once("unknown field") {
        Some((_, rest)) => rest.split('`').skip(1).step_by(2).collect(),
        None => return message.into(),
    };
    let Some((unknown, known)) = names.split_first() else { return message.into() };
    let nearest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(name, unknown), name))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|(similarity, _)| *similarity >= MEANT);
    match nearest {
        Some((_, nearest)) => format!("{message}\ndid you mean `{nearest}`?"),
        None => message.into(),
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
        assert_eq!((config.optim.lr, config.rollout.system.as_deref()), (2e-5, Some("Be brief.")));
        let loss = config.loss();
        assert_eq!((loss.clip_low, loss.clip_high, loss.kl), (0.2, 0.2, 0.04));
        assert_eq!(load(&config.to_toml(), &[]).expect("a config"), config);
    }

    #[test]
    fn all_that_is_in_force_is_explained() {
        let explain = |set: &[&str]| load(MINIMAL, set).expect("a config").explain();
        for (set, said) in [
            (vec!["algorithm.preset=r1"], "after every 400 updates a copy of pi"),
            (
                vec!["algorithm.preset=r1", "algorithm.reference_every=0"],
                "pi_ref: the model that the run starts from\n",
            ),
            (vec!["algorithm.preset=grpo"], "r = math\n"),
            (vec!["algorithm.preset=dapo"], "up to 10 rounds of 8 problems a step"),
            (vec!["algorithm.preset=dapo"], "those cut take no part"),
            (vec!["optim.moments=bf16"], "moments in bf16, rounded stochastically"),
            (vec!["algorithm.preset=dapo"], "the paper's soft overlong punishment is not in force"),
            (
                vec!["reward=[{kind='math'}, {kind='length', weight=0.5, cache_tokens=56}]"],
                "r = math + 0.5 length\nlength: 0 up to 200 tokens, then in a straight line to -1 at 256 tokens",
            ),
        ] {
            assert!(explain(&set).contains(said), "{set:?}: {}", explain(&set));
        }
        let without = explain(&["algorithm.kl=0", "algorithm.reference_every=3"]);
        assert!(!without.contains("pi_ref") && !without.contains("rounds"), "{without}");
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest() {
        let error = load(&format!("{MINIMAL}[optim]\nlearning_rate = 1\nlr = 1"), &[]).expect_err("unknown");
        assert!(error.to_string().contains("line 6"), "{error}");
        let error = load(&format!("{MINIMAL}[rollout]\ntemprature = 1"), &[]).expect_err("unknown");
        assert!(error.to_string().contains("did you mean `temperature`?"), "{error}");
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
