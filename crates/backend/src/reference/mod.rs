//! The specification: every operation in f64, as plain loops that read beside the paper.
//!
//! Speed is no concern here, though a model of a million parameters trains. Other backends are held to this
//! one by the conformance suite, and this one to the derivatives of its own forwards by finite differences
//! (`gradcheck.rs`).

mod adamw;
mod attention;
mod bias;
mod embedding;
#[cfg(test)]
mod gradcheck;
mod linear;
mod log_prob;
mod rms_norm;
mod rope;
mod swiglu;

#[cfg(feature = "testkit")]
pub(crate) use attention::{Query, queries};

pub use adamw::Moment;

use crate::{AdamWStep, Backend, Draw, Heads, MomentType, OutOfMemory, Sequence, Store, free_host_memory};

/// The reference backend: f64 in host memory, one thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

/// A weight matrix `[out_features, in_features]`, row-major as it came.
#[derive(Clone, Debug)]
pub struct Packed {
    w: Vec<f64>,
    out_features: usize,
    in_features: usize,
}

/// Rows of a pass beyond which plain loops gain nothing; it is what other backends for a CPU use.
const PASS_ROWS: usize = 256;

/// An empty vector with room for `len` elements.
fn with_capacity(len: usize) -> Result<Vec<f64>, OutOfMemory> {
    let mut v = Vec::new();
    match v.try_reserve_exact(len) {
        Ok(()) => Ok(v),
        Err(_) => Err(OutOfMemory::of_host(len.saturating_mul(size_of::<f64>()))),
    }
}

/// The first `n` rows of `features` numbers.
fn rows(x: &[f64], n: usize, features: usize) -> &[f64] {
    assert!(x.len() >= n * features, "{n} rows of {features} features exceed a buffer of {}", x.len());
    &x[..n * features]
}

/// The first `n` rows of `features` numbers.
fn rows_mut(x: &mut [f64], n: usize, features: usize) -> &mut [f64] {
    assert!(x.len() >= n * features, "{n} rows of {features} features exceed a buffer of {}", x.len());
    &mut x[..n * features]
}

/// Σᵢ aᵢ bᵢ
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `ln Σᵢ exp(xᵢ)`, without overflow.
pub(crate) fn log_sum_exp(x: &[f64]) -> f64 {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    max + x.iter().map(|x| (x - max).exp()).sum::<f64>().ln()
}

/// Asserts that `ids` are rows of a matrix of `len` numbers.
fn assert_ids(ids: &[u32], len: usize, features: usize) {
    let rows = len / features;
    assert!(ids.iter().all(|&id| (id as usize) < rows), "a row's number exceeds the {rows} there are");
}

/// Rows and key rows that `sequences` reach to, once their layout is checked.
fn extents(sequences: &[Sequence], heads: Heads) -> (usize, usize) {
    assert!(heads.query.is_multiple_of(heads.key_value), "{heads:?}: whole groups of query heads");
    assert!(
        sequences.iter().all(|s| s.keys.len() >= s.rows.len()),
        "each row of a sequence needs its own key"
    );
    let end = |f: fn(&Sequence) -> usize| sequences.iter().map(f).max().unwrap_or(0);
    let keys_end = |s: &Sequence| s.prefix.iter().chain([&s.keys]).map(|r| r.end).max().unwrap_or(0);
    (end(|s| s.rows.end), end(keys_end))
}

impl Backend for Reference {
    type Buf = Vec<f64>;
    type Packed = Packed;
    type Moment = Moment;

    fn bytes(&self, len: usize) -> usize {
        len.saturating_mul(size_of::<f64>())
    }

    fn len(&self, buf: &Vec<f64>) -> usize {
        buf.len()
    }

    fn packed_bytes(&self, out_features: usize, in_features: usize) -> usize {
        self.bytes(out_features.saturating_mul(in_features))
    }

    fn moment_bytes(&self, len: usize, _: MomentType) -> usize {
        self.bytes(len)
    }

    fn free_memory(&self) -> Option<u64> {
        free_host_memory()
    }

    fn pass_rows(&self) -> usize {
        PASS_ROWS
    }

