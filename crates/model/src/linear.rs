//! A linear layer, forward and backward, with a low-rank adapter (arXiv:2106.09685) or without.
//!
//! ```text
//! y  = x Wᵀ + b + s (x Aᵀ) Bᵀ                         with A [rank, in], B [out, rank]
//! dh = s dy B      dB += dyᵀ (s x Aᵀ)      dA += dhᵀ x      dx = dy W + dh A
//! ```
//!
//! The adapter is never merged into W: sampling computes what training does. `s x Aᵀ` is computed again in the backward.

use koan_backend::{Backend, Keep, Matrix, OutOfMemory, Store};

use crate::{
    Adapter, Config, Param, Role, TensorInfo, activations::RowMaker, adapter::LowRank, layer::Pass,
    tensors::Maker,
};

/// A linear layer: `x Wᵀ + b`, and what its adapter adds.
#[derive(Clone, Debug)]
pub struct Linear<T> {
    /// `[out_features, in_features]`; of experts `[experts, out_features, in_features]`, and so are A and B.
    pub weight: T,
    /// `[out_features]`, in families that have one.
    pub bias: Option<T>,
    /// What an adapter adds, if the layer has one.
    pub lora: Option<Lora<T>>,
}

/// A low-rank adapter on a linear layer: `s (B A x + b)`.
#[derive(Clone, Debug)]
pub struct Lora<T> {
    /// A: `[rank, in_features]`
    pub down: T,
    /// B: `[out_features, rank]`
    pub up: T,
    /// `s b`: `[out_features]`, in adapters that have one (PEFT's `lora_bias`).
    pub bias: Option<T>,
    /// s
    pub scale: f32,
}

/// What an adapter works in `[rows, rank]`; the adapters of a layer use it in turn.
pub(crate) struct LowRankRows<B: Backend> {
    /// s x Aᵀ
    h: B::Operand,
    /// Its gradient, times s.
    dh: B::Operand,
}

/// The rows that a layer multiplies.
pub(crate) enum Rows<'a, B: Backend> {
    /// So many, all by one matrix.
    All(usize),
    /// The copies of rows that go to experts, so many, each by the matrix of its expert.
    Copies(&'a B::Routes, usize),
    /// The heads of rows, so many, each by its own part of a matrix. Of an adapter B is in such parts, A is all heads'.
    Heads(&'a B::Routes, usize),
}

impl<B: Backend> Clone for Rows<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for Rows<'_, B> {}

impl<B: Backend> Rows<'_, B> {
    fn len(self) -> usize {
        let (Self::All(n) | Self::Copies(_, n) | Self::Heads(_, n)) = self;
        n
    }

    /// The same rows, as A of an adapter takes them.
    fn of_down(self) -> Self {
        if let Self::Heads(_, n) = self { Self::All(n) } else { self }
    }

    /// `y ← x Wᵀ`, or `+=`.
    fn forward(self, b: &B, (y, store): (&mut B::Buf, Store), x: &B::Operand, w: &Matrix<B>) {
        match self {
            Self::All(n) => b.linear_forward(y, x, w, n, store),
            Self::Copies(routes, _) | Self::Heads(routes, _) => b.experts_forward(y, x, w, routes, store),
        }
    }

    /// `dx ← dy W`, or `+=`.
    fn backward_input(self, b: &B, (dx, store): (&mut B::Buf, Store), dy: &B::Operand, w: &Matrix<B>) {
        match self {
            Self::All(n) => b.linear_backward_input(dx, dy, w, n, store),
            Self::Copies(routes, _) | Self::Heads(routes, _) => {
                b.experts_backward_input(dx, dy, w, routes, store);
            }
        }
    }

    /// `dW += dyᵀ x`, of the shape and precision of `w`.
    fn backward_weight(self, b: &B, dw: &mut B::Buf, dy: &B::Operand, x: &B::Operand, w: &Matrix<B>) {
        let (shape, precision) = (w.shape(), w.precision());
        match self {
            Self::All(n) => b.linear_backward_weight(dw, dy, x, n, shape, precision),
            Self::Copies(routes, _) | Self::Heads(routes, _) => {
                b.experts_backward_weight(dw, dy, x, routes, shape, precision);
            }
        }
    }
}

