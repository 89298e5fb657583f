//! The trait: asserts the sizes of an operation's buffers, and calls the operation with slices of them.

use koan_backend::{
    AdamWStep, AlignedVec, Backend, Draw, Heads, MomentType, OutOfMemory, Sequence, Store, bf16,
    free_host_memory,
};

use crate::{
    cpu::{Cpu, Scratch},
    kernels::{product::View, rope::Table},
    ops::{
        adamw::{self, Moment},
        attention, bias, copy, embedding,
        head::{log_prob, sample},
        product::{Packed, multiply, multiply_on_the_fly, pack_on_the_fly},
        rms_norm, rope, swiglu,
    },
};

/// Rows of a pass that keep products busy: two blocks and more of rows, in which packing a matrix costs little.
const PASS_ROWS: usize = 256;

/// The first `len` elements of a buffer.
#[track_caller]
fn first<'a>(x: &'a AlignedVec<f32>, len: usize, name: &str) -> &'a [f32] {
    assert!(x.len() >= len, "{name} holds {} elements, the operation needs {len}", x.len());
    &x[..len]
}

/// The first `len` elements of a buffer that is written.
#[track_caller]
fn first_mut<'a>(y: &'a mut AlignedVec<f32>, len: usize, name: &str) -> &'a mut [f32] {
    assert!(y.len() >= len, "{name} holds {} elements, the operation needs {len}", y.len());
    &mut y[..len]
}

/// Asserts that a matrix of `features` columns has all of `rows`.
#[track_caller]
fn assert_rows(x: &AlignedVec<f32>, rows: &[u32], features: usize, name: &str) {
    let needed = rows.iter().max().map_or(0, |&row| (row as usize + 1) * features);
    assert!(x.len() >= needed, "{name} holds {} elements, its rows need {needed}", x.len());
}

impl Cpu {
    fn rotate(
        &self,
        x: &mut AlignedVec<f32>,
        cos: &AlignedVec<f32>,
        sin: &AlignedVec<f32>,
        sign: f32,
        positions: &[u32],
        heads: usize,
        dim: usize,
    ) {
        assert!(dim.is_multiple_of(2), "a head of {dim} features has no halves");
        assert_rows(cos, positions, dim / 2, "cos");
        assert_rows(sin, positions, dim / 2, "sin");
        let features = heads * dim;
        let x = first_mut(x, positions.len() * features, "x");
        rope::rotate(self.kernels, &self.threads, x, Table { cos, sin, sign }, positions, features, dim);
    }
}

impl Backend for Cpu {
    type Buf = AlignedVec<f32>;
    type Packed = Packed;
    type Moment = Moment;

    fn bytes(&self, len: usize) -> usize {
        AlignedVec::<f32>::bytes_of(len)
    }

    fn len(&self, buf: &Self::Buf) -> usize {
        buf.len()
    }

    fn packed_bytes(&self, out_features: usize, in_features: usize) -> usize {
        AlignedVec::<f32>::bytes_read_often(out_features.saturating_mul(in_features))
    }

    fn moment_bytes(&self, len: usize, kind: MomentType) -> usize {
        match kind {
            MomentType::F32 => AlignedVec::<f32>::bytes_of(len),
            MomentType::Bf16 => AlignedVec::<u16>::bytes_of(len),
        }
    }

    fn free_memory(&self) -> Option<u64> {
        free_host_memory()
    }

    fn pass_rows(&self) -> usize {
        PASS_ROWS
    }

    fn zeros(&self, len: usize) -> Result<Self::Buf, OutOfMemory> {
        AlignedVec::zeros(len)
    }

    fn upload(&self, values: &[f32]) -> Result<Self::Buf, OutOfMemory> {
        let mut buf = AlignedVec::zeros(values.len())?;
        self.write(&mut buf, values);
        Ok(buf)
    }

    fn write(&self, buf: &mut Self::Buf, values: &[f32]) {
        copy::copy(&self.threads, first_mut(buf, values.len(), "buf"), values);
    }

    fn read<const N: usize>(&self, parts: [(&Self::Buf, usize); N]) -> [Vec<f32>; N] {
        parts.map(|(buf, n)| first(buf, n, "buf").to_vec())
    }

