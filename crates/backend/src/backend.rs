//! The `Backend` trait: every operation that a dense transformer needs, forward and backward.

use crate::{
    Columns, Divergence, HeadNormBackward, HeadNorms, Heads, Layout, Matrix, MixtureGradients, OutOfMemory,
    ProductPrecision, Rotation, Routing, composite,
};

/// What a product does with what its output holds.
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
/// element's place in the buffer under `rounding_key`, `m ← round(m, r)` and `v ← round(v, r / 2¹⁶)` by
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
    /// Keys the random bits that moments in bf16 are rounded by; another one for each step and buffer.
    pub rounding_key: u32,
}

/// In what a moment of AdamW is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MomentType {
    /// Four bytes per weight: as it was computed.
    #[default]
    F32,
    /// Two bytes per weight, rounded stochastically (see [`AdamWStep`]).
    Bf16,
}

/// Whether an operand keeps its values where products read another form of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Only what products read.
    Operand,
    /// The values too: other operations read or change them.
    Values,
}

/// What attention computes on: queries `[rows, query · dim]`, keys `[key rows, key_value · dim]`, values
/// `[key rows, key_value · value_dim]`. The gradients of values are of this shape wherever the values lie.
pub struct Attention<'a, B: Backend> {
    /// The queries, after their rotation.
    pub q: &'a B::Buf,
    /// The keys, after their rotation.
    pub k: &'a B::Keys,
    /// The values. None: those of a key head are the first `value_dim` features of its keys.
    pub v: Option<&'a B::Keys>,
    /// Its sequences say which keys each row sees.
    pub layout: &'a B::Layout,
    /// How queries and keys are cut into heads.
    pub heads: Heads,
    /// Factor on the products of queries and keys.
    pub scale: f64,
}

impl<B: Backend> Clone for Attention<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for Attention<'_, B> {}

/// What a device reaches at most, by loops of nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceilings {
    /// Operations per second of the multiply-adds that its products use; a multiply-add is two.
    pub flops: f64,
    /// Bytes per second that are read from memory.
    pub read_bytes_per_s: f64,
}

/// A device that runs the operations of a dense transformer.
///
/// # Conventions
/// - Activations are row-major matrices `[rows, features]`: one row per token, sequences packed back to back. A buffer may
///   be longer than an operation needs; the operation touches the first rows only, and how many is its last argument, or
///   the number of rows, or of head rows, of its [`Layout`].
/// - Arguments come in the order: outputs, inputs, weights, saved by the forward, sizes.
/// - Gradients of parameters are added to (`+=`), gradients of activations are written (`=`), unless an operation says
///   otherwise. A gradient `dx` is the derivative of the loss by `x`.
/// - **A row's result depends on that row alone** (and, in attention, on the keys it attends to): on no neighbour, batch
///   size, row number or thread count, to the last bit. Every sum is accumulated in one order that only the sizes of the
///   operation's features determine. This is what makes sampling and training one forward.
/// - A gradient of a parameter sums the rows in an order that the number of rows alone determines. Same inputs, same bits,
///   whatever the number of threads.
/// - What only products read is an [`Operand`](Self::Operand), which its producer writes once in the precision of the
///   products.
/// - No operation waits for the device, except those that return values: [`read`](Self::read) and its kin.
///
/// # Panics
/// Operations assert the sizes of their buffers: a wrong size is an error of the caller's program, not of a user.
pub trait Backend: Sync + Sized {
    /// f32 elements on the device.
    type Buf: Send + Sync;
    /// A weight matrix `[out_features, in_features]`, or several of one shape, in the form that products read; see [`Matrix`].
    type Packed: Send + Sync;
    /// Activations that products read, row-major: f32 where products are f32, bf16 where they are bf16.
    type Operand: Send + Sync;
    /// Keys or values of attention, `[key rows, features]`: of a pass, or of a cache.
    type Keys: Send + Sync;
    /// A [`Layout`] on the device.
    type Layout: Send + Sync;
    /// Which experts each row of a pass chose, and by what weights: see [`route_forward`](Self::route_forward).
    type Routes: Send + Sync;
    /// A moment of AdamW, of either [`MomentType`].
    type Moment: Send + Sync;