impl<T> Linear<T> {
    /// A layer named `name`, to `out` features from `inp`, with a bias or without.
    pub(crate) fn try_build<E, F>(
        at: &mut Maker<'_, F>,
        name: &str,
        shape: [usize; 2],
        bias: bool,
    ) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        Self::try_build_heads(at, name, 1, shape, bias)
    }

    /// A layer whose output features are those of so many heads, each of which is multiplied by its own part.
    pub(crate) fn try_build_heads<E, F>(
        at: &mut Maker<'_, F>,
        name: &str,
        heads: usize,
        [out, inp]: [usize; 2],
        bias: bool,
    ) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        let low_rank = at.low_rank(name);
        let mut at = at.under(name);
        let weight = at.of_heads(heads, "weight", &[out, inp], Role::Product)?;
        let bias = bias.then(|| at.tensor("bias", &[out], Role::Bias)).transpose()?;
        let lora = low_rank.map(|low_rank| {
            Ok(Lora {
                down: at.tensor("lora_A.weight", &[low_rank.rank, inp], Role::AdapterDown)?,
                up: at.of_heads(heads, "lora_B.weight", &[out, low_rank.rank], Role::AdapterUp)?,
                bias: low_rank.bias.then(|| at.tensor("lora_B.bias", &[out], Role::Bias)).transpose()?,
                scale: low_rank.scale,
            })
        });
        Ok(Self { weight, bias, lora: lora.transpose()? })
    }

    /// The same layer of each of some experts, named `name` in each: matrices of shape `[experts, out, in]`.
    pub(crate) fn try_build_experts<E, F>(
        at: &mut Maker<'_, F>,
        name: &str,
        [experts, out, inp]: [usize; 3],
    ) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        let low_rank = at.low_rank(&format!("experts.{name}"));
        let weight = at.experts(name, "weight", [experts, out, inp], Role::Expert)?;
        let lora = low_rank.map(|LowRank { rank, scale, .. }| {
            Ok(Lora {
                down: at.experts(name, "lora_A.weight", [experts, rank, inp], Role::AdapterDown)?,
                up: at.experts(name, "lora_B.weight", [experts, out, rank], Role::AdapterUp)?,
                bias: None,
                scale,
            })
        });
        Ok(Self { weight, bias: None, lora: lora.transpose()? })
    }

    pub(crate) fn tensors(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.weight).chain(&self.bias).chain(self.lora.iter().flat_map(Lora::tensors))
    }

    pub(crate) fn tensors_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let Self { weight, bias, lora } = self;
        std::iter::once(weight).chain(bias).chain(lora.iter_mut().flat_map(Lora::tensors_mut))
    }
}

impl<T> Lora<T> {
    fn tensors(&self) -> impl Iterator<Item = &T> {
        [&self.down, &self.up].into_iter().chain(&self.bias)
    }

    fn tensors_mut(&mut self) -> impl Iterator<Item = &mut T> {
        [&mut self.down, &mut self.up].into_iter().chain(&mut self.bias)
    }
}

impl<B: Backend> LowRankRows<B> {
    /// Empty where the model has no adapter.
    pub(crate) fn build(config: &Config, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        Self::of_copies(config, 1, make)
    }

    /// Of so many copies of each row.
    pub(crate) fn of_copies(
        config: &Config,
        copies: usize,
        make: &mut RowMaker<'_, B>,
    ) -> Result<Self, OutOfMemory> {
        let rank = copies * config.adapter.as_ref().map_or(0, Adapter::largest_rank);
        Ok(Self { h: make.operand(rank, Keep::Values)?, dh: make.operand(rank, Keep::Values)? })
    }
}

