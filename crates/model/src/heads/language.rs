//! The language head: log-probabilities of the tokens that follow, and samples of them.
//!
//! ```text
//! log_probs = log_softmax(W n / temperature)    with n the normed rows
//! ```
//!
//! W is a matrix of its own, or the embedding.

use koan_backend::{Backend, Draw, OutOfMemory};

use crate::{Config, Param, Role, Scored, TensorInfo, tensors::Maker};

/// The tensors of the language head.
#[derive(Clone, Debug)]
pub struct LanguageHead<T> {
    /// `[vocab_size, hidden_size]`, absent where it is the embedding.
    pub lm_head: Option<T>,
}

/// What the language head works in, for up to `rows` scored tokens.
pub struct Head<B: Backend> {
    rows: usize,
    /// The normed rows that predict, gathered `[rows, hidden_size]`.
    x: B::Buf,
    dx: B::Buf,
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
    fn matrix<'a>(&'a self, embedding: &'a T) -> &'a T {
        self.lm_head.as_ref().unwrap_or(embedding)
    }

    pub(crate) fn tensors(&self) -> impl Iterator<Item = &T> {
        self.lm_head.iter()
    }

    pub(crate) fn tensors_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.lm_head.iter_mut()
    }
}

impl<B: Backend> Head<B> {
    /// Bytes of a head for up to `rows` tokens at once.
    pub fn bytes(b: &B, config: &Config, rows: usize) -> usize {
        2 * b.bytes(rows * config.hidden_size) + 5 * b.bytes(rows)
    }

    /// For up to `rows` tokens at once.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(b: &B, config: &Config, rows: usize) -> Result<Self, OutOfMemory> {
        Ok(Self {
            rows,
            x: b.zeros(rows * config.hidden_size)?,
            dx: b.zeros(rows * config.hidden_size)?,
            log_probs: b.zeros(rows)?,
            d_log_probs: b.zeros(rows)?,
            full_log_probs: b.zeros(rows)?,
            entropy: b.zeros(rows)?,
            log_sum_exp: b.zeros(rows)?,
        })
    }
}

impl<B: Backend> LanguageHead<Param<B>> {
    /// From the trunk's normed rows and its `embedding`: log-probability and entropy of each scored token, at
    /// `temperature`.
    ///
    /// # Panics
    /// If more tokens are scored than `a` was planned for.
    pub(crate) fn log_probs(
        &self,
        b: &B,
        embedding: &Param<B>,
        normed: &B::Buf,
        scored: &Scored,
        temperature: f32,
        a: &mut Head<B>,
    ) -> (Vec<f32>, Vec<f32>) {
        let (w, n) = (self.matrix(embedding), scored.rows.len());
        assert!(n <= a.rows, "{n} scored tokens in a head planned for {}", a.rows);
        b.gather_rows(&mut a.x, normed, &scored.rows, in_features(w));
        b.log_prob_forward(
            &mut a.log_probs,
            &mut a.entropy,
            &mut a.log_sum_exp,
            &a.x,
            packed(w),
            &scored.targets,
            temperature,
        );
        let [log_probs, entropy] = b.read([(&a.log_probs, n), (&a.entropy, n)]);
        (log_probs, entropy)
    }

    /// After [`log_probs`](Self::log_probs): writes `d_normed`, the gradient of the normed rows, of a loss whose derivative
    /// by each scored log-probability is `d_log_probs`; adds that of the matrix to `grad`, or where it is the embedding to
    /// `d_embedding`.
    ///
    /// # Panics
    /// If `d_log_probs` is not one a scored token.
    pub(crate) fn backward(
        &self,
        b: &B,
        embedding: &Param<B>,
        d_normed: &mut B::Buf,
        scored: &Scored,
        d_log_probs: &[f32],
        temperature: f32,
        a: &mut Head<B>,
        grad: &mut LanguageHead<B::Buf>,
        d_embedding: &mut B::Buf,
    ) {
        assert_eq!(d_log_probs.len(), scored.rows.len(), "a derivative for each scored token");
        let w = self.matrix(embedding);
        b.write(&mut a.d_log_probs, d_log_probs);
        b.log_prob_backward(
            &mut a.dx,
            grad.lm_head.as_mut().unwrap_or(d_embedding),
            &a.d_log_probs,
            &a.x,
            &w.value,
            packed(w),
            &scored.targets,
            &a.log_sum_exp,
            temperature,
        );
        b.clear(d_normed);
        b.scatter_rows(d_normed, &a.dx, &scored.rows, in_features(w));
    }

    /// From the trunk's normed rows and its `embedding`: samples the token that follows each of `rows`, as `draws` say;
    /// gives the tokens, their log-probabilities under the distributions they were sampled from, and under the whole ones.
    ///
    /// # Panics
    /// If there are more rows than `a` was planned for.
    pub(crate) fn sample(
        &self,
        b: &B,
        embedding: &Param<B>,
        normed: &B::Buf,
        rows: &[u32],
        draws: &[Draw],
        a: &mut Head<B>,
    ) -> (Vec<u32>, [Vec<f32>; 2]) {
        let (w, n) = (self.matrix(embedding), rows.len());
        assert!(n <= a.rows && n == draws.len(), "{n} rows in a head planned for {}", a.rows);
        b.gather_rows(&mut a.x, normed, rows, in_features(w));
        let mut tokens = vec![0; n];
        b.sample(&mut tokens, &mut a.log_probs, &mut a.full_log_probs, &a.x, packed(w), draws);
        (tokens, b.read([(&a.log_probs, n), (&a.full_log_probs, n)]))
    }
}

fn in_features<B: Backend>(w: &Param<B>) -> usize {
    w.info().matrix()[1]
}

fn packed<B: Backend>(w: &Param<B>) -> &B::Packed {
    w.packed().expect("the head is packed as long as the model lives")
}
