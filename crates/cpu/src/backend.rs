//! The trait: asserts the sizes of an operation's buffers, and calls the operation with slices of them.

use koan_backend::{
    AdamWStep, AlignedVec, Attention, Backend, Ceilings, Columns, Divergence, HeadNormBackward, Keep, Layout,
    Matrix, MixtureGradients, MomentType, OutOfMemory, ProductPrecision, Rotation, Routing, Store, bf16,
    composite, free_host_memory,
};

use crate::{
    cpu::{Cpu, Scratch},
    kernels::{
        product::{Panels, Source},
        rope::Table,
    },
    memory::grown,
    ops::{
        adamw::{self, Moment},
        attention, bias, columns, copy, divergence, embedding,
        experts::{self, Experts, Matrices},
        fp8,
        head::{log_prob, sample},
        mixture::{self, Mixture},
        operand::Operand,
        product::{
            OnTheFly, Packed, Weights, multiply, multiply_by_weights, multiply_on_the_fly, pack_on_the_fly,
        },
        rms_norm, rope,
        route::{self, Routes},
        swiglu,
    },
    tables::Kernels,
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

/// The values of `w`, which must be held.
#[track_caller]
fn values(w: &Matrix<Cpu>) -> Source<'_> {
    let [out, inp] = w.shape();
    Source::new(first(&w.values, out * inp, "w"), out, inp)
}

/// What a backward reads of `w`: its values, or where none are held its packed form.
#[track_caller]
fn weights<'a>(w: &'a Matrix<Cpu>, kernels: &Kernels) -> Weights<'a> {
    match w.packed() {
        Some(packed) if w.values.is_empty() => Weights::Packed(packed.panels(kernels)),
        _ => Weights::Values(values(w)),
    }
}

/// What products in FP8 read of matrix `i` of `w`: its packed form, or where none is held its values.
#[track_caller]
fn in_fp8(w: &Matrix<Cpu>, i: usize) -> fp8::Weights<'_> {
    let [out, inp] = w.shape();
    match w.packed() {
        Some(packed) => fp8::Weights::Packed(packed, i),
        None => fp8::Weights::Values(&values_of_all(w)[i * out * inp..][..out * inp]),
    }
}

/// As [`in_fp8`], for a backward: the values where they are held.
#[track_caller]
fn in_fp8_backward(w: &Matrix<Cpu>, i: usize) -> fp8::Weights<'_> {
    let [out, inp] = w.shape();
    match w.packed() {
        Some(packed) if w.values.is_empty() => fp8::Weights::Packed(packed, i),
        _ => fp8::Weights::Values(&values_of_all(w)[i * out * inp..][..out * inp]),
    }
}

/// What a backward of experts reads of `w`, as [`weights`].
#[track_caller]
fn matrices(w: &Matrix<Cpu>) -> Matrices<'_> {
    match w.packed() {
        Some(packed) if w.values.is_empty() => Matrices::Packed(packed),
        _ => Matrices::Values(values_of_all(w)),
    }
}

/// The values of all matrices of `w`, which must be held.
#[track_caller]
fn values_of_all(w: &Matrix<Cpu>) -> &[f32] {
    let [out, inp] = w.shape();
    first(&w.values, w.matrices() * out * inp, "w")
}

/// The panels of the output head `w`, which is held packed.
fn packed<'a>(w: &'a Matrix<Cpu>, kernels: &Kernels) -> Panels<'a> {
    w.packed().expect("the output head is packed").panels(kernels)
}