    /// What computes, for records: the device, and what its bits depend on.
    fn name(&self) -> String;
    /// Bytes of memory that a buffer of `len` elements takes.
    fn bytes(&self, len: usize) -> usize;
    /// Elements of a buffer.
    fn len(&self, buf: &Self::Buf) -> usize;
    /// Bytes of memory that packed matrices of shape `[matrices, out_features, in_features]` take, at most.
    fn packed_bytes(&self, shape: [usize; 3], precision: ProductPrecision) -> usize;
    /// Bytes of memory that `packed` takes, which are matrices of `shape` for products of `precision`: what products by them read.
    fn held_bytes(&self, _packed: &Self::Packed, shape: [usize; 3], precision: ProductPrecision) -> usize {
        self.packed_bytes(shape, precision)
    }
    /// Bytes of memory that a moment of `len` elements takes.
    fn moment_bytes(&self, len: usize, kind: MomentType) -> usize;
    /// Bytes of memory that are free; None where the system does not say.
    fn free_memory(&self) -> Option<u64>;
    /// Rows of a pass that keep the device's products busy: more rows cost as much each, fewer cost more.
    fn pass_rows(&self) -> usize;
    /// Whether weights stay packed while they are trained, at the price of the memory. Where they don't, each product packs its
    /// matrix for itself, to the same bits.
    fn trains_packed(&self) -> bool {
        false
    }

    /// `len` zeros.
    ///
    /// # Errors
    /// If the device refuses the memory.
    fn zeros(&self, len: usize) -> Result<Self::Buf, OutOfMemory>;
    /// `len` elements that are undefined until they are written.
    ///
    /// # Errors
    /// If the device refuses the memory.
    fn undefined(&self, len: usize) -> Result<Self::Buf, OutOfMemory> {
        self.zeros(len)
    }
    /// A buffer that holds `values`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    fn upload(&self, values: &[f32]) -> Result<Self::Buf, OutOfMemory>;
    /// Overwrites the first elements of `buf` with `values`, rounded to what the device holds.
    fn write(&self, buf: &mut Self::Buf, values: &[f64]);
    /// The first elements of each buffer, as many as are asked for, rounded to f32 if the device holds more. It waits for
    /// all operations before it, once; no other operation waits, except those that return values.
    fn read<const N: usize>(&self, parts: [(&Self::Buf, usize); N]) -> [Vec<f32>; N];
    /// As [`read`](Self::read), and as exact as the device holds them: for what losses are computed of.
    fn read_exact<const N: usize>(&self, parts: [(&Self::Buf, usize); N]) -> [Vec<f64>; N];
    /// Measures what the device reaches at most. None where it has no loops for that.
    ///
    /// # Errors
    /// If the device refuses the memory that is read.
    fn ceilings(&self) -> Result<Option<Ceilings>, OutOfMemory> {
        Ok(None)
    }

    /// Sets every element of `buf` to zero.
    fn clear(&self, buf: &mut Self::Buf);
    /// `y[..n] = x[..n]`, elements.
    fn copy(&self, y: &mut Self::Buf, x: &Self::Buf, n: usize);

