//! The `Backend` trait: every operation a dense transformer needs, forward and backward.

use crate::{Draw, Heads, OutOfMemory, Sequence};

/// What a product does with the numbers its output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Overwrites them.
    Write,
    /// Adds to them.
    Add,
}

/// One step of AdamW (arXiv:1711.05101, Algorithm 2), with `t` the number of steps counted from 1:
///
/// ```text
/// g ← grad_scale · g
/// m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²
/// w ← w − lr (m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + eps) + weight_decay · w)
/// ```
///
/// Moments kept in bf16 (arXiv:2412.19437, section 3.3.2) are rounded after that, stochastically: the weights are moved by
/// the new moments as they were computed. With `r` the random bits ([`bf16::random_bits`](crate::bf16::random_bits)) of the
/// number's place in the buffer under `rounding_key`, `m ← round(m, r)` and `v ← round(v, r / 2¹⁶)` by
/// [`bf16::round`](crate::bf16::round).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled decay of the weights, a share of `lr`.
    pub weight_decay: f32,
    /// Factor on the gradient: what clipping by the global norm leaves of it.
    pub grad_scale: f32,
    /// 1 − β₁ᵗ
    pub bias_correction1: f32,
    /// 1 − β₂ᵗ
    pub bias_correction2: f32,
    /// Keys the random bits that moments in bf16 are rounded by; one of its own for each step and buffer.
    pub rounding_key: u32,
}

/// In what a moment of AdamW is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MomentType {
    /// Four bytes a weight: as it was computed.
    #[default]
    F32,
    /// Two bytes a weight, rounded stochastically (see [`AdamWStep`]).
    Bf16,
}

/// A device that runs the operations of a dense transformer.
///
/// # Conventions
/// - Activations are row-major matrices `[rows, features]`: one row a token, sequences packed back to back. A buffer may
///   be longer than an operation needs; the operation touches the first rows only, and how many is its last argument.
/// - Arguments come in the order: outputs, inputs, weights, saved by the forward, sizes.
/// - Gradients of parameters are added to (`+=`), gradients of activations are written (`=`), unless an operation says
///   otherwise. A gradient `dx` is the derivative of the loss by `x`.
/// - **A row's result depends on that row alone** (and, in attention, on the keys it attends to): on no neighbour, batch
///   size, row number or thread count, to the last bit. Every sum is accumulated in one order that only the sizes of the
///   operation's features determine. This is what makes sampling and training one forward.
/// - A gradient of a parameter sums the rows in their order. Same inputs, same bits, whatever the number of threads.
///
/// # Panics
/// Operations assert the sizes of their buffers: a wrong size is an error of the caller's program, not of a user.
pub trait Backend: Sync {
    /// Numbers on the device.
    type Buf: Send + Sync;
    /// A weight matrix `[out_features, in_features]` in the layout that [`linear_forward`](Self::linear_forward) reads.
    type Packed: Send + Sync;
    /// A moment of AdamW, of either [`MomentType`].
    type Moment: Send + Sync;

    /// Bytes of memory that a buffer of `len` elements takes.
    fn bytes(&self, len: usize) -> usize;
    /// Elements of a buffer.
    fn len(&self, buf: &Self::Buf) -> usize;
    /// Bytes of memory that a packed matrix `[out_features, in_features]` takes, at most.
    fn packed_bytes(&self, out_features: usize, in_features: usize) -> usize;
    /// Bytes of memory that a moment of `len` elements takes.
    fn moment_bytes(&self, len: usize, kind: MomentType) -> usize;
    /// Bytes of memory that are free; None where the system does not say.
    fn free_memory(&self) -> Option<u64>;
    /// Rows of a pass that keep the device's products busy: more rows cost as much each, fewer cost more.
    fn pass_rows(&self) -> usize;

