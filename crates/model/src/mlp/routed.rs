//! A mixture of experts (arXiv:2412.19437, section 2.1.2): each row chooses some of the MLPs of a layer.
//!
//! ```text
//! x ← x + Σ Dₑ (wₑ · silu(Gₑ n) · Uₑ n) + shared(n)     over the experts e that the row chose, ascending
//! ```
//!
//! A row's copies lie with those of other rows that go to the same expert, without padding, and none is dropped. The weight is
//! put before the last product, so that the backward reads no outputs. All of it depends on the row alone.

use koan_backend::{Backend, Keep, Matrix, MixtureGradients, OutOfMemory, Routing, Store};

use super::dense::{Dense, DenseActivations, DenseWork};
use crate::{
    Config, ExpertsConfig, Linear, Param, Purpose, Role, TensorInfo,
    activations::RowMaker,
    layer::Pass,
    linear::{LowRankRows, Rows},
    tensors::Maker,
};

/// A mixture of experts.
#[derive(Clone, Debug)]
pub struct Routed<T> {
    /// `[experts, hidden_size]`: the router.
    pub gate: T,
    /// `[experts]`: added to the scores for the choice alone. Its gradient is the load: how many rows chose each expert.
    pub bias: Option<T>,
    /// Of each expert, to its features from `hidden_size`.
    pub gate_proj: Linear<T>,
    /// Of each expert, to its features from `hidden_size`.
    pub up_proj: Linear<T>,
    /// Of each expert, to `hidden_size` from its features.
    pub down_proj: Linear<T>,
    /// What all rows have.
    pub shared: Option<Dense<T>>,
}

/// What the forward leaves for the backward.
pub(crate) struct RoutedActivations<B: Backend> {
    /// `[rows, experts]`
    scores: B::Buf,
    routes: B::Routes,
    /// `[copies, features]`; they become their gradients.
    gate: B::Operand,
    up: B::Operand,
    shared: Option<DenseActivations<B>>,
}

/// What one pass over memory gives again; what only a backward needs is empty without one.
pub(crate) struct RoutedWork<B: Backend> {
    /// The normed rows' copies `[copies, hidden_size]`.
    copies: B::Operand,
    /// SwiGLU's output, and in the backward its gradient before `[copies, features]`.
    swiglu: B::Operand,
    /// What the experts give, and in the backward the gradient of `copies` `[copies, hidden_size]`.
    out: B::Buf,
    /// The copies of the stream's gradient `[copies, hidden_size]`.
    d_out: B::Operand,
    /// The gradient of the weights `[copies]`.
    d_weights: B::Buf,
    /// The gradient of the router's logits `[rows, experts]`.
    d_logits: B::Operand,
    low_rank: LowRankRows<B>,
    shared: Option<DenseWork<B>>,
}

/// The experts of a config whose layers have them.
fn experts(config: &Config) -> &ExpertsConfig {
    config.experts.as_ref().expect("a layer of experts is of a config that has them")
}

impl<T> Routed<T> {
    pub(super) fn try_build<E, F>(config: &Config, at: &mut Maker<'_, F>) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        let (hidden, of) = (config.hidden_size, experts(config));
        let (n, features) = (of.routed, of.intermediate_size);
        let bias = "gate.e_score_correction_bias";
        Ok(Self {
            gate: at.tensor("gate.weight", &[n, hidden], Role::Router)?,
            bias: of.bias.then(|| at.tensor(bias, &[n], Role::RouterBias)).transpose()?,
            gate_proj: Linear::try_build_experts(at, "gate_proj", [n, features, hidden])?,
            up_proj: Linear::try_build_experts(at, "up_proj", [n, features, hidden])?,
            down_proj: Linear::try_build_experts(at, "down_proj", [n, hidden, features])?,
            shared: match of.shared_features() {
                0 => None,
                features => Some(Dense::of_size([features, hidden], false, &mut at.under("shared_experts"))?),
            },
        })
    }

    pub(super) fn tensors(&self) -> impl Iterator<Item = &T> {
        let experts = [&self.gate_proj, &self.up_proj, &self.down_proj];
        std::iter::once(&self.gate)
            .chain(&self.bias)
            .chain(experts.into_iter().flat_map(Linear::tensors))
            .chain(self.shared.iter().flat_map(Dense::tensors))
    }

    pub(super) fn tensors_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let experts = [&mut self.gate_proj, &mut self.up_proj, &mut self.down_proj];
        std::iter::once(&mut self.gate)
            .chain(&mut self.bias)
            .chain(experts.into_iter().flat_map(Linear::tensors_mut))
            .chain(self.shared.iter_mut().flat_map(Dense::tensors_mut))
    }
}

