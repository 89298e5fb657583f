//! What the TOML file of every stage says, and how it is read, compared and hashed.

use std::{
    collections::BTreeSet,
    fmt,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use koan_backend::ProductPrecision;
use koan_data::DataFiles;
use koan_files::{open_stream, sha256};
use koan_model::CacheForm;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use toml::{Table, Value, de::DeTable};

use super::{
    adapter::{self, AdapterConfig},
    experts::{self, ExpertsTable},
};
use crate::{
    comm::Parts,
    config::{ConfigError, check, is_list, override_key, with_nearest_name},
    optim::OptimConfig,
};

/// Longest config that is read, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The settings that all stages have, flattened into those of each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageConfig {
    /// Where everything the run makes goes.
    pub run_dir: PathBuf,
    /// The model to start from, a Hugging Face directory; `koan model init` makes a fresh one.
    pub model: PathBuf,
    /// What to learn from: problems, texts or demonstrations, in one file or several.
    pub data: DataFiles,
    /// Keys every random number of the run.
    #[serde(default)]
    pub seed: u64,
    /// In what the products of linear layers are computed.
    #[serde(default, with = "PrecisionName", skip_serializing_if = "is_native")]
    pub precision: ProductPrecision,
    /// What latent attention caches, and so by which form it is computed in all passes.
    #[serde(default, with = "CacheName", skip_serializing_if = "is_expanded")]
    pub cache: CacheForm,
    /// Parts that the completions of an update are dealt to, a power of two: each sums a gradient of its own, and these are
    /// added as a binary tree.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub shards: usize,
    /// Steps between checkpoints.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: u64,
    /// How many of the newest checkpoints are kept.
    #[serde(default = "default_checkpoints_kept")]
    pub checkpoints_kept: usize,
    /// Write the metrics as TensorBoard event files too, in `tensorboard/`.
    #[serde(default)]
    pub tensorboard: bool,
    /// How the weights are moved.
    #[serde(default)]
    pub optim: OptimConfig,
    /// Train an adapter, and freeze the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterConfig>,
    /// How the experts of a model that has them are balanced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<ExpertsTable>,
}

/// The names of [`ProductPrecision`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "ProductPrecision", rename_all = "kebab-case")]
pub(crate) enum PrecisionName {
    #[serde(rename = "native")]
    Device,
    #[serde(rename = "fp8-emulated")]
    Fp8,
    /// Of inference alone.
    #[serde(skip)]
    Int8,
}