    /// Packs each matrix of `w` `[matrices, out_features, in_features]` for products of `precision`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    fn pack(
        &self,
        w: &Self::Buf,
        shape: [usize; 3],
        precision: ProductPrecision,
    ) -> Result<Self::Packed, OutOfMemory>;
    /// As [`upload`](Self::upload) and [`pack`](Self::pack), without the buffer between them. No [`repack`](Self::repack) follows, so
    /// any form will do that gives the same bits.
    ///
    /// # Errors
    /// If the device refuses the memory.
    fn upload_packed(
        &self,
        values: &[f32],
        shape: [usize; 3],
        precision: ProductPrecision,
    ) -> Result<Self::Packed, OutOfMemory> {
        self.pack(&self.upload(values)?, shape, precision)
    }
    /// Packs `w`, of the same shape as before, into memory that is there already: that of [`pack`](Self::pack).
    fn repack(&self, packed: &mut Self::Packed, w: &Self::Buf);

    /// Puts the layout of a pass on the device; the one upload that a forward pass needs.
    ///
    /// # Errors
    /// If the device refuses the memory.
    fn upload_layout(&self, layout: Layout) -> Result<Self::Layout, OutOfMemory>;
    /// Rows of a layout's pass.
    fn rows(&self, layout: &Self::Layout) -> usize;
    /// Head rows of a layout.
    fn head_rows(&self, layout: &Self::Layout) -> usize;
    /// Pairs of a row of a layout and a key that it attends to.
    fn pairs(&self, layout: &Self::Layout) -> usize;
    /// Whether the rows of a layout's pass go to a cache.
    fn is_cached(&self, layout: &Self::Layout) -> bool;

    /// An operand of `len` elements that are undefined until they are written.
    ///
    /// # Errors
    /// If the device refuses the memory.
    fn operand(&self, len: usize, keep: Keep) -> Result<Self::Operand, OutOfMemory>;
    /// Bytes of memory that an operand of `len` elements takes.
    fn operand_bytes(&self, len: usize, keep: Keep) -> usize;
    /// The values of an operand that keeps them.
    fn values<'a>(&self, x: &'a Self::Operand) -> &'a Self::Buf;
    /// The values of an operand that keeps them. After they changed, [`round`](Self::round) brings the operand up to date.
    fn values_mut<'a>(&self, x: &'a mut Self::Operand) -> &'a mut Self::Buf;
    /// Rounds the first `n` values to the precision of products, to nearest even; nothing to do where products are f32.
    fn round(&self, x: &mut Self::Operand, n: usize);
    /// Multiplies the first `n` values by `factor`, and rounds them as [`round`](Self::round) does.
    fn scale(&self, x: &mut Self::Operand, factor: f32, n: usize);
    /// Overwrites the first elements of an operand, and its values where it keeps them, with `values`.
    fn write_operand(&self, x: &mut Self::Operand, values: &[f64]);
    /// The first `n` elements as products read them. It waits as [`read`](Self::read) does.
    fn read_operand(&self, x: &Self::Operand, n: usize) -> Vec<f32>;

    /// Keys of `len` elements that are undefined until they are written.
    ///
    /// # Errors
    /// If the device refuses the memory.
    fn keys(&self, len: usize) -> Result<Self::Keys, OutOfMemory>;
    /// Bytes of memory that keys of `len` elements take.
    fn keys_bytes(&self, len: usize) -> usize;
    /// `keys[cache_rows[n], :] = x[n, :]`, or `keys[n, :] = x[n, :]` without a cache; `x` is `[rows, features]`.
    fn store_keys(&self, keys: &mut Self::Keys, x: &Self::Buf, features: usize, layout: &Self::Layout);

    /// `y[n, :] = w[ids[n], :]`; `y` is `[rows, features]`, `w` is `[vocab, features]`.
    fn embedding_forward(&self, y: &mut Self::Buf, w: &Self::Buf, features: usize, layout: &Self::Layout);
    /// `dw[ids[n], :] += dy[n, :]`, in the order of `n`.
    fn embedding_backward(&self, dw: &mut Self::Buf, dy: &Self::Buf, features: usize, layout: &Self::Layout);

    /// `y[i, :] = x[head_rows[i], :]`
    fn head_rows_forward(
        &self,
        y: &mut Self::Operand,
        x: &Self::Operand,
        features: usize,
        layout: &Self::Layout,
    );
    /// `dx[head_rows[i], :] = dy[i, :]`, and zero in all other rows of the pass.
    fn head_rows_backward(&self, dx: &mut Self::Buf, dy: &Self::Buf, features: usize, layout: &Self::Layout);

    /// `y = x Wᵀ`, or `y += x Wᵀ`; `x` is `[n, in_features]`, `y` is `[n, out_features]`. Whether `w` is packed changes no
    /// bit.
    ///
    /// Where the matrix's products are of [`ProductPrecision::Fp8`], those of a linear layer are, with `q` the codes and `s` the
    /// scales of blocks `b` of 128 elements of the inner dimension (arXiv:2412.19437, section 3.3):
    ///
    /// ```text
    /// y  = Σ_b (Σ q(x) q(W)) · s(x) · s(W)      x by row and 128 features, W by 128 × 128
    /// dx = Σ_b (Σ q(dy) q(W)) · s(dy) · s(W)    dy by row and 128 features, W as in the forward
    /// dW = Σ_b (Σ q(dy) q(x)) · s(dy) · s(x)    both by feature and 128 rows, x after it was rounded as in the forward
    /// ```
    ///
    /// The inner sums and the outer one are accumulated in f32.
    fn linear_forward(&self, y: &mut Self::Buf, x: &Self::Operand, w: &Matrix<Self>, n: usize, store: Store);
    /// `dx = dy W`, or `dx += dy W`. It reads the values of `w`, or where none are held the packed form, which changes no bit.
    fn linear_backward_input(
        &self,
        dx: &mut Self::Buf,
        dy: &Self::Operand,
        w: &Matrix<Self>,
        n: usize,
        store: Store,
    );
    /// `dW += dyᵀ x`; `dw` is of `shape` `[out_features, in_features]`.
    fn linear_backward_weight(
        &self,
        dw: &mut Self::Buf,
        dy: &Self::Operand,
        x: &Self::Operand,
        n: usize,
        shape: [usize; 2],
        precision: ProductPrecision,
    );

    /// `y[n, :] += bias`; `y` is `[n, features]`, `bias` is `[features]`.
    fn bias_forward(&self, y: &mut Self::Buf, bias: &Self::Buf, features: usize, n: usize);
    /// `d_bias += Σₙ dy[n, :]`; it reads the values of `dy`.
    fn bias_backward(&self, d_bias: &mut Self::Buf, dy: &Self::Operand, features: usize, n: usize);

    /// RMSNorm (arXiv:1910.07467): `y = w · x · rstd`, `rstd = 1 / √(mean(x²) + eps)`. `x`, `y` are `[n, w.len()]`, `rstd`
    /// is `[n]`.
    fn rms_norm_forward(
        &self,
        y: &mut Self::Operand,
        rstd: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        eps: f32,
        n: usize,
    );
    /// RMSNorm of each head of queries or keys, which other operations read: as [`rms_norm_forward`](Self::rms_norm_forward),
    /// with `n` heads for rows.
    fn head_norm_forward(
        &self,
        y: &mut Self::Buf,
        rstd: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        eps: f32,
        n: usize,
    );
    /// Of both norms. With `x̂ = x · rstd` and `g = w · dy`: **adds** `rstd · (g − x̂ · mean(g · x̂))` to `dx`, the gradient of the residual
    /// stream that `x` belongs to, and `Σₙ dy · x̂` to `dw`, unless the scales are frozen.
    fn rms_norm_backward(
        &self,
        dx: &mut Self::Buf,
        dw: Option<&mut Self::Buf>,
        dy: &Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        rstd: &Self::Buf,
        n: usize,
    );

    /// [`rms_norm_forward`](Self::rms_norm_forward) of the residual stream, which it copies: `saved[..] = x[..]`. By
    /// [its parts](composite::stream_norm_forward) or to their bits.
    fn stream_norm_forward(
        &self,
        y: &mut Self::Operand,
        saved: &mut Self::Buf,
        rstd: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        eps: f32,
        n: usize,
    ) {
        composite::stream_norm_forward(self, y, saved, rstd, x, w, eps, n);
    }
    /// [`rms_norm_backward`](Self::rms_norm_backward) to the gradient of the residual stream, which it rounds for products. By
    /// [its parts](composite::stream_norm_backward) or to their bits.
    fn stream_norm_backward(
        &self,
        dx: &mut Self::Operand,
        dw: Option<&mut Self::Buf>,
        dy: &Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        rstd: &Self::Buf,
        n: usize,
    ) {
        composite::stream_norm_backward(self, dx, dw, dy, x, w, rstd, n);
    }

    /// Rotary positions (arXiv:2104.09864), in place on `x` `[rows, rotation.features()]`: in each head, with `i < dim/2`, the
    /// angle of `(positions[n], i)` and `[a, b]` the places of [`Rotation::pair`]`(i)`,
    /// `(x_a, x_b) ← (x_a cos − x_b sin, x_b cos + x_a sin)`. `cos`, `sin` are tables `[positions, dim/2]`.
    fn rope_forward(
        &self,
        x: &mut Self::Buf,
        cos: &Self::Buf,
        sin: &Self::Buf,
        rotation: Rotation,
        layout: &Self::Layout,
    );
    /// The transposed rotation, in place on the gradient.
    fn rope_backward(
        &self,
        dx: &mut Self::Buf,
        cos: &Self::Buf,
        sin: &Self::Buf,
        rotation: Rotation,
        layout: &Self::Layout,
    );

    /// What attention reads of the products `q`, `k`, `v`: norms their heads of queries and keys, where the family has norms,
    /// turns them by [`rope_forward`](Self::rope_forward) in whole heads, and stores keys and values by
    /// [`store_keys`](Self::store_keys). With norms the products of queries and keys are [`HeadNorms::x`], else `q` and `k` hold
    /// them; `q` becomes the queries, `k` and `v` are used up.
    ///
    /// It gives the bits of [its parts](composite::heads_forward), and so does a backend with a kernel of its own.
    fn heads_forward(
        &self,
        q: &mut Self::Buf,
        keys_and_values: [&mut Self::Keys; 2],
        [k, v]: [&mut Self::Buf; 2],
        norms: Option<HeadNorms<'_, Self>>,
        cos_and_sin: [&Self::Buf; 2],
        heads: Heads,
        layout: &Self::Layout,
    ) {
        composite::heads_forward(self, q, keys_and_values, [k, v], norms, cos_and_sin, heads, layout);
    }
    /// Of queries, or of keys, with `[heads, dim] = sizes`: `dy`, the gradient of what [`heads_forward`](Self::heads_forward)
    /// gave, becomes that of the product: turned back, and through the norm where there is one. It reads the values of `dy` and
    /// writes what products read of them; the values too where they are to be kept, else they are undefined after it.
    ///
    /// It gives the bits of [its parts](composite::heads_backward), and so does a backend with a kernel of its own.
    fn heads_backward(
        &self,
        dy: &mut Self::Operand,
        norm: Option<HeadNormBackward<'_, Self>>,
        cos_and_sin: [&Self::Buf; 2],
        sizes: [usize; 2],
        _keep: Keep,
        layout: &Self::Layout,
    ) {
        composite::heads_backward(self, dy, norm, cos_and_sin, sizes, layout);
    }

    /// `y[n, h, :] = x[n, h, :]`, or `+=` in the order of `h`, with `[to, from] = columns` and `[heads, width] = sizes`, for the
    /// `width` columns that `to` and `from` give head `h`. All
    /// other columns of `y` stay. With [`Store::Add`] several heads may go to the same columns: the backward of one that was
    /// copied to all.
    fn columns(
        &self,
        y: &mut Self::Buf,
        x: &Self::Buf,
        columns: [Columns; 2],
        sizes: [usize; 2],
        n: usize,
        store: Store,
    );

    /// Causal grouped-query attention: for each row of `q` and each head, over the keys that its
    /// [`Sequence`](crate::Sequence) gives it, `out = Σⱼ pⱼ vⱼ`, `p = softmax(scale · q·kⱼ)`. `out` is
    /// `[rows, query · value_dim]`; `log_sum_exp` `[rows, query]` is saved for the backward. Rows in no sequence are left alone.
    fn attention_forward(
        &self,
        out: &mut Self::Operand,
        log_sum_exp: &mut Self::Buf,
        inputs: Attention<'_, Self>,
    );
    /// With `pⱼ = exp(scale · q·kⱼ − log_sum_exp)` and `dsⱼ = pⱼ (dout·vⱼ − dout·out)`: writes `dq = scale Σⱼ dsⱼ kⱼ`, and of
    /// each key that a row attends to the sums over those rows, `dkⱼ = Σ scale · dsⱼ q` and `dvⱼ = Σ pⱼ dout`. Rows in no sequence
    /// and keys that none has are left alone. It reads the values of `out`. The sequences that share keys stand side by side (see
    /// [`sharing_groups`](crate::sharing_groups)).
    fn attention_backward(
        &self,
        d: [&mut Self::Buf; 3],
        dout: &Self::Buf,
        inputs: Attention<'_, Self>,
        out: &Self::Operand,
        log_sum_exp: &Self::Buf,
    );

    /// SwiGLU (arXiv:2002.05202): `y = gate · σ(gate) · up`, over the first `n` elements. `y` is for products alone: if it keeps
    /// its values, they are undefined after it.
    fn swiglu_forward(&self, y: &mut Self::Operand, gate: &Self::Buf, up: &Self::Buf, n: usize);
    /// In place, in one pass over memory: `gate` becomes `dgate = dy · up · σ(gate) · (1 + gate · (1 − σ(gate)))`, `up`
    /// becomes `dup = dy · gate · σ(gate)`, and `dy` becomes `y`, to the bits of the forward. It reads the values of all three,
    /// and writes what products read of them; the values too where they are to be kept, else they are undefined after it.
    fn swiglu_backward(
        &self,
        dy: &mut Self::Operand,
        gate: &mut Self::Operand,
        up: &mut Self::Operand,
        keep: Keep,
        n: usize,
    );

    /// The output head fused with log-softmax. With `l = x Wᵀ / temperature` of head row `n` over the vocabulary: writes
    /// `log_probs[n] = l[targets[n]] − log_sum_exp[n]`, `entropy[n] = log_sum_exp[n] − Σᵥ pᵥ lᵥ` and `log_sum_exp[n]`, which
    /// the backward reads. All logits at once are never stored.
    fn log_prob_forward(
        &self,
        log_probs: &mut Self::Buf,
        entropy: &mut Self::Buf,
        log_sum_exp: &mut Self::Buf,
        x: &Self::Operand,
        w: &Matrix<Self>,
        temperature: f32,
        layout: &Self::Layout,
    );
    /// The gradient of the log-probabilities (not of the entropy), with `dlᵥ = d_log_probs[n] ([v = targets[n]] − pᵥ) /
    /// temperature`: writes `dx = dl W`, adds `dlᵀ x` to `dw`, unless `w` is frozen. `w` is held packed; its values, where they
    /// are held, change no bit.
    fn log_prob_backward(
        &self,
        dx: &mut Self::Buf,
        dw: Option<&mut Self::Buf>,
        d_log_probs: &Self::Buf,
        x: &Self::Operand,
        w: &Matrix<Self>,
        log_sum_exp: &Self::Buf,
        temperature: f32,
        layout: &Self::Layout,
    );
    /// Samples a token for each head row from `softmax(x Wᵀ / temperature)`, truncated as its [`Draw`](crate::Draw) says, by
    /// inverting the cumulative distribution at the draw's uniform: the first token whose cumulative probability, summed over
    /// the tokens that are kept in the order of their numbers, exceeds it; the last possible token if rounding leaves none.
    /// With temperature 0 it takes the likeliest token (the first of equals), and log-probabilities at temperature 1.
    ///
    /// Writes the token's number, which an f32 holds exactly below 2²⁴; its log-probability under the distribution it was
    /// sampled from; and under the whole one: `full_log_probs` has the bits that
    /// [`log_prob_forward`](Self::log_prob_forward) gives for the token, and so has `log_probs` where nothing is cut off.
    ///
    /// # Panics
    /// If the vocabulary has more than 2²⁴ tokens.
    fn sample(
        &self,
        tokens: &mut Self::Buf,
        log_probs: &mut Self::Buf,
        full_log_probs: &mut Self::Buf,
        x: &Self::Operand,
        w: &Matrix<Self>,
        layout: &Self::Layout,
    );

    /// How far a student's distributions are from a teacher's, row by row: writes `d[n]`, the divergence `of` the rows' logits
    /// `student` `[n, student_vocab]` and `teacher` `[n, teacher_vocab]`, over the tokens that both know. `student`'s values
    /// become the gradient of `weight · d[n]` by them, rounded for products, 0 for tokens that the teacher does not know;
    /// `teacher` is used up. The sizes are `[n, student_vocab, teacher_vocab]`.
    fn divergence(
        &self,
        d: &mut Self::Buf,
        student: &mut Self::Operand,
        teacher: &mut Self::Buf,
        of: Divergence,
        weight: f64,
        sizes: [usize; 3],
    );

    /// Memory for what up to `rows` rows choose.
    ///
    /// # Errors
    /// If the device refuses the memory.
    fn routes(&self, rows: usize, of: Routing) -> Result<Self::Routes, OutOfMemory>;
    /// Bytes of memory that it takes.
    fn routes_bytes(&self, rows: usize, of: Routing) -> usize;
    /// The experts that each row chose, in ascending order, and their weights, as exact as the device holds them. It waits as
    /// [`read`](Self::read) does.
    fn read_routes(&self, routes: &Self::Routes) -> (Vec<u32>, Vec<f64>);

    /// Chooses each row's experts (arXiv:2412.19437, equations 12 to 16). `scores` `[n, experts]` holds logits and becomes
    /// their scores `s`. A row chooses the highest of `s + bias`; of equals the expert with the lower number; NaN counts as −∞.
    /// With groups it chooses from those groups alone that are highest by their [`GroupScore`](crate::GroupScore), of `s + bias` too. The
    /// weights are `scale · s`, without the bias, or `scale · s / (Σ s + 10⁻²⁰)` over the experts chosen.
    ///
    /// A *copy* of a row goes to each expert that it chose. The operations on copies read or write them sorted by expert, those
    /// of one expert in the order of their rows: matrices `[n · per_token, features]`.
    fn route_forward(
        &self,
        routes: &mut Self::Routes,
        scores: &mut Self::Buf,
        bias: Option<&Self::Buf>,
        of: Routing,
        n: usize,
    );
    /// Row `i` of `n` chooses expert `i mod experts`, with weight 1: where rows are the heads of tokens, the copies of each head lie
    /// back to back, for products by a matrix of its own. Each row chooses one expert, and `n` is a multiple of their number.
    fn route_in_turn(&self, routes: &mut Self::Routes, n: usize);
    /// Of [`route_forward`](Self::route_forward), with `d_weights` `[n · per_token]` in the order of copies: writes `d_logits`
    /// `[n, experts]`, and adds to `load` `[experts]` how many rows chose each expert.
    ///
    /// With `balance`, that includes the gradient of `balance · Σ T Σᵢ fᵢ Pᵢ` over the layout's sequences of `T` rows
    /// (arXiv:2412.19437, equations 17 to 20), where `fᵢ = experts / (per_token · T) · |rows that chose i|` is taken for a
    /// constant and `Pᵢ` is the mean of `sᵢ / Σⱼ sⱼ`.
    fn route_backward(
        &self,
        d_logits: &mut Self::Operand,
        load: Option<&mut Self::Buf>,
        d_weights: &Self::Buf,
        scores: &Self::Buf,
        routes: &Self::Routes,
        of: Routing,
        balance: f32,
        layout: &Self::Layout,
    );
    /// The copies of the rows: `y[i, :] = x[row of copy i, :]`.
    fn copies_forward(
        &self,
        y: &mut Self::Operand,
        x: &Self::Operand,
        routes: &Self::Routes,
        features: usize,
    );
    /// Sums the copies of each row, in the ascending order of their experts: `y[n, :] = Σ x[i, :]` over the copies `i` of row
    /// `n`, or `+=`, the terms one after another. It is the backward of [`copies_forward`](Self::copies_forward), and that is its own.
    fn sum_copies(
        &self,
        y: &mut Self::Buf,
        x: &Self::Buf,
        routes: &Self::Routes,
        features: usize,
        store: Store,
    );
    /// As [`swiglu_forward`](Self::swiglu_forward) of copies, each times its weight `w`: `y = w · gate · σ(gate) · up`.
    fn weighted_swiglu_forward(
        &self,
        y: &mut Self::Operand,
        gate: &Self::Buf,
        up: &Self::Buf,
        routes: &Self::Routes,
        features: usize,
    );
    /// As [`swiglu_backward`](Self::swiglu_backward) with the gradient `w · dy`: `gate` and `up` become their gradients, `dy`
    /// becomes `y`. Writes `d_weights[i] = Σ dy · gate · σ(gate) · up` over the features of copy `i`.
    fn weighted_swiglu_backward(
        &self,
        d_weights: &mut Self::Buf,
        dy: &mut Self::Operand,
        gate: &mut Self::Operand,
        up: &mut Self::Operand,
        keep: Keep,
        routes: &Self::Routes,
        features: usize,
    );
    /// As [`linear_forward`](Self::linear_forward) of copies, each by the matrix of its expert; `w` holds one for each.
    fn experts_forward(
        &self,
        y: &mut Self::Buf,
        x: &Self::Operand,
        w: &Matrix<Self>,
        routes: &Self::Routes,
        store: Store,
    );
    /// As [`linear_backward_input`](Self::linear_backward_input) of copies, each by the matrix of its expert.
    fn experts_backward_input(
        &self,
        dx: &mut Self::Buf,
        dy: &Self::Operand,
        w: &Matrix<Self>,
        routes: &Self::Routes,
        store: Store,
    );
    /// As [`linear_backward_weight`](Self::linear_backward_weight): of each expert's matrix, over the expert's copies. `dw` is
    /// `[experts, out_features, in_features]`, `shape` `[out_features, in_features]`.
    fn experts_backward_weight(
        &self,
        dw: &mut Self::Buf,
        dy: &Self::Operand,
        x: &Self::Operand,
        routes: &Self::Routes,
        shape: [usize; 2],
        precision: ProductPrecision,
    );

    /// The MLPs of experts over the copies of the rows `x` `[n, hidden]`. With `[G, U, D] = w`, matrices of each expert, and `c` the
    /// copies of `x`: writes `gate = G c`, `up = U c`, whose values a backward reads, and `out = D (w · gate · σ(gate) · up)`
    /// `[copies, hidden]`. `room` is for the copies, and for as many elements as `gate` has; it holds anything after it.
    ///
    /// It gives the bits of [its parts](composite::mixture_forward), and so does a backend with a kernel of its own.
    fn mixture_forward(
        &self,
        out: &mut Self::Buf,
        gate_and_up: [&mut Self::Operand; 2],
        x: &Self::Operand,
        w: [&Matrix<Self>; 3],
        routes: &Self::Routes,
        room: [&mut Self::Operand; 2],
    ) {
        composite::mixture_forward(self, out, gate_and_up, x, w, routes, room);
    }
    /// Of [`mixture_forward`](Self::mixture_forward), with `dy` `[n, hidden]` the gradient of the sum of the copies of `out`. It uses
    /// `gate` and `up` up. `room` is for the copies of `dy` and of `x`, and for as many elements as `gate` has, with their values.
    ///
    /// It gives the bits of [its parts](composite::mixture_backward), and so does a backend with a kernel of its own.
    fn mixture_backward(
        &self,
        d: MixtureGradients<'_, Self>,
        dy: &Self::Operand,
        x: &Self::Operand,
        gate_and_up: [&mut Self::Operand; 2],
        w: [&Matrix<Self>; 3],
        routes: &Self::Routes,
        room: [&mut Self::Operand; 3],
    ) {
        composite::mixture_backward(self, d, dy, x, gate_and_up, w, routes, room);
    }

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
