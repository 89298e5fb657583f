//! A layer of the Llama family, forward and backward side by side.
//!
//! ```text
//! x ← x + O · attention(rope(Q n), rope(K n), V n)    with n = rms_norm(x)
//! x ← x + D · (silu(G n) · U n)                        with n = rms_norm(x)
//! ```
//!
//! Each product may have a bias (qwen2), and each head of Q n and K n a norm of its own before its rotation (qwen3).
//!
//! One path serves prefill, decoding and training: a cache, where there is one, only changes where keys and values lie.

use koan_backend::{Backend, Heads, Store};

use crate::{
    Batch, Config, Layer, Linear, Param,
    activations::{HeadNorm, LayerActivations, LayerGradients, LayerWork},
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

    /// `y ← x Wᵀ + b`, or `y += x Wᵀ + b`.
    fn linear_forward(&self, (y, store): (&mut B::Buf, Store), x: &B::Buf, w: &Linear<Param<B>>) {
        let (n, [out, inp]) = (self.batch.len(), w.weight.matrix());
        match w.weight.packed() {
            Some(packed) => self.b.linear_forward(y, x, packed, n, store),
            None => self.b.linear_forward_unpacked(y, x, &w.weight.value, n, out, inp, store),
        }
        if let Some(bias) = &w.bias {
            self.b.bias_forward(y, &bias.value, out, n);
        }
    }

    /// `dx ← dy W` (or `+=`), `dW += dyᵀ x` and `db += Σ dy`.
    fn linear_backward(
        &self,
        (dx, store): (&mut B::Buf, Store),
        grad: &mut Linear<B::Buf>,
        dy: &B::Buf,
        x: &B::Buf,
        w: &Linear<Param<B>>,
    ) {
        self.linear_backward_weight(grad, dy, x, w);
        self.linear_backward_input((dx, store), dy, w);
    }

    /// `dx ← dy W`, or `+=`.
    fn linear_backward_input(&self, (dx, store): (&mut B::Buf, Store), dy: &B::Buf, w: &Linear<Param<B>>) {
        let (n, [out, inp]) = (self.batch.len(), w.weight.matrix());
        self.b.linear_backward_input(dx, dy, &w.weight.value, n, out, inp, store);
    }

    /// `dW += dyᵀ x` and `db += Σ dy`.
    fn linear_backward_weight(
        &self,
        grad: &mut Linear<B::Buf>,
        dy: &B::Buf,
        x: &B::Buf,
        w: &Linear<Param<B>>,
    ) {
        let (n, [out, inp]) = (self.batch.len(), w.weight.matrix());
        self.b.linear_backward_weight(&mut grad.weight, dy, x, n, out, inp);
        if let Some(grad) = &mut grad.bias {
            self.b.bias_backward(grad, dy, out, n);
        }
    }

    /// Queries or keys: the product, the norm of each head where the family has one, the rotation.
    fn heads_forward(
        &self,
        y: &mut B::Buf,
        x: &B::Buf,
        w: &Linear<Param<B>>,
        norm: Option<(&Param<B>, &mut HeadNorm<B::Buf>)>,
        heads: usize,
    ) {
        let (b, c) = (self.b, self.config);
        match norm {
            None => self.linear_forward((y, Store::Write), x, w),
            Some((norm, a)) => {
                self.linear_forward((&mut a.x, Store::Write), x, w);
                let rows = self.batch.len() * heads;
                b.rms_norm_forward(y, &mut a.rstd, &a.x, &norm.value, c.rms_norm_eps, rows);
            }
        }
        b.rope_forward(y, self.cos, self.sin, &self.batch.positions, heads, c.head_dim);
    }

    /// Turns `dy`, the gradient of what [`heads_forward`](Self::heads_forward) gave, into that of the product, in place;
    /// `d` is room for it.
    fn heads_backward(
        &self,
        dy: &mut B::Buf,
        norm: Option<(&Param<B>, &HeadNorm<B::Buf>)>,
        grad: Option<&mut B::Buf>,
        d: &mut B::Buf,
        heads: usize,
    ) {
        let (b, dim) = (self.b, self.config.head_dim);
        b.rope_backward(dy, self.cos, self.sin, &self.batch.positions, heads, dim);
        if let (Some((norm, a)), Some(grad)) = (norm, grad) {
            let rows = self.batch.len() * heads;
            b.clear(d);
            b.rms_norm_backward(d, grad, dy, &a.x, &norm.value, &a.rstd, rows);
            b.copy(dy, d, rows * dim);
        }
    }
}

