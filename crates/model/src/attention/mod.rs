//! Attention: what a layer adds to the stream from the tokens before. A kind of it is a file here, with its tensors, its
//! activations and their gradients, and its cache, beside its forward and backward; the enums choose between kinds.

mod grouped;

use koan_backend::{Backend, OutOfMemory};

pub use grouped::Grouped;
use grouped::{GroupedActivations, GroupedCache, GroupedGradients, GroupedWork};

use crate::{Config, Param, Purpose, TensorInfo, activations::RowMaker, layer::Pass, tensors::Maker};

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
pub(crate) enum AttentionActivations<B: Backend> {
    Grouped(GroupedActivations<B>),
}

/// What attention's forward works in, and no layer keeps.
pub(crate) enum AttentionWork<B: Backend> {
    Grouped(GroupedWork<B>),
}

/// The gradients that attention's backward works in.
pub(crate) enum AttentionGradients<B: Backend> {
    Grouped(GroupedGradients<B>),
}

/// What attention keeps of tokens seen.
pub(crate) enum AttentionCache<B: Backend> {
    Grouped(GroupedCache<B>),
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
    /// `x += attention(normed)`; `x` and `normed` are `[n, hidden_size]`. With a cache, the keys of the pass's tokens go
    /// to it, and those of earlier tokens are read from it.
    pub(crate) fn forward(
        &self,
        p: &Pass<B>,
        x: &mut B::Buf,
        normed: &B::Operand,
        a: &mut AttentionActivations<B>,
        work: &mut AttentionWork<B>,
        cache: Option<&mut AttentionCache<B>>,
    ) {
        match (self, a, work) {
            (Self::Grouped(attention), AttentionActivations::Grouped(a), AttentionWork::Grouped(work)) => {
                let cache = cache.map(|AttentionCache::Grouped(cache)| cache);
                attention.forward(p, x, normed, a, work, cache);
            }
        }
    }

    /// From `dx`, the gradient of the stream after attention, writes `d_normed`, that of the normed rows it read; adds to
    /// `grad`.
    pub(crate) fn backward(
        &self,
        p: &Pass<B>,
        d_normed: &mut B::Buf,
        dx: &B::Operand,
        normed: &B::Operand,
        a: &AttentionActivations<B>,
        d: &mut AttentionGradients<B>,
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

impl<B: Backend> AttentionActivations<B> {
    pub(crate) fn build(
        kind: AttentionKind,
        config: &Config,
        purpose: Purpose,
        make: &mut RowMaker<'_, B>,
    ) -> Result<Self, OutOfMemory> {
        match kind {
            AttentionKind::Grouped => GroupedActivations::build(config, purpose, make).map(Self::Grouped),
        }
    }
}

impl<B: Backend> AttentionWork<B> {
    pub(crate) fn build(
        kind: AttentionKind,
        config: &Config,
        make: &mut RowMaker<'_, B>,
    ) -> Result<Self, OutOfMemory> {
        match kind {
            AttentionKind::Grouped => GroupedWork::build(config, make).map(Self::Grouped),
        }
    }
}

impl<B: Backend> AttentionGradients<B> {
    pub(crate) fn build(
        kind: AttentionKind,
        config: &Config,
        make: &mut RowMaker<'_, B>,
    ) -> Result<Self, OutOfMemory> {
        match kind {
            AttentionKind::Grouped => GroupedGradients::build(config, make).map(Self::Grouped),
        }
    }
}

impl<B: Backend> AttentionCache<B> {
    pub(crate) fn build(
        kind: AttentionKind,
        config: &Config,
        make: &mut RowMaker<'_, B>,
    ) -> Result<Self, OutOfMemory> {
        match kind {
            AttentionKind::Grouped => GroupedCache::build(config, make).map(Self::Grouped),
        }
    }
}
