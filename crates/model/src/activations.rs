//! The memory of a pass, planned before it runs and reused by every pass after.

use koan_backend::Backend;

use crate::Config;

/// What the layers of a pass of up to `rows` tokens work in, and what the backward pass reads of it.
pub struct Activations<B: Backend> {
    pub(crate) rows: usize,
    /// The residual stream `[rows, hidden_size]`.
    pub(crate) stream: B::Buf,
    /// One a layer when training; a single one, used by all layers in turn, when not.
    pub(crate) layers: Vec<LayerActivations<B>>,
    /// The stream after the last norm `[rows, hidden_size]`: what the output head reads.
    pub(crate) normed: B::Buf,
    pub(crate) rstd: B::Buf,
}

/// What one layer's forward leaves for its backward; all `[rows, ...]`.
pub(crate) struct LayerActivations<B: Backend> {
    /// The stream before attention.
    pub(crate) x0: B::Buf,
    pub(crate) normed0: B::Buf,
    pub(crate) rstd0: B::Buf,
    /// Of the queries and of the keys, in families that have it.
    pub(crate) q_norm: Option<HeadNorm<B>>,
    pub(crate) k_norm: Option<HeadNorm<B>>,
    /// After rope.
    pub(crate) q: B::Buf,
    /// After rope.
    pub(crate) k: B::Buf,
    pub(crate) v: B::Buf,
    pub(crate) attention: B::Buf,
    pub(crate) log_sum_exp: B::Buf,
    /// The stream before the MLP.
    pub(crate) x1: B::Buf,
    pub(crate) normed1: B::Buf,
    pub(crate) rstd1: B::Buf,
    pub(crate) gate: B::Buf,
    pub(crate) up: B::Buf,
    pub(crate) swiglu: B::Buf,
}

/// What the norm of each head leaves for its backward.
pub(crate) struct HeadNorm<B: Backend> {
    /// The heads before the norm.
    pub(crate) x: B::Buf,
    pub(crate) rstd: B::Buf,
}

/// The gradients that a layer's backward works in.
pub(crate) struct LayerGradients<B: Backend> {
    pub(crate) normed: B::Buf,
    pub(crate) q: B::Buf,
    pub(crate) k: B::Buf,
    pub(crate) v: B::Buf,
    /// Of queries or keys before their norm; empty where there is none.
    pub(crate) heads: B::Buf,
    pub(crate) attention: B::Buf,
    pub(crate) gate: B::Buf,
    pub(crate) up: B::Buf,
    pub(crate) swiglu: B::Buf,
}

impl<B: Backend> Activations<B> {
    /// For forward and backward passes of up to `rows` tokens.
    pub fn for_training(b: &B, config: &Config, rows: usize) -> Self {
        Self::new(b, config, rows, config.num_hidden_layers)
    }

    /// For forward passes of up to `rows` tokens.
    pub fn for_inference(b: &B, config: &Config, rows: usize) -> Self {
        Self::new(b, config, rows, 1)
    }

    fn new(b: &B, config: &Config, rows: usize, layers: usize) -> Self {
        let hidden = || b.zeros(rows * config.hidden_size);
        Self {
            rows,
            stream: hidden(),
            layers: (0..layers).map(|_| LayerActivations::new(b, config, rows)).collect(),
            normed: hidden(),
            rstd: b.zeros(rows),
        }
    }

    /// How many tokens a pass may have.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers held a row of a pass: for the plan of a run's memory.
    pub fn numbers_per_row(config: &Config, training: bool) -> usize {
        let (hidden, ffn, heads) = (config.hidden_size, config.intermediate_size, config.num_attention_heads);
        let (query, key) = (heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let norms = usize::from(config.head_norms);
        let head_norms = norms * (query + key + heads + config.num_key_value_heads);
        let layer = 4 * hidden + 2 + head_norms + 2 * query + 2 * key + heads + 3 * ffn;
        let gradients = hidden + (2 + norms) * query + 2 * key + 3 * ffn + hidden;
        let (layers, gradients) = if training { (config.num_hidden_layers, gradients) } else { (1, 0) };
        layers * layer + gradients + 2 * hidden + 1
    }
}

impl<B: Backend> LayerActivations<B> {
    fn new(b: &B, config: &Config, rows: usize) -> Self {
        let zeros = |features: usize| b.zeros(rows * features);
        let (hidden, ffn, heads) = (config.hidden_size, config.intermediate_size, config.num_attention_heads);
        let (query, key) = (heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let head_norm = |heads: usize| {
            let (x, rstd) = (heads * config.head_dim, heads);
            config.head_norms.then(|| HeadNorm { x: zeros(x), rstd: zeros(rstd) })
        };
        Self {
            x0: zeros(hidden),
            normed0: zeros(hidden),
            rstd0: zeros(1),
            q_norm: head_norm(heads),
            k_norm: head_norm(config.num_key_value_heads),
            q: zeros(query),
            k: zeros(key),
            v: zeros(key),
            attention: zeros(query),
            log_sum_exp: zeros(heads),
            x1: zeros(hidden),
            normed1: zeros(hidden),
            rstd1: zeros(1),
            gate: zeros(ffn),
            up: zeros(ffn),
            swiglu: zeros(ffn),
        }
    }
}

impl<B: Backend> LayerGradients<B> {
    pub(crate) fn new(b: &B, config: &Config, rows: usize) -> Self {
        let zeros = |features: usize| b.zeros(rows * features);
        let query = config.num_attention_heads * config.head_dim;
        let key = config.num_key_value_heads * config.head_dim;
        Self {
            normed: zeros(config.hidden_size),
            q: zeros(query),
            k: zeros(key),
            v: zeros(key),
            heads: zeros(if config.head_norms { query } else { 0 }),
            attention: zeros(query),
            gate: zeros(config.intermediate_size),
            up: zeros(config.intermediate_size),
            swiglu: zeros(config.intermediate_size),
        }
    }
}

/// What the output head works in, for up to `rows` scored tokens.
pub struct Head<B: Backend> {
    pub(crate) rows: usize,
    /// The hidden states that predict, gathered `[rows, hidden_size]`.
    pub(crate) x: B::Buf,
    pub(crate) dx: B::Buf,
    pub(crate) log_probs: B::Buf,
    pub(crate) entropy: B::Buf,
    pub(crate) log_sum_exp: B::Buf,
}

impl<B: Backend> Head<B> {
    /// For up to `rows` tokens at once.
    pub fn new(b: &B, config: &Config, rows: usize) -> Self {
        Self {
            rows,
            x: b.zeros(rows * config.hidden_size),
            dx: b.zeros(rows * config.hidden_size),
            log_probs: b.zeros(rows),
            entropy: b.zeros(rows),
            log_sum_exp: b.zeros(rows),
        }
    }
}

/// Keys and values of tokens seen, a pair of `[rows, key_value_heads · head_dim]` a layer.
pub struct KvCache<B: Backend> {
    pub(crate) layers: Vec<(B::Buf, B::Buf)>,
}

impl<B: Backend> KvCache<B> {
    /// Room for `rows` tokens.
    pub fn new(b: &B, config: &Config, rows: usize) -> Self {
        let numbers = rows * config.num_key_value_heads * config.head_dim;
        let layer = |_| (b.zeros(numbers), b.zeros(numbers));
        Self { layers: (0..config.num_hidden_layers).map(layer).collect() }
    }

    /// Numbers held a token.
    pub fn numbers_per_row(config: &Config) -> usize {
        2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    }
}