    fn clear(&self, buf: &mut Self::Buf) {
        copy::clear(&self.threads, buf);
    }

    fn copy(&self, y: &mut Self::Buf, x: &Self::Buf, n: usize) {
        copy::copy(&self.threads, first_mut(y, n, "y"), first(x, n, "x"));
    }

    fn pack(&self, w: &Self::Buf, out_features: usize, in_features: usize) -> Result<Packed, OutOfMemory> {
        self.upload_packed(w, out_features, in_features)
    }

    fn upload_packed(
        &self,
        values: &[f32],
        out_features: usize,
        in_features: usize,
    ) -> Result<Packed, OutOfMemory> {
        let mut packed = Packed::new(self.kernels, out_features, in_features)?;
        packed.fill(self.kernels, &self.threads, values);
        Ok(packed)
    }

    fn repack(&self, packed: &mut Packed, w: &Self::Buf) {
        packed.fill(self.kernels, &self.threads, w);
    }

    fn embedding_forward(&self, y: &mut Self::Buf, ids: &[u32], w: &Self::Buf, features: usize) {
        self.gather_rows(y, w, ids, features);
    }

    fn embedding_backward(&self, dw: &mut Self::Buf, ids: &[u32], dy: &Self::Buf, features: usize) {
        self.scatter_add_rows(dw, dy, ids, features);
    }

    fn gather_rows(&self, y: &mut Self::Buf, x: &Self::Buf, rows: &[u32], features: usize) {
        assert_rows(x, rows, features, "x");
        embedding::gather(&self.threads, first_mut(y, rows.len() * features, "y"), x, rows, features);
    }

    fn scatter_rows(&self, y: &mut Self::Buf, x: &Self::Buf, rows: &[u32], features: usize) {
        assert_rows(y, rows, features, "y");
        embedding::scatter(y, first(x, rows.len() * features, "x"), rows, features);
    }

    fn scatter_add_rows(&self, dx: &mut Self::Buf, dy: &Self::Buf, rows: &[u32], features: usize) {
        assert_rows(dx, rows, features, "dx");
        let dy = first(dy, rows.len() * features, "dy");
        embedding::scatter_add(self.kernels, &self.threads, dx, dy, rows, features);
    }

    fn linear_forward(&self, y: &mut Self::Buf, x: &Self::Buf, w: &Packed, n: usize, store: Store) {
        let w = w.panels(self.kernels);
        let x = View::new(first(x, n * w.k(), "x"), n, w.k());
        multiply(self.kernels, &self.threads, first_mut(y, n * w.columns(), "y"), x, w, store);
    }

    fn linear_forward_unpacked(
        &self,
        y: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        n: usize,
        out_features: usize,
        in_features: usize,
        store: Store,
    ) {
        let y = first_mut(y, n * out_features, "y");
        let x = View::new(first(x, n * in_features, "x"), n, in_features);
        let w = View::new(first(w, out_features * in_features, "w"), out_features, in_features);
        // As deep as a packed matrix: where it is cut, the sum would be rounded there.
        let scratch = &mut *self.scratch();
        let w = pack_on_the_fly(self.kernels, &self.threads, &mut scratch.packed, w.transposed());
        multiply(self.kernels, &self.threads, y, x, w, store);
    }

    fn linear_backward_input(
        &self,
        dx: &mut Self::Buf,
        dy: &Self::Buf,
        w: &Self::Buf,
        n: usize,
        out_features: usize,
        in_features: usize,
        store: Store,
    ) {
        let dx = first_mut(dx, n * in_features, "dx");
        let dy = View::new(first(dy, n * out_features, "dy"), n, out_features);
        let w = View::new(first(w, out_features * in_features, "w"), out_features, in_features);
        multiply_on_the_fly(self.kernels, &self.threads, dx, dy, w, store, &mut self.scratch().packed);
    }