    fn zeros(&self, len: usize) -> Result<Vec<f64>, OutOfMemory> {
        let mut zeros = with_capacity(len)?;
        zeros.resize(len, 0.0);
        Ok(zeros)
    }

    fn upload(&self, values: &[f32]) -> Result<Vec<f64>, OutOfMemory> {
        let mut buf = with_capacity(values.len())?;
        buf.extend(values.iter().copied().map(f64::from));
        Ok(buf)
    }

    fn write(&self, buf: &mut Vec<f64>, values: &[f32]) {
        rows_mut(buf, values.len(), 1).iter_mut().zip(values).for_each(|(y, &x)| *y = x.into());
    }

    fn read<const N: usize>(&self, parts: [(&Vec<f64>, usize); N]) -> [Vec<f32>; N] {
        parts.map(|(buf, n)| rows(buf, n, 1).iter().map(|&x| x as f32).collect())
    }

    fn clear(&self, buf: &mut Vec<f64>) {
        buf.fill(0.0);
    }

    fn copy(&self, y: &mut Vec<f64>, x: &Vec<f64>, n: usize) {
        rows_mut(y, n, 1).copy_from_slice(rows(x, n, 1));
    }

    fn pack(&self, w: &Vec<f64>, out_features: usize, in_features: usize) -> Result<Packed, OutOfMemory> {
        let mut copy = with_capacity(out_features.saturating_mul(in_features))?;
        copy.extend_from_slice(rows(w, out_features, in_features));
        Ok(Packed { w: copy, out_features, in_features })
    }

    fn repack(&self, packed: &mut Packed, w: &Vec<f64>) {
        packed.w.copy_from_slice(rows(w, packed.out_features, packed.in_features));
    }

    fn embedding_forward(&self, y: &mut Vec<f64>, ids: &[u32], w: &Vec<f64>, features: usize) {
        assert_ids(ids, w.len(), features);
        embedding::gather(rows_mut(y, ids.len(), features), w, ids, features);
    }

    fn embedding_backward(&self, dw: &mut Vec<f64>, ids: &[u32], dy: &Vec<f64>, features: usize) {
        assert_ids(ids, dw.len(), features);
        embedding::scatter_add(dw, rows(dy, ids.len(), features), ids, features);
    }

    fn gather_rows(&self, y: &mut Vec<f64>, x: &Vec<f64>, from: &[u32], features: usize) {
        assert_ids(from, x.len(), features);
        embedding::gather(rows_mut(y, from.len(), features), x, from, features);
    }

    fn scatter_rows(&self, y: &mut Vec<f64>, x: &Vec<f64>, to: &[u32], features: usize) {
        assert_ids(to, y.len(), features);
        embedding::scatter(y, rows(x, to.len(), features), to, features);
    }

    fn scatter_add_rows(&self, dx: &mut Vec<f64>, dy: &Vec<f64>, to: &[u32], features: usize) {
        assert_ids(to, dx.len(), features);
        embedding::scatter_add(dx, rows(dy, to.len(), features), to, features);
    }

    fn linear_forward(&self, y: &mut Vec<f64>, x: &Vec<f64>, w: &Packed, n: usize, store: Store) {
        let (o, i) = (w.out_features, w.in_features);
        linear::forward(rows_mut(y, n, o), rows(x, n, i), &w.w, o, i, store);
    }

    fn linear_forward_unpacked(
        &self,
        y: &mut Vec<f64>,
        x: &Vec<f64>,
        w: &Vec<f64>,
        n: usize,
        out_features: usize,
        in_features: usize,
        store: Store,
    ) {
        let (y, x) = (rows_mut(y, n, out_features), rows(x, n, in_features));
        linear::forward(y, x, w, out_features, in_features, store);
    }

    fn linear_backward_input(
        &self,
        dx: &mut Vec<f64>,
        dy: &Vec<f64>,
        w: &Vec<f64>,
        n: usize,
        out_features: usize,
        in_features: usize,
        store: Store,
    ) {
        let (o, i) = (out_features, in_features);
        linear::backward_input(rows_mut(dx, n, i), rows(dy, n, o), rows(w, o, i), o, i, store);
    }

