//! Settings as users write them: TOML files and `--set key=value`. What is wrong is said with its place, and an unknown
//! key with the nearest known one.

use std::path::PathBuf;

use toml::{Table, Value};

/// Why a config was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It does not parse.
    #[error("in `{}`: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and key.
        message: String,
    },
    /// What `--set` says does not fit.
    #[error("--set {set}: {message}")]
    Set {
        /// `KEY=VALUE` as it was given.
        set: String,
        /// What is wrong.
        message: String,
    },
    /// A value makes no sense.
    #[error("`{key}` is {value}: {expected}")]
    Value {
        /// The key, with its table.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl ConfigError {
    /// The same, said of the last of `overrides` that gave the value, if one did.
    pub(crate) fn of_set(self, overrides: &[String]) -> Self {
        let Self::Value { key, value, expected } = &self else { return self };
        let gave = |set: &&String| set.split_once('=').is_some_and(|(name, _)| name.trim() == *key);
        match overrides.iter().rfind(gave) {
            Some(set) => Self::Set { set: set.clone(), message: format!("`{key}` is {value}: {expected}") },
            None => self,
        }
    }
}

/// Refuses a value that makes no sense.
pub(crate) fn check(
    ok: bool,
    key: &'static str,
    value: &dyn ToString,
    expected: &'static str,
) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(ConfigError::Value { key, value: value.to_string(), expected }) }
}

/// Refuses a number of steps that can't be meant, and by which counts of updates would overflow.
pub(crate) fn check_steps(steps: Option<u64>) -> Result<(), ConfigError> {
    let steps = steps.unwrap_or(1);
    check((1..=1_000_000_000).contains(&steps), "steps", &steps, "1 to 1000000000")
}

/// Whether a count is one that can be meant.
pub(crate) fn is_size(n: usize) -> bool {
    (1..=1 << 20).contains(&n)
}

/// Says why `--set` can't reach into a list of tables.
pub(crate) fn is_list(key: &str) -> String {
    format!("`{key}` is a list of tables ([[{key}]]): change it in the file")
}

/// Sets `a.b=value` in a table; the value is TOML, or a bare string.
///
/// # Errors
/// What is no `KEY=VALUE`, or a key within something that is no table; in words.
pub fn override_key(table: &mut Table, set: &str) -> Result<(), String> {
    let (key, value) = set.split_once('=').ok_or("expected KEY=VALUE, as in optim.lr=1e-6")?;
    let value = value.trim();
    let parsed = toml::from_str::<Table>(&format!("v = {value}")).ok().and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| Value::String(value.into()));
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    let last = parts.pop().filter(|k| !k.is_empty()).ok_or("expected KEY=VALUE, as in optim.lr=1e-6")?;
    let mut at = table;
    for part in parts {
        let next = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        at = match next {
            Value::Table(table) => table,
            Value::Array(_) => return Err(is_list(part)),
            _ => return Err(format!("`{part}` is not a table")),
        };
    }
    at.insert(last.into(), value);
    Ok(())
}

/// What options of other frameworks are called here; their names as TRL, verl and OpenRLHF have them.
const ELSEWHERE: [(&[&str], &str); 24] = [
    (&["learning_rate"], "optim.lr"),
    (&["lr_scheduler_type", "lr_scheduler"], "optim.schedule"),
    (&["lr_warmup_steps"], "optim.warmup_steps"),
    (&["warmup_ratio"], "optim.warmup_share"),
    (&["max_grad_norm", "clip_grad"], "optim.grad_clip"),
    (&["adam_beta1"], "optim.beta1"),
    (&["adam_beta2"], "optim.beta2"),
    (&["adam_epsilon"], "optim.eps"),
    (&["gradient_checkpointing"], "optim.recompute"),
    (&["per_device_train_batch_size", "train_batch_size", "batch_size"], "rollout.problems"),
    (&["num_generations", "n_samples_per_prompt", "n", "samples_per_prompt"], "rollout.group_size"),
    (
        &["max_completion_length", "max_response_length", "max_tokens", "generate_max_len"],
        "rollout.max_new_tokens",
    ),
    (&["max_prompt_length", "prompt_max_len"], "rollout.max_prompt_tokens"),
    (&["beta", "kl_coef", "kl_loss_coef", "init_kl_coef"], "algorithm.kl"),
    (&["epsilon", "clip_ratio", "eps_clip", "cliprange"], "algorithm.clip"),
    (&["epsilon_high", "clip_ratio_high"], "algorithm.clip_high"),
    (&["loss_type", "adv_estimator", "loss_agg_mode"], "algorithm.preset, or algorithm.aggregation"),
    (&["mask_truncated_completions"], "algorithm.mask_truncated"),
    (&["max_steps", "num_train_steps", "total_training_steps"], "steps"),
    (&["save_steps", "save_freq"], "checkpoint_every"),
    (&["lora_rank", "lora_r", "r"], "adapter.rank"),
    (&["lora_alpha"], "adapter.alpha"),
    (&["target_modules", "lora_target_modules"], "adapter.targets"),
    (&["use_rslora"], "adapter.rslora"),
];

/// Adds the nearest known name to serde's "unknown field `x`, expected one of `a`, `b`"; `keys` are those of the whole file, with
/// their tables: a key may be known in another one.
pub fn with_nearest_name(message: &str, keys: &[String]) -> String {
    /// Similarity from which a name may have been meant: above what words that merely share a few letters have.
    const MEANT: f64 = 0.75;
    let message = message.trim_end();
    let names: Vec<&str> = match message.split_once("unknown field") {
        Some((_, rest)) => rest.split('`').skip(1).step_by(2).collect(),
        None => return message.into(),
    };
    let Some((unknown, known)) = names.split_first() else { return message.into() };
    let name_of = |key: &String| key.rsplit('.').next().is_some_and(|name| name == *unknown);
    let of_others = ELSEWHERE.iter().find(|(words, _)| words.contains(unknown)).map(|(_, key)| *key);
    let of_others = of_others.filter(|key| key.contains(',') || keys.iter().any(|known| known == key));
    if let Some(key) = of_others {
        return format!("{message}\nit is called `{key}` here");
    }
    // A key that a run and its measurement both have is meant of the run.
    let of_run = keys.iter().find(|key| name_of(key) && !key.starts_with("eval."));
    if let Some(key) = of_run.or_else(|| keys.iter().find(|key| name_of(key))) {
        return format!("{message}\ndid you mean `{key}`?");
    }
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
