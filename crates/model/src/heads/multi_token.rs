//! Multi-token prediction (DeepSeek-V3, arXiv:2412.19437, section 2.2): modules after the last layer, each of which predicts a
//! token further ahead.
//!
//! ```text
//! hᵏᵢ = layer(P [norm(embedding(tᵢ₊ₖ)); norm(hᵏ⁻¹ᵢ)])      with h⁰ the trunk's normed rows, and each hᵏ normed before it is read
//! log pᵏᵢ = log_softmax(W hᵏᵢ)  of the token tᵢ₊ₖ₊₁         with the embedding and the head W of the model itself
//! ```
//!
//! The embedding comes first in the projection, as in all checkpoints; the paper prints it second. What the modules read are the
//! rows after their norm, as transformers and vLLM have it.

use koan_backend::{Backend, Columns, Keep, OutOfMemory, Store};

use super::{Head, LanguageHead};
use crate::{
    Config, Layer, Linear, Param, Purpose, TensorInfo,
    activations::RowMaker,
    attention::AttentionCache,
    layer::{LayerActivations, LayerGradients, LayerWork, Pass},
    linear::LowRankRows,
    tensors::Maker,
    trunk::Trunk,
};

/// The tensors of a module.
#[derive(Clone, Debug)]
pub struct MultiToken<T> {
    /// `[hidden_size]`: the norm of the embedding.
    pub enorm: T,
    /// `[hidden_size]`: the norm of the rows before.
    pub hnorm: T,
    /// To `hidden_size` features, from twice as many: the embedding's come first.
    pub eh_proj: Linear<T>,
    /// Of the kind of the model's last layer.
    pub layer: Layer<T>,
    /// `[hidden_size]`: the norm after the layer.
    pub norm: T,
}

/// What the modules work in for passes of up to so many rows, and what their backward reads.
pub struct MultiTokenRows<B: Backend> {
    modules: Vec<Saved<B>>,
    /// The trunk's normed rows, as values.
    hidden: B::Buf,
    /// A norm's output, or its gradient.
    part: B::Buf,
    rstd: B::Buf,
    work: LayerWork<B>,
    low_rank: LowRankRows<B>,
    /// The gradient of a module's rows after their norm, as the head writes it.
    d_normed: B::Buf,
    /// The same, with what the next module adds.
    d_hidden: B::Buf,
    d_previous: B::Buf,
    d_embedding: B::Buf,
    d_concat: B::Buf,
    dx: B::Operand,
    d_layer: LayerGradients<B>,
}

/// What the first module drafts in: from the rows of passes that go to a cache, and then from its own.
pub struct Drafting<B: Backend> {
    module: Saved<B>,
    /// The rows before, as the module reads them; in turn with its own.
    previous: B::Buf,
    part: B::Buf,
    rstd: B::Buf,
    work: LayerWork<B>,
    low_rank: LowRankRows<B>,
    /// What the module's attention keeps of tokens seen: the same rows as the model's.
    cache: AttentionCache<B>,
    head: Head<B>,
}

/// What a module's forward leaves for its backward.
struct Saved<B: Backend> {
    embedding: B::Buf,
    rstd_e: B::Buf,
    rstd_h: B::Buf,
    concat: B::Operand,
    layer: LayerActivations<B>,
    /// The stream after the layer.
    stream: B::Buf,
    rstd: B::Buf,
    /// The rows after the norm: values, and what products read.
    hidden: B::Buf,
    normed: B::Operand,
}

impl<T> MultiToken<T> {
    /// Module `i`, counted from 0.
    pub(crate) fn try_build<E, F>(config: &Config, i: usize, at: &mut Maker<'_, F>) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        let hidden = config.hidden_size;
        let mut at = at.under(&format!("layers.{}", config.num_hidden_layers + i));
        Ok(Self {
            enorm: at.norm("enorm", hidden)?,
            hnorm: at.norm("hnorm", hidden)?,
            // As DeepSeek-V3's files have it, beside matrices in FP8.
            eh_proj: Linear::try_build(&mut at.precise(), "eh_proj", [hidden, 2 * hidden], false)?,
            layer: Layer::try_build(config.multi_token_kind(), config, &mut at)?,
            norm: at.norm("shared_head.norm", hidden)?,
        })
    }

