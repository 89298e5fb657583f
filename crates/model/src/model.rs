//! A model on a backend: its weights, the forward pass that sampling and training share, and the backward pass.

use koan_backend::{Backend, Draw, OutOfMemory};

use crate::{
    Activations, Batch, Config, Head, KvCache, Layer, Scored, TensorInfo, Transformer,
    activations::LayerGradients, layer::Pass, rope,
};

/// A weight tensor; of a matrix, also the copy that products read, or none: a product then packs the matrix as it goes.
pub struct Param<B: Backend> {
    /// The numbers, row-major. None are kept of a matrix that only products read in a model
    /// [`for_inference`](Model::for_inference).
    pub value: B::Buf,
    packed: Option<B::Packed>,
    info: TensorInfo,
}

/// What a model is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Learning: every tensor's numbers, and the packed output head. See [`Model::new`].
    ForLearning,
    /// Learning, while it draws: all that products read is packed too. See [`Model::pack`].
    ForDrawing,
    /// Forward passes alone. See [`Model::for_inference`].
    ForInference,
}

impl Held {
    /// Whether a tensor's packed copy is held, and whether its numbers are.
    fn copies(self, info: &TensorInfo, config: &Config) -> (bool, bool) {
        let embedding = info.name == "model.embed_tokens.weight";
        let head = if config.tie_word_embeddings { embedding } else { info.name == "lm_head.weight" };
        let product = head || (info.shape.len() == 2 && !embedding);
        match self {
            Self::ForLearning => (head, true),
            Self::ForDrawing => (product, true),
            Self::ForInference => (product, embedding || !product),
        }
    }
}

impl Config {
    /// Bytes that a [`Model`] holds on `b`, at most.
    pub fn model_bytes<B: Backend>(&self, b: &B, held: Held) -> usize {
        let bytes = |info: &TensorInfo| {
            let (packed, value) = held.copies(info, self);
            let packed = if packed { b.packed_bytes(info.shape[0], info.shape[1]) } else { 0 };
            packed + if value { b.bytes(info.len()) } else { 0 }
        };
        self.tensors().iter().map(bytes).sum()
    }

    /// Bytes of a buffer for each tensor: of a gradient, or of a moment in f32.
    pub fn gradient_bytes<B: Backend>(&self, b: &B) -> usize {
        self.tensors().iter().map(|info| b.bytes(info.len())).sum()
    }
}

impl<B: Backend> Param<B> {
    fn new(
        b: &B,
        info: TensorInfo,
        values: &[f32],
        (packed, value): (bool, bool),
    ) -> Result<Self, OutOfMemory> {
        let packed = packed.then(|| b.upload_packed(values, info.shape[0], info.shape[1])).transpose()?;
        let value = if value { b.upload(values) } else { b.zeros(0) }?;
        Ok(Self { value, packed, info })
    }

    /// Name and shape.
    pub fn info(&self) -> &TensorInfo {
        &self.info
    }

    /// `[out_features, in_features]`.
    pub(crate) fn matrix(&self) -> [usize; 2] {
        [self.info.shape[0], self.info.shape[1]]
    }

    pub(crate) fn packed(&self) -> Option<&B::Packed> {
        self.packed.as_ref()
    }

    /// Makes the packed copy, if there is none.
    fn pack(&mut self, b: &B) -> Result<(), OutOfMemory> {
        if self.packed.is_none() {
            let [out, inp] = self.matrix();
            self.packed = Some(b.pack(&self.value, out, inp)?);
        }
        Ok(())
    }

    /// Brings the packed copy, if there is one, up to date after the numbers changed.
    pub fn repack(&mut self, b: &B) {
        if let Some(packed) = &mut self.packed {
            b.repack(packed, &self.value);
        }
    }
}

/// A model's weights on a backend.
pub struct Model<B: Backend> {
    config: Config,
    /// The weights. Whoever changes them calls [`Param::repack`].
    pub weights: Transformer<Param<B>>,
    cos: B::Buf,
    sin: B::Buf,
    positions: usize,
}

/// The gradient of a model's weights, and the memory its backward pass works in.
pub struct Gradient<B: Backend> {
    /// The gradient, a buffer a tensor.
    pub weights: Transformer<B::Buf>,
    dx: B::Buf,
    d_normed: B::Buf,
    layer: LayerGradients<B::Buf>,
}

impl<B: Backend> Gradient<B> {
    /// A zero gradient, for passes of up to `rows` tokens.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, config: &Config, rows: usize) -> Result<Self, OutOfMemory> {
        Ok(Self {
            weights: Transformer::try_build(config, |info| b.zeros(info.len()))?,
            dx: b.zeros(rows * config.hidden_size)?,
            d_normed: b.zeros(rows * config.hidden_size)?,
            layer: LayerGradients::build(config, &mut |features| b.zeros(rows * features))?,
        })
    }

    /// Sets the gradient to zero.
    pub fn clear(&mut self, b: &B) {
        self.weights.tensors_mut().for_each(|g| b.clear(g));
    }
}

