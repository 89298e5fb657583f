//! Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1): keys and values are expanded from a latent of a
//! few features, queries may be too.
//!
//! ```text
//! q        = Q_b norm(Q_a n)                    or Q n, with n the normed rows; a head is [nope | rope]
//! c | r    = KV_a n                             the latent of keys and values, and the rotated part of a key
//! [k | v]  = KV_b norm(c)                       of each head; its key is [k | rope(r)], the same r for all heads
//! x ← x + O · attention([q_nope | rope(q_rope)], [k | rope(r)], v)
//! ```
//!
//! What is cached are keys and values as they are expanded; `absorbed.rs` has the other form (decision 13).

use koan_backend::{Attention, Backend, Columns, Heads, Keep, OutOfMemory, Pairs, Rotation, Store};

use crate::{
    CacheForm, Config, LatentConfig, Linear, Param, Purpose, TensorInfo, activations::RowMaker, layer::Pass,
    linear::LowRankRows, tensors::Maker,
};

/// Latent attention.
#[derive(Clone, Debug)]
pub struct Latent<T> {
    /// What queries are computed by.
    pub query: Query<T>,
    /// To `kv_lora_rank + qk_rope_head_dim` features, from `hidden_size`.
    pub kv_a_proj_with_mqa: Linear<T>,
    /// `[kv_lora_rank]`: the norm of the latent.
    pub kv_a_layernorm: T,
    /// To `heads · (qk_nope_head_dim + v_head_dim)` features, from `kv_lora_rank`.
    pub kv_b_proj: Linear<T>,
    /// To `hidden_size` features, from `heads · v_head_dim`.
    pub o_proj: Linear<T>,
}

/// What the queries, `heads · qk_head_dim` features, are computed by.
#[derive(Clone, Debug)]
pub enum Query<T> {
    /// One product, from `hidden_size`.
    Whole {
        /// The product.
        q_proj: Linear<T>,
    },
    /// Through a latent of their own.
    Compressed {
        /// To `q_lora_rank` features, from `hidden_size`.
        q_a_proj: Linear<T>,
        /// `[q_lora_rank]`: the norm of the latent.
        q_a_layernorm: T,
        /// From `q_lora_rank` features.
        q_b_proj: Linear<T>,
    },
}

/// What the forward leaves for the backward; all `[rows, ...]`.
pub(crate) struct LatentActivations<B: Backend> {
    /// The latent of queries, where they have one.
    q_latent: Option<Compressed<B>>,
    /// The latent of keys and values.
    kv_latent: Compressed<B>,
    /// After rope.
    q: B::Buf,
    /// Keys and values; unused where a cache takes them.
    kv: LatentCache<B>,
    attention: B::Operand,
    log_sum_exp: B::Buf,
}

/// A latent before its norm, and what the norm leaves for its backward.
pub(super) struct Compressed<B: Backend> {
    x: B::Buf,
    rstd: B::Buf,
}

/// What the forward works in, and no layer keeps.
pub(crate) struct LatentWork<B: Backend> {
    q_normed: Option<B::Operand>,
    /// The latent and the rotated part of a key, as they are computed.
    kv_a: B::Buf,
    kv_normed: B::Operand,
    /// `[k | v]` of each head.
    kv_b: B::Buf,
    k: B::Buf,
    v: B::Buf,
    low_rank: LowRankRows<B>,
}

/// The gradients that the backward works in.
pub(crate) struct LatentGradients<B: Backend> {
    q: B::Operand,
    q_latent: Option<CompressedGradients<B>>,
    k: B::Buf,
    v: B::Buf,
    kv_b: B::Operand,
    kv_a: B::Operand,
    kv_latent: CompressedGradients<B>,
    attention: B::Buf,
    low_rank: LowRankRows<B>,
}

/// The gradients of a latent.
pub(super) struct CompressedGradients<B: Backend> {
    /// The latent after its norm, computed again: what the products after it read.
    normed: B::Operand,
    rstd: B::Buf,
    /// Of it.
    pub(super) d_normed: B::Buf,
    /// Of the latent before its norm.
    x: B::Operand,
}

