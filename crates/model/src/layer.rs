//! A layer, forward and backward side by side.
//!
//! ```text
//! x ← x + attention(rms_norm(x))
//! x ← x + mlp(rms_norm(x))
//! ```
//!
//! One path serves prefill, decoding and training: a cache, where there is one, only changes where keys and values lie.

use koan_backend::{Backend, Keep, OutOfMemory};

use crate::{
    Config, Param, Purpose, TensorInfo,
    activations::RowMaker,
    attention::{
        Attention, AttentionActivations, AttentionCache, AttentionGradients, AttentionKind, AttentionWork,
    },
    mlp::{Mlp, MlpActivations, MlpKind, MlpWork},
    tensors::Maker,
};

/// What every layer of a pass shares.
pub(crate) struct Pass<'a, B: Backend> {
    pub(crate) b: &'a B,
    pub(crate) config: &'a Config,
    pub(crate) cos: &'a B::Buf,
    pub(crate) sin: &'a B::Buf,
    /// What its rows are.
    pub(crate) layout: &'a B::Layout,
    /// How many there are.
    pub(crate) rows: usize,
    /// In a backward, the coefficient of the balance of experts: see [`Gradient`](crate::Gradient).
    pub(crate) balance: f32,
}

/// Of which kinds the two halves of a layer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerKind {
    /// Of which kind its attention is.
    pub attention: AttentionKind,
    /// Of which kind its MLP is.
    pub mlp: MlpKind,
}

/// The tensors of one layer.
#[derive(Clone, Debug)]
pub struct Layer<T> {
    /// `[hidden_size]`: the norm before attention.
    pub input_layernorm: T,
    /// What it adds from the tokens before.
    pub attention: Attention<T>,
    /// `[hidden_size]`: the norm before the MLP.
    pub post_attention_layernorm: T,
    /// What it adds from each token alone.
    pub mlp: Mlp<T>,
}

/// What a layer's forward leaves for its backward; all `[rows, ...]`.
pub(crate) struct LayerActivations<B: Backend> {
    /// The stream before attention, where a backward follows.
    x0: Option<B::Buf>,
    rstd0: B::Buf,
    attention: AttentionActivations<B>,
    /// The stream before the MLP, where a backward follows.
    x1: Option<B::Buf>,
    rstd1: B::Buf,
    mlp: MlpActivations<B>,
}

/// What a layer works in and does not keep: one pass over memory gives it again.
pub(crate) struct LayerWork<B: Backend> {
    /// The stream after a norm.
    normed: B::Operand,
    attention: AttentionWork<B>,
    mlp: MlpWork<B>,
}

/// The gradients that a layer's backward works in.
pub(crate) struct LayerGradients<B: Backend> {
    normed: B::Buf,
    attention: AttentionGradients<B>,
}

impl<T> Layer<T> {
    pub(crate) fn try_build<E, F>(kind: LayerKind, config: &Config, at: &mut Maker<'_, F>) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        Ok(Self {
            input_layernorm: at.norm("input_layernorm", config.hidden_size)?,
            attention: Attention::try_build(kind.attention, config, &mut at.under("self_attn"))?,
            post_attention_layernorm: at.norm("post_attention_layernorm", config.hidden_size)?,
            mlp: Mlp::try_build(kind.mlp, config, &mut at.under("mlp"))?,
        })
    }

    pub(crate) fn kind(&self) -> LayerKind {
        LayerKind { attention: self.attention.kind(), mlp: self.mlp.kind() }
    }

    pub(crate) fn tensors(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.input_layernorm)
            .chain(self.attention.tensors())
            .chain([&self.post_attention_layernorm])
            .chain(self.mlp.tensors())
    }

    pub(crate) fn tensors_mut(&mut self) -> impl Iterator<Item = &mut T> {
        std::iter::once(&mut self.input_layernorm)
            .chain(self.attention.tensors_mut())
            .chain([&mut self.post_attention_layernorm])
            .chain(self.mlp.tensors_mut())
    }
}

impl<B: Backend> LayerActivations<B> {
    pub(crate) fn build(
        kind: LayerKind,
        config: &Config,
        purpose: Purpose,
        make: &mut RowMaker<'_, B>,
    ) -> Result<Self, OutOfMemory> {
        let saved = |make: &mut RowMaker<'_, B>| {
            (purpose != Purpose::Inference).then(|| make.buf(config.hidden_size)).transpose()
        };
        Ok(Self {
            x0: saved(make)?,
            rstd0: make.buf(1)?,
            attention: AttentionActivations::build(kind.attention, config, purpose, make)?,
            x1: saved(make)?,
            rstd1: make.buf(1)?,
            mlp: MlpActivations::build(kind.mlp, config, make)?,
        })
    }
}

impl<B: Backend> LayerWork<B> {
    pub(crate) fn build(
        kind: LayerKind,
        config: &Config,
        purpose: Purpose,
        make: &mut RowMaker<'_, B>,
    ) -> Result<Self, OutOfMemory> {
        Ok(Self {
            normed: make.operand(config.hidden_size, Keep::Operand)?,
            attention: AttentionWork::build(kind.attention, config, make)?,
            mlp: MlpWork::build(kind.mlp, config, purpose, make)?,
        })
    }
}

