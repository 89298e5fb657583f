//! PEFT's directory of an adapter: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Which layers are adapted is read from the tensors, and each layer's rank from its A; the config says how they are scaled.
//! What would change the result and is not computed is refused by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use koan_files::{FilesError, read_bounded, write_synced};
use serde_json::{Map, Value, json};

use super::{Adapter, AdapterError, AdapterSpec, EXPERTS, LowRank, MAX_RANK, Targets};
use crate::{Config, HeadKind, safetensors_file::Reader};

/// The file of weights.
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";
/// What the names of an adapter's tensors begin with.
pub(crate) const PREFIX: &str = "base_model.model.";
/// The embedding's tensor.
const EMBEDDING: &str = "model.embed_tokens.weight";
/// The config's file.
const CONFIG: &str = "adapter_config.json";
/// Largest config that is read, bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// What to do about an adapter that is not computed.
const MERGE: &str = "merge it into its base model with PEFT's `merge_and_unload`, and give the merged model";
/// The same, of one whose weights refer to a changed base.
const CONVERT: &str = "its base model was changed when it began; save it with PEFT's `path_initial_model_for_weight_conversion`, or merge it with PEFT";

/// Keys that are read, or that change nothing about what a trained adapter computes.
const KNOWN: [&str; 30] = [
    "peft_type",
    "task_type",
    "base_model_name_or_path",
    "r",
    "lora_alpha",
    "use_rslora",
    "alpha_pattern",
    "rank_pattern",
    "bias",
    "lora_bias",
    "modules_to_save",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "init_lora_weights",
    "fan_in_fan_out",
    "inference_mode",
    "lora_dropout",
    "revision",
    "auto_mapping",
    "peft_version",
    "megatron_config",
    "megatron_core",
    "qalora_group_size",
    "loftq_config",
    "corda_config",
    "eva_config",
    "lora_ga_config",
    "ensure_weight_tying",
];

/// How A and B may have begun: the base model is then as published.
const PLAIN_INITS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Whether `dir` is the directory of an adapter.
pub(crate) fn is_adapter(dir: &Path) -> bool {
    dir.join(CONFIG).is_file() && !dir.join("config.json").exists()
}

/// The config of the adapter in `dir`.
struct File<'a> {
    raw: Map<String, Value>,
    dir: &'a Path,
}

/// What the adapter in `dir` names as its base model.
///
/// # Errors
/// If it names none, or its config can't be read.
pub(crate) fn base_name(dir: &Path) -> Result<Option<String>, AdapterError> {
    let file = File::open(dir)?;
    Ok(file.raw.get("base_model_name_or_path").and_then(Value::as_str).map(str::to_owned))
}