/// Keys `[rows, heads · qk_head_dim]` and values `[rows, heads · v_head_dim]`, of the tokens of a pass or of those seen before.
pub(crate) struct LatentCache<B: Backend> {
    keys: B::Keys,
    values: B::Keys,
}

/// Compressed queries have a latent.
const OF_COMPRESSED: &str = "compressed queries have a latent";

/// The sizes of a model's latent attention, and what follows from them.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) heads: usize,
    pub(super) latent: LatentConfig,
}

impl Sizes {
    pub(super) fn of(config: &Config) -> Self {
        let latent = config.latent.expect("a config with latent attention has its sizes");
        Self { heads: config.num_attention_heads, latent }
    }

    pub(super) fn of_attention(self) -> Heads {
        let (dim, value_dim) = (self.latent.qk_head_dim(), self.latent.v_head_dim);
        Heads { query: self.heads, key_value: self.heads, dim, value_dim }
    }

    /// Features of `[c | r]`.
    pub(super) fn kv_a(self) -> usize {
        self.latent.kv_lora_rank + self.latent.qk_rope_head_dim
    }

    /// Features of `[k | v]` of a head.
    pub(super) fn kv_b_head(self) -> usize {
        self.latent.qk_nope_head_dim + self.latent.v_head_dim
    }

    pub(super) fn kv_b(self) -> usize {
        self.heads * self.kv_b_head()
    }

    fn rotation(self, heads: usize, head_features: usize) -> Rotation {
        let (dim, pairs) = (
            self.latent.qk_rope_head_dim,
            if self.latent.rope_interleave { Pairs::Neighbours } else { Pairs::Halves },
        );
        Rotation { heads, head_features, start: head_features - dim, dim, pairs }
    }

    fn rotation_of_queries(self) -> Rotation {
        self.rotation(self.heads, self.latent.qk_head_dim())
    }

    fn rotation_of_keys(self) -> Rotation {
        self.rotation(1, self.kv_a())
    }

    /// The parts of `x`, a row of keys `[k | r]` of each head, `[k | v]` of each head, or values: from column `start` of a head of
    /// `head` features on.
    pub(super) fn part(self, start: usize, head: usize) -> Columns {
        Columns { features: self.heads * head, start, stride: head }
    }

    /// The latent's columns of `[c | r]`.
    pub(super) fn latent_part(self) -> Columns {
        Columns::from(0, self.kv_a())
    }

    /// The rotated part's columns of `[c | r]`.
    pub(super) fn rotated_part(self) -> Columns {
        Columns::from(self.latent.kv_lora_rank, self.kv_a())
    }

    /// Where the parts of keys and values lie: in `[k | v]`, and in keys or values; with the width of each.
    fn expanded(self) -> [(Columns, Columns, usize); 2] {
        let LatentConfig { qk_nope_head_dim: nope, v_head_dim: value, .. } = self.latent;
        let (kv, key) = (self.kv_b_head(), self.latent.qk_head_dim());
        [(self.part(0, kv), self.part(0, key), nope), (self.part(nope, kv), self.part(0, value), value)]
    }

    /// Where the rotated part lies in each head of keys.
    fn rotated_of_keys(self) -> Columns {
        self.part(self.latent.qk_nope_head_dim, self.latent.qk_head_dim())
    }
}

