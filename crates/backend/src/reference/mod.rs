//! The specification: every operation in f64, as plain loops that read beside the paper.
//!
//! Speed is no concern here, though a model of a million parameters trains. Other backends are held to this
//! one by the conformance suite, and this one to the derivatives of its own forwards by finite differences
//! (`gradcheck.rs`).

mod adamw;
mod attention;
mod bias;
mod columns;
mod divergence;
mod embedding;
mod fp8;
#[cfg(test)]
mod gradcheck;
mod linear;
mod log_prob;
mod rms_norm;
mod rope;
mod route;
mod swiglu;

#[cfg(feature = "testkit")]
pub(crate) use attention::{Query, queries};

pub use adamw::Moment;
pub use route::Routes;

use std::borrow::Cow;

use crate::{
    AdamWStep, Attention, Backend, Columns, Divergence, Keep, Layout, Matrix, MomentType, OutOfMemory,
    ProductPrecision, Rotation, Routing, Store, free_host_memory,
};

/// The reference backend: f64 in host memory, one thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

/// The elements of weight matrices, row-major as they came.
#[derive(Clone, Debug)]
pub struct Packed {
    w: Vec<f64>,
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

/// The first `n` rows of `features` elements.
fn rows(x: &[f64], n: usize, features: usize) -> &[f64] {
    assert!(x.len() >= n * features, "{n} rows of {features} features exceed a buffer of {}", x.len());
    &x[..n * features]
}

/// The first `n` rows of `features` elements.
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

/// Asserts that `ids` are rows of a matrix of `len` elements.
fn assert_ids(ids: &[u32], len: usize, features: usize) {
    let rows = len / features;
    assert!(ids.iter().all(|&id| (id as usize) < rows), "a row's number exceeds the {rows} there are");
}

/// The values that a forward product reads: it has no form of its own for them.
fn weights(w: &Matrix<Reference>) -> &[f64] {
    let [o, i] = w.shape();
    w.packed().map_or_else(|| rows(&w.values, w.matrices() * o, i), |packed| &packed.w)
}

/// The values that a backward reads: those of the matrix, or where it holds none those of its packed form.
fn values(w: &Matrix<Reference>) -> &[f64] {
    let [o, i] = w.shape();
    if w.values.is_empty() { weights(w) } else { rows(&w.values, w.matrices() * o, i) }
}

/// Writes `y` `[n, o]`, or adds to it, from `x`, `w`, `o`, `i`.
type Product = fn(&mut [f64], &[f64], &[f64], usize, usize, Store);

fn forward(precision: ProductPrecision) -> Product {
    match precision {
        ProductPrecision::Device | ProductPrecision::Int8 => linear::forward,
        ProductPrecision::Fp8 => fp8::forward,
    }
}

fn backward_input(precision: ProductPrecision) -> Product {
    match precision {
        ProductPrecision::Device | ProductPrecision::Int8 => linear::backward_input,
        ProductPrecision::Fp8 => fp8::backward_input,
    }
}

fn backward_weight(precision: ProductPrecision) -> fn(&mut [f64], &[f64], &[f64], usize, usize) {
    match precision {
        ProductPrecision::Device | ProductPrecision::Int8 => linear::backward_weight,
        ProductPrecision::Fp8 => fp8::backward_weight,
    }
}

/// The inputs of attention, as many rows as are read: `q`, `k`, `v`. Values that are parts of keys are taken out of them.
fn attended<'a>(inputs: &Attention<'a, Reference>) -> [Cow<'a, [f64]>; 3] {
    let Attention { q, k, v, layout, heads, .. } = *inputs;
    assert!(heads.query.is_multiple_of(heads.key_value), "{heads:?}: whole groups of query heads");
    let (n, m) = (layout.len(), layout.key_rows());
    let k = rows(k, m, heads.key_features());
    let values = || k.chunks_exact(heads.dim).flat_map(|key| &key[..heads.value_dim]).copied().collect();
    let v = v.map_or_else(|| Cow::Owned(values()), |v| Cow::Borrowed(rows(v, m, heads.value_features())));
    [rows(q, n, heads.query_features()).into(), k.into(), v]
}