/// The model of `base` with the adapter that lies in `dir`.
///
/// # Errors
/// A config that asks for what is not computed, or tensors that are not an adapter's, each by name.
pub(crate) fn read(dir: &Path, base: &Config) -> Result<Config, AdapterError> {
    let file = File::open(dir)?;
    file.refuse_what_is_not_computed()?;
    let base = match file.raw.get("task_type").and_then(Value::as_str) {
        Some("SEQ_CLS") if base.head == HeadKind::Language => {
            base.with_scalar_head(base.padding().unwrap_or(0), false)
        }
        _ => base.clone(),
    };
    let weights = dir.join(WEIGHTS);
    if !weights.exists() && dir.join("adapter_model.bin").exists() {
        return Err(AdapterError::Pickled { path: dir.into() });
    }
    let (rank, alpha) = (file.rank()?, file.number("lora_alpha", 8.0)?);
    let rslora = file.flag("use_rslora")?;
    let patterns = file.alpha_patterns()?;
    let scale = |path: &str, rank: usize| {
        let own = patterns.iter().find(|(pattern, _)| pattern.matches(path));
        let alpha = own.map_or(alpha, |(_, alpha)| *alpha);
        AdapterSpec { rank, alpha, rslora, targets: Targets::AllLinear }.scale(rank)
    };
    let (linear, experts) = (base.linear_layers(), base.expert_layers());
    let reader = Reader::open(&weights)?;
    let names: BTreeSet<String> = base.tensors().into_iter().map(|info| info.name).collect();
    let (mut layers, mut replaced) = (BTreeMap::new(), BTreeMap::new());
    for name in reader.names() {
        let wrong =
            |what: &str| AdapterError::Tensor { name: name.clone(), what: what.into(), path: dir.into() };
        let Some(inner) = name.strip_prefix(PREFIX) else {
            return Err(wrong("the names of PEFT's tensors begin with `base_model.model.`"));
        };
        if inner.contains("lora_embedding_") {
            return Err(wrong("adapters of embeddings are not computed"));
        }
        if inner.contains("lora_magnitude_vector") {
            return Err(wrong("adapters with magnitudes (DoRA) are not computed"));
        }
        let low_rank = [".lora_A.weight", ".lora_B.weight", ".lora_B.bias"];
        if let Some(path) = low_rank.iter().find_map(|end| inner.strip_suffix(end)) {
            if let Some((stack, expert)) = of_expert(path)
                && let Some(&shape) = experts.get(&stack)
            {
                let of_all = match layers.get(&stack) {
                    Some(LowRank { rank, .. }) => *rank,
                    None => expert_ranks(&reader, &stack, shape).map_err(|what| wrong(&what))?,
                };
                let low_rank = LowRank { rank: of_all, scale: scale(path, of_all), bias: false };
                if expert >= shape[0] || inner.strip_suffix(".lora_B.bias").is_some() {
                    return Err(wrong("the base model has no such expert, or the adapter has a bias"));
                }
                if layers.insert(stack, low_rank).is_some_and(|other: LowRank| other != low_rank) {
                    return Err(wrong("the experts of a layer have adapters of several scales"));
                }
                continue;
            }
            if path.ends_with(EXPERTS.trim_end_matches('.')) || path.ends_with(".experts.base_layer") {
                return Err(wrong(
                    "it adapts the experts of a layer as one parameter (PEFT's `target_parameters`), which is not read; an adapter of each expert's layers is",
                ));
            }
            let Some(shape) = linear.get(path) else {
                return Err(wrong(&format!("the base model has no linear layer `{path}` that is adapted")));
            };
            let down = format!("{PREFIX}{path}.lora_A.weight");
            let Some(&[rank, in_features]) = reader.shape(&down) else {
                return Err(wrong(&format!("it has no matrix `{down}` beside it")));
            };
            if in_features != shape[1] {
                let [_, expected] = shape;
                return Err(wrong(&format!(
                    "it reads {in_features} features, but `{path}` of the base model reads {expected}: the adapter is of another base model"
                )));
            }
            if !(1..=MAX_RANK).contains(&rank) {
                return Err(AdapterError::Rank { rank });
            }
            let bias = reader.shape(&format!("{PREFIX}{path}.lora_B.bias")).is_some();
            layers.insert(path.to_owned(), LowRank { rank, scale: scale(path, rank), bias });
            continue;
        }
        let own = inner.replace(".base_layer.", ".");
        if !names.contains(&own) {
            return Err(wrong("the base model has no such tensor"));
        }
        if own == EMBEDDING && base.tie_word_embeddings && !file.flag("ensure_weight_tying")? {
            return Err(wrong(
                "the base model's output head is its embedding, and it has another one of the two; merge it with PEFT",
            ));
        }
        replaced.insert(own, name.clone());
    }
    if layers.is_empty() {
        let what = format!("no tensor of {WEIGHTS} is a low-rank matrix (lora_A, lora_B)");
        return Err(file.wrong(what));
    }
    let mut adapter =
        Adapter { spec: AdapterSpec { rank, alpha, rslora, targets: Targets::AllLinear }, layers, replaced };
    let targets = adapter.targets().into_iter().map(str::to_owned).collect();
    adapter.spec.targets = Targets::Suffixes(targets);
    Ok(Config { adapter: Some(adapter), ..base })
}

/// The layer of all experts, and the expert, that a path of one expert's layer names: `mlp.experts.up_proj` and 3 of
/// `mlp.experts.3.up_proj`.
fn of_expert(path: &str) -> Option<(String, usize)> {
    let (before, after) = path.split_once(EXPERTS)?;
    let (expert, name) = after.split_once('.')?;
    Some((format!("{before}{EXPERTS}{name}"), expert.parse().ok()?))
}

/// What PEFT calls the layer of expert `e` of those that `path` stands for.
fn path_of_expert(path: &str, e: usize) -> String {
    match path.split_once(EXPERTS) {
        Some((before, name)) => format!("{before}{EXPERTS}{e}.{name}"),
        None => path.replacen(&EXPERTS[1..], &format!("{}{e}.", &EXPERTS[1..]), 1),
    }
}

