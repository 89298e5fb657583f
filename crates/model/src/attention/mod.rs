//! Attention: what a layer adds to the stream from the tokens before. A kind of it is a file here, with its tensors, its
//! activations and their gradients, and its cache, beside its forward and backward; the enums choose between kinds.

mod grouped;

use koan_backend::Backend;

pub use grouped::Grouped;
use grouped::{GroupedActivations, GroupedCache, GroupedGradients};

use crate::{Config, Param, TensorInfo, layer::Pass, tensors::Maker};

/// The kinds of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttentionKind {
    /// Grouped queries: [`Grouped`].
    Grouped,
}

/// The tensors of a layer's attention.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Attention<T> {
    /// Grouped queries.
    Grouped(Grouped<T>),
}

/// What attention leaves for its backward.
pub(crate) enum AttentionActivations<T> {
    Grouped(GroupedActivations<T>),
}

/// The gradients that attention's backward works in.
pub(crate) enum AttentionGradients<T> {
    Grouped(GroupedGradients<T>),
}

/// What attention keeps of tokens seen.
pub(crate) enum AttentionCache<T> {
    Grouped(GroupedCache<T>),
}

impl<T> Attention<T> {
    pub(crate) fn try_build<E, F>(
        kind: AttentionKind,
        config: &Config,
        at: &mut Maker<'_, F>,
    ) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        match kind {
            AttentionKind::Grouped => Grouped::try_build(config, at).map(Self::Grouped),
        }
    }

    pub(crate) fn kind(&self) -> AttentionKind {
        match self {
            Self::Grouped(_) => AttentionKind::Grouped,
        }
    }

    pub(crate) fn tensors(&self) -> Box<dyn Iterator<Item = &T> + '_> {
        match self {
            Self::Grouped(attention) => Box::new(attention.tensors()),
        }
    }

    pub(crate) fn tensors_mut(&mut self) -> Box<dyn Iterator<Item = &mut T> + '_> {
        match self {
            Self::Grouped(attention) => Box::new(attention.tensors_mut()),
        }
    }
}

impl<B: Backend> Attention<Param<B>> {
    /// `x += attention(normed)`; `x` and `normed` are `[n, hidden_size]`. With a cache, the keys of the batch's tokens go
    /// to it, and those of earlier tokens are read from it; without, they lie in the batch.
    pub(crate) fn forward(
        &self,
        p: &Pass<B>,
        x: &mut B::Buf,
        normed: &B::Buf,
        a: &mut AttentionActivations<B::Buf>,
        cache: Option<&mut AttentionCache<B::Buf>>,
    ) {
        match (self, a) {
            (Self::Grouped(attention), AttentionActivations::Grouped(a)) => {
                let cache = cache.map(|AttentionCache::Grouped(cache)| cache);
                attention.forward(p, x, normed, a, cache);
            }
        }
    }

    /// From `dx`, the gradient of the stream after attention, writes `d_normed`, that of the normed rows it read; adds to
    /// `grad`.
    pub(crate) fn backward(
        &self,
        p: &Pass<B>,
        d_normed: &mut B::Buf,
        dx: &B::Buf,
        normed: &B::Buf,
        a: &AttentionActivations<B::Buf>,
        d: &mut AttentionGradients<B::Buf>,
        grad: &mut Attention<B::Buf>,
    ) {
        match (self, a, d, grad) {
            (
                Self::Grouped(attention),
                AttentionActivations::Grouped(a),
                AttentionGradients::Grouped(d),
                Attention::Grouped(grad),
            ) => attention.backward(p, d_normed, dx, normed, a, d, grad),
        }
    }
}

impl<T> AttentionActivations<T> {
    /// `make` gives a buffer of so many elements a row; so it does below.
    pub(crate) fn build<E>(
        kind: AttentionKind,
        config: &Config,
        make: &mut impl FnMut(usize) -> Result<T, E>,
    ) -> Result<Self, E> {
        match kind {
            AttentionKind::Grouped => GroupedActivations::build(config, make).map(Self::Grouped),
        }
    }
}

impl<T> AttentionGradients<T> {
    pub(crate) fn build<E>(
        kind: AttentionKind,
        config: &Config,
        make: &mut impl FnMut(usize) -> Result<T, E>,
    ) -> Result<Self, E> {
        match kind {
            AttentionKind::Grouped => GroupedGradients::build(config, make).map(Self::Grouped),
        }
    }
}

impl<T> AttentionCache<T> {
    pub(crate) fn build<E>(
        kind: AttentionKind,
        config: &Config,
        make: &mut impl FnMut(usize) -> Result<T, E>,
    ) -> Result<Self, E> {
        match kind {
            AttentionKind::Grouped => GroupedCache::build(config, make).map(Self::Grouped),
        }
    }
}
