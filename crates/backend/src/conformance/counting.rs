//! A backend of the shape of a device of its own: what lies on it can be read by [`Backend::read`] and its kin alone, and it
//! counts what crosses to it and how often it is waited for.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{
    AdamWStep, Attention, Backend, Columns, Divergence, Forms, Keep, Layout, Matrix, MomentType, OutOfMemory,
    ProductPrecision, Reference, Rotation, Routing, Store, reference,
};

/// The [`Reference`] behind a bus.
#[derive(Debug, Default)]
pub struct Counting {
    layouts: AtomicUsize,
    uploads: AtomicUsize,
    waits: AtomicUsize,
}

/// What crossed to a [`Counting`] backend, and how often it was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Layouts that were uploaded.
    pub layouts: usize,
    /// Uploads and writes of values.
    pub uploads: usize,
    /// Reads, and other operations that return values.
    pub waits: usize,
}

/// Memory of the device: only the device sees into it.
#[derive(Debug)]
pub struct Remote<T>(T);

impl Counting {
    /// What was counted since the last call.
    pub fn take(&self) -> Counts {
        let take = |count: &AtomicUsize| count.swap(0, Ordering::Relaxed);
        Counts { layouts: take(&self.layouts), uploads: take(&self.uploads), waits: take(&self.waits) }
    }

    fn upload_counted(&self) {
        self.uploads.fetch_add(1, Ordering::Relaxed);
    }

    fn wait_counted(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }
}

/// The same matrix on the reference backend.
fn local(w: &Matrix<Counting>) -> Matrix<Reference> {
    let [out, inp] = w.shape();
    let forms = Forms { values: false, packed: w.packed().is_some() };
    let shape = [w.matrices(), out, inp];
    let zeros = vec![0.0; shape.iter().product()];
    let mut matrix =
        Matrix::several(&Reference, &zeros, shape, forms, w.precision()).expect("a little memory");
    matrix.values.clone_from(&w.values.0);
    if let (Some(to), Some(from)) = (matrix.packed_mut(), w.packed()) {
        to.clone_from(&from.0);
    }
    matrix
}

fn inputs<'a>(inputs: &Attention<'a, Counting>) -> Attention<'a, Reference> {
    let Attention { q, k, v, layout, heads, scale } = *inputs;
    Attention { q: &q.0, k: &k.0, v: v.map(|v| &v.0), layout: &layout.0, heads, scale }
}

impl Backend for Counting {
    type Buf = Remote<Vec<f64>>;
    type Packed = Remote<reference::Packed>;
    type Operand = Remote<Vec<f64>>;
    type Keys = Remote<Vec<f64>>;
    type Layout = Remote<Layout>;
    type Routes = Remote<reference::Routes>;
    type Moment = Remote<reference::Moment>;

    fn name(&self) -> String {
        Reference.name()
    }

    fn bytes(&self, len: usize) -> usize {
        Reference.bytes(len)
    }

    fn len(&self, buf: &Self::Buf) -> usize {
        buf.0.len()
    }

    fn packed_bytes(&self, shape: [usize; 3], precision: ProductPrecision) -> usize {
        Reference.packed_bytes(shape, precision)
    }

    fn moment_bytes(&self, len: usize, kind: MomentType) -> usize {
        Reference.moment_bytes(len, kind)
    }

    fn free_memory(&self) -> Option<u64> {
        Reference.free_memory()
    }

    fn pass_rows(&self) -> usize {
        Reference.pass_rows()
    }

    fn zeros(&self, len: usize) -> Result<Self::Buf, OutOfMemory> {
        Reference.zeros(len).map(Remote)
    }

    fn upload(&self, values: &[f32]) -> Result<Self::Buf, OutOfMemory> {
        self.upload_counted();
        Reference.upload(values).map(Remote)
    }

    fn write(&self, buf: &mut Self::Buf, values: &[f64]) {
        self.upload_counted();
        Reference.write(&mut buf.0, values);
    }

