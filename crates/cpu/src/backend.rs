//! The trait: asserts the sizes of an operation's buffers, and calls the operation with slices of them.

use koan_backend::{
    AdamWStep, AlignedVec, Backend, Draw, Heads, MomentType, OutOfMemory, Sequence, Store, bf16,
    free_host_memory,
};

use crate::{
    Cpu, Moment, Packed, Scratch,
    ops::{
        attention, bias, embedding, log_prob,
        product::{View, multiply, multiply_on_the_fly, pack_on_the_fly},
        rope,
    },
    parallel::{Disjoint, TASK_LEN, task_rows},
};

/// Rows of a pass that keep products busy: two blocks and more of rows, in which packing a matrix costs little.
const PASS_ROWS: usize = 256;

/// Columns of a task that sums over rows: a few cache lines.
const TASK_COLUMNS: usize = 64;

/// Parts whose squares are summed on their own, at most; their sums are added in order.
const MOST_SUMS: usize = 256;

/// The first `len` numbers of a buffer.
#[track_caller]
fn first<'a>(x: &'a AlignedVec<f32>, len: usize, name: &str) -> &'a [f32] {
    assert!(x.len() >= len, "{name} holds {} numbers, the operation needs {len}", x.len());
    &x[..len]
}

/// The first `len` numbers of a buffer that is written.
#[track_caller]
fn first_mut<'a>(y: &'a mut AlignedVec<f32>, len: usize, name: &str) -> &'a mut [f32] {
    assert!(y.len() >= len, "{name} holds {} numbers, the operation needs {len}", y.len());
    &mut y[..len]
}

/// The number of features of a matrix of `rows` rows.
#[track_caller]
fn features_of(x: &AlignedVec<f32>, rows: &[u32], features: usize, name: &str) {
    let needed = rows.iter().max().map_or(0, |&row| (row as usize + 1) * features);
    assert!(x.len() >= needed, "{name} holds {} numbers, its rows need {needed}", x.len());
}