    /// `len` zeros.
    ///
    /// # Errors
    /// If the device refuses the memory.
    fn zeros(&self, len: usize) -> Result<Self::Buf, OutOfMemory>;
    /// A buffer that holds `values`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    fn upload(&self, values: &[f32]) -> Result<Self::Buf, OutOfMemory>;
    /// Overwrites the first elements of `buf` with `values`.
    fn write(&self, buf: &mut Self::Buf, values: &[f32]);
    /// The first elements of each buffer, as many as are asked for, rounded to f32 if the device holds more. It waits for
    /// all operations before it, once; no other operation waits, except those that return numbers.
    fn read<const N: usize>(&self, parts: [(&Self::Buf, usize); N]) -> [Vec<f32>; N];
    /// Sets every element of `buf` to zero.
    fn clear(&self, buf: &mut Self::Buf);
    /// `y[..n] = x[..n]`, numbers.
    fn copy(&self, y: &mut Self::Buf, x: &Self::Buf, n: usize);

    /// Packs `w` `[out_features, in_features]`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    fn pack(
        &self,
        w: &Self::Buf,
        out_features: usize,
        in_features: usize,
    ) -> Result<Self::Packed, OutOfMemory>;
    /// As [`upload`](Self::upload) and [`pack`](Self::pack), without the buffer between them.
    ///
    /// # Errors
    /// If the device refuses the memory.
    fn upload_packed(
        &self,
        values: &[f32],
        out_features: usize,
        in_features: usize,
    ) -> Result<Self::Packed, OutOfMemory> {
        self.pack(&self.upload(values)?, out_features, in_features)
    }
    /// Packs `w`, of the same shape as before, into memory that is there already.
    fn repack(&self, packed: &mut Self::Packed, w: &Self::Buf);

    /// `y[n, :] = w[ids[n], :]`; `y` is `[ids.len(), features]`, `w` is `[vocab, features]`.
    fn embedding_forward(&self, y: &mut Self::Buf, ids: &[u32], w: &Self::Buf, features: usize);
    /// `dw[ids[n], :] += dy[n, :]`, in the order of `n`.
    fn embedding_backward(&self, dw: &mut Self::Buf, ids: &[u32], dy: &Self::Buf, features: usize);

    /// `y[i, :] = x[rows[i], :]`.
    fn gather_rows(&self, y: &mut Self::Buf, x: &Self::Buf, rows: &[u32], features: usize);
    /// `y[rows[i], :] = x[i, :]`; `rows` are distinct.
    fn scatter_rows(&self, y: &mut Self::Buf, x: &Self::Buf, rows: &[u32], features: usize);
    /// The backward of a gather: `dx[rows[i], :] += dy[i, :]`, in the order of `i`.
    fn scatter_add_rows(&self, dx: &mut Self::Buf, dy: &Self::Buf, rows: &[u32], features: usize);

    /// `y = x Wᵀ`, or `y += x Wᵀ`; `x` is `[n, in_features]`, `y` is `[n, out_features]`.
    fn linear_forward(&self, y: &mut Self::Buf, x: &Self::Buf, w: &Self::Packed, n: usize, store: Store);
    /// [`linear_forward`](Self::linear_forward), to the bit, by a matrix `w` `[out_features, in_features]` that is not
    /// packed: for weights that change before they are read often.
    fn linear_forward_unpacked(
        &self,
        y: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        n: usize,
        out_features: usize,
        in_features: usize,
        store: Store,
    );
    /// `dx = dy W`, or `dx += dy W`; `w` is `[out_features, in_features]`, not packed.
    fn linear_backward_input(
        &self,
        dx: &mut Self::Buf,
        dy: &Self::Buf,
        w: &Self::Buf,
        n: usize,
        out_features: usize,
        in_features: usize,
        store: Store,
    );
    /// `dW += dyᵀ x`; `dw` is `[out_features, in_features]`. The rows are summed in their order, starting from what `dw`
    /// holds.
    fn linear_backward_weight(
        &self,
        dw: &mut Self::Buf,
        dy: &Self::Buf,
        x: &Self::Buf,
        n: usize,
        out_features: usize,
        in_features: usize,
    );

    /// `y[n, :] += bias`; `y` is `[n, features]`, `bias` is `[features]`.
    fn bias_forward(&self, y: &mut Self::Buf, bias: &Self::Buf, features: usize, n: usize);
    /// `d_bias += Σₙ dy[n, :]`. The rows are summed in their order, starting from what `d_bias` holds.
    fn bias_backward(&self, d_bias: &mut Self::Buf, dy: &Self::Buf, features: usize, n: usize);

    /// RMSNorm (arXiv:1910.07467): `y = w · x · rstd`, `rstd = 1 / √(mean(x²) + eps)`. `x`, `y` are `[n, w.len()]`, `rstd`
    /// is `[n]`.
    fn rms_norm_forward(
        &self,
        y: &mut Self::Buf,
        rstd: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        eps: f32,
        n: usize,
    );
    /// With `x̂ = x · rstd` and `g = w · dy`: **adds** `rstd · (g − x̂ · mean(g · x̂))` to `dx`, the gradient of the residual
    /// stream that `x` belongs to, and `Σₙ dy · x̂` to `dw`.
    fn rms_norm_backward(
        &self,
        dx: &mut Self::Buf,
        dw: &mut Self::Buf,
        dy: &Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        rstd: &Self::Buf,
        n: usize,
    );

    /// Rotary positions (arXiv:2104.09864) in the half-split form of Hugging Face, in place on `x` `[n, heads · dim]`: with
    /// `i < dim/2` and the angle of `(positions[n], i)`,
    /// `(xᵢ, xᵢ₊dim/2) ← (xᵢ cos − xᵢ₊dim/2 sin, xᵢ₊dim/2 cos + xᵢ sin)`. `cos`, `sin` are tables `[positions, dim/2]`.
    fn rope_forward(
        &self,
        x: &mut Self::Buf,
        cos: &Self::Buf,
        sin: &Self::Buf,
        positions: &[u32],
        heads: usize,
        dim: usize,
    );
    /// The transposed rotation, in place on the gradient.
    fn rope_backward(
        &self,
        dx: &mut Self::Buf,
        cos: &Self::Buf,
        sin: &Self::Buf,
        positions: &[u32],
        heads: usize,
        dim: usize,
    );

    /// Causal grouped-query attention: for each row of `q` and each head, over the keys that [`Sequence`] gives it,
    /// `out = Σⱼ pⱼ vⱼ`, `p = softmax(scale · q·kⱼ)`. `q`, `out` are `[n, query · dim]`, `k`, `v` are `[key rows,
    /// key_value · dim]`; `log_sum_exp` `[n, query]` is saved for the backward. Rows in no sequence are left alone.
    fn attention_forward(
        &self,
        out: &mut Self::Buf,
        log_sum_exp: &mut Self::Buf,
        q: &Self::Buf,
        k: &Self::Buf,
        v: &Self::Buf,
        sequences: &[Sequence],
        heads: Heads,
        scale: f32,
    );
    /// With `pⱼ = exp(scale · q·kⱼ − log_sum_exp)` and `dsⱼ = pⱼ (dout·vⱼ − dout·out)`: writes `dq = scale Σⱼ dsⱼ kⱼ`, **adds**
    /// `scale · dsⱼ q` to `dkⱼ` and `pⱼ dout` to `dvⱼ`. The sequences that share keys stand side by side (see
    /// [`sharing_groups`](crate::sharing_groups)).
    fn attention_backward(
        &self,
        dq: &mut Self::Buf,
        dk: &mut Self::Buf,
        dv: &mut Self::Buf,
        dout: &Self::Buf,
        q: &Self::Buf,
        k: &Self::Buf,
        v: &Self::Buf,
        out: &Self::Buf,
        log_sum_exp: &Self::Buf,
        sequences: &[Sequence],
        heads: Heads,
        scale: f32,
    );

    /// SwiGLU (arXiv:2002.05202): `y = gate · σ(gate) · up`, over the first `n` numbers.
    fn swiglu_forward(&self, y: &mut Self::Buf, gate: &Self::Buf, up: &Self::Buf, n: usize);
    /// In place, in one pass over memory: `gate` becomes `dgate = dy · up · σ(gate) · (1 + gate · (1 − σ(gate)))`, `up`
    /// becomes `dup = dy · gate · σ(gate)`, and `dy` becomes `y`, to the bits of the forward.
    fn swiglu_backward(&self, dy: &mut Self::Buf, gate: &mut Self::Buf, up: &mut Self::Buf, n: usize);

    /// The output head fused with log-softmax. With `l = x Wᵀ / temperature` of row `n` over the vocabulary: writes
    /// `log_probs[n] = l[targets[n]] − log_sum_exp[n]`, `entropy[n] = log_sum_exp[n] − Σᵥ pᵥ lᵥ` and `log_sum_exp[n]`, which
    /// the backward reads. All logits at once are never stored.
    fn log_prob_forward(
        &self,
        log_probs: &mut Self::Buf,
        entropy: &mut Self::Buf,
        log_sum_exp: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Packed,
        targets: &[u32],
        temperature: f32,
    );
    /// The gradient of the log-probabilities (not of the entropy), with `dlᵥ = d_log_probs[n] ([v = targets[n]] − pᵥ) /
    /// temperature`: writes `dx = dl W`, adds `dlᵀ x` to `dw`. `packed` is `w`, packed.
    fn log_prob_backward(
        &self,
        dx: &mut Self::Buf,
        dw: &mut Self::Buf,
        d_log_probs: &Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        packed: &Self::Packed,
        targets: &[u32],
        log_sum_exp: &Self::Buf,
        temperature: f32,
    );
    /// Draws a token a row from `softmax(x Wᵀ / temperature)`, truncated as its [`Draw`] says, by inverting the cumulative
    /// distribution at the draw's uniform: the first token whose cumulative probability, summed over the tokens that are kept
    /// in the order of their numbers, exceeds it; the last possible token if rounding leaves none. With temperature 0 it
    /// takes the likeliest token (the first of equals), and log-probabilities at temperature 1.
    ///
    /// Writes the token's log-probability under the distribution it was drawn from, and under the whole one:
    /// `full_log_probs` has the bits that [`log_prob_forward`](Self::log_prob_forward) gives for the token, and so has
    /// `log_probs` where nothing is cut off.
    fn sample(
        &self,
        tokens: &mut [u32],
        log_probs: &mut Self::Buf,
        full_log_probs: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Packed,
        draws: &[Draw],
    );

    /// Σ x² of each buffer, over the whole of it, in a fixed order. It waits as [`read`](Self::read) does.
    fn sums_of_squares(&self, buffers: &[&Self::Buf]) -> Vec<f64>;
    /// A moment of `len` zeros.
    ///
    /// # Errors
    /// If the device refuses the memory.
    fn zero_moment(&self, len: usize, kind: MomentType) -> Result<Self::Moment, OutOfMemory>;
    /// A moment that holds `values`; kept in bf16, it holds the upper half of each.
    ///
    /// # Errors
    /// If the device refuses the memory.
    fn upload_moment(&self, values: &[f32], kind: MomentType) -> Result<Self::Moment, OutOfMemory>;
    /// The moment's elements, rounded to f32 if the device holds more. It waits as [`read`](Self::read) does.
    fn read_moment(&self, moment: &Self::Moment) -> Vec<f32>;
    /// One step of AdamW on `w` and its moments `m`, `v`, which are of one type, from the gradient `g`.
    fn adamw_step(
        &self,
        w: &mut Self::Buf,
        m: &mut Self::Moment,
        v: &mut Self::Moment,
        g: &Self::Buf,
        step: AdamWStep,
    );
}
