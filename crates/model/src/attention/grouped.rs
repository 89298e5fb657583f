//! Grouped-query attention (arXiv:2305.13245) with rotary positions.
//!
//! ```text
//! x ← x + O · attention(rope(Q n), rope(K n), V n)    with n the normed rows
//! ```
//!
//! Each product may have a bias (qwen2), and each head of Q n and K n a norm of its own before its rotation (qwen3).

use koan_backend::{Backend, Heads, Store};

use crate::{Config, Linear, Param, TensorInfo, layer::Pass, tensors::Maker};

/// Grouped-query attention.
#[derive(Clone, Debug)]
pub struct Grouped<T> {
    /// To `heads · head_dim` features, from `hidden_size`.
    pub q_proj: Linear<T>,
    /// To `key_value_heads · head_dim` features, from `hidden_size`.
    pub k_proj: Linear<T>,
    /// To `key_value_heads · head_dim` features, from `hidden_size`.
    pub v_proj: Linear<T>,
    /// `[head_dim]`: the norm of each query head before its rotation, in families that have one.
    pub q_norm: Option<T>,
    /// `[head_dim]`: the norm of each key head before its rotation, in families that have one.
    pub k_norm: Option<T>,
    /// To `hidden_size` features, from `heads · head_dim`.
    pub o_proj: Linear<T>,
}

/// What the forward leaves for the backward; all `[rows, ...]`.
pub(crate) struct GroupedActivations<T> {
    /// Of the queries and of the keys, in families that have it.
    q_norm: Option<HeadNorm<T>>,
    k_norm: Option<HeadNorm<T>>,
    /// After rope.
    q: T,
    /// After rope.
    k: T,
    v: T,
    attention: T,
    log_sum_exp: T,
}

/// What the norm of each head leaves for its backward.
struct HeadNorm<T> {
    /// The heads before the norm.
    x: T,
    rstd: T,
}

/// The gradients that the backward works in.
pub(crate) struct GroupedGradients<T> {
    q: T,
    k: T,
    v: T,
    /// Of queries or keys before their norm; empty where there is none.
    heads: T,
    attention: T,
}

/// Keys and values of tokens seen `[rows, key_value_heads · head_dim]`.
pub(crate) struct GroupedCache<T> {
    keys: T,
    values: T,
}

fn heads(config: &Config) -> Heads {
    Heads { query: config.num_attention_heads, key_value: config.num_key_value_heads, dim: config.head_dim }
}

fn scale(config: &Config) -> f32 {
    (config.head_dim as f64).sqrt().recip() as f32
}

impl<T> Grouped<T> {
    pub(super) fn try_build<E, F>(config: &Config, at: &mut Maker<'_, F>) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        let (hidden, heads, biases) = (config.hidden_size, heads(config), config.biases);
        let (query, key) = (heads.query_features(), heads.key_features());
        let head_norm = |name, at: &mut Maker<'_, F>| {
            config.head_norms.then(|| at.norm(name, config.head_dim)).transpose()
        };
        Ok(Self {
            q_proj: Linear::try_build(at, "q_proj", [query, hidden], biases.qkv)?,
            k_proj: Linear::try_build(at, "k_proj", [key, hidden], biases.qkv)?,
            v_proj: Linear::try_build(at, "v_proj", [key, hidden], biases.qkv)?,
            q_norm: head_norm("q_norm", at)?,
            k_norm: head_norm("k_norm", at)?,
            o_proj: Linear::try_build(at, "o_proj", [hidden, query], biases.output)?,
        })
    }

    pub(super) fn tensors(&self) -> impl Iterator<Item = &T> {
        let Self { q_proj, k_proj, v_proj, q_norm, k_norm, o_proj } = self;
        let qkv = [q_proj, k_proj, v_proj].into_iter().flat_map(Linear::tensors);
        qkv.chain(q_norm).chain(k_norm).chain(o_proj.tensors())
    }

    pub(super) fn tensors_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let Self { q_proj, k_proj, v_proj, q_norm, k_norm, o_proj } = self;
        let qkv = [q_proj, k_proj, v_proj].into_iter().flat_map(Linear::tensors_mut);
        qkv.chain(q_norm).chain(k_norm).chain(o_proj.tensors_mut())
    }
}

impl<T> GroupedActivations<T> {
    pub(super) fn build<E>(config: &Config, make: &mut impl FnMut(usize) -> Result<T, E>) -> Result<Self, E> {
        let Heads { query, key_value, dim } = heads(config);
        let mut head_norm = |heads: usize| -> Result<_, E> {
            Ok(if config.head_norms {
                Some(HeadNorm { x: make(heads * dim)?, rstd: make(heads)? })
            } else {
                None
            })
        };
        Ok(Self {
            q_norm: head_norm(query)?,
            k_norm: head_norm(key_value)?,
            q: make(query * dim)?,
            k: make(key_value * dim)?,
            v: make(key_value * dim)?,
            attention: make(query * dim)?,
            log_sum_exp: make(query)?,
        })
    }
}

impl<T> GroupedGradients<T> {
    pub(super) fn build<E>(config: &Config, make: &mut impl FnMut(usize) -> Result<T, E>) -> Result<Self, E> {
        let (query, key) = (heads(config).query_features(), heads(config).key_features());
        Ok(Self {
            q: make(query)?,
            k: make(key)?,
            v: make(key)?,
            heads: make(if config.head_norms { query } else { 0 })?,
            attention: make(query)?,
        })
    }
}