impl Cpu {
    /// Σ x² in a fixed order: of parts, of which there are at most [`MOST_SUMS`], then of their sums.
    fn sum_of_squares(&self, x: &[f32]) -> f64 {
        let mut sums = [0.0; MOST_SUMS];
        let len = x.len().div_ceil(MOST_SUMS).max(TASK_LEN);
        let partial = Disjoint::new(&mut sums);
        self.threads.run(x.len().div_ceil(len), |task| {
            let x = &x[task * len..((task + 1) * len).min(x.len())];
            // SAFETY: the sum is this task's alone.
            let sum = unsafe { partial.slice(task..task + 1) };
            sum[0] = self.kernels.sum_of_squares(x);
        });
        sums.iter().sum()
    }

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
        features_of(cos, positions, dim / 2, "cos");
        features_of(sin, positions, dim / 2, "sin");
        let features = heads * dim;
        let x = first_mut(x, positions.len() * features, "x");
        if x.is_empty() {
            return;
        }
        let (table, rows) = (rope::Table { cos, sin, sign }, task_rows(features));
        self.threads.chunks([(x, rows * features)], |task, [x]| {
            let positions = &positions[task * rows..][..x.len() / features];
            self.kernels.rope(x, table, positions, dim);
        });
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
        self.threads.chunks([(first_mut(buf, values.len(), "buf"), TASK_LEN)], |task, [y]| {
            y.copy_from_slice(&values[task * TASK_LEN..][..y.len()]);
        });
    }

    fn read<const N: usize>(&self, parts: [(&Self::Buf, usize); N]) -> [Vec<f32>; N] {
        parts.map(|(buf, n)| first(buf, n, "buf").to_vec())
    }

    fn clear(&self, buf: &mut Self::Buf) {
        self.threads.chunks([(buf, TASK_LEN)], |_, [y]| y.fill(0.0));
    }

    fn copy(&self, y: &mut Self::Buf, x: &Self::Buf, n: usize) {
        let (y, x) = (first_mut(y, n, "y"), first(x, n, "x"));
        self.threads.chunks([(y, TASK_LEN)], |task, [y]| y.copy_from_slice(&x[task * TASK_LEN..][..y.len()]));
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
        features_of(x, rows, features, "x");
        embedding::gather(&self.threads, first_mut(y, rows.len() * features, "y"), x, rows, features);
    }

    fn scatter_rows(&self, y: &mut Self::Buf, x: &Self::Buf, rows: &[u32], features: usize) {
        features_of(y, rows, features, "y");
        embedding::scatter(y, first(x, rows.len() * features, "x"), rows, features);
    }

    fn scatter_add_rows(&self, dx: &mut Self::Buf, dy: &Self::Buf, rows: &[u32], features: usize) {
        features_of(dx, rows, features, "dx");
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
        let (features, rows) = (w.len(), task_rows(w.len()));
        let x = first(x, n * features, "x");
        let outputs =
            [(first_mut(y, n * features, "y"), rows * features), (first_mut(rstd, n, "rstd"), rows)];
        self.threads.chunks(outputs, |task, [y, rstd]| {
            let x = &x[task * rows * features..][..y.len()];
            self.kernels.rms_norm_forward(y, rstd, x, w, eps);
        });
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
        let (features, rows) = (w.len(), task_rows(w.len()));
        let (dy, x) = (first(dy, n * features, "dy"), first(x, n * features, "x"));
        let (dx, dw) = (first_mut(dx, n * features, "dx"), first_mut(dw, features, "dw"));
        let rstd = first(rstd, n, "rstd");
        self.threads.chunks([(dx, rows * features)], |task, [dx]| {
            let part = task * rows * features..task * rows * features + dx.len();
            self.kernels.rms_norm_backward(dx, &dy[part.clone()], &x[part], w, &rstd[task * rows..]);
        });
        self.threads.chunks([(dw, TASK_COLUMNS)], |task, [dw]| {
            self.kernels.rms_norm_backward_weight(dw, task * TASK_COLUMNS, features, dy, x, rstd);
        });
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
        attention::forward_all(self.kernels, &self.threads, out, log_sum_exp, inputs);
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
        attention::backward_all(self.kernels, &self.threads, [dq, dk, dv], inputs, saved);
    }

    fn swiglu_forward(&self, y: &mut Self::Buf, gate: &Self::Buf, up: &Self::Buf, n: usize) {
        let (gate, up) = (first(gate, n, "gate"), first(up, n, "up"));
        self.threads.chunks([(first_mut(y, n, "y"), TASK_LEN)], |task, [y]| {
            let part = task * TASK_LEN..task * TASK_LEN + y.len();
            self.kernels.swiglu_forward(y, &gate[part.clone()], &up[part]);
        });
    }

    fn swiglu_backward(&self, dy: &mut Self::Buf, gate: &mut Self::Buf, up: &mut Self::Buf, n: usize) {
        let buffers = [first_mut(dy, n, "dy"), first_mut(gate, n, "gate"), first_mut(up, n, "up")];
        self.threads.chunks(buffers.map(|x| (x, TASK_LEN)), |_, [dy, gate, up]| {
            self.kernels.swiglu_backward(dy, gate, up);
        });
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
        let drawn = log_prob::Drawn {
            tokens,
            log_probs: first_mut(log_probs, n, "log_probs"),
            full_log_probs: first_mut(full_log_probs, n, "full_log_probs"),
        };
        let x = View::new(first(x, n * w.k(), "x"), n, w.k());
        let Scratch { packed, logits, .. } = &mut *self.scratch();
        let scratch = log_prob::SampleScratch { partials: logits, logits: packed };
        log_prob::sample(self.kernels, &self.threads, drawn, x, w, draws, scratch);
    }

    fn sums_of_squares(&self, buffers: &[&Self::Buf]) -> Vec<f64> {
        buffers.iter().map(|x| self.sum_of_squares(x)).collect()
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
        match (m, v) {
            (Moment::F32(m), Moment::F32(v)) => {
                self.threads.chunks([(w, TASK_LEN), (m, TASK_LEN), (v, TASK_LEN)], |task, [w, m, v]| {
                    self.kernels.adamw_step(w, m, v, &g[task * TASK_LEN..][..w.len()], step);
                });
            }
            (Moment::Bf16(m), Moment::Bf16(v)) => {
                let (w, m, v) = (Disjoint::new(w), Disjoint::new(m), Disjoint::new(v));
                self.threads.run(n.div_ceil(TASK_LEN), |task| {
                    let part = task * TASK_LEN..((task + 1) * TASK_LEN).min(n);
                    // SAFETY: these numbers are this task's alone.
                    let (w, m, v) =
                        unsafe { (w.slice(part.clone()), m.slice(part.clone()), v.slice(part.clone())) };
                    self.kernels.adamw_step_bf16(w, m, v, &g[part.clone()], part.start, step);
                });
            }
            _ => panic!("moments of two types"),
        }
    }
}