impl<B: Backend> Linear<Param<B>> {
    /// What the backwards of some layers read of the gradients `dy` of their outputs: products read them rounded, the gradient
    /// of a bias reads their values.
    pub(crate) fn kept_gradients<const N: usize>(layers: [&Self; N]) -> Keep {
        let is_trained = |layer: &Self| layer.bias.as_ref().is_some_and(|bias| bias.info().trained);
        if layers.into_iter().any(is_trained) { Keep::Values } else { Keep::Operand }
    }

    /// Whether it is its matrix alone.
    pub(crate) fn is_plain(&self) -> bool {
        self.bias.is_none() && self.lora.is_none()
    }

    /// `y ← x Wᵀ + b + s (x Aᵀ) Bᵀ`, or `+=`.
    pub(crate) fn forward(
        &self,
        p: &Pass<B>,
        y: (&mut B::Buf, Store),
        x: &B::Operand,
        low_rank: &mut LowRankRows<B>,
    ) {
        self.forward_on(p.b, Rows::All(p.rows), y, x, low_rank);
    }

    /// Writes `dx`, or adds to it; adds to the gradients of what is trained.
    pub(crate) fn backward(
        &self,
        p: &Pass<B>,
        dx: (&mut B::Buf, Store),
        grad: &mut Linear<B::Buf>,
        dy: &B::Operand,
        x: &B::Operand,
        low_rank: &mut LowRankRows<B>,
    ) {
        self.backward_input(p, dx, dy, low_rank);
        self.backward_weight(p, grad, dy, x, low_rank);
    }

    /// `dx ← dy W + dh A`, or `+=`.
    pub(crate) fn backward_input(
        &self,
        p: &Pass<B>,
        dx: (&mut B::Buf, Store),
        dy: &B::Operand,
        low_rank: &mut LowRankRows<B>,
    ) {
        self.backward_input_on(p.b, Rows::All(p.rows), dx, dy, low_rank);
    }

    /// After [`backward_input`](Self::backward_input): `dW += dyᵀ x` and `db += Σ dy` of what is trained, and the gradients of
    /// the adapter.
    pub(crate) fn backward_weight(
        &self,
        p: &Pass<B>,
        grad: &mut Linear<B::Buf>,
        dy: &B::Operand,
        x: &B::Operand,
        low_rank: &mut LowRankRows<B>,
    ) {
        self.backward_weight_on(p.b, Rows::All(p.rows), grad, dy, x, low_rank);
    }

    /// [`forward`](Self::forward) of these rows.
    pub(crate) fn forward_on(
        &self,
        b: &B,
        rows: Rows<'_, B>,
        (y, store): (&mut B::Buf, Store),
        x: &B::Operand,
        low_rank: &mut LowRankRows<B>,
    ) {
        rows.forward(b, (&mut *y, store), x, self.weight.matrix());
        if let Some(bias) = &self.bias {
            b.bias_forward(y, bias.value(), bias.info().len(), rows.len());
        }
        if let Some(lora) = &self.lora {
            lora.forward(b, rows, y, x, low_rank);
        }
    }

    /// [`backward_input`](Self::backward_input) of these rows.
    pub(crate) fn backward_input_on(
        &self,
        b: &B,
        rows: Rows<'_, B>,
        (dx, store): (&mut B::Buf, Store),
        dy: &B::Operand,
        low_rank: &mut LowRankRows<B>,
    ) {
        rows.backward_input(b, (&mut *dx, store), dy, self.weight.matrix());
        if let Some(lora) = &self.lora {
            lora.backward_input(b, rows, dx, dy, low_rank);
        }
    }

