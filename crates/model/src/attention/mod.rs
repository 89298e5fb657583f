//! Attention: what a layer adds to the stream from the tokens before. A kind of it is a file here, with its tensors, its
//! activations and their gradients, and its cache, beside its forward and backward; the enums choose between kinds.

mod absorbed;
mod grouped;
mod latent;

use koan_backend::{Backend, OutOfMemory};

use absorbed::{AbsorbedActivations, AbsorbedCache, AbsorbedGradients, AbsorbedWork};
pub use grouped::Grouped;
use grouped::{GroupedActivations, GroupedCache, GroupedGradients, GroupedWork};
pub use latent::{Latent, Query};
use latent::{LatentActivations, LatentCache, LatentGradients, LatentWork};

use crate::{Config, Param, Purpose, TensorInfo, activations::RowMaker, layer::Pass, tensors::Maker};

/// What a layer works with is made for its kind.
const OF_ONE_KIND: &str = "attention and what it works in are of one kind";

/// The kinds of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttentionKind {
    /// Grouped queries: [`Grouped`].
    Grouped,
    /// Keys and values of a latent: [`Latent`].
    Latent,
    /// The same, by the latents themselves: [`Latent`], as its `absorbed.rs` computes it.
    Absorbed,
}

/// The tensors of a layer's attention.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Attention<T> {
    /// Grouped queries.
    Grouped(Grouped<T>),
    /// Keys and values of a latent.
    Latent(Latent<T>),
    /// Latents as keys and values.
    Absorbed(Latent<T>),
}

/// What attention leaves for its backward.
pub(crate) enum AttentionActivations<B: Backend> {
    Grouped(GroupedActivations<B>),
    Latent(LatentActivations<B>),
    Absorbed(AbsorbedActivations<B>),
}

/// What attention's forward works in, and no layer keeps.
pub(crate) enum AttentionWork<B: Backend> {
    Grouped(GroupedWork<B>),
    Latent(LatentWork<B>),
    Absorbed(AbsorbedWork<B>),
}

/// The gradients that attention's backward works in.
pub(crate) enum AttentionGradients<B: Backend> {
    Grouped(GroupedGradients<B>),
    Latent(LatentGradients<B>),
    Absorbed(AbsorbedGradients<B>),
}

/// What attention keeps of tokens seen.
pub(crate) enum AttentionCache<B: Backend> {
    Grouped(GroupedCache<B>),
    Latent(LatentCache<B>),
    Absorbed(AbsorbedCache<B>),
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
            AttentionKind::Latent => Latent::try_build(config, at).map(Self::Latent),
            AttentionKind::Absorbed => Latent::try_build(config, at).map(Self::Absorbed),
        }
    }

    pub(crate) fn kind(&self) -> AttentionKind {
        match self {
            Self::Grouped(_) => AttentionKind::Grouped,
            Self::Latent(_) => AttentionKind::Latent,
            Self::Absorbed(_) => AttentionKind::Absorbed,
        }
    }

    pub(crate) fn tensors(&self) -> Box<dyn Iterator<Item = &T> + '_> {
        match self {
            Self::Grouped(attention) => Box::new(attention.tensors()),
            Self::Latent(attention) | Self::Absorbed(attention) => Box::new(attention.tensors()),
        }
    }

    pub(crate) fn tensors_mut(&mut self) -> Box<dyn Iterator<Item = &mut T> + '_> {
        match self {
            Self::Grouped(attention) => Box::new(attention.tensors_mut()),
            Self::Latent(attention) | Self::Absorbed(attention) => Box::new(attention.tensors_mut()),
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
                let cache = cache.map(|cache| match cache {
                    AttentionCache::Grouped(cache) => cache,
                    _ => unreachable!("{OF_ONE_KIND}"),
                });
                attention.forward(p, x, normed, a, work, cache);
            }
            (Self::Latent(attention), AttentionActivations::Latent(a), AttentionWork::Latent(work)) => {
                let cache = cache.map(|cache| match cache {
                    AttentionCache::Latent(cache) => cache,
                    _ => unreachable!("{OF_ONE_KIND}"),
                });
                attention.forward(p, x, normed, a, work, cache);
            }
            (Self::Absorbed(attention), AttentionActivations::Absorbed(a), AttentionWork::Absorbed(work)) => {
                let cache = cache.map(|cache| match cache {
                    AttentionCache::Absorbed(cache) => cache,
                    _ => unreachable!("{OF_ONE_KIND}"),
                });
                attention.forward_absorbed(p, x, normed, a, work, cache);
            }
            _ => unreachable!("{OF_ONE_KIND}"),
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
            (
                Self::Latent(attention),
                AttentionActivations::Latent(a),
                AttentionGradients::Latent(d),
                Attention::Latent(grad),
            ) => attention.backward(p, d_normed, dx, normed, a, d, grad),
            (
                Self::Absorbed(attention),
                AttentionActivations::Absorbed(a),
                AttentionGradients::Absorbed(d),
                Attention::Absorbed(grad),
            ) => attention.backward_absorbed(p, d_normed, dx, normed, a, d, grad),
            _ => unreachable!("{OF_ONE_KIND}"),
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
            AttentionKind::Latent => LatentActivations::build(config, purpose, make).map(Self::Latent),
            AttentionKind::Absorbed => AbsorbedActivations::build(config, purpose, make).map(Self::Absorbed),
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
            AttentionKind::Latent => LatentWork::build(config, make).map(Self::Latent),
            AttentionKind::Absorbed => AbsorbedWork::build(config, make).map(Self::Absorbed),
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
            AttentionKind::Latent => LatentGradients::build(config, make).map(Self::Latent),
            AttentionKind::Absorbed => AbsorbedGradients::build(config, make).map(Self::Absorbed),
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
            AttentionKind::Latent => LatentCache::build(config, make).map(Self::Latent),
            AttentionKind::Absorbed => AbsorbedCache::build(config, make).map(Self::Absorbed),
        }
    }
}
