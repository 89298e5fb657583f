//! The memory of a pass, planned before it runs and reused by every pass after.

use std::convert::Infallible;

use koan_backend::{Backend, OutOfMemory};

use crate::Config;

/// What the layers of a pass of up to `rows` tokens work in, and what the backward pass reads of it.
pub struct Activations<B: Backend> {
    pub(crate) rows: usize,
    /// The residual stream `[rows, hidden_size]`.
    pub(crate) stream: B::Buf,
    /// What each layer leaves for its backward; a single one, used by all layers in turn, where nothing is left, or where
    /// it is computed again.
    pub(crate) layers: Vec<LayerActivations<B::Buf>>,
    /// The stream before each layer, where all else of the layer is computed again.
    pub(crate) inputs: Vec<B::Buf>,
    pub(crate) work: LayerWork<B::Buf>,
    /// The stream after the last norm `[rows, hidden_size]`: what the output head reads.
    pub(crate) normed: B::Buf,
    pub(crate) rstd: B::Buf,
}

/// What one layer's forward leaves for its backward; all `[rows, ...]`.
pub(crate) struct LayerActivations<T> {
    /// The stream before attention.
    pub(crate) x0: T,
    pub(crate) rstd0: T,
    /// Of the queries and of the keys, in families that have it.
    pub(crate) q_norm: Option<HeadNorm<T>>,
    pub(crate) k_norm: Option<HeadNorm<T>>,
    /// After rope.
    pub(crate) q: T,
    /// After rope.
    pub(crate) k: T,
    pub(crate) v: T,
    pub(crate) attention: T,
    pub(crate) log_sum_exp: T,
    /// The stream before the MLP.
    pub(crate) x1: T,
    pub(crate) rstd1: T,
    pub(crate) gate: T,
    pub(crate) up: T,
}

/// What the norm of each head leaves for its backward.
pub(crate) struct HeadNorm<T> {
    /// The heads before the norm.
    pub(crate) x: T,
    pub(crate) rstd: T,
}

/// What a layer's products read and no layer keeps: one pass over memory gives it again.
pub(crate) struct LayerWork<T> {
    /// The stream after a norm.
    pub(crate) normed: T,
    pub(crate) swiglu: T,
}

/// The gradients that a layer's backward works in.
pub(crate) struct LayerGradients<T> {
    pub(crate) normed: T,
    pub(crate) q: T,
    pub(crate) k: T,
    pub(crate) v: T,
    /// Of queries or keys before their norm; empty where there is none.
    pub(crate) heads: T,
    pub(crate) attention: T,
}

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Forward alone.
    Inference,
    /// Forward and backward.
    Training,
    /// Forward and backward; of each layer only its input is kept, and the backward computes the rest again. The same
    /// gradient, to the bit, for a third more work and a fraction of the memory (arXiv:1604.06174).
    Recomputing,
}

impl<B: Backend> Activations<B> {
    /// For passes of up to `rows` tokens.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, config: &Config, rows: usize, purpose: Purpose) -> Result<Self, OutOfMemory> {
        let mut zeros = |features: usize| b.zeros(rows * features);
        let (layers, inputs) = layers(config, purpose);
        Ok(Self {
            rows,
            stream: zeros(config.hidden_size)?,
            layers: (0..layers)
                .map(|_| LayerActivations::build(config, &mut zeros))
                .collect::<Result<_, _>>()?,
            inputs: (0..inputs).map(|_| zeros(config.hidden_size)).collect::<Result<_, _>>()?,
            work: LayerWork::build(config, &mut zeros)?,
            normed: zeros(config.hidden_size)?,
            rstd: zeros(1)?,
        })
    }

    /// How many tokens a pass may have.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

/// How many layers' activations, and how many layers' inputs, a pass holds.
fn layers(config: &Config, purpose: Purpose) -> (usize, usize) {
    match purpose {
        Purpose::Inference => (1, 0),
        Purpose::Training => (config.num_hidden_layers, 0),
        Purpose::Recomputing => (1, config.num_hidden_layers),
    }
}

impl Purpose {
    /// Numbers that [`Activations`], and the gradients that a backward pass works in, hold a row.
    pub fn numbers_per_row(self, config: &Config) -> usize {
        self.sum(config, |features| features)
    }

    /// Bytes that they hold for passes of up to `rows` tokens: for the plan of a run's memory.
    pub fn bytes<B: Backend>(self, b: &B, config: &Config, rows: usize) -> usize {
        self.sum(config, |features| b.bytes(rows * features))
    }