/// Asserts a rotation's sizes; gives the elements of `x` that it changes.
fn rotated<'a>(
    x: &'a mut [f64],
    cos: &[f64],
    sin: &[f64],
    rotation: Rotation,
    layout: &Layout,
) -> &'a mut [f64] {
    rotation.check();
    assert_eq!(layout.positions.len(), layout.len(), "a position for each row");
    assert_ids(&layout.positions, cos.len().min(sin.len()), rotation.dim / 2);
    rows_mut(x, layout.len(), rotation.features())
}

impl Backend for Reference {
    type Buf = Vec<f64>;
    type Packed = Packed;
    type Operand = Vec<f64>;
    type Keys = Vec<f64>;
    type Layout = Layout;
    type Routes = Routes;
    type Moment = Moment;

    fn name(&self) -> String {
        "reference".to_owned()
    }

    fn bytes(&self, len: usize) -> usize {
        len.saturating_mul(size_of::<f64>())
    }

    fn len(&self, buf: &Vec<f64>) -> usize {
        buf.len()
    }

    fn packed_bytes(&self, [matrices, out, inp]: [usize; 3], _: ProductPrecision) -> usize {
        self.bytes(matrices.saturating_mul(out).saturating_mul(inp))
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

    fn write(&self, buf: &mut Vec<f64>, values: &[f64]) {
        rows_mut(buf, values.len(), 1).copy_from_slice(values);
    }

    fn read<const N: usize>(&self, parts: [(&Vec<f64>, usize); N]) -> [Vec<f32>; N] {
        parts.map(|(buf, n)| rows(buf, n, 1).iter().map(|&x| x as f32).collect())
    }

    fn read_exact<const N: usize>(&self, parts: [(&Vec<f64>, usize); N]) -> [Vec<f64>; N] {
        parts.map(|(buf, n)| rows(buf, n, 1).to_vec())
    }

    fn clear(&self, buf: &mut Vec<f64>) {
        buf.fill(0.0);
    }

    fn copy(&self, y: &mut Vec<f64>, x: &Vec<f64>, n: usize) {
        rows_mut(y, n, 1).copy_from_slice(rows(x, n, 1));
    }

    fn pack(
        &self,
        w: &Vec<f64>,
        [matrices, out, inp]: [usize; 3],
        _: ProductPrecision,
    ) -> Result<Packed, OutOfMemory> {
        let mut copy = with_capacity(matrices.saturating_mul(out).saturating_mul(inp))?;
        copy.extend_from_slice(rows(w, matrices * out, inp));
        Ok(Packed { w: copy })
    }

    fn repack(&self, packed: &mut Packed, w: &Vec<f64>) {
        let n = packed.w.len();
        packed.w.copy_from_slice(rows(w, n, 1));
    }

    fn upload_layout(&self, layout: Layout) -> Result<Layout, OutOfMemory> {
        layout.check();
        Ok(layout)
    }

    fn rows(&self, layout: &Layout) -> usize {
        layout.len()
    }

    fn head_rows(&self, layout: &Layout) -> usize {
        layout.head_rows.len()
    }

    fn pairs(&self, layout: &Layout) -> usize {
        layout.pairs()
    }

    fn is_cached(&self, layout: &Layout) -> bool {
        !layout.cache_rows.is_empty()
    }

    fn operand(&self, len: usize, _: Keep) -> Result<Vec<f64>, OutOfMemory> {
        self.zeros(len)
    }

    fn operand_bytes(&self, len: usize, _: Keep) -> usize {
        self.bytes(len)
    }

    fn values<'a>(&self, x: &'a Vec<f64>) -> &'a Vec<f64> {
        x
    }

    fn values_mut<'a>(&self, x: &'a mut Vec<f64>) -> &'a mut Vec<f64> {
        x
    }

    fn round(&self, x: &mut Vec<f64>, n: usize) {
        rows(x, n, 1);
    }

    fn scale(&self, x: &mut Vec<f64>, factor: f32, n: usize) {
        for x in rows_mut(x, n, 1) {
            *x *= f64::from(factor);
        }
    }

    fn write_operand(&self, x: &mut Vec<f64>, values: &[f64]) {
        self.write(x, values);
    }

    fn read_operand(&self, x: &Vec<f64>, n: usize) -> Vec<f32> {
        let [values] = self.read([(x, n)]);
        values
    }

    fn keys(&self, len: usize) -> Result<Vec<f64>, OutOfMemory> {
        self.zeros(len)
    }

    fn keys_bytes(&self, len: usize) -> usize {
        self.bytes(len)
    }

    fn store_keys(&self, keys: &mut Vec<f64>, x: &Vec<f64>, features: usize, layout: &Layout) {
        let x = rows(x, layout.len(), features);
        if layout.cache_rows.is_empty() {
            rows_mut(keys, layout.len(), features).copy_from_slice(x);
        } else {
            assert_ids(&layout.cache_rows, keys.len(), features);
            embedding::scatter(keys, x, &layout.cache_rows, features);
        }
    }

    fn embedding_forward(&self, y: &mut Vec<f64>, w: &Vec<f64>, features: usize, layout: &Layout) {
        assert_ids(&layout.ids, w.len(), features);
        embedding::gather(rows_mut(y, layout.len(), features), w, &layout.ids, features);
    }

    fn embedding_backward(&self, dw: &mut Vec<f64>, dy: &Vec<f64>, features: usize, layout: &Layout) {
        assert_ids(&layout.ids, dw.len(), features);
        embedding::scatter_add(dw, rows(dy, layout.len(), features), &layout.ids, features);
    }

    fn head_rows_forward(&self, y: &mut Vec<f64>, x: &Vec<f64>, features: usize, layout: &Layout) {
        let rows_of = &layout.head_rows;
        assert_ids(rows_of, x.len(), features);
        embedding::gather(rows_mut(y, rows_of.len(), features), x, rows_of, features);
    }

    fn head_rows_backward(&self, dx: &mut Vec<f64>, dy: &Vec<f64>, features: usize, layout: &Layout) {
        let dx = rows_mut(dx, layout.len(), features);
        dx.fill(0.0);
        embedding::scatter(dx, rows(dy, layout.head_rows.len(), features), &layout.head_rows, features);
    }

    fn linear_forward(&self, y: &mut Vec<f64>, x: &Vec<f64>, w: &Matrix<Self>, n: usize, store: Store) {
        let [o, i] = w.shape();
        forward(w.precision())(rows_mut(y, n, o), rows(x, n, i), weights(w), o, i, store);
    }

    fn linear_backward_input(
        &self,
        dx: &mut Vec<f64>,
        dy: &Vec<f64>,
        w: &Matrix<Self>,
        n: usize,
        store: Store,
    ) {
        let [o, i] = w.shape();
        backward_input(w.precision())(rows_mut(dx, n, i), rows(dy, n, o), values(w), o, i, store);
    }

    fn linear_backward_weight(
        &self,
        dw: &mut Vec<f64>,
        dy: &Vec<f64>,
        x: &Vec<f64>,
        n: usize,
        [o, i]: [usize; 2],
        precision: ProductPrecision,
    ) {
        backward_weight(precision)(rows_mut(dw, o, i), rows(dy, n, o), rows(x, n, i), o, i);
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

    fn head_norm_forward(
        &self,
        y: &mut Vec<f64>,
        rstd: &mut Vec<f64>,
        x: &Vec<f64>,
        w: &Vec<f64>,
        eps: f32,
        n: usize,
    ) {
        self.rms_norm_forward(y, rstd, x, w, eps, n);
    }

    fn rms_norm_backward(
        &self,
        dx: &mut Vec<f64>,
        dw: Option<&mut Vec<f64>>,
        dy: &Vec<f64>,
        x: &Vec<f64>,
        w: &Vec<f64>,
        rstd: &Vec<f64>,
        n: usize,
    ) {
        let c = w.len();
        let (dx, dw) = (rows_mut(dx, n, c), dw.map(|dw| rows_mut(dw, 1, c)));
        rms_norm::backward(dx, dw, rows(dy, n, c), rows(x, n, c), w, rows(rstd, n, 1));
    }

    fn rope_forward(
        &self,
        x: &mut Vec<f64>,
        cos: &Vec<f64>,
        sin: &Vec<f64>,
        rotation: Rotation,
        layout: &Layout,
    ) {
        let x = rotated(x, cos, sin, rotation, layout);
        rope::rotate(x, cos, sin, &layout.positions, rotation, 1.0);
    }

    fn rope_backward(
        &self,
        dx: &mut Vec<f64>,
        cos: &Vec<f64>,
        sin: &Vec<f64>,
        rotation: Rotation,
        layout: &Layout,
    ) {
        let dx = rotated(dx, cos, sin, rotation, layout);
        rope::rotate(dx, cos, sin, &layout.positions, rotation, -1.0);
    }

    fn columns(
        &self,
        y: &mut Vec<f64>,
        x: &Vec<f64>,
        [to, from]: [Columns; 2],
        [heads, width]: [usize; 2],
        n: usize,
        store: Store,
    ) {
        to.check(heads, width);
        from.check(heads, width);
        let (y, x) = (rows_mut(y, n, to.features), rows(x, n, from.features));
        columns::copy(y, x, to, from, heads, width, store);
    }

    fn attention_forward(&self, out: &mut Vec<f64>, log_sum_exp: &mut Vec<f64>, inputs: Attention<'_, Self>) {
        let ([q, k, v], Attention { layout, heads, scale, .. }) = (attended(&inputs), inputs);
        let out = rows_mut(out, layout.len(), heads.output_features());
        let log_sum_exp = rows_mut(log_sum_exp, layout.len(), heads.query);
        attention::forward(out, log_sum_exp, &q, &k, &v, &layout.sequences, heads, scale);
    }

    fn attention_backward(
        &self,
        [dq, dk, dv]: [&mut Vec<f64>; 3],
        dout: &Vec<f64>,
        inputs: Attention<'_, Self>,
        out: &Vec<f64>,
        log_sum_exp: &Vec<f64>,
    ) {
        let ([q, k, v], Attention { layout, heads, scale, .. }) = (attended(&inputs), inputs);
        let (n, m) = (layout.len(), layout.key_rows());
        let [dout, out] = [dout, out].map(|x| rows(x, n, heads.output_features()));
        let dq = rows_mut(dq, n, heads.query_features());
        let (dk, dv) = (rows_mut(dk, m, heads.key_features()), rows_mut(dv, m, heads.value_features()));
        let log_sum_exp = rows(log_sum_exp, n, heads.query);
        let sequences = &layout.sequences;
        attention::backward(dq, dk, dv, dout, &q, &k, &v, out, log_sum_exp, sequences, heads, scale);
    }

    fn swiglu_forward(&self, y: &mut Vec<f64>, gate: &Vec<f64>, up: &Vec<f64>, n: usize) {
        swiglu::forward(rows_mut(y, n, 1), rows(gate, n, 1), rows(up, n, 1));
    }

    fn swiglu_backward(&self, dy: &mut Vec<f64>, gate: &mut Vec<f64>, up: &mut Vec<f64>, _: Keep, n: usize) {
        swiglu::backward(rows_mut(dy, n, 1), rows_mut(gate, n, 1), rows_mut(up, n, 1));
    }

    fn log_prob_forward(
        &self,
        log_probs: &mut Vec<f64>,
        entropy: &mut Vec<f64>,
        log_sum_exp: &mut Vec<f64>,
        x: &Vec<f64>,
        w: &Matrix<Self>,
        temperature: f32,
        layout: &Layout,
    ) {
        let ([vocab, c], targets, n) = (w.shape(), &layout.targets, layout.targets.len());
        assert_ids(targets, vocab, 1);
        let [log_probs, entropy, log_sum_exp] = [log_probs, entropy, log_sum_exp].map(|y| rows_mut(y, n, 1));
        let x = rows(x, n, c);
        log_prob::forward(log_probs, entropy, log_sum_exp, x, weights(w), targets, temperature.into());
    }

    fn log_prob_backward(
        &self,
        dx: &mut Vec<f64>,
        dw: Option<&mut Vec<f64>>,
        d_log_probs: &Vec<f64>,
        x: &Vec<f64>,
        w: &Matrix<Self>,
        log_sum_exp: &Vec<f64>,
        temperature: f32,
        layout: &Layout,
    ) {
        let ([vocab, c], targets, n) = (w.shape(), &layout.targets, layout.targets.len());
        assert_ids(targets, vocab, 1);
        let (dx, dw) = (rows_mut(dx, n, c), dw.map(|dw| rows_mut(dw, vocab, c)));
        let (x, w) = (rows(x, n, c), values(w));
        let [d_log_probs, log_sum_exp] = [d_log_probs, log_sum_exp].map(|y| rows(y, n, 1));
        log_prob::backward(dx, dw, d_log_probs, x, w, targets, log_sum_exp, temperature.into());
    }

    fn sample(
        &self,
        tokens: &mut Vec<f64>,
        log_probs: &mut Vec<f64>,
        full_log_probs: &mut Vec<f64>,
        x: &Vec<f64>,
        w: &Matrix<Self>,
        layout: &Layout,
    ) {
        let ([vocab, c], draws, n) = (w.shape(), &layout.draws, layout.draws.len());
        assert!(vocab <= 1 << 24, "{vocab} tokens: an f32 holds their numbers up to 2^24");
        let outputs = [tokens, log_probs, full_log_probs].map(|y| rows_mut(y, n, 1));
        log_prob::sample(outputs, rows(x, n, c), weights(w), draws);
    }

    fn divergence(
        &self,
        d: &mut Vec<f64>,
        student: &mut Vec<f64>,
        teacher: &mut Vec<f64>,
        of: Divergence,
        weight: f64,
        [n, student_vocab, teacher_vocab]: [usize; 3],
    ) {
        let (d, student) = (rows_mut(d, n, 1), rows_mut(student, n, student_vocab));
        let teacher = rows(teacher, n, teacher_vocab);
        let pairs = student.chunks_exact_mut(student_vocab).zip(teacher.chunks_exact(teacher_vocab));
        for (d, (student, teacher)) in d.iter_mut().zip(pairs) {
            *d = divergence::row(student, teacher, of, weight);
        }
    }

    fn routes(&self, rows: usize, of: Routing) -> Result<Routes, OutOfMemory> {
        Routes::new(rows, of)
    }

    fn routes_bytes(&self, rows: usize, of: Routing) -> usize {
        Routes::bytes(rows, of)
    }

    fn read_routes(&self, routes: &Routes) -> (Vec<u32>, Vec<f64>) {
        (routes.chosen.clone(), routes.weights.clone())
    }

    fn route_forward(
        &self,
        routes: &mut Routes,
        scores: &mut Vec<f64>,
        bias: Option<&Vec<f64>>,
        of: Routing,
        n: usize,
    ) {
        of.check();
        let bias = bias.map(|bias| rows(bias, 1, of.experts));
        route::forward(routes, rows_mut(scores, n, of.experts), bias, of);
    }

    fn route_in_turn(&self, routes: &mut Routes, n: usize) {
        let Routes { chosen, weights, copies } = routes;
        copies.sort_in_turn(n);
        *chosen = (0..n).map(|i| (i % copies.experts()) as u32).collect();
        *weights = vec![1.0; n];
    }

    fn route_backward(
        &self,
        d_logits: &mut Vec<f64>,
        load: Option<&mut Vec<f64>>,
        d_weights: &Vec<f64>,
        scores: &Vec<f64>,
        routes: &Routes,
        of: Routing,
        balance: f32,
        layout: &Layout,
    ) {
        let n = layout.len();
        assert_eq!(routes.chosen.len(), n * of.per_token, "routes of another pass");
        let (d_logits, scores) = (rows_mut(d_logits, n, of.experts), rows(scores, n, of.experts));
        if let Some(load) = load {
            let load = rows_mut(load, 1, of.experts);
            routes.chosen.iter().for_each(|&expert| load[expert as usize] += 1.0);
        }
        let d_weights = rows(d_weights, n, of.per_token);
        route::backward(d_logits, d_weights, scores, routes, of);
        route::balance(d_logits, scores, routes, of, balance.into(), &layout.sequences);
        d_logits
            .chunks_exact_mut(of.experts)
            .zip(scores.chunks_exact(of.experts))
            .for_each(|(d, s)| route::through_scores(d, s, of.scoring));
    }

    fn copies_forward(&self, y: &mut Vec<f64>, x: &Vec<f64>, routes: &Routes, features: usize) {
        let of_rows = routes.copies.rows();
        assert_ids(of_rows, x.len(), features);
        embedding::gather(rows_mut(y, of_rows.len(), features), x, of_rows, features);
    }

    fn sum_copies(&self, y: &mut Vec<f64>, x: &Vec<f64>, routes: &Routes, features: usize, store: Store) {
        let copies = &routes.copies;
        let (y, x) =
            (rows_mut(y, copies.len() / copies.per_row(), features), rows(x, copies.len(), features));
        if store == Store::Write {
            y.fill(0.0);
        }
        for (y, places) in y.chunks_exact_mut(features).zip(copies.places().chunks_exact(copies.per_row())) {
            for &place in places {
                let x = &x[place as usize * features..][..features];
                y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
            }
        }
    }

    fn weighted_swiglu_forward(
        &self,
        y: &mut Vec<f64>,
        gate: &Vec<f64>,
        up: &Vec<f64>,
        routes: &Routes,
        features: usize,
    ) {
        let n = routes.copies.len();
        let y = rows_mut(y, n, features);
        swiglu::forward(y, rows(gate, n, features), rows(up, n, features));
        for (y, w) in y.chunks_exact_mut(features).zip(routes.weights_of_copies()) {
            for y in y {
                *y *= w;
            }
        }
    }

    fn weighted_swiglu_backward(
        &self,
        d_weights: &mut Vec<f64>,
        dy: &mut Vec<f64>,
        gate: &mut Vec<f64>,
        up: &mut Vec<f64>,
        _: Keep,
        routes: &Routes,
        features: usize,
    ) {
        let n = routes.copies.len();
        let (dy, gate, up) =
            (rows_mut(dy, n, features), rows_mut(gate, n, features), rows_mut(up, n, features));
        let d_weights = rows_mut(d_weights, n, 1);
        for (i, w) in routes.weights_of_copies().into_iter().enumerate() {
            let part = i * features..(i + 1) * features;
            let (dy, gate, up) = (&mut dy[part.clone()], &mut gate[part.clone()], &mut up[part]);
            let mut h = vec![0.0; features];
            swiglu::forward(&mut h, gate, up);
            d_weights[i] = dot(dy, &h);
            for dy in dy.iter_mut() {
                *dy *= w;
            }
            swiglu::backward(dy, gate, up);
            for y in dy {
                *y *= w;
            }
        }
    }

    fn experts_forward(
        &self,
        y: &mut Vec<f64>,
        x: &Vec<f64>,
        w: &Matrix<Self>,
        routes: &Routes,
        store: Store,
    ) {
        let [o, i] = w.shape();
        let (copies, forward, w) = (&routes.copies, forward(w.precision()), weights(w));
        assert_eq!(w.len(), copies.experts() * o * i, "a matrix for each expert");
        let (y, x) = (rows_mut(y, copies.len(), o), rows(x, copies.len(), i));
        for (e, w) in w.chunks_exact(o * i).enumerate() {
            let n = copies.of(e);
            forward(&mut y[n.start * o..n.end * o], &x[n.start * i..n.end * i], w, o, i, store);
        }
    }

    fn experts_backward_input(
        &self,
        dx: &mut Vec<f64>,
        dy: &Vec<f64>,
        w: &Matrix<Self>,
        routes: &Routes,
        store: Store,
    ) {
        let [o, i] = w.shape();
        let (copies, backward_input, w) = (&routes.copies, backward_input(w.precision()), values(w));
        assert_eq!(w.len(), copies.experts() * o * i, "a matrix for each expert");
        let (dx, dy) = (rows_mut(dx, copies.len(), i), rows(dy, copies.len(), o));
        for (e, w) in w.chunks_exact(o * i).enumerate() {
            let n = copies.of(e);
            let (dx, dy) = (&mut dx[n.start * i..n.end * i], &dy[n.start * o..n.end * o]);
            backward_input(dx, dy, w, o, i, store);
        }
    }

    fn experts_backward_weight(
        &self,
        dw: &mut Vec<f64>,
        dy: &Vec<f64>,
        x: &Vec<f64>,
        routes: &Routes,
        [o, i]: [usize; 2],
        precision: ProductPrecision,
    ) {
        let (copies, backward_weight) = (&routes.copies, backward_weight(precision));
        let (dy, x) = (rows(dy, copies.len(), o), rows(x, copies.len(), i));
        let dw = rows_mut(dw, copies.experts() * o, i);
        for (e, dw) in dw.chunks_exact_mut(o * i).enumerate() {
            let n = copies.of(e);
            backward_weight(dw, &dy[n.start * o..n.end * o], &x[n.start * i..n.end * i], o, i);
        }
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