/// The inputs of attention, as many rows as are read.
fn attended(inputs: Attention<'_, Cpu>) -> attention::Inputs<'_> {
    let Attention { q, k, v, layout, heads, scale } = inputs;
    let (n, m) = (layout.len(), layout.key_rows());
    attention::Inputs {
        q: first(q, n * heads.query_features(), "q"),
        k: first(k, m * heads.key_features(), "k"),
        v: v.map(|v| first(v, m * heads.value_features(), "v")),
        sequences: &layout.sequences,
        heads,
        scale: scale as f32,
    }
}

/// The positions of `layout`, for a turn by `rotation` and `table`.
#[track_caller]
fn positions<'a>(table: Table<'_>, rotation: Rotation, layout: &'a Layout) -> &'a [u32] {
    let positions = &layout.positions;
    rotation.check();
    assert_eq!(positions.len(), layout.len(), "a position for each row");
    for (table, name) in [(table.cos, "cos"), (table.sin, "sin")] {
        let needed = positions.iter().max().map_or(0, |&last| (last as usize + 1) * rotation.dim / 2);
        assert!(table.len() >= needed, "{name} holds {} elements, its rows need {needed}", table.len());
    }
    positions
}

impl Cpu {
    /// The experts of `w` and `routes`, where they are computed an expert a task: from weights that are not packed.
    fn mixture<'a>(&self, w: [&'a Matrix<Self>; 3], routes: &'a Routes) -> Option<Mixture<'a>> {
        let ([features, hidden], copies) = (w[0].shape(), &routes.copies);
        assert!(w[1].shape() == [features, hidden] && w[2].shape() == [hidden, features]);
        assert!(w.iter().all(|w| w.matrices() == copies.experts()), "a matrix for each expert");
        let read = |w: &&Matrix<Self>| w.precision() == ProductPrecision::Device && w.packed().is_none();
        let suits = w.iter().all(read) && mixture::suits(&self.threads, hidden, features, copies);
        let weights = &routes.of_copies;
        suits.then(|| Mixture { w: w.map(values_of_all), hidden, features, copies, weights })
    }

    fn rotate(&self, x: &mut AlignedVec<f32>, table: Table<'_>, rotation: Rotation, layout: &Layout) {
        let positions = positions(table, rotation, layout);
        let x = first_mut(x, positions.len() * rotation.features(), "x");
        rope::rotate(self.kernels, &self.threads, x, table, positions, rotation);
    }
}

impl Backend for Cpu {
    type Buf = AlignedVec<f32>;
    type Packed = Packed;
    type Operand = Operand;
    type Keys = AlignedVec<f32>;
    type Layout = Layout;
    type Routes = Routes;
    type Moment = Moment;

    fn name(&self) -> String {
        format!("cpu, {}", self.isa())
    }

    fn bytes(&self, len: usize) -> usize {
        AlignedVec::<f32>::bytes_of(len)
    }

    fn len(&self, buf: &Self::Buf) -> usize {
        buf.len()
    }

    fn held_bytes(&self, packed: &Packed, _: [usize; 3], _: ProductPrecision) -> usize {
        packed.held_bytes()
    }

    fn packed_bytes(&self, shape: [usize; 3], precision: ProductPrecision) -> usize {
        Packed::bytes(&self.kernels.format, shape, precision)
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

    fn ceilings(&self) -> Result<Option<Ceilings>, OutOfMemory> {
        Self::ceilings(self).map(Some)
    }

    fn pass_rows(&self) -> usize {
        PASS_ROWS
    }

    fn zeros(&self, len: usize) -> Result<Self::Buf, OutOfMemory> {
        AlignedVec::zeros(len)
    }

    fn upload(&self, values: &[f32]) -> Result<Self::Buf, OutOfMemory> {
        let mut buf = AlignedVec::zeros(values.len())?;
        copy::copy(&self.threads, &mut buf, values);
        Ok(buf)
    }

    fn write(&self, buf: &mut Self::Buf, values: &[f64]) {
        first_mut(buf, values.len(), "buf").iter_mut().zip(values).for_each(|(y, &x)| *y = x as f32);
    }

    fn read<const N: usize>(&self, parts: [(&Self::Buf, usize); N]) -> [Vec<f32>; N] {
        parts.map(|(buf, n)| first(buf, n, "buf").to_vec())
    }

    fn read_exact<const N: usize>(&self, parts: [(&Self::Buf, usize); N]) -> [Vec<f64>; N] {
        parts.map(|(buf, n)| first(buf, n, "buf").iter().copied().map(f64::from).collect())
    }

    fn clear(&self, buf: &mut Self::Buf) {
        copy::clear(&self.threads, buf);
    }

    fn copy(&self, y: &mut Self::Buf, x: &Self::Buf, n: usize) {
        copy::copy(&self.threads, first_mut(y, n, "y"), first(x, n, "x"));
    }

    fn pack(
        &self,
        w: &Self::Buf,
        shape: [usize; 3],
        precision: ProductPrecision,
    ) -> Result<Packed, OutOfMemory> {
        let mut packed = Packed::new(self.kernels, shape, precision)?;
        packed.fill(self.kernels, &self.threads, w);
        Ok(packed)
    }

    fn upload_packed(
        &self,
        values: &[f32],
        shape: [usize; 3],
        precision: ProductPrecision,
    ) -> Result<Packed, OutOfMemory> {
        Packed::fixed(self.kernels, &self.threads, values, shape, precision)
    }

    fn repack(&self, packed: &mut Packed, w: &Self::Buf) {
        packed.fill(self.kernels, &self.threads, w);
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

    fn operand(&self, len: usize, keep: Keep) -> Result<Operand, OutOfMemory> {
        Operand::zeros(self.kernels, len, keep)
    }

    fn operand_bytes(&self, len: usize, keep: Keep) -> usize {
        Operand::bytes(self.kernels, len, keep)
    }

    fn values<'a>(&self, x: &'a Operand) -> &'a Self::Buf {
        x.values()
    }

