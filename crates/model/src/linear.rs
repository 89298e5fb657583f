//! A linear layer, forward and backward.

use koan_backend::{Backend, Store};

use crate::{Param, Role, TensorInfo, layer::Pass, tensors::Maker};

/// A linear layer: `x Wᵀ + b`.
#[derive(Clone, Debug)]
pub struct Linear<T> {
    /// `[out_features, in_features]`
    pub weight: T,
    /// `[out_features]`, in families that have one.
    pub bias: Option<T>,
}

impl<T> Linear<T> {
    /// A layer named `name`, to `out` features from `inp`, with a bias or without.
    pub(crate) fn try_build<E, F>(
        at: &mut Maker<'_, F>,
        name: &str,
        [out, inp]: [usize; 2],
        bias: bool,
    ) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        let mut at = at.under(name);
        let weight = at.tensor("weight", &[out, inp], Role::Product)?;
        let bias = bias.then(|| at.tensor("bias", &[out], Role::Bias)).transpose()?;
        Ok(Self { weight, bias })
    }

    pub(crate) fn tensors(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.weight).chain(&self.bias)
    }

    pub(crate) fn tensors_mut(&mut self) -> impl Iterator<Item = &mut T> {
        std::iter::once(&mut self.weight).chain(&mut self.bias)
    }
}

impl<B: Backend> Linear<Param<B>> {
    /// `y ← x Wᵀ + b`, or `y += x Wᵀ + b`.
    pub(crate) fn forward(&self, p: &Pass<B>, (y, store): (&mut B::Buf, Store), x: &B::Operand) {
        p.b.linear_forward(y, x, self.weight.matrix(), p.rows, store);
        if let Some(bias) = &self.bias {
            p.b.bias_forward(y, bias.value(), bias.info().len(), p.rows);
        }
    }

    /// `dx ← dy W` (or `+=`), `dW += dyᵀ x` and `db += Σ dy`.
    pub(crate) fn backward(
        &self,
        p: &Pass<B>,
        dx: (&mut B::Buf, Store),
        grad: &mut Linear<B::Buf>,
        dy: &B::Operand,
        x: &B::Operand,
    ) {
        self.backward_weight(p, grad, dy, x);
        self.backward_input(p, dx, dy);
    }

    /// `dx ← dy W`, or `+=`.
    pub(crate) fn backward_input(&self, p: &Pass<B>, (dx, store): (&mut B::Buf, Store), dy: &B::Operand) {
        p.b.linear_backward_input(dx, dy, self.weight.matrix(), p.rows, store);
    }

    /// `dW += dyᵀ x` and `db += Σ dy`.
    pub(crate) fn backward_weight(
        &self,
        p: &Pass<B>,
        grad: &mut Linear<B::Buf>,
        dy: &B::Operand,
        x: &B::Operand,
    ) {
        let shape = self.weight.matrix().shape();
        p.b.linear_backward_weight(&mut grad.weight, dy, x, p.rows, shape);
        if let Some(grad) = &mut grad.bias {
            p.b.bias_backward(grad, dy, shape[0], p.rows);
        }
    }
}