impl<B: Backend> LayerGradients<B> {
    pub(crate) fn build(
        kind: LayerKind,
        config: &Config,
        make: &mut RowMaker<'_, B>,
    ) -> Result<Self, OutOfMemory> {
        let attention = AttentionGradients::build(kind.attention, config, make)?;
        Ok(Self { normed: make.buf(config.hidden_size)?, attention })
    }
}

impl<B: Backend> Layer<Param<B>> {
    /// Advances the residual stream `x` `[n, hidden_size]`.
    pub(crate) fn forward(
        &self,
        p: &Pass<B>,
        x: &mut B::Buf,
        a: &mut LayerActivations<B>,
        work: &mut LayerWork<B>,
        cache: Option<&mut AttentionCache<B>>,
    ) {
        self.attend(p, x, a, work, cache);
        self.mlp.forward(p, x, &work.normed, &mut a.mlp, &mut work.mlp);
    }

    /// Computes all that the layer's backward reads; `x` goes as far as the stream before the MLP.
    pub(crate) fn activate(
        &self,
        p: &Pass<B>,
        x: &mut B::Buf,
        a: &mut LayerActivations<B>,
        work: &mut LayerWork<B>,
    ) {
        self.attend(p, x, a, work, None);
        self.mlp.activate(p, &work.normed, &mut a.mlp, &mut work.mlp);
    }

    /// The layer as far as the norm before the MLP.
    fn attend(
        &self,
        p: &Pass<B>,
        x: &mut B::Buf,
        a: &mut LayerActivations<B>,
        work: &mut LayerWork<B>,
        cache: Option<&mut AttentionCache<B>>,
    ) {
        let normed = &mut work.normed;
        norm(p, normed, a.x0.as_mut(), &mut a.rstd0, x, &self.input_layernorm);
        self.attention.forward(p, x, normed, &mut a.attention, &mut work.attention, cache);

        norm(p, normed, a.x1.as_mut(), &mut a.rstd1, x, &self.post_attention_layernorm);
    }

    /// Turns `dx`, the gradient of the stream after the layer, with its rounded form, into that of the stream before it; adds to
    /// `grad`. Uses the activations up.
    pub(crate) fn backward(
        &self,
        p: &Pass<B>,
        dx: &mut B::Operand,
        a: &mut LayerActivations<B>,
        work: &mut LayerWork<B>,
        d: &mut LayerGradients<B>,
        grad: &mut Layer<B::Buf>,
    ) {
        let (b, eps, n) = (p.b, p.config.rms_norm_eps, p.rows);
        let normed = &mut work.normed;
        let [x0, x1] = [&a.x0, &a.x1].map(|x| x.as_ref().expect("activations planned for training"));
        let norm = &self.post_attention_layernorm;
        let (w, dw) = (norm.value(), norm.gradient(&mut grad.post_attention_layernorm));
        b.rms_norm_forward(normed, &mut a.rstd1, x1, w, eps, n);
        self.mlp.backward(p, &mut d.normed, dx, normed, &mut a.mlp, &mut work.mlp, &mut grad.mlp);
        b.stream_norm_backward(dx, dw, &d.normed, x1, w, &a.rstd1, n);

        let norm = &self.input_layernorm;
        let (w, dw) = (norm.value(), norm.gradient(&mut grad.input_layernorm));
        b.rms_norm_forward(normed, &mut a.rstd0, x0, w, eps, n);
        let (attention, d_attention) = (&a.attention, &mut d.attention);
        self.attention.backward(p, &mut d.normed, dx, normed, attention, d_attention, &mut grad.attention);
        b.stream_norm_backward(dx, dw, &d.normed, x0, w, &a.rstd0, n);
    }
}

/// The norm of the stream `x`, and a copy of it where a backward follows.
fn norm<B: Backend>(
    p: &Pass<B>,
    y: &mut B::Operand,
    saved: Option<&mut B::Buf>,
    rstd: &mut B::Buf,
    x: &B::Buf,
    w: &Param<B>,
) {
    let (w, eps, n) = (w.value(), p.config.rms_norm_eps, p.rows);
    match saved {
        Some(saved) => p.b.stream_norm_forward(y, saved, rstd, x, w, eps, n),
        None => p.b.rms_norm_forward(y, rstd, x, w, eps, n),
    }
}

/// One of something for each kind of layer that a model has: layers of a kind use it in turn.
pub(crate) struct PerKind<T>(Vec<(LayerKind, T)>);

impl<T> PerKind<T> {
    pub(crate) fn build<E>(
        config: &Config,
        mut make: impl FnMut(LayerKind) -> Result<T, E>,
    ) -> Result<Self, E> {
        let mut made: Vec<(LayerKind, T)> = Vec::new();
        for kind in config.layer_kinds() {
            if made.iter().all(|(other, _)| *other != kind) {
                made.push((kind, make(kind)?));
            }
        }
        Ok(Self(made))
    }

    pub(crate) fn of(&mut self, kind: LayerKind) -> &mut T {
        let found = self.0.iter_mut().find(|(other, _)| *other == kind);
        &mut found.expect("made for every kind of layer that the config has").1
    }
}