impl<B: Backend> RoutedActivations<B> {
    pub(super) fn build(config: &Config, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        let of = experts(config);
        let features = of.per_token * of.intermediate_size;
        Ok(Self {
            scores: make.buf(of.routed)?,
            routes: make.routes(of.routing())?,
            gate: make.operand(features, Keep::Values)?,
            up: make.operand(features, Keep::Values)?,
            shared: match of.shared_features() {
                0 => None,
                features => Some(DenseActivations::build(features, make)?),
            },
        })
    }
}

impl<B: Backend> RoutedWork<B> {
    pub(super) fn build(
        config: &Config,
        purpose: Purpose,
        make: &mut RowMaker<'_, B>,
    ) -> Result<Self, OutOfMemory> {
        let (of, copies) = (experts(config), experts(config).per_token);
        let of_backward = |features| if purpose == Purpose::Inference { 0 } else { features };
        Ok(Self {
            copies: make.operand(copies * config.hidden_size, Keep::Operand)?,
            swiglu: make.operand(copies * of.intermediate_size, purpose.keep())?,
            out: make.buf(copies * config.hidden_size)?,
            d_out: make.operand(of_backward(copies * config.hidden_size), Keep::Operand)?,
            d_weights: make.buf(of_backward(copies))?,
            d_logits: make.operand(of_backward(of.routed), Keep::Operand)?,
            low_rank: LowRankRows::of_copies(config, copies, make)?,
            shared: match of.shared_features() {
                0 => None,
                features => Some(DenseWork::build(config, features, purpose, make)?),
            },
        })
    }
}

impl<B: Backend> Routed<Param<B>> {
    fn routing(p: &Pass<B>) -> Routing {
        experts(p.config).routing()
    }

    /// The matrices of the experts, where they have nothing else: a backend computes such experts as a whole.
    fn plain(&self) -> Option<[&Matrix<B>; 3]> {
        let layers = [&self.gate_proj, &self.up_proj, &self.down_proj];
        layers.iter().all(|layer| layer.is_plain()).then(|| layers.map(|layer| layer.weight.matrix()))
    }

    /// Chooses the experts of each row.
    fn route(&self, p: &Pass<B>, normed: &B::Operand, a: &mut RoutedActivations<B>) {
        let (b, bias) = (p.b, self.bias.as_ref().map(Param::value));
        b.linear_forward(&mut a.scores, normed, self.gate.matrix(), p.rows, Store::Write);
        b.route_forward(&mut a.routes, &mut a.scores, bias, Self::routing(p), p.rows);
    }

    /// See [`Mlp::forward`](super::Mlp::forward).
    pub(super) fn forward(
        &self,
        p: &Pass<B>,
        x: &mut B::Buf,
        normed: &B::Operand,
        a: &mut RoutedActivations<B>,
        work: &mut RoutedWork<B>,
    ) {
        let Some(w) = self.plain() else {
            self.activate(p, normed, a, work);
            return self.add_output(p, x, a, work);
        };
        self.route(p, normed, a);
        let (RoutedActivations { routes, gate, up, .. }, RoutedWork { copies, swiglu, out, .. }) =
            (&mut *a, &mut *work);
        p.b.mixture_forward(out, [gate, up], normed, w, routes, [copies, swiglu]);
        p.b.sum_copies(x, out, routes, p.config.hidden_size, Store::Add);
        if let (Some(shared), Some(a), Some(work)) = (&self.shared, &mut a.shared, &mut work.shared) {
            shared.activate(p, normed, a, work);
            shared.add_output(p, x, a, work);
        }
    }

    /// See [`Mlp::activate`](super::Mlp::activate).
    pub(super) fn activate(
        &self,
        p: &Pass<B>,
        normed: &B::Operand,
        a: &mut RoutedActivations<B>,
        work: &mut RoutedWork<B>,
    ) {
        self.route(p, normed, a);
        let (b, of) = (p.b, Self::routing(p));
        b.copies_forward(&mut work.copies, normed, &a.routes, p.config.hidden_size);
        let rows = Rows::Copies(&a.routes, p.rows * of.per_token);
        let (copies, low_rank) = (&work.copies, &mut work.low_rank);
        self.gate_proj.forward_on(b, rows, (b.values_mut(&mut a.gate), Store::Write), copies, low_rank);
        self.up_proj.forward_on(b, rows, (b.values_mut(&mut a.up), Store::Write), copies, low_rank);
        if let (Some(shared), Some(a), Some(work)) = (&self.shared, &mut a.shared, &mut work.shared) {
            shared.activate(p, normed, a, work);
        }
    }