    fn linear_backward_weight(
        &self,
        dw: &mut Vec<f64>,
        dy: &Vec<f64>,
        x: &Vec<f64>,
        n: usize,
        out_features: usize,
        in_features: usize,
    ) {
        let (o, i) = (out_features, in_features);
        linear::backward_weight(rows_mut(dw, o, i), rows(dy, n, o), rows(x, n, i), o, i);
    }

    fn bias_forward(&self, y: &mut Vec<f64>, bias: &Vec<f64>, features: usize, n: usize) {
        bias::forward(rows_mut(y, n, features), rows(bias, 1, features));
    }

    fn bias_backward(&self, d_bias: &mut Vec<f64>, dy: &Vec<f64>, features: usize, n: usize) {
        bias::backward(rows_mut(d_bias, 1, features), rows(dy, n, features));
    }

    fn rms_norm_forward(
        &self,
        y: &mut Vec<f64>,
        rstd: &mut Vec<f64>,
        x: &Vec<f64>,
        w: &Vec<f64>,
        eps: f32,
        n: usize,
    ) {
        let c = w.len();
        rms_norm::forward(rows_mut(y, n, c), rows_mut(rstd, n, 1), rows(x, n, c), w, eps.into());
    }

    fn rms_norm_backward(
        &self,
        dx: &mut Vec<f64>,
        dw: &mut Vec<f64>,
        dy: &Vec<f64>,
        x: &Vec<f64>,
        w: &Vec<f64>,
        rstd: &Vec<f64>,
        n: usize,
    ) {
        let c = w.len();
        let (dx, dw) = (rows_mut(dx, n, c), rows_mut(dw, 1, c));
        rms_norm::backward(dx, dw, rows(dy, n, c), rows(x, n, c), w, rows(rstd, n, 1));
    }

    fn rope_forward(
        &self,
        x: &mut Vec<f64>,
        cos: &Vec<f64>,
        sin: &Vec<f64>,
        positions: &[u32],
        heads: usize,
        dim: usize,
    ) {
        assert!(dim.is_multiple_of(2), "a head of {dim} features has no halves");
        assert_ids(positions, cos.len().min(sin.len()), dim / 2);
        rope::rotate(rows_mut(x, positions.len(), heads * dim), cos, sin, positions, heads, dim, 1.0);
    }

    fn rope_backward(
        &self,
        dx: &mut Vec<f64>,
        cos: &Vec<f64>,
        sin: &Vec<f64>,
        positions: &[u32],
        heads: usize,
        dim: usize,
    ) {
        assert!(dim.is_multiple_of(2), "a head of {dim} features has no halves");
        assert_ids(positions, cos.len().min(sin.len()), dim / 2);
        rope::rotate(rows_mut(dx, positions.len(), heads * dim), cos, sin, positions, heads, dim, -1.0);
    }

    fn attention_forward(
        &self,
        out: &mut Vec<f64>,
        log_sum_exp: &mut Vec<f64>,
        q: &Vec<f64>,
        k: &Vec<f64>,
        v: &Vec<f64>,
        sequences: &[Sequence],
        heads: Heads,
        scale: f32,
    ) {
        let (n, m) = extents(sequences, heads);
        let (out, log_sum_exp) =
            (rows_mut(out, n, heads.query_features()), rows_mut(log_sum_exp, n, heads.query));
        let q = rows(q, n, heads.query_features());
        let (k, v) = (rows(k, m, heads.key_features()), rows(v, m, heads.key_features()));
        attention::forward(out, log_sum_exp, q, k, v, sequences, heads, scale.into());
    }

    fn attention_backward(
        &self,
        dq: &mut Vec<f64>,
        dk: &mut Vec<f64>,
        dv: &mut Vec<f64>,
        dout: &Vec<f64>,
        q: &Vec<f64>,
        k: &Vec<f64>,
        v: &Vec<f64>,
        out: &Vec<f64>,
        log_sum_exp: &Vec<f64>,
        sequences: &[Sequence],
        heads: Heads,
        scale: f32,
    ) {
        let (n, m) = extents(sequences, heads);
        let [dout, q, out] = [dout, q, out].map(|x| rows(x, n, heads.query_features()));
        let [k, v] = [k, v].map(|x| rows(x, m, heads.key_features()));
        let dq = rows_mut(dq, n, heads.query_features());
        let [dk, dv] = [dk, dv].map(|x| rows_mut(x, m, heads.key_features()));
        let log_sum_exp = rows(log_sum_exp, n, heads.query);
        attention::backward(dq, dk, dv, dout, q, k, v, out, log_sum_exp, sequences, heads, scale.into());
    }

