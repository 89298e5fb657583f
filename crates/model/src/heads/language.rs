//! The language head: log-probabilities of the tokens that follow, and samples of them.
//!
//! ```text
//! log_probs = log_softmax(W n / temperature)    with n the normed rows
//! ```
//!
//! W is a matrix of its own, or the embedding.

use koan_backend::{Backend, Keep, Matrix, OutOfMemory};

use crate::{Config, Param, Role, TensorInfo, activations::RowMaker, tensors::Maker};

/// The tensors of the language head.
#[derive(Clone, Debug)]
pub struct LanguageHead<T> {
    /// `[vocab_size, hidden_size]`, absent where it is the embedding.
    pub lm_head: Option<T>,
}

/// What the language head works in, for up to `rows` head rows.
pub struct Head<B: Backend> {
    rows: usize,
    /// The normed rows that predict `[rows, hidden_size]`.
    x: B::Operand,
    dx: B::Buf,
    tokens: B::Buf,
    log_probs: B::Buf,
    d_log_probs: B::Buf,
    full_log_probs: B::Buf,
    entropy: B::Buf,
    log_sum_exp: B::Buf,
}

impl<T> LanguageHead<T> {
    pub(crate) fn try_build<E, F>(config: &Config, at: &mut Maker<'_, F>) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        let shape = [config.vocab_size, config.hidden_size];
        let own = !config.tie_word_embeddings;
        Ok(Self { lm_head: own.then(|| at.tensor("lm_head.weight", &shape, Role::Head)).transpose()? })
    }

    /// The head's matrix, on a trunk with this embedding.
    pub(crate) fn matrix<'a>(&'a self, embedding: &'a T) -> &'a T {
        self.lm_head.as_ref().unwrap_or(embedding)
    }
}

impl<B: Backend> Head<B> {
    /// For up to `rows` head rows at once.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, config: &Config, rows: usize) -> Result<Self, OutOfMemory> {
        Self::build(config, rows, &mut RowMaker::new(b, rows))
    }

    /// Bytes of a head for up to `rows` head rows at once.
    pub fn bytes(b: &B, config: &Config, rows: usize) -> usize {
        RowMaker::count(b, rows, |make| Self::build(config, rows, make))[1]
    }

    fn build(config: &Config, rows: usize, make: &mut RowMaker<'_, B>) -> Result<Self, OutOfMemory> {
        Ok(Self {
            rows,
            x: make.operand(config.hidden_size, Keep::Operand)?,
            dx: make.buf(config.hidden_size)?,
            tokens: make.buf(1)?,
            log_probs: make.buf(1)?,
            d_log_probs: make.buf(1)?,
            full_log_probs: make.buf(1)?,
            entropy: make.buf(1)?,
            log_sum_exp: make.buf(1)?,
        })
    }

    /// Takes the head rows of a pass from the trunk's `normed` rows of `features`; how many they are.
    fn take(&mut self, b: &B, normed: &B::Operand, features: usize, layout: &B::Layout) -> usize {
        let n = b.head_rows(layout);
        assert!(n <= self.rows, "{n} rows in a head planned for {}", self.rows);
        b.head_rows_forward(&mut self.x, normed, features, layout);
        n
    }
}

impl<B: Backend> LanguageHead<Param<B>> {
    /// From the trunk's normed rows and its `embedding`: log-probability and entropy of each target of `layout`, at
    /// `temperature`.
    ///
    /// # Panics
    /// If there are more head rows than `a` was planned for.
    pub(crate) fn log_probs(
        &self,
        b: &B,
        embedding: &Param<B>,
        normed: &B::Operand,
        layout: &B::Layout,
        temperature: f32,
        a: &mut Head<B>,
    ) -> [Vec<f64>; 2] {
        let w = self.matrix(embedding).matrix();
        let n = a.take(b, normed, in_features(w), layout);
        let (log_probs, saved) = (&mut a.log_probs, &mut a.log_sum_exp);
        b.log_prob_forward(log_probs, &mut a.entropy, saved, &a.x, w, temperature, layout);
        b.read_exact([(log_probs, n), (&a.entropy, n)])
    }

    /// After [`log_probs`](Self::log_probs): writes `d_normed`, the gradient of the normed rows, of a loss whose derivative
    /// by each log-probability is `d_log_probs`; adds that of the matrix to `grad`, or where it is the embedding to
    /// `d_embedding`.
    ///
    /// # Panics
    /// If `d_log_probs` does not have one element per head row.
    pub(crate) fn backward(
        &self,
        b: &B,
        embedding: &Param<B>,
        d_normed: &mut B::Buf,
        layout: &B::Layout,
        d_log_probs: &[f64],
        temperature: f32,
        a: &mut Head<B>,
        grad: &mut LanguageHead<B::Buf>,
        d_embedding: &mut B::Buf,
    ) {
        assert_eq!(d_log_probs.len(), b.head_rows(layout), "a derivative for each scored token");
        let w = self.matrix(embedding);
        let dw = w.gradient(grad.lm_head.as_mut().unwrap_or(d_embedding));
        let w = w.matrix();
        b.write(&mut a.d_log_probs, d_log_probs);
        b.log_prob_backward(&mut a.dx, dw, &a.d_log_probs, &a.x, w, &a.log_sum_exp, temperature, layout);
        b.head_rows_backward(d_normed, &a.dx, in_features(w), layout);
    }

    /// From the trunk's normed rows and its `embedding`: samples a token for each head row, as its draw says; gives the
    /// tokens, their log-probabilities under the distributions they were sampled from, and under the whole ones.
    ///
    /// # Panics
    /// If there are more head rows than `a` was planned for.
    pub(crate) fn sample(
        &self,
        b: &B,
        embedding: &Param<B>,
        normed: &B::Operand,
        layout: &B::Layout,
        a: &mut Head<B>,
    ) -> (Vec<u32>, [Vec<f32>; 2]) {
        let w = self.matrix(embedding).matrix();
        let n = a.take(b, normed, in_features(w), layout);
        let Head { tokens, log_probs, full_log_probs, x, .. } = a;
        b.sample(tokens, log_probs, full_log_probs, x, w, layout);
        let [tokens, log_probs, full] = b.read([(tokens, n), (log_probs, n), (full_log_probs, n)]);
        (tokens.into_iter().map(|token| token as u32).collect(), [log_probs, full])
    }
}

fn in_features<B: Backend>(w: &Matrix<B>) -> usize {
    w.shape()[1]
}