/// The rank of the adapters of all experts of layer `stack`.
///
/// # Errors
/// In words, if an expert has none, or they do not have one shape.
fn expert_ranks(reader: &Reader, stack: &str, [experts, _, inp]: [usize; 3]) -> Result<usize, String> {
    let mut of_all = None;
    for e in 0..experts {
        let down = format!("{PREFIX}{}.lora_A.weight", path_of_expert(stack, e));
        match (reader.shape(&down), of_all) {
            (None, _) => {
                return Err(format!(
                    "expert {e} has no `{down}`: all experts of a layer are adapted, or none"
                ));
            }
            (Some(&[rank, features]), None) if features == inp && (1..=MAX_RANK).contains(&rank) => {
                of_all = Some(rank);
            }
            (Some(&[rank, features]), Some(other)) if features == inp && rank == other => {}
            (Some(shape), _) => {
                return Err(format!(
                    "`{down}` has shape {shape:?}: the adapters of a layer's experts have one rank, and read {inp} features"
                ));
            }
        }
    }
    of_all.ok_or_else(|| "it adapts no expert".to_owned())
}

/// Writes the config of the adapter of `config`, whose base model is `base`, into directory `dir`.
///
/// # Errors
/// If it can't be written.
pub(crate) fn write_config(dir: &Path, config: &Config, base: &Path) -> Result<(), FilesError> {
    let Some(adapter) = &config.adapter else { return Ok(()) };
    let AdapterSpec { rank, alpha, rslora, targets } = &adapter.spec;
    let targets: Vec<&str> = match targets {
        Targets::AllLinear => adapter.targets(),
        Targets::Suffixes(suffixes) => suffixes.iter().map(String::as_str).collect(),
    };
    // PEFT knows each expert by its number.
    let experts = config.experts.map_or(0, |experts| experts.routed);
    let each = |target: &str| {
        if target.starts_with(&EXPERTS[1..]) || target.contains(EXPERTS) {
            return (0..experts).map(|e| path_of_expert(target, e)).collect();
        }
        vec![target.to_owned()]
    };
    let mut targets: Vec<String> = targets.into_iter().flat_map(each).collect();
    targets.sort_unstable();
    targets.dedup();
    let scalar = config.head == HeadKind::Scalar;
    let whole = alpha.fract() == 0.0 && *alpha < 1e15;
    let text = json!({
        "alpha_pattern": {},
        "auto_mapping": null,
        "base_model_name_or_path": base.to_string_lossy(),
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": if whole { json!(*alpha as u64) } else { json!(alpha) },
        "lora_dropout": 0.0,
        "modules_to_save": scalar.then_some(["score"]),
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {},
        "revision": null,
        "target_modules": targets,
        "task_type": if scalar { "SEQ_CLS" } else { "CAUSAL_LM" },
        "use_dora": false,
        "use_rslora": rslora,
    });
    write_synced(&dir.join(CONFIG), format!("{text:#}\n").as_bytes())
}

/// A key of `alpha_pattern`, which PEFT takes for a regular expression of the end of a layer's path.
struct Pattern {
    text: String,
    /// Whether it is the whole path.
    whole: bool,
}

impl Pattern {
    fn matches(&self, path: &str) -> bool {
        let before = path.strip_suffix(self.text.as_str());
        before.is_some_and(|before| before.is_empty() || (!self.whole && before.ends_with('.')))
    }
}

impl<'a> File<'a> {
    fn open(dir: &'a Path) -> Result<Self, AdapterError> {
        let path = dir.join(CONFIG);
        if !path.is_file() {
            return Err(AdapterError::NotAnAdapter { path: dir.into() });
        }
        let wrong = |what: String| AdapterError::Config { path: path.clone(), what };
        let text = read_bounded(&path, MAX_CONFIG_BYTES).map_err(|e| wrong(e.to_string()))?;
        let text = text.ok_or_else(|| wrong(format!("it has more than {MAX_CONFIG_BYTES} bytes")))?;
        let raw = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        Ok(Self { raw, dir })
    }

    fn wrong(&self, what: String) -> AdapterError {
        AdapterError::Config { path: self.dir.join(CONFIG), what }
    }

    fn unsupported(&self, key: &str, value: &Value, remedy: &'static str) -> AdapterError {
        let mut value = value.to_string();
        if value.len() > 200 {
            value = format!("{}…", value.chars().take(200).collect::<String>());
        }
        AdapterError::Unsupported { key: key.into(), value, remedy, path: self.dir.join(CONFIG) }
    }

