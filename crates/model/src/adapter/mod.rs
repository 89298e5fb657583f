//! Low-rank adapters (LoRA, arXiv:2106.09685): what an adapter adds to which linear layers of a model.
//!
//! - [`AdapterSpec`]: what is to be adapted, as a config of training says it,
//! - [`Adapter`]: what an adapter is, layer by layer; it is a part of the [`Config`](crate::Config), so that its tensors
//!   are tensors of the model,
//! - `peft.rs`: PEFT's directories, in and out,
//! - `merge.rs`: weights with an adapter in them.

mod error;
mod merge;
mod peft;

use std::collections::BTreeMap;

pub use error::AdapterError;
pub(crate) use merge::{check_mergeable, merged};
pub(crate) use peft::{PREFIX, WEIGHTS, base_name, is_adapter, read, write_config};

use crate::{Config, HeadKind, Role, TensorInfo, safetensors_file::Entry};

/// Largest rank that is accepted.
const MAX_RANK: usize = 4096;
/// The scalar head, which is trained whole beside an adapter.
const SCORE: &str = "score.weight";
/// What the paths of routed experts have.
const EXPERTS: &str = ".experts.";

/// Which linear layers are adapted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// All of them; the output head, routers and routed experts are none of them.
    AllLinear,
    /// Those whose path ends in one of these: `q_proj`, or `mlp.up_proj`, or all of `model.layers.0.self_attn.q_proj`. Routed
    /// experts are of those that name them: `experts.up_proj`, of all experts.
    Suffixes(Vec<String>),
}

/// What an adapter is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterSpec {
    /// The inner dimension of what is added to each matrix.
    pub rank: usize,
    /// α: what is added is scaled by α / rank.
    pub alpha: f64,
    /// Scale by α / √rank instead (rank-stabilised, arXiv:2312.03732).
    pub rslora: bool,
    /// Which layers are adapted.
    pub targets: Targets,
}

impl AdapterSpec {
    /// s
    fn scale(&self, rank: usize) -> f32 {
        let rank = rank as f64;
        (self.alpha / if self.rslora { rank.sqrt() } else { rank }) as f32
    }
}

/// What an adapter adds to one linear layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LowRank {
    /// The inner dimension.
    pub rank: usize,
    /// s, by which `B A x` is multiplied.
    pub scale: f32,
    /// Whether B has a bias.
    pub bias: bool,
}

/// An adapter on a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// What its file says of all layers; a layer of another rank has its own.
    pub spec: AdapterSpec,
    /// What it adds to each layer that it adapts, by the layer's path.
    layers: BTreeMap<String, LowRank>,
    /// Tensors of the base model that it has other values of, with the names of its entries: biases, a head.
    replaced: BTreeMap<String, String>,
}

impl Adapter {
    /// What it adds to the layer at `path`.
    pub(crate) fn of(&self, path: &str) -> Option<LowRank> {
        self.layers.get(path).copied()
    }

    /// The tensor as it is in a model with this adapter: where its values lie, and whether training changes it.
    pub(crate) fn place(&self, mut info: TensorInfo) -> TensorInfo {
        info.trained = info.role.is_adapter() || info.name == SCORE;
        if info.role.is_adapter() || info.name.ends_with(".lora_B.bias") {
            info.entries.iter_mut().for_each(|entry| entry.name.insert_str(0, PREFIX));
        } else if let Some(name) = self.replaced.get(&info.name).cloned() {
            info.entries = vec![Entry { name, shape: info.shape.clone() }];
        }
        info
    }

    /// Whether its files hold the values of a tensor that [`place`](Self::place) gave.
    pub(crate) fn holds(info: &TensorInfo) -> bool {
        info.entries.iter().all(|entry| entry.name.starts_with(PREFIX))
    }

    /// By what the file's values of a bias on B are multiplied.
    pub(crate) fn bias_scale(&self, info: &TensorInfo) -> Option<f32> {
        Some(self.layers.get(info.name.strip_suffix(".lora_B.bias")?)?.scale)
    }

    /// The largest rank of a layer.
    pub fn largest_rank(&self) -> usize {
        self.layers.values().map(|low_rank| low_rank.rank).max().unwrap_or(0)
    }

    /// How many layers it adapts.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// The last names of the paths of the layers that it adapts, each once: `q_proj`, …, of experts `experts.up_proj`, …
    pub fn targets(&self) -> Vec<&str> {
        let name = |path: &'_ str| match path.rfind(EXPERTS) {
            Some(start) => start + 1,
            None => path.rfind('.').map_or(0, |dot| dot + 1),
        };
        let mut names: Vec<&str> = self.layers.keys().map(|path| &path[name(path)..]).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The names of the tensors that it replaces in its base model.
    pub fn replaced(&self) -> impl Iterator<Item = &str> {
        self.replaced.keys().map(String::as_str)
    }

