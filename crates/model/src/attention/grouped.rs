//! Grouped-query attention (arXiv:2305.13245) with rotary positions.
//!
//! ```text
//! x ← x + O · attention(rope(Q n), rope(K n), V n)    with n the normed rows
//! ```
//!
//! Each product may have a bias (qwen2), and each head of Q n and K n a norm of its own before its rotation (qwen3).

use koan_backend::{Attention, Backend, HeadNormBackward, HeadNorms, Heads, Keep, OutOfMemory, Store};

use crate::{
    Config, Linear, Param, Purpose, TensorInfo, activations::RowMaker, layer::Pass, linear::LowRankRows,
    tensors::Maker,
};

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
pub(crate) struct GroupedActivations<B: Backend> {
    /// Of the queries and of the keys, in families that have it.
    q_norm: Option<HeadNorm<B>>,
    k_norm: Option<HeadNorm<B>>,
    /// After rope.
    q: B::Buf,
    /// Keys, after rope, and values; unused where a cache takes them.
    kv: GroupedCache<B>,
    attention: B::Operand,
    log_sum_exp: B::Buf,
}

/// What the norm of each head leaves for its backward.
struct HeadNorm<B: Backend> {
    /// The heads before the norm.
    x: B::Buf,
    rstd: B::Buf,
}

/// What the forward works in, and no layer keeps: keys and values as they are computed.
pub(crate) struct GroupedWork<B: Backend> {
    k: B::Buf,
    v: B::Buf,
    low_rank: LowRankRows<B>,
}

/// The gradients that the backward works in.
pub(crate) struct GroupedGradients<B: Backend> {
    q: B::Operand,
    k: B::Operand,
    v: B::Operand,
    /// Of queries or keys before their norm; empty where there is none.
    heads: B::Buf,
    attention: B::Buf,
    low_rank: LowRankRows<B>,
}

/// Keys and values `[rows, key_value_heads · head_dim]`, of the tokens of a pass or of those seen before.
pub(crate) struct GroupedCache<B: Backend> {
    keys: B::Keys,
    values: B::Keys,
}

fn heads(config: &Config) -> Heads {
    let (query, key_value, dim) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
    Heads { query, key_value, dim, value_dim: dim }
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

impl<B: Backend> GroupedActivations<B> {
    pub(super) fn build(
        config: &Config,
        purpose: Purpose,
        make: &mut RowMaker<'_, B>,
    ) -> Result<Self, OutOfMemory> {
        let Heads { query, key_value, dim, .. } = heads(config);
        let mut head_norm = |heads: usize| {
            let norm = || Ok(HeadNorm { x: make.buf(heads * dim)?, rstd: make.buf(heads)? });
            config.head_norms.then(norm).transpose()
        };
        Ok(Self {
            q_norm: head_norm(query)?,
            k_norm: head_norm(key_value)?,
            q: make.buf(query * dim)?,
            kv: GroupedCache::build(config, make)?,
            attention: make.operand(query * dim, purpose.keep())?,
            log_sum_exp: make.buf(query)?,
        })
    }
}

impl<B: Backend> GroupedWork<B> {
    pub(super) fn build(config: &Config, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        let mut new = || make.buf(heads(config).key_features());
        Ok(Self { k: new()?, v: new()?, low_rank: LowRankRows::build(config, make)? })
    }
}

impl<B: Backend> GroupedGradients<B> {
    pub(super) fn build(config: &Config, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        let (query, key) = (heads(config).query_features(), heads(config).key_features());
        Ok(Self {
            q: make.operand(query, Keep::Values)?,
            k: make.operand(key, Keep::Values)?,
            v: make.operand(key, Keep::Values)?,
            heads: make.buf(if config.head_norms { query } else { 0 })?,
            attention: make.buf(query)?,
            low_rank: LowRankRows::build(config, make)?,
        })
    }
}

impl<B: Backend> GroupedCache<B> {
    pub(super) fn build(config: &Config, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        let features = heads(config).key_features();
        Ok(Self { keys: make.keys(features)?, values: make.keys(features)? })
    }

    /// What attention reads: queries `q`, and these keys and values.
    fn attention<'a>(&'a self, p: &Pass<'a, B>, q: &'a B::Buf) -> Attention<'a, B> {
        let (heads, scale) = (heads(p.config), (p.config.head_dim as f64).sqrt().recip());
        Attention { q, k: &self.keys, v: Some(&self.values), layout: p.layout, heads, scale }
    }
}