    pub(crate) fn tensors(&self) -> impl Iterator<Item = &T> {
        let Self { enorm, hnorm, eh_proj, layer, norm } = self;
        [enorm, hnorm].into_iter().chain(eh_proj.tensors()).chain(layer.tensors()).chain([norm])
    }

    pub(crate) fn tensors_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let Self { enorm, hnorm, eh_proj, layer, norm } = self;
        [enorm, hnorm].into_iter().chain(eh_proj.tensors_mut()).chain(layer.tensors_mut()).chain([norm])
    }
}

impl<B: Backend> MultiTokenRows<B> {
    /// For passes of up to `rows` tokens.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, config: &Config, rows: usize) -> Result<Self, OutOfMemory> {
        Self::build(config, &mut RowMaker::new(b, rows))
    }

    /// Bytes that they hold for passes of up to `rows` tokens.
    pub fn bytes(b: &B, config: &Config, rows: usize) -> usize {
        RowMaker::count(b, rows, |make| Self::build(config, make))[1]
    }

    fn build(config: &Config, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        let (hidden, kind) = (config.hidden_size, config.multi_token_kind());
        let mut saved = |_| Saved::build(config, Purpose::Training, make);
        Ok(Self {
            modules: (0..config.multi_token_layers).map(&mut saved).collect::<Result<_, _>>()?,
            hidden: make.buf(hidden)?,
            part: make.buf(hidden)?,
            rstd: make.buf(1)?,
            work: LayerWork::build(kind, config, Purpose::Training, make)?,
            low_rank: LowRankRows::build(config, make)?,
            d_normed: make.buf(hidden)?,
            d_hidden: make.buf(hidden)?,
            d_previous: make.buf(hidden)?,
            d_embedding: make.buf(hidden)?,
            d_concat: make.buf(2 * hidden)?,
            dx: make.operand(hidden, Keep::Values)?,
            d_layer: LayerGradients::build(kind, config, make)?,
        })
    }
}

impl<B: Backend> Saved<B> {
    fn build(config: &Config, purpose: Purpose, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        let (hidden, kind) = (config.hidden_size, config.multi_token_kind());
        Ok(Self {
            embedding: make.buf(hidden)?,
            rstd_e: make.buf(1)?,
            rstd_h: make.buf(1)?,
            concat: make.operand(2 * hidden, Keep::Values)?,
            layer: LayerActivations::build(kind, config, purpose, make)?,
            stream: make.buf(hidden)?,
            rstd: make.buf(1)?,
            hidden: make.buf(hidden)?,
            normed: make.operand(hidden, Keep::Operand)?,
        })
    }
}

impl<B: Backend> Drafting<B> {
    /// For passes of up to `rows` tokens, drafts for up to `sequences` at once, and a cache of `cache_rows` tokens.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(
        b: &B,
        config: &Config,
        [rows, sequences, cache_rows]: [usize; 3],
    ) -> Result<Self, OutOfMemory> {
        let kind = config.multi_token_kind();
        let (make, of_cache) = (&mut RowMaker::new(b, rows), &mut RowMaker::new(b, cache_rows));
        Ok(Self {
            module: Saved::build(config, Purpose::Inference, make)?,
            previous: make.buf(config.hidden_size)?,
            part: make.buf(config.hidden_size)?,
            rstd: make.buf(1)?,
            work: LayerWork::build(kind, config, Purpose::Inference, make)?,
            low_rank: LowRankRows::build(config, make)?,
            cache: AttentionCache::build(kind.attention, config, of_cache)?,
            head: Head::new(b, config, sequences)?,
        })
    }

    /// Bytes that it holds.
    pub fn bytes(b: &B, config: &Config, [rows, sequences, cache_rows]: [usize; 3]) -> usize {
        let kind = config.multi_token_kind();
        let of_rows = RowMaker::count(b, rows, |make| {
            Saved::build(config, Purpose::Inference, make)?;
            make.buf(2 * config.hidden_size + 1)?;
            LayerWork::build(kind, config, Purpose::Inference, make)?;
            LowRankRows::build(config, make)
        });
        let of_cache =
            RowMaker::count(b, cache_rows, |make| AttentionCache::build(kind.attention, config, make));
        of_rows[1] + of_cache[1] + Head::bytes(b, config, sequences)
    }
}

