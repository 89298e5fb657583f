//! The TOML file of `koan distill`. An unknown option is refused with the nearest known name.

use std::path::{Path, PathBuf};

use koan_backend::{Divergence, DivergenceForm, ProductPrecision, Support};
use koan_data::DataFiles;
use koan_model::CacheForm;
use koan_reward::RewardConfig;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::{
    TrainError,
    config::{ConfigError, check, check_steps, is_size},
    reject::{FilterConfig, KeepConfig, RejectConfig, ServerConfig, Which},
    rl::RolloutConfig,
    stage::{self, Settings, StageConfig},
    supervised::{HeldOut, Packing, SupervisedConfig, TooLong},
};

/// Steps between checkpoints where nothing is said.
const CHECKPOINT_EVERY: i64 = 100;
/// The learning rate where none is given and the student learns from texts: that of fine-tuning.
const LR: f64 = 1e-5;
/// That of a student that learns from what it writes itself: reinforcement learning's.
const ON_POLICY_LR: f64 = 1e-6;

/// A run in which a student learns from a teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DistillConfig {
    /// What all stages have; `model` is the student. The data are demonstrations for the method `logits`, for the others problems.
    #[serde(flatten)]
    pub stage: StageConfig,
    /// The model that is learned from; empty where a `server` is asked in its place.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub teacher: PathBuf,
    /// What is learned.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Updates to make; or `epochs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Passes over the data; or `steps`. Not for the method `on-policy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Tokens that an update learns from, at least; 8192 where it is not given. Not for the method `on-policy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    /// Longest text, tokens; 1024 where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// What becomes of a longer one; where nothing is said the run is refused, and by `samples` it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub too_long: Option<TooLong>,
    /// How completions are sampled: the student's by the method `on-policy`, the teacher's by `samples`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutConfig>,
    /// By `samples`: a server that writes the teacher's completions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerConfig>,
    /// By `samples`: which of the teacher's completions are refused, as in rejection sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<FilterConfig>,
    /// By `samples`: which of the others are learned; all where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepConfig>,
    /// By `samples`: what judges them; nothing does where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reward: Vec<RewardConfig>,
    /// Held-out demonstrations, measured as the run goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval: Option<HeldOut>,
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// `[algorithm]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Algorithm {
    /// How the student learns.
    pub method: Method,
    /// What it is brought nearer by; `forward` where it is not given, and `reverse` on-policy, which has no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence: Option<DivergenceName>,
    /// b of `jsd`, above 0 and below 1; 0.5 where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// Logits of both are divided by it; 1 where it is not given. For the method `logits`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// How many of the teacher's likeliest tokens are compared one by one; 0: all. For the method `logits`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// What becomes of the others; `with-rest` where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k_form: Option<TopKForm>,
}

/// How a student learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// From the teacher's distributions over the tokens of given demonstrations.
    #[default]
    Logits,
    /// From what the teacher says of the student's own completions.
    OnPolicy,
    /// From the teacher's completions, as texts.
    Samples,
}

/// Names of divergences, of a teacher's distribution p and a student's q.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DivergenceName {
    /// KL(p‖q)
    Forward,
    /// KL(q‖p)
    Reverse,
    /// b KL(p‖m) + (1−b) KL(q‖m), m = bp + (1−b)q
    Jsd,
}

/// What becomes of the tokens that are not among the teacher's likeliest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopKForm {
    /// The teacher's likeliest are scaled to sum to 1; the student keeps its whole distribution.
    Renormalised,
    /// They are one class, of both.
    WithRest,
}

impl Algorithm {
    /// With everything that the method has said outright.
    fn resolved(&self) -> Self {
        let none = Self { method: self.method, ..Self::default() };
        match self.method {
            Method::OnPolicy => Self { divergence: Some(DivergenceName::Reverse), ..none },
            Method::Samples => none,
            Method::Logits => {
                let name = self.divergence.unwrap_or(DivergenceName::Forward);
                let top_k = self.top_k.unwrap_or(0);
                Self {
                    divergence: Some(name),
                    beta: (name == DivergenceName::Jsd).then(|| self.beta.unwrap_or(0.5)),
                    temperature: Some(self.temperature.unwrap_or(1.0)),
                    top_k: Some(top_k),
                    top_k_form: (top_k > 0).then(|| self.top_k_form.unwrap_or(TopKForm::WithRest)),
                    ..none
                }
            }
        }
    }