/// The names of [`CacheForm`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "CacheForm", rename_all = "lowercase")]
pub(crate) enum CacheName {
    Expanded,
    Latent,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_expanded(cache: &CacheForm) -> bool {
    *cache == CacheForm::Expanded
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_native(precision: &ProductPrecision) -> bool {
    *precision == ProductPrecision::Device
}

/// The most shards: as many ranks can compute.
const MAX_SHARDS: usize = 4096;

fn one() -> usize {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(n: &usize) -> bool {
    *n == 1
}

fn default_checkpoint_every() -> u64 {
    100
}

fn default_checkpoints_kept() -> usize {
    2
}

impl StageConfig {
    const KEYS: [&'static str; 13] = [
        "run_dir",
        "model",
        "data",
        "seed",
        "precision",
        "cache",
        "shards",
        "checkpoint_every",
        "checkpoints_kept",
        "tensorboard",
        "optim",
        "adapter",
        "experts",
    ];
    /// As [`Settings::FREE`]; what is given by hash instead is one of them.
    const FREE: [&'static str; 7] =
        ["run_dir", "model", "data", "checkpoint_every", "checkpoints_kept", "tensorboard", "adapter.from"];

    /// How products, latent attention and the gradient are computed, in words, if not in the device's own precision, from keys and
    /// values that are expanded, and in one sum.
    pub(crate) fn explain_sums(&self) -> impl Iterator<Item = String> {
        let products = "products of linear layers: operands in E4M3, a scale for each row and 128 features, of weights for each 128 x 128, \
                        sums of 128 added in f32; emulated";
        let attention = "attention: to latents, which are the keys and values of all heads, in all passes; the latents are cached";
        let products = (self.precision == ProductPrecision::Fp8).then_some(products);
        let attention = (self.cache == CacheForm::Latent).then_some(attention);
        let gradient = (self.shards > 1)
            .then(|| format!("gradient: the sum of those of {} shards, added as a binary tree", self.shards));
        products.into_iter().chain(attention).map(str::to_owned).chain(gradient)
    }

    /// The parts of updates, for so many ranks.
    pub fn parts(&self, ranks: usize) -> Parts {
        Parts { shards: self.shards, ranks }
    }

    /// Refuses values that make no sense.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check(self.checkpoint_every > 0, "checkpoint_every", &self.checkpoint_every, "at least 1")?;
        check(self.checkpoints_kept > 0, "checkpoints_kept", &self.checkpoints_kept, "at least 1")?;
        let is_tree = self.shards.is_power_of_two() && self.shards <= MAX_SHARDS;
        check(is_tree, "shards", &self.shards, "a power of two, 1 to 4096")?;
        self.optim.check()?;
        self.experts.unwrap_or_default().check(self.adapter.is_some())?;
        self.adapter.as_ref().map_or(Ok(()), AdapterConfig::check)
    }
}

/// The settings of one stage: [`StageConfig`] and its own.
pub trait Settings: Serialize + DeserializeOwned {
    /// Its own keys and tables.
    const KEYS: &'static [&'static str];
    /// Those keys of all stages that it has no use for.
    const WITHOUT: &'static [&'static str] = &[];
    /// Those of its own settings, as `key` or `table.key`, that do not shape a run's course. They may differ when it is
    /// resumed.
    const FREE: &'static [&'static str];

    /// What all stages have.
    fn stage(&self) -> &StageConfig;

    /// Updates that a step makes.
    fn updates_per_step(&self) -> u64 {
        1
    }

    /// With everything that its values imply said outright, such as the pieces of a preset.
    #[must_use]
    fn resolved(&self) -> Self;

    /// Before `--set` gives `key` a value: forgets what `table`, the file, says that the new value decides too.
    fn before_set(_table: &mut Table, _key: &str) {}

    /// Adds to the settings of a file what they imply of others that it does not give, such as a preset's.
    fn complete(_table: &mut Table) {}

    /// A file with every table and key, for their names.
    fn sample() -> Self;

    /// All settings in force with their values, as TOML: a run of it is the same run.
    fn to_toml(&self) -> String {
        toml::to_string(&self.resolved()).expect("a config of plain values is TOML")
    }
}

/// Reads a config file, then applies `key=value` overrides in their order; what neither gives, `defaults` do, and then
/// serde's.
///
/// # Errors
/// Unknown keys (with the nearest known one), wrong types and values, with file, line and key.
pub(crate) fn read<C: Settings>(
    path: &Path,
    overrides: &[String],
    defaults: &[(&str, Value)],
) -> Result<C, ConfigError> {
    let text = read_text(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    let wrong = |message: String| ConfigError::Parse { path: path.into(), message };
    let file: Table = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let (mut table, sample) = (file.clone(), self::table(&C::sample()));
    for set in overrides {
        let key = set.split_once('=').map_or("", |(key, _)| key.trim());
        if let Some((list, _)) = key.split_once('.')
            && sample.get(list).is_some_and(Value::is_array)
        {
            return Err(ConfigError::Set { set: set.clone(), message: is_list(list) });
        }
        C::before_set(&mut table, key);
        override_key(&mut table, set).map_err(|what| ConfigError::Set { set: set.clone(), message: what })?;
    }
    let error = match config::<C>(&table, &text, defaults) {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    // Whose fault: the first of the overrides without which the error would be another.
    for (i, set) in overrides.iter().enumerate() {
        let mut without = file.clone();
        let others = overrides.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, set)| set);
        let applied = others.map(|set| override_key(&mut without, set)).all(|applied| applied.is_ok());
        if applied && config::<C>(&without, &text, defaults).err().as_ref() != Some(&error) {
            return Err(ConfigError::Set { set: set.clone(), message: error });
        }
    }
    // The text knows lines. Flattening forgets them, so the shared settings are read by themselves first.
    let with_line = toml::from_str::<StageConfig>(&text).err().or_else(|| toml::from_str::<C>(&text).err());
    let in_file = config::<C>(&file, &text, defaults).err();
    // What a key that is missing would say, another one may.
    let is_missing =
        |e: &toml::de::Error| e.message().contains("missing field") && !error.contains("missing field");
    let with_line = with_line
        .filter(|e| in_file.as_ref() == Some(&error) && !error.starts_with("line ") && !is_missing(e));
    Err(wrong(with_line.map_or(error, |e| with_nearest_name(&e.to_string(), &all_keys::<C>()))))
}

