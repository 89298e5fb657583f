//! Latent attention in its absorbed form (arXiv:2405.04434, section 2.1.2; decision 13): the latent is the one key and the one value
//! of all heads, and queries and outputs go through the matrices that would have expanded it.
//!
//! ```text
//! c | r      as in latent.rs; a key is [norm(c) | rope(r)], of which norm(c) is the value too
//! K | V      the rows of KV_b that are a head's: its keys' and its values'
//! q̂          = q_nope K                         of each head: a query of latents
//! u          = attention([q̂ | rope(q_rope)], [norm(c) | rope(r)], norm(c))
//! x ← x + O · [V u of each head]
//! ```
//!
//! A head's products are those of an expert with its part of KV_b, `[K | V]`: the rows of `[heads, features]` are sorted by head
//! ([`Backend::route_in_turn`]). `q_nope` stands in rows that are 0 where V would read them, and of `[K u | V u]` the second part is
//! taken.

use koan_backend::{Attention, Backend, Columns, Heads, Keep, OutOfMemory, Store};

use super::latent::{Compressed, CompressedGradients, Sizes};
use crate::{
    Config, Latent, Linear, Param, Purpose,
    activations::RowMaker,
    layer::Pass,
    linear::{LowRankRows, Rows},
};

/// What the forward leaves for the backward; all `[rows, ...]`.
pub(crate) struct AbsorbedActivations<B: Backend> {
    /// The latent of queries, where they have one.
    q_latent: Option<Compressed<B>>,
    /// The latent of keys and values.
    kv_latent: Compressed<B>,
    /// After rope.
    q: B::Buf,
    /// `[q̂ | rope(q_rope)]` of each head.
    queries: B::Buf,
    /// The keys; unused where a cache takes them.
    keys: AbsorbedCache<B>,
    /// `u` of each head.
    attention: B::Operand,
    log_sum_exp: B::Buf,
    /// `V u` of each head.
    out: B::Operand,
}

/// What the forward works in, and no layer keeps.
pub(crate) struct AbsorbedWork<B: Backend> {
    q_normed: Option<B::Operand>,
    /// A key.
    kv_a: B::Buf,
    kv_normed: B::Operand,
    by_head: ByHead<B>,
}

/// The gradients that the backward works in.
pub(crate) struct AbsorbedGradients<B: Backend> {
    q: B::Operand,
    q_latent: Option<CompressedGradients<B>>,
    queries: B::Buf,
    /// Of `q̂`.
    absorbed: B::Operand,
    keys: B::Buf,
    values: B::Buf,
    kv_a: B::Operand,
    kv_latent: CompressedGradients<B>,
    out: B::Buf,
    /// Of `[K u | V u]`: 0 in the first part.
    expanded: B::Operand,
    by_head: ByHead<B>,
}

/// What the products of heads work in: rows of `[K | V]`'s features, or of the latent's, of each head; and the same sorted by head.
struct ByHead<B: Backend> {
    routes: B::Routes,
    /// `[q_nope | 0]`
    queries: B::Operand,
    wide: B::Buf,
    wide_sorted: B::Buf,
    wide_operand: B::Operand,
    narrow: B::Buf,
    narrow_sorted: B::Buf,
    narrow_operand: B::Operand,
    low_rank: LowRankRows<B>,
}

/// Keys `[rows, kv_lora_rank + qk_rope_head_dim]` of the tokens of a pass or of those seen before.
pub(crate) struct AbsorbedCache<B: Backend> {
    keys: B::Keys,
}

impl Sizes {
    /// Attention to latents.
    pub(crate) fn of_latents(self) -> Heads {
        Heads { query: self.heads, key_value: 1, dim: self.kv_a(), value_dim: self.latent.kv_lora_rank }
    }

    /// Where `q_nope` lies in `[q_nope | 0]` and in queries.
    fn nope(self) -> [Columns; 2] {
        [self.part(0, self.kv_b_head()), self.part(0, self.latent.qk_head_dim())]
    }

    /// Where `V u` lies, and in `[K u | V u]`.
    fn values(self) -> [Columns; 2] {
        [self.part(0, self.latent.v_head_dim), self.part(self.latent.qk_nope_head_dim, self.kv_b_head())]
    }

    /// Where `q̂` lies in queries of latents, and by itself.
    fn absorbed(self) -> [Columns; 2] {
        [self.part(0, self.kv_a()), self.part(0, self.latent.kv_lora_rank)]
    }