    /// The sum over all buffers of what `of` says of their features.
    fn sum(self, config: &Config, of: impl Fn(usize) -> usize) -> usize {
        let (layers, inputs) = layers(config, self);
        let (mut layer, mut work, mut gradients) = (0, 0, 2 * of(config.hidden_size));
        let Ok(_) = LayerActivations::build(config, &mut |features| counted(layer += of(features)));
        let Ok(_) = LayerWork::build(config, &mut |features| counted(work += of(features)));
        let Ok(_) = LayerGradients::build(config, &mut |features| counted(gradients += of(features)));
        let gradients = if self == Self::Inference { 0 } else { gradients };
        layers * layer + (inputs + 2) * of(config.hidden_size) + of(1) + work + gradients
    }
}

fn counted((): ()) -> Result<(), Infallible> {
    Ok(())
}

/// Features of the queries and of the keys.
fn features(config: &Config) -> (usize, usize) {
    (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim)
}

impl<T> LayerActivations<T> {
    /// `make` gives a buffer of so many numbers a row.
    pub(crate) fn build<E>(config: &Config, make: &mut impl FnMut(usize) -> Result<T, E>) -> Result<Self, E> {
        let (hidden, ffn) = (config.hidden_size, config.intermediate_size);
        let (query, key) = features(config);
        let mut head_norm = |heads: usize| {
            let norm = || Ok(HeadNorm { x: make(heads * config.head_dim)?, rstd: make(heads)? });
            config.head_norms.then(norm).transpose()
        };
        Ok(Self {
            q_norm: head_norm(config.num_attention_heads)?,
            k_norm: head_norm(config.num_key_value_heads)?,
            x0: make(hidden)?,
            rstd0: make(1)?,
            q: make(query)?,
            k: make(key)?,
            v: make(key)?,
            attention: make(query)?,
            log_sum_exp: make(config.num_attention_heads)?,
            x1: make(hidden)?,
            rstd1: make(1)?,
            gate: make(ffn)?,
            up: make(ffn)?,
        })
    }
}

impl<T> LayerWork<T> {
    /// `make` gives a buffer of so many numbers a row.
    pub(crate) fn build<E>(config: &Config, make: &mut impl FnMut(usize) -> Result<T, E>) -> Result<Self, E> {
        Ok(Self { normed: make(config.hidden_size)?, swiglu: make(config.intermediate_size)? })
    }
}

impl<T> LayerGradients<T> {
    /// `make` gives a buffer of so many numbers a row.
    pub(crate) fn build<E>(config: &Config, make: &mut impl FnMut(usize) -> Result<T, E>) -> Result<Self, E> {
        let (query, key) = features(config);
        Ok(Self {
            normed: make(config.hidden_size)?,
            q: make(query)?,
            k: make(key)?,
            v: make(key)?,
            heads: make(if config.head_norms { query } else { 0 })?,
            attention: make(query)?,
        })
    }
}

/// What the output head works in, for up to `rows` scored tokens.
pub struct Head<B: Backend> {
    pub(crate) rows: usize,
    /// The hidden states that predict, gathered `[rows, hidden_size]`.
    pub(crate) x: B::Buf,
    pub(crate) dx: B::Buf,
    pub(crate) log_probs: B::Buf,
    pub(crate) d_log_probs: B::Buf,
    pub(crate) full_log_probs: B::Buf,
    pub(crate) entropy: B::Buf,
    pub(crate) log_sum_exp: B::Buf,
}

impl<B: Backend> Head<B> {
    /// Bytes of a head for up to `rows` tokens at once.
    pub fn bytes(b: &B, config: &Config, rows: usize) -> usize {
        2 * b.bytes(rows * config.hidden_size) + 5 * b.bytes(rows)
    }

    /// For up to `rows` tokens at once.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, config: &Config, rows: usize) -> Result<Self, OutOfMemory> {
        Ok(Self {
            rows,
            x: b.zeros(rows * config.hidden_size)?,
            dx: b.zeros(rows * config.hidden_size)?,
            log_probs: b.zeros(rows)?,
            d_log_probs: b.zeros(rows)?,
            full_log_probs: b.zeros(rows)?,
            entropy: b.zeros(rows)?,
            log_sum_exp: b.zeros(rows)?,
        })
    }
}

/// Keys and values of tokens seen, a pair of `[rows, key_value_heads · head_dim]` a layer.
pub struct KvCache<B: Backend> {
    pub(crate) layers: Vec<(B::Buf, B::Buf)>,
}

impl<B: Backend> KvCache<B> {
    /// Room for `rows` tokens.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, config: &Config, rows: usize) -> Result<Self, OutOfMemory> {
        let elements = rows * config.num_key_value_heads * config.head_dim;
        let layer = |_| Ok((b.zeros(elements)?, b.zeros(elements)?));
        Ok(Self { layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_, _>>()? })
    }

    /// Bytes that it holds for `rows` tokens.
    pub fn bytes(b: &B, config: &Config, rows: usize) -> usize {
        2 * config.num_hidden_layers * b.bytes(rows * config.num_key_value_heads * config.head_dim)
    }

    /// Numbers held a token.
    pub fn numbers_per_row(config: &Config) -> usize {
        2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    }
}