    fn values_mut<'a>(&self, x: &'a mut Operand) -> &'a mut Self::Buf {
        x.values_mut()
    }

    fn round(&self, x: &mut Operand, n: usize) {
        x.round(self.kernels, &self.threads, 0..n);
    }

    fn scale(&self, x: &mut Operand, factor: f32, n: usize) {
        x.scale(self.kernels, &self.threads, factor, n);
    }

    fn write_operand(&self, x: &mut Operand, values: &[f64]) {
        x.write(self.kernels, &self.threads, values);
    }

    fn read_operand(&self, x: &Operand, n: usize) -> Vec<f32> {
        x.read(n)
    }

    fn keys(&self, len: usize) -> Result<Self::Keys, OutOfMemory> {
        AlignedVec::zeros(len)
    }

    fn keys_bytes(&self, len: usize) -> usize {
        self.bytes(len)
    }

    fn store_keys(&self, keys: &mut Self::Keys, x: &Self::Buf, features: usize, layout: &Layout) {
        let x = first(x, layout.len() * features, "x");
        if layout.cache_rows.is_empty() {
            copy::copy(&self.threads, first_mut(keys, x.len(), "keys"), x);
        } else {
            assert_rows(keys, &layout.cache_rows, features, "keys");
            embedding::scatter(keys, x, &layout.cache_rows, features);
        }
    }

    fn embedding_forward(&self, y: &mut Self::Buf, w: &Self::Buf, features: usize, layout: &Layout) {
        assert_rows(w, &layout.ids, features, "w");
        let y = first_mut(y, layout.len() * features, "y");
        embedding::gather(&self.threads, y, w, &layout.ids, features);
    }

    fn embedding_backward(&self, dw: &mut Self::Buf, dy: &Self::Buf, features: usize, layout: &Layout) {
        assert_rows(dw, &layout.ids, features, "dw");
        let dy = first(dy, layout.len() * features, "dy");
        embedding::scatter_add(self.kernels, &self.threads, dw, dy, &layout.ids, features);
    }

    fn head_rows_forward(&self, y: &mut Operand, x: &Operand, features: usize, layout: &Layout) {
        x.matrix(layout.len(), features, "x");
        y.gather(&self.threads, x, &layout.head_rows, features);
    }

    fn head_rows_backward(&self, dx: &mut Self::Buf, dy: &Self::Buf, features: usize, layout: &Layout) {
        let dx = first_mut(dx, layout.len() * features, "dx");
        let dy = first(dy, layout.head_rows.len() * features, "dy");
        copy::clear(&self.threads, dx);
        embedding::scatter(dx, dy, &layout.head_rows, features);
    }

    fn linear_forward(&self, y: &mut Self::Buf, x: &Operand, w: &Matrix<Self>, n: usize, store: Store) {
        let [out, inp] = w.shape();
        let (y, x) = (first_mut(y, n * out, "y"), x.matrix(n, inp, "x"));
        if w.precision() == ProductPrecision::Fp8 {
            let (shape, scratch, w) = (w.shape(), &mut self.scratch().fp8, in_fp8(w, 0));
            fp8::forward(self.kernels, &self.threads, y, x, w, shape, store, scratch);
        } else if let Some(w) = w.packed() {
            multiply(self.kernels, &self.threads, y, x, w.panels(self.kernels), store);
        } else {
            // As deep as a packed matrix: where it is cut, the sum would be rounded there.
            let (scratch, w) = (&mut *self.scratch(), values(w).transposed());
            let w = pack_on_the_fly(self.kernels, &self.threads, &mut scratch.packed, w);
            multiply(self.kernels, &self.threads, y, x, w, store);
        }
    }

    fn linear_backward_input(
        &self,
        dx: &mut Self::Buf,
        dy: &Operand,
        w: &Matrix<Self>,
        n: usize,
        store: Store,
    ) {
        let [out, inp] = w.shape();
        let (dx, dy) = (first_mut(dx, n * inp, "dx"), dy.matrix(n, out, "dy"));
        let Scratch { packed: panels, rows, fp8: scratch, .. } = &mut *self.scratch();
        if w.precision() == ProductPrecision::Fp8 {
            let (shape, w) = (w.shape(), in_fp8_backward(w, 0));
            return fp8::backward_input(self.kernels, &self.threads, dx, dy, w, shape, store, scratch);
        }
        let (w, memory) = (weights(w, self.kernels), OnTheFly { panels, rows });
        multiply_by_weights(self.kernels, &self.threads, dx, dy, w, store, memory);
    }

    fn linear_backward_weight(
        &self,
        dw: &mut Self::Buf,
        dy: &Operand,
        x: &Operand,
        n: usize,
        [out, inp]: [usize; 2],
        precision: ProductPrecision,
    ) {
        let dw = first_mut(dw, out * inp, "dw");
        let (dy, x) = (dy.matrix(n, out, "dy"), x.matrix(n, inp, "x"));
        let Scratch { packed: scratch, fp8: in_fp8, .. } = &mut *self.scratch();
        if precision == ProductPrecision::Fp8 {
            return fp8::backward_weight(self.kernels, &self.threads, dw, dy, x, in_fp8);
        }
        multiply_on_the_fly(self.kernels, &self.threads, dw, dy.transposed(), x, Store::Add, scratch);
    }

    fn bias_forward(&self, y: &mut Self::Buf, bias: &Self::Buf, features: usize, n: usize) {
        let (y, b) = (first_mut(y, n * features, "y"), first(bias, features, "bias"));
        bias::forward(self.kernels, &self.threads, y, b);
    }

    fn bias_backward(&self, d_bias: &mut Self::Buf, dy: &Operand, features: usize, n: usize) {
        let (db, dy) = (first_mut(d_bias, features, "d_bias"), first(dy.values(), n * features, "dy"));
        bias::backward(self.kernels, &self.threads, db, dy);
    }

    fn rms_norm_forward(
        &self,
        y: &mut Operand,
        rstd: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        eps: f32,
        n: usize,
    ) {
        let (x, rstd) = (first(x, n * w.len(), "x"), first_mut(rstd, n, "rstd"));
        rms_norm::forward(self.kernels, &self.threads, y, None, rstd, x, w, eps);
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
        let x = first(x, n * w.len(), "x");
        let (y, rstd) = (first_mut(y, n * w.len(), "y"), first_mut(rstd, n, "rstd"));
        rms_norm::forward_heads(self.kernels, &self.threads, y, rstd, x, w, eps);
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
        let features = w.len();
        let (dy, x) = (first(dy, n * features, "dy"), first(x, n * features, "x"));
        let (dx, dw) = (first_mut(dx, n * features, "dx"), dw.map(|dw| first_mut(dw, features, "dw")));
        let rstd = first(rstd, n, "rstd");
        rms_norm::backward(self.kernels, &self.threads, dx, dw, dy, x, w, rstd);
    }

    fn stream_norm_forward(
        &self,
        y: &mut Operand,
        saved: &mut Self::Buf,
        rstd: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        eps: f32,
        n: usize,
    ) {
        let len = n * w.len();
        let (saved, rstd) = (first_mut(saved, len, "saved"), first_mut(rstd, n, "rstd"));
        rms_norm::forward(self.kernels, &self.threads, y, Some(saved), rstd, first(x, len, "x"), w, eps);
    }

    fn stream_norm_backward(
        &self,
        dx: &mut Operand,
        dw: Option<&mut Self::Buf>,
        dy: &Self::Buf,
        x: &Self::Buf,
        w: &Self::Buf,
        rstd: &Self::Buf,
        n: usize,
    ) {
        let features = w.len();
        let read = [first(dy, n * features, "dy"), first(x, n * features, "x")];
        let (dw, rstd) = (dw.map(|dw| first_mut(dw, features, "dw")), first(rstd, n, "rstd"));
        rms_norm::backward_of_stream(self.kernels, &self.threads, dx, dw, read, w, rstd);
    }

    fn heads_backward(
        &self,
        dy: &mut Operand,
        norm: Option<HeadNormBackward<'_, Self>>,
        [cos, sin]: [&Self::Buf; 2],
        [heads, dim]: [usize; 2],
        _: Keep,
        layout: &Layout,
    ) {
        if norm.is_some() {
            return composite::heads_backward(self, dy, norm, [cos, sin], [heads, dim], layout);
        }
        let (table, rotation) = (Table { cos, sin, sign: -1.0 }, Rotation::whole(heads, dim));
        let positions = positions(table, rotation, layout);
        rope::rotate_operand(self.kernels, &self.threads, dy, table, positions, rotation);
    }

    fn rope_forward(
        &self,
        x: &mut Self::Buf,
        cos: &Self::Buf,
        sin: &Self::Buf,
        rotation: Rotation,
        layout: &Layout,
    ) {
        self.rotate(x, Table { cos, sin, sign: 1.0 }, rotation, layout);
    }

    fn rope_backward(
        &self,
        dx: &mut Self::Buf,
        cos: &Self::Buf,
        sin: &Self::Buf,
        rotation: Rotation,
        layout: &Layout,
    ) {
        self.rotate(dx, Table { cos, sin, sign: -1.0 }, rotation, layout);
    }

    fn columns(
        &self,
        y: &mut Self::Buf,
        x: &Self::Buf,
        [to, from]: [Columns; 2],
        [heads, width]: [usize; 2],
        n: usize,
        store: Store,
    ) {
        to.check(heads, width);
        from.check(heads, width);
        let (y, x) = (first_mut(y, n * to.features, "y"), first(x, n * from.features, "x"));
        columns::copy(self.kernels, &self.threads, y, x, to, from, heads, width, store);
    }

    fn attention_forward(&self, out: &mut Operand, log_sum_exp: &mut Self::Buf, inputs: Attention<'_, Self>) {
        let Attention { layout, heads, .. } = inputs;
        let (inputs, features) = (attended(inputs), heads.output_features());
        let log_sum_exp = first_mut(log_sum_exp, layout.len() * heads.query, "log_sum_exp");
        let n = layout.len() * features;
        // Only where products are bf16 and nobody keeps the values.
        let mut scratch = (!out.keeps_values()).then(|| self.scratch());
        let scratch = scratch.as_mut().map_or(&mut [][..], |scratch| grown(&mut scratch.logits, n));
        let rows = layout.sequences.iter().map(|s| s.rows.start * features..s.rows.end * features);
        out.compute(self.kernels, &self.threads, n, scratch, rows, |out| {
            attention::forward(self.kernels, &self.threads, out, log_sum_exp, inputs);
        });
    }

    fn attention_backward(
        &self,
        [dq, dk, dv]: [&mut Self::Buf; 3],
        dout: &Self::Buf,
        inputs: Attention<'_, Self>,
        out: &Operand,
        log_sum_exp: &Self::Buf,
    ) {
        let Attention { layout, heads, .. } = inputs;
        let (n, m) = (layout.len(), layout.key_rows());
        let d = [
            first_mut(dq, n * heads.query_features(), "dq"),
            first_mut(dk, m * heads.key_features(), "dk"),
            first_mut(dv, m * heads.value_features(), "dv"),
        ];
        let of_outputs = n * heads.output_features();
        let saved = attention::Saved {
            dout: first(dout, of_outputs, "dout"),
            out: first(out.values(), of_outputs, "out"),
            log_sum_exp: first(log_sum_exp, layout.len() * heads.query, "log_sum_exp"),
        };
        attention::backward(self.kernels, &self.threads, d, attended(inputs), saved);
    }

    fn swiglu_forward(&self, y: &mut Operand, gate: &Self::Buf, up: &Self::Buf, n: usize) {
        swiglu::forward(self.kernels, &self.threads, y, first(gate, n, "gate"), first(up, n, "up"));
    }

    fn swiglu_backward(&self, dy: &mut Operand, gate: &mut Operand, up: &mut Operand, _: Keep, n: usize) {
        swiglu::backward(self.kernels, &self.threads, [dy, gate, up], n);
    }

    fn log_prob_forward(
        &self,
        log_probs: &mut Self::Buf,
        entropy: &mut Self::Buf,
        log_sum_exp: &mut Self::Buf,
        x: &Operand,
        w: &Matrix<Self>,
        temperature: f32,
        layout: &Layout,
    ) {
        let (targets, w) = (&layout.targets, packed(w, self.kernels));
        let n = targets.len();
        assert!(targets.iter().all(|&t| (t as usize) < w.columns()), "a target beyond the vocabulary");
        let outputs = [
            first_mut(log_probs, n, "log_probs"),
            first_mut(entropy, n, "entropy"),
            first_mut(log_sum_exp, n, "log_sum_exp"),
        ];
        let (x, scratch) = (x.matrix(n, w.k(), "x"), &mut self.scratch().logits);
        log_prob::forward(self.kernels, &self.threads, outputs, x, w, targets, temperature, scratch);
    }

    fn log_prob_backward(
        &self,
        dx: &mut Self::Buf,
        dw: Option<&mut Self::Buf>,
        d_log_probs: &Self::Buf,
        x: &Operand,
        w: &Matrix<Self>,
        log_sum_exp: &Self::Buf,
        temperature: f32,
        layout: &Layout,
    ) {
        let (targets, [vocab, features]) = (&layout.targets, w.shape());
        let n = targets.len();
        assert!(targets.iter().all(|&t| (t as usize) < vocab), "a target beyond the vocabulary");
        let rows = log_prob::Rows {
            d_log_probs: first(d_log_probs, n, "d_log_probs"),
            targets,
            log_sum_exp: first(log_sum_exp, n, "log_sum_exp"),
        };
        let dx = first_mut(dx, n * features, "dx");
        let dw = dw.map(|dw| first_mut(dw, vocab * features, "dw"));
        let x = x.matrix(n, features, "x");
        let head = log_prob::Head { w: weights(w, self.kernels), packed: packed(w, self.kernels) };
        let Scratch { packed, packed_rows, rows: of_w, logits, .. } = &mut *self.scratch();
        let w = OnTheFly { panels: packed, rows: of_w };
        let scratch = log_prob::Scratch { logits, x: packed_rows, w };
        log_prob::backward(self.kernels, &self.threads, dx, dw, rows, x, head, temperature, scratch);
    }

    fn sample(
        &self,
        tokens: &mut Self::Buf,
        log_probs: &mut Self::Buf,
        full_log_probs: &mut Self::Buf,
        x: &Operand,
        w: &Matrix<Self>,
        layout: &Layout,
    ) {
        let (draws, w) = (&layout.draws, packed(w, self.kernels));
        let n = draws.len();
        assert!(w.columns() <= 1 << 24, "{} tokens: an f32 holds their numbers up to 2^24", w.columns());
        let drawn = sample::Drawn {
            tokens: first_mut(tokens, n, "tokens"),
            log_probs: first_mut(log_probs, n, "log_probs"),
            full_log_probs: first_mut(full_log_probs, n, "full_log_probs"),
        };
        let x = x.matrix(n, w.k(), "x");
        let Scratch { packed, logits, .. } = &mut *self.scratch();
        let scratch = sample::Scratch { partials: logits, logits: packed };
        sample::sample(self.kernels, &self.threads, drawn, x, w, draws, scratch);
    }

    fn divergence(
        &self,
        d: &mut Self::Buf,
        student: &mut Operand,
        teacher: &mut Self::Buf,
        of: Divergence,
        weight: f64,
        [n, own, other]: [usize; 3],
    ) {
        student.matrix(n, own, "student");
        let (d, teacher) = (first_mut(d, n, "d"), first_mut(teacher, n * other, "teacher"));
        let sizes = [own, other];
        divergence::divergence(self.kernels, &self.threads, d, student, teacher, of, weight, sizes);
    }

    fn routes(&self, rows: usize, of: Routing) -> Result<Routes, OutOfMemory> {
        Routes::new(rows, of)
    }

    fn routes_bytes(&self, rows: usize, of: Routing) -> usize {
        Routes::bytes(rows, of)
    }

    fn read_routes(&self, routes: &Routes) -> (Vec<u32>, Vec<f64>) {
        routes.read()
    }

    fn route_forward(
        &self,
        routes: &mut Routes,
        scores: &mut Self::Buf,
        bias: Option<&Self::Buf>,
        of: Routing,
        n: usize,
    ) {
        of.check();
        let scores = first_mut(scores, n * of.experts, "scores");
        let bias = bias.map(|bias| first(bias, of.experts, "bias"));
        route::forward(self.kernels, &self.threads, routes, scores, bias, of);
    }

    fn route_in_turn(&self, routes: &mut Routes, n: usize) {
        routes.in_turn(n);
    }

    fn route_backward(
        &self,
        d_logits: &mut Operand,
        load: Option<&mut Self::Buf>,
        d_weights: &Self::Buf,
        scores: &Self::Buf,
        routes: &Routes,
        of: Routing,
        balance: f32,
        layout: &Layout,
    ) {
        let n = layout.len();
        assert_eq!(routes.copies.len(), n * of.per_token, "routes of another pass");
        if let Some(load) = load {
            route::count(first_mut(load, of.experts, "load"), &routes.copies);
        }
        let inputs = route::Backward {
            routes,
            of,
            scores: first(scores, n * of.experts, "scores"),
            d_weights: first(d_weights, routes.copies.len(), "d_weights"),
            balance,
            sequences: &layout.sequences,
        };
        route::backward(self.kernels, &self.threads, d_logits, inputs);
    }

    fn copies_forward(&self, y: &mut Operand, x: &Operand, routes: &Routes, features: usize) {
        let copies = &routes.copies;
        x.matrix(copies.len() / copies.per_row(), features, "x");
        y.gather(&self.threads, x, copies.rows(), features);
    }

    fn sum_copies(&self, y: &mut Self::Buf, x: &Self::Buf, routes: &Routes, features: usize, store: Store) {
        let copies = &routes.copies;
        let y = first_mut(y, copies.len() / copies.per_row() * features, "y");
        let x = first(x, copies.len() * features, "x");
        experts::sum_copies(self.kernels, &self.threads, y, x, copies, features, store);
    }

    fn weighted_swiglu_forward(
        &self,
        y: &mut Operand,
        gate: &Self::Buf,
        up: &Self::Buf,
        routes: &Routes,
        features: usize,
    ) {
        let n = routes.copies.len() * features;
        let (gate, up) = (first(gate, n, "gate"), first(up, n, "up"));
        let weights = &routes.of_copies;
        experts::weighted_swiglu(self.kernels, &self.threads, y, gate, up, weights, features);
    }

    fn weighted_swiglu_backward(
        &self,
        d_weights: &mut Self::Buf,
        dy: &mut Operand,
        gate: &mut Operand,
        up: &mut Operand,
        _: Keep,
        routes: &Routes,
        features: usize,
    ) {
        let (weights, operands) = (&routes.of_copies, [dy, gate, up]);
        let d_weights = first_mut(d_weights, weights.len(), "d_weights");
        let (kernels, threads) = (self.kernels, &self.threads);
        experts::weighted_swiglu_backward(kernels, threads, d_weights, operands, weights, features);
    }

    fn experts_forward(
        &self,
        y: &mut Self::Buf,
        x: &Operand,
        w: &Matrix<Self>,
        routes: &Routes,
        store: Store,
    ) {
        let (shape, copies) = (w.shape(), &routes.copies);
        assert_eq!(w.matrices(), copies.experts(), "a matrix for each expert");
        let ([out, inp], n) = (shape, copies.len());
        let (y, x) = (first_mut(y, n * out, "y"), x.matrix(n, inp, "x"));
        if w.precision() == ProductPrecision::Fp8 {
            let scratch = &mut self.scratch().fp8;
            for e in experts::busy(copies) {
                let (y, x) = (&mut y[copies.of(e).start * out..], experts::part(x, copies.of(e)));
                fp8::forward(self.kernels, &self.threads, y, x, in_fp8(w, e), shape, store, scratch);
            }
            return;
        }
        let w = w.packed().map_or_else(|| Matrices::Values(values_of_all(w)), Matrices::Packed);
        let (experts, scratch) = (Experts { w, shape, copies }, &mut self.scratch().packed);
        experts::forward(self.kernels, &self.threads, y, x, experts, store, scratch);
    }

    fn experts_backward_input(
        &self,
        dx: &mut Self::Buf,
        dy: &Operand,
        w: &Matrix<Self>,
        routes: &Routes,
        store: Store,
    ) {
        let (shape, copies) = (w.shape(), &routes.copies);
        assert_eq!(w.matrices(), copies.experts(), "a matrix for each expert");
        let ([out, inp], n) = (shape, copies.len());
        let (dx, dy) = (first_mut(dx, n * inp, "dx"), dy.matrix(n, out, "dy"));
        let Scratch { packed: panels, rows, fp8: scratch, .. } = &mut *self.scratch();
        if w.precision() == ProductPrecision::Fp8 {
            for e in experts::busy(copies) {
                let (dx, dy) = (&mut dx[copies.of(e).start * inp..], experts::part(dy, copies.of(e)));
                let (w, threads) = (in_fp8_backward(w, e), &self.threads);
                fp8::backward_input(self.kernels, threads, dx, dy, w, shape, store, scratch);
            }
            return;
        }
        let experts = Experts { w: matrices(w), shape, copies };
        let memory = OnTheFly { panels, rows };
        experts::backward_input(self.kernels, &self.threads, dx, dy, experts, store, memory);
    }

    fn experts_backward_weight(
        &self,
        dw: &mut Self::Buf,
        dy: &Operand,
        x: &Operand,
        routes: &Routes,
        [out, inp]: [usize; 2],
        precision: ProductPrecision,
    ) {
        let copies = &routes.copies;
        let (n, dw) = (copies.len(), first_mut(dw, copies.experts() * out * inp, "dw"));
        let (dy, x) = (dy.matrix(n, out, "dy"), x.matrix(n, inp, "x"));
        let Scratch { packed: scratch, fp8: in_fp8, .. } = &mut *self.scratch();
        if precision == ProductPrecision::Fp8 {
            for e in experts::busy(copies) {
                let (dy, x) = (experts::part(dy, copies.of(e)), experts::part(x, copies.of(e)));
                let dw = &mut dw[e * out * inp..];
                fp8::backward_weight(self.kernels, &self.threads, dw, dy, x, in_fp8);
            }
            return;
        }
        experts::backward_weight(self.kernels, &self.threads, dw, dy, x, copies, scratch);
    }

    fn mixture_forward(
        &self,
        out: &mut Self::Buf,
        [gate, up]: [&mut Operand; 2],
        x: &Operand,
        w: [&Matrix<Self>; 3],
        routes: &Routes,
        room: [&mut Operand; 2],
    ) {
        let Some(of) = self.mixture(w, routes) else {
            return composite::mixture_forward(self, out, [gate, up], x, w, routes, room);
        };
        let (copies, rows) = (of.copies.len(), of.copies.len() / of.copies.per_row());
        let out = first_mut(out, copies * of.hidden, "out");
        let [gate, up] = [(gate, "gate"), (up, "up")]
            .map(|(y, name)| first_mut(y.values_mut(), copies * of.features, name));
        let x = x.matrix(rows, of.hidden, "x");
        mixture::forward(self.kernels, &self.threads, out, [gate, up], x, of);
    }

    fn mixture_backward(
        &self,
        d: MixtureGradients<'_, Self>,
        dy: &Operand,
        x: &Operand,
        [gate, up]: [&mut Operand; 2],
        w: [&Matrix<Self>; 3],
        routes: &Routes,
        room: [&mut Operand; 3],
    ) {
        let Some(of) = self.mixture(w, routes) else {
            return composite::mixture_backward(self, d, dy, x, [gate, up], w, routes, room);
        };
        let (copies, rows) = (of.copies.len(), of.copies.len() / of.copies.per_row());
        let all = of.copies.experts() * of.hidden * of.features;
        let d = mixture::Gradients {
            copies: first_mut(d.copies, copies * of.hidden, "d_copies"),
            weights: first_mut(d.weights, copies, "d_weights"),
            matrices: d.matrices.map(|dw| dw.map(|dw| first_mut(dw, all, "dw"))),
        };
        let [gate, up] = [(gate, "gate"), (up, "up")]
            .map(|(y, name)| first_mut(y.values_mut(), copies * of.features, name));
        let [dy, x] = [(dy, "dy"), (x, "x")].map(|(x, name)| x.matrix(rows, of.hidden, name));
        mixture::backward(self.kernels, &self.threads, d, dy, x, [gate, up], of);
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
