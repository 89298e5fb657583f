//! A model's parts together: the trunk and the head on it.

use std::convert::Infallible;

use crate::{Config, MultiToken, Role, TensorInfo, Trunk, heads::Heads, tensors::Maker};

/// Something that a model has for each of its tensors: a parameter, its gradient, a moment of it.
#[derive(Clone, Debug)]
pub struct Transformer<T> {
    /// The embedding, the layers and the last norm.
    pub trunk: Trunk<T>,
    /// The modules that predict further tokens, if it has any.
    pub multi_token: Vec<MultiToken<T>>,
    /// What predicts tokens, or scores a text.
    pub head: Heads<T>,
}

impl<T> Transformer<T> {
    /// Makes every tensor of a model, in the order of [`Transformer::tensors`].
    ///
    /// # Errors
    /// The first that `make` returns.
    pub fn try_build<E>(
        config: &Config,
        mut make: impl FnMut(TensorInfo) -> Result<T, E>,
    ) -> Result<Self, E> {
        let mut at = Maker::new(config.adapter.as_ref(), &mut make);
        Ok(Self {
            trunk: Trunk::try_build(config, &mut at.under("model"))?,
            multi_token: {
                let mut at = at.under("model").frozen_unless(config.trains_multi_token);
                let module = |i| MultiToken::try_build(config, i, &mut at);
                (0..config.multi_token_layers).map(module).collect::<Result<_, E>>()?
            },
            head: Heads::try_build(config, &mut at)?,
        })
    }

    /// As [`Transformer::try_build`], with a `make` that can't fail.
    pub fn build(config: &Config, mut make: impl FnMut(TensorInfo) -> T) -> Self {
        let Ok(built) = Self::try_build(config, |info| Ok::<T, Infallible>(make(info)));
        built
    }

    /// All tensors, in the order in which a checkpoint lists them.
    pub fn tensors(&self) -> impl Iterator<Item = &T> {
        self.trunk
            .tensors()
            .chain(self.multi_token.iter().flat_map(MultiToken::tensors))
            .chain(self.head.tensors())
    }

    /// All tensors, in the order in which a checkpoint lists them.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let multi_token = self.multi_token.iter_mut().flat_map(MultiToken::tensors_mut);
        self.trunk.tensors_mut().chain(multi_token).chain(self.head.tensors_mut())
    }
}

impl Config {
    /// Name, shape and role of every tensor, in the order of [`Transformer::tensors`].
    pub fn tensors(&self) -> Vec<TensorInfo> {
        let mut infos = Vec::new();
        Transformer::build(self, |info| infos.push(info));
        infos
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.tensors().iter().map(TensorInfo::len).sum()
    }

    /// Number of parameters that a token meets: of the routed experts those that it chooses, of modules that predict further tokens
    /// none.
    pub fn active_parameters(&self) -> usize {
        let share = |info: &TensorInfo| match (info.role, self.experts) {
            (Role::Expert, Some(experts)) => info.len() / experts.routed * experts.per_token,
            _ => info.len(),
        };
        self.clone().without_modules().tensors().iter().map(share).sum()
    }

    /// Number of parameters that training changes: those of the adapter, if the model has one.
    pub fn trained_parameters(&self) -> usize {
        self.tensors().iter().map(TensorInfo::trained_len).sum()
    }
}