/// The config of a `table` that stands in the file `origin`, with defaults as in [`read`].
///
/// # Errors
/// Unknown keys (with the nearest known one), wrong types and values, with the file and the key.
pub(crate) fn of_table<C: Settings>(
    table: &Table,
    origin: &Path,
    defaults: &[(&str, Value)],
) -> Result<C, ConfigError> {
    config(table, "", defaults).map_err(|message| ConfigError::Parse { path: origin.into(), message })
}

/// Reads a part `P` of a config file of `C`, whose other keys may be missing.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_part<C: Settings, P: DeserializeOwned>(path: &Path) -> Result<P, ConfigError> {
    let text = read_text(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    let wrong = |message: String| ConfigError::Parse { path: path.into(), message };
    let table: Table = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    refuse_unknown_keys::<C>(&table, &text).map_err(wrong)?;
    toml::from_str(&text).map_err(|e| wrong(with_nearest_name(&e.to_string(), &all_keys::<C>())))
}

/// The config of `table`, or what is wrong with it; `text` knows lines.
fn config<C: Settings>(table: &Table, text: &str, defaults: &[(&str, Value)]) -> Result<C, String> {
    refuse_unknown_keys::<C>(table, text)?;
    let mut table = table.clone();
    C::complete(&mut table);
    for (key, value) in defaults {
        fill(&mut table, key, value);
    }
    table.try_into().map_err(|e: toml::de::Error| with_nearest_name(&e.to_string(), &all_keys::<C>()))
}

/// Every key that a file may have, with its table: `optim.lr`.
pub(crate) fn all_keys<C: Settings>() -> Vec<String> {
    fn add(prefix: &str, table: &Table, keys: &mut Vec<String>) {
        for (key, value) in table {
            match value {
                Value::Table(table) => add(&format!("{prefix}{key}."), table, keys),
                _ => keys.push(format!("{prefix}{key}")),
            }
        }
    }
    let mut keys = Vec::new();
    add("", &table(&C::sample()), &mut keys);
    let others = experts::KEYS.into_iter().chain(["optim.warmup_share", "precision", "cache", "shards"]);
    keys.extend(adapter::KEYS.into_iter().chain(others).map(str::to_owned));
    keys
}

/// The text of a config, which is no longer than a config may be.
fn read_text(path: &Path) -> io::Result<String> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut bytes = Vec::new();
    open_stream(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(invalid(format!("it has more than {MAX_BYTES} bytes: not a config")));
    }
    String::from_utf8(bytes).map_err(|_| invalid("it is not text in UTF-8".to_owned()))
}