    fn linear_backward_weight(
        &self,
        dw: &mut Self::Buf,
        dy: &Self::Buf,
        x: &Self::Buf,
        n: usize,
        out_features: usize,
        in_features: usize,
    ) {
        let dw = first_mut(dw, out_features * in_features, "dw");
        let dy = View::new(first(dy, n * out_features, "dy"), n, out_features);
        let x = View::new(first(x, n * in_features, "x"), n, in_features);
        let scratch = &mut self.scratch().packed;
        multiply_on_the_fly(self.kernels, &self.threads, dw, dy.transposed(), x, Store::Add, scratch);
    }

    fn bias_forward(&self, y: &mut Self::Buf, bias: &Self::Buf, features: usize, n: usize) {
        let (y, b) = (first_mut(y, n * features, "y"), first(bias, features, "bias"));
        bias::forward(self.kernels, &self.threads, y, b);
    }

    fn bias_backward(&self, d_bias: &mut Self::Buf, dy: &Self::Buf, features: usize, n: usize) {
        let (db, dy) = (first_mut(d_bias, features, "d_bias"), first(dy, n * features, "dy"));
        bias::backward(self.kernels, &self.threads, db, dy);
    }

    fn rms_norm_forward(
        &self,
        y: &mut Self::Buf,
        rstd: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        eps: f32,
        n: usize,
    ) {
        let x = first(x, n * w.len(), "x");
        let (y, rstd) = (first_mut(y, n * w.len(), "y"), first_mut(rstd, n, "rstd"));
        rms_norm::forward(self.kernels, &self.threads, y, rstd, x, w, eps);
    }

    fn rms_norm_backward(
        &self,
        dx: &mut Self::Buf,
        dw: &mut Self::Buf,
        dy: &Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        rstd: &Self::Buf,
        n: usize,
    ) {
        let features = w.len();
        let (dy, x) = (first(dy, n * features, "dy"), first(x, n * features, "x"));
        let (dx, dw) = (first_mut(dx, n * features, "dx"), first_mut(dw, features, "dw"));
        let rstd = first(rstd, n, "rstd");
        rms_norm::backward(self.kernels, &self.threads, dx, dw, dy, x, w, rstd);
    }

    fn rope_forward(
        &self,
        x: &mut Self::Buf,
        cos: &Self::Buf,
        sin: &Self::Buf,
        positions: &[u32],
        heads: usize,
        dim: usize,
    ) {
        self.rotate(x, cos, sin, 1.0, positions, heads, dim);
    }