impl<B: Backend> Model<B> {
    /// Puts weights on `b`: `read` gives the numbers of each tensor. Sequences may have up to `positions` tokens. Only the
    /// output head is packed: passes of some hundred tokens pack the other matrices as they go, at little cost.
    ///
    /// # Errors
    /// What `read` returns, or if the device refuses the memory.
    pub fn new<V: AsRef<[f32]>, E: From<OutOfMemory>>(
        b: &B,
        config: Config,
        positions: usize,
        read: impl FnMut(&TensorInfo) -> Result<V, E>,
    ) -> Result<Self, E> {
        Self::build(b, config, positions, Held::ForLearning, read)
    }

    /// As [`Model::new`], for forward passes alone: of matrices that only products read, only the packed copy is kept.
    /// That halves the memory. Such a model is not trained and not saved.
    ///
    /// # Errors
    /// What `read` returns, or if the device refuses the memory.
    pub fn for_inference<V: AsRef<[f32]>, E: From<OutOfMemory>>(
        b: &B,
        config: Config,
        positions: usize,
        read: impl FnMut(&TensorInfo) -> Result<V, E>,
    ) -> Result<Self, E> {
        Self::build(b, config, positions, Held::ForInference, read)
    }

    fn build<V: AsRef<[f32]>, E: From<OutOfMemory>>(
        b: &B,
        config: Config,
        positions: usize,
        held: Held,
        mut read: impl FnMut(&TensorInfo) -> Result<V, E>,
    ) -> Result<Self, E> {
        let weights = Transformer::try_build(&config, |info| {
            let values = read(&info)?;
            let values = values.as_ref();
            assert_eq!(values.len(), info.len(), "{}: numbers", info.name);
            let copies = held.copies(&info, &config);
            Ok::<_, E>(Param::new(b, info, values, copies)?)
        })?;
        let (cos, sin) = rope::tables(&config, positions);
        Ok(Self { weights, cos: b.upload(&cos)?, sin: b.upload(&sin)?, positions, config })
    }

    /// The sizes of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The longest sequence, in tokens, that the model's position tables reach.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The matrix of the output head.
    fn head(&self) -> &Param<B> {
        self.weights.lm_head.as_ref().unwrap_or(&self.weights.embed_tokens)
    }

    fn packed_head(&self) -> &B::Packed {
        self.head().packed().expect("the head is packed as long as the model lives")
    }