impl<B: Backend> Grouped<Param<B>> {
    /// See [`Attention::forward`](super::Attention::forward).
    pub(super) fn forward(
        &self,
        p: &Pass<B>,
        x: &mut B::Buf,
        normed: &B::Operand,
        a: &mut GroupedActivations<B>,
        work: &mut GroupedWork<B>,
        cache: Option<&mut GroupedCache<B>>,
    ) {
        let (b, heads) = (p.b, heads(p.config));
        let GroupedActivations { q_norm, k_norm, q, kv, attention, log_sum_exp } = a;
        let kv = cache.unwrap_or(kv);
        let GroupedWork { k, v, low_rank } = work;
        let products = [(&self.q_proj, q_norm.as_mut(), &mut *q), (&self.k_proj, k_norm.as_mut(), &mut *k)];
        for (projection, norm, y) in products {
            let y = norm.map_or(y, |norm| &mut norm.x);
            projection.forward(p, (y, Store::Write), normed, low_rank);
        }
        self.v_proj.forward(p, (&mut *v, Store::Write), normed, low_rank);
        let of_q = self.q_norm.as_ref().zip(q_norm.as_mut());
        let of_k = self.k_norm.as_ref().zip(k_norm.as_mut());
        let norms = of_q.zip(of_k).map(|((q, of_q), (k, of_k))| HeadNorms {
            x: [&of_q.x, &of_k.x],
            w: [q, k].map(Param::value),
            rstd: [&mut of_q.rstd, &mut of_k.rstd],
            eps: p.config.rms_norm_eps,
        });
        let stored = [&mut kv.keys, &mut kv.values];
        b.heads_forward(q, stored, [k, v], norms, [p.cos, p.sin], heads, p.layout);
        b.attention_forward(attention, log_sum_exp, kv.attention(p, q));
        self.o_proj.forward(p, (x, Store::Add), attention, low_rank);
    }

    /// See [`Attention::backward`](super::Attention::backward).
    pub(super) fn backward(
        &self,
        p: &Pass<B>,
        d_normed: &mut B::Buf,
        dx: &B::Operand,
        normed: &B::Operand,
        a: &GroupedActivations<B>,
        d: &mut GroupedGradients<B>,
        grad: &mut Grouped<B::Buf>,
    ) {
        let (b, heads) = (p.b, heads(p.config));
        let low_rank = &mut d.low_rank;
        self.o_proj.backward(
            p,
            (&mut d.attention, Store::Write),
            &mut grad.o_proj,
            dx,
            &a.attention,
            low_rank,
        );
        let d_qkv = [&mut d.q, &mut d.k, &mut d.v].map(|d| b.values_mut(d));
        b.attention_backward(d_qkv, &d.attention, a.kv.attention(p, &a.q), &a.attention, &a.log_sum_exp);
        let q_norm = self.q_norm.as_ref().zip(a.q_norm.as_ref());
        heads_backward(p, &mut d.q, &self.q_proj, q_norm, grad.q_norm.as_mut(), &mut d.heads, heads.query);
        let k_norm = self.k_norm.as_ref().zip(a.k_norm.as_ref());
        heads_backward(
            p,
            &mut d.k,
            &self.k_proj,
            k_norm,
            grad.k_norm.as_mut(),
            &mut d.heads,
            heads.key_value,
        );
        b.round(&mut d.v, p.rows * heads.key_features());
        self.q_proj.backward(p, (&mut *d_normed, Store::Write), &mut grad.q_proj, &d.q, normed, low_rank);
        self.k_proj.backward(p, (&mut *d_normed, Store::Add), &mut grad.k_proj, &d.k, normed, low_rank);
        self.v_proj.backward(p, (d_normed, Store::Add), &mut grad.v_proj, &d.v, normed, low_rank);
    }
}

/// Turns `dy`, the gradient of queries or of keys as attention reads them, into that of the product `w`; `room` is as large.
fn heads_backward<B: Backend>(
    p: &Pass<B>,
    dy: &mut B::Operand,
    w: &Linear<Param<B>>,
    norm: Option<(&Param<B>, &HeadNorm<B>)>,
    grad: Option<&mut B::Buf>,
    room: &mut B::Buf,
    heads: usize,
) {
    let norm = norm.zip(grad).map(|((norm, a), grad)| HeadNormBackward {
        dw: norm.gradient(grad),
        x: &a.x,
        w: norm.value(),
        rstd: &a.rstd,
        room,
    });
    let keep = Linear::kept_gradients([w]);
    p.b.heads_backward(dy, norm, [p.cos, p.sin], [heads, p.config.head_dim], keep, p.layout);
}