/// After a pass of the model to a cache, over rows among which those of `p` are the rows `from`: the tokens that the module samples
/// after the head rows of `p`, whose tokens are those that follow each row, and their log-probabilities.
pub(crate) fn draft<B: Backend>(
    module: &MultiToken<Param<B>>,
    p: &Pass<B>,
    from: &B::Layout,
    trunk: &Trunk<Param<B>>,
    head: &LanguageHead<Param<B>>,
    stream: &B::Buf,
    d: &mut Drafting<B>,
) -> Vec<(u32, f32)> {
    let (eps, n) = (p.config.rms_norm_eps, p.rows);
    p.b.embedding_forward(&mut d.part, stream, p.config.hidden_size, from);
    p.b.head_norm_forward(&mut d.previous, &mut d.rstd, &d.part, trunk.norm.value(), eps, n);
    sampled(module, p, trunk, head, d)
}

/// After [`draft`], or this, over a pass whose rows `from` give what is read here: the tokens that the module samples next, of the
/// passes that feed what it drafted, and their log-probabilities.
pub(crate) fn draft_on<B: Backend>(
    module: &MultiToken<Param<B>>,
    p: &Pass<B>,
    from: &B::Layout,
    trunk: &Trunk<Param<B>>,
    head: &LanguageHead<Param<B>>,
    d: &mut Drafting<B>,
) -> Vec<(u32, f32)> {
    // The rows that were drafted from, side by side.
    p.b.embedding_forward(&mut d.previous, &d.module.hidden, p.config.hidden_size, from);
    sampled(module, p, trunk, head, d)
}

fn sampled<B: Backend>(
    module: &MultiToken<Param<B>>,
    p: &Pass<B>,
    trunk: &Trunk<Param<B>>,
    head: &LanguageHead<Param<B>>,
    d: &mut Drafting<B>,
) -> Vec<(u32, f32)> {
    let Drafting { module: a, previous, part, work, low_rank, cache, head: rows, .. } = d;
    module.forward(p, trunk, previous, a, part, work, low_rank, Some(cache));
    // Rows of prompts are computed for their keys.
    let is_asked = p.b.head_rows(p.layout) > 0;
    if !is_asked {
        return Vec::new();
    }
    let (tokens, [log_probs, _]) = head.sample(p.b, &trunk.embed_tokens, &a.normed, p.layout, rows);
    tokens.into_iter().zip(log_probs).collect()
}

/// The parts of the projection's input: the embedding's columns, and those of the rows before.
fn parts(hidden: usize) -> [Columns; 2] {
    [0, hidden].map(|start| Columns::from(start, 2 * hidden))
}

impl<B: Backend> MultiToken<Param<B>> {
    /// From the rows before and the tokens ahead, those of the layout of `p`, computes the module's rows.
    fn forward(
        &self,
        p: &Pass<B>,
        trunk: &Trunk<Param<B>>,
        previous: &B::Buf,
        a: &mut Saved<B>,
        part: &mut B::Buf,
        work: &mut LayerWork<B>,
        low_rank: &mut LowRankRows<B>,
        cache: Option<&mut AttentionCache<B>>,
    ) {
        let (b, n, hidden, eps) = (p.b, p.rows, p.config.hidden_size, p.config.rms_norm_eps);
        let [of_embedding, of_previous] = parts(hidden);
        let whole = Columns::from(0, hidden);
        b.embedding_forward(&mut a.embedding, trunk.embed_tokens.value(), hidden, p.layout);
        b.head_norm_forward(part, &mut a.rstd_e, &a.embedding, self.enorm.value(), eps, n);
        b.columns(b.values_mut(&mut a.concat), part, [of_embedding, whole], [1, hidden], n, Store::Write);
        b.head_norm_forward(part, &mut a.rstd_h, previous, self.hnorm.value(), eps, n);
        b.columns(b.values_mut(&mut a.concat), part, [of_previous, whole], [1, hidden], n, Store::Write);
        b.round(&mut a.concat, n * 2 * hidden);
        self.eh_proj.forward(p, (&mut a.stream, Store::Write), &a.concat, low_rank);
        self.layer.forward(p, &mut a.stream, &mut a.layer, work, cache);
        b.head_norm_forward(&mut a.hidden, &mut a.rstd, &a.stream, self.norm.value(), eps, n);
        b.rms_norm_forward(&mut a.normed, &mut a.rstd, &a.stream, self.norm.value(), eps, n);
    }

