//! The trunk: from tokens to normed rows, which heads read.
//!
//! ```text
//! x ← embedding(ids), then layer after layer, then rms_norm(x)
//! ```

use koan_backend::{Backend, Keep, OutOfMemory};

use crate::{
    Config, Layer, Param, Purpose, Role, TensorInfo,
    activations::RowMaker,
    attention::AttentionCache,
    layer::{LayerActivations, LayerGradients, LayerKind, LayerWork, Pass, PerKind},
    tensors::Maker,
};

/// The tensors of a trunk.
#[derive(Clone, Debug)]
pub struct Trunk<T> {
    /// `[vocab_size, hidden_size]`
    pub embed_tokens: T,
    /// The layers, first to last.
    pub layers: Vec<Layer<T>>,
    /// `[hidden_size]`: the norm after the last layer.
    pub norm: T,
}

/// What the trunk works in, and what its backward reads of it; all `[rows, ...]`.
pub(crate) struct TrunkActivations<B: Backend> {
    /// The residual stream; after a forward that after the last layer.
    pub(crate) stream: B::Buf,
    layers: Saved<B>,
    /// The stream before each layer, where all else of the layer is computed again.
    inputs: Vec<B::Buf>,
    work: PerKind<LayerWork<B>>,
    /// The stream after the last norm `[rows, hidden_size]`: what heads read.
    pub(crate) normed: B::Operand,
    rstd: B::Buf,
}

/// What the layers leave for their backward.
enum Saved<B: Backend> {
    /// Each layer has its own.
    Each(Vec<LayerActivations<B>>),
    /// Nothing is left, or it is computed again: layers of a kind use one in turn.
    InTurn(PerKind<LayerActivations<B>>),
}

/// The gradients that the trunk's backward works in.
pub(crate) struct TrunkGradients<B: Backend> {
    /// Of the residual stream: values that norms add to, and what products read of them.
    dx: B::Operand,
    layers: PerKind<LayerGradients<B>>,
}

impl<T> Trunk<T> {
    pub(crate) fn try_build<E, F>(config: &Config, at: &mut Maker<'_, F>) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        let role = Role::Embedding { tied: config.tie_word_embeddings };
        let embed_tokens = at.tensor("embed_tokens.weight", &[vocab, hidden], role)?;
        let layer = |(i, kind)| Layer::try_build(kind, config, &mut at.under(&format!("layers.{i}")));
        Ok(Self {
            embed_tokens,
            layers: config.layer_kinds().enumerate().map(layer).collect::<Result<_, E>>()?,
            norm: at.norm("norm", hidden)?,
        })
    }

    pub(crate) fn tensors(&self) -> impl Iterator<Item = &T> {
        let layers = self.layers.iter().flat_map(Layer::tensors);
        std::iter::once(&self.embed_tokens).chain(layers).chain([&self.norm])
    }

    pub(crate) fn tensors_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let layers = self.layers.iter_mut().flat_map(Layer::tensors_mut);
        std::iter::once(&mut self.embed_tokens).chain(layers).chain([&mut self.norm])
    }
}

impl<B: Backend> TrunkActivations<B> {
    pub(crate) fn build(
        config: &Config,
        purpose: Purpose,
        make: &mut RowMaker<'_, B>,
    ) -> Result<Self, OutOfMemory> {
        let inputs = if purpose == Purpose::Recomputing { config.num_hidden_layers } else { 0 };
        let mut layer = |kind| LayerActivations::build(kind, config, purpose, make);
        let layers = match purpose {
            Purpose::Training => Saved::Each(config.layer_kinds().map(layer).collect::<Result<_, _>>()?),
            Purpose::Inference | Purpose::Recomputing => Saved::InTurn(PerKind::build(config, &mut layer)?),
        };
        Ok(Self {
            stream: make.buf(config.hidden_size)?,
            layers,
            inputs: (0..inputs).map(|_| make.buf(config.hidden_size)).collect::<Result<_, _>>()?,
            work: PerKind::build(config, |kind| LayerWork::build(kind, config, purpose, make))?,
            normed: make.operand(config.hidden_size, Keep::Operand)?,
            rstd: make.buf(1)?,
        })
    }