    fn read<const N: usize>(&self, parts: [(&Self::Buf, usize); N]) -> [Vec<f32>; N] {
        self.wait_counted();
        Reference.read(parts.map(|(buf, n)| (&buf.0, n)))
    }

    fn read_exact<const N: usize>(&self, parts: [(&Self::Buf, usize); N]) -> [Vec<f64>; N] {
        self.wait_counted();
        Reference.read_exact(parts.map(|(buf, n)| (&buf.0, n)))
    }

    fn clear(&self, buf: &mut Self::Buf) {
        Reference.clear(&mut buf.0);
    }

    fn copy(&self, y: &mut Self::Buf, x: &Self::Buf, n: usize) {
        Reference.copy(&mut y.0, &x.0, n);
    }

    fn pack(
        &self,
        w: &Self::Buf,
        shape: [usize; 3],
        precision: ProductPrecision,
    ) -> Result<Self::Packed, OutOfMemory> {
        Reference.pack(&w.0, shape, precision).map(Remote)
    }

    fn repack(&self, packed: &mut Self::Packed, w: &Self::Buf) {
        Reference.repack(&mut packed.0, &w.0);
    }

    fn upload_layout(&self, layout: Layout) -> Result<Self::Layout, OutOfMemory> {
        self.layouts.fetch_add(1, Ordering::Relaxed);
        Reference.upload_layout(layout).map(Remote)
    }

    fn rows(&self, layout: &Self::Layout) -> usize {
        Reference.rows(&layout.0)
    }

    fn head_rows(&self, layout: &Self::Layout) -> usize {
        Reference.head_rows(&layout.0)
    }

    fn pairs(&self, layout: &Self::Layout) -> usize {
        Reference.pairs(&layout.0)
    }

    fn is_cached(&self, layout: &Self::Layout) -> bool {
        Reference.is_cached(&layout.0)
    }

    fn operand(&self, len: usize, keep: Keep) -> Result<Self::Operand, OutOfMemory> {
        Reference.operand(len, keep).map(Remote)
    }

    fn operand_bytes(&self, len: usize, keep: Keep) -> usize {
        Reference.operand_bytes(len, keep)
    }