    /// The divergence in force, of the method `logits`.
    pub fn divergence(&self) -> Divergence {
        let all = self.resolved();
        let form = match all.divergence {
            Some(DivergenceName::Reverse) => DivergenceForm::Reverse,
            Some(DivergenceName::Jsd) => DivergenceForm::JensenShannon { beta: all.beta.unwrap_or(0.5) },
            _ => DivergenceForm::Forward,
        };
        let support = match (all.top_k.unwrap_or(0), all.top_k_form) {
            (0, _) => Support::Whole,
            (k, Some(TopKForm::Renormalised)) => Support::Renormalised(k),
            (k, _) => Support::WithRest(k),
        };
        Divergence { form, temperature: all.temperature.unwrap_or(1.0), support }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let name = self.divergence;
        if self.method == Method::Samples {
            let expected = "no setting of this method, which learns texts; remove it";
            for (key, given) in [
                ("algorithm.divergence", name.is_some()),
                ("algorithm.beta", self.beta.is_some()),
                ("algorithm.temperature", self.temperature.is_some()),
                ("algorithm.top_k", self.top_k.is_some()),
                ("algorithm.top_k_form", self.top_k_form.is_some()),
            ] {
                check(!given, key, &"given", expected)?;
            }
        }
        if self.method == Method::OnPolicy {
            let reverse = name.is_none_or(|name| name == DivergenceName::Reverse);
            let expected = "reverse: the student's own samples estimate no other";
            check(reverse, "algorithm.divergence", &"another", expected)?;
            let expected = "no setting of this method: both models are taken at rollout.temperature";
            check(self.temperature.is_none(), "algorithm.temperature", &"given", expected)?;
            let expected =
                "no setting of this method, which asks for the tokens that were sampled alone; remove it";
            check(self.top_k.is_none(), "algorithm.top_k", &"given", expected)?;
            check(self.top_k_form.is_none(), "algorithm.top_k_form", &"given", expected)?;
        }
        let has_beta = self.beta.is_none() || name == Some(DivergenceName::Jsd);
        check(has_beta, "algorithm.beta", &"given", "no constant of this divergence; remove it, or set jsd")?;
        let beta = self.beta.unwrap_or(0.5);
        let expected = "above 0 and below 1: forward and reverse stand for its ends";
        check(beta > 0.0 && beta < 1.0, "algorithm.beta", &beta, expected)?;
        let temperature = self.temperature.unwrap_or(1.0);
        check((0.01..=100.0).contains(&temperature), "algorithm.temperature", &temperature, "0.01 to 100")?;
        let top_k = self.top_k.unwrap_or(0);
        check(top_k == 0 || is_size(top_k), "algorithm.top_k", &top_k, "0 to 1048576")?;
        let cuts = top_k > 0 || self.top_k_form.is_none();
        check(cuts, "algorithm.top_k_form", &"given", "no setting without algorithm.top_k; remove it")?;
        let finite = name != Some(DivergenceName::Reverse) || self.top_k_form != Some(TopKForm::Renormalised);
        let expected =
            "with-rest for a reverse divergence: where the teacher has nothing it would be infinite";
        check(finite, "algorithm.top_k_form", &"renormalised", expected)
    }
}

impl Settings for DistillConfig {
    const KEYS: &'static [&'static str] = &[
        "teacher",
        "algorithm",
        "steps",
        "epochs",
        "batch_tokens",
        "max_tokens",
        "too_long",
        "rollout",
        "server",
        "filter",
        "keep",
        "reward",
        "eval",
    ];
    const FREE: &'static [&'static str] = &[
        "teacher",
        "eval",
        "rollout.sequences",
        "rollout.drafts",
        "rollout.max_prompt_tokens",
        "rollout.log_probs",
        ServerConfig::FREE[0],
        ServerConfig::FREE[1],
        ServerConfig::FREE[2],
        ServerConfig::FREE[3],
    ];

    fn stage(&self) -> &StageConfig {
        &self.stage
    }

    fn resolved(&self) -> Self {
        let (on_policy, samples) =
            (self.algorithm.method == Method::OnPolicy, self.algorithm.method == Method::Samples);
        Self {
            algorithm: self.algorithm.resolved(),
            batch_tokens: (!on_policy).then(|| self.batch_tokens()),
            max_tokens: (!on_policy || self.eval.is_some()).then(|| self.max_tokens()),
            too_long: (!on_policy || self.eval.is_some()).then(|| self.too_long()),
            rollout: (on_policy || samples).then(|| self.rollout()),
            filter: samples.then(|| self.filter()),
            keep: samples.then(|| self.keep()),
            ..self.clone()
        }
    }

    fn before_set(table: &mut Table, key: &str) {
        let Some(Value::Table(algorithm)) = table.get_mut("algorithm") else { return };
        if key == "algorithm.method" {
            // The pieces that are the old method's follow the new one; those that were chosen stay.
            let method =
                algorithm.get("method").and_then(|method| method.clone().try_into().ok()).unwrap_or_default();
            let old = Algorithm { method, ..Algorithm::default() }.resolved();
            let old: Table = toml::to_string(&old).expect("plain values").parse().expect("just written");
            algorithm.retain(|key, value| key == "method" || old.get(key) != Some(value));
        }
    }

    fn sample() -> Self {
        let text = "run_dir = ''\nmodel = ''\ndata = ''\nteacher = ''\nsteps = 1\nepochs = 1\nbatch_tokens = 1\n\
                    max_tokens = 1\ntoo_long = 'refuse'\n[algorithm]\ndivergence = 'jsd'\nbeta = 0.5\ntemperature = 1\n\
                    top_k = 1\ntop_k_form = 'with-rest'\n[rollout]\nsystem = ''\n[server]\nurl = ''\nmodel = ''\n\
                    api_key_env = ''\nstop = ['']\ntokenizer = ''\n[filter]\nmin_reward = 0\n\
                    [keep]\nat_most = 1\neasy_at_most = 1\n[[reward]]\nkind = 'math'\n[eval]\ndata = ''\nevery = 1\n";
        toml::from_str(text).expect("a config")
    }
}

