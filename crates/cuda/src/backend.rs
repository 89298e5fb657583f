//! The trait: calls the operations, which assert the sizes of their buffers.

use koan_backend::{
    AdamWStep, Attention, Backend, Columns, Divergence, HeadNormBackward, HeadNorms, Heads, Keep, Layout,
    Matrix, MomentType, OutOfMemory, ProductPrecision, Rotation, Routing, Store,
};

use crate::{
    cuda::Cuda,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::{
        adamw::{self, Moment},
        attention, bias, columns, divergence, embedding, experts, heads, log_prob,
        operand::{self, Operand},
        product::{self, Packed},
        rms_norm, rope,
        route::{self, Routes},
        sample, swiglu,
    },
};

/// Rows of a pass that keep products busy: at 128 x 128 a block, the narrowest products of small models then fill a GPU.
const PASS_ROWS: usize = 8192;

/// Bytes that operations may take for their time, at most: logits of a wave, sums of parts. No plan counts them.
const SCRATCH: u64 = 3 << 29;

impl Backend for Cuda {
    type Buf = Memory<f32>;
    type Packed = Packed;
    type Operand = Operand;
    type Keys = Memory<Bf16>;
    type Layout = DeviceLayout;
    type Routes = Routes;
    type Moment = Moment;

    fn name(&self) -> String {
        self.device.name().to_owned()
    }

    fn bytes(&self, len: usize) -> usize {
        Memory::<f32>::bytes(len)
    }

    fn len(&self, buf: &Self::Buf) -> usize {
        buf.len()
    }

    fn packed_bytes(&self, shape: [usize; 3], precision: ProductPrecision) -> usize {
        Packed::bytes(shape, precision)
    }

    fn moment_bytes(&self, len: usize, kind: MomentType) -> usize {
        match kind {
            MomentType::F32 => Memory::<f32>::bytes(len),
            MomentType::Bf16 => Memory::<Bf16>::bytes(len),
        }
    }

    fn free_memory(&self) -> Option<u64> {
        self.device.free_memory().map(|free| free.saturating_sub(SCRATCH))
    }

    fn pass_rows(&self) -> usize {
        PASS_ROWS
    }

    fn trains_packed(&self) -> bool {
        true
    }

    fn zeros(&self, len: usize) -> Result<Self::Buf, OutOfMemory> {
        Memory::zeros(&self.device, len)
    }

    fn undefined(&self, len: usize) -> Result<Self::Buf, OutOfMemory> {
        self.new_memory(len)
    }

    fn upload(&self, values: &[f32]) -> Result<Self::Buf, OutOfMemory> {
        Memory::upload(&self.device, values)
    }

    fn write(&self, buf: &mut Self::Buf, values: &[f64]) {
        buf.write(&values.iter().map(|&x| x as f32).collect::<Vec<_>>());
    }

    fn read<const N: usize>(&self, parts: [(&Self::Buf, usize); N]) -> [Vec<f32>; N] {
        parts.map(|(buf, n)| buf.read(n))
    }

    fn read_exact<const N: usize>(&self, parts: [(&Self::Buf, usize); N]) -> [Vec<f64>; N] {
        self.read(parts).map(|values| values.into_iter().map(f64::from).collect())
    }

    fn clear(&self, buf: &mut Self::Buf) {
        buf.zero();
    }

    fn copy(&self, y: &mut Self::Buf, x: &Self::Buf, n: usize) {
        self.device.copy(y.first(n, "y"), x.first(n, "x"), Memory::<f32>::bytes(n));
    }

    fn pack(
        &self,
        w: &Self::Buf,
        shape: [usize; 3],
        precision: ProductPrecision,
    ) -> Result<Packed, OutOfMemory> {
        let mut packed = Packed::new(self, shape, precision)?;
        packed.fill(self, w);
        Ok(packed)
    }

    fn repack(&self, packed: &mut Packed, w: &Self::Buf) {
        packed.fill(self, w);
    }

    fn upload_layout(&self, layout: Layout) -> Result<DeviceLayout, OutOfMemory> {
        DeviceLayout::new(self, layout)
    }

    fn rows(&self, layout: &DeviceLayout) -> usize {
        layout.host.len()
    }

    fn head_rows(&self, layout: &DeviceLayout) -> usize {
        layout.host.head_rows.len()
    }

    fn pairs(&self, layout: &DeviceLayout) -> usize {
        layout.host.pairs()
    }

    fn is_cached(&self, layout: &DeviceLayout) -> bool {
        !layout.host.cache_rows.is_empty()
    }

    fn operand(&self, len: usize, keep: Keep) -> Result<Operand, OutOfMemory> {
        Operand::new(self, len, keep)
    }

    fn operand_bytes(&self, len: usize, keep: Keep) -> usize {
        Operand::bytes(len, keep)
    }