impl<T> Latent<T> {
    pub(super) fn try_build<E, F>(config: &Config, at: &mut Maker<'_, F>) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        let (hidden, sizes) = (config.hidden_size, Sizes::of(config));
        let LatentConfig { q_lora_rank, kv_lora_rank, biases, .. } = sizes.latent;
        let heads = match config.cache {
            CacheForm::Expanded => 1,
            CacheForm::Latent => sizes.heads,
        };
        let query = sizes.of_attention().query_features();
        Ok(Self {
            query: match q_lora_rank {
                None => Query::Whole { q_proj: Linear::try_build(at, "q_proj", [query, hidden], false)? },
                Some(rank) => Query::Compressed {
                    q_a_proj: Linear::try_build(at, "q_a_proj", [rank, hidden], biases)?,
                    q_a_layernorm: at.norm("q_a_layernorm", rank)?,
                    q_b_proj: Linear::try_build(at, "q_b_proj", [query, rank], false)?,
                },
            },
            kv_a_proj_with_mqa: Linear::try_build(at, "kv_a_proj_with_mqa", [sizes.kv_a(), hidden], biases)?,
            kv_a_layernorm: at.norm("kv_a_layernorm", kv_lora_rank)?,
            kv_b_proj: Linear::try_build_heads(at, "kv_b_proj", heads, [sizes.kv_b(), kv_lora_rank], false)?,
            o_proj: Linear::try_build(
                at,
                "o_proj",
                [hidden, sizes.of_attention().output_features()],
                biases,
            )?,
        })
    }

    pub(super) fn tensors(&self) -> impl Iterator<Item = &T> {
        let Self { query, kv_a_proj_with_mqa, kv_a_layernorm, kv_b_proj, o_proj } = self;
        let (first, norm, last) = match query {
            Query::Whole { q_proj } => (q_proj, None, None),
            Query::Compressed { q_a_proj, q_a_layernorm, q_b_proj } => {
                (q_a_proj, Some(q_a_layernorm), Some(q_b_proj))
            }
        };
        let query = first.tensors().chain(norm).chain(last.into_iter().flat_map(Linear::tensors));
        let kv = kv_a_proj_with_mqa.tensors().chain([kv_a_layernorm]).chain(kv_b_proj.tensors());
        query.chain(kv).chain(o_proj.tensors())
    }

    pub(super) fn tensors_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let Self { query, kv_a_proj_with_mqa, kv_a_layernorm, kv_b_proj, o_proj } = self;
        let (first, norm, last) = match query {
            Query::Whole { q_proj } => (q_proj, None, None),
            Query::Compressed { q_a_proj, q_a_layernorm, q_b_proj } => {
                (q_a_proj, Some(q_a_layernorm), Some(q_b_proj))
            }
        };
        let query = first.tensors_mut().chain(norm).chain(last.into_iter().flat_map(Linear::tensors_mut));
        let kv = kv_a_proj_with_mqa.tensors_mut().chain([kv_a_layernorm]).chain(kv_b_proj.tensors_mut());
        query.chain(kv).chain(o_proj.tensors_mut())
    }
}

impl<B: Backend> Compressed<B> {
    pub(super) fn build(features: usize, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        Ok(Self { x: make.buf(features)?, rstd: make.buf(1)? })
    }
}

impl<B: Backend> CompressedGradients<B> {
    pub(super) fn build(features: usize, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        Ok(Self {
            normed: make.operand(features, Keep::Operand)?,
            rstd: make.buf(1)?,
            d_normed: make.buf(features)?,
            x: make.operand(features, Keep::Values)?,
        })
    }
}

impl<B: Backend> LatentActivations<B> {
    pub(super) fn build(
        config: &Config,
        purpose: Purpose,
        make: &mut RowMaker<'_, B>,
    ) -> Result<Self, OutOfMemory> {
        let sizes = Sizes::of(config);
        let (heads, latent) = (sizes.of_attention(), sizes.latent);
        Ok(Self {
            q_latent: latent.q_lora_rank.map(|rank| Compressed::build(rank, make)).transpose()?,
            kv_latent: Compressed::build(latent.kv_lora_rank, make)?,
            q: make.buf(heads.query_features())?,
            kv: LatentCache::build(config, make)?,
            attention: make.operand(heads.output_features(), purpose.keep())?,
            log_sum_exp: make.buf(heads.query)?,
        })
    }
}

impl<B: Backend> LatentWork<B> {
    pub(super) fn build(config: &Config, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        let sizes = Sizes::of(config);
        let (heads, latent) = (sizes.of_attention(), sizes.latent);
        Ok(Self {
            q_normed: latent.q_lora_rank.map(|rank| make.operand(rank, Keep::Operand)).transpose()?,
            kv_a: make.buf(sizes.kv_a())?,
            kv_normed: make.operand(latent.kv_lora_rank, Keep::Operand)?,
            kv_b: make.buf(sizes.kv_b())?,
            k: make.buf(heads.key_features())?,
            v: make.buf(heads.value_features())?,
            low_rank: LowRankRows::build(config, make)?,
        })
    }
}