    fn swiglu_forward(&self, y: &mut Vec<f64>, gate: &Vec<f64>, up: &Vec<f64>, n: usize) {
        swiglu::forward(rows_mut(y, n, 1), rows(gate, n, 1), rows(up, n, 1));
    }

    fn swiglu_backward(&self, dy: &mut Vec<f64>, gate: &mut Vec<f64>, up: &mut Vec<f64>, n: usize) {
        swiglu::backward(rows_mut(dy, n, 1), rows_mut(gate, n, 1), rows_mut(up, n, 1));
    }

    fn log_prob_forward(
        &self,
        log_probs: &mut Vec<f64>,
        entropy: &mut Vec<f64>,
        log_sum_exp: &mut Vec<f64>,
        x: &Vec<f64>,
        w: &Packed,
        targets: &[u32],
        temperature: f32,
    ) {
        assert_ids(targets, w.out_features, 1);
        let n = targets.len();
        let [log_probs, entropy, log_sum_exp] = [log_probs, entropy, log_sum_exp].map(|y| rows_mut(y, n, 1));
        let x = rows(x, n, w.in_features);
        log_prob::forward(log_probs, entropy, log_sum_exp, x, &w.w, targets, temperature.into());
    }

    fn log_prob_backward(
        &self,
        dx: &mut Vec<f64>,
        dw: &mut Vec<f64>,
        d_log_probs: &Vec<f64>,
        x: &Vec<f64>,
        w: &Vec<f64>,
        packed: &Packed,
        targets: &[u32],
        log_sum_exp: &Vec<f64>,
        temperature: f32,
    ) {
        assert_ids(targets, packed.out_features, 1);
        let (n, o, i) = (targets.len(), packed.out_features, packed.in_features);
        let (dx, dw, x, w) = (rows_mut(dx, n, i), rows_mut(dw, o, i), rows(x, n, i), rows(w, o, i));
        let [d_log_probs, log_sum_exp] = [d_log_probs, log_sum_exp].map(|y| rows(y, n, 1));
        log_prob::backward(dx, dw, d_log_probs, x, w, targets, log_sum_exp, temperature.into());
    }

    fn sample(
        &self,
        tokens: &mut [u32],
        log_probs: &mut Vec<f64>,
        full_log_probs: &mut Vec<f64>,
        x: &Vec<f64>,
        w: &Packed,
        draws: &[Draw],
    ) {
        let n = draws.len();
        assert!(tokens.len() >= n, "{n} draws exceed room for {} tokens", tokens.len());
        let log_probs = [rows_mut(log_probs, n, 1), rows_mut(full_log_probs, n, 1)];
        log_prob::sample(tokens, log_probs, rows(x, n, w.in_features), &w.w, draws);
    }

    fn sums_of_squares(&self, buffers: &[&Vec<f64>]) -> Vec<f64> {
        buffers.iter().map(|x| dot(x, x)).collect()
    }

    fn zero_moment(&self, len: usize, kind: MomentType) -> Result<Moment, OutOfMemory> {
        Ok(Moment::new(self.zeros(len)?, kind))
    }

    fn upload_moment(&self, values: &[f32], kind: MomentType) -> Result<Moment, OutOfMemory> {
        Ok(Moment::new(self.upload(values)?, kind))
    }

    fn read_moment(&self, moment: &Moment) -> Vec<f32> {
        moment.values.iter().map(|&x| x as f32).collect()
    }

    fn adamw_step(&self, w: &mut Vec<f64>, m: &mut Moment, v: &mut Moment, g: &Vec<f64>, step: AdamWStep) {
        let n = w.len();
        let lengths = [m.values.len(), v.values.len(), g.len()];
        assert!(lengths == [n; 3], "{n} weights need as many moments and gradients");
        assert_eq!(m.kind, v.kind, "moments of two types");
        adamw::step(w, m, v, g, step);
    }
}