    /// Where the rotated part lies in queries of latents, and in queries.
    fn rotated(self) -> [Columns; 2] {
        let latent = self.latent;
        [
            self.part(latent.kv_lora_rank, self.kv_a()),
            self.part(latent.qk_nope_head_dim, latent.qk_head_dim()),
        ]
    }
}

impl<B: Backend> AbsorbedActivations<B> {
    pub(super) fn build(
        config: &Config,
        purpose: Purpose,
        make: &mut RowMaker<'_, B>,
    ) -> Result<Self, OutOfMemory> {
        let sizes = Sizes::of(config);
        let (heads, latent) = (sizes.of_latents(), sizes.latent);
        Ok(Self {
            q_latent: latent.q_lora_rank.map(|rank| Compressed::build(rank, make)).transpose()?,
            kv_latent: Compressed::build(latent.kv_lora_rank, make)?,
            q: make.buf(sizes.of_attention().query_features())?,
            queries: make.buf(heads.query_features())?,
            keys: AbsorbedCache::build(config, make)?,
            attention: make.operand(heads.output_features(), purpose.keep())?,
            log_sum_exp: make.buf(heads.query)?,
            out: make.operand(sizes.of_attention().output_features(), Keep::Values)?,
        })
    }
}

impl<B: Backend> AbsorbedWork<B> {
    pub(super) fn build(config: &Config, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        let sizes = Sizes::of(config);
        Ok(Self {
            q_normed: sizes.latent.q_lora_rank.map(|rank| make.operand(rank, Keep::Operand)).transpose()?,
            kv_a: make.buf(sizes.kv_a())?,
            kv_normed: make.operand(sizes.latent.kv_lora_rank, Keep::Values)?,
            by_head: ByHead::build(config, make)?,
        })
    }
}

impl<B: Backend> AbsorbedGradients<B> {
    pub(super) fn build(config: &Config, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        let sizes = Sizes::of(config);
        let (heads, expanded, latent) = (sizes.of_latents(), sizes.of_attention(), sizes.latent);
        Ok(Self {
            q: make.operand(expanded.query_features(), Keep::Values)?,
            q_latent: latent.q_lora_rank.map(|rank| CompressedGradients::build(rank, make)).transpose()?,
            queries: make.buf(heads.query_features())?,
            absorbed: make.operand(heads.output_features(), Keep::Values)?,
            keys: make.buf(heads.key_features())?,
            values: make.buf(heads.value_features())?,
            kv_a: make.operand(sizes.kv_a(), Keep::Values)?,
            kv_latent: CompressedGradients::build(latent.kv_lora_rank, make)?,
            out: make.buf(expanded.output_features())?,
            expanded: make.zeros(sizes.kv_b())?,
            by_head: ByHead::build(config, make)?,
        })
    }
}

impl<B: Backend> ByHead<B> {
    fn build(config: &Config, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        let sizes = Sizes::of(config);
        let (wide, narrow) = (sizes.kv_b(), sizes.heads * sizes.latent.kv_lora_rank);
        Ok(Self {
            routes: make.routes_of_heads(sizes.heads)?,
            queries: make.zeros(wide)?,
            wide: make.buf(wide)?,
            wide_sorted: make.buf(wide)?,
            wide_operand: make.operand(wide, Keep::Operand)?,
            narrow: make.buf(narrow)?,
            narrow_sorted: make.buf(narrow)?,
            narrow_operand: make.operand(narrow, Keep::Operand)?,
            low_rank: LowRankRows::of_copies(config, sizes.heads, make)?,
        })
    }

    /// Makes `wide_operand` of `[q_nope | 0]`.
    fn sort_queries(&mut self, p: &Pass<B>, q: &B::Buf) {
        let (b, sizes) = (p.b, Sizes::of(p.config));
        let width = [sizes.heads, sizes.latent.qk_nope_head_dim];
        b.columns(b.values_mut(&mut self.queries), q, sizes.nope(), width, p.rows, Store::Write);
        b.round(&mut self.queries, p.rows * sizes.kv_b());
        b.copies_forward(&mut self.wide_operand, &self.queries, &self.routes, sizes.kv_b_head());
    }

    /// Makes `narrow_operand` of rows of the latent's features of each head.
    fn sort_narrow(&mut self, p: &Pass<B>, x: &B::Operand) {
        let rank = Sizes::of(p.config).latent.kv_lora_rank;
        p.b.copies_forward(&mut self.narrow_operand, x, &self.routes, rank);
    }