    /// Of a product from the other side, `x ← dy W + s (dy B) A`, which [`backward_input_on`](Self::backward_input_on) computes: from
    /// the gradient `x` of what it gave, adds to the gradients of what is trained.
    pub(crate) fn backward_weight_of_input_on(
        &self,
        b: &B,
        rows: Rows<'_, B>,
        grad: &mut Linear<B::Buf>,
        dy: &B::Operand,
        x: &B::Operand,
        low_rank: &mut LowRankRows<B>,
    ) {
        if let Some(lora) = &self.lora {
            lora.project_back(b, rows, &mut low_rank.dh, dy);
        }
        self.backward_weight_on(b, rows, grad, dy, x, low_rank);
    }

    /// [`backward_weight`](Self::backward_weight) of these rows.
    pub(crate) fn backward_weight_on(
        &self,
        b: &B,
        rows: Rows<'_, B>,
        grad: &mut Linear<B::Buf>,
        dy: &B::Operand,
        x: &B::Operand,
        low_rank: &mut LowRankRows<B>,
    ) {
        let w = self.weight.matrix();
        if let Some(grad) = self.weight.gradient(&mut grad.weight) {
            rows.backward_weight(b, grad, dy, x, w);
        }
        if let Some((bias, grad)) = self.bias.as_ref().zip(grad.bias.as_mut())
            && let Some(grad) = bias.gradient(grad)
        {
            b.bias_backward(grad, dy, w.shape()[0], rows.len());
        }
        if let Some((lora, grad)) = self.lora.as_ref().zip(grad.lora.as_mut()) {
            lora.backward_weight(b, rows, grad, dy, x, low_rank);
        }
    }
}

impl<B: Backend> Lora<Param<B>> {
    /// `h ← s x Aᵀ`
    fn project(&self, b: &B, rows: Rows<'_, B>, h: &mut B::Operand, x: &B::Operand) {
        let [rank, _] = self.down.matrix().shape();
        rows.of_down().forward(b, (b.values_mut(h), Store::Write), x, self.down.matrix());
        b.scale(h, self.scale, rows.len() * rank);
    }

    /// `dh ← s dy B`
    fn project_back(&self, b: &B, rows: Rows<'_, B>, dh: &mut B::Operand, dy: &B::Operand) {
        let [rank, _] = self.down.matrix().shape();
        rows.backward_input(b, (b.values_mut(dh), Store::Write), dy, self.up.matrix());
        b.scale(dh, self.scale, rows.len() * rank);
    }

    /// `y += h Bᵀ + s b`
    fn forward(
        &self,
        b: &B,
        rows: Rows<'_, B>,
        y: &mut B::Buf,
        x: &B::Operand,
        low_rank: &mut LowRankRows<B>,
    ) {
        self.project(b, rows, &mut low_rank.h, x);
        rows.forward(b, (&mut *y, Store::Add), &low_rank.h, self.up.matrix());
        // That of heads is added where they stand beside each other.
        if let Some(bias) = self.bias.as_ref().filter(|_| !matches!(rows, Rows::Heads(..))) {
            b.bias_forward(y, bias.value(), bias.info().len(), rows.len());
        }
    }

    /// `dh ← s dy B` and `dx += dh A`
    fn backward_input(
        &self,
        b: &B,
        rows: Rows<'_, B>,
        dx: &mut B::Buf,
        dy: &B::Operand,
        low_rank: &mut LowRankRows<B>,
    ) {
        self.project_back(b, rows, &mut low_rank.dh, dy);
        rows.of_down().backward_input(b, (dx, Store::Add), &low_rank.dh, self.down.matrix());
    }

    /// `dA += dhᵀ x` and `dB += dyᵀ h`
    fn backward_weight(
        &self,
        b: &B,
        rows: Rows<'_, B>,
        grad: &mut Lora<B::Buf>,
        dy: &B::Operand,
        x: &B::Operand,
        low_rank: &mut LowRankRows<B>,
    ) {
        self.project(b, rows, &mut low_rank.h, x);
        let [up, down] = [&self.up, &self.down].map(Param::matrix);
        rows.backward_weight(b, &mut grad.up, dy, &low_rank.h, up);
        rows.of_down().backward_weight(b, &mut grad.down, &low_rank.dh, x, down);
    }
}