    fn rope_backward(
        &self,
        dx: &mut Self::Buf,
        cos: &Self::Buf,
        sin: &Self::Buf,
        positions: &[u32],
        heads: usize,
        dim: usize,
    ) {
        self.rotate(dx, cos, sin, -1.0, positions, heads, dim);
    }

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
    ) {
        let inputs = attention::Inputs { q, k, v, sequences, heads, scale };
        attention::forward(self.kernels, &self.threads, out, log_sum_exp, inputs);
    }

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
    ) {
        let inputs = attention::Inputs { q, k, v, sequences, heads, scale };
        let saved = attention::Saved { dout, out, log_sum_exp };
        attention::backward(self.kernels, &self.threads, [dq, dk, dv], inputs, saved);
    }

    fn swiglu_forward(&self, y: &mut Self::Buf, gate: &Self::Buf, up: &Self::Buf, n: usize) {
        let (gate, up) = (first(gate, n, "gate"), first(up, n, "up"));
        swiglu::forward(self.kernels, &self.threads, first_mut(y, n, "y"), gate, up);
    }

    fn swiglu_backward(&self, dy: &mut Self::Buf, gate: &mut Self::Buf, up: &mut Self::Buf, n: usize) {
        let (dy, gate, up) = (first_mut(dy, n, "dy"), first_mut(gate, n, "gate"), first_mut(up, n, "up"));
        swiglu::backward(self.kernels, &self.threads, dy, gate, up);
    }

    fn log_prob_forward(
        &self,
        log_probs: &mut Self::Buf,
        entropy: &mut Self::Buf,
        log_sum_exp: &mut Self::Buf,
        x: &Self::Buf,
        w: &Packed,
        targets: &[u32],
        temperature: f32,
    ) {
        let (n, w) = (targets.len(), w.panels(self.kernels));
        assert!(targets.iter().all(|&t| (t as usize) < w.columns()), "a target beyond the vocabulary");
        let outputs = [
            first_mut(log_probs, n, "log_probs"),
            first_mut(entropy, n, "entropy"),
            first_mut(log_sum_exp, n, "log_sum_exp"),
        ];
        let x = View::new(first(x, n * w.k(), "x"), n, w.k());
        let scratch = &mut self.scratch().logits;
        log_prob::forward(self.kernels, &self.threads, outputs, x, w, targets, temperature, scratch);
    }

    fn log_prob_backward(
        &self,
        dx: &mut Self::Buf,
        dw: &mut Self::Buf,
        d_log_probs: &Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        packed: &Packed,
        targets: &[u32],
        log_sum_exp: &Self::Buf,
        temperature: f32,
    ) {
        let (n, packed) = (targets.len(), packed.panels(self.kernels));
        let (vocab, features) = (packed.columns(), packed.k());
        assert!(targets.iter().all(|&t| (t as usize) < vocab), "a target beyond the vocabulary");
        let rows = log_prob::Rows {
            d_log_probs: first(d_log_probs, n, "d_log_probs"),
            targets,
            log_sum_exp: first(log_sum_exp, n, "log_sum_exp"),
        };
        let dx = first_mut(dx, n * features, "dx");
        let dw = first_mut(dw, vocab * features, "dw");
        let x = View::new(first(x, n * features, "x"), n, features);
        let w = View::new(first(w, vocab * features, "w"), vocab, features);
        let head = log_prob::Head { w, packed };
        let Scratch { packed, packed_rows, logits } = &mut *self.scratch();
        let scratch = log_prob::Scratch { logits, x: packed_rows, w: packed };
        log_prob::backward(self.kernels, &self.threads, dx, dw, rows, x, head, temperature, scratch);
    }

    fn sample(
        &self,
        tokens: &mut [u32],
        log_probs: &mut Self::Buf,
        full_log_probs: &mut Self::Buf,
        x: &Self::Buf,
        w: &Packed,
        draws: &[Draw],
    ) {
        let (n, w) = (draws.len(), w.panels(self.kernels));
        assert!(tokens.len() >= n, "tokens holds {}, the operation needs {n}", tokens.len());
        let drawn = sample::Drawn {
            tokens,
            log_probs: first_mut(log_probs, n, "log_probs"),
            full_log_probs: first_mut(full_log_probs, n, "full_log_probs"),
        };
        let x = View::new(first(x, n * w.k(), "x"), n, w.k());
        let Scratch { packed, logits, .. } = &mut *self.scratch();
        let scratch = sample::Scratch { partials: logits, logits: packed };
        sample::sample(self.kernels, &self.threads, drawn, x, w, draws, scratch);
    }

    fn sums_of_squares(&self, buffers: &[&Self::Buf]) -> Vec<f64> {
        buffers.iter().map(|x| adamw::sum_of_squares(self.kernels, &self.threads, x)).collect()
    }

    fn zero_moment(&self, len: usize, kind: MomentType) -> Result<Moment, OutOfMemory> {
        Moment::zeros(len, kind)
    }

    fn upload_moment(&self, values: &[f32], kind: MomentType) -> Result<Moment, OutOfMemory> {
        match kind {
            MomentType::F32 => Ok(Moment::F32(self.upload(values)?)),
            MomentType::Bf16 => {
                let mut moment = AlignedVec::zeros(values.len())?;
                moment.iter_mut().zip(values).for_each(|(y, &x)| *y = bf16::round(x, 0));
                Ok(Moment::Bf16(moment))
            }
        }
    }

    fn read_moment(&self, moment: &Moment) -> Vec<f32> {
        match moment {
            Moment::F32(x) => x.to_vec(),
            Moment::Bf16(x) => x.iter().map(|&x| bf16::to_f32(x)).collect(),
        }
    }

    fn adamw_step(&self, w: &mut Self::Buf, m: &mut Moment, v: &mut Moment, g: &Self::Buf, step: AdamWStep) {
        let n = g.len();
        assert!([w.len(), m.len(), v.len()] == [n; 3], "moments of another shape");
        adamw::step(self.kernels, &self.threads, w, m, v, g, step);
    }
}