    /// The value of a key that is set to something.
    fn set(&self, key: &str) -> Option<&Value> {
        self.raw.get(key).filter(|value| is_set(value))
    }

    fn refuse_what_is_not_computed(&self) -> Result<(), AdapterError> {
        let name = |key: &str| self.raw.get(key).and_then(Value::as_str);
        if name("peft_type") != Some("LORA") {
            let value = self.raw.get("peft_type").unwrap_or(&Value::Null);
            return Err(self.unsupported("peft_type", value, "it reads adapters of type LORA"));
        }
        if let Some(value) = self.set("task_type").filter(|v| *v != "CAUSAL_LM" && *v != "SEQ_CLS") {
            return Err(self.unsupported("task_type", value, "it reads CAUSAL_LM and SEQ_CLS"));
        }
        if let Some(value) = self.set("init_lora_weights")
            && value != true
            && !value.as_str().is_some_and(|init| PLAIN_INITS.contains(&init))
        {
            return Err(self.unsupported("init_lora_weights", value, CONVERT));
        }
        if let Some(value) = self.set("bias")
            && !["none", "all", "lora_only"].iter().any(|known| value == known)
        {
            return Err(self.unsupported("bias", value, "it is none, all or lora_only"));
        }
        let unknown = self.raw.iter().find(|(key, value)| !KNOWN.contains(&&key[..]) && is_set(value));
        unknown.map_or(Ok(()), |(key, value)| Err(self.unsupported(key, value, MERGE)))
    }

    fn rank(&self) -> Result<usize, AdapterError> {
        let Some(value) = self.raw.get("r") else { return Ok(8) };
        let rank = value.as_u64().and_then(|rank| usize::try_from(rank).ok());
        let rank = rank.ok_or_else(|| self.wrong(format!("`r` is {value}, not a rank")))?;
        if (1..=MAX_RANK).contains(&rank) { Ok(rank) } else { Err(AdapterError::Rank { rank }) }
    }

    fn number(&self, key: &str, default: f64) -> Result<f64, AdapterError> {
        let Some(value) = self.raw.get(key) else { return Ok(default) };
        let number = value.as_f64().filter(|number| number.is_finite());
        number.ok_or_else(|| self.wrong(format!("`{key}` is {value}, not a number")))
    }

    fn flag(&self, key: &str) -> Result<bool, AdapterError> {
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => Err(self.wrong(format!("`{key}` is {value}, not true or false"))),
        }
    }

    /// The layers that have an alpha of their own.
    fn alpha_patterns(&self) -> Result<Vec<(Pattern, f64)>, AdapterError> {
        let Some(value) = self.set("alpha_pattern") else { return Ok(Vec::new()) };
        let Some(patterns) = value.as_object() else {
            return Err(self.wrong(format!("`alpha_pattern` is {value}, not an object")));
        };
        let pattern = |(key, alpha): (&String, &Value)| {
            let alpha = alpha.as_f64().filter(|alpha| alpha.is_finite());
            let alpha =
                alpha.ok_or_else(|| self.wrong(format!("`alpha_pattern` of `{key}` is no number")))?;
            let (whole, text) = key.strip_prefix('^').map_or((false, &key[..]), |text| (true, text));
            let text = text.strip_suffix('$').unwrap_or(text).replace("\\.", ".");
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            if !text.chars().all(plain) {
                let remedy = "it reads names of layers there, not regular expressions; merge it with PEFT's `merge_and_unload`";
                return Err(self.unsupported("alpha_pattern", value, remedy));
            }
            Ok((Pattern { text, whole }, alpha))
        };
        patterns.iter().map(pattern).collect()
    }
}

/// Whether a value says something: it is not null, false or empty.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(values) => !values.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

impl Config {
    /// This model with the adapter in `dir`, for training that goes on from it.
    ///
    /// # Errors
    /// An adapter that is refused, or has more than low-rank matrices of one rank and scale.
    pub fn with_adapter_from(&self, dir: &Path) -> Result<Self, AdapterError> {
        let config = read(dir, self)?;
        let trainable = config.adapter.as_ref().map_or(Ok(()), Adapter::check_trainable);
        trainable.map_err(|what| AdapterError::NotTrainable { what, path: dir.into() })?;
        Ok(config)
    }
}