    /// Packs all that products read, for many small passes by the same weights: drawing. The results are the same bits.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn pack(&mut self, b: &B) -> Result<(), OutOfMemory> {
        self.layer_matrices().try_for_each(|p| p.pack(b))
    }

    /// Drops what [`pack`](Self::pack) made.
    ///
    /// # Panics
    /// In a later pass, if the model is one [`for_inference`](Self::for_inference).
    pub fn unpack(&mut self) {
        self.layer_matrices().for_each(|p| p.packed = None);
    }

    fn layer_matrices(&mut self) -> impl Iterator<Item = &mut Param<B>> {
        let tensors = self.weights.layers.iter_mut().flat_map(Layer::tensors_mut);
        tensors.filter(|p| p.info.shape.len() == 2)
    }

    fn pass<'a>(&'a self, b: &'a B, batch: &'a Batch) -> Pass<'a, B> {
        Pass { b, config: &self.config, cos: &self.cos, sin: &self.sin, batch }
    }

    /// Runs the batch through the layers and the last norm. With a cache, new keys and values go to it and are read from
    /// it; without, they lie in the batch.
    ///
    /// # Panics
    /// If the batch exceeds the planned rows or positions, or names a token outside of the vocabulary.
    pub fn forward(&self, b: &B, batch: &Batch, a: &mut Activations<B>, mut cache: Option<&mut KvCache<B>>) {
        let n = batch.len();
        assert!(n <= a.rows, "a batch of {n} rows in activations planned for {}", a.rows);
        assert!(
            batch.positions.iter().all(|&p| (p as usize) < self.positions),
            "a position beyond {} tokens",
            self.positions
        );
        assert_eq!(batch.cache_rows.len(), if cache.is_some() { n } else { 0 }, "a cache row for each row");
        let pass = self.pass(b, batch);
        b.embedding_forward(
            &mut a.stream,
            &batch.ids,
            &self.weights.embed_tokens.value,
            self.config.hidden_size,
        );
        let planned = a.layers.len();
        for (i, layer) in self.weights.layers.iter().enumerate() {
            let cache = cache.as_mut().map(|cache| &mut cache.layers[i]);
            if let Some(input) = a.inputs.get_mut(i) {
                b.copy(input, &a.stream, n * self.config.hidden_size);
            }
            layer.forward(&pass, &mut a.stream, &mut a.layers[i % planned], &mut a.work, cache);
        }
        let (w, eps) = (&self.weights.norm.value, self.config.rms_norm_eps);
        b.rms_norm_forward(&mut a.normed, &mut a.rstd, &a.stream, w, eps, n);
    }

    /// After [`Model::forward`]: log-probability and entropy of each scored token, at `temperature`.
    ///
    /// # Panics
    /// If more tokens are scored than `head` was planned for.
    pub fn log_probs(
        &self,
        b: &B,
        a: &Activations<B>,
        scored: &Scored,
        temperature: f32,
        head: &mut Head<B>,
    ) -> (Vec<f32>, Vec<f32>) {
        let n = scored.rows.len();
        assert!(n <= head.rows, "{n} scored tokens in a head planned for {}", head.rows);
        b.gather_rows(&mut head.x, &a.normed, &scored.rows, self.config.hidden_size);
        b.log_prob_forward(
            &mut head.log_probs,
            &mut head.entropy,
            &mut head.log_sum_exp,
            &head.x,
            self.packed_head(),
            &scored.targets,
            temperature,
        );
        let [log_probs, entropy] = b.read([(&head.log_probs, n), (&head.entropy, n)]);
        (log_probs, entropy)
    }

    /// After [`Model::forward`]: draws the token that follows each of `rows`, as `draws` say; gives the tokens, their
    /// log-probabilities under the distributions they were drawn from, and under the whole ones.
    pub fn sample(
        &self,
        b: &B,
        a: &Activations<B>,
        rows: &[u32],
        draws: &[Draw],
        head: &mut Head<B>,
    ) -> (Vec<u32>, [Vec<f32>; 2]) {
        let n = rows.len();
        assert!(n <= head.rows && n == draws.len(), "{n} rows in a head planned for {}", head.rows);
        b.gather_rows(&mut head.x, &a.normed, rows, self.config.hidden_size);
        let mut tokens = vec![0; n];
        let Head { x, log_probs, full_log_probs, .. } = head;
        b.sample(&mut tokens, log_probs, full_log_probs, x, self.packed_head(), draws);
        (tokens, b.read([(log_probs, n), (full_log_probs, n)]))
    }

    /// After [`Model::forward`] without a cache and [`Model::log_probs`]: adds to `grad` the gradient of a loss whose
    /// derivative by each scored log-probability is `d_log_probs`. Uses the activations up: a pass has one backward.
    ///
    /// # Panics
    /// If the activations were not planned for training, or `d_log_probs` is not one a scored token.
    pub fn backward(
        &self,
        b: &B,
        batch: &Batch,
        a: &mut Activations<B>,
        scored: &Scored,
        d_log_probs: &[f32],
        temperature: f32,
        head: &mut Head<B>,
        grad: &mut Gradient<B>,
    ) {
        let layers = self.weights.layers.len();
        assert!([a.layers.len(), a.inputs.len()].contains(&layers), "activations planned for training");
        assert_eq!(d_log_probs.len(), scored.rows.len(), "a derivative for each scored token");
        let (n, hidden) = (batch.len(), self.config.hidden_size);
        let w = self.head();
        let dw = grad.weights.lm_head.as_mut().unwrap_or(&mut grad.weights.embed_tokens);
        b.write(&mut head.d_log_probs, d_log_probs);
        b.log_prob_backward(
            &mut head.dx,
            dw,
            &head.d_log_probs,
            &head.x,
            &w.value,
            self.packed_head(),
            &scored.targets,
            &head.log_sum_exp,
            temperature,
        );
        b.clear(&mut grad.d_normed);
        b.scatter_rows(&mut grad.d_normed, &head.dx, &scored.rows, hidden);
        b.clear(&mut grad.dx);
        let norm = &self.weights.norm.value;
        b.rms_norm_backward(
            &mut grad.dx,
            &mut grad.weights.norm,
            &grad.d_normed,
            &a.stream,
            norm,
            &a.rstd,
            n,
        );
        let pass = self.pass(b, batch);
        let planned = a.layers.len();
        for (i, (layer, grad_layer)) in
            self.weights.layers.iter().zip(&mut grad.weights.layers).enumerate().rev()
        {
            let saved = &mut a.layers[i % planned];
            if let Some(input) = a.inputs.get(i) {
                b.copy(&mut a.stream, input, n * hidden);
                layer.activate(&pass, &mut a.stream, saved, &mut a.work, None);
            }
            layer.backward(&pass, &mut grad.dx, saved, &mut a.work, &mut grad.layer, grad_layer);
        }
        b.embedding_backward(&mut grad.weights.embed_tokens, &batch.ids, &grad.dx, hidden);
    }
}
