//! The MLP: what a layer adds to the stream from each token alone. A kind of it is a file here, with its tensors, its
//! activations and the memory it works in, beside its forward and backward; the enums choose between kinds.

mod dense;
mod routed;

use koan_backend::{Backend, OutOfMemory};

pub use dense::Dense;
use dense::{DenseActivations, DenseWork};
pub use routed::Routed;
use routed::{RoutedActivations, RoutedWork};

use crate::{Config, Param, Purpose, TensorInfo, activations::RowMaker, layer::Pass, tensors::Maker};

/// The kinds of MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MlpKind {
    /// One for all tokens: [`Dense`].
    Dense,
    /// Experts, of which each token chooses some: [`Routed`].
    Routed,
}

/// The tensors of a layer's MLP.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Mlp<T> {
    /// One for all tokens.
    Dense(Dense<T>),
    /// Experts, of which each token chooses some.
    Routed(Routed<T>),
}

/// What the MLP leaves for its backward.
pub(crate) enum MlpActivations<B: Backend> {
    Dense(DenseActivations<B>),
    Routed(RoutedActivations<B>),
}

/// What the MLP works in, forward and backward, and no layer keeps.
pub(crate) enum MlpWork<B: Backend> {
    Dense(DenseWork<B>),
    Routed(RoutedWork<B>),
}

impl<T> Mlp<T> {
    pub(crate) fn try_build<E, F>(kind: MlpKind, config: &Config, at: &mut Maker<'_, F>) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        match kind {
            MlpKind::Dense => Dense::try_build(config, at).map(Self::Dense),
            MlpKind::Routed => Routed::try_build(config, at).map(Self::Routed),
        }
    }

    pub(crate) fn kind(&self) -> MlpKind {
        match self {
            Self::Dense(_) => MlpKind::Dense,
            Self::Routed(_) => MlpKind::Routed,
        }
    }

    pub(crate) fn tensors(&self) -> Box<dyn Iterator<Item = &T> + '_> {
        match self {
            Self::Dense(mlp) => Box::new(mlp.tensors()),
            Self::Routed(mlp) => Box::new(mlp.tensors()),
        }
    }

    pub(crate) fn tensors_mut(&mut self) -> Box<dyn Iterator<Item = &mut T> + '_> {
        match self {
            Self::Dense(mlp) => Box::new(mlp.tensors_mut()),
            Self::Routed(mlp) => Box::new(mlp.tensors_mut()),
        }
    }
}

impl<B: Backend> Mlp<Param<B>> {
    /// `x += mlp(normed)`; leaves all that the backward reads.
    pub(crate) fn forward(
        &self,
        p: &Pass<B>,
        x: &mut B::Buf,
        normed: &B::Operand,
        a: &mut MlpActivations<B>,
        work: &mut MlpWork<B>,
    ) {
        match (self, a, work) {
            (Self::Dense(mlp), MlpActivations::Dense(a), MlpWork::Dense(work)) => {
                mlp.activate(p, normed, a, work);
                mlp.add_output(p, x, a, work);
            }
            (Self::Routed(mlp), MlpActivations::Routed(a), MlpWork::Routed(work)) => {
                mlp.forward(p, x, normed, a, work);
            }
            _ => unreachable!("memory of another kind of layer"),
        }
    }

    /// Computes all that the backward reads, from the normed rows `[n, hidden_size]`.
    pub(crate) fn activate(
        &self,
        p: &Pass<B>,
        normed: &B::Operand,
        a: &mut MlpActivations<B>,
        work: &mut MlpWork<B>,
    ) {
        match (self, a, work) {
            (Self::Dense(mlp), MlpActivations::Dense(a), MlpWork::Dense(work)) => {
                mlp.activate(p, normed, a, work);
            }
            (Self::Routed(mlp), MlpActivations::Routed(a), MlpWork::Routed(work)) => {
                mlp.activate(p, normed, a, work);
            }
            _ => unreachable!("memory of another kind of layer"),
        }
    }

    /// From `dx`, the gradient of the stream after the MLP, writes `d_normed`, that of the normed rows it read; adds to
    /// `grad`. Uses the activations up.
    pub(crate) fn backward(
        &self,
        p: &Pass<B>,
        d_normed: &mut B::Buf,
        dx: &B::Operand,
        normed: &B::Operand,
        a: &mut MlpActivations<B>,
        work: &mut MlpWork<B>,
        grad: &mut Mlp<B::Buf>,
    ) {
        match (self, a, work, grad) {
            (Self::Dense(mlp), MlpActivations::Dense(a), MlpWork::Dense(work), Mlp::Dense(grad)) => {
                mlp.backward(p, d_normed, dx, normed, a, work, grad);
            }
            (Self::Routed(mlp), MlpActivations::Routed(a), MlpWork::Routed(work), Mlp::Routed(grad)) => {
                mlp.backward(p, d_normed, dx, normed, a, work, grad);
            }
            _ => unreachable!("memory of another kind of layer"),
        }
    }
}

impl<B: Backend> MlpActivations<B> {
    pub(crate) fn build(
        kind: MlpKind,
        config: &Config,
        make: &mut RowMaker<'_, B>,
    ) -> Result<Self, OutOfMemory> {
        match kind {
            MlpKind::Dense => DenseActivations::build(config.intermediate_size, make).map(Self::Dense),
            MlpKind::Routed => RoutedActivations::build(config, make).map(Self::Routed),
        }
    }
}

impl<B: Backend> MlpWork<B> {
    pub(crate) fn build(
        kind: MlpKind,
        config: &Config,
        purpose: Purpose,
        make: &mut RowMaker<'_, B>,
    ) -> Result<Self, OutOfMemory> {
        match kind {
            MlpKind::Dense => {
                DenseWork::build(config, config.intermediate_size, purpose, make).map(Self::Dense)
            }
            MlpKind::Routed => RoutedWork::build(config, purpose, make).map(Self::Routed),
        }
    }
}