    /// Whether training can go on from it: it has low-rank matrices alone, of one rank and scale.
    ///
    /// # Errors
    /// What else it has, in words.
    fn check_trainable(&self) -> Result<(), String> {
        let spec = &self.spec;
        if let Some(name) = self.replaced.keys().find(|name| *name != SCORE) {
            return Err(format!("values of its own for `{name}` of the base model"));
        }
        for (path, low_rank) in &self.layers {
            if low_rank.bias {
                return Err(format!("a bias on B of `{path}`"));
            }
            if low_rank.rank != spec.rank || low_rank.scale != spec.scale(spec.rank) {
                return Err(format!("another rank or alpha for `{path}` than for other layers"));
            }
        }
        Ok(())
    }
}

impl Config {
    /// The model without its adapter.
    #[must_use]
    pub fn base(&self) -> Self {
        Self { adapter: None, ..self.clone() }
    }

    /// The tensors of the base model as they are under the adapter, in the order of [`Config::tensors`] of the base.
    pub(crate) fn tensors_of_base(&self) -> Vec<TensorInfo> {
        let place = |info| match &self.adapter {
            Some(adapter) => adapter.place(info),
            None => info,
        };
        self.base().tensors().into_iter().map(place).collect()
    }

    /// The paths of the linear layers that can be adapted, with their shapes `[out_features, in_features]`.
    fn linear_layers(&self) -> BTreeMap<String, [usize; 2]> {
        let layers = self.base().tensors().into_iter().filter(|info| info.role == Role::Product);
        layers
            .filter(|info| info.name != SCORE)
            .filter_map(|info| Some((info.name.strip_suffix(".weight")?.to_owned(), info.matrix())))
            .collect()
    }

    /// The paths of the layers of routed experts, each standing for that of all experts of a layer, with their shapes
    /// `[experts, out_features, in_features]`.
    fn expert_layers(&self) -> BTreeMap<String, [usize; 3]> {
        let layers = self.base().tensors().into_iter().filter(|info| info.role == Role::Expert);
        layers
            .filter_map(|info| Some((info.name.strip_suffix(".weight")?.to_owned(), info.matrices())))
            .collect()
    }

    /// This model with a fresh adapter on it, which is what training then changes.
    ///
    /// # Errors
    /// A rank or an alpha that makes no sense, no targets, or one that no layer has.
    pub fn with_adapter(&self, spec: AdapterSpec) -> Result<Self, AdapterError> {
        // What is saved is the adapter alone: nothing needs the modules.
        if self.multi_token_layers > 0 {
            return self.clone().without_modules().with_adapter(spec);
        }
        let experts = self.expert_layers().into_keys();
        let layers: Vec<String> = self.linear_layers().into_keys().chain(experts).collect();
        if !(1..=MAX_RANK).contains(&spec.rank) {
            return Err(AdapterError::Rank { rank: spec.rank });
        }
        if !(spec.alpha > 0.0 && f64::from(spec.scale(spec.rank)).is_finite()) {
            return Err(AdapterError::Alpha { alpha: spec.alpha });
        }
        let ends = |path: &str, suffix: &str| {
            let before = path.strip_suffix(suffix);
            let names_experts = suffix.starts_with(&EXPERTS[1..]) || suffix.contains(EXPERTS);
            before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
                && (names_experts || !path.contains(EXPERTS))
        };
        let is_target: Box<dyn Fn(&str) -> bool> = match &spec.targets {
            Targets::AllLinear => Box::new(|path| !path.contains(EXPERTS)),
            Targets::Suffixes(suffixes) => {
                if suffixes.is_empty() {
                    return Err(AdapterError::NoTargets);
                }
                let unknown = suffixes.iter().find(|suffix| !layers.iter().any(|path| ends(path, suffix)));
                if let Some(target) = unknown {
                    let known = Adapter {
                        spec: spec.clone(),
                        layers: of_all(&layers, &spec),
                        replaced: BTreeMap::new(),
                    };
                    let known = known.targets().join(", ");
                    return Err(AdapterError::UnknownTarget { target: target.clone(), known });
                }
                let suffixes = suffixes.clone();
                Box::new(move |path| suffixes.iter().any(|suffix| ends(path, suffix)))
            }
        };
        let mut adapted = of_all(&layers, &spec);
        adapted.retain(|path, _| is_target(path));
        drop(is_target);
        let scalar = self.head == HeadKind::Scalar;
        let replaced = scalar.then(|| (SCORE.to_owned(), format!("{PREFIX}{SCORE}"))).into_iter().collect();
        Ok(Self { adapter: Some(Adapter { spec, layers: adapted, replaced }), ..self.clone() })
    }
}

/// What `spec` adds to each of `layers`.
fn of_all(layers: &[String], spec: &AdapterSpec) -> BTreeMap<String, LowRank> {
    let low_rank = LowRank { rank: spec.rank, scale: spec.scale(spec.rank), bias: false };
    layers.iter().map(|path| (path.clone(), low_rank)).collect()
}