impl<T> GroupedCache<T> {
    pub(super) fn build<E>(config: &Config, make: &mut impl FnMut(usize) -> Result<T, E>) -> Result<Self, E> {
        let features = heads(config).key_features();
        Ok(Self { keys: make(features)?, values: make(features)? })
    }
}

impl<B: Backend> Grouped<Param<B>> {
    /// See [`Attention::forward`](super::Attention::forward).
    pub(super) fn forward(
        &self,
        p: &Pass<B>,
        x: &mut B::Buf,
        normed: &B::Buf,
        a: &mut GroupedActivations<B::Buf>,
        cache: Option<&mut GroupedCache<B::Buf>>,
    ) {
        let (b, heads) = (p.b, heads(p.config));
        let q_norm = self.q_norm.as_ref().zip(a.q_norm.as_mut());
        heads_forward(p, &mut a.q, normed, &self.q_proj, q_norm, heads.query);
        let k_norm = self.k_norm.as_ref().zip(a.k_norm.as_mut());
        heads_forward(p, &mut a.k, normed, &self.k_proj, k_norm, heads.key_value);
        self.v_proj.forward(p, (&mut a.v, Store::Write), normed);
        let (k, v) = match cache {
            None => (&a.k, &a.v),
            Some(cache) => {
                let GroupedCache { keys, values } = cache;
                b.scatter_rows(keys, &a.k, &p.batch.cache_rows, heads.key_features());
                b.scatter_rows(values, &a.v, &p.batch.cache_rows, heads.key_features());
                (&*keys, &*values)
            }
        };
        b.attention_forward(
            &mut a.attention,
            &mut a.log_sum_exp,
            &a.q,
            k,
            v,
            &p.batch.sequences,
            heads,
            scale(p.config),
        );
        self.o_proj.forward(p, (x, Store::Add), &a.attention);
    }

    /// See [`Attention::backward`](super::Attention::backward).
    pub(super) fn backward(
        &self,
        p: &Pass<B>,
        d_normed: &mut B::Buf,
        dx: &B::Buf,
        normed: &B::Buf,
        a: &GroupedActivations<B::Buf>,
        d: &mut GroupedGradients<B::Buf>,
        grad: &mut Grouped<B::Buf>,
    ) {
        let (b, heads) = (p.b, heads(p.config));
        self.o_proj.backward(p, (&mut d.attention, Store::Write), &mut grad.o_proj, dx, &a.attention);
        b.clear(&mut d.k);
        b.clear(&mut d.v);
        b.attention_backward(
            &mut d.q,
            &mut d.k,
            &mut d.v,
            &d.attention,
            &a.q,
            &a.k,
            &a.v,
            &a.attention,
            &a.log_sum_exp,
            &p.batch.sequences,
            heads,
            scale(p.config),
        );
        let q_norm = self.q_norm.as_ref().zip(a.q_norm.as_ref());
        heads_backward(p, &mut d.q, q_norm, grad.q_norm.as_mut(), &mut d.heads, heads.query);
        let k_norm = self.k_norm.as_ref().zip(a.k_norm.as_ref());
        heads_backward(p, &mut d.k, k_norm, grad.k_norm.as_mut(), &mut d.heads, heads.key_value);
        self.q_proj.backward(p, (&mut *d_normed, Store::Write), &mut grad.q_proj, &d.q, normed);
        self.k_proj.backward(p, (&mut *d_normed, Store::Add), &mut grad.k_proj, &d.k, normed);
        self.v_proj.backward(p, (d_normed, Store::Add), &mut grad.v_proj, &d.v, normed);
    }
}

/// Queries or keys: the product, the norm of each head where the family has one, the rotation.
fn heads_forward<B: Backend>(
    p: &Pass<B>,
    y: &mut B::Buf,
    x: &B::Buf,
    w: &Linear<Param<B>>,
    norm: Option<(&Param<B>, &mut HeadNorm<B::Buf>)>,
    heads: usize,
) {
    let (b, c) = (p.b, p.config);
    match norm {
        None => w.forward(p, (y, Store::Write), x),
        Some((norm, a)) => {
            w.forward(p, (&mut a.x, Store::Write), x);
            let rows = p.batch.len() * heads;
            b.rms_norm_forward(y, &mut a.rstd, &a.x, &norm.value, c.rms_norm_eps, rows);
        }
    }
    b.rope_forward(y, p.cos, p.sin, &p.batch.positions, heads, c.head_dim);
}

/// Turns `dy`, the gradient of what [`heads_forward`] gave, into that of the product, in place; `d` is room for it.
fn heads_backward<B: Backend>(
    p: &Pass<B>,
    dy: &mut B::Buf,
    norm: Option<(&Param<B>, &HeadNorm<B::Buf>)>,
    grad: Option<&mut B::Buf>,
    d: &mut B::Buf,
    heads: usize,
) {
    let (b, dim) = (p.b, p.config.head_dim);
    b.rope_backward(dy, p.cos, p.sin, &p.batch.positions, heads, dim);
    if let (Some((norm, a)), Some(grad)) = (norm, grad) {
        let rows = p.batch.len() * heads;
        b.clear(d);
        b.rms_norm_backward(d, grad, dy, &a.x, &norm.value, &a.rstd, rows);
        b.copy(dy, d, rows * dim);
    }
}
