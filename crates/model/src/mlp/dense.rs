//! The gated MLP of every token (arXiv:2002.05202).
//!
//! ```text
//! x ← x + D · (silu(G n) · U n)    with n the normed rows
//! ```
//!
//! Each product may have a bias.

use koan_backend::{Backend, Keep, OutOfMemory, Store};

use crate::{
    Config, Linear, Param, Purpose, TensorInfo, activations::RowMaker, layer::Pass, linear::LowRankRows,
    tensors::Maker,
};

/// A gated MLP.
#[derive(Clone, Debug)]
pub struct Dense<T> {
    /// To its features, `intermediate_size` unless it is that of shared experts, from `hidden_size`.
    pub gate_proj: Linear<T>,
    /// To its features, from `hidden_size`.
    pub up_proj: Linear<T>,
    /// To `hidden_size` features, from its own.
    pub down_proj: Linear<T>,
}

/// What the forward leaves for the backward `[rows, features]`, which turns it into its gradient.
pub(crate) struct DenseActivations<B: Backend> {
    gate: B::Operand,
    up: B::Operand,
}

/// What one pass over memory gives again `[rows, features]`: SwiGLU's output, and in the backward its gradient
/// before.
pub(crate) struct DenseWork<B: Backend> {
    swiglu: B::Operand,
    low_rank: LowRankRows<B>,
}

impl<T> Dense<T> {
    pub(super) fn try_build<E, F>(config: &Config, at: &mut Maker<'_, F>) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        Self::of_size([config.intermediate_size, config.hidden_size], config.biases.mlp, at)
    }

    /// One of so many features between its halves, with biases or without.
    pub(super) fn of_size<E, F>(
        [features, hidden]: [usize; 2],
        bias: bool,
        at: &mut Maker<'_, F>,
    ) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        Ok(Self {
            gate_proj: Linear::try_build(at, "gate_proj", [features, hidden], bias)?,
            up_proj: Linear::try_build(at, "up_proj", [features, hidden], bias)?,
            down_proj: Linear::try_build(at, "down_proj", [hidden, features], bias)?,
        })
    }

    pub(super) fn tensors(&self) -> impl Iterator<Item = &T> {
        [&self.gate_proj, &self.up_proj, &self.down_proj].into_iter().flat_map(Linear::tensors)
    }

    pub(super) fn tensors_mut(&mut self) -> impl Iterator<Item = &mut T> {
        [&mut self.gate_proj, &mut self.up_proj, &mut self.down_proj]
            .into_iter()
            .flat_map(Linear::tensors_mut)
    }
}

impl<B: Backend> DenseActivations<B> {
    pub(super) fn build(features: usize, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        let mut half = || make.operand(features, Keep::Values);
        Ok(Self { gate: half()?, up: half()? })
    }
}

impl<B: Backend> DenseWork<B> {
    pub(super) fn build(
        config: &Config,
        features: usize,
        purpose: Purpose,
        make: &mut RowMaker<'_, B>,
    ) -> Result<Self, OutOfMemory> {
        let swiglu = make.operand(features, purpose.keep())?;
        Ok(Self { swiglu, low_rank: LowRankRows::build(config, make)? })
    }
}

impl<B: Backend> Dense<Param<B>> {
    /// See [`Mlp::activate`](super::Mlp::activate).
    pub(super) fn activate(
        &self,
        p: &Pass<B>,
        normed: &B::Operand,
        a: &mut DenseActivations<B>,
        work: &mut DenseWork<B>,
    ) {
        let low_rank = &mut work.low_rank;
        self.gate_proj.forward(p, (p.b.values_mut(&mut a.gate), Store::Write), normed, low_rank);
        self.up_proj.forward(p, (p.b.values_mut(&mut a.up), Store::Write), normed, low_rank);
    }

    /// After [`activate`](Self::activate): `x += mlp(normed)`.
    pub(super) fn add_output(
        &self,
        p: &Pass<B>,
        x: &mut B::Buf,
        a: &DenseActivations<B>,
        work: &mut DenseWork<B>,
    ) {
        p.b.swiglu_forward(&mut work.swiglu, p.b.values(&a.gate), p.b.values(&a.up), self.elements(p));
        self.down_proj.forward(p, (x, Store::Add), &work.swiglu, &mut work.low_rank);
    }

    /// See [`Mlp::backward`](super::Mlp::backward). The activations become their gradients.
    pub(super) fn backward(
        &self,
        p: &Pass<B>,
        d_normed: &mut B::Buf,
        dx: &B::Operand,
        normed: &B::Operand,
        a: &mut DenseActivations<B>,
        work: &mut DenseWork<B>,
        grad: &mut Dense<B::Buf>,
    ) {
        let DenseWork { swiglu, low_rank } = work;
        self.down_proj.backward_input(p, (p.b.values_mut(swiglu), Store::Write), dx, low_rank);
        let keep = Linear::kept_gradients([&self.gate_proj, &self.up_proj]);
        p.b.swiglu_backward(swiglu, &mut a.gate, &mut a.up, keep, self.elements(p));
        self.down_proj.backward_weight(p, &mut grad.down_proj, dx, swiglu, low_rank);
        let (gate, up) = (&mut grad.gate_proj, &mut grad.up_proj);
        self.gate_proj.backward(p, (&mut *d_normed, Store::Write), gate, &a.gate, normed, low_rank);
        self.up_proj.backward(p, (d_normed, Store::Add), up, &a.up, normed, low_rank);
    }

    /// Elements of a pass's rows between the two halves.
    fn elements(&self, p: &Pass<B>) -> usize {
        let [features, _] = self.gate_proj.weight.matrix().shape();
        p.rows * features
    }
}