    fn values<'a>(&self, x: &'a Self::Operand) -> &'a Self::Buf {
        x
    }

    fn values_mut<'a>(&self, x: &'a mut Self::Operand) -> &'a mut Self::Buf {
        x
    }

    fn round(&self, x: &mut Self::Operand, n: usize) {
        Reference.round(&mut x.0, n);
    }

    fn scale(&self, x: &mut Self::Operand, factor: f32, n: usize) {
        Reference.scale(&mut x.0, factor, n);
    }

    fn write_operand(&self, x: &mut Self::Operand, values: &[f64]) {
        self.upload_counted();
        Reference.write_operand(&mut x.0, values);
    }

    fn read_operand(&self, x: &Self::Operand, n: usize) -> Vec<f32> {
        self.wait_counted();
        Reference.read_operand(&x.0, n)
    }

    fn keys(&self, len: usize) -> Result<Self::Keys, OutOfMemory> {
        Reference.keys(len).map(Remote)
    }

    fn keys_bytes(&self, len: usize) -> usize {
        Reference.keys_bytes(len)
    }

    fn store_keys(&self, keys: &mut Self::Keys, x: &Self::Buf, features: usize, layout: &Self::Layout) {
        Reference.store_keys(&mut keys.0, &x.0, features, &layout.0);
    }

    fn embedding_forward(&self, y: &mut Self::Buf, w: &Self::Buf, features: usize, layout: &Self::Layout) {
        Reference.embedding_forward(&mut y.0, &w.0, features, &layout.0);
    }

    fn embedding_backward(&self, dw: &mut Self::Buf, dy: &Self::Buf, features: usize, layout: &Self::Layout) {
        Reference.embedding_backward(&mut dw.0, &dy.0, features, &layout.0);
    }

    fn head_rows_forward(
        &self,
        y: &mut Self::Operand,
        x: &Self::Operand,
        features: usize,
        layout: &Self::Layout,
    ) {
        Reference.head_rows_forward(&mut y.0, &x.0, features, &layout.0);
    }

    fn head_rows_backward(&self, dx: &mut Self::Buf, dy: &Self::Buf, features: usize, layout: &Self::Layout) {
        Reference.head_rows_backward(&mut dx.0, &dy.0, features, &layout.0);
    }

    fn linear_forward(&self, y: &mut Self::Buf, x: &Self::Operand, w: &Matrix<Self>, n: usize, store: Store) {
        Reference.linear_forward(&mut y.0, &x.0, &local(w), n, store);
    }

    fn linear_backward_input(
        &self,
        dx: &mut Self::Buf,
        dy: &Self::Operand,
        w: &Matrix<Self>,
        n: usize,
        store: Store,
    ) {
        Reference.linear_backward_input(&mut dx.0, &dy.0, &local(w), n, store);
    }

    fn linear_backward_weight(
        &self,
        dw: &mut Self::Buf,
        dy: &Self::Operand,
        x: &Self::Operand,
        n: usize,
        shape: [usize; 2],
        precision: ProductPrecision,
    ) {
        Reference.linear_backward_weight(&mut dw.0, &dy.0, &x.0, n, shape, precision);
    }

    fn bias_forward(&self, y: &mut Self::Buf, bias: &Self::Buf, features: usize, n: usize) {
        Reference.bias_forward(&mut y.0, &bias.0, features, n);
    }

    fn bias_backward(&self, d_bias: &mut Self::Buf, dy: &Self::Operand, features: usize, n: usize) {
        Reference.bias_backward(&mut d_bias.0, &dy.0, features, n);
    }

    fn rms_norm_forward(
        &self,
        y: &mut Self::Operand,
        rstd: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        eps: f32,
        n: usize,
    ) {
        Reference.rms_norm_forward(&mut y.0, &mut rstd.0, &x.0, &w.0, eps, n);
    }

    fn head_norm_forward(
        &self,
        y: &mut Self::Buf,
        rstd: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        eps: f32,
        n: usize,
    ) {
        Reference.head_norm_forward(&mut y.0, &mut rstd.0, &x.0, &w.0, eps, n);
    }

    fn rms_norm_backward(
        &self,
        dx: &mut Self::Buf,
        dw: Option<&mut Self::Buf>,
        dy: &Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        rstd: &Self::Buf,
        n: usize,
    ) {
        Reference.rms_norm_backward(&mut dx.0, dw.map(|dw| &mut dw.0), &dy.0, &x.0, &w.0, &rstd.0, n);
    }

    fn rope_forward(
        &self,
        x: &mut Self::Buf,
        cos: &Self::Buf,
        sin: &Self::Buf,
        rotation: Rotation,
        layout: &Self::Layout,
    ) {
        Reference.rope_forward(&mut x.0, &cos.0, &sin.0, rotation, &layout.0);
    }

    fn rope_backward(
        &self,
        dx: &mut Self::Buf,
        cos: &Self::Buf,
        sin: &Self::Buf,
        rotation: Rotation,
        layout: &Self::Layout,
    ) {
        Reference.rope_backward(&mut dx.0, &cos.0, &sin.0, rotation, &layout.0);
    }

    fn columns(
        &self,
        y: &mut Self::Buf,
        x: &Self::Buf,
        columns: [Columns; 2],
        sizes: [usize; 2],
        n: usize,
        store: Store,
    ) {
        Reference.columns(&mut y.0, &x.0, columns, sizes, n, store);
    }

    fn attention_forward(
        &self,
        out: &mut Self::Operand,
        log_sum_exp: &mut Self::Buf,
        of: Attention<'_, Self>,
    ) {
        Reference.attention_forward(&mut out.0, &mut log_sum_exp.0, inputs(&of));
    }

    fn attention_backward(
        &self,
        d: [&mut Self::Buf; 3],
        dout: &Self::Buf,
        of: Attention<'_, Self>,
        out: &Self::Operand,
        log_sum_exp: &Self::Buf,
    ) {
        let d = d.map(|d| &mut d.0);
        Reference.attention_backward(d, &dout.0, inputs(&of), &out.0, &log_sum_exp.0);
    }

    fn swiglu_forward(&self, y: &mut Self::Operand, gate: &Self::Buf, up: &Self::Buf, n: usize) {
        Reference.swiglu_forward(&mut y.0, &gate.0, &up.0, n);
    }

    fn swiglu_backward(
        &self,
        dy: &mut Self::Operand,
        gate: &mut Self::Operand,
        up: &mut Self::Operand,
        keep: Keep,
        n: usize,
    ) {
        Reference.swiglu_backward(&mut dy.0, &mut gate.0, &mut up.0, keep, n);
    }

    fn log_prob_forward(
        &self,
        log_probs: &mut Self::Buf,
        entropy: &mut Self::Buf,
        log_sum_exp: &mut Self::Buf,
        x: &Self::Operand,
        w: &Matrix<Self>,
        temperature: f32,
        layout: &Self::Layout,
    ) {
        let [log_probs, entropy, log_sum_exp] = [log_probs, entropy, log_sum_exp].map(|y| &mut y.0);
        let (x, w) = (&x.0, local(w));
        Reference.log_prob_forward(log_probs, entropy, log_sum_exp, x, &w, temperature, &layout.0);
    }

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
    ) {
        let (dx, dw, x, w) = (&mut dx.0, dw.map(|dw| &mut dw.0), &x.0, local(w));
        let (d_log_probs, saved) = (&d_log_probs.0, &log_sum_exp.0);
        Reference.log_prob_backward(dx, dw, d_log_probs, x, &w, saved, temperature, &layout.0);
    }

    fn sample(
        &self,
        tokens: &mut Self::Buf,
        log_probs: &mut Self::Buf,
        full_log_probs: &mut Self::Buf,
        x: &Self::Operand,
        w: &Matrix<Self>,
        layout: &Self::Layout,
    ) {
        let [tokens, log_probs, full] = [tokens, log_probs, full_log_probs].map(|y| &mut y.0);
        Reference.sample(tokens, log_probs, full, &x.0, &local(w), &layout.0);
    }

    fn divergence(
        &self,
        d: &mut Self::Buf,
        student: &mut Self::Operand,
        teacher: &mut Self::Buf,
        of: Divergence,
        weight: f64,
        sizes: [usize; 3],
    ) {
        Reference.divergence(&mut d.0, &mut student.0, &mut teacher.0, of, weight, sizes);
    }

    fn routes(&self, rows: usize, of: Routing) -> Result<Self::Routes, OutOfMemory> {
        Reference.routes(rows, of).map(Remote)
    }

    fn routes_bytes(&self, rows: usize, of: Routing) -> usize {
        Reference.routes_bytes(rows, of)
    }

    fn read_routes(&self, routes: &Self::Routes) -> (Vec<u32>, Vec<f64>) {
        self.wait_counted();
        Reference.read_routes(&routes.0)
    }

    fn route_forward(
        &self,
        routes: &mut Self::Routes,
        scores: &mut Self::Buf,
        bias: Option<&Self::Buf>,
        of: Routing,
        n: usize,
    ) {
        Reference.route_forward(&mut routes.0, &mut scores.0, bias.map(|bias| &bias.0), of, n);
    }

    fn route_in_turn(&self, routes: &mut Self::Routes, n: usize) {
        Reference.route_in_turn(&mut routes.0, n);
    }

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
    ) {
        let (d_logits, load) = (&mut d_logits.0, load.map(|load| &mut load.0));
        let (d_weights, scores) = (&d_weights.0, &scores.0);
        Reference.route_backward(d_logits, load, d_weights, scores, &routes.0, of, balance, &layout.0);
    }

    fn copies_forward(
        &self,
        y: &mut Self::Operand,
        x: &Self::Operand,
        routes: &Self::Routes,
        features: usize,
    ) {
        Reference.copies_forward(&mut y.0, &x.0, &routes.0, features);
    }

    fn sum_copies(
        &self,
        y: &mut Self::Buf,
        x: &Self::Buf,
        routes: &Self::Routes,
        features: usize,
        store: Store,
    ) {
        Reference.sum_copies(&mut y.0, &x.0, &routes.0, features, store);
    }

    fn weighted_swiglu_forward(
        &self,
        y: &mut Self::Operand,
        gate: &Self::Buf,
        up: &Self::Buf,
        routes: &Self::Routes,
        features: usize,
    ) {
        Reference.weighted_swiglu_forward(&mut y.0, &gate.0, &up.0, &routes.0, features);
    }

    fn weighted_swiglu_backward(
        &self,
        d_weights: &mut Self::Buf,
        dy: &mut Self::Operand,
        gate: &mut Self::Operand,
        up: &mut Self::Operand,
        keep: Keep,
        routes: &Self::Routes,
        features: usize,
    ) {
        let (dy, gate, up) = (&mut dy.0, &mut gate.0, &mut up.0);
        Reference.weighted_swiglu_backward(&mut d_weights.0, dy, gate, up, keep, &routes.0, features);
    }

    fn experts_forward(
        &self,
        y: &mut Self::Buf,
        x: &Self::Operand,
        w: &Matrix<Self>,
        routes: &Self::Routes,
        store: Store,
    ) {
        Reference.experts_forward(&mut y.0, &x.0, &local(w), &routes.0, store);
    }

    fn experts_backward_input(
        &self,
        dx: &mut Self::Buf,
        dy: &Self::Operand,
        w: &Matrix<Self>,
        routes: &Self::Routes,
        store: Store,
    ) {
        Reference.experts_backward_input(&mut dx.0, &dy.0, &local(w), &routes.0, store);
    }

    fn experts_backward_weight(
        &self,
        dw: &mut Self::Buf,
        dy: &Self::Operand,
        x: &Self::Operand,
        routes: &Self::Routes,
        shape: [usize; 2],
        precision: ProductPrecision,
    ) {
        Reference.experts_backward_weight(&mut dw.0, &dy.0, &x.0, &routes.0, shape, precision);
    }

    fn sums_of_squares(&self, buffers: &[&Self::Buf]) -> Vec<f64> {
        self.wait_counted();
        Reference.sums_of_squares(&buffers.iter().map(|x| &x.0).collect::<Vec<_>>())
    }

    fn zero_moment(&self, len: usize, kind: MomentType) -> Result<Self::Moment, OutOfMemory> {
        Reference.zero_moment(len, kind).map(Remote)
    }

    fn upload_moment(&self, values: &[f32], kind: MomentType) -> Result<Self::Moment, OutOfMemory> {
        self.upload_counted();
        Reference.upload_moment(values, kind).map(Remote)
    }

    fn read_moment(&self, moment: &Self::Moment) -> Vec<f32> {
        self.wait_counted();
        Reference.read_moment(&moment.0)
    }

    fn adamw_step(
        &self,
        w: &mut Self::Buf,
        m: &mut Self::Moment,
        v: &mut Self::Moment,
        g: &Self::Buf,
        step: AdamWStep,
    ) {
        Reference.adamw_step(&mut w.0, &mut m.0, &mut v.0, &g.0, step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Precision, run, same_bits};

    #[test]
    fn it_computes_what_the_reference_does() {
        run(&Counting::default(), Precision::F32);
        same_bits(&Counting::default(), &Reference);
    }
}