    /// From `d_hidden`, the gradient of the module's rows, writes `d_previous`, that of the rows before; adds to `grad` and to the
    /// embedding's.
    fn backward(
        &self,
        p: &Pass<B>,
        d_embed_tokens: Option<&mut B::Buf>,
        previous: &B::Buf,
        a: &mut Saved<B>,
        d: Backward<'_, B>,
        grad: &mut MultiToken<B::Buf>,
    ) {
        let (b, n, hidden) = (p.b, p.rows, p.config.hidden_size);
        let Backward { part, work, low_rank, d_hidden, d_previous, d_embedding, d_concat, dx, d_layer } = d;
        let [of_embedding, of_previous] = parts(hidden);
        let whole = Columns::from(0, hidden);
        b.clear(b.values_mut(dx));
        let (w, dw) = (self.norm.value(), self.norm.gradient(&mut grad.norm));
        b.stream_norm_backward(dx, dw, d_hidden, &a.stream, w, &a.rstd, n);
        self.layer.backward(p, dx, &mut a.layer, work, d_layer, &mut grad.layer);
        self.eh_proj.backward(p, (&mut *d_concat, Store::Write), &mut grad.eh_proj, dx, &a.concat, low_rank);
        b.columns(part, d_concat, [whole, of_previous], [1, hidden], n, Store::Write);
        b.clear(d_previous);
        let (w, dw) = (self.hnorm.value(), self.hnorm.gradient(&mut grad.hnorm));
        b.rms_norm_backward(d_previous, dw, part, previous, w, &a.rstd_h, n);
        b.columns(part, d_concat, [whole, of_embedding], [1, hidden], n, Store::Write);
        b.clear(d_embedding);
        let (w, dw) = (self.enorm.value(), self.enorm.gradient(&mut grad.enorm));
        b.rms_norm_backward(d_embedding, dw, part, &a.embedding, w, &a.rstd_e, n);
        if let Some(grad) = d_embed_tokens {
            b.embedding_backward(grad, d_embedding, hidden, p.layout);
        }
    }
}

/// What a module's backward works in.
struct Backward<'a, B: Backend> {
    part: &'a mut B::Buf,
    work: &'a mut LayerWork<B>,
    low_rank: &'a mut LowRankRows<B>,
    d_hidden: &'a B::Buf,
    d_previous: &'a mut B::Buf,
    d_embedding: &'a mut B::Buf,
    d_concat: &'a mut B::Buf,
    dx: &'a mut B::Operand,
    d_layer: &'a mut LayerGradients<B>,
}

/// What modules read of the model that they are of.
pub(crate) struct Of<'a, B: Backend> {
    pub(crate) trunk: &'a Trunk<Param<B>>,
    pub(crate) head: &'a LanguageHead<Param<B>>,
    /// The stream after the last layer.
    pub(crate) stream: &'a B::Buf,
    /// The pass of each module: the tokens ahead of each row, and what is predicted there.
    pub(crate) passes: Vec<Pass<'a, B>>,
    pub(crate) temperature: f32,
}