    /// After [`activate`](Self::activate): `x += mlp(normed)`.
    pub(super) fn add_output(
        &self,
        p: &Pass<B>,
        x: &mut B::Buf,
        a: &RoutedActivations<B>,
        work: &mut RoutedWork<B>,
    ) {
        let (b, of, hidden) = (p.b, experts(p.config), p.config.hidden_size);
        let (gate, up) = (b.values(&a.gate), b.values(&a.up));
        b.weighted_swiglu_forward(&mut work.swiglu, gate, up, &a.routes, of.intermediate_size);
        let rows = Rows::Copies(&a.routes, p.rows * of.per_token);
        let out = (&mut work.out, Store::Write);
        self.down_proj.forward_on(b, rows, out, &work.swiglu, &mut work.low_rank);
        b.sum_copies(x, &work.out, &a.routes, hidden, Store::Add);
        if let (Some(shared), Some(a), Some(work)) = (&self.shared, &a.shared, &mut work.shared) {
            shared.add_output(p, x, a, work);
        }
    }

    /// See [`Mlp::backward`](super::Mlp::backward). The activations become their gradients.
    pub(super) fn backward(
        &self,
        p: &Pass<B>,
        d_normed: &mut B::Buf,
        dx: &B::Operand,
        normed: &B::Operand,
        a: &mut RoutedActivations<B>,
        work: &mut RoutedWork<B>,
        grad: &mut Routed<B::Buf>,
    ) {
        let (b, of, hidden) = (p.b, Self::routing(p), p.config.hidden_size);
        let mut store = Store::Write;
        if let (Some(shared), Some(a), Some(work)) = (&self.shared, &mut a.shared, &mut work.shared) {
            let grad = grad.shared.as_mut().expect("a gradient of the same config");
            shared.backward(p, d_normed, dx, normed, a, work, grad);
            store = Store::Add;
        }
        let RoutedActivations { scores, routes, gate, up, .. } = a;
        let RoutedWork { copies, swiglu, out, d_out, d_weights, d_logits, low_rank, .. } = work;
        let rows = Rows::Copies(routes, p.rows * of.per_token);
        if let Some(w) = self.plain() {
            let matrices = [
                (&self.gate_proj, &mut grad.gate_proj),
                (&self.up_proj, &mut grad.up_proj),
                (&self.down_proj, &mut grad.down_proj),
            ]
            .map(|(layer, grad)| layer.weight.gradient(&mut grad.weight));
            let d = MixtureGradients { copies: &mut *out, weights: &mut *d_weights, matrices };
            b.mixture_backward(d, dx, normed, [gate, up], w, routes, [d_out, copies, swiglu]);
        } else {
            b.copies_forward(d_out, dx, routes, hidden);
            let d_swiglu = (b.values_mut(swiglu), Store::Write);
            self.down_proj.backward_input_on(b, rows, d_swiglu, d_out, low_rank);
            let features = experts(p.config).intermediate_size;
            let keep = Linear::kept_gradients([&self.gate_proj, &self.up_proj]);
            b.weighted_swiglu_backward(d_weights, swiglu, gate, up, keep, routes, features);
            self.down_proj.backward_weight_on(b, rows, &mut grad.down_proj, d_out, swiglu, low_rank);

            b.copies_forward(copies, normed, routes, hidden);
            let d_gate = &mut grad.gate_proj;
            self.gate_proj.backward_input_on(b, rows, (&mut *out, Store::Write), gate, low_rank);
            self.gate_proj.backward_weight_on(b, rows, d_gate, gate, copies, low_rank);
            self.up_proj.backward_input_on(b, rows, (&mut *out, Store::Add), up, low_rank);
            self.up_proj.backward_weight_on(b, rows, &mut grad.up_proj, up, copies, low_rank);
        }
        b.sum_copies(d_normed, out, routes, hidden, store);

        let load = grad.bias.as_mut();
        b.route_backward(d_logits, load, d_weights, scores, routes, of, p.balance, p.layout);
        b.linear_backward_input(d_normed, d_logits, self.gate.matrix(), p.rows, Store::Add);
        if let Some(grad) = self.gate.gradient(&mut grad.gate) {
            let w = self.gate.matrix();
            b.linear_backward_weight(grad, d_logits, normed, p.rows, w.shape(), w.precision());
        }
    }
}
