//! A model on a backend: a trunk and a head, with the forward pass that sampling and training share, and the
//! backward pass.

use std::collections::HashMap;

use koan_backend::{Backend, Divergence, Layout, OutOfMemory};

use crate::{
    Activations, Config, DivergenceRows, Drafting, Head, Heads, KvCache, LogitRows, MultiTokenRows, Param,
    Residency, ScalarRows, TensorInfo, Transformer,
    activations::RowMaker,
    heads::{self, Side, Target, multi_token},
    layer::Pass,
    rope,
    trunk::TrunkGradients,
    work::{self, Flops, PassSize, Work},
};

/// A model's weights on a backend.
pub struct Model<B: Backend> {
    config: Config,
    /// The weights. Whoever changes them calls [`Param::repack`].
    pub weights: Transformer<Param<B>>,
    cos: B::Buf,
    sin: B::Buf,
    positions: usize,
    flops: Flops,
}

/// The gradient of a model's weights, and the memory its backward pass works in.
pub struct Gradient<B: Backend> {
    /// The gradient, a buffer per tensor; that of a frozen one is empty, that of a router's bias is how many rows chose each
    /// expert.
    pub weights: Transformer<B::Buf>,
    /// Of the trunk's normed rows: the head's backward writes it, the trunk's takes it.
    d_normed: B::Buf,
    trunk: TrunkGradients<B>,
    /// What every backward adds the gradient of: `balance · Σ T Σᵢ fᵢ Pᵢ` over the sequences of a pass and the layers with
    /// experts, with `T` a sequence's rows, `fᵢ` and `Pᵢ` as [`route_backward`](Backend::route_backward) has them. 0 for none.
    pub balance: f32,
}

impl<B: Backend> Gradient<B> {
    /// A zero gradient, for passes of up to `rows` tokens.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, config: &Config, rows: usize) -> Result<Self, OutOfMemory> {
        Ok(Self {
            weights: Transformer::try_build(config, |info| b.zeros(info.gradient_len()))?,
            d_normed: b.zeros(rows * config.hidden_size)?,
            trunk: TrunkGradients::build(config, &mut RowMaker::new(b, rows))?,
            balance: 0.0,
        })
    }

    /// None: for models that are only measured.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn none(b: &B, config: &Config) -> Result<Self, OutOfMemory> {
        Ok(Self {
            weights: Transformer::try_build(config, |_| b.zeros(0))?,
            d_normed: b.zeros(0)?,
            trunk: TrunkGradients::build(config, &mut RowMaker::new(b, 0))?,
            balance: 0.0,
        })
    }

    /// Sets the gradient to zero.
    pub fn clear(&mut self, b: &B) {
        self.weights.tensors_mut().for_each(|g| b.clear(g));
    }
}