impl<B: Backend> Layer<Param<B>> {
    /// Advances the residual stream `x` `[n, hidden_size]`.
    pub(crate) fn forward(
        &self,
        p: &Pass<B>,
        x: &mut B::Buf,
        a: &mut LayerActivations<B::Buf>,
        work: &mut LayerWork<B::Buf>,
        cache: Option<&mut (B::Buf, B::Buf)>,
    ) {
        self.activate(p, x, a, work, cache);
        let n = p.batch.len() * p.config.intermediate_size;
        p.b.swiglu_forward(&mut work.swiglu, &a.gate, &a.up, n);
        p.linear_forward((x, Store::Add), &work.swiglu, &self.down_proj);
    }

    /// Computes all that the layer's backward reads; `x` goes as far as the stream before the MLP.
    pub(crate) fn activate(
        &self,
        p: &Pass<B>,
        x: &mut B::Buf,
        a: &mut LayerActivations<B::Buf>,
        work: &mut LayerWork<B::Buf>,
        cache: Option<&mut (B::Buf, B::Buf)>,
    ) {
        let (b, c, n) = (p.b, p.config, p.batch.len());
        b.copy(&mut a.x0, x, n * c.hidden_size);
        let normed = &mut work.normed;
        b.rms_norm_forward(normed, &mut a.rstd0, x, &self.input_layernorm.value, c.rms_norm_eps, n);
        let q_norm = self.q_norm.as_ref().zip(a.q_norm.as_mut());
        p.heads_forward(&mut a.q, normed, &self.q_proj, q_norm, c.num_attention_heads);
        let k_norm = self.k_norm.as_ref().zip(a.k_norm.as_mut());
        p.heads_forward(&mut a.k, normed, &self.k_proj, k_norm, c.num_key_value_heads);
        p.linear_forward((&mut a.v, Store::Write), normed, &self.v_proj);
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
        p.linear_forward((x, Store::Add), &a.attention, &self.o_proj);

        b.copy(&mut a.x1, x, n * c.hidden_size);
        let w = &self.post_attention_layernorm.value;
        b.rms_norm_forward(normed, &mut a.rstd1, x, w, c.rms_norm_eps, n);
        p.linear_forward((&mut a.gate, Store::Write), normed, &self.gate_proj);
        p.linear_forward((&mut a.up, Store::Write), normed, &self.up_proj);
    }

    /// Turns `dx`, the gradient of the stream after the layer, into that of the stream before it; adds to `grad`.
    pub(crate) fn backward(
        &self,
        p: &Pass<B>,
        dx: &mut B::Buf,
        a: &mut LayerActivations<B::Buf>,
        work: &mut LayerWork<B::Buf>,
        d: &mut LayerGradients<B::Buf>,
        grad: &mut Layer<B::Buf>,
    ) {
        let (b, c, n) = (p.b, p.config, p.batch.len());
        let LayerWork { normed, swiglu } = work;
        // The activations become their gradients.
        p.linear_backward_input((swiglu, Store::Write), dx, &self.down_proj);
        b.swiglu_backward(swiglu, &mut a.gate, &mut a.up, n * c.intermediate_size);
        p.linear_backward_weight(&mut grad.down_proj, dx, swiglu, &self.down_proj);
        let (w, dw) = (&self.post_attention_layernorm.value, &mut grad.post_attention_layernorm);
        b.rms_norm_forward(normed, &mut a.rstd1, &a.x1, w, c.rms_norm_eps, n);
        let write = (&mut d.normed, Store::Write);
        p.linear_backward(write, &mut grad.gate_proj, &a.gate, normed, &self.gate_proj);
        p.linear_backward((&mut d.normed, Store::Add), &mut grad.up_proj, &a.up, normed, &self.up_proj);
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
        let q_norm = self.q_norm.as_ref().zip(a.q_norm.as_ref());
        p.heads_backward(&mut d.q, q_norm, grad.q_norm.as_mut(), &mut d.heads, c.num_attention_heads);
        let k_norm = self.k_norm.as_ref().zip(a.k_norm.as_ref());
        p.heads_backward(&mut d.k, k_norm, grad.k_norm.as_mut(), &mut d.heads, c.num_key_value_heads);
        let (w, dw) = (&self.input_layernorm.value, &mut grad.input_layernorm);
        b.rms_norm_forward(normed, &mut a.rstd0, &a.x0, w, c.rms_norm_eps, n);
        p.linear_backward((&mut d.normed, Store::Write), &mut grad.q_proj, &d.q, normed, &self.q_proj);
        p.linear_backward((&mut d.normed, Store::Add), &mut grad.k_proj, &d.k, normed, &self.k_proj);
        p.linear_backward((&mut d.normed, Store::Add), &mut grad.v_proj, &d.v, normed, &self.v_proj);
        b.rms_norm_backward(dx, dw, &d.normed, &a.x0, w, &a.rstd0, n);
    }
}