impl DistillConfig {
    /// Reads a config file, then applies `--set key=value` overrides in their order.
    ///
    /// # Errors
    /// Unknown keys (with the nearest known one), wrong types and values, with file, line and key.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, TrainError> {
        let config = Self::with_lr(|defaults| stage::read(path, overrides, defaults))?;
        let config = config.check().map_err(|error| error.of_set(overrides))?;
        if config.algorithm.method == Method::Samples {
            config.sampling().map_err(|error| match error {
                TrainError::Config(error) => error.of_set(overrides).into(),
                error => error,
            })?;
        }
        Ok(config)
    }

    /// The settings of a `table` that stands in the file `origin`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn of_table(table: &Table, origin: &Path) -> Result<Self, TrainError> {
        let config = Self::with_lr(|defaults| stage::of_table(table, origin, defaults))?.check()?;
        if config.algorithm.method == Method::Samples {
            config.sampling()?;
        }
        Ok(config)
    }

    /// What `read` reads with the learning rate that its method has where none is given.
    fn with_lr(read: impl Fn(&[(&str, Value)]) -> Result<Self, ConfigError>) -> Result<Self, ConfigError> {
        let read = |lr: f64| read(&[("checkpoint_every", CHECKPOINT_EVERY.into()), ("optim.lr", lr.into())]);
        let config = read(LR)?;
        if config.algorithm.method == Method::OnPolicy { read(ON_POLICY_LR) } else { Ok(config) }
    }

    /// Tokens that an update learns from, at least.
    pub fn batch_tokens(&self) -> usize {
        self.batch_tokens.unwrap_or(8192)
    }

    /// Longest text, tokens.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens.unwrap_or(1024)
    }

    /// What becomes of a longer one.
    pub fn too_long(&self) -> TooLong {
        match self.algorithm.method {
            Method::Samples => self.too_long.unwrap_or(TooLong::LeaveOut),
            _ => self.too_long.unwrap_or_default(),
        }
    }

    /// What refuses a completion of the teacher; where nothing judges, none is wrong.
    fn filter(&self) -> FilterConfig {
        let judged = !self.reward.is_empty();
        self.filter.clone().unwrap_or(FilterConfig { wrong: judged, ..FilterConfig::default() })
    }

    /// Which of the others are learned.
    fn keep(&self) -> KeepConfig {
        self.keep.clone().unwrap_or(KeepConfig { which: Which::All, ..KeepConfig::default() })
    }

    /// The run of rejection sampling by which the teacher's completions are made.
    ///
    /// # Errors
    /// If its settings make no sense.
    pub(super) fn sampling(&self) -> Result<RejectConfig, TrainError> {
        let stage = StageConfig {
            run_dir: self.stage.run_dir.join("samples"),
            model: self.teacher.clone(),
            // How the student is computed is not how the teacher is.
            precision: ProductPrecision::Device,
            cache: CacheForm::Expanded,
            adapter: None,
            ..self.stage.clone()
        };
        let (rollout, filter, keep) = (self.rollout(), self.filter(), self.keep());
        // Where the server does not count tokens, the student's tokenizer does.
        let of_student = Some(self.stage.model.clone());
        let with_tokenizer =
            |server: ServerConfig| ServerConfig { tokenizer: server.tokenizer.or(of_student), ..server };
        let (server, reward) = (self.server.clone().map(with_tokenizer), self.reward.clone());
        RejectConfig { stage, rollout, server, filter, keep, judge: None, reward }.checked()
    }

    /// The fine-tuning on the completions in `data`.
    pub(super) fn fine_tuning(&self, data: &Path) -> SupervisedConfig {
        SupervisedConfig {
            stage: StageConfig { data: DataFiles::from(data.to_owned()), ..self.stage.clone() },
            steps: self.steps,
            epochs: self.epochs,
            preset: None,
            batch_tokens: self.batch_tokens(),
            batch_growth: None,
            max_tokens: self.max_tokens(),
            packing: Packing::Isolated,
            fim: None,
            context: None,
            multi_token: None,
            too_long: self.too_long(),
            eval: self.eval.clone(),
        }
    }

    /// How completions are sampled.
    pub fn rollout(&self) -> RolloutConfig {
        self.rollout.clone().unwrap_or_default()
    }

    fn check(self) -> Result<Self, ConfigError> {
        let given = usize::from(self.steps.is_some()) + usize::from(self.epochs.is_some());
        let steps = self.steps.map_or("absent".into(), |n| n.to_string());
        match self.algorithm.method {
            Method::OnPolicy => {
                check(self.steps.is_some(), "steps", &steps, "given: a step samples once")?;
                let expected = "no setting of this method; give `steps`, and rollout.problems of each";
                check(self.epochs.is_none(), "epochs", &"given", expected)?;
                check(self.batch_tokens.is_none(), "batch_tokens", &"given", expected)?;
                let expected = "no setting of this method without [eval]; see rollout.max_new_tokens";
                let measured = self.eval.is_some();
                check(measured || self.max_tokens.is_none(), "max_tokens", &"given", expected)?;
                check(measured || self.too_long.is_none(), "too_long", &"given", expected)?;
                self.check_rollout()?;
            }
            Method::Samples => {
                check(given == 1, "steps", &steps, "one of `steps` and `epochs`")?;
                let pairs = self.keep().which == Which::Preference;
                check(!pairs, "keep.which", &"preference", "first, shortest, random or all")?;
            }
            Method::Logits => {
                check(given == 1, "steps", &steps, "one of `steps` and `epochs`")?;
                let expected = "no part of this method, which samples nothing; remove it";
                check(self.rollout.is_none(), "rollout", &"given", expected)?;
            }
        }
        let (has_teacher, has_server) = (!is_empty(&self.teacher), self.server.is_some());
        let expected = "the directory of the model that is learned from";
        check(has_teacher || has_server, "teacher", &"absent", expected)?;
        let expected = "absent where a [server] stands in its place";
        check(!(has_teacher && has_server), "teacher", &self.teacher.display(), expected)?;
        if self.algorithm.method != Method::Samples {
            let expected = "no part of this method, which needs the teacher's distributions, and so its weights; remove it, or set \
                            algorithm.method to samples";
            check(!has_server, "server", &"given", expected)?;
            let expected = "no part of this method, which judges nothing; remove it";
            check(self.filter.is_none(), "filter", &"given", expected)?;
            check(self.keep.is_none(), "keep", &"given", expected)?;
            check(self.reward.is_empty(), "reward", &"given", expected)?;
        }
        check_steps(self.steps)?;
        let epochs = self.epochs.unwrap_or(1);
        check((1..=1 << 20).contains(&epochs), "epochs", &epochs, "1 to 1048576")?;
        check(is_size(self.batch_tokens()), "batch_tokens", &self.batch_tokens(), "1 to 1048576")?;
        check(is_size(self.max_tokens()), "max_tokens", &self.max_tokens(), "1 to 1048576")?;
        self.algorithm.check()?;
        self.stage.check()?;
        if let Some(eval) = &self.eval {
            check(eval.every > 0, "eval.every", &eval.every, "at least 1")?;
        }
        Ok(self)
    }

    fn check_rollout(&self) -> Result<(), ConfigError> {
        let r = self.rollout();
        for (key, size) in [
            ("rollout.problems", r.problems),
            ("rollout.group_size", r.group_size),
            ("rollout.max_prompt_tokens", r.max_prompt_tokens),
        ] {
            check(is_size(size), key, &size, "1 to 1048576")?;
        }
        r.max_new_tokens.check_fixed()?;
        r.check_whole()?;
        let expected = "0.01 to 100: what is learned must be sampled";
        check((0.01..=100.0).contains(&r.temperature), "rollout.temperature", &r.temperature, expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "run_dir = 'r'\nmodel = 'm'\ndata = 'd'\nteacher = 't'\nsteps = 3\n";

    fn load(text: &str, set: &[&str]) -> Result<DistillConfig, TrainError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        DistillConfig::load(file.path(), &set.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_written_config_says_everything_and_is_the_same_run() {
        for (method, set) in [
            ("logits", &["algorithm.divergence=jsd", "algorithm.top_k=20"][..]),
            ("logits", &[]),
            ("samples", &[]),
            ("samples", &["teacher=''", "server={url='http://a/v1', model='m', fields={top_k=0}}"]),
            ("samples", &["filter={code=false, wrong=false}", "keep={which='first', at_most=2}"]),
            ("on-policy", &["rollout.max_new_tokens=9"]),
            ("on-policy", &["eval={data='h', every=2}"]),
        ] {
            let text = format!("{MINIMAL}[algorithm]\nmethod = '{method}'\n");
            let config = load(&text, set).expect("a config");
            let written = load(&config.to_toml(), &[]).expect("a config");
            assert_eq!(written, config.resolved());
            assert_eq!(stage::hash_config(&written), stage::hash_config(&config));
        }
        let lr = |method: &str| {
            load(MINIMAL, &[&format!("algorithm.method={method}")]).expect("a config").stage.optim.lr
        };
        assert_eq!([lr("logits"), lr("samples"), lr("on-policy")], [1e-5, 1e-5, 1e-6]);
    }

    #[test]
    fn a_method_that_is_set_over_a_written_config_brings_its_own_pieces() {
        let written = load(MINIMAL, &[]).expect("a config").to_toml();
        let text = written.replace("batch_tokens = 8192\n", "").replace("max_tokens = 1024\n", "");
        let text = text.replace("too_long = \"refuse\"\n", "");
        let config = load(&text, &["algorithm.method=on-policy"]).expect("a config");
        assert_eq!(config.algorithm.method, Method::OnPolicy);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_key() {
        for (set, expected) in [
            (&["algorithm.temprature=2"][..], "did you mean `temperature`"),
            (&["teacher_model='x'"], "did you mean `teacher`"),
            (&["epochs=2"], "one of `steps` and `epochs`"),
            (&["algorithm.beta=0.5"], "no constant of this divergence"),
            (&["algorithm.divergence=jsd", "algorithm.beta=1.0"], "above 0 and below 1"),
            (&["algorithm.divergence=jsd", "algorithm.beta=nan"], "above 0 and below 1"),
            (&["algorithm.temperature=0"], "0.01 to 100"),
            (&["algorithm.top_k_form=renormalised"], "without algorithm.top_k"),
            (
                &["algorithm.divergence=reverse", "algorithm.top_k=4", "algorithm.top_k_form=renormalised"],
                "would be infinite",
            ),
            (&["rollout.problems=4"], "samples nothing"),
            (&["teacher=''"], "the directory of the model"),
            (&["server={url='http://a/v1', model='m'}"], "absent where a [server]"),
            (&["teacher=''", "server={url='http://a/v1', model='m'}"], "no part of this method"),
            (&["algorithm.method=samples", "teacher=''", "server={url='a', model='m'}"], "`server.url` is a"),
            (&["keep={which='first'}"], "judges nothing"),
            (&["algorithm.method=samples", "algorithm.top_k=4"], "learns texts"),
            (&["algorithm.method=samples", "keep={which='preference'}"], "keep.which"),
            (&["algorithm.method=samples", "filter={wrong=true}"], "nothing says what is right"),
            (&["algorithm.method=on-policy", "algorithm.divergence=forward"], "reverse"),
            (&["algorithm.method=on-policy", "algorithm.temperature=2.0"], "rollout.temperature"),
            (&["algorithm.method=on-policy", "algorithm.top_k=3"], "no setting of this method"),
            (&["algorithm.method=on-policy", "batch_tokens=3"], "no setting of this method"),
            (&["algorithm.method=on-policy", "max_tokens=3"], "rollout.max_new_tokens"),
            (&["algorithm.method=on-policy", "rollout.temperature=0.0"], "must be sampled"),
            (&["algorithm.method=on-policy", "rollout.group_size=0"], "1 to 1048576"),
        ] {
            let error = load(MINIMAL, set).expect_err(expected).to_string();
            assert!(error.contains(expected), "{set:?}: {error}");
        }
    }
}
