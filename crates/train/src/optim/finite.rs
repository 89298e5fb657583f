//! Numbers that are not finite: a policy that is lost.

use koan_backend::Backend;
use koan_model::{Model, Param};

/// A number is not finite.
#[derive(Debug, thiserror::Error)]
#[error("{what} is not finite at update {update}; lower optim.lr")]
pub struct NotFinite {
    /// The gradient, or what else.
    pub what: String,
    /// The update, from 1.
    pub update: u64,
}

/// A step that can't be made: the model is lost.
#[derive(Debug, thiserror::Error)]
#[error(
    "step {step} can't be made; lower optim.lr, and start a new run from the model, or from a checkpoint of before as its \
     model: those that are there are whole"
)]
pub struct Diverged {
    /// The step.
    pub step: u64,
    /// What is not finite.
    pub source: NotFinite,
}

/// Checks that a model's weights are finite after `update` updates, as they must be in a checkpoint.
///
/// # Errors
/// [`NotFinite`] names the first tensor that holds NaN or infinity.
pub fn check_weights<B: Backend>(b: &B, model: &Model<B>, update: u64) -> Result<(), NotFinite> {
    let values: Vec<&B::Buf> = model.weights.tensors().map(Param::value).collect();
    let squares = b.sums_of_squares(&values);
    let wrong = squares.iter().zip(model.weights.tensors()).find(|(sum, _)| !sum.is_finite());
    wrong.map_or(Ok(()), |(_, p)| Err(NotFinite { what: format!("`{}`", p.info().name), update }))
}
