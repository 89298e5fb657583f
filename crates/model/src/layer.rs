//! A layer of the Llama family, forward and backward side by side.
//!
//! ```text
//! x ← x + O · attention(rope(Q n), rope(K n), V n)    with n = rms_norm(x)
//! x ← x + D · (silu(G n) · U n)                        with n = rms_norm(x)
//! ```
//!
//! One path serves prefill, decoding and training: a cache, where there is one, only changes where keys and values lie.

use koan_backend::{Backend, Heads, Store};

use crate::{
    Batch, Config, Layer, Param,
    activations::{LayerActivations, LayerGradients},
};

/// What every layer of a pass shares.
pub(crate) struct Pass<'a, B: Backend> {
    pub(crate) b: &'a B,
    pub(crate) config: &'a Config,
    pub(crate) cos: &'a B::Buf,
    pub(crate) sin: &'a B::Buf,
    pub(crate) batch: &'a Batch,
}

impl<B: Backend> Pass<'_, B> {
    fn heads(&self) -> Heads {
        Heads {
            query: self.config.num_attention_heads,
            key_value: self.config.num_key_value_heads,
            dim: self.config.head_dim,
        }
    }

    fn scale(&self) -> f32 {
        (self.config.head_dim as f64).sqrt().recip() as f32
    }

    fn rope_forward(&self, x: &mut B::Buf, heads: usize) {
        self.b.rope_forward(x, self.cos, self.sin, &self.batch.positions, heads, self.config.head_dim);
    }

    fn rope_backward(&self, dx: &mut B::Buf, heads: usize) {
        self.b.rope_backward(dx, self.cos, self.sin, &self.batch.positions, heads, self.config.head_dim);
    }

    /// `dx ← dy W` (or `+=`), and `dW += dyᵀ x`.
    fn linear_backward(
        &self,
        (dx, store): (&mut B::Buf, Store),
        dw: &mut B::Buf,
        dy: &B::Buf,
        x: &B::Buf,
        w: &Param<B>,
    ) {
        let (n, [out, inp]) = (self.batch.len(), w.matrix());
        self.b.linear_backward_weight(dw, dy, x, n, out, inp);
        self.b.linear_backward_input(dx, dy, &w.value, n, out, inp, store);
    }
}

impl<B: Backend> Layer<Param<B>> {
    /// Advances the residual stream `x` `[n, hidden_size]`.
    pub(crate) fn forward(
        &self,
        p: &Pass<B>,
        x: &mut B::Buf,
        a: &mut LayerActivations<B>,
        cache: Option<&mut (B::Buf, B::Buf)>,
    ) {
        let (b, c, n) = (p.b, p.config, p.batch.len());
        b.copy(&mut a.x0, x, n * c.hidden_size);
        b.rms_norm_forward(&mut a.normed0, &mut a.rstd0, x, &self.input_layernorm.value, c.rms_norm_eps, n);
        b.linear_forward(&mut a.q, &a.normed0, self.q_proj.packed(), n, Store::Write);
        b.linear_forward(&mut a.k, &a.normed0, self.k_proj.packed(), n, Store::Write);
        b.linear_forward(&mut a.v, &a.normed0, self.v_proj.packed(), n, Store::Write);
        p.rope_forward(&mut a.q, c.num_attention_heads);
        p.rope_forward(&mut a.k, c.num_key_value_heads);
        let (k, v) = match cache {
            None => (&a.k, &a.v),
            Some((k, v)) => {
                b.scatter_rows(k, &a.k, &p.batch.cache_rows, p.heads().key_features());
                b.scatter_rows(v, &a.v, &p.batch.cache_rows, p.heads().key_features());
                (&*k, &*v)
            }
        };
        let sequences = &p.batch.sequences;
        b.attention_forward(
            &mut a.attention,
            &mut a.log_sum_exp,
            &a.q,
            k,
            v,
            sequences,
            p.heads(),
            p.scale(),
        );
        b.linear_forward(x, &a.attention, self.o_proj.packed(), n, Store::Add);

        b.copy(&mut a.x1, x, n * c.hidden_size);
        let w = &self.post_attention_layernorm.value;
        b.rms_norm_forward(&mut a.normed1, &mut a.rstd1, x, w, c.rms_norm_eps, n);
        b.linear_forward(&mut a.gate, &a.normed1, self.gate_proj.packed(), n, Store::Write);
        b.linear_forward(&mut a.up, &a.normed1, self.up_proj.packed(), n, Store::Write);
        b.swiglu_forward(&mut a.swiglu, &a.gate, &a.up, n * c.intermediate_size);
        b.linear_forward(x, &a.swiglu, self.down_proj.packed(), n, Store::Add);
    }

    /// Turns `dx`, the gradient of the stream after the layer, into that of the stream before it; adds to `grad`.
    pub(crate) fn backward(
        &self,
        p: &Pass<B>,
        dx: &mut B::Buf,
        a: &LayerActivations<B>,
        d: &mut LayerGradients<B>,
        grad: &mut Layer<B::Buf>,
    ) {
        let (b, c, n) = (p.b, p.config, p.batch.len());
        p.linear_backward((&mut d.swiglu, Store::Write), &mut grad.down_proj, dx, &a.swiglu, &self.down_proj);
        b.swiglu_backward(&mut d.gate, &mut d.up, &d.swiglu, &a.gate, &a.up, n * c.intermediate_size);
        let normed = &a.normed1;
        p.linear_backward(
            (&mut d.normed, Store::Write),
            &mut grad.gate_proj,
            &d.gate,
            normed,
            &self.gate_proj,
        );
        p.linear_backward((&mut d.normed, Store::Add), &mut grad.up_proj, &d.up, normed, &self.up_proj);
        let (w, dw) = (&self.post_attention_layernorm.value, &mut grad.post_attention_layernorm);
        b.rms_norm_backward(dx, dw, &d.normed, &a.x1, w, &a.rstd1, n);

        p.linear_backward((&mut d.attention, Store::Write), &mut grad.o_proj, dx, &a.attention, &self.o_proj);
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
            p.heads(),
            p.scale(),
        );
        p.rope_backward(&mut d.q, c.num_attention_heads);
        p.rope_backward(&mut d.k, c.num_key_value_heads);
        let normed = &a.normed0;
        p.linear_backward((&mut d.normed, Store::Write), &mut grad.q_proj, &d.q, normed, &self.q_proj);
        p.linear_backward((&mut d.normed, Store::Add), &mut grad.k_proj, &d.k, normed, &self.k_proj);
        p.linear_backward((&mut d.normed, Store::Add), &mut grad.v_proj, &d.v, normed, &self.v_proj);
        let (w, dw) = (&self.input_layernorm.value, &mut grad.input_layernorm);
        b.rms_norm_backward(dx, dw, &d.normed, &a.x0, w, &a.rstd0, n);
    }
}