    /// `narrow` ← `wide_operand` · `[K | V]` of each head.
    fn absorb(&mut self, p: &Pass<B>, kv_b: &Linear<Param<B>>) {
        let (b, sizes) = (p.b, Sizes::of(p.config));
        let rows = Rows::Heads(&self.routes, p.rows * sizes.heads);
        let to = (&mut self.narrow_sorted, Store::Write);
        kv_b.backward_input_on(b, rows, to, &self.wide_operand, &mut self.low_rank);
        let (from, rank) = (&self.narrow_sorted, sizes.latent.kv_lora_rank);
        b.sum_copies(&mut self.narrow, from, &self.routes, rank, Store::Write);
    }

    /// `wide` ← `narrow_operand` · `[K | V]ᵀ` of each head.
    fn expand(&mut self, p: &Pass<B>, kv_b: &Linear<Param<B>>) {
        let (b, sizes) = (p.b, Sizes::of(p.config));
        let rows = Rows::Heads(&self.routes, p.rows * sizes.heads);
        let to = (&mut self.wide_sorted, Store::Write);
        kv_b.forward_on(b, rows, to, &self.narrow_operand, &mut self.low_rank);
        let (from, features) = (&self.wide_sorted, sizes.kv_b_head());
        b.sum_copies(&mut self.wide, from, &self.routes, features, Store::Write);
    }
}

impl<B: Backend> AbsorbedCache<B> {
    pub(super) fn build(config: &Config, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        Ok(Self { keys: make.keys(Sizes::of(config).kv_a())? })
    }

    /// What attention reads: queries `q` of latents, and these keys.
    fn attention<'a>(&'a self, p: &Pass<'a, B>, q: &'a B::Buf) -> Attention<'a, B> {
        let sizes = Sizes::of(p.config);
        let (heads, scale) = (sizes.of_latents(), sizes.latent.softmax_scale);
        Attention { q, k: &self.keys, v: None, layout: p.layout, heads, scale }
    }
}

impl<B: Backend> Latent<Param<B>> {
    /// See [`Attention::forward`](super::Attention::forward).
    pub(super) fn forward_absorbed(
        &self,
        p: &Pass<B>,
        x: &mut B::Buf,
        normed: &B::Operand,
        a: &mut AbsorbedActivations<B>,
        work: &mut AbsorbedWork<B>,
        cache: Option<&mut AbsorbedCache<B>>,
    ) {
        let (b, sizes, n) = (p.b, Sizes::of(p.config), p.rows);
        let AbsorbedActivations { q_latent, kv_latent, q, queries, keys, attention, log_sum_exp, out } = a;
        let keys = cache.unwrap_or(keys);
        let AbsorbedWork { q_normed, kv_a, kv_normed, by_head } = work;
        let (rank, rope) = (sizes.latent.kv_lora_rank, sizes.latent.qk_rope_head_dim);
        let low_rank = &mut by_head.low_rank;
        self.queries(p, q, normed, q_latent.as_mut().zip(q_normed.as_mut()), low_rank);
        self.latents(p, kv_a, kv_normed, kv_latent, normed, low_rank);
        let latent = [sizes.latent_part(), Columns::from(0, rank)];
        b.columns(kv_a, b.values(kv_normed), latent, [1, rank], n, Store::Write);
        b.store_keys(&mut keys.keys, kv_a, sizes.kv_a(), p.layout);

        b.route_in_turn(&mut by_head.routes, n * sizes.heads);
        by_head.sort_queries(p, q);
        by_head.absorb(p, &self.kv_b_proj);
        b.columns(queries, &by_head.narrow, sizes.absorbed(), [sizes.heads, rank], n, Store::Write);
        b.columns(queries, q, sizes.rotated(), [sizes.heads, rope], n, Store::Write);
        b.attention_forward(attention, log_sum_exp, keys.attention(p, queries));

        by_head.sort_narrow(p, attention);
        by_head.expand(p, &self.kv_b_proj);
        // That of keys adds the same to all scores of a row.
        if let Some(bias) = self.kv_b_proj.lora.as_ref().and_then(|lora| lora.bias.as_ref()) {
            b.bias_forward(&mut by_head.wide, bias.value(), sizes.kv_b(), n);
        }
        let width = [sizes.heads, sizes.latent.v_head_dim];
        b.columns(b.values_mut(out), &by_head.wide, sizes.values(), width, n, Store::Write);
        b.round(out, n * sizes.of_attention().output_features());
        self.o_proj.forward(p, (x, Store::Add), out, &mut by_head.low_rank);
    }