impl<B: Backend> Model<B> {
    /// Puts weights on `b`: `read` gives the values of each tensor. Sequences may have up to `positions` tokens. Only the
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
        Self::build(b, config, positions, Residency::Training, read)
    }

    /// As [`Model::new`], for forward passes alone: of matrices that only products read, only the packed form is kept.
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
        Self::build(b, config, positions, Residency::Inference, read)
    }

    /// A model of `config` that shares the frozen weights of this one; `read` gives the values of its other tensors. Of a
    /// policy with an adapter this makes the reference policy, and costs nothing: the base model without the adapter, or with
    /// another.
    ///
    /// # Errors
    /// What `read` returns, or if the device refuses the memory.
    pub fn on_same_base<V: AsRef<[f32]>, E: From<OutOfMemory>>(
        &self,
        b: &B,
        config: Config,
        mut read: impl FnMut(&TensorInfo) -> Result<V, E>,
    ) -> Result<Self, E> {
        let own: HashMap<&str, &Param<B>> =
            self.weights.tensors().map(|param| (param.info().name.as_str(), param)).collect();
        let weights = Transformer::try_build(&config, |info| {
            if let Some(shared) = own.get(info.name.as_str()).and_then(|param| param.shared()) {
                return Ok(shared);
            }
            let values = read(&info)?;
            let precision = info.precision(&config);
            Ok::<_, E>(Param::new(b, info, values.as_ref(), Residency::Training, precision)?)
        })?;
        Self::of_weights(b, config, self.positions, weights)
    }

    fn build<V: AsRef<[f32]>, E: From<OutOfMemory>>(
        b: &B,
        config: Config,
        positions: usize,
        residency: Residency,
        mut read: impl FnMut(&TensorInfo) -> Result<V, E>,
    ) -> Result<Self, E> {
        let weights = Transformer::try_build(&config, |info| {
            let values = read(&info)?;
            let values = values.as_ref();
            assert_eq!(values.len(), info.len(), "{}: elements", info.name);
            let precision = info.precision(&config);
            Ok::<_, E>(Param::new(b, info, values, residency, precision)?)
        })?;
        Self::of_weights(b, config, positions, weights)
    }

    fn of_weights<E: From<OutOfMemory>>(
        b: &B,
        config: Config,
        positions: usize,
        weights: Transformer<Param<B>>,
    ) -> Result<Self, E> {
        let (cos, sin) = rope::tables(&config, positions);
        let table = |values: &[f64]| {
            let mut table = b.zeros(values.len())?;
            b.write(&mut table, values);
            Ok::<_, OutOfMemory>(table)
        };
        let flops = Flops::of(&config);
        Ok(Self { weights, cos: table(&cos)?, sin: table(&sin)?, positions, config, flops })
    }

    /// The sizes of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The longest sequence, in tokens, that the model's position tables reach.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Packs all that products read, for many small passes by the same weights: rollouts. The results are the same bits.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn pack(&mut self, b: &B) -> Result<(), OutOfMemory> {
        self.weights.tensors_mut().try_for_each(|p| p.pack(b))
    }

    /// Drops what [`pack`](Self::pack) made, unless `b` trains packed weights.
    ///
    /// # Panics
    /// In a later pass, if the model is one [`for_inference`](Self::for_inference).
    pub fn unpack(&mut self, b: &B) {
        self.weights.tensors_mut().for_each(|p| p.unpack(b));
    }

    /// Puts the layout of a pass on `b`: the one upload that a forward pass needs.
    ///
    /// # Errors
    /// If the device refuses the memory.
    ///
    /// # Panics
    /// If it names a token outside of the vocabulary or a position beyond the model's, or its parts do not fit each other.
    pub fn upload(&self, b: &B, layout: Layout) -> Result<B::Layout, OutOfMemory> {
        let (vocab, positions) = (self.config.vocab_size, self.positions);
        let tokens = layout.ids.iter().chain(&layout.targets);
        assert!(tokens.into_iter().all(|&id| (id as usize) < vocab), "a token beyond the {vocab} there are");
        assert!(
            layout.positions.iter().all(|&p| (p as usize) < positions),
            "a position beyond {positions} tokens"
        );
        b.upload_layout(layout)
    }

    fn pass<'a>(&'a self, b: &'a B, layout: &'a B::Layout) -> Pass<'a, B> {
        Pass {
            b,
            config: &self.config,
            cos: &self.cos,
            sin: &self.sin,
            layout,
            rows: b.rows(layout),
            balance: 0.0,
        }
    }

    /// Runs a pass through the trunk. With a cache, new keys and values go to it, and all are read from it.
    ///
    /// # Panics
    /// If the pass exceeds the planned rows, or has cache rows and no cache, or a cache and no cache rows.
    pub fn forward(&self, b: &B, layout: &B::Layout, a: &mut Activations<B>, cache: Option<&mut KvCache<B>>) {
        let n = b.rows(layout);
        assert!(n <= a.rows(), "a pass of {n} rows in activations planned for {}", a.rows());
        assert!(
            n == 0 || b.is_cached(layout) == cache.is_some(),
            "a cache row for each row, if there is a cache"
        );
        work::count(Work { flops: self.flops.trunk(size(b, layout)), ..Work::default() });
        let cache = cache.map(|cache| &mut cache.layers[..]);
        self.weights.trunk.forward(&self.pass(b, layout), &mut a.trunk, cache);
    }

    /// After [`Model::forward`]: log-probability of each target, and entropy of the distribution it is of, at `temperature`.
    ///
    /// # Panics
    /// If the model is a reward model, or there are more head rows than `head` was planned for.
    pub fn log_probs(
        &self,
        b: &B,
        a: &Activations<B>,
        layout: &B::Layout,
        temperature: f32,
        head: &mut Head<B>,
    ) -> [Vec<f64>; 2] {
        work::count(Work { flops: self.flops.head(size(b, layout)), ..Work::default() });
        let Transformer { trunk, head: own, .. } = &self.weights;
        own.language().log_probs(b, &trunk.embed_tokens, &a.trunk.normed, layout, temperature, head)
    }

    /// After [`Model::forward`]: samples the token that follows each head row, as its draw says; gives the tokens, their
    /// log-probabilities under the distributions they were sampled from, and under the whole ones.
    ///
    /// # Panics
    /// If the model is a reward model, or there are more head rows than `head` was planned for.
    pub fn sample(
        &self,
        b: &B,
        a: &Activations<B>,
        layout: &B::Layout,
        head: &mut Head<B>,
    ) -> (Vec<u32>, [Vec<f32>; 2]) {
        work::count(Work { flops: self.flops.head(size(b, layout)), ..Work::default() });
        let Transformer { trunk, head: own, .. } = &self.weights;
        own.language().sample(b, &trunk.embed_tokens, &a.trunk.normed, layout, head)
    }

    /// After [`Model::forward`]: hands the logits of each of `rows` of the pass to `each`, with the row's place among them. A row's
    /// bits depend on that row alone.
    ///
    /// # Errors
    /// If the device refuses memory for a layout.
    ///
    /// # Panics
    /// If the model is a reward model, or a row lies beyond the pass.
    pub fn logits(
        &self,
        b: &B,
        a: &Activations<B>,
        rows: &[u32],
        logits: &mut LogitRows<B>,
        each: impl FnMut(usize, &[f32]),
    ) -> Result<(), OutOfMemory> {
        let pass = PassSize { head_rows: rows.len() as f64, ..PassSize::default() };
        work::count(Work { flops: self.flops.head(pass), ..Work::default() });
        heads::logits(b, &self.side(a), rows, logits, each)
    }

    /// After [`Model::forward`] without a cache and [`Model::log_probs`]: adds to `grad` the gradient of a loss whose
    /// derivative by each target's log-probability is `d_log_probs`. Uses the activations up: a pass has one backward.
    ///
    /// # Panics
    /// If the activations were not planned for training, or `d_log_probs` does not have one element per target.
    pub fn backward(
        &self,
        b: &B,
        layout: &B::Layout,
        a: &mut Activations<B>,
        d_log_probs: &[f64],
        temperature: f32,
        head: &mut Head<B>,
        grad: &mut Gradient<B>,
    ) {
        let pass = size(b, layout);
        self.count_backward(pass, a, pass.head_rows);
        let Transformer { trunk, head: own, .. } = &self.weights;
        let Gradient { weights: grad, d_normed, trunk: d, balance } = grad;
        let pass = Pass { balance: *balance, ..self.pass(b, layout) };
        let Heads::Language(d_head) = &mut grad.head else { panic!("the gradient is another model's") };
        own.language().backward(
            b,
            &trunk.embed_tokens,
            d_normed,
            layout,
            d_log_probs,
            temperature,
            head,
            d_head,
            &mut grad.trunk.embed_tokens,
        );
        trunk.backward(&pass, d_normed, &mut a.trunk, d, &mut grad.trunk);
    }

    /// As [`Model::backward`], of a model with modules that predict further tokens, and of a loss that has each log-probability
    /// of theirs times `weight` besides: of module `k` those of `ahead[k]`, the pass [`Layout::ahead`] by `k + 1`. Gives the sum of
    /// each module's log-probabilities.
    ///
    /// # Panics
    /// As [`Model::backward`], or if there are not as many passes as modules.
    pub fn backward_with_modules(
        &self,
        b: &B,
        layout: &B::Layout,
        ahead: &[B::Layout],
        a: &mut Activations<B>,
        (d_log_probs, weight): (&[f64], f64),
        temperature: f32,
        head: &mut Head<B>,
        rows: &mut MultiTokenRows<B>,
        grad: &mut Gradient<B>,
    ) -> Vec<f64> {
        let pass = size(b, layout);
        self.count_backward(pass, a, pass.head_rows);
        work::count(Work { flops: 3.0 * self.flops.modules(pass, ahead.len()), ..Work::default() });
        let Transformer { trunk, head: own, multi_token } = &self.weights;
        assert_eq!(ahead.len(), multi_token.len(), "a pass for each module");
        let Gradient { weights: grad, d_normed, trunk: d, balance } = grad;
        let pass = Pass { balance: *balance, ..self.pass(b, layout) };
        let Heads::Language(d_head) = &mut grad.head else { panic!("the gradient is another model's") };
        let (own, embedding, d_embedding) =
            (own.language(), &trunk.embed_tokens, &mut grad.trunk.embed_tokens);
        own.backward(b, embedding, d_normed, layout, d_log_probs, temperature, head, d_head, d_embedding);
        let mut of = self.of_modules(b, ahead, a, temperature);
        of.passes.iter_mut().for_each(|pass| pass.balance = *balance);
        let d_modules = &mut grad.multi_token;
        let sums = multi_token::learn(
            multi_token,
            &of,
            weight,
            head,
            rows,
            d_normed,
            d_modules,
            d_head,
            d_embedding,
        );
        trunk.backward(&pass, d_normed, &mut a.trunk, d, &mut grad.trunk);
        sums
    }

    /// After [`Model::forward`]: the sums that [`Model::backward_with_modules`] gives; nothing is learned.
    ///
    /// # Panics
    /// If there are not as many passes as modules.
    pub fn modules_log_probs(
        &self,
        b: &B,
        ahead: &[B::Layout],
        a: &Activations<B>,
        temperature: f32,
        head: &mut Head<B>,
        rows: &mut MultiTokenRows<B>,
    ) -> Vec<f64> {
        assert_eq!(ahead.len(), self.weights.multi_token.len(), "a pass for each module");
        let of = self.of_modules(b, ahead, a, temperature);
        multi_token::log_probs(&self.weights.multi_token, &of, head, rows)
    }

    /// After [`Model::forward`] with a cache: drafts by the first module that predicts further tokens. `ahead` has rows of that pass,
    /// row `i` that of row `from[i]`, with the token that follows in the place of its own; the head rows are those that are drafted
    /// from, and a draw says how each is sampled. Gives the token after next for each, and its log-probability.
    ///
    /// # Errors
    /// If the device refuses memory for the layout.
    ///
    /// # Panics
    /// If the model has no module, or the pass exceeds what `d` was planned for.
    pub fn draft(
        &self,
        b: &B,
        ahead: Layout,
        from: Vec<u32>,
        a: &Activations<B>,
        d: &mut Drafting<B>,
    ) -> Result<Vec<(u32, f32)>, OutOfMemory> {
        let layout = self.upload(b, ahead)?;
        let from = b.upload_layout(Layout { ids: from, ..Layout::default() })?;
        let Transformer { trunk, multi_token, head } = &self.weights;
        let pass = self.pass(b, &layout);
        work::count(Work { flops: self.flops.modules(size(b, &layout), 1), ..Work::default() });
        Ok(multi_token::draft(&multi_token[0], &pass, &from, trunk, head.language(), &a.trunk.stream, d))
    }

    /// After [`Model::draft`], or this: the tokens after those. `next` has a row for each of them, all head rows; row `i` goes on from
    /// row `from[i]` of the pass before.
    ///
    /// # Errors
    /// As [`Model::draft`].
    ///
    /// # Panics
    /// As [`Model::draft`].
    pub fn draft_on(
        &self,
        b: &B,
        next: Layout,
        from: Vec<u32>,
        d: &mut Drafting<B>,
    ) -> Result<Vec<(u32, f32)>, OutOfMemory> {
        let layout = self.upload(b, next)?;
        let from = b.upload_layout(Layout { ids: from, ..Layout::default() })?;
        let Transformer { trunk, multi_token, head } = &self.weights;
        let pass = self.pass(b, &layout);
        work::count(Work { flops: self.flops.modules(size(b, &layout), 1), ..Work::default() });
        Ok(multi_token::draft_on(&multi_token[0], &pass, &from, trunk, head.language(), d))
    }

    fn of_modules<'a>(
        &'a self,
        b: &'a B,
        ahead: &'a [B::Layout],
        a: &'a Activations<B>,
        temperature: f32,
    ) -> multi_token::Of<'a, B> {
        let Transformer { trunk, head, .. } = &self.weights;
        let passes = ahead.iter().map(|layout| self.pass(b, layout)).collect();
        multi_token::Of { trunk, head: head.language(), stream: &a.trunk.stream, passes, temperature }
    }

    /// After [`Model::forward`]: the score of each head row.
    ///
    /// # Panics
    /// If the model is no reward model, or there are more head rows than `head` was planned for.
    pub fn scores(
        &self,
        b: &B,
        a: &Activations<B>,
        layout: &B::Layout,
        head: &mut ScalarRows<B>,
    ) -> Vec<f64> {
        self.weights.head.scalar().scores(b, &a.trunk.normed, layout, head)
    }

    /// After [`Model::forward`] without a cache and [`Model::scores`]: adds to `grad` the gradient of a loss whose derivative
    /// by each score is `d_scores`. Uses the activations up: a pass has one backward.
    ///
    /// # Panics
    /// As [`Model::backward`].
    pub fn backward_scores(
        &self,
        b: &B,
        layout: &B::Layout,
        a: &mut Activations<B>,
        d_scores: &[f64],
        head: &mut ScalarRows<B>,
        grad: &mut Gradient<B>,
    ) {
        let pass = size(b, layout);
        self.count_backward(pass, a, pass.rows);
        let Transformer { trunk, head: own, .. } = &self.weights;
        let Gradient { weights: grad, d_normed, trunk: d, balance } = grad;
        let pass = Pass { balance: *balance, ..self.pass(b, layout) };
        let Heads::Scalar(d_head) = &mut grad.head else { panic!("the gradient is another model's") };
        own.scalar().backward(b, d_normed, layout, d_scores, head, d_head);
        trunk.backward(&pass, d_normed, &mut a.trunk, d, &mut grad.trunk);
    }

    /// After [`Model::forward`] of this model and of a teacher over one pass: the divergence of this model's distribution from
    /// the teacher's at each of `head_rows`.
    ///
    /// # Errors
    /// If the device refuses memory.
    ///
    /// # Panics
    /// If either is a reward model, or a head row lies beyond the planned rows.
    pub fn divergences(
        &self,
        b: &B,
        a: &Activations<B>,
        (teacher, of_teacher): (&Self, &Activations<B>),
        head_rows: &[u32],
        of: Divergence,
        head: &mut DivergenceRows<B>,
    ) -> Result<Vec<f64>, OutOfMemory> {
        let pass = PassSize { head_rows: head_rows.len() as f64, ..PassSize::default() };
        let flops = self.flops.head(pass) + teacher.flops.head(pass);
        work::count(Work { flops, ..Work::default() });
        let sides = [self.side(a), teacher.side(of_teacher)];
        heads::divergences(b, sides, head_rows, of, 1.0, None, head)
    }

    /// As [`Model::divergences`], after a forward without a cache over the pass of `layout`: adds to `grad` the gradient of
    /// `weight` times their sum. Uses the activations up: a pass has one backward.
    ///
    /// # Errors
    /// As [`Model::divergences`].
    ///
    /// # Panics
    /// As [`Model::divergences`], or if the activations were not planned for training.
    pub fn backward_divergences(
        &self,
        b: &B,
        layout: &B::Layout,
        a: &mut Activations<B>,
        (teacher, of_teacher): (&Self, &Activations<B>),
        head_rows: &[u32],
        of: Divergence,
        weight: f64,
        head: &mut DivergenceRows<B>,
        grad: &mut Gradient<B>,
    ) -> Result<Vec<f64>, OutOfMemory> {
        // Its own logits are what a backward computes again.
        let pass = PassSize { head_rows: head_rows.len() as f64, ..size(b, layout) };
        work::count(Work { flops: teacher.flops.head(pass), ..Work::default() });
        self.count_backward(pass, a, pass.head_rows);
        let trunk = &self.weights.trunk;
        let Gradient { weights: grad, d_normed, trunk: d, balance } = grad;
        let pass = Pass { balance: *balance, ..self.pass(b, layout) };
        let Heads::Language(d_head) = &mut grad.head else { panic!("the gradient is another model's") };
        let w = self.weights.head.language().matrix(&trunk.embed_tokens);
        let dw = w.gradient(d_head.lm_head.as_mut().unwrap_or(&mut grad.trunk.embed_tokens));
        let target = Some(Target { dw, d_normed });
        let sides = [self.side(a), teacher.side(of_teacher)];
        let divergences = heads::divergences(b, sides, head_rows, of, weight, target, head)?;
        trunk.backward(&pass, d_normed, &mut a.trunk, d, &mut grad.trunk);
        Ok(divergences)
    }

    /// Counts a backward over `pass` that learns from so many `tokens`.
    fn count_backward(&self, pass: PassSize, a: &Activations<B>, tokens: f64) {
        let flops = self.flops.backward(pass, a.trunk.recomputes());
        work::count(Work { flops, tokens_drawn: 0, tokens_trained: tokens as u64 });
    }

    /// The language head, and what it reads of a pass.
    fn side<'a>(&'a self, a: &'a Activations<B>) -> Side<'a, B> {
        let Transformer { trunk, head, .. } = &self.weights;
        Side { head: head.language(), embedding: &trunk.embed_tokens, normed: &a.trunk.normed }
    }
}

/// The sizes of the pass of `layout` that its work depends on.
fn size<B: Backend>(b: &B, layout: &B::Layout) -> PassSize {
    let [rows, head_rows, pairs] = [b.rows(layout), b.head_rows(layout), b.pairs(layout)].map(|n| n as f64);
    PassSize { rows, head_rows, pairs }
}