/// Refuses keys at the top of a file that neither all stages nor `C` has, as serde refuses those of a table.
fn refuse_unknown_keys<C: Settings>(table: &Table, text: &str) -> Result<(), String> {
    let known = || StageConfig::KEYS.iter().filter(|key| !C::WITHOUT.contains(key)).chain(C::KEYS);
    let Some(unknown) = table.keys().find(|key| !known().any(|known| known == key)) else { return Ok(()) };
    let lines = DeTable::parse(text).ok();
    let keys = lines.iter().flat_map(|table| table.get_ref().keys());
    let place = keys.filter(|key| key.get_ref() == unknown).map(|key| {
        let line = 1 + text[..key.span().start].matches('\n').count();
        format!("line {line}: ")
    });
    let place: String = place.take(1).collect();
    let names: Vec<String> = known().map(|key| format!("`{key}`")).collect();
    let message = format!("{place}unknown field `{unknown}`, expected one of {}", names.join(", "));
    Err(with_nearest_name(&message, &all_keys::<C>()))
}

/// Sets `key` or `table.key` where it is not given.
pub(crate) fn fill(table: &mut Table, key: &str, value: &Value) {
    match key.split_once('.') {
        None => _ = table.entry(key).or_insert_with(|| value.clone()),
        Some((section, key)) => {
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = section {
                fill(section, key, value);
            }
        }
    }
}

/// SHA-256 of the settings that shape a run's course.
pub fn hash_config<C: Settings>(config: &C) -> String {
    sha256(shaping::<C>(table(config)).to_string())
}

/// A setting that shapes a run's course, with the values that it began with and that it is to go on with.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// The key, with its table.
    pub key: String,
    /// Its value at the start; none if it was not given.
    pub began: Option<Value>,
    /// Its value now.
    pub now: Option<Value>,
}

/// `optim.lr (1e-6, now 2e-6)`
impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let value = |value: &Option<Value>| value.as_ref().map_or("not given".to_owned(), Value::to_string);
        write!(f, "{} ({}, now {})", self.key, value(&self.began), value(&self.now))
    }
}

/// The settings that shape a run's course in which `config` differs from `started`, which a run began with.
pub(super) fn changes<C: Settings>(started: Table, config: &C) -> Vec<Changed> {
    // As this version writes it: an option that came since has its default.
    let started = started.clone().try_into::<C>().map_or(started, |started| table(&started));
    let mut changed = Vec::new();
    compare("", &shaping::<C>(started), &shaping::<C>(table(config)), &mut changed);
    changed
}

fn table<C: Settings>(config: &C) -> Table {
    config.to_toml().parse().expect("written by `to_toml`")
}

/// The settings that shape a run's course. A constant learning rate does not depend on how long the run is, unless its warm-up
/// does; nor do updates that do not grow, nor a bias of experts that moves to the end.
fn shaping<C: Settings>(mut table: Table) -> Table {
    for key in StageConfig::FREE.iter().chain(C::FREE) {
        match key.split_once('.') {
            None => table.remove(*key),
            Some((section, key)) => {
                table.get_mut(section).and_then(Value::as_table_mut).and_then(|t| t.remove(key))
            }
        };
    }
    let optim = |key| table.get("optim").and_then(|optim| optim.get(key));
    let is_constant = optim("schedule").and_then(Value::as_str) == Some("constant");
    let experts = table.get("experts").and_then(|experts| experts.clone().try_into::<ExpertsTable>().ok());
    let bias_stays = experts.is_some_and(|experts| experts.depends_on_length());
    let grows = table.contains_key("batch_growth");
    if is_constant && optim("warmup_share").is_none() && !grows && !bias_stays {
        table.remove("steps");
        table.remove("epochs");
    }
    table
}

/// Adds the keys in which two tables differ, after `prefix`.
fn compare(prefix: &str, a: &Table, b: &Table, changed: &mut Vec<Changed>) {
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for key in keys {
        match (a.get(key), b.get(key)) {
            (Some(Value::Table(a)), Some(Value::Table(b))) => {
                compare(&format!("{prefix}{key}."), a, b, changed);
            }
            (a, b) if a != b => {
                changed.push(Changed { key: format!("{prefix}{key}"), began: a.cloned(), now: b.cloned() });
            }
            _ => {}
        }
    }
}