impl<B: Backend> LatentGradients<B> {
    pub(super) fn build(config: &Config, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        let sizes = Sizes::of(config);
        let (heads, latent) = (sizes.of_attention(), sizes.latent);
        Ok(Self {
            q: make.operand(heads.query_features(), Keep::Values)?,
            q_latent: latent.q_lora_rank.map(|rank| CompressedGradients::build(rank, make)).transpose()?,
            k: make.buf(heads.key_features())?,
            v: make.buf(heads.value_features())?,
            kv_b: make.operand(sizes.kv_b(), Keep::Values)?,
            kv_a: make.operand(sizes.kv_a(), Keep::Values)?,
            kv_latent: CompressedGradients::build(latent.kv_lora_rank, make)?,
            attention: make.buf(heads.output_features())?,
            low_rank: LowRankRows::build(config, make)?,
        })
    }
}

impl<B: Backend> LatentCache<B> {
    pub(super) fn build(config: &Config, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        let heads = Sizes::of(config).of_attention();
        Ok(Self { keys: make.keys(heads.key_features())?, values: make.keys(heads.value_features())? })
    }

    /// What attention reads: queries `q`, and these keys and values.
    fn attention<'a>(&'a self, p: &Pass<'a, B>, q: &'a B::Buf) -> Attention<'a, B> {
        let sizes = Sizes::of(p.config);
        let (heads, scale) = (sizes.of_attention(), sizes.latent.softmax_scale);
        Attention { q, k: &self.keys, v: Some(&self.values), layout: p.layout, heads, scale }
    }
}

impl<B: Backend> Latent<Param<B>> {
    /// See [`Attention::forward`](super::Attention::forward).
    pub(super) fn forward(
        &self,
        p: &Pass<B>,
        x: &mut B::Buf,
        normed: &B::Operand,
        a: &mut LatentActivations<B>,
        work: &mut LatentWork<B>,
        cache: Option<&mut LatentCache<B>>,
    ) {
        let (b, sizes, n) = (p.b, Sizes::of(p.config), p.rows);
        let LatentActivations { q_latent, kv_latent, q, kv, attention, log_sum_exp } = a;
        let kv = cache.unwrap_or(kv);
        let LatentWork { q_normed, kv_a, kv_normed, kv_b, k, v, low_rank } = work;
        self.queries(p, q, normed, q_latent.as_mut().zip(q_normed.as_mut()), low_rank);
        self.latents(p, kv_a, kv_normed, kv_latent, normed, low_rank);
        self.kv_b_proj.forward(p, (&mut *kv_b, Store::Write), kv_normed, low_rank);
        for ((from, to, width), y) in sizes.expanded().into_iter().zip([&mut *k, &mut *v]) {
            b.columns(y, kv_b, [to, from], [sizes.heads, width], n, Store::Write);
        }
        let rotated = [sizes.rotated_of_keys(), sizes.rotated_part()];
        b.columns(k, kv_a, rotated, [sizes.heads, sizes.latent.qk_rope_head_dim], n, Store::Write);
        let heads = sizes.of_attention();
        b.store_keys(&mut kv.keys, k, heads.key_features(), p.layout);
        b.store_keys(&mut kv.values, v, heads.value_features(), p.layout);

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
        a: &LatentActivations<B>,
        d: &mut LatentGradients<B>,
        grad: &mut Latent<B::Buf>,
    ) {
        let (b, sizes, n) = (p.b, Sizes::of(p.config), p.rows);
        let LatentGradients { q, q_latent, k, v, kv_b, kv_a, kv_latent, attention, low_rank } = d;
        self.o_proj.backward(
            p,
            (&mut *attention, Store::Write),
            &mut grad.o_proj,
            dx,
            &a.attention,
            low_rank,
        );
        let d_qkv = [b.values_mut(q), &mut *k, &mut *v];
        b.attention_backward(d_qkv, attention, a.kv.attention(p, &a.q), &a.attention, &a.log_sum_exp);
        let of_latent = a.q_latent.as_ref().zip(q_latent.as_mut());
        self.queries_backward(p, d_normed, q, normed, of_latent, low_rank, &mut grad.query);

        for ((to, from, width), x) in sizes.expanded().into_iter().zip([&*k, &*v]) {
            b.columns(b.values_mut(kv_b), x, [to, from], [sizes.heads, width], n, Store::Write);
        }
        b.round(kv_b, n * sizes.kv_b());
        a.kv_latent.norm_again(p, kv_latent, &self.kv_a_layernorm);
        let d_latent = (&mut kv_latent.d_normed, Store::Write);
        self.kv_b_proj.backward(p, d_latent, &mut grad.kv_b_proj, kv_b, &kv_latent.normed, low_rank);
        let rotated = (&*k, sizes.rotated_of_keys(), sizes.heads);
        self.latents_backward(p, d_normed, kv_latent, kv_a, rotated, normed, &a.kv_latent, low_rank, grad);
    }