    /// Whether the backward computes the layers again.
    pub(crate) fn recomputes(&self) -> bool {
        !self.inputs.is_empty()
    }

    /// Whether a backward can follow.
    fn is_for_backward(&self) -> bool {
        matches!(self.layers, Saved::Each(_)) || self.recomputes()
    }
}

impl<B: Backend> Saved<B> {
    /// Of layer `i`, which is of kind `kind`.
    fn of(&mut self, i: usize, kind: LayerKind) -> &mut LayerActivations<B> {
        match self {
            Self::Each(layers) => &mut layers[i],
            Self::InTurn(kinds) => kinds.of(kind),
        }
    }
}

impl<B: Backend> TrunkGradients<B> {
    pub(crate) fn build(config: &Config, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        let layers = PerKind::build(config, |kind| LayerGradients::build(kind, config, make))?;
        Ok(Self { dx: make.operand(config.hidden_size, Keep::Values)?, layers })
    }
}

impl<B: Backend> Trunk<Param<B>> {
    /// Runs the pass through the layers and the last norm: `a.normed` then holds the normed rows. With a cache, new keys
    /// and values go to it, and all are read from it.
    pub(crate) fn forward(
        &self,
        p: &Pass<B>,
        a: &mut TrunkActivations<B>,
        mut cache: Option<&mut [AttentionCache<B>]>,
    ) {
        let (b, n, hidden) = (p.b, p.rows, p.config.hidden_size);
        b.embedding_forward(&mut a.stream, self.embed_tokens.value(), hidden, p.layout);
        for (i, layer) in self.layers.iter().enumerate() {
            let kind = layer.kind();
            let cache = cache.as_mut().map(|cache| &mut cache[i]);
            if let Some(input) = a.inputs.get_mut(i) {
                b.copy(input, &a.stream, n * hidden);
            }
            layer.forward(p, &mut a.stream, a.layers.of(i, kind), a.work.of(kind), cache);
        }
        let (w, eps) = (self.norm.value(), p.config.rms_norm_eps);
        b.rms_norm_forward(&mut a.normed, &mut a.rstd, &a.stream, w, eps, n);
    }

    /// After [`Trunk::forward`] without a cache: from `d_normed`, the gradient of the normed rows, adds that of the
    /// weights to `grad`. Uses the activations up.
    ///
    /// # Panics
    /// If the activations were not planned for training.
    pub(crate) fn backward(
        &self,
        p: &Pass<B>,
        d_normed: &B::Buf,
        a: &mut TrunkActivations<B>,
        d: &mut TrunkGradients<B>,
        grad: &mut Trunk<B::Buf>,
    ) {
        assert!(a.is_for_backward(), "activations planned for training");
        let (b, n, hidden) = (p.b, p.rows, p.config.hidden_size);
        b.clear(b.values_mut(&mut d.dx));
        let (w, dw) = (self.norm.value(), self.norm.gradient(&mut grad.norm));
        b.stream_norm_backward(&mut d.dx, dw, d_normed, &a.stream, w, &a.rstd, n);
        for (i, (layer, grad)) in self.layers.iter().zip(&mut grad.layers).enumerate().rev() {
            let kind = layer.kind();
            let (saved, work) = (a.layers.of(i, kind), a.work.of(kind));
            if let Some(input) = a.inputs.get(i) {
                b.copy(&mut a.stream, input, n * hidden);
                layer.activate(p, &mut a.stream, saved, work);
            }
            layer.backward(p, &mut d.dx, saved, work, d.layers.of(kind), grad);
        }
        if let Some(grad) = self.embed_tokens.gradient(&mut grad.embed_tokens) {
            b.embedding_backward(grad, b.values(&d.dx), hidden, p.layout);
        }
    }
}