/// Computes the modules one after another.
fn forward<B: Backend>(modules: &[MultiToken<Param<B>>], of: &Of<'_, B>, rows: &mut MultiTokenRows<B>) {
    let Some(p) = of.passes.first() else { return };
    let MultiTokenRows { modules: saved, hidden, part, rstd, work, low_rank, .. } = rows;
    p.b.head_norm_forward(hidden, rstd, of.stream, of.trunk.norm.value(), p.config.rms_norm_eps, p.rows);
    let mut previous = &*hidden;
    for ((module, p), a) in modules.iter().zip(&of.passes).zip(saved) {
        module.forward(p, of.trunk, previous, a, part, work, low_rank, None);
        previous = &a.hidden;
    }
}

/// The log-probabilities that the modules give to what lies ahead: of each, the sum over its targets.
pub(crate) fn log_probs<B: Backend>(
    modules: &[MultiToken<Param<B>>],
    of: &Of<'_, B>,
    head: &mut Head<B>,
    rows: &mut MultiTokenRows<B>,
) -> Vec<f64> {
    forward(modules, of, rows);
    let each = of.passes.iter().zip(&rows.modules).map(|(p, a)| {
        let embedding = &of.trunk.embed_tokens;
        let [log_probs, _] = of.head.log_probs(p.b, embedding, &a.normed, p.layout, of.temperature, head);
        log_probs.iter().sum()
    });
    each.collect()
}

/// As [`log_probs`], of a loss whose derivative by each of them is `d`: adds to the gradients, and to `d_normed`, that of the
/// trunk's normed rows.
pub(crate) fn learn<B: Backend>(
    modules: &[MultiToken<Param<B>>],
    of: &Of<'_, B>,
    d: f64,
    head: &mut Head<B>,
    rows: &mut MultiTokenRows<B>,
    d_normed: &mut B::Buf,
    grad: &mut [MultiToken<B::Buf>],
    d_head: &mut LanguageHead<B::Buf>,
    d_embed_tokens: &mut B::Buf,
) -> Vec<f64> {
    forward(modules, of, rows);
    let mut sums = vec![0.0; modules.len()];
    let last = modules.len().wrapping_sub(1);
    for (i, (module, p)) in modules.iter().zip(&of.passes).enumerate().rev() {
        let (b, hidden, n) = (p.b, p.config.hidden_size, p.rows);
        let (before, after) = rows.modules.split_at_mut(i);
        let Some(a) = after.first_mut() else { break };
        let embedding = &of.trunk.embed_tokens;
        let [log_probs, _] = of.head.log_probs(b, embedding, &a.normed, p.layout, of.temperature, head);
        sums[i] = log_probs.iter().sum();
        let (d_log_probs, of_head) = (vec![d; log_probs.len()], &mut rows.d_normed);
        of.head.backward(
            b,
            embedding,
            of_head,
            p.layout,
            &d_log_probs,
            of.temperature,
            head,
            d_head,
            d_embed_tokens,
        );
        let whole = Columns::from(0, hidden);
        if i == last {
            b.copy(&mut rows.d_hidden, of_head, n * hidden);
        } else {
            b.columns(&mut rows.d_hidden, of_head, [whole, whole], [1, hidden], n, Store::Add);
        }
        let previous = before.last().map_or(&rows.hidden, |a| &a.hidden);
        let d = Backward {
            part: &mut rows.part,
            work: &mut rows.work,
            low_rank: &mut rows.low_rank,
            d_hidden: &rows.d_hidden,
            d_previous: &mut rows.d_previous,
            d_embedding: &mut rows.d_embedding,
            d_concat: &mut rows.d_concat,
            dx: &mut rows.dx,
            d_layer: &mut rows.d_layer,
        };
        module.backward(p, embedding.gradient(d_embed_tokens), previous, a, d, &mut grad[i]);
        std::mem::swap(&mut rows.d_hidden, &mut rows.d_previous);
    }
    if let Some(p) = of.passes.first() {
        let whole = Columns::from(0, p.config.hidden_size);
        p.b.columns(d_normed, &rows.d_hidden, [whole, whole], [1, p.config.hidden_size], p.rows, Store::Add);
    }
    sums
}