    /// See [`Attention::backward`](super::Attention::backward).
    pub(super) fn backward_absorbed(
        &self,
        p: &Pass<B>,
        d_normed: &mut B::Buf,
        dx: &B::Operand,
        normed: &B::Operand,
        a: &AbsorbedActivations<B>,
        d: &mut AbsorbedGradients<B>,
        grad: &mut Latent<B::Buf>,
    ) {
        let (b, sizes, n) = (p.b, Sizes::of(p.config), p.rows);
        let (rank, rope) = (sizes.latent.kv_lora_rank, sizes.latent.qk_rope_head_dim);
        let AbsorbedGradients { out, expanded, by_head, .. } = d;
        b.route_in_turn(&mut by_head.routes, n * sizes.heads);
        let d_out = (&mut *out, Store::Write);
        self.o_proj.backward(p, d_out, &mut grad.o_proj, dx, &a.out, &mut by_head.low_rank);
        let [own, within] = sizes.values();
        let width = [sizes.heads, sizes.latent.v_head_dim];
        b.columns(b.values_mut(expanded), out, [within, own], width, n, Store::Write);
        b.round(expanded, n * sizes.kv_b());
        b.copies_forward(&mut by_head.wide_operand, expanded, &by_head.routes, sizes.kv_b_head());
        by_head.absorb(p, &self.kv_b_proj);
        by_head.sort_narrow(p, &a.attention);
        let ByHead { routes, wide_operand, narrow_operand, low_rank, .. } = &mut *by_head;
        let (rows, of_kv_b) = (Rows::Heads(routes, n * sizes.heads), &mut grad.kv_b_proj);
        self.kv_b_proj.backward_weight_on(b, rows, of_kv_b, wide_operand, narrow_operand, low_rank);

        let d_qkv = [&mut d.queries, &mut d.keys, &mut d.values];
        let inputs = a.keys.attention(p, &a.queries);
        b.attention_backward(d_qkv, &d.by_head.narrow, inputs, &a.attention, &a.log_sum_exp);

        let AbsorbedGradients {
            q, q_latent, queries, absorbed, keys, values, kv_a, kv_latent, by_head, ..
        } = d;
        let [within, own] = sizes.absorbed();
        let width = [sizes.heads, rank];
        b.columns(b.values_mut(absorbed), queries, [own, within], width, n, Store::Write);
        b.round(absorbed, n * sizes.of_latents().output_features());
        by_head.sort_narrow(p, absorbed);
        by_head.expand(p, &self.kv_b_proj);
        by_head.sort_queries(p, &a.q);
        let ByHead { routes, wide_operand, narrow_operand, low_rank, .. } = &mut *by_head;
        let (rows, of_kv_b) = (Rows::Heads(routes, n * sizes.heads), &mut grad.kv_b_proj);
        let (dy, x) = (&*wide_operand, &*narrow_operand);
        self.kv_b_proj.backward_weight_of_input_on(b, rows, of_kv_b, dy, x, low_rank);
        let ([of_expanded, of_q], dq) = (sizes.nope(), b.values_mut(q));
        let width = [sizes.heads, sizes.latent.qk_nope_head_dim];
        b.columns(dq, &by_head.wide, [of_q, of_expanded], width, n, Store::Write);
        let [of_queries, of_q] = sizes.rotated();
        b.columns(dq, queries, [of_q, of_queries], [sizes.heads, rope], n, Store::Write);
        let (of_latent, low_rank) = (a.q_latent.as_ref().zip(q_latent.as_mut()), &mut by_head.low_rank);
        self.queries_backward(p, d_normed, q, normed, of_latent, low_rank, &mut grad.query);

        let latent = [Columns::from(0, rank), sizes.latent_part()];
        b.columns(&mut kv_latent.d_normed, keys, latent, [1, rank], n, Store::Write);
        let whole = [Columns::from(0, rank); 2];
        b.columns(&mut kv_latent.d_normed, values, whole, [1, rank], n, Store::Add);
        let rotated = (&*keys, sizes.rotated_part(), 1);
        self.latents_backward(p, d_normed, kv_latent, kv_a, rotated, normed, &a.kv_latent, low_rank, grad);
    }
}