    /// The queries of all heads, rotated. `of_latent` is what they are compressed in, where they are: the latent, and the same normed.
    pub(super) fn queries(
        &self,
        p: &Pass<B>,
        q: &mut B::Buf,
        normed: &B::Operand,
        of_latent: Option<(&mut Compressed<B>, &mut B::Operand)>,
        low_rank: &mut LowRankRows<B>,
    ) {
        match (&self.query, of_latent) {
            (Query::Whole { q_proj }, _) => q_proj.forward(p, (&mut *q, Store::Write), normed, low_rank),
            (Query::Compressed { q_a_proj, q_a_layernorm, q_b_proj }, Some((latent, q_normed))) => {
                q_a_proj.forward(p, (&mut latent.x, Store::Write), normed, low_rank);
                latent.norm(p, q_normed, q_a_layernorm);
                q_b_proj.forward(p, (&mut *q, Store::Write), q_normed, low_rank);
            }
            (Query::Compressed { .. }, None) => unreachable!("{OF_COMPRESSED}"),
        }
        p.b.rope_forward(q, p.cos, p.sin, Sizes::of(p.config).rotation_of_queries(), p.layout);
    }

    /// From `dq`, the gradient of the queries, which it uses up, writes `d_normed`.
    pub(super) fn queries_backward(
        &self,
        p: &Pass<B>,
        d_normed: &mut B::Buf,
        dq: &mut B::Operand,
        normed: &B::Operand,
        of_latent: Option<(&Compressed<B>, &mut CompressedGradients<B>)>,
        low_rank: &mut LowRankRows<B>,
        grad: &mut Query<B::Buf>,
    ) {
        let (b, sizes) = (p.b, Sizes::of(p.config));
        b.rope_backward(b.values_mut(dq), p.cos, p.sin, sizes.rotation_of_queries(), p.layout);
        b.round(dq, p.rows * sizes.of_attention().query_features());
        match (&self.query, grad) {
            (Query::Whole { q_proj }, Query::Whole { q_proj: grad }) => {
                q_proj.backward(p, (d_normed, Store::Write), grad, dq, normed, low_rank);
            }
            (
                Query::Compressed { q_a_proj, q_a_layernorm, q_b_proj },
                Query::Compressed { q_a_proj: grad_a, q_a_layernorm: grad_norm, q_b_proj: grad_b },
            ) => {
                let (latent, d) = of_latent.expect(OF_COMPRESSED);
                latent.norm_again(p, d, q_a_layernorm);
                q_b_proj.backward(p, (&mut d.d_normed, Store::Write), grad_b, dq, &d.normed, low_rank);
                latent.backward(p, d, q_a_layernorm, grad_norm);
                q_a_proj.backward(p, (d_normed, Store::Write), grad_a, &d.x, normed, low_rank);
            }
            _ => unreachable!("a gradient is of its weights' kind"),
        }
    }

