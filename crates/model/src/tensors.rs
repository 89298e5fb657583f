//! The tensors of a model: what each is called, its shape and its role, and how the parts of a model make theirs.

use crate::{
    Role,
    adapter::{Adapter, LowRank},
    safetensors_file::Entry,
};

/// A tensor's name, its shape, what it is for, and where it lies in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// As Hugging Face names it.
    pub name: String,
    /// `[features]`, `[out_features, in_features]`, or `[experts, out_features, in_features]`.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// The entries of a checkpoint that hold it, each a slice of it, back to back: the elements of the first come first.
    /// Most tensors are one entry, which is the whole; published checkpoints hold each expert's matrix apart.
    pub entries: Vec<Entry>,
    /// Whether an optimizer changes it. Where a model has an adapter, all else is frozen; a router's bias is moved by loads.
    pub trained: bool,
    /// Whether a model that is trained keeps its values though they do not change: they are saved with it.
    pub kept: bool,
    /// Of how many heads its rows are, each with a matrix of its own that is multiplied by from both sides; else 1.
    pub heads: usize,
    /// Whether it may be in low precision, in files and in products: the matrices of linear layers and of experts.
    pub low_precision: bool,
}

impl TensorInfo {
    /// A tensor that is one entry of a checkpoint.
    pub(crate) fn whole(name: String, shape: &[usize], role: Role) -> Self {
        let entries = vec![Entry { name: name.clone(), shape: shape.into() }];
        let low_precision = matches!(role, Role::Product | Role::Expert);
        let trained = role != Role::RouterBias;
        Self { name, shape: shape.into(), role, entries, trained, kept: false, heads: 1, low_precision }
    }

    /// How many elements the tensor holds.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// How many of them training changes: all or none.
    pub fn trained_len(&self) -> usize {
        if self.trained { self.len() } else { 0 }
    }

    /// How many elements its gradient has: none if it is frozen. That of a router's bias is the load of each expert.
    pub fn gradient_len(&self) -> usize {
        if self.role == Role::RouterBias { self.len() } else { self.trained_len() }
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[matrices, out_features, in_features]`: a matrix for each expert or head, or one.
    pub fn matrices(&self) -> [usize; 3] {
        if let [matrices, out, inp] = self.shape[..] {
            return [matrices, out, inp];
        }
        let [out, inp] = self.matrix();
        [self.heads, out / self.heads, inp]
    }

    /// `[out_features, in_features]` of a matrix; of several, all rows of all of them.
    pub fn matrix(&self) -> [usize; 2] {
        let in_features = self.shape.last().copied().unwrap_or(1);
        [self.len() / in_features.max(1), in_features]
    }
}

/// Makes the tensors of a part of a model, whose names share a prefix.
pub(crate) struct Maker<'a, F> {
    prefix: String,
    adapter: Option<&'a Adapter>,
    /// Whether what it makes is not trained, but kept.
    frozen: bool,
    /// Whether none of it may be in low precision.
    precise: bool,
    make: &'a mut F,
}

impl<'a, T, E, F: FnMut(TensorInfo) -> Result<T, E>> Maker<'a, F> {
    pub(crate) fn new(adapter: Option<&'a Adapter>, make: &'a mut F) -> Self {
        Self { prefix: String::new(), adapter, frozen: false, precise: false, make }
    }

    /// Of a part of this part.
    pub(crate) fn under(&mut self, prefix: &str) -> Maker<'_, F> {
        Maker { prefix: format!("{}{prefix}.", self.prefix), make: self.make, ..*self }
    }

    /// Of the same part, which is kept, but trained only if `trained`.
    pub(crate) fn frozen_unless(self, trained: bool) -> Self {
        Self { frozen: !trained, ..self }
    }

    /// Of the same part, of which nothing may be in low precision.
    pub(crate) fn precise(&mut self) -> Maker<'_, F> {
        Maker { prefix: self.prefix.clone(), precise: true, make: self.make, ..*self }
    }

    /// What the model's adapter adds to the linear layer `name`.
    pub(crate) fn low_rank(&self, name: &str) -> Option<LowRank> {
        self.adapter?.of(&format!("{}{name}", self.prefix))
    }

    pub(crate) fn tensor(&mut self, name: &str, shape: &[usize], role: Role) -> Result<T, E> {
        let info = TensorInfo::whole(format!("{}{name}", self.prefix), shape, role);
        self.place(info)
    }

    /// As [`tensor`](Self::tensor), the rows of so many heads.
    pub(crate) fn of_heads(&mut self, heads: usize, name: &str, shape: &[usize], role: Role) -> Result<T, E> {
        let info = TensorInfo::whole(format!("{}{name}", self.prefix), shape, role);
        self.place(TensorInfo { heads, ..info })
    }

    /// A tensor of each expert of shape `[a, b]`, named `name.part` in each, as one `[experts, a, b]`.
    pub(crate) fn experts(
        &mut self,
        name: &str,
        part: &str,
        [experts, a, b]: [usize; 3],
        role: Role,
    ) -> Result<T, E> {
        let prefix = &self.prefix;
        let whole = format!("{prefix}experts.{name}.{part}");
        let entry = |e| Entry { name: format!("{prefix}experts.{e}.{name}.{part}"), shape: vec![a, b] };
        let entries = (0..experts).map(entry).collect();
        self.place(TensorInfo { entries, ..TensorInfo::whole(whole, &[experts, a, b], role) })
    }

    fn place(&mut self, mut info: TensorInfo) -> Result<T, E> {
        (info.trained, info.kept) = (info.trained && !self.frozen, self.frozen);
        info.low_precision &= !self.precise;
        (self.make)(match self.adapter {
            Some(adapter) => adapter.place(info),
            None => info,
        })
    }

    /// The scales of a norm of `features` features.
    pub(crate) fn norm(&mut self, name: &str, features: usize) -> Result<T, E> {
        self.tensor(&format!("{name}.weight"), &[features], Role::Norm)
    }
}