    fn values<'a>(&self, x: &'a Operand) -> &'a Self::Buf {
        x.values()
    }

    fn values_mut<'a>(&self, x: &'a mut Operand) -> &'a mut Self::Buf {
        x.values_mut()
    }

    fn round(&self, x: &mut Operand, n: usize) {
        operand::round(self, x, n);
    }

    fn scale(&self, x: &mut Operand, factor: f32, n: usize) {
        operand::scale(self, x, factor, n);
    }

    fn write_operand(&self, x: &mut Operand, values: &[f64]) {
        x.write(values);
    }

    fn read_operand(&self, x: &Operand, n: usize) -> Vec<f32> {
        x.read(n)
    }

    fn keys(&self, len: usize) -> Result<Self::Keys, OutOfMemory> {
        self.new_memory(len)
    }

    fn keys_bytes(&self, len: usize) -> usize {
        Memory::<Bf16>::bytes(len)
    }

    fn store_keys(&self, keys: &mut Self::Keys, x: &Self::Buf, features: usize, layout: &DeviceLayout) {
        embedding::store_keys(self, keys, x, features, layout);
    }

    fn embedding_forward(&self, y: &mut Self::Buf, w: &Self::Buf, features: usize, layout: &DeviceLayout) {
        embedding::forward(self, y, w, features, layout);
    }

    fn embedding_backward(&self, dw: &mut Self::Buf, dy: &Self::Buf, features: usize, layout: &DeviceLayout) {
        embedding::backward(self, dw, dy, features, layout);
    }

    fn head_rows_forward(&self, y: &mut Operand, x: &Operand, features: usize, layout: &DeviceLayout) {
        embedding::head_rows_forward(self, y, x, features, layout);
    }

    fn head_rows_backward(&self, dx: &mut Self::Buf, dy: &Self::Buf, features: usize, layout: &DeviceLayout) {
        embedding::head_rows_backward(self, dx, dy, features, layout);
    }

    fn linear_forward(&self, y: &mut Self::Buf, x: &Operand, w: &Matrix<Self>, n: usize, store: Store) {
        product::linear_forward(self, y, x, w, n, store);
    }

    fn linear_backward_input(
        &self,
        dx: &mut Self::Buf,
        dy: &Operand,
        w: &Matrix<Self>,
        n: usize,
        store: Store,
    ) {
        product::linear_backward_input(self, dx, dy, w, n, store);
    }

    fn linear_backward_weight(
        &self,
        dw: &mut Self::Buf,
        dy: &Operand,
        x: &Operand,
        n: usize,
        shape: [usize; 2],
        precision: ProductPrecision,
    ) {
        product::linear_backward_weight(self, dw, dy, x, n, shape, precision);
    }

    fn bias_forward(&self, y: &mut Self::Buf, bias: &Self::Buf, features: usize, n: usize) {
        bias::forward(self, y, bias, features, n);
    }

    fn bias_backward(&self, d_bias: &mut Self::Buf, dy: &Operand, features: usize, n: usize) {
        bias::backward(self, d_bias, dy.values(), features, n);
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
        rms_norm::forward(self, y, rstd, x, w, eps, n);
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
        rms_norm::forward_heads(self, y, rstd, x, w, eps, n);
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
        rms_norm::backward(self, dx, 0, dw, dy, x, w, rstd, n);
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
        rms_norm::forward_saved(self, y, saved, rstd, x, w, eps, n);
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
        let rounded = dx.rounded.first(n * w.len(), "dx");
        rms_norm::backward(self, dx.values(), rounded, dw, dy, x, w, rstd, n);
    }

    fn rope_forward(
        &self,
        x: &mut Self::Buf,
        cos: &Self::Buf,
        sin: &Self::Buf,
        rotation: Rotation,
        layout: &DeviceLayout,
    ) {
        rope::rotate(self, x, cos, sin, 1.0, rotation, layout);
    }

    fn rope_backward(
        &self,
        dx: &mut Self::Buf,
        cos: &Self::Buf,
        sin: &Self::Buf,
        rotation: Rotation,
        layout: &DeviceLayout,
    ) {
        rope::rotate(self, dx, cos, sin, -1.0, rotation, layout);
    }

    fn heads_forward(
        &self,
        q: &mut Self::Buf,
        keys_and_values: [&mut Self::Keys; 2],
        k_and_v: [&mut Self::Buf; 2],
        norms: Option<HeadNorms<'_, Self>>,
        cos_and_sin: [&Self::Buf; 2],
        heads: Heads,
        layout: &DeviceLayout,
    ) {
        heads::forward(self, q, keys_and_values, k_and_v, norms, cos_and_sin, heads, layout);
    }

    fn heads_backward(
        &self,
        dy: &mut Operand,
        norm: Option<HeadNormBackward<'_, Self>>,
        cos_and_sin: [&Self::Buf; 2],
        sizes: [usize; 2],
        keep: Keep,
        layout: &DeviceLayout,
    ) {
        heads::backward(self, dy, norm, cos_and_sin, sizes, keep, layout);
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
        columns::copy(self, y, x, columns, sizes, n, store);
    }

    fn attention_forward(&self, out: &mut Operand, log_sum_exp: &mut Self::Buf, inputs: Attention<'_, Self>) {
        attention::forward(self, out, log_sum_exp, inputs);
    }

    fn attention_backward(
        &self,
        d: [&mut Self::Buf; 3],
        dout: &Self::Buf,
        inputs: Attention<'_, Self>,
        out: &Operand,
        log_sum_exp: &Self::Buf,
    ) {
        attention::backward(self, d, dout, inputs, out.values(), log_sum_exp);
    }

    fn swiglu_forward(&self, y: &mut Operand, gate: &Self::Buf, up: &Self::Buf, n: usize) {
        swiglu::forward(self, y, gate, up, n);
    }

    fn swiglu_backward(&self, dy: &mut Operand, gate: &mut Operand, up: &mut Operand, keep: Keep, n: usize) {
        swiglu::backward(self, [dy, gate, up], keep, n);
    }

    fn log_prob_forward(
        &self,
        log_probs: &mut Self::Buf,
        entropy: &mut Self::Buf,
        log_sum_exp: &mut Self::Buf,
        x: &Operand,
        w: &Matrix<Self>,
        temperature: f32,
        layout: &DeviceLayout,
    ) {
        log_prob::forward(self, [log_probs, entropy, log_sum_exp], x, w, temperature, layout);
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
        layout: &DeviceLayout,
    ) {
        log_prob::backward(self, dx, dw, d_log_probs, x, w, log_sum_exp, temperature, layout);
    }

    fn sample(
        &self,
        tokens: &mut Self::Buf,
        log_probs: &mut Self::Buf,
        full_log_probs: &mut Self::Buf,
        x: &Operand,
        w: &Matrix<Self>,
        layout: &DeviceLayout,
    ) {
        sample::sample(self, [tokens, log_probs, full_log_probs], x, w, layout);
    }

    fn divergence(
        &self,
        d: &mut Self::Buf,
        student: &mut Operand,
        teacher: &mut Self::Buf,
        of: Divergence,
        weight: f64,
        sizes: [usize; 3],
    ) {
        divergence::divergence(self, d, student, teacher, of, weight, sizes);
    }

    fn routes(&self, rows: usize, of: Routing) -> Result<Routes, OutOfMemory> {
        Routes::new(self, rows, of)
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
        route::forward(self, routes, scores, bias, of, n);
    }

    fn route_in_turn(&self, routes: &mut Routes, n: usize) {
        route::in_turn(self, routes, n);
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
        layout: &DeviceLayout,
    ) {
        route::backward(self, d_logits, load, d_weights, scores, routes, of, balance, layout);
    }

    fn copies_forward(&self, y: &mut Operand, x: &Operand, routes: &Routes, features: usize) {
        route::copies_forward(self, y, x, routes, features);
    }

    fn sum_copies(&self, y: &mut Self::Buf, x: &Self::Buf, routes: &Routes, features: usize, store: Store) {
        route::sum_copies(self, y, x, routes, features, store);
    }

    fn weighted_swiglu_forward(
        &self,
        y: &mut Operand,
        gate: &Self::Buf,
        up: &Self::Buf,
        routes: &Routes,
        features: usize,
    ) {
        route::weighted_swiglu_forward(self, y, gate, up, routes, features);
    }

    fn weighted_swiglu_backward(
        &self,
        d_weights: &mut Self::Buf,
        dy: &mut Operand,
        gate: &mut Operand,
        up: &mut Operand,
        keep: Keep,
        routes: &Routes,
        features: usize,
    ) {
        route::weighted_swiglu_backward(self, d_weights, [dy, gate, up], keep, routes, features);
    }

    fn experts_forward(
        &self,
        y: &mut Self::Buf,
        x: &Operand,
        w: &Matrix<Self>,
        routes: &Routes,
        store: Store,
    ) {
        experts::forward(self, y, x, w, routes, store);
    }

    fn experts_backward_input(
        &self,
        dx: &mut Self::Buf,
        dy: &Operand,
        w: &Matrix<Self>,
        routes: &Routes,
        store: Store,
    ) {
        experts::backward_input(self, dx, dy, w, routes, store);
    }

    fn experts_backward_weight(
        &self,
        dw: &mut Self::Buf,
        dy: &Operand,
        x: &Operand,
        routes: &Routes,
        shape: [usize; 2],
        precision: ProductPrecision,
    ) {
        experts::backward_weight(self, dw, dy, x, routes, shape, precision);
    }

    fn sums_of_squares(&self, buffers: &[&Self::Buf]) -> Vec<f64> {
        adamw::sums_of_squares(self, buffers)
    }

    fn zero_moment(&self, len: usize, kind: MomentType) -> Result<Moment, OutOfMemory> {
        Moment::zeros(self, len, kind)
    }

    fn upload_moment(&self, values: &[f32], kind: MomentType) -> Result<Moment, OutOfMemory> {
        Moment::upload(self, values, kind)
    }

    fn read_moment(&self, moment: &Moment) -> Vec<f32> {
        moment.read()
    }

    fn adamw_step(&self, w: &mut Self::Buf, m: &mut Moment, v: &mut Moment, g: &Self::Buf, step: AdamWStep) {
        adamw::step(self, w, m, v, g, step);
    }
}