    /// `[c | rope(r)]`, the latent `c` apart, and `norm(c)`.
    pub(super) fn latents(
        &self,
        p: &Pass<B>,
        kv_a: &mut B::Buf,
        kv_normed: &mut B::Operand,
        kv_latent: &mut Compressed<B>,
        normed: &B::Operand,
        low_rank: &mut LowRankRows<B>,
    ) {
        let (b, sizes) = (p.b, Sizes::of(p.config));
        self.kv_a_proj_with_mqa.forward(p, (&mut *kv_a, Store::Write), normed, low_rank);
        b.rope_forward(kv_a, p.cos, p.sin, sizes.rotation_of_keys(), p.layout);
        let rank = sizes.latent.kv_lora_rank;
        let latent = [Columns::from(0, rank), sizes.latent_part()];
        b.columns(&mut kv_latent.x, kv_a, latent, [1, rank], p.rows, Store::Write);
        kv_latent.norm(p, kv_normed, &self.kv_a_layernorm);
    }

    /// From the gradient of `norm(c)`, which `kv_latent` holds, and that of `rope(r)`, in the columns of some heads of `rotated`,
    /// adds to `d_normed`.
    pub(super) fn latents_backward(
        &self,
        p: &Pass<B>,
        d_normed: &mut B::Buf,
        kv_latent: &mut CompressedGradients<B>,
        d_kv_a: &mut B::Operand,
        (rotated, columns, heads): (&B::Buf, Columns, usize),
        normed: &B::Operand,
        latent: &Compressed<B>,
        low_rank: &mut LowRankRows<B>,
        grad: &mut Latent<B::Buf>,
    ) {
        let (b, sizes, n) = (p.b, Sizes::of(p.config), p.rows);
        latent.backward(p, kv_latent, &self.kv_a_layernorm, &mut grad.kv_a_layernorm);
        let (rank, d) = (sizes.latent.kv_lora_rank, b.values_mut(d_kv_a));
        b.clear(d);
        let latent = [sizes.latent_part(), Columns::from(0, rank)];
        b.columns(d, b.values(&kv_latent.x), latent, [1, rank], n, Store::Write);
        let of_rotated = [sizes.rotated_part(), columns];
        b.columns(d, rotated, of_rotated, [heads, sizes.latent.qk_rope_head_dim], n, Store::Add);
        b.rope_backward(d, p.cos, p.sin, sizes.rotation_of_keys(), p.layout);
        b.round(d_kv_a, n * sizes.kv_a());
        let grad = &mut grad.kv_a_proj_with_mqa;
        self.kv_a_proj_with_mqa.backward(p, (d_normed, Store::Add), grad, d_kv_a, normed, low_rank);
    }
}

impl<B: Backend> Compressed<B> {
    /// Writes the normed latent, and what the norm's backward reads.
    pub(super) fn norm(&mut self, p: &Pass<B>, y: &mut B::Operand, w: &Param<B>) {
        p.b.rms_norm_forward(y, &mut self.rstd, &self.x, w.value(), LatentConfig::NORM_EPS, p.rows);
    }

    /// Computes the normed latent again.
    fn norm_again(&self, p: &Pass<B>, d: &mut CompressedGradients<B>, w: &Param<B>) {
        let CompressedGradients { normed, rstd, .. } = d;
        p.b.rms_norm_forward(normed, rstd, &self.x, w.value(), LatentConfig::NORM_EPS, p.rows);
    }

    /// From `d.d_normed` writes `d.x`; adds to `grad`.
    fn backward(&self, p: &Pass<B>, d: &mut CompressedGradients<B>, w: &Param<B>, grad: &mut B::Buf) {
        let (b, dw, len) = (p.b, w.gradient(grad), p.rows * w.info().len());
        let dx = b.values_mut(&mut d.x);
        b.clear(dx);
        b.rms_norm_backward(dx, dw, &d.d_normed, &self.x, w.value(), &self.rstd, p.rows);
        b.round(&mut d.x, len);
    }
}
