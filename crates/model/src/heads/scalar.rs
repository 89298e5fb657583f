//! The scalar head: a score of each text, read at its last token. It is the head of a reward model, transformers'
//! `…ForSequenceClassification` with one label.
//!
//! ```text
//! score = w · n    with n the normed row
//! ```

use koan_backend::{Backend, Keep, OutOfMemory, Store};

use crate::{Config, Param, Role, TensorInfo, activations::RowMaker, tensors::Maker};

/// The tensor of the scalar head.
#[derive(Clone, Debug)]
pub struct ScalarHead<T> {
    /// `[1, hidden_size]`
    pub score: T,
}

/// What the scalar head works in, for up to `rows` head rows.
pub struct ScalarRows<B: Backend> {
    rows: usize,
    /// The normed rows that are scored `[rows, hidden_size]`.
    x: B::Operand,
    dx: B::Buf,
    scores: B::Buf,
    d_scores: B::Operand,
}

impl<T> ScalarHead<T> {
    pub(crate) fn try_build<E, F>(config: &Config, at: &mut Maker<'_, F>) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        Ok(Self { score: at.precise().tensor("score.weight", &[1, config.hidden_size], Role::Product)? })
    }
}

impl<B: Backend> ScalarRows<B> {
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
            scores: make.buf(1)?,
            d_scores: make.operand(1, Keep::Operand)?,
        })
    }
}

impl<B: Backend> ScalarHead<Param<B>> {
    /// The score of each head row of the trunk's normed rows.
    ///
    /// # Panics
    /// If there are more head rows than `a` was planned for.
    pub(crate) fn scores(
        &self,
        b: &B,
        normed: &B::Operand,
        layout: &B::Layout,
        a: &mut ScalarRows<B>,
    ) -> Vec<f64> {
        let (w, n) = (self.score.matrix(), b.head_rows(layout));
        assert!(n <= a.rows, "{n} rows in a head planned for {}", a.rows);
        b.head_rows_forward(&mut a.x, normed, w.shape()[1], layout);
        b.linear_forward(&mut a.scores, &a.x, w, n, Store::Write);
        let [scores] = b.read_exact([(&a.scores, n)]);
        scores
    }

    /// After [`scores`](Self::scores): writes `d_normed`, the gradient of the normed rows, of a loss whose derivative by each
    /// score is `d_scores`; adds that of the tensor to `grad`.
    ///
    /// # Panics
    /// If `d_scores` does not have one element per head row.
    pub(crate) fn backward(
        &self,
        b: &B,
        d_normed: &mut B::Buf,
        layout: &B::Layout,
        d_scores: &[f64],
        a: &mut ScalarRows<B>,
        grad: &mut ScalarHead<B::Buf>,
    ) {
        let (w, n) = (self.score.matrix(), b.head_rows(layout));
        assert_eq!(d_scores.len(), n, "a derivative for each score");
        b.write_operand(&mut a.d_scores, d_scores);
        b.linear_backward_weight(&mut grad.score, &a.d_scores, &a.x, n, w.shape(), w.precision());
        b.linear_backward_input(&mut a.dx, &a.d_scores, w, n, Store::Write);
        b.head_rows_backward(d_normed, &a.dx, w.shape()[1], layout);
    }
}
